"""Evaluators for the pool tests; worker processes import this module by name."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Evaluate = Callable[[dict[str, Any]], dict[str, Any]]


def scorer(config: dict[str, Any]) -> Evaluate:
    """Arithmetic, failures and deaths on demand; every build of the evaluator leaves a line in `config["log"]`."""
    if "log" in config:
        with Path(config["log"]).open("a") as log:
            log.write(f"{os.getpid()}\n")

    def evaluate(item: dict[str, Any]) -> dict[str, Any]:
        print("evaluators may print")
        if item.get("raise"):
            raise ValueError(f"no score for {item['x']}")
        if item.get("exit"):
            sys.exit(item["exit"])
        if item.get("unserialisable"):
            return {"score": object()}
        if item.get("not_a_dict"):
            return [1]  # type: ignore[return-value]  # the mistake under test
        if (marker := item.get("die_once")) and not Path(marker).exists():
            Path(marker).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if item.get("die"):
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(item.get("sleep_s", 0))
        return {"score": item["x"] / 3 * config["factor"], "shape": (item["x"], 1)}

    return evaluate


def witness(config: dict[str, Any]) -> Evaluate:
    """Tells what the worker's process looks like."""

    def evaluate(item: dict[str, Any]) -> dict[str, Any]:
        import torch

        import archsmith

        if started := item.get("started"):
            Path(started).write_text(str(os.getpid()))
        time.sleep(item.get("sleep_s", 0))
        return {
            "pid": os.getpid(),
            "threads": torch.get_num_threads(),
            "omp": os.environ.get("OMP_NUM_THREADS"),
            "package": archsmith.__file__,
        }

    return evaluate


def refuses(config: dict[str, Any]) -> Evaluate:
    """A factory that cannot build its evaluator."""
    raise KeyError(config["missing"])


def dies(config: dict[str, Any]) -> Evaluate:
    """A factory that takes its process with it."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError
