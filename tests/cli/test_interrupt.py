"""A signal at every moment of a short command: its exit code and its one line, or silence, or the command was done."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import REPOSITORY_ROOT, environment

PROJECT = tomllib.loads((REPOSITORY_ROOT / "pyproject.toml").read_text())
MODULE, _, FUNCTION = PROJECT["project"]["scripts"]["castore"].partition(":")

# What the installed script does, with a sign when it comes to the command line: Python itself, before that, is not
# castore's to silence.
SCRIPT = f"""
import sys
class Sign:
    def find_spec(name, path=None, target=None):
        if name == "castore_cli.main":
            sys.stderr.write(".")
            sys.stderr.flush()
sys.meta_path.insert(0, Sign)
from {MODULE} import {FUNCTION}
{FUNCTION}()
"""

DELAYS_S = [i * 0.012 for i in range(26)]
"""From nothing to the 0.3 s in which a short command is done."""

LINE = "castore: {}; nothing was changed: run the same command again\n"


def started(*arguments: str | Path, ignored: bool = False) -> subprocess.Popen[bytes]:
    """A command whose script has been loaded, in the next moment of which Ctrl-C can come."""
    handler = signal.SIG_IGN if ignored else signal.SIG_DFL
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        env=environment(),
        preexec_fn=lambda: signal.signal(signal.SIGINT, handler),
    )
    assert process.stderr is not None
    assert process.stderr.read(1) == b"."
    return process


def with_a_signal_at_every_step(how: str, name: str, repo: Path) -> list[dict[str, Any]]:
    """What a comparison of equal datasets says, undisturbed and with a signal at every step of the code about it."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.signals", how, name, "--repo", str(repo), "diff", "base", "base"],
        capture_output=True,
        text=True,
        env=environment(),
        check=True,
        timeout=120,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("how", "name"),
    [
        ("lines", "SIGINT"),
        ("lines", "SIGTERM"),
        pytest.param("lines", "SIGHUP", marks=pytest.mark.slow),
        pytest.param("instructions", "SIGTERM", marks=pytest.mark.slow),
    ],
)
def test_at_every_step(how: str, name: str, repo: Path) -> None:
    undisturbed, *struck = with_a_signal_at_every_step(how, name, repo)
    number = signal.Signals[name]
    assert (undisturbed["code"], undisturbed["stderr"]) == (0, "")
    assert len(struck) > 50
    for found in struck:
        assert found["place"]
        # At the very first steps no handler stands, and those of Python and the system are silent.
        first = found["place"].startswith("interrupt.py") and found["stderr"] == ""
        assert found["code"] == 128 + number or (first and found["code"] == -number), found
        assert found["stderr"] in ("", LINE.format("interrupted" if name == "SIGINT" else "terminated")), found
    assert sum(found["stderr"] != "" for found in struck) >= 1
    assert any(found["place"].startswith("main.py") for found in struck)


@pytest.mark.parametrize(
    ("how", "name"),
    [
        ("lines-again", "SIGINT"),
        ("lines-again", "SIGTERM"),
        pytest.param("instructions-again", "SIGINT", marks=pytest.mark.slow),
    ],
)
def test_once_more_at_every_step(how: str, name: str, repo: Path) -> None:
    """A command that was ended by SIGTERM gets another signal while things are put in order and the line is written."""
    undisturbed, *struck = with_a_signal_at_every_step(how, name, repo)
    lines = LINE.format("terminated"), LINE.format("interrupted")
    assert (undisturbed["code"], undisturbed["stderr"]) == (143, lines[0])
    assert len(struck) > 20
    for found in struck:
        assert found["code"] in (143, 128 + signal.Signals[name]), found
        # Only an impatient user is spared the line: schedulers send theirs again in any case.
        assert found["stderr"] in (lines if name != "SIGINT" else (*lines, "")), found


@pytest.mark.parametrize("command", [("show", "base"), ("--help",)])
@pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_at_every_moment(repo: Path, command: tuple[str, ...], every: int) -> None:
    """By the clock, in a process that is not watched."""
    undisturbed = started("--repo", repo, *command)
    whole, said = undisturbed.communicate()
    codes = []
    for delay in DELAYS_S[::every]:
        process = started("--repo", repo, *command)
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
        assert err in (b"", b"castore: interrupted\n", said), (delay, err.decode())
        # Python's last steps, when all is said, take the signal as any program does.
        assert process.returncode in (130, undisturbed.returncode, -signal.SIGINT), delay
        if process.returncode != 130:
            assert out == whole
        codes.append(process.returncode)
    assert 130 in codes


def test_little_is_imported_before_the_handler_stands() -> None:
    """What is, is a time in which Ctrl-C shows as a traceback."""
    needed = "castore_cli.start, castore_cli.interrupt"
    script = f"import sys; before = {{*sys.modules}}; import {needed}; print(*({{*sys.modules}} - before))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment(), check=True)
    assert {"castore_cli.start", "castore_cli.interrupt"} <= {*done.stdout.split()}
    assert "typing" not in done.stdout.split()


def test_what_runs_in_the_background_is_not_interrupted(repo: Path) -> None:
    process = started("--repo", repo, "show", "base", ignored=True)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 0
    assert err == b""
    assert out.startswith(b"root ")


IN_A_CALLBACK = """
import signal, sys, time, types, weakref
class Thing:
    pass
def command():
    from castore_cli.interrupt import interruptible, raise_on_interrupt
    raise_on_interrupt()
    interruptible(work)
def work():
    thing = Thing()
    seen = weakref.ref(thing, lambda gone: signal.raise_signal(signal.SIGINT))
    try:
        del thing
        time.sleep(30)
    except KeyboardInterrupt:
        print("interrupted")
sys.modules["castore_cli.main"] = types.SimpleNamespace(main=command)
from castore_cli.start import main
main()
"""


def test_an_interrupt_in_a_callback_is_not_lost() -> None:
    """As one that comes in the midst of an import is: Python says that it is ignored, and goes on."""
    done = subprocess.run(
        [sys.executable, "-c", IN_A_CALLBACK],
        capture_output=True,
        text=True,
        env=environment(),
        check=True,
        timeout=60,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert done.stdout == "interrupted\n"
    assert done.stderr == ""
