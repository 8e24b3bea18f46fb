"""The house rules that a machine can check: floors, light imports, sizes, sorted exports, and what is banned."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = ["spaces", "hwmodels", "predictors", "search", "service"]
TORCH_FOLDERS = {"layers", "elastic", "families"}
MODULE_LINES = 600
SINGLE_FILE = {"service/agent.py": 760}
"""Copied to devices as it is, so that it cannot be divided."""
FUNCTION_LINES = 60

HEAVY = [
    "alembic", "fastapi", "httpx", "jinja2", "matplotlib", "moocore", "onnx", "onnxruntime", "onnxscript", "optuna",
    "pandas", "prometheus_client", "psycopg", "pyarrow", "pydantic", "pydantic_settings", "pymoo", "pynvml", "ray",
    "rich", "sqlalchemy", "starlette", "structlog", "typer", "uvicorn",
]  # fmt: skip
"""What a bare training image lacks: floors 1 to 4 import all of these inside functions only."""

IMPORT_EACH = """
import importlib, sys

class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ImportError(f"{name} is not allowed here at import time")

blocked = set(sys.argv[1].split(","))
sys.meta_path.insert(0, Wall())
broken = []
for module in sys.argv[2:]:
    try:
        importlib.import_module(module)
    except ImportError as error:
        broken.append(f"{module}: {error}")
sys.exit("\\n".join(broken))
"""


def modules(*folders: str) -> list[Path]:
    """Python files of the package, relative to its root; all of them without `folders`."""
    found = [path for folder in folders or FLOORS for path in sorted((ROOT / folder).rglob("*.py"))]
    if not folders:
        found += sorted(ROOT.glob("*.py")) + sorted((ROOT / "configs").rglob("*.py"))
    return [path.relative_to(ROOT) for path in found if "versions" not in path.parts]


def dotted(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(("archsmith", *(parts[:-1] if parts[-1] == "__init__" else parts)))


def parsed(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"), str(path))


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Line and absolute dotted name of every import of a module, wherever in the module it stands."""
    package = dotted(path).split(".") if path.name == "__init__.py" else dotted(path).split(".")[:-1]
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{stem}.{alias.name}") for alias in node.names)


def import_without(blocked: list[str], paths: list[Path]) -> str:
    command = [sys.executable, "-c", IMPORT_EACH, ",".join(blocked), *map(dotted, paths)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd="/").stderr.strip()


def test_floors_one_to_four_import_without_the_service_packages() -> None:
    assert import_without(HEAVY, modules(*FLOORS[:4])) == ""


def test_space_descriptions_import_without_torch() -> None:
    light = [path for path in modules("spaces") if not TORCH_FOLDERS & set(path.parts)]
    assert import_without([*HEAVY, "torch"], light) == ""


def test_wall_blocks_an_import_that_would_succeed() -> None:
    assert "numpy is not allowed here" in import_without(["numpy"], [Path("spaces/gene.py")])


def test_imports_only_go_downwards() -> None:
    upwards = []
    for path in modules(*FLOORS):
        floor = FLOORS.index(path.parts[0])
        for line, name in imported(path):
            package, _, rest = name.partition(".")
            target = rest.partition(".")[0]
            if package == "archsmith" and target in FLOORS and FLOORS.index(target) > floor:
                upwards.append(f"{path}:{line} imports {name}")
    assert upwards == []


def test_hardware_models_use_only_the_description_of_spaces() -> None:
    wrong = []
    for path in modules("hwmodels"):
        for line, name in imported(path):
            if name.startswith("archsmith.spaces.") and name.split(".")[2] in TORCH_FOLDERS:
                wrong.append(f"{path}:{line} imports {name}")
    assert wrong == []


def test_imports_inside_the_package_are_relative() -> None:
    absolute = []
    for path in modules(*FLOORS):
        if "migrations" in path.parts:  # Alembic runs these as files, outside the package
            continue
        for node in ast.walk(parsed(path)):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            absolute += [f"{path}:{node.lineno}" for name in names if name.partition(".")[0] == "archsmith"]
    assert absolute == []


def test_exports_are_sorted_and_exist() -> None:
    wrong = []
    for path in modules(*FLOORS):
        if path.name.startswith("__") or "migrations" in path.parts:
            continue
        exports = [
            ast.literal_eval(node.value)
            for node in parsed(path).body
            if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets)
        ]
        # The order of ruff's RUF022: constants, classes, then functions.
        key = lambda name: (0 if name.isupper() else 1 if name[:1].isupper() else 2, name)  # noqa: E731
        if len(exports) != 1 or list(exports[0]) != sorted(exports[0], key=key):
            wrong.append(f"{path}: {exports}")
    assert wrong == []


def test_modules_and_functions_stay_small() -> None:
    large = []
    for path in modules():
        allowed = SINGLE_FILE.get(str(path), MODULE_LINES)
        if (lines := len((ROOT / path).read_text(encoding="utf-8").splitlines())) > allowed:
            large.append(f"{path}: {lines} lines, allowed {allowed}")
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                if (length := node.end_lineno - node.lineno + 1) > FUNCTION_LINES:
                    large.append(f"{path}:{node.lineno} {node.name}: {length} lines, allowed {FUNCTION_LINES}")
    assert large == []


# Reads a published benchmark's own format by an unpickler that resolves containers and numbers only; see its tests.
RESTRICTED_UNPICKLER = "predictors/tables/nats_bench.py"


def test_nothing_unsafe_is_loaded() -> None:
    unsafe = []
    for path in modules():
        for line, name in imported(path):
            if str(path) == RESTRICTED_UNPICKLER and name == "pickle":
                continue
            if name.partition(".")[0] in {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}:
                unsafe.append(f"{path}:{line} imports {name}")
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in {"torch.load", "yaml.load", "yaml.unsafe_load"}:
                keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                loader = keywords.get("Loader", ast.unparse(node.args[1]) if len(node.args) > 1 else "")
                if "Strict" not in loader:  # a loader of ours, derived from SafeLoader, that refuses duplicate keys
                    unsafe.append(f"{path}:{node.lineno} calls {ast.unparse(node.func)}")
    assert unsafe == []


@pytest.mark.parametrize(
    "pattern", [r"/(?:home|root|Users|work)/\w+", r"https?://(?:[\w.-]+\.)?(?:pypi\.|download\.pytorch)"]
)
def test_no_machine_path_or_package_index_is_written_down(pattern: str) -> None:
    folders = [*FLOORS, "configs", "examples", "benchmarks", "docs"]
    files = [
        path
        for folder in folders
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".yaml", ".md", ".toml"}
    ]
    files += [
        ROOT / "Makefile",
        ROOT / ".ci" / "run",
        ROOT / "pyproject.toml",
        ROOT / "constraints.txt",
        *ROOT.glob("*.md"),
    ]
    found = [str(path.relative_to(ROOT)) for path in files if re.search(pattern, path.read_text(encoding="utf-8"))]
    assert found == []
