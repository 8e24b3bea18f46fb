"""Write the generated part of ``docs/strategies.md``: the table of strategies, their options, and what `auto` chooses.

python -m archsmith.search.strategies.catalog_page docs

Sources and summaries are those of the modules, so that they are said once.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from ...errors import ConfigError
from ...spaces.strict_yaml import load_yaml
from . import catalog
from .auto import AUTO, MODELLED, choose

__all__ = ["BEGIN", "END", "USES", "page", "table", "write"]

BEGIN: Final = "<!-- generated: strategies -->"
END: Final = "<!-- end of generated: strategies -->"

USES: Final[Mapping[str, str]] = MappingProxyType({
    "asha": "Training alone, many workers: cheap evaluations first, and nobody waits.",
    "bananas": "One objective and up to some hundred evaluations; a baseline from the literature.",
    "bayesian": "The default up to 2,000 trials: the fewest evaluations to the front.",
    "carbs": "Performance against one cost, where the front near what is known good matters.",
    "derived": "After `gradient`: what was learned by gradients is already the answer.",
    "epnas": "Exploring first: every choice stays possible and cools towards the best.",
    "hierarchical_evolution": "Spaces of motifs, whose few upper genes should change as often as the many lower ones.",
    "hyperband": "Training alone, where partial training ranks well; nothing else to choose.",
    "iterative_deepening_hyperband": "As Hyperband, where the longest training worth paying is not known.",
    "local_search": "Small spaces and smooth tables; a strong simple baseline.",
    "manas": "Spaces whose genes act mostly alone; thousands of genes cost nothing.",
    "mcts": "Spaces with many conditional genes, where early decisions matter most.",
    "moboga": "Hard constraints that must be evaluated to be known.",
    "mobster": "Training alone, many workers and few trials: a model proposes, halving stops early.",
    "nested_mcts": "As `mcts`, where genes act mostly alone.",
    "nsga2": "The default beyond 2,000 trials: cheap evaluations, whole front.",
    "nsga3": "Three and more objectives with cheap evaluations.",
    "optuna_cmaes": "A peer to compare with: ordered genes, one objective.",
    "optuna_gp": "A peer to compare with, slow beyond some hundred trials.",
    "optuna_nsga2": "A peer to compare with.",
    "optuna_tpe": "A peer to compare with.",
    "predictor_evolution": "Large spaces with a known latency: the inner evolution finds the whole front.",
    "random": "The baseline that every report compares with.",
    "regularized_evolution": "Thousands of cheap evaluations; a baseline from the literature.",
})  # fmt: skip
"""When to use each strategy."""

ONE_OBJECTIVE: Final = ("optuna_cmaes",)
"""Strategies that turn several objectives into one order; the others search for the whole front."""

PAGE: Final = f"""# Strategies

Which strategy a job uses is its key `strategy: {{name: …, options: {{…}}}}`. Every one of them takes several objectives
and hard constraints, resumes exactly after a kill, proposes nothing that breaks a known constraint, and no architecture
twice with the same effort. `archsmith compare JOB --strategies "nsga2 bayesian(initial=20)"` compares them on your
problem. A search may start from what others found: `warm_start: [3, 5]`, numbers of earlier searches of the same space,
task and recipe, makes the members of their fronts its first trials, which cost nothing, and the rest known to the
strategy. Recipe genes (`recipe.learning_rate`, …) are searched jointly with the architecture where every candidate is
trained alone: `evaluator: {{kind: standalone}}`. `archsmith export-optuna SEARCH` writes the trials as an Optuna study.

{BEGIN}
{END}

## Figures

<!-- figures -->
"""


def table(systems: Path | None = None) -> str:
    """The generated part of the page.

    Args:
        systems: folder of the job files that compose published systems; None = the package's.
    """
    folder = Path(__file__).parents[2] / "configs" / "systems" if systems is None else systems
    composed = _systems(folder)
    rows = [
        "| strategy | what it does | source | objectives | constraints | fidelity | system | when to use it |",
        "|---|---|---|---|---|---|---|---|",
    ]
    options = ["| strategy | options and their defaults |", "|---|---|"]
    for name in catalog.names():
        if name not in USES:
            raise ConfigError("strategy", name, "an entry of USES in search/strategies/catalog_page.py for every one")
        summary, sources = _documented(name)
        known = "known ones while proposing" + ("" if name == "random" else ", others learned")
        rows.append(
            f"| `{name}` | {summary} | {sources} | {'one order of several' if name in ONE_OBJECTIVE else 'several'} | "
            f"{known} | {'partial to full' if catalog.multi_fidelity(name) else 'full'} | "
            f"{', '.join(composed.get(name, ())) or '–'} | {USES[name]} |"
        )
        given = ", ".join(f"`{option}` {default}" for option, default in catalog.options(name).items())
        options.append(f"| `{name}` | {given or 'none'} |")
    return "\n".join([*rows, "", "## Options", "", *options, "", *_auto()])


def _auto() -> list[str]:
    """What `strategy: auto` means."""
    few, many = choose(MODELLED), choose(MODELLED + 1)
    return [
        f"## `strategy: {AUTO}`",
        "",
        f"The default, and what a job without the key `strategy` gets. It chooses `{few.name}` where the budget is at "
        f"most {MODELLED:,} trials or names no trials ({few.reason}), else `{many.name}` ({many.reason}). The resolved "
        "job states the choice and this reason, and a search that is resumed keeps it.",
    ]


def page(old: str | None = None) -> str:
    """The whole page: `old` with its generated part replaced, or a new one."""
    text = PAGE if old is None else old
    before, found, rest = text.partition(BEGIN)
    _, closed, after = rest.partition(END)
    if not found or not closed:
        raise ConfigError("docs/strategies.md", "no markers", f"a page with the lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}"


def write(docs: Path) -> None:
    """Write the page into the folder `docs`, keeping what is written by hand around the generated part."""
    path = docs / "strategies.md"
    path.write_text(page(path.read_text(encoding="utf-8") if path.is_file() else None), encoding="utf-8")


def _documented(name: str) -> tuple[str, str]:
    """First line of the strategy's module or class, and the links under its source."""
    builder = catalog.STRATEGIES[name]
    module = inspect.getmodule(builder)
    text = ast.get_docstring(ast.parse(inspect.getsource(module))) if module else None
    own = inspect.cleandoc(builder.__doc__ or "").split("\n\n")[0].replace("\n", " ")
    text = text or ""
    links = re.findall(r"https?://[^\s,;)]+", text[text.find("Source:") :] if "Source:" in text else "")
    cited = [link.rstrip(".") for link in links]
    return own.rstrip("."), " ".join(f"[{_short(link)}]({link})" for link in cited) or "–"


def _short(link: str) -> str:
    return re.sub(r"^https?://(www\.)?", "", link).split("/")[0] if "arxiv" not in link else "arXiv " + link[-10:]


def _systems(folder: Path) -> dict[str, list[str]]:
    """By strategy, links to the job files that compose a published system of it."""
    found: dict[str, list[str]] = {}
    for path in sorted(folder.glob("*.yaml")):
        job = load_yaml(path)
        strategy = job.get("strategy")
        if isinstance(strategy, dict) and "name" in strategy and isinstance(job.get("system"), dict):
            link = f"[{job['system']['title']}](../configs/systems/{path.name})"
            found.setdefault(str(strategy["name"]), []).append(link)
    return found


if __name__ == "__main__":
    write(Path(sys.argv[1] if len(sys.argv) > 1 else "docs"))
