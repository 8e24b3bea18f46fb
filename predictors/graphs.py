"""Where graphs stand in a flat row of columns: what the encoding `adjacency` writes and graph networks read."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["GraphLayout"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphLayout:
    """Where a graph stands in the columns.

    Attributes:
        vertices: V.
        labels: K, columns of every vertex behind its V edges, as the encoding `adjacency` writes them.
        graphs: how many graphs follow each other (kinds of cells).
    """

    vertices: int
    labels: int
    graphs: int = 1

    @property
    def columns(self) -> int:
        """Columns that the graphs take, from the first."""
        return self.graphs * self.vertices * (self.vertices + self.labels)
