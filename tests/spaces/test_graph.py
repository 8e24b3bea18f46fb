from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from archsmith.spaces.graph import all_codes, canonical_dags, count_edges, edge_pairs, has_edge, prune, used_vertices

VERTICES, KINDS = 6, 3


def edges(code, vertices=VERTICES):
    return {pair for bit, pair in enumerate(edge_pairs(vertices)) if code >> bit & 1}


def pruned_by_paths(code, vertices):
    """Second implementation: an edge stays where it lies on an explicit path."""
    found = edges(code, vertices)

    def paths(vertex):
        if vertex == vertices - 1:
            yield ()
        for x, y in found:
            if x == vertex:
                yield from ((((x, y), *rest)) for rest in paths(y))

    return set(itertools.chain.from_iterable(paths(0)))


def test_prune_keeps_exactly_the_edges_on_paths():
    codes = np.concatenate(list(all_codes(5)))
    assert len(codes) == 2**10
    for code, pruned in zip(codes.tolist(), prune(codes, 5).tolist(), strict=True):
        assert edges(pruned, 5) == pruned_by_paths(code, 5)


@given(st.integers(0, 2**15 - 1), st.lists(st.integers(0, 2), min_size=4, max_size=4))
def test_canonical_form_is_the_first_of_all_orders(code, labels):
    """Second implementation: try every order of the inner vertices that keeps edges forward."""
    pruned = prune(np.array([code]), VERTICES)
    live = used_vertices(pruned, VERTICES)[0]
    kept = [label if live[vertex] else 0 for vertex, label in enumerate(labels, start=1)]
    candidates = []
    for order in itertools.permutations(range(1, VERTICES - 1)):
        place = (0, *order, VERTICES - 1)
        moved = {(place[x], place[y]) for x, y in edges(int(pruned[0]))}
        if all(x < y for x, y in moved):
            number = sum(1 << edge_pairs(VERTICES).index(edge) for edge in moved)
            candidates.append((number, [kept[order.index(vertex)] for vertex in range(1, VERTICES - 1)]))
    first_code, first_labels = canonical_dags(pruned, np.array([labels]), VERTICES, KINDS)
    assert (int(first_code[0]), first_labels[0].tolist()) == min(candidates)


def test_edges_are_counted_and_found():
    code = np.array([0b1011])
    assert count_edges(code).tolist() == [3]
    assert [pair for pair in edge_pairs(4) if has_edge(code, *pair)[0]] == [(0, 1), (0, 2), (0, 3)]
