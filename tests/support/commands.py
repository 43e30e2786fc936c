"""The ``castore`` command as a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

REPOSITORY_ROOT = Path(__file__).parents[2]
CASTORE = (sys.executable, "-c", "from castore_cli.start import main; main()")
SMALL_CASTORE = (sys.executable, "-m", "tests.support.small_castore")


def environment(**more: str) -> dict[str, str]:
    """The environment of a child, without what would change its output."""
    dropped = ("CASTORE_", "NO_COLOR", "TERM", "PYTHONWARNINGS")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    return {**kept, "PYTHONPATH": str(REPOSITORY_ROOT), "CASTORE_AUTHOR": "a tester", **more}


def castore(
    *arguments: str | Path,
    command: tuple[str, ...] = CASTORE,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    check: int | None = 0,
    timeout: float = 120,
    **options: object,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; ``check`` is the exit code that it must have, None for any."""
    done: subprocess.CompletedProcess[str] = subprocess.run(  # type: ignore[call-overload]
        [*command, *map(str, arguments)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        cwd=cwd,
        env=environment(**(env or {})),
        timeout=timeout,
        **options,
    )
    if check is not None:
        assert done.returncode == check, (done.returncode, done.stdout, done.stderr)
    return done


def start(*arguments: str | Path, command: tuple[str, ...] = SMALL_CASTORE, **env: str) -> subprocess.Popen[str]:
    """Start a command in a session of its own, as a terminal would."""
    return subprocess.Popen(
        [*command, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**env),
        start_new_session=True,
        # Tests that run in the background are started with Ctrl-C ignored, and would hand that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def trouble(done: subprocess.CompletedProcess[str], status: int = 2) -> str:
    """The one line that a command in trouble said; it said nothing else, but that it made a repository before."""
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    assert done.stdout == ""
    lines = [line for line in done.stderr.splitlines() if not line.startswith("castore: new repository at ")]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("castore: "), done.stderr
    return lines[0].removeprefix("castore: ")


def wait_until(what: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for something that is certain to happen."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def session_members(session: int) -> list[int]:
    """Processes of a session that are alive."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == session and fields[0] not in "ZX":
                found.append(int(entry.name))
    return found
