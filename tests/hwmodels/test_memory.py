from __future__ import annotations

import numpy as np
import pytest

from archsmith.errors import ConfigError, PredictorError
from archsmith.hwmodels.cost import CostModel
from archsmith.hwmodels.memory import QUANTITIES, MemoryModel, MemoryUse, memory_use
from archsmith.spaces import get
from archsmith.spaces.op import Tensor, make_op


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
    assert model.tabled
    assert isinstance(model, CostModel)
    assert (found.quantity, found.source) == ("memory_bytes", "predicted:liveness")


@pytest.mark.parametrize("family", ["darts", "hat", "hierarchical", "nas_bench_201", "regnet", "tdnn"])
def test_tensors_that_cross_sites_are_looked_through(family):
    space = get(family, "tiny")
    model = MemoryModel(space, quantity="sram_bytes", data_type="int8")
    genomes = space.sample(12, np.random.default_rng(3))
    exact = [memory_use(space.ops(space.decode(genome)), "int8").activation_bytes for genome in genomes]
    assert model.predict(space, genomes).mean.tolist() == exact
    assert not model.tabled


def test_quantities_add_up_and_shrink_with_the_data_type(tiny):
    genomes = tiny.sample(30, np.random.default_rng(0))
    by_name = {name: MemoryModel(tiny, "mcu", quantity=name).predict(tiny, genomes).mean for name in QUANTITIES}
    assert np.array_equal(by_name["memory_bytes"], by_name["sram_bytes"] + by_name["flash_bytes"])
    assert np.array_equal(by_name["flash_bytes"], 4.0 * tiny.params(genomes))
    for name in QUANTITIES:
        small = MemoryModel(tiny, "mcu", quantity=name, data_type="int8").predict(tiny, genomes).mean
        assert np.array_equal(4 * small, by_name[name])


def test_indices_keep_their_own_size():
    embedding = make_op("embedding", "embedding", Tensor("tokens", (4,), dtype="int64"), vocabulary=16, features=8)
    assert memory_use((embedding,), "int8") == MemoryUse(activation_bytes=4 * 8 + 32, weight_bytes=128)


def test_unknown_quantity_or_data_type_is_refused(tiny):
    with pytest.raises(ConfigError, match="quantity: got 'ram'; allowed: one of memory_bytes, sram_bytes, flash_bytes"):
        MemoryModel(tiny, quantity="ram")
    with pytest.raises(ConfigError, match="data_type: got 'int4'; allowed: one of float32"):
        MemoryModel(tiny, data_type="int4")


def test_another_space_is_refused(tiny):
    digits = get("mobilenet", "digits")
    with pytest.raises(PredictorError, match="was made for space"):
        MemoryModel(tiny).predict(digits, digits.sample(1, np.random.default_rng(0)))
