"""Vet one operation on random tensors: does it pass on information and gradients, in training and in evaluation?

Source: the defences that follow from the attacks of Wu et al., Poisoning the Search Space in Neural Architecture
Search, 2021, https://arxiv.org/abs/2106.14406: operations that look harmless in evaluation, and duplicates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from .candidate import Candidate, Meaning
from .op import Op, Shape

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["Trial", "broken_promise", "faults", "same_function", "try_candidate", "unseen_taps", "wasted_windows"]

BATCH: Final = 8
DRAWS: Final = 4
VALUES: Final = 1 << 14
LEAST_SIDE: Final = 8
"""Images are cut to about this many values, but not below this side: what an operation does shows on few pixels."""

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
    windows: tuple[Window, ...]


@dataclass(frozen=True, slots=True)
class Window:
    """A convolution that ran, and the sizes of the images it read and wrote, without channels."""

    conv: nn.Conv1d | nn.Conv2d | nn.ConvTranspose2d
    read: tuple[int, ...]
    written: tuple[int, ...]


def try_candidate(candidate: Candidate, seed: int = 0) -> Trial:
    """Run a candidate in both modes; batch norms first take the statistics of the batch itself."""
    import torch
    from torch import nn

    x = torch.randn(BATCH, *_cut(candidate.shape), generator=torch.Generator().manual_seed(seed))
    network = candidate.build(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        windows: list[Window] = []
        for module in network.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.momentum = 1.0
            elif isinstance(module, nn.Conv1d | nn.Conv2d | nn.ConvTranspose2d):
                module.register_forward_hook(partial(_note_window, windows))
        leaf = x.clone().requires_grad_()
        y = network.train()(leaf)
        direction = torch.randn(y.shape, generator=torch.Generator().manual_seed(seed + 1))
        # An identity returns its input itself, which has no history but is its own gradient.
        found = torch.autograd.grad((y * direction).sum(), leaf, allow_unused=True) if y.requires_grad else (None,)
        with torch.no_grad():
            trained = tuple(network(x) for _ in range(2))
            if not torch.equal(*trained):  # random in training
                trained += tuple(network(x) for _ in range(2, DRAWS))
            evaluated = network.eval()(x)
    size = 0.0 if found[0] is None else float(found[0].norm())
    weights = tuple(tuple(parameter.shape) for parameter in network.parameters())
    return Trial(x, evaluated, trained, size, weights, tuple(dict.fromkeys(windows)))


def _cut(shape: Shape) -> Shape:
    """A shape that is quick to try: an image (C, H, W) with fewer pixels, any other shape as it is."""
    if len(shape) != 3:
        return shape
    side = max(LEAST_SIDE, math.isqrt(VALUES // shape[0]) // LEAST_SIDE * LEAST_SIDE)
    return (shape[0], *(min(size, side) for size in shape[1:]))


def _note_window(windows: list[Window], conv: nn.Module, inputs: tuple[torch.Tensor, ...], y: torch.Tensor) -> None:
    windows.append(Window(conv, tuple(inputs[0].shape[2:]), tuple(y.shape[2:])))  # type: ignore[arg-type]  # hooked on convolutions alone


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


def broken_promise(trial: Trial, means: Meaning) -> str:
    """How an operation differs from what it is offered as, in words; "" where it keeps to that."""
    import torch

    outputs = (trial.evaluated, *trial.trained)
    same = all(y.shape == trial.x.shape and torch.equal(y, trial.x) for y in outputs)
    if means == "identity" and not same:
        return "it is offered as the identity, but changes its input"
    if means == "work" and same:
        return "it passes its input on unchanged, though it is not offered as the identity"
    if means == "nothing" and any(bool(y.any()) for y in outputs):
        return "it is offered as passing nothing on, but passes something on"
    return ""


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
    sizes = zip(op.inputs[0].shape[1:], op.output.shape[1:], strict=True)
    seen = math.prod(_seen(kernel, stride, padding, dilation, *lengths) for lengths in sizes)
    total = kernel ** len(op.output.shape[1:])
    return total - seen, total


def _seen(kernel: int, stride: int, padding: int, dilation: int, size: int, length: int) -> int:
    """Taps along one axis that meet an image of `size` where `length` outputs are made."""
    starts = range(-padding, -padding + length * stride, stride)
    return sum(any(0 <= start + tap * dilation < size for start in starts) for tap in range(kernel))


def wasted_windows(trial: Trial) -> list[tuple[str, str, bool]]:
    """(check, what is wrong, whether nothing is left of it) for convolutions that are spread too far, or turned round.

    A plain window on an image that has become too small is left to the Ops of whole networks.
    """
    from torch import nn

    found = []
    for window in trial.windows:
        conv = window.conv
        if isinstance(conv, nn.ConvTranspose2d):
            if set(conv.stride) == {1}:
                found.append(("duplicate", "a transposed convolution at stride 1 computes what a plain one can", True))
            continue
        axes = zip(conv.kernel_size, conv.stride, conv.padding, conv.dilation, window.read, window.written, strict=True)
        seen = math.prod(_seen(*map(int, axis)) for axis in axes)
        taps = math.prod(conv.kernel_size)
        if 2 * (taps - seen) >= taps > 1 and max(conv.dilation) > 1:
            message = f"{taps - seen} of {taps} taps of its window never meet the image {window.read}"
            found.append(("unseen_window", message, seen <= 1))
    return found


def outputs(network: nn.Module, inputs: Sequence[torch.Tensor], *, training: bool, seed: int = 0) -> torch.Tensor:
    """A network's output in a mode, with the global generator seeded and then restored."""
    import torch

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        return network.train(training)(*inputs)
