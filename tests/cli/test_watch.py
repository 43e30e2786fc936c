"""Progress of comparisons: on stderr, only where the work takes long, and never on stdout."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

import pytest

from castore.diff import compare as comparing
from castore_cli import watch
from tests.cli.conftest import Run


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Comparisons that take long for the watch."""
    there: Callable[..., object] = comparing.compare

    def wait(*arguments: object, **options: object) -> object:
        found = there(*arguments, **options)
        time.sleep(0.3)
        return found

    monkeypatch.setattr(comparing, "compare", wait)
    for name in ("FIRST_S", "TERMINAL_S", "LOG_S"):
        monkeypatch.setattr(watch, name, 0.05)


def test_lines_in_a_log(run: Run, slow: None) -> None:
    said = run("diff", "base", "word", "--stat", status=1)
    lines = said.err.splitlines()
    assert lines
    assert all(line.startswith("comparing: read ") and line.endswith(" in 0 s") for line in lines)
    assert "comparing" not in said.out


def test_lines_of_json(run: Run, slow: None) -> None:
    said = run("diff", "base", "word", "--json", status=1)
    states = [json.loads(line) for line in said.err.splitlines()]
    assert states
    assert states[-1]["progress"] == "comparing"
    assert states[-1]["objects"] >= 4
    assert said.json["equal"] is False


def test_one_line_on_a_terminal_that_goes_away(run: Run, slow: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    err = run("diff", "base", "word", "--stat", status=1).err
    assert err.startswith("\r\x1b[Kcomparing: read ")
    assert err.endswith("\r\x1b[K")
    assert "\n" not in err


def test_nothing_if_it_is_quick_or_quiet(run: Run, slow: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("diff", "base", "word", "-q", status=1).err == ""
    monkeypatch.setattr(watch, "LOG_S", 10.0)
    assert run("diff", "base", "word", "--stat", status=1).err == ""
