"""Progress of work that does not know how much is left: what was read so far, on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from threading import Event, Thread
from types import TracebackType

import click

from castore_cli.text import plural, size

FIRST_S, TERMINAL_S, LOG_S = 1.0, 0.5, 10.0
"""Seconds until something is said on a terminal, between two states there, and between two lines in a log."""


class Watch:
    """Tells from time to time what was read. A thread asks, so that the work need not report.

    Args:
        verb: What is being done, ``comparing``.
        reads: Gives objects and bytes read so far.
        as_json: JSON lines instead of text.
        quiet: Nothing at all.
    """

    def __init__(self, verb: str, reads: Callable[[], dict[str, int]], *, as_json: bool, quiet: bool) -> None:
        self._verb, self._reads, self._json = verb, reads, as_json
        self._terminal = sys.stderr.isatty() and not as_json
        self._done = Event()
        self._began = time.monotonic()
        self._thread = None if quiet else Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Watch:
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self) -> None:
        said = False
        wait = FIRST_S if self._terminal else LOG_S
        while not self._done.wait(wait):
            wait = TERMINAL_S if self._terminal else LOG_S
            said = True
            click.echo(f"\r\x1b[K{self._state()}" if self._terminal else self._state(), err=True, nl=not self._terminal)
        if said and self._terminal:
            click.echo("\r\x1b[K", err=True, nl=False)

    def _state(self) -> str:
        reads, seconds = self._reads(), time.monotonic() - self._began
        if self._json:
            import json  # only here: it costs start-up

            return json.dumps({"progress": self._verb, "seconds": round(seconds, 1), **reads})
        return f"{self._verb}: read {plural(reads['objects'], 'object')}, {size(reads['bytes'])} in {seconds:,.0f} s"
