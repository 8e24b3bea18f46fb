from __future__ import annotations

import numpy as np
import pytest
import torch

from archsmith import spaces
from archsmith.errors import PredictorError
from archsmith.predictors.contracts import Regressor
from archsmith.predictors.encodings import encode, graph_layout
from archsmith.predictors.features import Features
from archsmith.predictors.pretraining import free_statistics
from archsmith.predictors.ranking import kendall_tau
from archsmith.predictors.regressors.catalog import build
from archsmith.predictors.regressors.deep_ensemble import DeepEnsemble, DeepEnsembleSettings, FreeStatistics
from archsmith.predictors.regressors.gcn import GraphNetwork, GraphSettings

SMALL = GraphSettings(width=16, layers=2, members=2, steps=120)
QUICK = DeepEnsembleSettings(members=2, hidden=(32,), steps=120, pretraining_steps=200)


@pytest.fixture(scope="module")
def cells():
    """Adjacencies of NAS-Bench-201 cells and a target that needs the graph: paths of two 3x3 convolutions."""
    space = spaces.get("nas_bench_201", "tiny")
    genomes = space.sample(160, np.random.default_rng(0))
    return space, genomes, np.log(space.macs(genomes).astype(np.float64))


def test_graph_network_ranks_left_out_cells(cells):
    space, genomes, targets = cells
    columns = encode(space, genomes, "adjacency")
    model = GraphNetwork(graph_layout(space), SMALL)
    model.fit(columns[:100], targets[:100])
    assert isinstance(model, Regressor)
    mean, std = model.predict(columns[100:])
    assert kendall_tau(mean, targets[100:]) > 0.6
    assert (std > 0).all()


def test_vertices_that_are_not_there_and_their_order_of_listing_leave_no_trace(cells):
    """Without places, a network sees a graph, not a listing of its vertices."""
    space, genomes, targets = cells
    columns = encode(space, genomes, "adjacency")
    layout = graph_layout(space)
    model = GraphNetwork(layout, SMALL)
    model.fit(columns[:40], targets[:40])
    with torch.no_grad():
        model._network.place.zero_()
    order = [0, *np.random.default_rng(0).permutation(np.arange(1, layout.vertices - 1)), layout.vertices - 1]
    blocks = columns.reshape(len(columns), layout.vertices, -1)[:, order]
    turned = np.concatenate([blocks[:, :, : layout.vertices][:, :, order], blocks[:, :, layout.vertices :]], axis=2)
    mean, _ = model.predict(columns)
    again, _ = model.predict(turned.reshape(len(columns), -1))
    np.testing.assert_allclose(again, mean, atol=1e-4)


def test_columns_behind_the_graph_are_read(cells):
    space, genomes, targets = cells
    columns = encode(space, genomes, "adjacency")
    told = np.concatenate([columns, targets[:, None]], axis=1)
    errors = []
    for x in (columns, told):
        model = GraphNetwork(graph_layout(space), SMALL)
        model.fit(x[:60], targets[:60])
        errors.append(np.mean(abs(model.predict(x[60:])[0] - targets[60:])))
    assert errors[1] < errors[0]


@pytest.mark.parametrize("name", ["darts", "mobilenet", "nas_bench_101"])
def test_graph_network_reads_every_kind_of_space(name):
    space = spaces.get(name, "tiny")
    features = Features(space, ["adjacency", "op_statistics"])
    genomes = space.sample(30, np.random.default_rng(0))
    model = build("gcn", features)
    assert isinstance(model, GraphNetwork)
    model = GraphNetwork(model.layout, GraphSettings(width=8, layers=1, members=2, steps=5))
    columns = features(genomes)
    model.fit(columns, np.arange(30.0))
    assert np.isfinite(model.predict(columns)[0]).all()
    assert model.predict(columns[:0])[0].shape == (0,)


def test_deep_ensemble_learns_and_its_members_disagree_far_away():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3))
    y = x[:, 0] - x[:, 1] ** 2 + rng.normal(0.0, 0.1, 200)
    model = DeepEnsemble(QUICK)
    model.fit(x[:150], y[:150])
    assert isinstance(model, Regressor)
    mean, std = model.predict(x[150:])
    assert kendall_tau(mean, y[150:]) > 0.5
    assert model.predict(20.0 * x[150:])[1].mean() > 3.0 * std.mean()


def test_pretraining_on_free_statistics_helps_where_they_tell_the_target(cells):
    space, genomes, targets = cells
    features = Features(space, ["one_hot"])
    columns, free = features(genomes), free_statistics(features, rows=512)
    taus = {True: [], False: []}
    for seed in range(4):
        rows = np.random.default_rng(seed).permutation(len(targets))
        for pretrained, found in taus.items():
            settings = DeepEnsembleSettings(members=2, hidden=(32,), steps=120, pretraining_steps=300, seed=seed)
            model = DeepEnsemble(settings, pretraining=free if pretrained else None)
            model.fit(columns[rows[:25]], targets[rows[:25]])
            found.append(kendall_tau(model.predict(columns[rows[25:]])[0], targets[rows[25:]]))
    assert np.mean(taus[True]) > np.mean(taus[False])


@pytest.mark.parametrize("make", [
    lambda seed: DeepEnsemble(DeepEnsembleSettings(members=2, hidden=(8,), steps=10, seed=seed)),
    lambda seed: GraphNetwork(
        graph_layout(spaces.get("nas_bench_201", "tiny")), GraphSettings(width=8, layers=1, steps=10, seed=seed)
    ),
])  # fmt: skip
def test_networks_repeat_by_seed(make, cells):
    space, genomes, targets = cells
    columns = encode(space, genomes, "adjacency")
    means = []
    for seed in (0, 0, 1):
        model = make(seed)
        model.fit(columns, targets)
        means.append(model.predict(columns)[0])
    np.testing.assert_array_equal(means[0], means[1])
    assert (means[0] != means[2]).any()


def test_errors_say_what_is_wrong(cells):
    space, genomes, targets = cells
    columns = encode(space, genomes, "adjacency")
    model = GraphNetwork(graph_layout(space), SMALL)
    with pytest.raises(PredictorError, match="before it was fitted"):
        model.predict(columns)
    with pytest.raises(PredictorError, match="its graphs take 96"):
        model.fit(columns[:, :50], targets)
    with pytest.raises(PredictorError, match="at least 8"):
        DeepEnsemble().fit(columns[:3], targets[:3])
    free = FreeStatistics(features=np.zeros((3, 2)), statistics=np.zeros((3, 1)))
    with pytest.raises(PredictorError, match="pretrained on 2 columns"):
        DeepEnsemble(pretraining=free).fit(columns, targets)
    with pytest.raises(PredictorError, match="begin with the encoding 'adjacency'"):
        build("gcn", Features(space))
    with pytest.raises(PredictorError, match="did you mean 'forest'"):
        build("forrest", Features(space))
