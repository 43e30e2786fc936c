"""SIGTERM at any moment: one line that says what is kept, and the next command finishes as if nothing had been."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.commands import SMALL_CASTORE, castore, session_members, start, wait_until
from tests.support.jobs import TOKENIZER, example_rows, row, write_rows

SAID = {
    "tokenize": "what was tokenized is kept: run the same command again to go on from here",
    "import": "what was stored is kept, and not stored again: run the same command again to go on",
    "copy": "what was sent is kept, and not sent again: run the same command again to go on from here",
    "export": "the folder is as it was, and nothing is left beside it: run the same command again",
    "gc": "nothing that is in use was removed: run the same command again to remove the rest",
    "fsck": "nothing was changed but what was repaired: run the same command again",
    "diff": "nothing was changed: run the same command again",
}
ROWS = 400
SLOWLY = {"CASTORE_TEST_SLEEP": "0.02"}


@dataclass(frozen=True)
class Place:
    """A dataset made without interruption: stored in ``repo``, exported, and imported from there."""

    folder: Path

    @property
    def repo(self) -> Path:
        return self.folder / "repo"

    def tokenize(self, workers: int) -> list[str]:
        mix = ["--mix", str(self.folder / "rows.jsonl"), "1.0", "--tokenizer", str(TOKENIZER), "--as", "x", "-q"]
        return ["tokenize", *mix, "--workers", str(workers)]


def root_of(repo: Path) -> str:
    return castore("--repo", repo, "lock", "x").stdout.split('root = "')[1][:64]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("place")
    rows = [row(f"question {n}" + " and so on" * 20, f"answer {n}") for n in range(ROWS)]
    write_rows(folder / "rows.jsonl", [*example_rows(), *rows])
    made = Place(folder)
    castore("--repo", made.repo, *made.tokenize(1), command=SMALL_CASTORE)
    castore("--repo", made.repo, "export", "x", folder / "exported", "-q")
    castore("--repo", folder / "imported", "import", folder / "exported", "--shuffle-seed", "42", "--as", "x", "-q")
    return made


def command_of(kind: str, place: Place, new: Path) -> list[str]:
    """The command to terminate; what it writes is in ``new``."""
    exported = str(place.folder / "exported")
    commands = {
        "tokenize": ["--repo", str(new / "repo"), *place.tokenize(1)],
        "tokenize with workers": ["--repo", str(new / "repo"), *place.tokenize(2)],
        "import": [
            "--repo",
            str(new / "repo"),
            "import",
            f"{place.folder}/exported",
            "--shuffle-seed",
            "42",
            "--as",
            "x",
        ],
        "copy": ["--repo", str(place.repo), "copy", "x", str(new / "repo"), "--create"],
        "export": ["--repo", str(place.repo), "export", "x", str(new / "out"), "--replace", "-q"],
        "gc": ["--repo", str(new / "repo"), "gc", "--grace", "0d", "--force"],
        "fsck": ["--repo", str(new / "repo"), "fsck"],
        "diff": ["--repo", str(place.repo), "diff", "x", exported, "--html", str(new / "page.html")],
    }
    return commands[kind]


def leftovers(*folders: Path) -> list[str]:
    """Files and folders that only a process on its way has."""
    return [
        str(path) for folder in folders for path in folder.rglob("*castore-*") if path.name != ".castore-export.json"
    ]


def _prepared(kind: str, place: Place, new: Path, command: list[str] | None) -> float:
    """Put all back to the beginning; the seconds that the command takes, where it is given, undisturbed."""
    took_s = 0.0
    for given in (command, None):
        for folder in ("repo", "out"):
            shutil.rmtree(new / folder, ignore_errors=True)
        if kind in ("gc", "fsck"):
            shutil.copytree(place.repo, new / "repo")
        if given is None:
            break
        began = time.monotonic()
        castore(*given, command=SMALL_CASTORE, check=None, env=SLOWLY)
        took_s = time.monotonic() - began
    return took_s


def terminate_at_random(kind: str, place: Place, new: Path, times: int) -> None:
    (new / "tmp").mkdir()
    command = command_of(kind, place, new)
    chance = random.Random(f"{kind} {times}")
    took_s = _prepared(kind, place, new, command)
    told = 0
    for number in range(times):
        process = start(*command, **SLOWLY, TMPDIR=str(new / "tmp"))
        try:
            # Half of them when the command is surely under way.
            _, err = process.communicate(timeout=chance.uniform(0.1 if number % 2 else took_s / 2, took_s))
            _prepared(kind, place, new, None)
        except subprocess.TimeoutExpired:
            # The group too, as schedulers send it: workers leave it to their parent what it means.
            (os.killpg if chance.random() < 0.5 else os.kill)(process.pid, signal.SIGTERM)
            _, err = process.communicate(timeout=60)
        if process.returncode == 143:
            said = err.removeprefix(f"castore: new repository at {new / 'repo'}\n")
            assert said in ("", f"castore: terminated; {SAID[kind.split()[0]]}\n"), err
            told += said != ""
        else:
            # It was done; or Python itself was at its beginning or its end.
            assert process.returncode in (0, 1, -signal.SIGTERM), err
            assert "Traceback" not in err
        wait_until(lambda: not session_members(process.pid))  # noqa: B023 - called before the next one begins
    assert told or times < 20 or kind in ("export", "gc", "fsck")  # which take no longer than to begin
    castore(*command, command=SMALL_CASTORE, check=None, env={"TMPDIR": str(new / "tmp")})
    assert leftovers(new) == []
    if kind == "export":
        parts = [file.name for file in (place.folder / "exported").glob("*_part_*")]
        assert parts
        for name in parts:
            assert (new / "out" / name).read_bytes() == (place.folder / "exported" / name).read_bytes()
    elif kind != "diff":
        expected = place.folder / "imported" if kind == "import" else place.repo
        assert root_of(new / "repo") == root_of(expected)
        castore("--repo", new / "repo", "fsck", "-q")


KINDS = ["tokenize", "tokenize with workers", "import", "copy", "export", "gc", "fsck", "diff"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_few_moments(kind: str, place: Place, tmp_path: Path) -> None:
    terminate_at_random(kind, place, tmp_path, 2)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_moments(kind: str, place: Place, tmp_path: Path) -> None:
    terminate_at_random(kind, place, tmp_path, 20)
