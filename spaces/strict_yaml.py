"""Strict YAML: what a person wrote is what is read, or a message names the file, the line and what is allowed.

PyYAML's safe loader silently drops repeated keys, reads ``1e-3`` as text, ``no`` as False, ``017`` as 15 and
``2024-01-01`` as a date. Here a repeated key, a key that is no text, an alias and a tag are errors; scalars follow the
core schema of YAML 1.2. Only plain data is built: no Python object can come out of a file.

Source: https://yaml.org/spec/1.2.2/#103-core-schema (without octal and hexadecimal integers).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from ..errors import ConfigError

__all__ = ["join_place", "line_numbers", "load_yaml"]

_TAG = "tag:yaml.org,2002:"
_TAGS = {_TAG + name for name in ("null", "bool", "int", "float", "str", "seq", "map")}


class _StrictLoader(yaml.SafeLoader):
    """`yaml.SafeLoader` with the scalars of YAML 1.2."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - PyYAML's own name and type


# Resolvers are tried in this order: integers before the floats whose pattern they also match.
for _name, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(?:0|[1-9][0-9_]*)", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:(?:0|[1-9][0-9_]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+0123456789."),
    ),
):
    _StrictLoader.add_implicit_resolver(_TAG + _name, re.compile(rf"^(?:{_pattern})$"), _first)


def load_yaml(source: Path | str, *, place: str = "") -> dict[str, Any]:
    r"""Read one YAML mapping.

    Args:
        source: a file's `Path`, or the text itself as `str`.
        place: how errors call the source; the file's path if left out.

    Returns:
        The mapping: text keys; values None, bool, int, float, str, list and dict.

    Raises:
        ConfigError: an unreadable file, broken YAML, a repeated or non-text key, an alias, a tag, no mapping on top.

    >>> load_yaml("trials: 100\nrate: 1e-3", place="job")
    {'trials': 100, 'rate': 0.001}
    """
    node, where = _compose(source, place)
    value = _value(node, where, "")
    if not isinstance(value, dict):
        raise ConfigError(where, value, "a mapping of keys to values at the top level")
    return value


def line_numbers(source: Path | str, *, place: str = "") -> dict[str, int]:
    r"""Line (from 1) of every value by its dotted place, e.g. ``objectives[1].device``: for messages about values.

    >>> line_numbers("a: 1\nb:\n  - x\n  - y")["b[1]"]
    4
    """
    node, _ = _compose(source, place)
    lines: dict[str, int] = {}

    def visit(node: yaml.Node, path: str) -> None:
        lines[path] = node.start_mark.line + 1
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                name = join_place(path, key.value)
                visit(value, name)
                lines[name] = key.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                visit(value, f"{path}[{index}]")

    if node is not None:
        visit(node, "")
    return lines


def join_place(path: str, key: str) -> str:
    """Dotted place of `key` inside `path`."""
    return f"{path}.{key}" if path else str(key)


def _compose(source: Path | str, place: str) -> tuple[yaml.Node | None, str]:
    """The node tree of the only document, checked for aliases."""
    where = place or (str(source) if isinstance(source, Path) else "text")
    if isinstance(source, Path):
        try:
            text = source.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(where, str(source), "a readable UTF-8 file", str(error)) from error
    else:
        text = source
    try:
        for event in yaml.parse(text, Loader=_StrictLoader):
            if isinstance(event, yaml.AliasEvent):
                here = f"{where}, line {event.start_mark.line + 1}"
                raise ConfigError(here, f"*{event.anchor}", "values written out; aliases are not read")
        return yaml.compose(text, Loader=_StrictLoader), where
    except yaml.YAMLError as error:
        raise _broken(where, error) from error


def _broken(where: str, error: yaml.YAMLError) -> ConfigError:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "not YAML"
    line = f", line {mark.line + 1}" if mark is not None else ""
    return ConfigError(f"{where}{line}", str(problem), "one well-formed YAML document")


def _value(node: yaml.Node | None, where: str, path: str) -> Any:
    """Plain data of a node; errors carry the source, the line and the dotted place."""
    if node is None:
        return None
    here = f"{where}, line {node.start_mark.line + 1}"
    place = f"{here}: {path}" if path else here
    if node.tag not in _TAGS:
        raise ConfigError(place, node.tag, "plain values; tags are not read")
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, where, path)
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, where, f"{path}[{index}]") for index, item in enumerate(node.value)]
    constructor = yaml.constructor.SafeConstructor()
    try:
        return constructor.construct_object(node)
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(place, node.value, "a value of the type it is written as", str(error)) from error


def _mapping(node: yaml.MappingNode, where: str, path: str) -> dict[str, Any]:
    out: dict[str, Any] = {}
    first_line: dict[str, int] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != "tag:yaml.org,2002:str":
            shown = getattr(key_node, "value", "a list or mapping")
            raise ConfigError(
                f"{where}, line {line}: {path or 'top level'}", shown, "keys that are text; quote this one"
            )
        key = key_node.value
        place = join_place(path, key)
        if key in out:
            raise ConfigError(
                f"{where}, line {line}: {place}",
                key,
                "each key once",
                f"It is already given on line {first_line[key]}.",
            )
        first_line[key] = line
        out[key] = _value(value_node, where, place)
    return out
