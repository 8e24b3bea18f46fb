"""The documents keep their promises: links resolve, commands exist, examples in docstrings run."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
CODE_FOLDERS = ["spaces", "hwmodels", "predictors", "search", "service"]
MODULES = sorted(
    path.relative_to(ROOT)
    for folder in CODE_FOLDERS
    for path in (ROOT / folder).rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)


def anchors(document: Path) -> set[str]:
    """The fragments of a document's headings, as code hosts build them."""
    headings = re.findall(r"^#+ +(.+?)\s*$", without_code(document), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def without_code(document: Path) -> str:
    return re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_resolve_to_files_and_headings(document: Path) -> None:
    dead = []
    for link in re.findall(r"\]\(([^)\s]+)\)", without_code(document)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, fragment = link.partition("#")
        target = (document.parent / name).resolve() if name else document
        if not target.exists() or (fragment and fragment not in anchors(target)):
            dead.append(link)
    assert dead == []


def test_make_targets_named_in_documents_exist() -> None:
    targets = set(re.findall(r"^([a-z.]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    named = {
        (document.name, target)
        for document in DOCUMENTS
        for target in re.findall(r"(?:`|^|\$ )make ([a-z.]+)", document.read_text(encoding="utf-8"), flags=re.MULTILINE)
    }
    assert {(document, target) for document, target in named if target not in targets} == set()


def test_archsmith_commands_named_in_documents_exist() -> None:
    command = [sys.executable, "-c", "from archsmith.service.cli import main; main()", "--help"]
    help_text = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    offered = set(re.findall(r"^\W*([a-z][a-z-]+)\s{2,}", help_text, flags=re.MULTILINE))
    assert "run" in offered, f"`archsmith --help` listed no command `run`: {help_text!r}"
    named = {
        (document.name, name)
        for document in DOCUMENTS
        for name in re.findall(
            r"(?:`|^|\$ |bin/)archsmith ([a-z][a-z-]+)", document.read_text(encoding="utf-8"), re.MULTILINE
        )
    }
    assert {(document, name) for document, name in named if name not in offered} == set()


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_doctests_run(path: Path) -> None:
    module = importlib.import_module(".".join(("archsmith", *path.with_suffix("").parts)))
    outcome = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert outcome.failed == 0
    # Examples that Python does not see (in a comment, after a misplaced string) would never run.
    assert any(test.examples for test in doctest.DocTestFinder().find(module))
