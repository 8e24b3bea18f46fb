"""A Pareto front on the client's side: members, a table, a plot."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ...errors import ArchsmithError
from ..schemas import resources

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

__all__ = ["Front", "MissingExtraError"]


class MissingExtraError(ArchsmithError, ImportError):
    """An optional dependency is not installed."""


class Front:
    """The non-dominated feasible trials of a search.

    Args:
        resource: as the API returned it.

    Attributes:
        labels: of the objectives, e.g. ``accuracy`` and ``latency_ms@host``.
    """

    def __init__(self, resource: resources.Front) -> None:
        self.resource = resource
        self.labels = [objective.label for objective in resource.objectives]

    def __len__(self) -> int:
        return len(self.resource.members)

    def __iter__(self) -> Iterator[resources.FrontMember]:
        return iter(self.resource.members)

    @property
    def view(self) -> resources.View:
        """``believed`` or ``verified``."""
        return self.resource.view

    @property
    def hypervolume(self) -> float | None:
        """Of the front, relative to the search's reference point."""
        return self.resource.hypervolume

    def to_pandas(self) -> pandas.DataFrame:
        """One row per member, by trial number: the objectives' values, the key, and where each value comes from."""
        try:
            import pandas
        except ImportError as error:
            raise _missing("to_pandas()", "pandas") from error
        rows: list[dict[str, Any]] = [
            {
                "number": member.number,
                **{label: member.values.get(label) for label in self.labels},
                "arch_key": member.arch_key,
                **{f"{label} source": member.sources.get(label, "") for label in self.labels},
            }
            for member in self.resource.members
        ]
        columns = ["number", *self.labels, "arch_key", *(f"{label} source" for label in self.labels)]
        return pandas.DataFrame(rows, columns=columns).set_index("number")

    def plot(self, x: str | None = None, y: str | None = None, *, ax: Axes | None = None) -> Axes:
        """Scatter two objectives.

        Args:
            x: an objective's label; the second objective if left out.
            y: an objective's label; the first objective if left out.
            ax: where to draw; a new figure if left out.

        Returns:
            What was drawn on.
        """
        try:
            from matplotlib import pyplot
        except ImportError as error:
            raise _missing("plot()", "matplotlib") from error
        across = self._label(x, min(1, len(self.labels) - 1))
        up = self._label(y, 0)
        axes = pyplot.subplots()[1] if ax is None else ax
        members = sorted(self.resource.members, key=lambda member: member.values[across])
        axes.plot(
            [member.values[across] for member in members],
            [member.values[up] for member in members],
            "o",
            label=self.view,
        )
        axes.set_xlabel(across)
        axes.set_ylabel(up)
        axes.set_title(f"{self.view} front")
        return axes

    def _label(self, label: str | None, default: int) -> str:
        if label is None:
            return self.labels[default]
        if label not in self.labels:
            raise ArchsmithError(f"plot: {label!r} is no objective of this front; choose among {self.labels}.")
        return label


def _missing(what: str, package: str) -> MissingExtraError:
    return MissingExtraError(f"{what} needs {package}; install it with: pip install 'archsmith[pandas]'")
