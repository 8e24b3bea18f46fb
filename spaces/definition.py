r"""Definitions as plain data: the YAML and JSON forms of the gene language, read strictly.

A list is a sequence. A mapping has one word (a building block, or one of branches, choose, repeat, residual) and what
belongs to it; a block without parameters may be written as its name alone. `{one_of: [...]}` is a choice,
`{gene: width, times: 2}` refers to a declared one.

    name: two-stage
    input: {channels: 1, resolution: 11}
    genes:
      width: {one_of: [16, 24, 32]}
    body:
      - conv: {out: {gene: width}, stride: 2}
        name: stem
      - repeat:
          - residual:
              - inverted_bottleneck: {kernel: {one_of: [3, 5]}}
        times: {one_of: [1, 2, 3]}
      - global_pool
      - linear: {out: 10}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from .language import (
    BLOCKS,
    Block,
    Branches,
    Choose,
    Definition,
    Node,
    OneOf,
    Parameter,
    Repeat,
    Residual,
    Sequence,
    Shared,
    check_parameter,
)  # fmt: skip

if TYPE_CHECKING:
    from .space import SearchSpace

__all__ = ["build", "definition_data", "definition_text", "load", "parse_definition", "read_definition"]

COMBINING = {
    "branches": ("merge",),
    "choose": ("by", "default"),
    "repeat": ("times", "tied"),
    "residual": (),
    "sequence": (),
}
"""Words that combine parts, and the keys that may stand beside them (`name` always may)."""

MAX_DEPTH = 24
"""Levels of nesting: more is a mistake, and reading must end."""

MAX_PARTS = 2_000
"""Parts of one definition."""


def load(source: Path | str) -> SearchSpace:
    """The space that a YAML file describes (a `Path`, or the name of a `.yaml` or `.yml` file) or a YAML text does.

    Raises:
        ConfigError: what is wrong, with its place and, for a file, its line.
        SpaceError: choices under which parts do not fit together.
    """
    return build(read_definition(source))


def build(definition: Definition) -> SearchSpace:
    """The space of a definition."""
    from .families.user_defined import UserSpace

    return UserSpace(definition)


def read_definition(source: Path | str) -> Definition:
    """The definition in a YAML file or text (JSON is YAML); see `load`."""
    if isinstance(source, str) and "\n" not in source and source.endswith((".yaml", ".yml")):
        source = Path(source)
    from .strict_yaml import line_numbers, load_yaml  # spaces given in code need no YAML package

    data = load_yaml(source, place="" if isinstance(source, Path) else "definition")
    try:
        return parse_definition(data)
    except ConfigError as error:
        line = _line(error.place, line_numbers(source))
        where = f"{source}, line {line}" if isinstance(source, Path) else f"line {line}"
        raise ConfigError(f"{where}: {error.place}", error.value, error.allowed, error.hint) from error


def _line(place: str, lines: Mapping[str, int]) -> int:
    """Line of the value at a place, or of what should hold it."""
    while place and place not in lines:
        cut = max(place.rfind("."), place.rfind("["))
        place = place[: max(cut, 0)]
    return lines.get(place, 1)


def parse_definition(data: object) -> Definition:
    """A definition from plain data; raises ConfigError with the dotted place of what is wrong."""
    top = _mapping("definition", data, required=("name", "input", "body"), allowed=("genes",))
    size = _mapping("input", top["input"], required=("channels", "resolution"))
    genes = _mapping("genes", top.get("genes", {}), free=True)
    choices = {name: _one_of(f"genes.{name}", value) for name, value in genes.items()}
    reader = _Reader()
    body = reader.node("body", top["body"])
    return Definition(
        name=top["name"], channels=size["channels"], resolution=size["resolution"], genes=choices, body=body
    )


class _Reader:
    """Reads nodes and counts them."""

    def __init__(self) -> None:
        self.count = 0

    def node(self, place: str, data: object, depth: int = 0) -> Node:
        """A node from plain data at a place."""
        self.count += 1
        if depth > MAX_DEPTH or self.count > MAX_PARTS:
            raise ConfigError(place, "…", f"at most {MAX_DEPTH} levels of nesting and {MAX_PARTS} parts")
        if isinstance(data, list):
            return Sequence(parts=self.parts(place, data, depth))
        if isinstance(data, str):
            data = {data: {}}
        if not isinstance(data, dict):
            raise ConfigError(place, data, "a list of parts, the name of a block, or a mapping with one word")
        words = [key for key in data if key in BLOCKS or key in COMBINING]
        if len(words) != 1:
            known = ", ".join(sorted([*BLOCKS, *COMBINING]))
            raise ConfigError(place, sorted(data), f"exactly one of {known}")
        (word,) = words
        name = data.get("name", "")
        if not isinstance(name, str):
            raise ConfigError(f"{place}.name", name, "text")
        beside = ("name", *COMBINING.get(word, ()))
        if stray := [key for key in data if key != word and key not in beside]:
            raise ConfigError(f"{place}.{stray[0]}", stray[0], f"beside {word}: {', '.join(beside)}")
        if word in BLOCKS:
            return self.block(f"{place}.{word}", word, data[word], name)
        return self.combining(place, word, data, depth)

    def parts(self, place: str, data: object, depth: int) -> tuple[Node, ...]:
        """The nodes of a list."""
        if not isinstance(data, list) or not data:
            raise ConfigError(place, data, "a list with at least one part")
        return tuple(self.node(f"{place}[{index}]", item, depth + 1) for index, item in enumerate(data))

    def block(self, place: str, kind: str, data: object, name: str) -> Block:
        """A building block."""
        given = {} if data is None else data
        values = _mapping(place, given, allowed=tuple(BLOCKS[kind]))
        parameters = {key: _parameter(f"{place}.{key}", key, value) for key, value in values.items()}
        try:
            return Block(kind=kind, parameters=parameters, name=name)
        except ConfigError as error:
            raise ConfigError(
                f"{place}.{error.place.rpartition('.')[2]}", error.value, error.allowed, error.hint
            ) from error

    def combining(self, place: str, word: str, data: Mapping[str, Any], depth: int) -> Node:
        """A node that combines others."""
        name, inner, here = data.get("name", ""), data[word], f"{place}.{word}"
        if word == "choose":
            options = _mapping(here, inner, free=True)
            if not options:
                raise ConfigError(here, inner, "at least one named option")
            nodes = {label: self.node(f"{here}.{label}", item, depth + 1) for label, item in options.items()}
            texts = {key: _text(f"{place}.{key}", data.get(key, "")) for key in ("by", "default")}
            return Choose(options=nodes, name=name, **texts)
        if word == "branches":
            merge = data.get("merge", "add")
            if merge not in {"add", "concat"}:
                raise ConfigError(f"{place}.merge", merge, "add or concat")
            return Branches(parts=self.parts(here, inner, depth), merge=merge, name=name)
        body = self.node(here, inner, depth + 1)
        if word == "residual":
            return Residual(body=body, name=name)
        if word == "sequence":
            parts = body.parts if isinstance(body, Sequence) else (body,)
            return Sequence(parts=parts, name=name)
        tied = data.get("tied", False)
        if not isinstance(tied, bool):
            raise ConfigError(f"{place}.tied", tied, "true or false")
        if "times" not in data:
            raise ConfigError(f"{place}.times", None, "a whole number, {one_of: [...]} or {gene: name}")
        return Repeat(times=_times(f"{place}.times", data["times"]), body=body, tied=tied, name=name)


def _times(place: str, value: object) -> int | OneOf | Shared:
    made = _reference(place, value)
    if isinstance(made, OneOf | Shared):
        return made
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise ConfigError(place, value, "a whole number, {one_of: [...]} or {gene: name}")


def _parameter(place: str, key: str, value: object) -> Parameter:
    made = _reference(place, value)
    check_parameter(place, key, made)
    return made  # type: ignore[return-value]  # just checked


def _reference(place: str, value: object) -> object:
    """A choice or a reference where the value is one, otherwise the value."""
    if not isinstance(value, dict):
        return value
    if "gene" in value:
        given = _mapping(place, value, required=("gene",), allowed=("times",))
        times = given.get("times", 1)
        if not isinstance(times, int | float) or isinstance(times, bool) or times <= 0:
            raise ConfigError(f"{place}.times", times, "a number above 0")
        return Shared(_text(f"{place}.gene", given["gene"]), times)
    return _one_of(place, value)


def _one_of(place: str, value: object) -> OneOf:
    given = _mapping(place, value, required=("one_of",), allowed=("default",))
    values = given["one_of"]
    if not isinstance(values, list) or not values or not all(isinstance(v, bool | int | float | str) for v in values):
        raise ConfigError(f"{place}.one_of", values, "a list of numbers, words or true and false")
    if len(set(values)) != len(values):
        raise ConfigError(f"{place}.one_of", values, "values that all differ")
    if given.get("default") is not None and given["default"] not in values:
        raise ConfigError(f"{place}.default", given["default"], f"one of {values}")
    return OneOf(tuple(values), given.get("default"))


def _text(place: str, value: object) -> str:
    if not isinstance(value, str):
        raise ConfigError(place, value, "a name")
    return value


def _mapping(
    place: str, data: object, *, required: tuple[str, ...] = (), allowed: tuple[str, ...] = (), free: bool = False
) -> dict[str, Any]:
    """`data`, if it is a mapping with these keys; `free` allows any."""
    keys = (*required, *allowed)
    if not isinstance(data, dict):
        raise ConfigError(place, data, f"a mapping{'' if free else ' with ' + (', '.join(keys) or 'nothing in it')}")
    inside = "" if place == "definition" else f"{place}."
    if not free and (stray := [key for key in data if key not in keys]):
        raise ConfigError(f"{inside}{stray[0]}", stray[0], f"one of {', '.join(keys) or 'nothing'}")
    if missing := [key for key in required if key not in data]:
        raise ConfigError(f"{inside}{missing[0]}", None, f"{missing[0]}, which must be given")
    return data


# --- back to plain data ---------------------------------------------------------------------------------------------


def definition_data(definition: Definition) -> dict[str, Any]:
    """The plain data that reads back as `definition`."""
    data: dict[str, Any] = {
        "name": definition.name,
        "input": {"channels": definition.channels, "resolution": definition.resolution},
    }
    if definition.genes:
        data["genes"] = {name: _value_data(choice) for name, choice in definition.genes.items()}
    return data | {"body": _node_data(definition.body)}


def definition_text(definition: Definition) -> str:
    """The definition as one line of JSON, always the same for the same definition."""
    return json.dumps(definition_data(definition), separators=(",", ":"))


def _value_data(value: Parameter) -> Any:
    if isinstance(value, OneOf):
        default = {} if value.default is None else {"default": value.default}
        return {"one_of": list(value.values)} | default
    if isinstance(value, Shared):
        return {"gene": value.gene} | ({} if value.times == 1 else {"times": value.times})
    return value


def _node_data(node: Node) -> Any:
    name = {"name": node.name} if node.name else {}
    if isinstance(node, Block):
        given = {k: _value_data(v) for k, v in node.parameters.items() if v != BLOCKS[node.kind][k]}
        return {node.kind: given} | name
    if isinstance(node, Sequence):
        parts = [_node_data(part) for part in node.parts]
        return {"sequence": parts} | name if name else parts
    if isinstance(node, Residual):
        return {"residual": _node_data(node.body)} | name
    if isinstance(node, Branches):
        return {"branches": [_node_data(part) for part in node.parts], "merge": node.merge} | name
    if isinstance(node, Repeat):
        return {"repeat": _node_data(node.body), "times": _value_data(node.times), "tied": node.tied} | name
    beside = {key: value for key, value in (("by", node.by), ("default", node.default)) if value}
    return {"choose": {label: _node_data(option) for label, option in node.options.items()}} | beside | name
