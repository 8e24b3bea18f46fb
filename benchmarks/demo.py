"""The demo's job, stage by stage: how long each takes, and how far what it believed holds.

Prints one JSON line: seconds per stage, the hypervolume ratio to random sampling with its interval, Kendall tau of the
supernet against training alone with its interval, and the latency model's share within ±10 % on unseen networks.

    python benchmarks/demo.py [--job configs/jobs/digits.yaml] [--quick]
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path

from archsmith.search.pipeline.contracts import PoolSpec
from archsmith.search.pipeline.local import FolderStore, ScriptRecorder
from archsmith.search.pipeline.run import run_pipeline
from archsmith.service.jobfile import load_job
from archsmith.service.schemas.resolve import plan_of

JOBS = Path(__file__).resolve().parent.parent / "configs" / "jobs"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--job", type=Path, default=JOBS / "digits.yaml")
    parser.add_argument("--quick", action="store_true", help="the tiny job instead: shows that it runs, nothing more")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    job = load_job(JOBS / "tiny.yaml" if options.quick else options.job, local=True)
    with tempfile.TemporaryDirectory() as folder:
        report = run_pipeline(
            plan_of(job, PoolSpec(kind="local", workers=options.workers)), ScriptRecorder(), FolderStore(Path(folder))
        )
    print(json.dumps(figures(job.name, report)))


def figures(name: str, report: dict) -> dict[str, object]:
    """The report's figures that the documents quote."""
    seconds, ranking = report["seconds"], report["ranking"]
    latency = next(errors for label, errors in report["cost_models"].items() if label.startswith("latency_ms"))
    front, accuracy = report["random"]["front"], report["random"]["accuracy"]
    return {
        "benchmark": "demo",
        "job": name,
        "cores": os.cpu_count(),
        "seconds": seconds,
        "seconds_total": round(sum(seconds.values()), 1),
        "trials": report["search"]["trials"],
        "hypervolume_ratio": front["ratio"],
        "hypervolume_ratio_interval": [front["low"], front["high"]],
        "relative_improvement_percent": accuracy["percent"],
        "relative_improvement_interval": [accuracy["low"], accuracy["high"]],
        "ranking_tau": ranking["tau"],
        "ranking_tau_interval": [ranking["low"], ranking["high"]],
        "ranking_verdict": ranking["verdict"],
        "latency_within_10_percent": latency["within_10_percent"],
        "latency_kendall_tau": latency["kendall_tau"],
        "latency_networks_held_out": latency["n"],
    }


if __name__ == "__main__":
    main()
