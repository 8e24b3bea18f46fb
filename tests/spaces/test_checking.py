"""Poisoned and broken spaces are called so; clean ones are not."""

from __future__ import annotations

import numpy as np
import pytest

from archsmith import spaces
from archsmith.errors import SpaceError
from archsmith.spaces.checking import CHECKS, check_space
from archsmith.spaces.gene import Gene, When
from archsmith.spaces.language import Definition, block, branches, choose, one_of, repeat, sequence
from archsmith.spaces.op import Tensor, make_op
from archsmith.spaces.vetting import unseen_taps


def separable(kernel):
    return sequence(block("depthwise", kernel=kernel, activation=""), block("conv", kernel=1))


STANDARD = {
    "conv3": block("conv", kernel=3),
    "conv5": block("conv", kernel=5),
    "sep3": separable(3),
    "sep5": separable(5),
    "avg": block("avg_pool"),
    "max": block("max_pool"),
    "skip": block("identity"),
}
"""The six operations of ENAS's macro space, and the identity as a skip."""

POISONS = {
    "noise": (block("noise", sigma=2.0), "harmful", "identity in evaluation"),
    "noise10": (block("noise", sigma=10.0), "harmful", "identity in evaluation"),
    "dropout90": (block("dropout", p=0.9), "harmful", "identity in evaluation"),
    "dropout100": (block("dropout", p=1.0), "harmful", "no gradient"),
    "transposed3": (block("conv_transpose", kernel=3), "duplicate", "transposed"),
    "transposed5": (block("conv_transpose", kernel=5), "duplicate", "transposed"),
    "stretched": (block("conv", kernel=3, padding=50, dilation=50), "unseen_window", "8 of 9 taps"),
    "identity": (block("identity"), "duplicate", "'skip', 'poison'"),
    "copy": (block("conv", kernel=3), "duplicate", "'conv3', 'poison'"),
}


def macro(options, layers=2):
    parts = [choose(options, name=f"layer{index}") for index in range(layers)]
    body = sequence(block("conv", out=8), *parts, block("global_pool"), block("linear", out=10))
    return spaces.build(Definition(name="macro", channels=1, resolution=8, body=body))


def test_standard_operations_and_skip_are_clean():
    report = check_space(macro(STANDARD))
    assert report.findings == ()
    assert report.ok
    assert report.networks > 40
    assert report.operations >= len(STANDARD)


def test_mild_regularisation_is_clean():
    options = STANDARD | {"dropout": block("dropout", p=0.5), "noise": block("noise", sigma=0.1)}
    assert check_space(macro(options), samples=8).ok


@pytest.mark.parametrize("poison", sorted(POISONS))
def test_poison_is_called_so(poison):
    operation, check, words = POISONS[poison]
    report = check_space(macro(STANDARD | {"poison": operation}, layers=1), samples=24)
    found = [finding for finding in report.findings if finding.check == check]
    assert not report.ok
    assert found
    assert any(words in finding.message for finding in found)


def test_many_copies_are_one_finding_per_choice():
    copies = {f"copy{index}": block("conv", kernel=3) for index in range(8)}
    report = check_space(macro(STANDARD | copies, layers=1), samples=8)
    (found,) = report.findings
    assert (found.check, found.place) == ("duplicate", "layer0.choice")
    assert "9 times as often" in found.message


def test_all_branches_zero_is_disconnected():
    ways = {"none": block("zero"), "conv": block("conv")}
    body = sequence(branches(choose(ways), choose(ways)), block("global_pool"), block("linear", out=3))
    report = check_space(spaces.build(Definition(name="cut", channels=4, resolution=8, body=body)))
    assert {finding.check for finding in report.findings} == {"disconnected"}
    assert "nothing connects" in report.findings[0].message


def test_gene_without_effect_is_found():
    body = sequence(block("inverted_bottleneck", expansion=one_of(2, 2.1)), block("global_pool"))
    report = check_space(spaces.build(Definition(name="idle", channels=8, resolution=8, body=body)))
    assert [(finding.check, finding.place) for finding in report.findings] == [("no_effect", "0.expansion")]


def test_training_only_difference_is_an_effect():
    body = sequence(block("conv"), block("dropout", p=one_of(0.1, 0.3)), block("global_pool"), block("linear", out=3))
    assert check_space(spaces.build(Definition(name="drop", channels=8, resolution=8, body=body))).findings == ()


def test_gene_that_is_never_active_is_found():
    base = macro(STANDARD, layers=1)

    class Contradicting(type(base)):
        """The space with one more gene, whose two conditions exclude each other."""

        def __init__(self):
            super().__init__(base.definition)
            whens = (When("layer0.choice", ("conv3",)), When("again", ("off",)))
            again = Gene("again", ("on", "off"), when=(When("layer0.choice", ("max",)),))
            self.table = type(base.table)([*base.genes, again, Gene("ghost", (1, 2), when=whens)])

        def sites(self):
            return base.sites()

    findings = check_space(Contradicting(), samples=4).findings
    assert ("never_active", "ghost") in [(finding.check, finding.place) for finding in findings]
    assert ("no_effect", "again") in [(finding.check, finding.place) for finding in findings]


def test_architecture_that_cannot_be_built_is_found():
    base = macro(STANDARD, layers=1)

    class Broken(type(base)):
        def ops(self, architecture):
            if architecture.choices["layer0.choice"] == "max":
                raise SpaceError("no pooling today.")
            return super().ops(architecture)

    findings = [f for f in check_space(Broken(base.definition)).findings if f.check == "invalid"]
    assert findings
    assert "no pooling today" in findings[0].message
    assert "'max'" in findings[0].message


def test_unseen_taps_counts_by_hand():
    x = Tensor("x", (2, 3, 3))
    assert unseen_taps(make_op("c", "conv2d", x, out_channels=2, kernel=5, padding=2)) == (0, 25)
    assert unseen_taps(make_op("c", "conv2d", x, out_channels=2, kernel=7, padding=3)) == (24, 49)
    assert unseen_taps(make_op("c", "avg_pool2d", x, kernel=3, stride=1)) == (0, 1)


def test_report_is_json_with_known_checks():
    report = check_space(macro(STANDARD | {"poison": block("dropout", p=1.0)}), samples=4)
    data = report.to_json()
    assert data["ok"] is False
    assert all(finding["check"] in CHECKS for finding in data["findings"])
    assert data["size"] == str(report.size)


def test_repeatable():
    space = macro({"repeat": repeat(one_of(1, 2), block("conv")), "copy": block("conv"), "copy2": block("conv")})
    assert check_space(space, seed=3, samples=8) == check_space(space, seed=3, samples=8)
    assert np.array_equal(space.sample(3, np.random.default_rng(0)), space.sample(3, np.random.default_rng(0)))
