"""Draw one architecture of any space as an SVG, from its Ops alone.

A row per stage, a box per block: its height grows with the resolution, its width with the channels (both in
logarithmic steps), an arc over it is a skip connection. The picture needs no fonts, scripts or styles from elsewhere
and follows the reader's light or dark setting; on a page that sets `--archsmith-ink` and its like, it follows those.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape

from .architecture import Architecture
from .op import Op, Shape, total_macs, total_params
from .space import SearchSpace

__all__ = ["Box", "boxes", "draw_svg"]

WIDTH: Final = 1080
MARGIN: Final = 24
LABELS: Final = 168
GAP: Final = 22

STYLE: Final = """
svg { --ink: var(--archsmith-ink, #1f2430); --faint: var(--archsmith-faint, #6b7280);
  --line: var(--archsmith-line, #c9ced8);
  --paper: var(--archsmith-paper, #ffffff); --conv: #dbe8ff; --conv-edge: #4f7fd6; --attention: #eadcff;
  --attention-edge: #8b5cd6; --dense: #ffe7cc; --dense-edge: #d08a2e; --pool: #e3e7ec; --pool-edge: #8a93a3;
  --mixed: #d5f0e3; --mixed-edge: #3a9a6c; }
@media (prefers-color-scheme: dark) { svg { --ink: var(--archsmith-ink, #e6e9f0);
  --faint: var(--archsmith-faint, #9aa3b5);
  --line: var(--archsmith-line, #434a5a); --paper: var(--archsmith-paper, #14171f); --conv: #1f3157;
  --conv-edge: #7aa2f0;
  --attention: #36255a; --attention-edge: #b492f0; --dense: #4a3413; --dense-edge: #e0a95a; --pool: #2c323d;
  --pool-edge: #8f98a8; --mixed: #163d2c; --mixed-edge: #5fc195; } }
text { font-family: system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; fill: var(--ink); }
.title { font-size: 17px; font-weight: 600; } .note { font-size: 12px; fill: var(--faint); }
.stage { font-size: 13px; font-weight: 600; } .main { font-size: 12px; font-weight: 600; text-anchor: middle; }
.more { font-size: 11px; text-anchor: middle; } .below { font-size: 10.5px; fill: var(--faint); text-anchor: middle; }
.flow { stroke: var(--line); stroke-width: 1.5; fill: none; } .skip { stroke: var(--faint); stroke-width: 1.5;
  fill: none; }
.tip { fill: var(--line); } .paper { fill: var(--paper); }
.conv { fill: var(--conv); stroke: var(--conv-edge); } .attention { fill: var(--attention);
  stroke: var(--attention-edge); }
.dense { fill: var(--dense); stroke: var(--dense-edge); } .pool { fill: var(--pool); stroke: var(--pool-edge); }
.mixed { fill: var(--mixed); stroke: var(--mixed-edge); }
""".strip()

NAMES: Final = {
    "attention": "attention", "conv": "convolution", "dense": "linear", "mixed": "cell of several operations",
    "pool": "pooling and others",
}  # fmt: skip
"""What the colours stand for."""


@dataclass(frozen=True, slots=True)
class Box:
    """One block of the picture.

    Attributes:
        stage: module path of the group it belongs to.
        path: its own module path.
        kind: a key of `NAMES`, its colour.
        main: what it does, in a few letters.
        more: expansion, squeeze-excite and the like.
        shape: what it writes.
        skip: whether its input is added to something inside it.
        linked: whether it reads what the box before it writes.
    """

    stage: str
    path: str
    kind: str
    main: str
    more: str
    shape: Shape
    skip: bool
    linked: bool


def draw_svg(space: SearchSpace, architecture: Architecture) -> str:
    """The picture of `architecture` as an SVG document; the same architecture always gives the same text."""
    ops = space.ops(architecture)
    rows = _rows(boxes(ops))
    parts, y = [], MARGIN + 60
    previous: tuple[float, float] | None = None
    for number, (stage, members) in enumerate(rows):
        more = number > 0 and stage == rows[number - 1][1][-1].stage
        drawn, y, previous = _row("" if more else stage, members, y, previous)
        parts += drawn
    kinds = sorted({box.kind for _, members in rows for box in members})
    height = y + 34
    name = space.name if not space.preset else f"{space.name} / {space.preset}"
    figures = f"{_count(total_params(ops))} parameters, {_count(total_macs(ops))} MACs, key {architecture.key[:12]}"
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" role="img" '
        f'aria-label="{escape(f"Architecture of {name}: {figures}", {chr(34): "&quot;"})}">',
        f"<style>{STYLE}</style>",
        f'<rect class="paper" width="{WIDTH}" height="{height:.0f}"/>',
        _text("title", MARGIN, MARGIN + 12, name),
        _text("note", MARGIN, MARGIN + 32, figures),
    ]
    return "\n".join([*head, *parts, *_legend(kinds, height - 18), "</svg>", ""])


# --- from Ops to boxes ----------------------------------------------------------------------------------------------


def boxes(ops: Sequence[Op]) -> list[Box]:
    """The blocks of a network, in execution order."""
    groups: dict[str, list[Op]] = {}
    for op in ops:
        groups.setdefault(_block_path(op.name), []).append(op)
    writer = {op.output.name: path for path, members in groups.items() for op in members}
    made: list[Box] = []
    for path, members in groups.items():
        read = {writer.get(tensor.name, "") for op in members for tensor in op.inputs}
        box = _box(path, members, linked=bool(made) and made[-1].path in read)
        if box.main:
            made.append(box)
    return made


def _block_path(name: str) -> str:
    """The block that an Op belongs to: its path up to the first run of numbers, or its first part."""
    parts = name.split(".")
    numbers = [index for index, part in enumerate(parts[:-1]) if part.isdigit()]
    if not numbers:
        return ".".join(parts[: 2 if parts[0] == "body" else 1])
    end = numbers[0]
    while end + 1 < len(parts) and parts[end + 1].isdigit():
        end += 1
    return ".".join(parts[: end + 1])


def _box(path: str, ops: list[Op], *, linked: bool) -> Box:
    kinds = Counter(op.kind for op in ops)
    first = ops[0].inputs[0]
    shape = ops[-1].output.shape
    skip = any(op.kind == "add" and first.name in {tensor.name for tensor in op.inputs} for op in ops)
    stage = path.rpartition(".")[0] if path.rpartition(".")[2].isdigit() else path
    convs = [op for op in ops if op.kind in {"conv1d", "conv2d", "conv_transpose2d"}]
    if kinds["softmax"] or kinds["matmul"] > 1:
        kind, main, more = "attention", *_attention(ops)
    elif _is_cell(ops, convs, kinds, skip=skip):
        kind, main, more = "mixed", *_cell(ops)
    elif convs and path.rpartition(".")[2] not in {"head", "classifier"}:
        kind, main, more = "conv", *_convolution(convs, kinds)
    elif kinds["linear"] or convs:
        linear = [op for op in ops if op.kind == "linear"]
        kind, main, more = "dense", path.rpartition(".")[2], f"linear {_int(linear[-1])}" if linear else "1×1"
    else:
        names = [name for name in kinds if name not in {"add", "batch_norm", "reshape", "scale", "mul", "transpose"}]
        kind, main, more = "pool", (names[0].removesuffix("2d").replace("_", " ") if names else ""), ""
    return Box(stage, path, kind, main, more, shape, skip, linked)


def _is_cell(ops: list[Op], convs: list[Op], kinds: Counter[str], *, skip: bool) -> bool:
    """Whether a block is a graph of operations rather than one after the other."""
    windows = sum(_spatial(op) for op in convs) + kinds["avg_pool2d"] + kinds["max_pool2d"]
    return windows > 2 or (windows == 2 and not skip and kinds["add"] > 0) or sum(op.kind == "add" for op in ops) > 2


def _int(op: Op) -> int:
    return op.output.shape[-1]


def _spatial(op: Op) -> bool:
    return op.attributes["kernel"] != 1


def _depthwise(op: Op) -> bool:
    return op.attributes.get("groups", 1) == op.inputs[0].shape[0] > 1


def _window(op: Op) -> str:
    size = op.attributes["kernel"]
    return f"{size}×{size}" if op.kind != "conv1d" else str(size)


def _convolution(convs: list[Op], kinds: Counter[str]) -> tuple[str, str]:
    """Window, and what else there is: expansion, squeeze-excite, stride."""
    main = max(convs, key=lambda op: (_spatial(op), _depthwise(op)))
    spatial = [op for op in convs if _spatial(op)] or [main]
    windows = " + ".join(_window(op) for op in spatial)
    label = f"dw {windows}" if _depthwise(main) else (f"{windows}" if len(convs) > 1 else f"conv {windows}")
    more = []
    entry, hidden = convs[0].inputs[0].shape[0], max(op.output.shape[0] for op in convs)
    if len(convs) > 1 and hidden > max(entry, convs[-1].output.shape[0]) * 1.05:
        more.append(f"expand {hidden / entry:.3g}")
    elif len(convs) > 1 and min(op.output.shape[0] for op in convs) < 0.9 * entry:
        more.append(f"squeeze to {min(op.output.shape[0] for op in convs)}")
    if kinds["mul"]:
        more.append("SE")
    if any(op.attributes["stride"] != 1 for op in convs):
        more.append("↓" + str(max(int(op.attributes["stride"]) for op in convs)))  # type: ignore[call-overload]  # whole numbers
    return label, " · ".join(more)


def _attention(ops: list[Op]) -> tuple[str, str]:
    """Number of attention layers, and the widest linear layer in between."""
    heads = [op.output.shape[0] for op in ops if op.kind == "softmax" and len(op.output.shape) == 3]
    wide = [_int(op) for op in ops if op.kind == "linear"]
    more = f"inner {max(wide)}" if wide else ""
    return (f"{heads[0]} head{'s' if heads[0] > 1 else ''}" if heads else "attention"), more


def _cell(ops: list[Op]) -> tuple[str, str]:
    """What a cell does how often, most frequent first; two lines."""
    names: Counter[str] = Counter()
    for op in ops:
        if op.kind in {"avg_pool2d", "max_pool2d"}:
            names[op.kind.removesuffix("_pool2d") + " pool"] += 1
        elif op.kind in {"conv1d", "conv2d"} and _spatial(op):
            names[("dw " if _depthwise(op) else "conv ") + _window(op)] += 1
    texts = [
        f"{count} {name}" if count > 1 else name for name, count in sorted(names.items(), key=lambda i: (-i[1], i[0]))
    ]
    if not texts:
        return "1×1 and sums", ""
    return texts[0], ", ".join(texts[1:3]) + (" …" if len(texts) > 3 else "")


# --- from boxes to a page -------------------------------------------------------------------------------------------


def _rows(found: Iterable[Box]) -> list[tuple[str, list[Box]]]:
    """Boxes of one stage beside each other, as many as fit; stages of a single box share a row with their like."""
    stages = [(stage, list(members)) for stage, members in itertools.groupby(found, key=lambda box: box.stage)]
    rows: list[tuple[str, list[Box]]] = []
    alone = False
    for stage, members in stages:
        for number, box in enumerate(members):
            joins = number > 0 or (alone and len(members) == 1)
            if joins and sum(_size(each)[0] + GAP for each in [*rows[-1][1], box]) <= WIDTH - 2 * MARGIN - LABELS:
                rows[-1][1].append(box)
            else:
                rows.append((stage, [box]))
        alone = len(members) == 1
    return rows


def _size(box: Box) -> tuple[float, float]:
    """Width by channels, height by resolution, both logarithmic and never too small for their text."""
    channels = box.shape[0] if len(box.shape) == 3 else box.shape[-1]
    side = box.shape[1] if len(box.shape) == 3 else 1
    text = 18 + 7.4 * max(len(box.main), 0.85 * len(box.more), 0.8 * len(_shape(box.shape)))
    return max(56 + 9 * math.log2(max(channels, 1)), text), 40 + 4.5 * math.log2(max(side, 1))


def _row(
    stage: str, members: list[Box], y: float, previous: tuple[float, float] | None
) -> tuple[list[str], float, tuple[float, float]]:
    """One row from height `y` on, "" for a stage that goes on; `previous` is where the flow starts."""
    tall = max(_size(box)[1] for box in members)
    over = 16 if any(box.skip for box in members) else 4
    middle = y + over + tall / 2
    names = [stage] if not stage else list(dict.fromkeys(box.stage for box in members))
    parts = [_text("stage", MARGIN, middle + (4 if len(members) == 1 else -3), _stage_name(names[0]))]
    if len(names) > 1:
        parts.append(_text("note", MARGIN, middle + 14, f"to {_stage_name(names[-1])}"))
    elif not stage:
        parts.append(_text("note", MARGIN, middle + 4, "continued"))
    elif len(members) > 1:
        parts.append(_text("note", MARGIN, middle + 14, f"{len(members)} blocks"))
    x = float(MARGIN + LABELS)
    if previous is not None and members[0].linked:
        turn = y - 6
        parts.append(
            f'<path class="flow" d="M{previous[0]:.1f} {previous[1]:.1f}H{previous[0] + 10:.1f}V{turn:.1f}'
            f'H{x - 14:.1f}V{middle:.1f}H{x - 5:.1f}"/>'
        )
        parts.append(_tip(x, middle))
    for index, box in enumerate(members):
        width, height = _size(box)
        if index and box.linked:
            parts.append(f'<path class="flow" d="M{x - GAP:.1f} {middle:.1f}H{x - 5:.1f}"/>')
            parts.append(_tip(x, middle))
        parts += _box_svg(box, x, middle, (width, height))
        x += width + GAP
    return parts, y + over + tall + 30, (x - GAP, middle)


def _box_svg(box: Box, x: float, middle: float, size: tuple[float, float]) -> list[str]:
    width, height = size
    top, centre = middle - height / 2, x + width / 2
    lines = [
        f'<rect class="{box.kind}" x="{x:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}" rx="6"/>',
        _text("main", centre, middle + (-2 if box.more else 4), box.main),
    ]
    if box.more:
        lines.append(_text("more", centre, middle + 12, box.more))
    lines.append(_text("below", centre, top + height + 13, _shape(box.shape)))
    if box.skip:
        lines.append(
            f'<path class="skip" d="M{x + 8:.1f} {top:.1f}C{x + 14:.1f} {top - 15:.1f} '
            f'{x + width - 14:.1f} {top - 15:.1f} {x + width - 8:.1f} {top:.1f}"/>'
        )
    return lines


def _stage_name(stage: str) -> str:
    name = stage.removeprefix("body.")
    return name if len(name) <= 20 else "…" + name[-19:]


def _shape(shape: Shape) -> str:
    if len(shape) == 3:
        return f"{shape[0]} × {shape[1]}²" if shape[1] == shape[2] else " × ".join(map(str, shape))
    return " × ".join(map(str, shape))


def _legend(kinds: list[str], y: float) -> list[str]:
    lines, x = [], float(MARGIN)
    for kind in kinds:
        lines.append(f'<rect class="{kind}" x="{x:.1f}" y="{y - 10:.1f}" width="14" height="12" rx="3"/>')
        lines.append(_text("note", x + 20, y, NAMES[kind]))
        x += 44 + 6.4 * len(NAMES[kind])
    note = "box height: resolution · width: channels · arc: skip"
    return [*lines, _text("note", WIDTH - MARGIN - 6.1 * len(note), y, note)]


def _tip(x: float, y: float) -> str:
    return f'<path class="tip" d="M{x - 7:.1f} {y - 4:.1f}L{x - 0.5:.1f} {y:.1f}L{x - 7:.1f} {y + 4:.1f}Z"/>'


def _text(style: str, x: float, y: float, text: str) -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'


def _count(number: int) -> str:
    """A count with a unit: 5.48 M."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return str(number)
