"""Class folders: which files belong to which class and split, for images and for sounds."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from ...errors import TaskError
from .images import SPLIT_SHARES, stratified_split

__all__ = ["ClassFolders", "read_folders"]

VALID_NAMES: Final = ("valid", "val", "validation")
_VALID_SHARE: Final = 0.1
"""Of the training files, where they have a folder of their own but a validation or test split has none."""
_HASHED_BYTES: Final = 256 * 2**20
"""The content of the files decides the identity up to this total; beyond it, their names and sizes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassFolders:
    """Files with their classes, by split.

    Attributes:
        root: the folder.
        classes: names, sorted; a label is a place in this list.
        files: of ``train``, ``valid`` and ``test``: pairs of a file and its label.
    """

    root: Path
    classes: tuple[str, ...]
    files: Mapping[str, tuple[tuple[Path, int], ...]]

    def digest(self) -> str:
        """Stable name of the data: of names and labels, and of contents while these are small enough to read twice."""
        members = [(split, file, label) for split, files in self.files.items() for file, label in files]
        small = sum(file.stat().st_size for _, file, _ in members) <= _HASHED_BYTES
        content = hashlib.sha256(repr(self.classes).encode())
        for split, file, label in members:
            content.update(f"{split} {label} {file.relative_to(self.root).as_posix()} {file.stat().st_size}\n".encode())
            if small:
                content.update(file.read_bytes())
        return content.hexdigest()


def read_folders(
    path: str,
    suffixes: Sequence[str],
    *,
    what: str,
    val_as: str = "valid",
    listed: Mapping[str, frozenset[str]] | None = None,
) -> ClassFolders:
    """Find the files of every class and split.

    Layouts. One folder per class: each class is split at random, but always alike, by `SPLIT_SHARES`; or as `listed`.
    A folder ``train`` (and ``val``, ``test``) with one folder per class in it: as named. What is not there is cut from
    ``train``, a tenth of each class. Folders whose names start with ``.`` or ``_`` are no classes.

    Args:
        path: the folder.
        suffixes: of files that count, lower case, with the dot.
        what: such a file in words, for messages.
        val_as: the split that a folder ``val`` is, ``valid`` or ``test``.
        listed: of ``valid`` and ``test``, paths below the folder, with ``/``, as Speech Commands lists them.

    Raises:
        TaskError: no folder, fewer than two classes, a class without files or too few to split; each is named.
    """
    root = Path(path).expanduser().resolve()
    if not root.is_dir():
        raise TaskError(f"there is no folder {str(root)!r}; give `path` a folder with one folder of files per class.")
    named = _named_splits(root, val_as)
    first = named.get("train", root)
    classes = tuple(folder.name for folder in _subfolders(first))
    if len(classes) < 2:
        raise TaskError(f"{str(first)!r} holds {len(classes)} class folders; at least 2 are needed.")
    found = {split: _members(folder, classes, suffixes, what) for split, folder in (named or {"train": root}).items()}
    if not named and listed:
        found = _as_listed(root, found["train"], listed)
    return ClassFolders(root=root, classes=classes, files=_fill(found, bool(named), root))


def _named_splits(root: Path, val_as: str) -> dict[str, Path]:
    if not (root / "train").is_dir():
        return {}
    named = {"train": root / "train"}
    for name in VALID_NAMES:
        if (root / name).is_dir():
            named[val_as] = root / name
    if (root / "test").is_dir():
        if "test" in named:
            raise TaskError(f"{str(root)!r} has a folder test; so the option val cannot make the validation folder it.")
        named["test"] = root / "test"
    return named


def _subfolders(folder: Path) -> list[Path]:
    return sorted(item for item in folder.iterdir() if item.is_dir() and not item.name.startswith((".", "_")))


def _members(folder: Path, classes: Sequence[str], suffixes: Sequence[str], what: str) -> tuple[tuple[Path, int], ...]:
    for item in _subfolders(folder):
        if item.name not in classes:
            raise TaskError(f"class folder {str(item)!r} has no counterpart in the training folder.")
    members: list[tuple[Path, int]] = []
    for label, name in enumerate(classes):
        files = sorted(file for file in _walk(folder / name) if file.suffix.lower() in suffixes)
        if not files:
            raise TaskError(
                f"class folder {str(folder / name)!r} is empty: it has no {what} ({', '.join(suffixes)}); "
                "add some or remove the folder."
            )
        members += ((file, label) for file in files)
    return tuple(members)


def _walk(folder: Path) -> Iterable[Path]:
    return folder.rglob("*") if folder.is_dir() else ()


def _as_listed(
    root: Path, members: tuple[tuple[Path, int], ...], listed: Mapping[str, frozenset[str]]
) -> dict[str, tuple[tuple[Path, int], ...]]:
    split_of = {name: split for split, names in listed.items() for name in names}
    found: dict[str, list[tuple[Path, int]]] = {"train": [], **{split: [] for split in listed}}
    for file, label in members:
        found[split_of.get(file.relative_to(root).as_posix(), "train")].append((file, label))
    return {split: tuple(files) for split, files in found.items()}


def _fill(
    found: Mapping[str, tuple[tuple[Path, int], ...]], separate: bool, root: Path
) -> dict[str, tuple[tuple[Path, int], ...]]:
    """All three splits; what is missing is cut from the training files, class by class."""
    missing = [split for split in ("valid", "test") if not found.get(split)]
    train = found["train"]
    parts = dict(found)
    if missing:
        shares = {split: _VALID_SHARE if separate or len(missing) == 1 else SPLIT_SHARES[split] for split in missing}
        labels = np.asarray([label for _, label in train], dtype=np.int64)
        rows = stratified_split(labels, {"train": 1 - sum(shares.values()), **shares})
        parts |= {split: tuple(train[row] for row in members) for split, members in rows.items()}
    for split, files in parts.items():
        if not files:
            raise TaskError(
                f"{str(root)!r}: split {split} has no files; every class has too few ({len(train)} in all)."
            )
    return parts
