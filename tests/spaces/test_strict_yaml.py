from __future__ import annotations

import pytest

from archsmith.errors import ConfigError
from archsmith.spaces.strict_yaml import line_numbers, load_yaml


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1e-3", 0.001),
        ("-1.5e+3", -1500.0),
        (".5", 0.5),
        ("1_000", 1000),
        ("017", "017"),
        ("no", "no"),
        ("true", True),
        ("2024-01-01", "2024-01-01"),
        ("~", None),
        ("'5'", "5"),
        ("[1, {x: 2.5}]", [1, {"x": 2.5}]),
        ("", None),
    ],
)
def test_scalar_follows_core_schema(text, expected):
    value = load_yaml(f"key: {text}")["key"]
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb:\n  c: 1\n  c: 2", r"job\.yaml, line 4: b\.c: got 'c'; allowed: each key once.*line 3"),
        ("a: &x 1\nb: *x", r"job\.yaml, line 2: got '\*x'"),
        ("a: !!python/object:os.system x", r"line 1: a: .*tags are not read"),
        ("- 1", "a mapping of keys"),
        ("", "a mapping of keys"),
        ("1: 2", "keys that are text"),
        ("a: [", r"job\.yaml, line 1: .*well-formed"),
        ("a: 1\n---\nb: 2", "one well-formed YAML document"),
        ("a: \x00", "well-formed"),
        ("a: !!int x", "line 1: a"),
    ],
)
def test_broken_text_is_an_error_that_names_the_place(text, message):
    with pytest.raises(ConfigError, match=message):
        load_yaml(text, place="job.yaml")


def test_file_is_read_and_named_in_errors(tmp_path):
    path = tmp_path / "job.yaml"
    path.write_text("a: 1\n")
    assert load_yaml(path) == {"a": 1}
    path.write_bytes(b"a: \xff")
    with pytest.raises(ConfigError, match=r"job\.yaml.*UTF-8"):
        load_yaml(path)
    with pytest.raises(ConfigError, match="a readable UTF-8 file"):
        load_yaml(tmp_path / "missing.yaml")


def test_line_numbers_of_nested_places():
    lines = line_numbers("a: 1\nb:\n  - x\n  - c: 2\n    d: 3")
    assert (lines["a"], lines["b"], lines["b[1]"], lines["b[1].d"]) == (1, 2, 4, 5)
