"""From the parameters of all places and nodes to one mixture, and to the learned distribution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...spaces.elastic.mixture import Mixture
from .distribution import Distribution
from .edges import EDGES, kept_edges
from .parameters import ArchitectureParameters, edges_of
from .relaxation import Draw, Learns, Moment, Relaxation

__all__ = ["Mixer", "expectation", "merged"]


@dataclass(frozen=True, slots=True)
class Mixer:
    """A relaxation of the choices and one of the edges, over the same parameters.

    Attributes:
        parameters: what is learned.
        relaxation: of places.
        edges: how the edges of a node compete, one of `EDGES`.
    """

    parameters: ArchitectureParameters
    relaxation: Relaxation
    edges: str = "equal"

    def draw(self, moment: Moment) -> Draw:
        """What one forward pass runs; without gradients where it is for the weights alone."""
        with torch.set_grad_enabled(moment.learns is not Learns.WEIGHTS):
            weights, chances, active = {}, {}, {}
            for place in self.parameters.places:
                drawn = self.relaxation.place(place, self.parameters.logits[place.name], moment)
                weights[place.name], chances[place.name] = drawn.weights, drawn.chances
                if drawn.active is not None:
                    active[place.name] = drawn.active
            factors: dict[str, Tensor] = {}
            kept: dict[str, Tensor] = {}
            if (compete := EDGES[self.edges]) is not None:
                nodes = edges_of(self.parameters.places)
                for node, logits in self.parameters.edges.items():
                    factors[node], kept[node], running = compete(logits, nodes[node], moment)
                    if running is not None:
                        left_out = (edge for index, edge in enumerate(nodes[node]) if index not in running)
                        active |= dict.fromkeys((edge.name for edge in left_out), ())
        return Draw(weights=weights, chances=chances, active=active, edges=factors, kept=kept)

    def mixture(self, draw: Draw) -> Mixture:
        """What the supernet runs."""
        return Mixture(weights=draw.weights, active=draw.active, edges=draw.edges, blended=self.relaxation.blended)

    @torch.no_grad()
    def learned(self) -> Distribution:
        """The distribution as it stands, without noise."""
        return Distribution(
            places=self.parameters.places,
            chances={
                place.name: _numbers(self.relaxation.chances(place, self.parameters.logits[place.name]))
                for place in self.parameters.places
            },
            edges={node: _numbers(torch.softmax(logits, dim=0)) for node, logits in self.parameters.edges.items()},
        )


def merged(draws: Sequence[Draw]) -> Draw:
    """The last of several draws, with everything that ran in any of them active."""
    last = draws[-1]
    active = {
        name: tuple(sorted({index for draw in draws for index in draw.active.get(name, ())})) for name in last.active
    }
    return Draw(weights=last.weights, chances=last.chances, active=active, edges=last.edges, kept=last.kept)


def expectation(learned: Distribution) -> Draw:
    """A distribution as a draw, for its expected cost."""
    nodes = edges_of(learned.places)
    chances = {name: torch.as_tensor(values) for name, values in learned.chances.items()}
    return Draw(
        weights=chances,
        chances=chances,
        kept={node: kept_edges(torch.as_tensor(shares), nodes[node]) for node, shares in learned.edges.items()},
    )


def _numbers(values: Tensor) -> NDArray[np.float64]:
    numbers = values.detach().cpu().double().numpy()
    return numbers / numbers.sum()
