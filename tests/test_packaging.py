"""The wheel holds one complete package, and what it installs works far from the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NOT_PACKAGED = {"tests", "benchmarks", "docs", "examples", "build", "dist", "runs"}
DATA = {".html", ".js", ".css", ".svg", ".png", ".yaml", ".ini", ".mako", ".typed", ".woff2"}


def package_folders() -> list[Path]:
    """Every folder of the package that holds modules, the root included."""
    inside = [
        path for path in ROOT.iterdir() if path.is_dir() and path.name not in NOT_PACKAGED and path.name[0] != "."
    ]
    modules = [module for folder in inside for module in folder.rglob("*.py")]
    return sorted({ROOT, *(module.parent for module in modules)})


def dotted(folder: Path) -> str:
    return ".".join(("archsmith", *folder.relative_to(ROOT).parts))


def test_pyproject_lists_every_folder_with_modules() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    # Alembic reads the versions as files: they are package data of `migrations`, not modules.
    folders = [dotted(folder) for folder in package_folders() if folder.name != "versions"]
    assert sorted(listed) == folders


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy so that the checkout gets no build folder."""
    work = tmp_path_factory.mktemp("wheel")
    skip = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "runs", "build", "dist", "tests")
    shutil.copytree(ROOT, work / "source", ignore=skip)
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        str(work),
        str(work / "source"),
    ]
    subprocess.run(build, check=True)
    (built,) = work.glob("*.whl")
    return built


@pytest.mark.slow
def test_wheel_holds_one_package_with_all_its_files(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {"archsmith"}
    expected = {
        f"archsmith/{path.relative_to(ROOT).as_posix()}"
        for folder in package_folders()
        for path in (folder.rglob("*") if folder != ROOT else [ROOT / "py.typed", *ROOT.glob("*.py")])
        if path.is_file() and path.suffix in {".py", *DATA} and "__pycache__" not in path.parts
    }
    assert expected - names == set()


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with archsmith from the wheel; its dependencies are borrowed from the running one.

    The .pth file appends a folder to sys.path but runs no .pth of that folder, so the editable checkout stays hidden.
    """
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    paths = sysconfig.get_paths(vars={"base": str(folder), "platbase": str(folder)})
    target = paths["purelib"]
    install = ["--quiet", "--no-deps", "--no-index", "--prefix", str(folder), str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", "install", "--ignore-installed", *install], check=True)
    (Path(target) / "borrowed.pth").write_text(sysconfig.get_paths()["purelib"] + "\n", encoding="utf-8")
    return folder


def run(installed: Path, *command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a program of the environment in a folder far from the checkout."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "ARCHSMITH_"))}
    program = [str(installed / "bin" / command[0]), *command[1:]]
    return subprocess.run(program, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_installed_wheel_is_what_python_imports(installed: Path, tmp_path: Path) -> None:
    done = run(installed, "python", "-c", "import archsmith; print(archsmith.__file__)", folder=tmp_path)
    assert done.stderr == ""
    assert Path(done.stdout.strip()).is_relative_to(installed)


@pytest.mark.slow
def test_installed_wheel_runs_a_search_from_another_folder(installed: Path, tmp_path: Path) -> None:
    """The tiny job is one of the package's own configurations."""
    find = "import archsmith, pathlib; print(pathlib.Path(archsmith.__file__).parent / 'configs/jobs/tiny.yaml')"
    job = run(installed, "python", "-c", find, folder=tmp_path).stdout.strip()
    assert Path(job).is_file(), "configs/jobs/tiny.yaml is not in the wheel"
    done = run(installed, "archsmith", "run", job, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.rglob("model.onnx")), f"no exported model under {tmp_path}: {done.stdout}"
