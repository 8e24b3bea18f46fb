"""One evaluation behind every pool: build the evaluator once, then JSON text in, JSON text out.

Serial, local and Ray pools all run this class, so that an item gives the same result wherever it is evaluated: items
and results pass through JSON even in one process, and an exception becomes the same failed result everywhere.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from ...errors import ConfigError, PoolError

__all__ = ["Evaluate", "Evaluation", "EvaluatorSpec", "failure"]

Evaluate = Callable[[dict[str, Any]], dict[str, Any]]
"""What a factory returns: one item in, one result out, both JSON-able."""

_PACKAGE = __name__.partition(".")[0]
_REFERENCE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluatorSpec:
    """Where a worker finds its evaluator and how it builds it.

    Attributes:
        factory: ``module:function``; the function takes `config` and returns the evaluator.
        config: JSON-able settings, handed to the factory once per worker.
        import_root: folder that holds the factory's module, for factories outside this package (tests, benchmarks,
            user scripts). Without it only modules of this package are accepted, so that no stored job can name code.
    """

    factory: str
    config: dict[str, Any]
    import_root: str | None = None

    def __post_init__(self) -> None:
        if not _REFERENCE.fullmatch(self.factory):
            raise ConfigError("factory", self.factory, "'module:function'")
        module = self.factory.partition(":")[0]
        if self.import_root is None and module.partition(".")[0] != _PACKAGE:
            raise ConfigError("factory", self.factory, f"a module of {_PACKAGE}", "Name its folder in `import_root`.")
        if self.import_root is not None and not Path(self.import_root).is_dir():
            raise ConfigError("import_root", self.import_root, "an existing folder")
        try:
            json.dumps(self.config)
        except (TypeError, ValueError) as error:
            raise ConfigError("config", self.config, "JSON-able values", str(error)) from error

    def to_json(self) -> str:
        """One line of JSON from which a worker rebuilds the spec."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> EvaluatorSpec:
        """Undo `to_json`."""
        return cls(**json.loads(text))

    def build(self) -> Evaluate:
        """Import the module and call the factory.

        Raises:
            PoolError: the module or function is missing, or the factory failed; the cause is in the message.
        """
        if self.import_root is not None and self.import_root not in sys.path:
            sys.path.append(self.import_root)
        module, _, function = self.factory.partition(":")
        try:
            evaluate = getattr(importlib.import_module(module), function)(json.loads(json.dumps(self.config)))
        except Exception as error:  # whatever the factory raises is reported to the process that opened the pool
            raise PoolError(f"Evaluator {self.factory!r} could not be built: {describe(error)}.") from error
        if not callable(evaluate):
            raise PoolError(
                f"Evaluator {self.factory!r} returned {type(evaluate).__name__}; it must return a function."
            )
        return cast(Evaluate, evaluate)


class Evaluation:
    """A built evaluator that never raises: `run` maps one item's JSON to its result's JSON."""

    def __init__(self, spec: EvaluatorSpec) -> None:
        self._evaluate = spec.build()

    def run(self, item: str) -> str:
        """Evaluate one item.

        Args:
            item: JSON object.

        Returns:
            The result's JSON; for an exception that of `failure`.
        """
        try:
            result = self._evaluate(json.loads(item))
            if not isinstance(result, dict):
                raise TypeError(f"the evaluator returned {type(result).__name__}; it must return a dict")
            return json.dumps(result)
        except (Exception, SystemExit) as error:  # one item's failure must never cost the others
            return json.dumps(failure(describe(error)))


def describe(error: BaseException) -> str:
    """Type, message and innermost place of an exception, on one line."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{place}"


def failure(error: str) -> dict[str, Any]:
    """The result of an item that could not be evaluated.

    >>> failure("ValueError: no such layer")
    {'error': 'ValueError: no such layer', 'status': 'failed'}
    """
    return {"error": error, "status": "failed"}
