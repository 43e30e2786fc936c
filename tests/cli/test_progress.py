"""Progress: on stderr, only where the work takes long, and never on stdout; rates and times left that are sane."""

from __future__ import annotations

import io
import json
import re
import sys
import threading
from collections.abc import Callable

import pytest

from castore.diff import compare as comparing
from castore_cli import progress
from castore_cli.formatting import duration
from castore_cli.progress import ProgressDisplay
from tests.cli.conftest import Run


class Clock:
    """A time that tests set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(progress, "time", made)
    return made


def said(display: ProgressDisplay, clock: Clock, seconds: float, done: int, total: int | None, **numbers: int) -> str:
    """What is shown after some seconds in which the work came so far, looked at in every one of them."""
    before = display._state[0]
    for i in range(1, int(seconds) + 1):
        clock.now += 1
        display.update(before + (done - before) * i // int(seconds), total, **numbers)
        display._look()
    return display._text()


def test_a_bar_tells_rate_and_time_left(clock: Clock) -> None:
    display = ProgressDisplay("tokenizing", "rows", rate_of="tokens")
    assert (
        said(display, clock, 10, 1000, 10_000, tokens=50_000) == "1,000 of 10,000 rows, 5,000 tokens/s, 1 min 30 s left"
    )


def test_what_was_found_at_once_says_nothing_of_the_rest(clock: Clock) -> None:
    """Nine of ten rows were tokenized before: a rate since the beginning would promise the rest for now."""
    display = ProgressDisplay("tokenizing", "rows")
    said(display, clock, 1, 90_000, 100_000)
    text = said(display, clock, 30, 90_300, 100_000)
    assert text == "90,300 of 100,000 rows, 10 rows/s, 16 min 10 s left"


def test_work_that_stands_still_promises_nothing(clock: Clock) -> None:
    display = ProgressDisplay("checking", "bytes")
    said(display, clock, 5, 5 << 20, 100 << 20)
    assert said(display, clock, 30, 5 << 20, 100 << 20) == "5.0 MiB of 100.0 MiB, 0 bytes/s, 35 s so far"


def test_work_that_does_not_know_how_much_is_left(clock: Clock) -> None:
    display = ProgressDisplay("comparing", "bytes", ask=lambda: {"objects": 3, "bytes": 3 << 20})
    assert said(display, clock, 3, 0, None) == "3.0 MiB in 3 s, 1.0 MiB/s"
    found = json.loads(display._document())
    assert found == {
        "progress": "comparing",
        "unit": "bytes",
        "done": 3 << 20,
        "total": None,
        "seconds": 3.0,
        "seconds_left": None,
        "objects": 3,
        "bytes": 3 << 20,
    }


def test_json_tells_the_same(clock: Clock) -> None:
    display = ProgressDisplay("tokenizing", "rows")
    said(display, clock, 10, 100, 400, tokens=7)
    found = json.loads(display._document())
    assert (found["done"], found["total"], found["seconds"], found["seconds_left"]) == (100, 400, 10.0, 30.0)
    assert found["tokens"] == 7


def test_times_are_told_in_two_units() -> None:
    assert [duration(s) for s in (0, 59.4, 60, 200, 7500, 360_000)] == [
        "0 s", "59 s", "1 min 0 s", "3 min 20 s", "2 h 5 min", "100 h 0 min",
    ]  # fmt: skip


def test_a_terminal_that_went_away_stops_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = threading.Event()

    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            tried.set()
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(sys, "stderr", Gone())
    for name in ("TICK_S", "LINE_S"):
        monkeypatch.setattr(progress, name, 0.01)
    with ProgressDisplay("checking", "bytes") as display:
        assert tried.wait(60)
        display.update(1, 2)


# ---- of a command


class Watched:
    """Comparisons that last until something was shown twice, or for some seconds."""

    def __init__(self) -> None:
        self.most_s = 60.0
        self.shown = 0
        self.twice = threading.Event()

    def see(self, there: Callable[[ProgressDisplay], str]) -> Callable[[ProgressDisplay], str]:
        def show(display: ProgressDisplay) -> str:
            self.shown += 1
            if self.shown == 2:
                self.twice.set()
            return there(display)

        return show


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Watched:
    watched = Watched()
    there: Callable[..., object] = comparing.compare

    def wait(*arguments: object, **options: object) -> object:
        found = there(*arguments, **options)
        watched.twice.wait(watched.most_s)
        return found

    monkeypatch.setattr(comparing, "compare", wait)
    for name in ("_text", "_document"):
        monkeypatch.setattr(ProgressDisplay, name, watched.see(getattr(ProgressDisplay, name)))
    for name in ("TICK_S", "FIRST_S", "LINE_S"):
        monkeypatch.setattr(progress, name, 0.05)
    return watched


def test_lines_in_a_log(run: Run, slow: Watched) -> None:
    said = run("diff", "base", "word", "--stat", status=1)
    lines = said.err.splitlines()
    assert len(lines) >= 2
    assert all(re.match(r"comparing: .* in \d+ s, ", line) for line in lines)
    assert "comparing" not in said.out


def test_lines_of_json(run: Run, slow: Watched) -> None:
    said = run("diff", "base", "word", "--json", status=1)
    states = [json.loads(line) for line in said.err.splitlines()]
    assert len(states) >= 2
    assert states[-1]["progress"] == "comparing"
    assert states[-1]["objects"] >= 4
    assert said.json["equal"] is False


def test_one_line_on_a_terminal_that_goes_away(run: Run, slow: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    said = run("diff", "base", "word", "--stat", status=1)
    assert "comparing" in said.err
    assert re.search(r" in \d+ s, ", said.err)
    assert said.err.endswith("\x1b[?25h\r\x1b[1A\x1b[2K"), "the cursor is back, and the line is gone"
    assert "comparing" not in said.out


def test_nothing_if_it_is_quick_or_quiet(run: Run, slow: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    slow.most_s = 0.3
    assert run("diff", "base", "word", "-q", status=1).err == ""
    monkeypatch.setattr(progress, "LINE_S", 10.0)
    assert run("diff", "base", "word", "--stat", status=1).err == ""
