"""`archsmith compare`: strategies side by side on the problem of a job file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from rich.progress import Progress

from ...errors import ConfigError
from ...search.comparison import Comparison, Contender
from ...search.pipeline.compare import compare_on_plan
from ...search.plot import Line, draw_chart
from ..jobfile import load_job
from ..schemas.resolve import plan_of
from ..settings import Settings
from .output import console, errors

__all__ = ["compare_strategies", "read_contender"]

_CONTENDER = re.compile(r"(?P<name>[a-z0-9_]+)(\((?P<options>.*)\))?")


def compare_strategies(
    settings: Settings,
    job_file: Path,
    strategies: list[str],
    *,
    seeds: int,
    trials: int | None,
    sensitivity: bool,
    output: Path | None,
) -> int:
    """Run every strategy with every seed on the job's problem; print a table, and write it with a plot where asked.

    Returns:
        The exit code: 0.
    """
    from ...search.pipeline.contracts import PoolSpec

    job = load_job(job_file, local=True)
    pool = PoolSpec(kind=job.pool.kind, workers=job.pool.workers) if job.pool else PoolSpec()
    plan = plan_of(job, pool)
    budget = trials or job.budget.trials
    if budget is None:
        raise ConfigError("budget.trials", None, "a number of trials: every strategy gets the same budget")
    contenders = [read_contender(text) for text in strategies]
    with Progress(console=errors, transient=True) as bar:
        task = bar.add_task("comparing")
        found = compare_on_plan(
            plan,
            contenders,
            folder=settings.runs_dir / "compare",
            seeds=range(plan.seed, plan.seed + seeds),
            trials=budget,
            sensitivity=sensitivity,
            progress=lambda done, total, what: bar.update(task, completed=done, total=total, description=what),
        )
    console.print(found.to_markdown(), markup=False, soft_wrap=True)
    if output is not None:
        write(found, output, title=job.name)
        console.print(f"comparison.md and comparison.svg in {output}/")
    return 0


def write(comparison: Comparison, folder: Path, *, title: str) -> None:
    """The table and the plot as files."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "comparison.md").write_text(
        f"# {title}\n\n![](comparison.svg)\n\n{comparison.to_markdown()}", encoding="utf-8"
    )
    lines = [Line(curve.contender.label, curve.band()) for curve in comparison.curves]
    chart = draw_chart(
        lines, comparison.evaluations, title=title, x_label="evaluations", y_label="hypervolume, mean and 95 % band"
    )
    (folder / "comparison.svg").write_text(chart, encoding="utf-8")


def read_contender(text: str) -> Contender:
    """A strategy with options, as the command line writes it.

    >>> read_contender("nsga2(population=20)")
    Contender(strategy='nsga2', options={'population': 20})
    """
    match = _CONTENDER.fullmatch(text.strip())
    if match is None:
        raise ConfigError("strategies", text, "names, each with options where wanted: nsga2(population=20)")
    options: dict[str, Any] = {}
    for part in (match["options"] or "").split(","):
        if not part.strip():
            continue
        name, _, value = part.partition("=")
        try:
            number = float(value)
        except ValueError:
            options[name.strip()] = value.strip()
            continue
        options[name.strip()] = int(number) if number.is_integer() and "." not in value else number
    return Contender(match["name"], options)
