from __future__ import annotations

import numpy as np
import pytest

from archsmith.errors import PredictorError
from archsmith.hwmodels.cost import CostModel
from archsmith.hwmodels.memory import MemoryModel, MemoryUse, memory_use
from archsmith.spaces import get
from archsmith.spaces.op import Tensor, make_op
from archsmith.spaces.site import Site


def test_chain_peaks_at_its_widest_pair():
    wide = make_op("wide", "linear", Tensor("x", (10,)), out_features=100, bias=False)
    narrow = make_op("narrow", "linear", wide.output, out_features=5, bias=False)
    assert memory_use((wide, narrow)) == MemoryUse(activation_bytes=4 * 110, weight_bytes=4 * 1500)


def test_residual_keeps_its_input_alive():
    x = Tensor("x", (10,))
    wide = make_op("wide", "linear", x, out_features=100, bias=False)
    back = make_op("back", "linear", wide.output, out_features=10, bias=False)
    add = make_op("add", "add", (x, back.output))
    assert memory_use((wide, back, add)).activation_bytes == 4 * (10 + 100 + 10)


def test_activation_works_in_place_unless_its_input_is_read_again():
    first = make_op("first", "linear", Tensor("x", (10,)), out_features=10, bias=False)
    act = make_op("act", "activation", first.output, function="relu")
    assert memory_use((first, act)).activation_bytes == 4 * 20
    again = make_op("again", "add", (first.output, act.output))
    assert memory_use((first, act, again)).activation_bytes == 4 * 30


@pytest.mark.parametrize("preset", ["tiny", "digits", "edge64"])
def test_population_equals_single_architectures(preset):
    space = get("mobilenet", preset)
    model = MemoryModel(space)
    genomes = space.sample(40, np.random.default_rng(3))
    found = model.predict(space, genomes)
    exact = [memory_use(space.ops(space.decode(genome))).total_bytes for genome in genomes]
    assert found.mean.tolist() == exact
    assert isinstance(model, CostModel)
    assert (found.quantity, found.source) == ("memory_bytes", "predicted:liveness")


def test_space_whose_tensors_cross_sites_is_refused():
    space = get("mobilenet", "tiny")
    sites = space.sites()
    # Claim that the head reads an image-sized tensor that some earlier site wrote.
    big = make_op("big", "activation", Tensor("far", (64, 64, 64)), function="relu")
    space.sites = lambda: (*sites[:-1], Site("head", sites[-1].genes, lambda c: (big, *sites[-1].build(c))))
    with pytest.raises(PredictorError, match="tensors cross several sites"):
        MemoryModel(space)


def test_another_space_is_refused(tiny):
    digits = get("mobilenet", "digits")
    with pytest.raises(PredictorError, match="was made for space"):
        MemoryModel(tiny).predict(digits, digits.sample(1, np.random.default_rng(0)))
