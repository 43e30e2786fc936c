"""The sessions of the documentation: read them, run them, compare what they show.

A fenced block marked ``console`` is a session of a shell. Its lines are

* ``$ command``, continued on lines that begin with ``> ``; a trailing ``# exit 1`` is the exit code that is expected;
* output, stdout and stderr together. A command without output lines below it may print anything. In output, ``…``
  stands for any text, and alone on a line for any lines. Sizes (``27.9 KiB``) are not compared: they depend on the
  compressor.

The sessions of a page run from top to bottom in one fresh folder, which holds ``docs/examples`` as ``examples`` and
where ``CASTORE_REPO`` is ``repository``. Blocks marked ``sh`` install things and are not run here; those of README.md
are run by ``.ci/run``.

A block marked ``python`` is a session of Python, one for all such blocks of a page: ``>>> statement``, continued on
lines that begin with ``... ``, and its output, compared in the same way; an error shows as its type and message, and is
expected where ``# exit 1`` stands behind the statement. A block without ``>>>`` is run as a whole and prints what it
likes. Behind ``python`` may stand the name of a library: where it is not installed, the block is not run.

    python -m tests.docs.console PAGE…             show what differs
    python -m tests.docs.console --write PAGE…     write the output into the page wherever it differs
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 120

_EXIT = re.compile(r"\s+# exit (\d+)$")
_DIGEST = re.compile(r"\b[0-9a-f]{12,64}\b")
_SIZE = re.compile(r"\d[\d,.]* (bytes?|[KMG]iB)\b")


@dataclass(frozen=True, slots=True)
class Command:
    """One command of a page.

    Attributes:
        line: Where it stands, from 1.
        text: What the shell gets.
        kind: ``shell``; or ``single`` for a statement of Python, ``exec`` for a whole block of it.
        exit_code: What it must return.
        output_line: Index in the page's lines at which its output begins.
        output: The output that the page shows.
    """

    line: int
    text: str
    kind: str
    exit_code: int
    output_line: int
    output: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a command."""

    command: Command
    exit_code: int
    output: tuple[str, ...]

    @property
    def agrees(self) -> bool:
        """Whether the page tells the truth."""
        if self.exit_code != self.command.exit_code:
            return False
        return not self.command.output or matches(self.command.output, self.output)

    def __str__(self) -> str:
        prompt = "$" if self.command.kind == "shell" else ">>>"
        shown = "\n".join([f"{prompt} {self.command.text}", "--- the page says", *self.command.output])
        happened = "\n".join([f"--- exit {self.exit_code}, expected {self.command.exit_code}", *self.output])
        return f"line {self.command.line}\n{shown}\n{happened}"


def pages() -> list[Path]:
    """README.md and all pages of docs/."""
    return [PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))]


def commands(page: Path) -> list[Command]:
    """All commands of a page, in order."""
    lines = page.read_text(encoding="utf-8").splitlines()
    found = []
    for start, stop, python in _blocks(lines):
        kind, prompt, more = ("single", ">>> ", "... ") if python else ("shell", "$ ", "> ")
        at = start
        if at < stop and python and not lines[at].startswith(prompt):
            found.append(Command(start + 1, "\n".join(lines[start:stop]), "exec", 0, stop, ()))
            at = stop
        while at < stop:
            assert lines[at].startswith(prompt), f"{page}, line {at + 1}: output without a command"
            begin, text = at, lines[at].removeprefix(prompt)
            at += 1
            while at < stop and (lines[at].startswith(more) or lines[at] == more.rstrip()):
                text += "\n" + lines[at].removeprefix(more.rstrip()).removeprefix(" ")
                at += 1
            exit_code = 0
            if mark := _EXIT.search(text):
                text, exit_code = text[: mark.start()], int(mark[1])
            output_line = at
            while at < stop and not lines[at].startswith(prompt):
                at += 1
            found.append(Command(begin + 1, text, kind, exit_code, output_line, tuple(lines[output_line:at])))
    return found


def _blocks(lines: list[str]) -> Iterator[tuple[int, int, bool]]:
    """Half-open ranges of lines inside fences of sessions, and if of Python; a longer fence may hold shorter ones."""
    fence, start, python = 0, None, False
    for at, line in enumerate(lines):
        marks = len(line) - len(line.lstrip("`"))
        if marks < 3:
            continue
        kind, _, library = line[marks:].strip().partition(" ")
        if not fence:
            python = kind == "python"
            wanted = kind == "console" or (python and (not library or find_spec(library) is not None))
            fence, start = marks, at + 1 if wanted else None
        elif marks >= fence and not kind:
            if start is not None:
                yield start, at, python
            fence, start = 0, None


def run(page: Path, folder: Path) -> Iterator[Outcome]:
    """Run the commands of a page in an empty folder."""
    shutil.copytree(PROJECT / "docs" / "examples", folder / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    environment = _environment(folder)
    with ExitStack() as stack:
        session = None
        for command in commands(page):
            if command.kind != "shell":
                session = session or stack.enter_context(_Session(folder, environment))
                yield session.outcome(command)
            else:
                yield _in_shell(command, folder, environment)


def _in_shell(command: Command, folder: Path, environment: dict[str, str]) -> Outcome:
    done = subprocess.run(
        ["bash", "-c", command.text],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=TIMEOUT_S,
        check=False,
    )
    return Outcome(command, done.returncode, tuple(line.rstrip() for line in done.stdout.splitlines()))


_SESSION = """
import contextlib, io, json, sys, warnings
answers, names = sys.stdout, {"__name__": "__main__"}
for line in sys.stdin:
    text, status, out = json.loads(line), 0, io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            exec(compile(text[1] + "\\n", "page", text[0]), names)
        except BaseException as error:
            status = 1
            print(f"{type(error).__module__}.{type(error).__name__}: {error}".removeprefix("builtins."))
    print(json.dumps([status, out.getvalue()]), file=answers, flush=True)
"""


class _Session:
    """A Python that keeps its names from one command to the next."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SESSION],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
        )

    def __enter__(self) -> _Session:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.communicate(timeout=TIMEOUT_S)

    def outcome(self, command: Command) -> Outcome:
        """Run one command."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps([command.kind, command.text]), file=self._process.stdin, flush=True)
        status, shown = json.loads(self._process.stdout.readline())
        return Outcome(command, status, tuple(line.rstrip() for line in shown.splitlines()))


def _environment(folder: Path) -> dict[str, str]:
    """A plain environment in which everything comes out the same on every machine and day."""
    programs = folder / ".programs"
    programs.mkdir()
    for name, arguments in (("castore", "-m castore_cli.main"), ("python", ""), ("python3", "")):
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n', encoding="utf-8")
        program.chmod(0o755)
    return {
        "PATH": f"{programs}:{os.environ.get('PATH', os.defpath)}",
        "HOME": str(folder),
        "CASTORE_REPO": "repository",
        "CASTORE_AUTHOR": "ada",
        "SOURCE_DATE_EPOCH": "1767225600",
        "TZ": "UTC",
        "LC_ALL": "C.UTF-8",
        "PYTHONUTF8": "1",
    }


def matches(expected: tuple[str, ...], actual: tuple[str, ...]) -> bool:
    """Whether output is what a page shows."""
    pattern = "".join(r"(?:.*\n)*?" if line.strip() == "…" else _line_pattern(line) + r"\n" for line in expected)
    return re.fullmatch(pattern, "".join(_SIZE.sub("SIZE", line) + "\n" for line in actual)) is not None


def _line_pattern(line: str) -> str:
    return ".*".join(re.escape(part) for part in _SIZE.sub("SIZE", line.rstrip()).split("…"))


def rewritten(page: Path, wrong: list[Outcome]) -> str:
    """The page with the output that its commands print now, and with new digests where its text has the old ones."""
    new: dict[str, str] = {}
    for outcome in wrong:
        for before, after in zip(outcome.command.output, outcome.output, strict=False):
            if _line_pattern(_DIGEST.sub("", before)) == _line_pattern(_DIGEST.sub("", after)):
                for old, now in zip(_DIGEST.findall(before), _DIGEST.findall(after), strict=True):
                    new[old[:6]] = max(now, new.get(old[:6], ""), key=len)
    lines = page.read_text(encoding="utf-8").splitlines()
    for outcome in reversed(wrong):
        start, shown = outcome.command.output_line, outcome.command.output
        kept = tuple(_redigested(line, new) for line in shown)
        lines[start : start + len(shown)] = kept if matches(kept, outcome.output) else outcome.output
    return _redigested("\n".join(lines) + "\n", new)


def _redigested(text: str, new: dict[str, str]) -> str:
    """Digests replaced, at the length they have in the text."""

    def now(found: re.Match[str]) -> str:
        return new.get(found[0][:6], found[0])[: len(found[0])]

    return re.sub(r"\b[0-9a-f]{6,64}\b", now, text)


def _main(arguments: list[str]) -> int:
    write = "--write" in arguments
    status = 0
    for page in (Path(argument) for argument in arguments if argument != "--write"):
        with tempfile.TemporaryDirectory() as name:
            outcomes = list(run(page, Path(name)))
        wrong = [outcome for outcome in outcomes if not outcome.agrees]
        for outcome in wrong:
            print(f"{page}, {outcome}\n")
        if write and wrong:
            page.write_text(rewritten(page, wrong), encoding="utf-8")
        status = status or bool(wrong)
    return int(status)


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
