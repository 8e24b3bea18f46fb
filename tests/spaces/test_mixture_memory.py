"""Peak memory of training steps on the processor: all storages that live at once, from the first weight to the last."""

from __future__ import annotations

from collections import Counter

import numpy as np
import torch

from archsmith import spaces
from archsmith.hwmodels.measure.memory import LiveStorages
from archsmith.spaces.elastic.mixture import Mixture


def peak(supernet, run):
    supernet.zero_grad(set_to_none=True)
    with LiveStorages() as storages:
        for tensor in (*supernet.parameters(), *supernet.buffers()):
            storages.see(tensor)
        run().square().mean().backward()
    return storages.peak_bytes


def gates(space, genome, *, silent):
    """Two active candidates per place; the second has weight 0, or a weight next to it and therefore a graph."""
    rng, weights, active = np.random.default_rng(0), {}, {}
    for place in space.mixed_places():
        count, first = len(place.choices), space.choices_of(genome)[place.name]
        second = int(rng.choice([index for index in range(count) if index != first]))
        weights[place.name] = torch.eye(count)[first]
        weights[place.name][second] = 0.0 if silent else 1e-6
        weights[place.name].requires_grad_()
        active[place.name] = (first, second)
    return Mixture(weights=weights, active=active)


def test_second_path_of_binary_gates_costs_next_to_nothing():
    space = spaces.get("proxylessnas", "digits")
    supernet, (x,) = space.supernet(seed=0).train(), space.example_inputs(32)
    for genome in space.sample(2, np.random.default_rng(1)):
        architecture = space.decode(genome)
        single = peak(supernet, lambda a=architecture: supernet(x, a))
        silent, graphed = (gates(space, genome, silent=silent) for silent in (True, False))
        assert peak(supernet, lambda m=silent: supernet(x, m)) <= 1.15 * single
        assert peak(supernet, lambda m=graphed: supernet(x, m)) > 1.3 * single


def test_quarter_of_the_channels_takes_less_than_half_the_memory():
    space = spaces.get("darts", "digits")
    places, (x,) = space.mixed_places(), space.example_inputs(16)
    weights = {place.name: torch.full((len(place.choices),), 0.1, requires_grad=True) for place in places}
    counts = Counter(place.node for place in places)
    edges = {node: torch.full((count,), 1 / count, requires_grad=True) for node, count in counts.items()}
    whole, part = (space.supernet(seed=0, partial=partial).train() for partial in (1, 4))
    full = peak(whole, lambda: whole(x, Mixture(weights=weights)))
    assert peak(part, lambda: part(x, Mixture(weights=weights, edges=edges))) <= 0.5 * full
