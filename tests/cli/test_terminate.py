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

    @property
    def littered(self) -> Path:
        """The same repository with another dataset that nothing names."""
        return self.folder / "littered"

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
    shutil.copytree(made.repo, made.littered)
    garbage = write_rows(folder / "garbage.jsonl", [row(f"what is {n}", f"it is {n}") for n in range(60)])
    tokenize = ["tokenize", "--mix", garbage, "1.0", "--tokenizer", TOKENIZER, "--as", "y", "-q"]
    castore("--repo", made.littered, *tokenize, command=SMALL_CASTORE)
    shutil.rmtree(made.littered / "refs/y")
    shutil.rmtree(made.littered / "units")
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
    stay = (".castore-export.json", ".castore-expired")
    found = [path for folder in folders for path in folder.rglob("*castore-*") if path.name not in stay]
    found += [path for folder in folders for path in folder.rglob(".castore-expired/**/*") if path.is_file()]
    return [str(path) for path in found]


def prepare(kind: str, place: Place, new: Path) -> None:
    """Put all back to the beginning."""
    for folder in ("repo", "out"):
        shutil.rmtree(new / folder, ignore_errors=True)
    if kind in ("gc", "fsck"):
        shutil.copytree(place.littered, new / "repo")


def check_ended(kind: str, new: Path, code: int, err: str) -> bool:
    """What a command that got SIGTERM says; whether it said that it was terminated."""
    if code == 143:
        said = err.removeprefix(f"castore: new repository at {new / 'repo'}\n")
        assert said in ("", f"castore: terminated; {SAID[kind.split()[0]]}\n"), err
        return said != ""
    # It was done; or Python itself was at its beginning or its end.
    assert code in (0, 1, -signal.SIGTERM), err
    assert "Traceback" not in err
    return False


def check_finished(kind: str, place: Place, new: Path) -> None:
    """The next command ends as if nothing had been, and nothing lies about."""
    castore(*command_of(kind, place, new), command=SMALL_CASTORE, check=None, env={"TMPDIR": str(new / "tmp")})
    assert leftovers(new) == []
    assert list((new / "tmp").iterdir()) == []
    if kind == "export":
        parts = [file.name for file in (place.folder / "exported").glob("*_part_*")]
        assert parts
        for name in parts:
            assert (new / "out" / name).read_bytes() == (place.folder / "exported" / name).read_bytes()
    elif kind != "diff":
        expected = place.folder / "imported" if kind == "import" else place.repo
        assert root_of(new / "repo") == root_of(expected)
        castore("--repo", new / "repo", "fsck", "-q")
    if kind == "gc":
        assert len([*(new / "repo/objects").rglob("?" * 64)]) < len([*(place.littered / "objects").rglob("?" * 64)])


def terminate_at(number: int, kind: str, place: Place, new: Path) -> bool:
    """Terminate the command when it comes to a file for the ``number``-th time; whether it came that far."""
    env = {"TMPDIR": str(new / "tmp"), "CASTORE_TEST_TERMINATE": f"{number} {place.folder.parent}"}
    done = castore(*command_of(kind, place, new), command=SMALL_CASTORE, check=None, env=env)
    told = check_ended(kind, new, done.returncode, done.stderr)
    assert told == (done.returncode == 143), "a command that is under way says what is kept"
    return told


def terminate_by_the_clock(kind: str, place: Place, new: Path, times: int) -> None:
    command = command_of(kind, place, new)
    chance = random.Random(f"{kind} {times}")
    prepare(kind, place, new)
    began = time.monotonic()
    castore(*command, command=SMALL_CASTORE, check=None, env=SLOWLY)
    took_s = time.monotonic() - began
    prepare(kind, place, new)
    for number in range(times):
        process = start(*command, **SLOWLY, TMPDIR=str(new / "tmp"))
        try:
            # Half of them when the command is surely under way.
            _, err = process.communicate(timeout=chance.uniform(0.1 if number % 2 else took_s / 2, took_s))
            prepare(kind, place, new)
        except subprocess.TimeoutExpired:
            # The group too, as schedulers send it: workers leave it to their parent what it means.
            (os.killpg if chance.random() < 0.5 else os.kill)(process.pid, signal.SIGTERM)
            _, err = process.communicate(timeout=60)
        check_ended(kind, new, process.returncode, err)
        wait_until(lambda: not session_members(process.pid))  # noqa: B023 - called before the next one begins


KINDS = ["tokenize", "tokenize with workers", "import", "copy", "export", "gc", "fsck", "diff"]


@pytest.fixture
def new(tmp_path: Path) -> Path:
    (tmp_path / "tmp").mkdir()
    return tmp_path


@pytest.mark.parametrize("kind", KINDS)
def test_a_few_moments(kind: str, place: Place, new: Path) -> None:
    prepare(kind, place, new)
    for number in (3, 24):
        assert terminate_at(number, kind, place, new)
    check_finished(kind, place, new)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_moments(kind: str, place: Place, new: Path) -> None:
    """Each a step further, until the command is done; then by the clock, which also strikes between files."""
    prepare(kind, place, new)
    number, step = 1, 1
    while terminate_at(number, kind, place, new):
        number, step = number + step, number
    assert number > 20
    check_finished(kind, place, new)
    terminate_by_the_clock(kind, place, new, 4)
    check_finished(kind, place, new)
