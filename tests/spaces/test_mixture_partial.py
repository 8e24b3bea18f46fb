from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from archsmith import spaces
from archsmith.errors import SpaceError
from archsmith.spaces.elastic.mixture import Mixture, one_hot
from archsmith.spaces.families import darts
from archsmith.spaces.families.darts_network import INPUTS, NODES


def wide():
    spec = dataclasses.replace(
        darts.PRESETS["tiny"], channels=8, resolution=8, choices=darts.PRESETS["tiny"].choices[:4]
    )
    return darts.DartsSpace(spec)


def benchmark():
    return spaces.get("nas_bench_201", "tiny")


def incoming(space):
    counts: dict[str, int] = {}
    for place in space.mixed_places():
        counts[place.node] = counts.get(place.node, 0) + 1
    return counts


def even(space, *, factors):
    """A mixture of random weights; with factors, every edge counts as one of all those of its node."""
    generator = torch.Generator().manual_seed(0)
    return Mixture(
        weights={p.name: torch.rand(len(p.choices), generator=generator) for p in space.mixed_places()},
        edges={node: torch.full((count,), 1 / count) for node, count in incoming(space).items()} if factors else {},
    )


def reference(supernet, x, mixture, partial, scale):
    """The DARTS network under a mixture, node by node as the papers write it."""
    space = supernet.space
    older = newer = supernet.stem(x)
    for place, cell in zip(space.spec.places(), supernet.cells, strict=True):
        nodes = [prepare(y) for prepare, y in zip(cell.prepare, (older, newer), strict=True)]
        for node in range(INPUTS, INPUTS + NODES):
            terms = []
            for source in range(node):
                stride = 2 if place.kind == "reduction" and source < INPUTS else 1
                weights = mixture.weights[f"{place.kind}.{source}-{node}"][1:]
                held = cell.edges[f"{source}-{node}"]
                first, rest = nodes[source].split(
                    [place.channels // partial, place.channels - place.channels // partial], dim=1
                )
                mixed = sum(
                    w * (held[c](first) if c in held else first)
                    for w, c in zip(weights, space.spec.choices, strict=True)
                )
                if partial > 1:
                    joined = torch.cat([mixed, F.max_pool2d(rest, 2, 2) if stride == 2 else rest], dim=1)
                    n, c, h, w = joined.shape
                    mixed = joined.view(n, partial, c // partial, h, w).transpose(1, 2).reshape(n, c, h, w)
                terms.append(mixed)
            nodes.append(sum(terms) / (len(terms) if scale else 1))
        older, newer = newer, torch.cat(nodes[INPUTS:], dim=1)
    return supernet.head(newer)


@pytest.mark.parametrize("partial", [1, 2, 4, 8])
@pytest.mark.parametrize("factors", [False, True])
def test_partial_channels_and_edge_factors_are_as_the_papers_write_them(partial, factors):
    """K = 1 with equal factors is DARTS over the number of predecessors; every K that divides C keeps the shapes."""
    space = wide()
    supernet, (x,) = space.supernet(seed=0, partial=partial).train(), space.example_inputs(3)
    mixture = even(space, factors=factors)
    torch.testing.assert_close(
        supernet(x, mixture), reference(supernet, x, mixture, partial, factors), atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize("partial", [1, 2, 4])
def test_benchmark_cells_keep_their_shape(partial):
    space = benchmark()
    supernet, (x,) = space.supernet(seed=0, partial=partial), space.example_inputs(3)
    shapes = []
    for cells in supernet.stages:
        for cell in cells:
            cell.register_forward_hook(lambda _m, inputs, y: shapes.append((inputs[0].shape, y.shape)))
    assert supernet(x, even(space, factors=True)).shape == (3, space.spec.classes)
    assert len(shapes) == space.spec.stages * space.spec.cells
    assert all(read == written for read, written in shapes)


@pytest.mark.parametrize("make", [wide, benchmark])
def test_norms_and_convolutions_of_candidates_have_a_part_of_the_channels(make):
    space = make()
    whole, part = (space.supernet(seed=0, partial=partial) for partial in (1, 2))
    sizes = dict(part.named_parameters()) | dict(part.named_buffers())
    for name, tensor in (*whole.named_parameters(), *whole.named_buffers()):
        if ".edges." in name and tensor.ndim and "edges" in name:
            assert 2 * sizes[name].shape[0] == tensor.shape[0]
        else:
            assert sizes[name].shape == tensor.shape


@pytest.mark.parametrize("make", [wide, benchmark])
def test_architecture_runs_as_its_one_hot_mixture_but_has_no_network(make):
    space = make()
    supernet, (x,) = space.supernet(seed=0, partial=2).train(), space.example_inputs(3)
    architecture = space.decode(space.largest())
    mixture = one_hot(space.mixed_places(), space.choices_of(space.largest()))
    torch.testing.assert_close(supernet(x, architecture), supernet(x, mixture))
    with pytest.raises(SpaceError, match=r"1/2 of the channels .*network; build the architecture"):
        supernet.extract(architecture)


@pytest.mark.parametrize(
    ("make", "partial", "message"),
    [
        (wide, 3, "1/3 of the 8 channels"),
        (wide, 0, "1/0 of the 8 channels"),
        (wide, 16, "1/16 of the 8 channels"),
        (lambda: spaces.get("darts", "tiny"), 4, "1/4 of the 2 channels"),
        (benchmark, 8, "1/8 of the 4 channels"),
    ],
)
def test_part_that_channels_do_not_have_is_refused(make, partial, message):
    with pytest.raises(SpaceError, match=message):
        make().supernet(seed=0, partial=partial)


def test_edge_of_factor_zero_keeps_no_graph_but_gets_its_gradient():
    """As topologies are sampled: of all edges two count; the others' factors are told what they would have given."""
    space = wide()
    supernet, (x,) = space.supernet(seed=0).train(), space.example_inputs(3)
    base = even(space, factors=False)
    edges = {node: torch.eye(count)[0].requires_grad_() for node, count in incoming(space).items()}
    supernet(x, dataclasses.replace(base, edges=edges)).square().sum().backward()
    names = {
        name for name, parameter in supernet.named_parameters() if parameter.grad is not None and ".edges." in name
    }
    assert names
    assert all(".edges.0-" in name for name in names)
    near = {node: each.detach().clone().clamp(min=1e-9).requires_grad_() for node, each in edges.items()}
    supernet(x, dataclasses.replace(base, edges=near)).square().sum().backward()
    for node, each in edges.items():
        assert each.grad.abs().min() > 0
        torch.testing.assert_close(each.grad, near[node].grad, atol=1e-3, rtol=1e-2)
