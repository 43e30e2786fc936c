"""Progress on stderr: a bar with rate and time left on a terminal, lines in a log, JSON lines with ``--json``.

There is one mechanism. The work says how far it has come, or is asked, and need not know how much there is; a thread
shows it from time to time, so that silence says something too. Work that is done at once shows nothing.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from threading import Event, Thread
from types import TracebackType
from typing import TYPE_CHECKING

import click

from castore.frozen import frozen
from castore_cli.formatting import duration, number, size

if TYPE_CHECKING:
    from rich.progress import Progress

TICK_S, FIRST_S, LINE_S = 0.25, 1.0, 10.0
"""Seconds between two looks, until work that is asked is shown on a terminal, and between two lines in a log."""

WINDOW_S = 15.0
"""Seconds over which a rate is taken: what was found at once in the beginning says nothing of what is still to do."""


@frozen
class _Look:
    """How far the work was at a time.

    Attributes:
        time_s: The time.
        done: Of what is counted.
        measured: Of what the rate is of.
    """

    time_s: float
    done: int
    measured: int


class ProgressDisplay:
    """Shows how far something has come.

    Args:
        verb: What is being done, ``tokenizing``.
        unit: What is counted, ``rows``; ``bytes`` are shown as sizes.
        rate_of: What the rate is of, one of the further numbers of ``update``. Default: the unit.
        ask: Gives the numbers of work that does not report, that of ``unit`` among them.
        as_json: JSON lines instead of text.
        quiet: Nothing at all.
    """

    def __init__(
        self,
        verb: str,
        unit: str,
        *,
        rate_of: str | None = None,
        ask: Callable[[], Mapping[str, int]] | None = None,
        as_json: bool = False,
        quiet: bool = False,
    ) -> None:
        self._verb, self._unit, self._rate_of, self._ask, self._json = verb, unit, rate_of or unit, ask, as_json
        self._state: tuple[int, int | None, Mapping[str, int]] = 0, None, {}
        self._began = time.monotonic()
        self._looks = deque([_Look(self._began, 0, 0)])
        self._ended = Event()
        self._thread = None if quiet else Thread(target=self._watch, daemon=True)

    def __enter__(self) -> ProgressDisplay:
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def update(self, done: int, total: int | None = None, **numbers: int) -> None:
        """Say how far the work is, of how much if that is known, and further numbers."""
        self._state = done, total, numbers

    def _watch(self) -> None:
        """Look, and show what was seen, until the work ends or nobody reads it."""
        with suppress(OSError):
            if sys.stderr.isatty() and not self._json:
                self._watch_on_terminal()
            else:
                self._watch_for_log()

    def _watch_for_log(self) -> None:
        said = self._began
        while not self._ended.wait(TICK_S):
            self._look()
            if time.monotonic() - said >= LINE_S:
                said = time.monotonic()
                click.echo(self._document() if self._json else f"{self._verb}: {self._text()}", err=True)

    def _watch_on_terminal(self) -> None:
        # What is asked may be done before anybody wondered; what reports is known to take long.
        if self._ended.wait(TICK_S if self._ask is None else FIRST_S):
            return
        bar = _bar()  # its library takes a tenth of a second to import
        self._look()
        task = bar.add_task(self._verb, total=None, said=self._text())
        with bar:
            while not self._ended.is_set():
                done, total, _ = self._state
                bar.update(task, completed=done, total=total, said=self._text(), refresh=True)
                self._ended.wait(TICK_S)
                self._look()

    def _look(self) -> None:
        if self._ask is not None:
            asked = self._ask()
            self._state = asked[self._unit], None, asked
        now = time.monotonic()
        done, _, numbers = self._state
        self._looks.append(_Look(now, done, numbers.get(self._rate_of, done)))
        while len(self._looks) > 2 and now - self._looks[1].time_s >= WINDOW_S:
            self._looks.popleft()

    def _rates(self) -> tuple[float, float]:
        """What is done, and what is measured, in a second of late."""
        first, last = self._looks[0], self._looks[-1]
        seconds = max(last.time_s - first.time_s, 1e-6)
        return (last.done - first.done) / seconds, (last.measured - first.measured) / seconds

    def _left_s(self) -> float | None:
        """Seconds that the rest will take, None if that cannot be known."""
        done, total, _ = self._state
        rate, _ = self._rates()
        return None if total is None or rate <= 0 else max(total - done, 0) / rate

    def _text(self) -> str:
        done, total, _ = self._state
        rate = f"{_amount(int(self._rates()[1]), self._rate_of)}/s"
        passed = duration(time.monotonic() - self._began)
        if total is None:
            return f"{_amount(done, self._unit)} in {passed}, {rate}"
        of_all = f"{size(done)} of {size(total)}"
        if self._unit != "bytes":
            of_all = f"{number(done)} of {number(total)} {self._unit}"
        left = self._left_s()
        return f"{of_all}, {rate}, " + (f"{passed} so far" if left is None else f"{duration(left)} left")

    def _document(self) -> str:
        import json  # only here: it costs start-up

        done, total, numbers = self._state
        left = self._left_s()
        document = {
            "progress": self._verb,
            "unit": self._unit,
            "done": done,
            "total": total,
            "seconds": round(time.monotonic() - self._began, 1),
            "seconds_left": None if left is None else round(left, 1),
        }
        return json.dumps({**document, **numbers})


def _amount(count: int, unit: str) -> str:
    return size(count) if unit == "bytes" else f"{number(count)} {unit}"


def _bar() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[said]}", markup=False),
        console=Console(stderr=True),
        transient=True,
        auto_refresh=False,
        redirect_stdout=False,
    )
