"""The code of ``docs/how-to/train-with-pytorch.md`` runs, and prints what stands behind its ``print``s."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.commands import castore, environment

PROJECT = Path(__file__).parents[2]
PAGE = PROJECT / "docs" / "how-to" / "train-with-pytorch.md"


@pytest.mark.slow
def test_the_page_runs_as_shown(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    text = PAGE.read_text(encoding="utf-8")
    shutil.copytree(PROJECT / "docs" / "examples", tmp_path / "examples")
    for command in re.findall(r"^\$ castore (.*)$", text, re.MULTILINE):
        castore("--repo", "repository", *command.split(), cwd=tmp_path)
    blocks = re.findall(r"^```python torch\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 5
    script = "\n".join(blocks)
    expected = re.findall(r"^print\(.*\)  # (.*)$", script, re.MULTILINE)
    assert len(expected) == len(re.findall(r"^print", script, re.MULTILINE)) >= 5
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        cwd=tmp_path,
        env=environment(TMPDIR=str(tmp_path)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == expected
