"""Binary gates: one path at a time, and two where choices are learned.

Weights are trained on one path drawn from p. For the choices two paths are drawn; gates (0 or 1) say which of them
counts, and the gradient of the gates, <dL/d output, candidate(x)>, reaches the two logits through the softmax of the
pair. After the step the pair's total probability is restored: what was not looked at is as likely as before.

Notation: p = softmax(a) over all choices of a place; q, its renormalisation over the pair.

Source: Cai, Zhu and Han, ProxylessNAS, ICLR 2019, https://arxiv.org/abs/1812.00332, section 3.2 and appendix C, and
https://github.com/mit-han-lab/proxylessnas, search/modules/mix_op.py. We deviate in the expected cost: theirs is
that of the pair alone, ours that of the whole place, of which the pair's part is differentiable.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ...spaces.elastic.mixture import MixedPlace
from .parameters import ArchitectureParameters
from .relaxation import Draw, Learns, Moment, PlaceDraw, Relaxation

__all__ = ["BinaryGates"]


class BinaryGates(Relaxation):
    """One path for the weights, two for the choices."""

    def place(self, place: MixedPlace, logits: Tensor, moment: Moment) -> PlaceDraw:
        """One or two candidates, one of them with weight 1, the others with 0."""
        chances = torch.softmax(logits, dim=0)
        if moment.learns is Learns.WEIGHTS or len(place.choices) == 1:
            drawn = int(_draw(chances, 1, moment))
            return PlaceDraw(_hot(chances, drawn), chances.detach(), (drawn,))
        pair = _draw(chances, 2, moment)
        shares = torch.softmax(logits[pair], dim=0)
        first = int(_draw(shares, 1, moment))
        gates = _hot(shares, first) + shares - shares.detach()
        mass = chances.detach()[pair].sum()
        return PlaceDraw(
            torch.zeros_like(chances).scatter(0, pair, gates),
            chances.detach().scatter(0, pair, mass * shares),
            tuple(pair.tolist()),
        )

    @torch.no_grad()
    def settle(self, parameters: ArchitectureParameters, before: Mapping[str, Tensor], draw: Draw) -> None:
        """Keep the logits that were not drawn, and the total probability of those that were."""
        for name, logits in parameters.logits.items():
            pair = list(draw.active[name])
            shift = torch.logsumexp(logits[pair], dim=0) - torch.logsumexp(before[name][pair], dim=0)
            moved = logits[pair] - shift
            logits.copy_(before[name])
            logits[pair] = moved


def _draw(chances: Tensor, count: int, moment: Moment) -> Tensor:
    """[count] indices, drawn without replacement."""
    drawn = torch.multinomial(chances.detach().cpu().double(), count, generator=moment.generator)
    return drawn.to(chances.device)


def _hot(like: Tensor, index: int) -> Tensor:
    hot = torch.zeros_like(like)
    hot[index] = 1
    return hot
