"""Processes that share a training compute what one process computes from the same batches."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from archsmith import spaces
from archsmith.errors import ConfigError, PredictorError
from archsmith.predictors.supernet.distributed import ALONE, ProcessGroup
from archsmith.predictors.supernet.settings import SupernetSettings
from archsmith.predictors.supernet.trainer import SupernetTrainer
from archsmith.predictors.tasks import catalog
from archsmith.predictors.tasks.task import Samples
from archsmith.spaces.elastic.layers import ElasticBatchNorm2d

HAT = {"source_vocabulary": 14, "target_vocabulary": 34, "source_length": 5, "target_length": 7}
CASES = {
    # What several processes could get wrong: statistics of batches, the choice among rivals, unequal numbers of
    # tokens, parts of unequal size (17 rows), several parts per process, clipping of the summed gradient.
    "sandwich": (("mobilenet", {}), "digits_shifted", {"batch_size": 17, "max_grad_norm": 0.5}),
    "attentive": (("mobilenet", {}), "digits_shifted", {"sampler": "attentive_worst", "rivals": 2}),
    "translation": (("hat", HAT), "numbers", {"optimizer": "adamw", "learning_rate": 0.01, "accumulate": 2}),
}
STEPS = 3
CHILD = """
import json, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
import torch.distributed as dist
rank, root = int(sys.argv[1]), Path(sys.argv[2])
dist.init_process_group("gloo", init_method=f"file://{root}/meeting", rank=rank, world_size=2)
sys.path.insert(0, sys.argv[3])
from test_supernet_distributed import CASES, train
from archsmith.predictors.supernet.distributed import ProcessGroup
for name in CASES:
    train(name, root / name, ProcessGroup())
dist.barrier()  # nobody leaves while the other still listens
dist.destroy_process_group()
"""

pytestmark = pytest.mark.usefixtures("one_thread")


def train(case: str, directory: Path, group=ALONE) -> list[dict[str, float]]:
    """Train a case in float64; its weights are in `directory`, returned are the points of its history."""
    (family, options), task, changes = CASES[case]
    base = {"steps": STEPS, "batch_size": 16, "checkpoint_every": 1, "precision": "float64", "max_grad_norm": 0.0}
    settings = SupernetSettings.from_json(base | changes)
    space = spaces.get(family, "tiny", **options)
    trainer = SupernetTrainer(
        space, catalog.get(task), settings, seed=3, directory=directory, device="cpu", group=group
    )
    return list(trainer.run().history)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where two processes have trained all cases together."""
    root = tmp_path_factory.mktemp("shared")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    arguments = [str(root), str(Path(__file__).parent)]
    children = [
        subprocess.Popen([sys.executable, "-c", CHILD, str(rank), *arguments], env=environment) for rank in range(2)
    ]
    assert [child.wait(timeout=300) for child in children] == [0, 0]
    return root


@pytest.mark.parametrize("case", CASES)
def test_two_processes_train_what_one_trains(case: str, shared: Path, tmp_path: Path) -> None:
    train(case, tmp_path / "alone")
    steps = sorted(path.name for path in (shared / case).glob("step-*"))
    assert steps == [f"step-{step:09d}" for step in (STEPS - 1, STEPS)]  # the last two are kept
    for step in steps:
        together, alone = (
            load_file(root / step / "weights.safetensors") for root in (shared / case, tmp_path / "alone")
        )
        assert together.keys() == alone.keys()
        for name, weight in alone.items():
            assert weight.dtype == (torch.int64 if name.endswith("num_batches_tracked") else torch.float64)
            torch.testing.assert_close(together[name], weight, rtol=0, atol=1e-9, msg=f"{step} {name}")


def test_statistics_of_parts_put_together_are_those_of_the_batch() -> None:
    generator = torch.Generator().manual_seed(0)
    whole = torch.randn((7, 3, 4, 4), generator=generator, dtype=torch.float64) * 2 + 100
    norm = ElasticBatchNorm2d(5).double()
    nn.init.normal_(norm.weight, generator=generator)
    x = whole.clone().requires_grad_()
    expected = norm(x)
    expected.square().sum().backward()

    halves = [part.clone().requires_grad_() for part in whole.split([3, 4])]
    outputs = [_with_gather(norm, part, _meeting(halves)) for part in halves]
    torch.testing.assert_close(torch.cat(outputs), expected)
    sum(output.square().sum() for output in outputs).backward()  # type: ignore[union-attr]  # a tensor, as there are two
    assert x.grad is not None
    torch.testing.assert_close(torch.cat([part.grad for part in halves]), x.grad)  # type: ignore[misc]  # have gradients


def _with_gather(norm: ElasticBatchNorm2d, x: Tensor, gather: Callable[[Tensor], Tensor]) -> Tensor:
    norm.gather = gather
    try:
        return norm(x)
    finally:
        norm.gather = None


def _meeting(parts: list[Tensor]) -> Callable[[Tensor], Tensor]:
    """What the exchange of moments gives, computed in one process from all parts."""

    def gather(mine: Tensor) -> Tensor:
        moments = []
        for part in parts:
            variance, mean = torch.var_mean(part, (0, 2, 3), correction=0)
            moments.append(torch.cat([mean, variance, mine.new_full((1,), part.numel() // part.shape[1])]))
        assert any(torch.equal(mine, each) for each in moments)
        return torch.stack(moments)

    return gather


def test_norm_of_one_process_is_the_usual_one() -> None:
    x = torch.randn((6, 4, 3, 3), generator=torch.Generator().manual_seed(1))
    norm = ElasticBatchNorm2d(4)
    expected = F.batch_norm(x, None, None, norm.weight, norm.bias, training=True, eps=norm.eps)
    torch.testing.assert_close(_with_gather(norm, x, lambda values: values[None]), expected)


def test_process_without_a_group_is_told_what_to_do() -> None:
    with pytest.raises(PredictorError, match=r"call init_process_group first.*supernet\.workers"):
        ProcessGroup()


def test_process_that_trains_alone_sees_everything() -> None:
    samples = Samples(torch.zeros(3, 2), torch.tensor([0, 1, 2]))
    assert ALONE.part(samples) is samples
    assert ALONE.share(samples) == 1.0
    assert torch.equal(ALONE.total(samples.inputs), samples.inputs)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"workers": 0}, "supernet.workers: got 0; allowed: an integer of at least 1"),
        ({"workers": 9, "batch_size": 8}, "supernet.workers: got 9; allowed: at most the batch_size, 8"),
        ({"precision": "float8"}, "supernet.precision: got 'float8'; allowed: auto, float32, float64"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        SupernetSettings.from_json(changes)
    assert message in str(caught.value)
