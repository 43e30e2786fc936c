"""``python -m tests.support.signals HOW SIGNAL ARGUMENTS…``: a command, and a signal at each step of the code about it.

A step is a line, or an instruction of a line, of the modules that set handlers and catch what they raise (``FILES``).
``HOW`` is ``lines`` or ``instructions``. With ``again`` behind it, as in ``lines-again``, the command gets SIGTERM as
it works, and ``SIGNAL`` too at a step that comes after that. Each is a process of its own, forked when all is imported,
and a line of JSON: the place, empty where there was none, the exit code, and what was said.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any

import castore.repository
import castore_cli.interrupt
import castore_cli.kept
import castore_cli.main
import castore_cli.start

FILES = {module.__file__ for module in (castore_cli.main, castore_cli.interrupt, castore_cli.kept)}


@dataclass
class Steps:
    """Counts steps, and gives a signal at one of them; writes its place before that."""

    number: int
    at: int | None
    instructions: bool
    places: int
    counting: bool
    count: int = 0

    def trace(self, frame: FrameType, event: str, argument: object) -> Any:
        if frame.f_code.co_filename not in FILES:
            return None
        frame.f_trace_opcodes = self.instructions
        if event in ("line", "opcode") and self.counting:
            self.count += 1
            if self.count == self.at:
                os.write(self.places, f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}".encode())
                signal.raise_signal(self.number)
        return self.trace


def interrupted_at_work(steps: Steps) -> None:
    """Let the command get SIGTERM when it opens its repository, and count from there on."""

    def opened(*arguments: object, **options: object) -> Any:
        steps.counting = True
        signal.raise_signal(signal.SIGTERM)
        raise AssertionError("SIGTERM went unseen")

    castore.repository.Repository.open = opened  # type: ignore[method-assign, assignment]


def in_a_fork(how: str, number: int, at: int | None) -> tuple[list[str], dict[str, Any]]:
    """The command with a signal at a step: modules imported and steps done, if it came to its end; what is printed."""
    again = how.endswith("-again")
    (said, say), (told, tell), (known, places) = os.pipe(), os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        sys.stderr = open(say, "w", encoding="utf-8")  # noqa: SIM115
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        steps = Steps(number, at, how.startswith("instructions"), places, counting=not again)
        if again:
            interrupted_at_work(steps)
        status = 0
        sys.settrace(steps.trace)
        try:
            castore_cli.start.main()
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        finally:
            sys.settrace(None)
            sys.stderr.flush()
            modules = [name for name in sys.modules if name.startswith(("castore", "click."))]
            os.write(tell, " ".join([str(steps.count), *modules]).encode())
        os._exit(status)
    for descriptor in (say, tell, places):
        os.close(descriptor)
    texts = []
    for descriptor in (said, told, known):
        with open(descriptor, encoding="utf-8") as file:
            texts.append(file.read())
    _, status = os.waitpid(child, 0)
    said_text, end, place = texts
    return end.split(), {"place": place, "code": os.waitstatus_to_exitcode(status), "stderr": said_text}


def at_every_step(how: str, number: int) -> Iterator[dict[str, Any]]:
    """First undisturbed."""
    (_, *modules), _ = in_a_fork(how, number, None)
    for name in modules:
        import_module(name)
    (count, *_), undisturbed = in_a_fork(how, number, None)
    yield undisturbed
    for at in range(1, int(count) + 1):
        yield in_a_fork(how, number, at)[1]


if __name__ == "__main__":
    how, name, *arguments = sys.argv[1:]
    sys.argv = ["castore", *arguments]
    for found in at_every_step(how, signal.Signals[name]):
        print(json.dumps(found, ensure_ascii=False), flush=True)
