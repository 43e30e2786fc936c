"""Progress on stderr: a bar with rate and time left on a terminal, lines in a log, JSON lines with ``--json``."""

from __future__ import annotations

import json
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

LINE_S = 10.0
"""Seconds between two lines in a log."""


class Meter:
    """Shows how far something has come.

    Args:
        verb: What is being done, ``tokenizing``.
        unit: What is counted, ``rows``.
        as_json: JSON lines instead of text.
        quiet: Nothing at all.
    """

    def __init__(self, verb: str, unit: str, *, as_json: bool = False, quiet: bool = False) -> None:
        self._verb, self._unit, self._json, self._quiet = verb, unit, as_json, quiet
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._began = self._shown = time.monotonic()

    def __enter__(self) -> Meter:
        if not self._quiet and not self._json and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[detail]}"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task(self._verb, total=None, detail="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, done: int, total: int, **fields: Any) -> None:
        """Show a new state; ``fields`` are further numbers, of which ``tokens`` gets a rate."""
        if self._quiet:
            return
        seconds = max(time.monotonic() - self._began, 1e-6)
        rate = fields.get("tokens", done) / seconds
        if self._bar is not None and self._task is not None:
            what = "tokens" if "tokens" in fields else self._unit
            self._bar.update(self._task, completed=done, total=total, detail=f"{rate:,.0f} {what}/s")
        elif time.monotonic() - self._shown >= LINE_S:
            self._shown = time.monotonic()
            left = seconds * (total - done) / done if done else 0
            self._line(done, total, seconds, rate, left, fields)

    def _line(self, done: int, total: int, seconds: float, rate: float, left: float, fields: dict[str, Any]) -> None:
        if self._json:
            state = {"progress": self._verb, "done": done, "total": total, "seconds": round(seconds, 1), **fields}
            click.echo(json.dumps(state), err=True)
            return
        what = "tokens" if "tokens" in fields else self._unit
        click.echo(
            f"{self._verb}: {done:,} of {total:,} {self._unit}, {rate:,.0f} {what}/s, {left:,.0f} s left", err=True
        )
