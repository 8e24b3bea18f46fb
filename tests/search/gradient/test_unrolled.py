"""The second-order gradient on quadratics, whose unrolled gradient is known."""

from __future__ import annotations

import pytest
import torch

from archsmith.predictors.optimization import SCHEDULES
from archsmith.search.gradient.schedules import temperature
from archsmith.search.gradient.unrolled import Ahead, unrolled_gradient

G = torch.Generator().manual_seed(0)
A, B, C, D = (torch.randn(4, 4, dtype=torch.float64, generator=G) for _ in range(4))
RATE = 0.1


def train_loss(w: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
    return 0.5 * (A @ w).square().sum() + w @ B @ a


def valid_loss(w: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
    return 0.5 * (C @ w - 1).square().sum() + w @ D @ a + 0.5 * a.square().sum()


def leaves() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.randn(4, dtype=torch.float64, generator=generator).requires_grad_() for _ in range(2))  # type: ignore[return-value]  # two of them


def after(w: torch.Tensor, a: torch.Tensor, *, momentum: float = 0.0, decay: float = 0.0) -> torch.Tensor:
    """The loss one step ahead, as a function of the choices."""
    (gradient,) = torch.autograd.grad(train_loss(w, a), w, create_graph=True)
    buffer = torch.ones_like(w)
    return valid_loss(w - RATE * (gradient + decay * w + momentum * buffer), a)


@pytest.mark.parametrize(("momentum", "decay"), [(0.0, 0.0), (0.9, 0.01)])
def test_unrolled_gradient_matches_a_numerical_derivative(momentum: float, decay: float) -> None:
    w, a = leaves()
    ahead = Ahead(rate=RATE, momentum=momentum, decay=[decay], buffers=[torch.ones_like(w)])
    before = w.detach().clone()
    loss, (found,) = unrolled_gradient(
        lambda: train_loss(w, a), lambda: valid_loss(w, a), weights=[w], choices=[a], ahead=ahead
    )
    assert torch.equal(w, before)
    assert float(loss) == pytest.approx(float(after(w, a, momentum=momentum, decay=decay).detach()))
    for index in range(4):
        step = torch.zeros(4, dtype=torch.float64)
        step[index] = 1e-5
        up = after(w, (a + step).detach().requires_grad_(), momentum=momentum, decay=decay)
        down = after(w, (a - step).detach().requires_grad_(), momentum=momentum, decay=decay)
        assert float(found[index]) == pytest.approx(float((up - down).detach()) / 2e-5, rel=1e-3)


def test_without_a_step_ahead_it_is_the_first_order_gradient() -> None:
    w, a = leaves()
    (expected,) = torch.autograd.grad(valid_loss(w, a), a)
    _, (found,) = unrolled_gradient(
        lambda: train_loss(w, a), lambda: valid_loss(w, a), weights=[w], choices=[a], ahead=Ahead(rate=0.0)
    )
    assert torch.equal(found, expected)


def test_weights_are_restored_where_a_loss_fails() -> None:
    w, a = leaves()
    before = w.detach().clone()

    def broken() -> torch.Tensor:
        raise RuntimeError("no loss")

    with pytest.raises(RuntimeError, match="no loss"):
        unrolled_gradient(lambda: train_loss(w, a), broken, weights=[w], choices=[a], ahead=Ahead(rate=RATE))
    assert torch.equal(w, before)


def test_cosine_power_annealing_at_published_points() -> None:
    """Base 10: the cosine is 0.75, 0.5 and 0.25 at a third, a half and two thirds of the way."""
    curve = SCHEDULES["cosine_power"]
    assert [round(curve(at), 4) for at in (1 / 3, 1 / 2, 2 / 3)] == [0.5137, 0.2403, 0.0865]


def test_temperatures_fall_by_a_factor_or_by_a_difference() -> None:
    assert temperature(0.5, 10.0, 0.1, "linear") == pytest.approx(5.05)
    assert temperature(0.5, 10.0, 0.1, "exponential") == pytest.approx(1.0)
