from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from archsmith.errors import ConfigError
from archsmith.hwmodels.latency import LatencySettings
from archsmith.hwmodels.probing import ProbeSettings
from archsmith.predictors.supernet.settings import SupernetSettings
from archsmith.predictors.training import StandaloneSettings
from archsmith.search.pipeline.contracts import PoolSpec
from archsmith.search.pipeline.prepare import FREE_QUANTITIES, build_setting
from archsmith.service.jobfile import load_job
from archsmith.service.schemas.check import QUANTITIES, InvalidJobError, check_job
from archsmith.service.schemas.job import CostModelSection, SupernetSection, VerifySection
from archsmith.service.schemas.resolve import plan_of

JOBS = Path(__file__).resolve().parents[2] / "configs" / "jobs"

MINIMAL = """\
name: small
space: {name: mobilenet, preset: tiny}
task: {name: digits_shifted}
objectives:
  - {name: accuracy}
budget: {trials: 8}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "job.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", sorted(JOBS.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_job_can_run(path: Path) -> None:
    job = load_job(path)
    setting = build_setting(plan_of(job, PoolSpec()))
    assert setting.space.name == job.space.name
    assert check_job(job.to_json()) == job  # resolving is idempotent


@pytest.mark.parametrize(
    ("section", "settings"),
    [
        (SupernetSection, SupernetSettings),
        (VerifySection, StandaloneSettings),
        (CostModelSection, ProbeSettings),
    ],
)
def test_section_mirrors_the_settings_of_its_stage(section: type, settings: type) -> None:
    others = {"members", "audit", "data_type"}
    own = set(section.model_fields) - others
    assert own == {field.name for field in dataclasses.fields(settings)}
    assert section().model_dump(exclude=others) == dict.fromkeys(own)


def test_plan_settings_are_those_the_stages_take(tmp_path: Path) -> None:
    text = MINIMAL + "supernet: {steps: 7}\ncost_model: {kernels: 29}\nverify: {steps: 11, audit: 3}\n"
    plan = plan_of(load_job(write(tmp_path, text)), PoolSpec())
    assert SupernetSettings.from_json(plan.supernet).steps == 7
    assert LatencySettings.from_json(plan.cost_model).probes.kernels == 29
    assert StandaloneSettings.from_json(plan.standalone).steps == 11
    assert (plan.members, plan.audit) == (5, 3)


def test_data_type_of_a_job_reaches_the_cost_models(tmp_path: Path) -> None:
    plan = plan_of(load_job(write(tmp_path, MINIMAL + "cost_model: {data_type: int8}\n")), PoolSpec())
    settings = LatencySettings.from_json(plan.cost_model)
    assert (settings.data_type, settings.timer.data_type) == ("int8", "int8")
    with pytest.raises(InvalidJobError, match="data_type"):
        load_job(write(tmp_path, MINIMAL + "cost_model: {data_type: int4}\n"))


def test_quantities_are_those_the_pipeline_knows() -> None:
    assert {name for name, kind in QUANTITIES.items() if not kind.needs_device} == {"accuracy", *FREE_QUANTITIES}


def test_job_defaults_are_written_out(tmp_path: Path) -> None:
    job = load_job(write(tmp_path, MINIMAL))
    assert job.devices == ["host"]
    assert job.objectives[0].direction == "max"
    assert job.supernet.steps == SupernetSettings().steps
    assert job.cost_model.kernels == ProbeSettings().kernels


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (MINIMAL + "sed: 1\n", r"job\.yaml, line 7: sed: got 'sed'; .*Did you mean 'seed'\?"),
        (MINIMAL + "name: again\n", r"job\.yaml, line 7: name: got 'name'; allowed: each key once.*line 1"),
        (MINIMAL.replace("{trials: 8}", "{trials: many}"), r"line 6: budget\.trials: got 'many'; .*whole number"),
        (MINIMAL.replace("{trials: 8}", "{trials: true}"), r"line 6: budget\.trials: got True; .*whole number"),
        (MINIMAL.replace("name: mobilenet, ", ""), r"line 2: space\.name: got None; .*required"),
        (MINIMAL + "constraints: [latency_ms@hots <= 1]\n", r"line 7: constraints\[0\]\.device: got 'hots'.*'host'"),
        (MINIMAL + "constraints: [params <= .nan]\n", r"line 7: constraints\[0\]"),
        (MINIMAL + "pool: {kind: cloud}\n", r"line 7: pool\.kind: got 'cloud'; allowed: 'serial', 'local' or 'ray'"),
        (MINIMAL + "space: [\n", "job.yaml, line"),
    ],
)
def test_job_file_mistake_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_job(write(tmp_path, text))


def test_job_file_reports_every_mistake(tmp_path: Path) -> None:
    text = MINIMAL.replace("mobilenet", "mobilnet").replace("digits_shifted", "digit")
    with pytest.raises(InvalidJobError) as caught:
        load_job(write(tmp_path, text))
    assert [error.place.split(": ")[1] for error in caught.value.errors] == ["space.name", "task.name"]


def test_job_file_missing_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml"):
        load_job(tmp_path / "none.yaml")


def test_constraint_text_and_object_are_the_same(tmp_path: Path) -> None:
    objects = MINIMAL + "constraints: [{name: params, operator: '<=', bound: 9000}, {name: latency_ms, bound: 2.5}]\n"
    texts = MINIMAL + "constraints: [params <= 9e3, latency_ms@host <= 2.5]\n"
    assert load_job(write(tmp_path, objects)) == load_job(write(tmp_path, texts))


def test_two_devices_need_the_device_of_each_objective(tmp_path: Path) -> None:
    text = MINIMAL + "devices: [host, raspberry_pi_4]\nconstraints: [latency_ms <= 1]\n"
    with pytest.raises(ConfigError, match=r"constraints\[0\]\.device: got None; allowed: one of host, raspberry_pi_4"):
        load_job(write(tmp_path, text))


def test_local_job_may_name_a_path_and_a_pool(tmp_path: Path) -> None:
    text = MINIMAL.replace("{name: digits_shifted}", f"{{name: image_arrays, path: {tmp_path / 'images.npz'}}}")
    text += "pool: {kind: serial, workers: 1}\n"
    job = load_job(write(tmp_path, text), local=True)
    assert plan_of(job, PoolSpec()).task.options["path"] == str(tmp_path / "images.npz")
    with pytest.raises(InvalidJobError) as caught:
        load_job(write(tmp_path, text))
    assert len(caught.value.errors) == 2


TRAINING = """supernet:
  sampler: predictor_weighted
  schedule: cosine_power
  warmup_largest: 0.2
  teacher: largest
  label_weight: 1.0
  norm_statistics: batch
  affine_norms: false
  decay_norms: true
  accumulate: auto
  optimizer: rmsprop
verify: {initial: supernet, steps: 5, learning_rate: 0.01, dropout: 0.1, drop_path: 0.1, mixup: 0.2, ema: true}
"""


def test_every_part_of_training_is_reachable_from_a_job(tmp_path: Path) -> None:
    plan = plan_of(load_job(write(tmp_path, MINIMAL + TRAINING)), PoolSpec())
    supernet, alone = SupernetSettings.from_json(plan.supernet), StandaloneSettings.from_json(plan.standalone)
    assert (supernet.accumulate, supernet.largest_steps) == ("auto", round(0.2 * supernet.steps))
    assert (alone.initial, alone.mixup, alone.ema) == ("supernet", 0.2, True)
    parts = load_job(write(tmp_path, MINIMAL + "supernet: {accumulate: 4}\n")).supernet.accumulate
    assert parts == 4


def test_job_may_make_a_space_of_densities(tmp_path: Path) -> None:
    sparse = MINIMAL.replace("preset: tiny}", "preset: tiny, options: {densities: '0.2,1'}}")
    setting = build_setting(plan_of(load_job(write(tmp_path, sparse)), PoolSpec()))
    assert [gene.values for gene in setting.space.genes] == [(0.2, 1.0)] * len(setting.space.genes)
    with pytest.raises(InvalidJobError, match=r"space\.options\.densities"):
        load_job(write(tmp_path, sparse.replace("0.2,1", "0.2,two")))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("supernet: {teacher: largest}\n", r"supernet\.teacher"),
        ("supernet: {schedule: cosin}\n", r"supernet\.schedule.*cosine_power"),
        ("verify: {initial: supernet}\nevaluator: {kind: standalone}\n", r"verify\.initial.*scratch"),
    ],
)
def test_training_that_cannot_be_is_refused_at_the_door(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InvalidJobError, match=message):
        load_job(write(tmp_path, MINIMAL + text))


@pytest.mark.parametrize("key", ["initial", "teacher"])
def test_network_files_are_for_local_jobs(tmp_path: Path, key: str) -> None:
    file = tmp_path / "network.safetensors"
    text = MINIMAL + f"supernet: {{{key}: {file}}}\n"
    with pytest.raises(InvalidJobError, match=rf"supernet\.{key}.*exists"):
        load_job(write(tmp_path, text), local=True)
    file.write_bytes(b"")
    assert getattr(load_job(write(tmp_path, text), local=True).supernet, key) == str(file)
    with pytest.raises(InvalidJobError, match="archsmith run"):
        load_job(write(tmp_path, text))
