from __future__ import annotations

import numpy as np
import pytest

from archsmith.errors import PredictorError
from archsmith.hwmodels.kernels import FEATURES, Kernels, fill_unmeasured
from archsmith.spaces.op import op_signature, total_macs


def test_kernels_are_distinct_and_cover_every_configuration(tiny):
    kernels = Kernels(tiny)
    assert len({op_signature(ops) for ops in kernels.ops}) == len(kernels.ops) == len(set(kernels.keys))
    index = tiny.site_index
    for site, (offset, count) in enumerate(zip(index.offsets, index.counts, strict=True)):
        for row in range(int(count)):
            held = kernels.held.numbers[slice(*kernels.held.starts[offset + row : offset + row + 2])]
            ops = index.ops(site, row)
            assert len(held) == bool(ops)
            assert not ops or op_signature(kernels.ops[held[0]]) == op_signature(ops)


def test_counts_reproduce_exact_macs(tiny):
    kernels = Kernels(tiny)
    genomes = tiny.sample(50, np.random.default_rng(0))
    macs = np.array([total_macs(ops) for ops in kernels.ops], dtype=np.float64)
    assert np.array_equal(kernels.counts(genomes) @ macs, tiny.macs(genomes))
    assert tiny.site_index.total(kernels.spread(macs), genomes) == pytest.approx(tiny.macs(genomes))


def test_fill_keeps_measured_values_and_estimates_a_smooth_device(tiny):
    kernels = Kernels(tiny)
    truth = np.array([1e-6 * (total_macs(ops) + 500 * sum(op.weight_bytes for op in ops)) for ops in kernels.ops])
    measured = truth.copy()
    missing = np.random.default_rng(0).permutation(len(truth))[: len(truth) // 4]
    measured[missing] = np.nan
    fill = fill_unmeasured(kernels.features, measured)
    known = np.isfinite(measured)
    assert np.array_equal(fill.times_ms[known], truth[known])
    assert fill.in_range[known].all()
    inside = ~known & fill.in_range
    assert np.abs(fill.times_ms[inside] / truth[inside] - 1).mean() < 0.1
    assert 0 < fill.relative_rmse < 0.2


def test_fill_marks_what_lies_outside_the_measured_features():
    rng = np.random.default_rng(0)
    features = rng.uniform(0, 1, (60, len(FEATURES)))
    features[-1] = 3.0
    times = np.exp(features.sum(axis=1))
    times[-2:] = np.nan
    features[-2] = 0.5
    assert fill_unmeasured(features, times).in_range.tolist()[-2:] == [True, False]


def test_fill_needs_enough_kernels():
    times = np.full(40, np.nan)
    times[:5] = 1.0
    with pytest.raises(PredictorError, match=r"5 of 40 kernels are measured.*at least 18"):
        fill_unmeasured(np.ones((40, 9)), times)
