"""The operations that families list: each is tried alone, and poison in its place is called so."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from archsmith import spaces
from archsmith.spaces.candidate import variations
from archsmith.spaces.checking import check_space, vet_operations
from archsmith.spaces.families import darts_network, fbnet, nas_bench_201
from archsmith.spaces.families.staged import StagedSpace
from archsmith.spaces.families.user_blocks import Noise
from archsmith.spaces.layers.cell_ops import ReluConvNorm

OPERATIONS = {
    "darts": 35,
    "decoder": 6,
    "efficientnet": 0,
    "fbnet": 30,
    "fbnetv3": 6,
    "genet": 17,
    "hierarchical": 13,
    "hybrid": 13,
    "mnasnet": 18,
    "mobilenet": 12,
    "mobilenetv2": 9,
    "mobilenetv3": 12,
    "mobilenetv4": 16,
    "mobileone": 19,
    "nas_bench_101": 6,
    "nas_bench_201": 8,
    "nas_bench_macro": 12,
    "ofa_mobilenetv3": 14,
    "ofa_proxylessnas": 10,
    "proxylessnas": 9,
    "regnet": 6,
    "resnet": 25,
    "rexnet": 36,
    "shufflenetv2": 16,
    "single_path_nas": 7,
    "starnet": 14,
}
"""Operations of the preset `tiny` that are tried; families that choose sizes alone have none."""

TRIED = sorted(name for name, count in OPERATIONS.items() if count)


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_operations_of_the_catalog_are_tried_and_sound(name):
    tried, findings = vet_operations(spaces.get(name, "tiny"))
    assert tried == OPERATIONS[name]
    # Windows that images of a few pixels are too small for belong to the tiny preset, not to the operations.
    assert {finding.check for finding in findings if finding.severity != "note"} <= {"unseen_window"}


@pytest.mark.parametrize("name", TRIED)
def test_every_option_of_an_operation_gene_is_tried(name):
    space = spaces.get(name, "tiny")
    labels = {}
    for candidate in space.candidates():
        if candidate.choice:
            labels.setdefault(candidate.place, []).append(candidate.label)
    for gene in space.genes:
        if gene.name in labels:
            assert labels[gene.name] == [str(value) for value in gene.values]
    for each in labels.values():  # the same options in the same order for every kind of block
        options = list(dict.fromkeys(each))
        assert each == options * (len(each) // len(options))


@pytest.mark.parametrize(
    ("name", "preset"), [("darts", "cifar10"), ("darts", "sharp_search"), ("nas_bench_201", "cifar10")]
)
def test_published_cells_hold_no_poison(name, preset):
    space = spaces.get(name, preset)
    tried, findings = vet_operations(space)
    assert tried > 10
    assert all(finding.severity == "note" for finding in findings)


@pytest.mark.parametrize(("name", "place"), [("hierarchical", "motifs"), ("nas_bench_201", "edges")])
def test_an_edge_left_out_is_a_note_and_no_poison(name, place):
    report = check_space(spaces.get(name, "tiny"), samples=2)
    (note,) = [finding for finding in report.findings if finding.check == "absent"]
    assert (note.severity, note.place) == ("note", place)
    assert "none: passes nothing on, which is what the space offers it as" in note.message
    assert report.ok


# --- the attacks ----------------------------------------------------------------------------------------------------


class Replaced(nn.Module):
    """The identity in evaluation; in training what the attack makes of its input."""

    def __init__(self, attack):
        super().__init__()
        self.attack = attack

    def forward(self, x):
        return self.attack(x) if self.training else x


def transposed(shape, kernel):
    return nn.ConvTranspose2d(shape[0], shape[0], kernel, padding=kernel // 2)


POISONS = {
    "identity": lambda shape: nn.Identity(),
    "noise2": lambda shape: Noise(2.0),
    "noise10": lambda shape: Noise(10.0),
    "dropout90": lambda shape: nn.Dropout(0.9),
    "dropout100": lambda shape: nn.Dropout(1.0),
    "transposed3": lambda shape: transposed(shape, 3),
    "transposed5": lambda shape: transposed(shape, 5),
    "stretched": lambda shape: nn.Conv2d(shape[0], shape[0], 3, padding=50, dilation=50),
    "zero": lambda shape: Replaced(torch.zeros_like),
}
"""By input shape: P1 to P5 of the paper, and an operation that is dead in training alone."""

IMAGE_ONLY = {"stretched", "transposed3", "transposed5"}


@pytest.mark.parametrize(
    ("name", "poison"),
    [(name, poison) for name in TRIED for poison in POISONS if name != "decoder" or poison not in IMAGE_ONLY],
)
def test_poison_in_place_of_an_operation_is_found(name, poison, monkeypatch):
    space = spaces.get(name, "tiny")
    victim = next(candidate for candidate in space.candidates() if candidate.means == "work")
    module = POISONS[poison](victim.shape)
    replaced = dataclasses.replace(victim, build=lambda _seed: module, key=None)
    monkeypatch.setattr(space, "candidates", lambda: (replaced,))
    expected = {"stretched": "unseen_window", "transposed3": "duplicate", "transposed5": "duplicate"}
    errors = [finding for finding in vet_operations(space)[1] if finding.severity == "error"]
    found = [finding for finding in errors if finding.check == expected.get(poison, "harmful")]
    assert found
    assert {(finding.place, finding.message.partition(":")[0]) for finding in found} == {(victim.place, victim.label)}


@pytest.mark.parametrize("attack", [lambda x: x + 10 * x.abs() * torch.randn_like(x), torch.zeros_like])
def test_layer_that_attacks_in_training_is_found_in_the_space_that_uses_it(attack, monkeypatch):
    honest = ReluConvNorm.forward
    monkeypatch.setattr(ReluConvNorm, "forward", lambda self, x: Replaced(attack).train(self.training)(honest(self, x)))
    report = check_space(spaces.get("nas_bench_201", "tiny"), samples=2)
    harmed = {finding.message.partition(":")[0] for finding in report.findings if finding.check == "harmful"}
    assert harmed == {"nor_conv_1x1", "nor_conv_3x3"}
    assert not report.ok


def test_disguised_skip_and_none_are_found(monkeypatch):
    def swapped(spec):
        return nn.AvgPool2d(3, 1, 1) if spec is None else nn.Conv2d(1, 1, 1)

    class Leaking(nn.Module):
        def forward(self, x):
            return 0.1 * x

    monkeypatch.setattr(nas_bench_201, "make_candidate", swapped)
    monkeypatch.setattr(nas_bench_201, "Zero", Leaking)
    findings = vet_operations(spaces.get("nas_bench_201", "tiny", in_channels=1))[1]
    messages = [finding.message for finding in findings if finding.severity == "error"]
    assert any("skip_connect: it is offered as the identity, but changes its input" in each for each in messages)
    assert any("none: it is offered as passing nothing on" in each for each in messages)
    # The operation that cannot run at these channels does not end the check.
    assert any("nor_conv_3x3: cannot be run on an input (4, 8, 8)" in each for each in messages)


def test_stretched_windows_of_a_cell_are_found_alone_and_in_networks(monkeypatch):
    stretched = {**darts_network.CANDIDATES, "dil_conv_3x3": (3, 50)}
    monkeypatch.setattr(darts_network, "CANDIDATES", stretched)
    findings = check_space(spaces.get("darts", "digits"), samples=4).findings
    errors = [finding for finding in findings if finding.severity == "error"]
    assert {finding.check for finding in errors} == {"unseen_window"}
    places = {finding.place for finding in errors if "dil_conv_3x3" in finding.message + finding.place}
    assert {"normal.edges", "reduction.edges"} < places  # and the convolutions of networks that hold them


def test_many_copies_of_a_block_are_one_finding_per_place():
    honest = fbnet.PRESETS["tiny"]
    stages = []
    for stage in honest.stages:
        copies = tuple(dataclasses.replace(stage.forms[0], name=f"copy{index}") for index in range(36))
        stages.append(dataclasses.replace(stage, forms=stage.forms + copies) if len(stage.forms) > 1 else stage)
    space = StagedSpace(dataclasses.replace(honest, stages=tuple(stages)), name="fbnet")
    findings = vet_operations(space)[1]
    places = [finding.place for finding in findings]
    assert {finding.check for finding in findings} == {"duplicate"}
    assert sorted(places) == sorted(gene.name for gene in space.genes if gene.name.endswith("form"))
    assert all("37 times as often" in finding.message for finding in findings)


def test_variations_make_a_conditional_gene_active():
    space = spaces.get("hybrid", "tiny")
    for gene, value, choices in variations(space.table, space.table.names):
        active = {name: choices[name] for name in choices if _on(space, name, choices)}
        assert active[gene.name] == value
        assert space.architecture(active).choices[gene.name] == value


def _on(space, name, choices):
    gene = space.genes[space.table.find(name)]
    return all(choices[when.gene] in when.values and _on(space, when.gene, choices) for when in gene.when)
