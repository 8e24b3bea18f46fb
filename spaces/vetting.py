"""Vet one operation on random tensors: does it pass on information and gradients, in training and in evaluation?

Source: the defences that follow from the attacks of Wu et al., Poisoning the Search Space in Neural Architecture
Search, 2021, https://arxiv.org/abs/2106.14406: operations that look harmless in evaluation, and duplicates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from .candidate import Candidate
from .op import Op

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["Trial", "faults", "same_function", "try_candidate", "unseen_taps"]

BATCH: Final = 8
DRAWS: Final = 4

MAX_DIVERGENCE: Final = 1.2
"""Relative distance of training from evaluation outputs: dropout with p has sqrt(p / (1 - p)), so 0.5 passes."""

MIN_SPREAD: Final = 1e-6
"""Relative difference between outputs of different inputs below which they count as the same."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What one operation did to a batch of random inputs."""

    x: torch.Tensor
    evaluated: torch.Tensor
    trained: tuple[torch.Tensor, ...]
    gradient: float
    weights: tuple[tuple[int, ...], ...]


def try_candidate(candidate: Candidate, seed: int = 0) -> Trial:
    """Run a candidate in both modes; batch norms first take the statistics of the batch itself."""
    import torch
    from torch import nn

    x = torch.randn(BATCH, *candidate.shape, generator=torch.Generator().manual_seed(seed))
    network = candidate.build(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
        for norm in norms:
            norm.momentum = 1.0
        leaf = x.clone().requires_grad_()
        y = network.train()(leaf)
        direction = torch.randn(y.shape, generator=torch.Generator().manual_seed(seed + 1))
        # An identity returns its input itself, which has no history but is its own gradient.
        (gradient,) = torch.autograd.grad((y * direction).sum(), leaf, allow_unused=True)
        with torch.no_grad():
            trained = tuple(network(x) for _ in range(DRAWS))
            evaluated = network.eval()(x)
    size = 0.0 if gradient is None else float(gradient.norm())
    return Trial(x, evaluated, trained, size, tuple(tuple(p.shape) for p in network.parameters()))


def faults(trial: Trial) -> list[str]:
    """What is wrong with an operation, in words; [] for a sound one."""
    import torch

    outputs = (trial.evaluated, *trial.trained)
    if not all(bool(torch.isfinite(y).all()) for y in outputs):
        return ["its outputs are not finite"]
    found = []
    for mode, y in (("evaluation", trial.evaluated), ("training", trial.trained[0])):
        scale = max(float(trial.x.std()), float(y.abs().mean()))
        if float(y.std(dim=0).mean()) < MIN_SPREAD * scale:
            found.append(f"in {mode} its output is the same for every input")
    if trial.gradient == 0.0:
        found.append("no gradient reaches its input in training")
    size = float(trial.evaluated.norm()) or 1.0
    divergence = sum(float((y - trial.evaluated).norm()) for y in trial.trained) / len(trial.trained) / size
    # Dividing by the batch's unbiased variance moves small batches by a per cent or two: no limit is that tight.
    if divergence > MAX_DIVERGENCE or (divergence > 0 and found):
        same = trial.evaluated.shape == trial.x.shape and bool(torch.equal(trial.evaluated, trial.x))
        hidden = " while it is the identity in evaluation, where nothing shows it" if same else ""
        found.append(f"training and evaluation differ by {divergence:.1f} times its output{hidden}")
    return found


def same_function(first: Trial, second: Trial) -> bool:
    """Whether two operations with weights drawn alike gave the same outputs, in both modes."""
    import torch

    if first.weights != second.weights or first.evaluated.shape != second.evaluated.shape:
        return False
    pairs = ((first.evaluated, second.evaluated), (first.trained[0], second.trained[0]))
    return all(torch.allclose(a, b, rtol=1e-5, atol=1e-6) for a, b in pairs)


def unseen_taps(op: Op) -> tuple[int, int]:
    """How many taps of a convolution's window never meet the image, and how many taps it has.

    >>> from .op import Tensor, make_op
    >>> x = Tensor("x", (4, 8, 8))
    >>> unseen_taps(make_op("c", "conv2d", x, out_channels=4, kernel=3, padding=50, dilation=50))
    (8, 9)
    """
    if op.kind not in {"conv1d", "conv2d"}:
        return 0, 1
    kernel, stride, padding, dilation = (int(op.attributes[k]) for k in ("kernel", "stride", "padding", "dilation"))  # type: ignore[arg-type]  # whole numbers
    seen = 1
    for size, length in zip(op.inputs[0].shape[1:], op.output.shape[1:], strict=True):
        starts = range(-padding, -padding + length * stride, stride)
        seen *= sum(any(0 <= start + tap * dilation < size for start in starts) for tap in range(kernel))
    total = kernel ** len(op.output.shape[1:])
    return total - seen, total


def outputs(network: nn.Module, inputs: Sequence[torch.Tensor], *, training: bool, seed: int = 0) -> torch.Tensor:
    """A network's output in a mode, with the global generator seeded and then restored."""
    import torch

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        return network.train(training)(*inputs)
