"""A job may bring its own search space: a file beside it, or a definition inline."""

from __future__ import annotations

import pytest

from archsmith import spaces
from archsmith.errors import ConfigError
from archsmith.service.jobfile import load_job, read_job
from archsmith.service.schemas.check import check_job
from archsmith.service.schemas.job import JobSpec
from archsmith.spaces.families.user_presets import PRESETS

JOB = """
name: mine
space: {file: space.yaml}
task: {name: digits}
objectives: [{name: params}]
budget: {trials: 10}
"""


@pytest.fixture
def job(tmp_path):
    (tmp_path / "space.yaml").write_text(PRESETS["tiny"])
    path = tmp_path / "job.yaml"
    path.write_text(JOB)
    return path


def test_file_beside_the_job_becomes_its_space(job):
    section = load_job(job).space
    space = spaces.get(section.name, section.preset, **section.options)
    assert space.identity == spaces.load(PRESETS["tiny"]).identity


def test_submitted_job_carries_the_definition_itself(job):
    data = read_job(job)
    assert set(data["space"]) == {"definition"}
    resolved = check_job(data)
    assert JobSpec.model_validate(resolved.to_json()) == resolved


@pytest.mark.parametrize(
    ("change", "place", "allowed"),
    [
        ({"body": [{"conv": {"kernel": 0}}]}, "space.definition.body[0].conv.kernel", "whole number"),
        ({"body": ["zero", "conv"]}, "space.definition", "must end a branch"),
    ],
)
def test_mistake_inside_a_definition_is_named(job, change, place, allowed):
    data = read_job(job)
    data["space"] = {"definition": data["space"]["definition"] | {"genes": {}} | change}
    with pytest.raises(ConfigError, match=allowed) as caught:
        check_job(data)
    assert caught.value.place == place


def test_mistake_inside_the_file_names_its_line(job):
    (job.parent / "space.yaml").write_text("name: a\ninput: {channels: 1, resolution: 8}\nbody:\n  - conf\n")
    with pytest.raises(ConfigError, match=r"space.yaml, line 4: body\[0\]"):
        load_job(job)


def test_definition_beside_a_name_is_refused(job):
    data = read_job(job)
    data["space"]["name"] = "mobilenet"
    with pytest.raises(ConfigError, match="definition alone"):
        check_job(data)
