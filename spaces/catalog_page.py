"""Write ``docs/spaces.md``: every family of the catalog, with a picture of one of its architectures.

python -m archsmith.spaces.catalog_page docs
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from . import catalog
from .architecture import Architecture
from .drawing import boxes, draw_svg
from .op import total_macs, total_params
from .reference import reference, reference_names
from .space import SearchSpace

__all__ = ["page", "pictured", "write"]

HEAD = """# Search spaces

Generated from the catalog by `python -m archsmith.spaces.catalog_page docs`; do not edit by hand. Genes and sizes are
those of the first preset; a size counts genomes in canonical form. Any of these is built with
`archsmith.spaces.get(name, preset)`, checked with `archsmith spaces check`, and named in a job under `space`. For one
that is not here, see [a space of your own](your-own-space.md).

Where costs come from sites, MACs, parameters and whatever is measured or modelled by site (latency, energy, memory) are
look-ups in tables for whole populations. Where any layer may depend on all genes there are none: MACs and parameters of
populations then come in closed form, everything else from the Ops of single architectures. Operations are what
`spaces check` tries alone; a family without any chooses sizes, not operations.
"""

REFERENCES = """## Published networks

Points of these spaces that `archsmith.spaces.reference(name)` gives, with 1000 classes. Parameters and
multiply-accumulates are exactly those of the pytorch-image-models network of that name in its training form, the latter
as `torch.utils.flop_counter` counts them. The tables published there also count norms: two operations for every element
of a batch norm's output, five for a layer norm's.

| network | family | image | parameters | MACs |
|---|---|---:|---:|---:|
"""


def pictured(space: SearchSpace) -> Architecture:
    """The architecture that the page shows: of some at random, the one with the most different blocks."""
    genomes = space.sample(12, np.random.default_rng(0))

    def variety(architecture: Architecture) -> int:
        return len({(box.kind, box.main, box.more, box.shape) for box in boxes(space.ops(architecture))})

    return max((space.decode(genome) for genome in genomes), key=variety)


def page(*, folder: str = "images/spaces") -> tuple[str, Mapping[str, str]]:
    """The page, and the pictures it shows by file name.

    Args:
        folder: of the pictures, as the page refers to it.
    """
    rows = [
        "| family | what varies | genes | size | presets | supernet | costs | operations | source |",
        "|---|---|---:|---:|---|---|---|---:|---|",
    ]
    sections, pictures = [], {}
    for name in catalog.names():
        family = catalog.FAMILIES[name]
        space = catalog.get(name)
        summary, sources = _documented(name)
        listed = ", ".join(f"`{preset}`" for preset in family.presets)
        rows.append(
            f"| [{name}](#{name}) | {summary} | {len(space.genes)} | {_size(space.size)} | {listed} | "
            f"{'yes' if family.supernet else 'no'} | {'sites' if space.sites() else 'closed form'} | "
            f"{len({each.key or (each.place, each.label) for each in space.candidates()})} | {sources} |"
        )
        pictures[f"{name}.svg"] = draw_svg(space, pictured(space))
        sections.append(f"### {name}\n\n![One architecture of {name}]({folder}/{name}.svg)\n")
    networks = REFERENCES + "\n".join(_published())
    text = "\n".join([HEAD, *rows, "", networks, "", "## One architecture of each", "", *sections])
    return text, pictures


def _published() -> Iterator[str]:
    """A row for every published network."""
    for name in reference_names():
        space, architecture = reference(name)
        ops = space.ops(architecture)
        side = ops[0].inputs[0].shape[-1]
        yield f"| `{name}` | [{space.name}](#{space.name}) | {side} | {total_params(ops):,} | {total_macs(ops):,} |"


def write(docs: Path) -> None:
    """Write the page and its pictures under the folder `docs`, and remove pictures of families that are gone."""
    text, pictures = page()
    (docs / "spaces.md").write_text(text, encoding="utf-8")
    images = docs / "images" / "spaces"
    images.mkdir(parents=True, exist_ok=True)
    for old in set(images.glob("*.svg")) - {images / name for name in pictures}:
        old.unlink()
    for name, svg in pictures.items():
        (images / name).write_text(svg, encoding="utf-8")


def _documented(name: str) -> tuple[str, str]:
    """A family's one-line summary and its sources' links, from the docstring of its module."""
    module = "user_defined" if name == "custom" else name
    path = Path(__file__).parent / "families" / f"{module}.py"
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    summary = re.split(r"\.(?:\s|$)|\n\n", text, maxsplit=1)[0]
    links = list(dict.fromkeys(link.rstrip(".,;:)") for link in re.findall(r"https?://[^\s]+", text)))
    shown = ", ".join(f"[{_link_text(link)}]({link})" for link in links) or "the [gene language](your-own-space.md)"
    return " ".join(summary.split()).replace("|", "/"), shown


def _link_text(link: str) -> str:
    """How a link is called: an arXiv number, or the host."""
    found = re.search(r"arxiv\.org/abs/([\d.]+)", link)
    return f"arXiv:{found[1]}" if found else link.split("/")[2]


def _size(size: int) -> str:
    if size < 1_000_000:
        return f"{size:,}"
    exponent = len(str(size)) - 1
    return f"{size / 10**exponent:.2f}e{exponent}"


if __name__ == "__main__":
    write(Path(sys.argv[1] if len(sys.argv) > 1 else "docs"))
