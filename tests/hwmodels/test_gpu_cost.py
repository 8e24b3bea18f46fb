"""The benchmark of CUDA devices, tried on the processor: its steps work, and it claims nothing it did not measure."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu_cost.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(BENCHMARK), "--quick", *arguments],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


@pytest.mark.slow
def test_every_figure_is_printed_on_the_processor():
    done = run("--device", "cpu")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [line["figure"] for line in lines] == ["conditions", "model", "repeatability", "energy", "memory"]
    assert "claims nothing about a GPU" in done.stdout


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_missing_gpu_is_said():
    done = run()
    assert done.returncode != 0
    assert "CUDA device 0 is not here" in done.stderr
