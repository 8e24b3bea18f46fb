"""Path samplers and the losses of their paths: what each promises, counted and computed by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # torch's own idiom

from archsmith import spaces
from archsmith.predictors.supernet.attentive import Attentive
from archsmith.predictors.supernet.losses import alpha_divergence_loss, label_loss
from archsmith.predictors.supernet.path import Path, Target
from archsmith.predictors.supernet.progressive import ProgressiveShrinking
from archsmith.predictors.supernet.samplers import SAMPLERS, Nested, StrictFairness, UniformPath
from archsmith.predictors.supernet.settings import SupernetSettings
from archsmith.predictors.supernet.step import backward
from archsmith.predictors.supernet.trainer import SupernetTrainer
from archsmith.spaces.gene import Gene
from archsmith.spaces.space import GeneSpace

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_paths_follow_from_seed_and_step_alone(name, space):
    settings = SupernetSettings(steps=40, sampler=name)
    first, second = (SAMPLERS[name](space, settings, 7) for _ in range(2))
    for step in (30, 0, 12):
        paths = first.paths(step)
        assert paths == second.paths(step)
        assert paths[0].target is Target.LABELS
        assert all(path.architecture.space == space.identity for path in paths)
    other = SAMPLERS[name](space, settings, 8)
    assert name == "parallel" or any(other.paths(step) != first.paths(step) for step in range(30, 40))


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_every_sampler_trains_and_resumes(name, space, task, tmp_path):
    settings = SupernetSettings(steps=4, sampler=name, batch_size=16, checkpoint_every=2)
    whole = SupernetTrainer(space, task, settings, seed=1, directory=tmp_path / "a", device="cpu").run()
    stops = iter([False, False, True])
    part = SupernetTrainer(space, task, settings, seed=1, directory=tmp_path / "b", device="cpu")
    with pytest.raises(Exception, match="stopped after step 2"):
        part.run(should_stop=lambda: next(stops))
    assert part.run().weights.read_bytes() == whole.weights.read_bytes()


def cells() -> GeneSpace:
    return GeneSpace([Gene(f"op{index}", tuple("abcd"[: 3 + index % 2])) for index in range(5)], name="cells")


def test_uniform_paths_take_every_choice_equally_often():
    space = cells()
    sampler = UniformPath(space, random_paths=1, seed=0)
    drawn = np.array([path.architecture.genome for step in range(4000) for path in sampler.paths(step)])
    for column, gene in zip(drawn.T, space.genes, strict=True):
        counts = np.bincount(column, minlength=gene.cardinality)
        expected = len(drawn) / gene.cardinality
        assert ((counts - expected) ** 2 / expected).sum() < 16.3  # chi-square, 3 degrees of freedom, p = 0.001


def test_strict_fairness_uses_every_choice_in_every_step():
    space = cells()
    sampler = StrictFairness(space, seed=0)
    for step in range(20):
        drawn = np.array([path.architecture.genome for path in sampler.paths(step)])
        assert len(drawn) == 4
        for column, gene in zip(drawn.T, space.genes, strict=True):
            counts = np.bincount(column, minlength=gene.cardinality)
            assert counts.min() >= 1
            assert np.ptp(counts) <= 1


def test_progressive_shrinking_opens_kinds_in_order():
    space = spaces.get("mobilenet", "tiny")
    sampler = ProgressiveShrinking(space, random_paths=2, steps=1000, alone=300, seed=0)
    kinds = [gene.name.rpartition(".")[2] for gene in space.genes]
    largest = space.largest()
    assert len(sampler.paths(0)) == 1
    assert sampler.paths(0)[0].architecture.genome == tuple(int(choice) for choice in largest)
    closed = []
    for step in range(0, 1000, 10):
        low = sampler.opened(step)
        closed.append({kind for kind, choice, top in zip(kinds, low, largest, strict=True) if choice == top > 0})
        for path in sampler.paths(step)[1:]:
            raw = np.array(path.architecture.genome)
            active = space.active(raw[None])[0]
            assert (raw[active] >= low[active]).all()
    assert all(later <= earlier for earlier, later in itertools.pairwise(closed))
    order = [kind for kind in ProgressiveShrinking.ORDER if kind in kinds]
    first_open = [next(i for i, still in enumerate(closed) if kind not in still) for kind in order]
    assert first_open == sorted(first_open)
    assert (sampler.opened(999) == 0).all()


def test_nested_submodels_contain_each_other():
    space = spaces.get("mobilenet", "tiny")
    sampler = Nested(space, random_paths=3, seed=0)
    genomes = np.array([item.genome for item in sampler.levels])
    assert len(genomes) >= 3
    assert (np.diff(genomes, axis=0) >= 0).all()
    assert (np.diff(space.params(genomes.astype(np.int16))) > 0).all()
    assert len({path.architecture.key for path in sampler.paths(5)}) == 3


def test_attentive_rivals_cost_about_the_same_and_the_preferred_one_runs(task):
    space = spaces.get("mobilenet", "tiny")
    paths = Attentive(space, random_paths=2, rivals=4, prefer="worst", seed=0).paths(3)
    for path in paths[2:]:
        macs = space.macs(np.array([item.genome for item in (path.architecture, *path.rivals)], dtype=np.int16))
        assert len(macs) == 4
        assert macs.max() / macs.min() < 1.5
    supernet, batch = space.supernet(seed=0).train(), task.batch(0, 16, 0)
    group = paths[2]
    with torch.no_grad():
        alone = [
            float(label_loss(supernet(batch.inputs, item), batch.labels))
            for item in (group.architecture, *group.rivals)
        ]
    settings = SupernetSettings(label_smoothing=0.0)
    run = Path(group.architecture, Target.LABELS, group.rivals, "worst")
    losses, _ = backward(supernet, (run,), batch, settings)
    assert float(losses[0]) == pytest.approx(max(alone), rel=1e-4)


def test_alpha_divergence_vanishes_where_student_and_teacher_agree():
    teacher = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    student = teacher.clone().requires_grad_()
    alpha_divergence_loss(student, teacher).backward()
    assert student.grad is not None
    assert float(student.grad.abs().max()) < 1e-6


def test_alpha_divergence_gradient_is_that_of_the_larger_divergence():
    generator = torch.Generator().manual_seed(1)
    teacher, logits = torch.randn(8, 4, generator=generator), torch.randn(8, 4, generator=generator)
    p = F.softmax(teacher, dim=1)

    def divergence(x: torch.Tensor, alpha: float) -> torch.Tensor:
        q = F.softmax(x, dim=1)
        ratio = p / q
        f = ratio * ratio.log() if alpha == 1 else ratio**alpha / (alpha * (alpha - 1))
        return (q * f).sum(dim=1)

    own = logits.clone().requires_grad_()
    alpha_divergence_loss(own, teacher, clip=1e9).backward()
    theirs = logits.clone().requires_grad_()
    both = torch.stack([divergence(theirs, -1.0), divergence(theirs, 1.0)])
    both.gather(0, both.detach().argmax(dim=0, keepdim=True)).mean().backward()
    torch.testing.assert_close(own.grad, theirs.grad, rtol=1e-4, atol=1e-6)
