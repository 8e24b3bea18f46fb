"""The examples run as they stand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def test_minimal_search_prints_a_front(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "minimal_search.py")], cwd=tmp_path, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    head, *members = done.stdout.splitlines()
    assert head.startswith("The budget of 24 trials is met.")
    assert members
    assert all("accuracy" in line and "MACs" in line for line in members)
