"""The gene language: describe a search space of your own as a tree of building blocks and choices.

A definition is a tree. Leaves are building blocks (`block`); `sequence`, `residual`, `branches`, `choose` and `repeat`
combine them; any parameter of a block may be a choice (`one_of`) or refer to a gene declared for the whole space
(`shared`). What is chosen inside an option of `choose`, or inside a repetition that is not there, is active only when
that option or repetition is: nested, conditional and repeated choices need no further words.

    space = build(Definition(
        name="two-stage", channels=1, resolution=11,
        body=sequence(
            block("conv", out=16, stride=2, name="stem"),
            repeat(one_of(1, 2, 3), residual(block("inverted_bottleneck", kernel=one_of(3, 5))), name="stage"),
            block("global_pool"),
            block("linear", out=10),
        ),
    ))

The same as YAML, read by `definition.py`, has the same words.

Source: the tree-shaped spaces of Negrinho and Gordon, DeepArchitect, 2017, https://arxiv.org/abs/1704.08792; the
building blocks are those of the families here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal

from ..errors import ConfigError
from .architecture import Value
from .gene import Gene
from .op import ACTIVATIONS

__all__ = [
    "BLOCKS",
    "Block",
    "Branches",
    "Choose",
    "Definition",
    "Node",
    "OneOf",
    "Parameter",
    "Repeat",
    "Residual",
    "Sequence",
    "Shared",
    "allowed_value",
    "block",
    "branches",
    "check_name",
    "choose",
    "one_of",
    "repeat",
    "residual",
    "sequence",
    "shared",
]

REQUIRED: Final = None
"""Default of a parameter that must be given."""

SAME: Final = 0
"""Value of `out` and `padding` that means: as many channels as come in; padding that keeps the size at stride 1."""


@dataclass(frozen=True, slots=True)
class OneOf:
    """A choice among `values`: one gene. Numbers in ascending order make an ordered gene, others a categorical one."""

    values: tuple[Value, ...]
    default: Value | None = None

    def gene(self, name: str) -> Gene:
        """The gene called `name`, without conditions."""
        numbers = [value for value in self.values if isinstance(value, int | float) and not isinstance(value, bool)]
        ordered = len(numbers) == len(self.values) and numbers == sorted(numbers)
        default = 0 if self.default is None else self.values.index(self.default)
        return Gene(name, self.values, kind="ordered" if ordered else "categorical", default=default)


@dataclass(frozen=True, slots=True)
class Shared:
    """The value of the gene `gene` of the definition, `times` a factor (rounded down for whole numbers)."""

    gene: str
    times: int | float = 1

    def value(self, chosen: Value) -> Value:
        """What the parameter is when the gene has the value `chosen`."""
        if self.times == 1 or isinstance(chosen, bool | str | tuple):
            return chosen
        product = chosen * self.times
        return int(product) if isinstance(chosen, int) else product


Parameter = Value | OneOf | Shared


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One building block: a key of `BLOCKS` and its parameters."""

    kind: str
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    name: str = ""

    def __post_init__(self) -> None:
        if self.kind not in BLOCKS:
            raise ConfigError("block", self.kind, f"one of {', '.join(sorted(BLOCKS))}")
        defaults = BLOCKS[self.kind]
        for key, value in self.parameters.items():
            if key not in defaults:
                raise ConfigError(f"{self.kind}.{key}", key, f"one of {', '.join(defaults) or 'no parameters'}")
            check_parameter(f"{self.kind}.{key}", key, value)
            if (self.kind, key) in SINGLE and isinstance(value, OneOf | Shared):
                hint = "Choose between two blocks instead."
                raise ConfigError(f"{self.kind}.{key}", "a choice", "a single value", hint)
        for key, default in defaults.items():
            if default is REQUIRED and key not in self.parameters:
                raise ConfigError(f"{self.kind}.{key}", None, ALLOWED[key][0], "It must be given.")
        complete = {key: self.parameters.get(key, default) for key, default in defaults.items()}
        object.__setattr__(self, "parameters", MappingProxyType(complete))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequence:
    """Parts one after the other."""

    parts: tuple[Node, ...]
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Residual:
    """The input plus what `body` makes of it; both must have one shape whatever is chosen."""

    body: Node
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Branches:
    """Parts that read the same input; their outputs are added or concatenated (channels)."""

    parts: tuple[Node, ...]
    merge: Literal["add", "concat"] = "add"
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choose:
    """One of `options`: a gene of its own, or the declared gene `by` whose values are the options' names."""

    options: Mapping[str, Node]
    by: str = ""
    default: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """`body` a number of times; every repetition has choices of its own unless they are `tied`."""

    times: int | OneOf | Shared
    body: Node
    tied: bool = False
    name: str = ""


Node = Block | Sequence | Residual | Branches | Choose | Repeat


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """A search space as its user describes it.

    Attributes:
        name: of the space.
        channels: of the image that enters.
        resolution: side of that image.
        genes: choices that several places share, by name; they are always active.
        body: what is built.
    """

    name: str
    channels: int
    resolution: int
    body: Node
    genes: Mapping[str, OneOf] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_name("name", self.name)
        for key in ("channels", "resolution"):
            value = getattr(self, key)
            if not _whole(1)(value):
                raise ConfigError(f"input.{key}", value, "a whole number of at least 1")


# --- the words in Python --------------------------------------------------------------------------------------------


def block(kind: str, *, name: str = "", **parameters: Parameter) -> Block:
    """A building block.

    >>> block("conv", out=16).parameters["kernel"]
    3
    """
    return Block(kind=kind, parameters=parameters, name=name)


def one_of(*values: Value, default: Value | None = None) -> OneOf:
    """A choice among values."""
    _check_values("one_of", values, default)
    return OneOf(values, default)


def shared(gene: str, *, times: int | float = 1) -> Shared:
    """The value of a gene that the definition declares."""
    return Shared(gene, times)


def sequence(*parts: Node, name: str = "") -> Sequence:
    """Parts one after the other."""
    return Sequence(parts=parts, name=name)


def residual(*parts: Node, name: str = "") -> Residual:
    """The input plus what the parts, one after the other, make of it."""
    return Residual(body=parts[0] if len(parts) == 1 else Sequence(parts=parts), name=name)


def branches(*parts: Node, merge: Literal["add", "concat"] = "add", name: str = "") -> Branches:
    """Parts that read the same input."""
    return Branches(parts=parts, merge=merge, name=name)


def choose(options: Mapping[str, Node], *, by: str = "", default: str = "", name: str = "") -> Choose:
    """One of several parts."""
    return Choose(options=options, by=by, default=default, name=name)


def repeat(times: int | OneOf | Shared, *parts: Node, tied: bool = False, name: str = "") -> Repeat:
    """The parts, one after the other, a number of times."""
    return Repeat(times=times, body=parts[0] if len(parts) == 1 else Sequence(parts=parts), tied=tied, name=name)


# --- what is allowed ------------------------------------------------------------------------------------------------


def _whole(least: int) -> Callable[[object], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value <= 65_536


def _number(low: float, high: float) -> Callable[[object], bool]:
    return lambda value: isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


_FUNCTIONS = ", ".join(sorted(ACTIVATIONS))

ALLOWED: Final[Mapping[str, tuple[str, Callable[[object], bool]]]] = MappingProxyType({
    "activation": (f"one of {_FUNCTIONS}, or '' for none", lambda value: value == "" or value in ACTIVATIONS),
    "bias": ("true or false", lambda value: isinstance(value, bool)),
    "dilation": ("a whole number of at least 1", _whole(1)),
    "expansion": ("a number from 0.1 to 64", _number(0.1, 64)),
    "function": (f"one of {_FUNCTIONS}", lambda value: value in ACTIVATIONS),
    "groups": ("a whole number of at least 1", _whole(1)),
    "kernel": ("a whole number of at least 1", _whole(1)),
    "norm": ("true or false", lambda value: isinstance(value, bool)),
    "out": ("a whole number of at least 1, or 0 for as many channels as come in", _whole(0)),
    "p": ("a probability from 0 to 1", _number(0, 1)),
    "padding": ("a whole number of at least 0; 0 keeps the size at stride 1", _whole(0)),
    "ratio": ("a number above 0, up to 1", _number(1e-6, 1)),
    "sigma": ("a number of at least 0", _number(0, 1e6)),
    "squeeze": ("a number from 0 (none) to 1", _number(0, 1)),
    "stride": ("a whole number of at least 1", _whole(1)),
})  # fmt: skip
"""What each parameter may be, in words and as a test."""

_WINDOW: Final[Mapping[str, Value | None]] = MappingProxyType(
    {"kernel": 3, "stride": 1, "dilation": 1, "padding": SAME, "norm": True, "activation": "relu"}
)

BLOCKS: Final[Mapping[str, Mapping[str, Value | None]]] = MappingProxyType({
    "activation": {"function": "relu"},
    "avg_pool": {"kernel": 3, "stride": 1},
    "conv": {"out": SAME, **_WINDOW, "groups": 1},
    "conv_transpose": {"out": SAME, "kernel": 3, "stride": 1, "norm": True, "activation": "relu"},
    "depthwise": dict(_WINDOW),
    "dropout": {"p": REQUIRED},
    "global_pool": {},
    "identity": {},
    "inverted_bottleneck": {
        "out": SAME, "kernel": 3, "stride": 1, "expansion": 4, "activation": "relu", "squeeze": 0,
    },
    "linear": {"out": REQUIRED, "bias": True},
    "max_pool": {"kernel": 3, "stride": 1},
    "noise": {"sigma": REQUIRED},
    "norm": {},
    "squeeze_excite": {"ratio": 0.25, "activation": "relu"},
    "zero": {},
})  # fmt: skip
"""Every building block, and the defaults of its parameters."""

SINGLE: Final = frozenset({("inverted_bottleneck", "activation"), ("squeeze_excite", "activation")})
"""Parameters that may not be choices: the blocks' shared layers have one activation."""

MODULE_WORDS: Final = frozenset({
    "T_destination", "add_module", "apply", "bfloat16", "bias", "buffers", "call_super_init", "children", "compile",
    "cpu", "cuda", "dims", "double", "dump_patches", "eval", "extra_repr", "float", "forward", "get_buffer",
    "get_extra_state", "get_parameter", "get_submodule", "half", "ipu", "keys", "load_state_dict", "modules",
    "mtia", "named_buffers", "named_children", "named_modules", "named_parameters", "parameters",
    "register_backward_hook", "register_buffer", "register_forward_hook", "register_forward_pre_hook",
    "register_full_backward_hook", "register_full_backward_pre_hook", "register_load_state_dict_post_hook",
    "register_load_state_dict_pre_hook", "register_module", "register_parameter", "register_state_dict_post_hook",
    "register_state_dict_pre_hook", "requires_grad_", "set_extra_state", "set_submodule", "share_memory",
    "state_dict", "to", "to_empty", "train", "training", "type", "xpu", "zero_grad"
})  # fmt: skip
"""Names that torch modules already use for something else."""


def allowed_value(key: str, value: object) -> str:
    """What the parameter `key` may be, in words; "" where `value` already is."""
    text, test = ALLOWED[key]
    return "" if test(value) else text


def check_parameter(place: str, key: str, value: object) -> None:
    """Raise ConfigError naming `place` unless `value` is an allowed parameter, choice or reference."""
    if isinstance(value, Shared):
        return
    values = value.values if isinstance(value, OneOf) else (value,)
    for each in values:
        if allowed := allowed_value(key, each):
            raise ConfigError(place, each, allowed)


def check_name(place: str, name: object) -> str:
    """`name`, if it can name a part of a network; raises ConfigError naming `place`."""
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name) or name in MODULE_WORDS:
        raise ConfigError(place, name, "letters, digits, - and _, but no word that torch modules use (e.g. train)")
    return name


def _check_values(place: str, values: tuple[object, ...], default: object) -> None:
    if not values or len(set(values)) != len(values):
        raise ConfigError(place, list(values), "at least one value, all different")
    if default is not None and default not in values:
        raise ConfigError(f"{place} default", default, f"one of {list(values)}")
