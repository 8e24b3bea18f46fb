"""Jobs with `gradient`: every default is written out, and every mistake is named with its place."""

from __future__ import annotations

from typing import Any

import pytest

from archsmith.errors import ConfigError
from archsmith.search.gradient.cost_terms import BOUNDS, PENALTIES
from archsmith.search.gradient.derivation import DERIVATIONS
from archsmith.search.gradient.edges import EDGES
from archsmith.search.gradient.schedules import SCHEDULES
from archsmith.search.gradient.settings import GradientSettings
from archsmith.search.pipeline.contracts import PoolSpec
from archsmith.service.schemas.check import check_job
from archsmith.service.schemas.job import GradientSection
from archsmith.service.schemas.resolve import plan_of

JOB: dict[str, Any] = {
    "name": "by gradients",
    "space": {"name": "fbnet", "preset": "tiny"},
    "task": {"name": "digits_shifted", "options": {"canvas": 16}},
    "objectives": [{"name": "accuracy"}, {"name": "latency_ms"}],
    "constraints": ["latency_ms@host <= 0.5"],
    "gradient": {"cost": {"quantity": "latency_ms@host", "penalty": "fbnet"}, "steps": 10},
    "budget": {"trials": 4},
}


def test_defaults_are_written_out_and_the_strategy_follows() -> None:
    job = check_job(JOB)
    assert job.strategy.name == "derived"
    assert job.strategy.reason
    assert job.gradient is not None
    assert job.gradient.cost is not None
    assert (job.gradient.steps, job.gradient.relaxation.name, job.gradient.cost.bound) == (10, "gumbel", "none")
    plan = plan_of(job, PoolSpec(kind="serial", workers=1))
    assert plan.gradient is not None
    settings = GradientSettings.from_json(plan.gradient)
    assert settings.to_json() == GradientSettings.from_json(JOB["gradient"]).to_json()
    assert check_job(job.to_json()) == job  # a resolved job is its own resolution


def test_a_job_without_it_stays_without_it() -> None:
    job = check_job({key: value for key, value in JOB.items() if key != "gradient"})
    assert job.gradient is None
    assert job.strategy.name != "derived"
    assert plan_of(job, PoolSpec(kind="serial", workers=1)).gradient is None


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"gradient": {"stepz": 3}}, "gradient.stepz"),
        ({"gradient": {"relaxation": {"name": "soft"}}}, "gradient.relaxation.name"),
        ({"gradient": {"cost": {"quantity": "latency_ms"}}}, "gradient.cost.quantity"),
        ({"gradient": {"cost": {"quantity": "latency_ms@fridge"}}}, "gradient.cost.quantity"),
        ({"gradient": {"cost": {"quantity": "macs@host"}}}, "gradient.cost.quantity"),
        ({"gradient": {"cost": {"quantity": "accuracy"}}}, "gradient.cost.quantity"),
        ({"gradient": {"schedule": {"order": 2, "samples": 2}}}, "gradient.schedule.order"),
        ({"gradient": None, "strategy": {"name": "derived"}}, "strategy.name"),
    ],
)
def test_mistakes_are_named(change: dict[str, Any], place: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_job({**JOB, **change})
    assert caught.value.place == place


def test_the_schema_lists_what_the_catalogs_hold() -> None:
    """Literals of the schema are for the description of the API; the catalogs decide."""
    text = str(GradientSection.model_json_schema())
    for name in (*BOUNDS, *DERIVATIONS, *EDGES, *PENALTIES, *SCHEDULES):
        assert f"'{name}'" in text


def test_the_schema_has_every_setting() -> None:
    settings = GradientSettings.from_json({"cost": {}}).to_json()
    section = GradientSection.model_validate(settings).model_dump()
    assert section.keys() == settings.keys()
    for group in ("relaxation", "cost", "schedule", "derivation", "choices"):
        assert section[group].keys() == settings[group].keys()
