"""Names of sources are anybody's text: nothing that a terminal obeys in them reaches one, nor a page or a lock file."""

from __future__ import annotations

from pathlib import Path

import pytest

import castore
from castore.diff.lock import Lock
from tests.cli.conftest import Run

SOURCE = "a\x1b]0;title\x07\x1b[31m\u202e\x9b\nb"
"""Sets a title and a colour, turns the text round, begins a sequence in one character of C1, and ends the line."""


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two datasets that differ in one token, of a source with such a name and with such a recipe."""
    place = tmp_path_factory.mktemp("terminal") / "repo"
    repository = castore.open(str(place), create=True)
    for name, token in (("x", 3), ("y", 4)):
        samples = [{"token_ids": [1, 2, token], "labels_mask": [1, 1, 1], "source": SOURCE}]
        repository.write(samples, name, recipe={"template": f"{SOURCE}{token}"})
    return place


def unprintable(text: str) -> set[str]:
    """What is neither printable nor a line end."""
    return {character for character in text if not character.isprintable() and character != "\n"}


CHECK = ("--trainer", "olmo-core", "--sequence-length", "8", "--eos", "2")


@pytest.mark.parametrize(
    "command",
    [
        ("cat", "x", "--sample", "0"),
        ("show", "x"),
        ("stats", "x"),
        ("check", "x", *CHECK),
        ("diff", "x", "y"),
        ("diff", "x", "y", "--side-by-side"),
        ("diff", "x", "y", "--markdown"),
        ("lock", "x"),
    ],
    ids=" ".join,
)
def test_a_terminal_obeys_no_source(run: Run, hostile: Path, command: tuple[str, ...]) -> None:
    said = run("--repo", hostile, *command, status=None)
    assert said.status == int(command[0] == "diff")
    assert "title" in said.out
    assert unprintable(said.out) == set()
    assert "\nb" not in said.out


def test_a_page_of_statistics_obeys_no_source(run: Run, hostile: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    run("--repo", hostile, "stats", "x", "--html", tmp_path / "x.html")
    assert unprintable((tmp_path / "x.html").read_text()) == set()


def test_a_lock_file_keeps_what_it_escapes(run: Run, hostile: Path) -> None:
    lock = Lock.parse(run("--repo", hostile, "lock", "x").out, "x.lock")
    assert lock.recipe["template"] == f"{SOURCE}3"


def test_a_terminal_obeys_no_lock_file(run: Run, hostile: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    text = run("--repo", hostile, "lock", "x").out
    path.write_text(text.replace('name = "x"', 'name = "x\\u001b[31m"'))
    for more in ((), ("--side-by-side",), ("--markdown",)):
        said = run("--repo", hostile, "diff", "y", "--expect", path, *more, status=1)
        assert unprintable(said.out) == set()
    found = run("--repo", tmp_path / "nothing", "diff", "y", "--expect", path, status=2)
    assert unprintable(found.err) == set()


def test_a_terminal_obeys_no_dropped_row(run: Run, tmp_path: Path) -> None:
    from tests.cli.conftest import tokenize
    from tests.support.jobs import row, write_rows

    path = write_rows(tmp_path / "a\x1b[31m.jsonl", [row("x", "y"), row("nobody answers")])
    there = ("--repo", tmp_path / "repo")
    run(*there, *tokenize("--mix", path, "1.0", "--as", "x"))
    out = run(*there, "show", "x", "--dropped").out
    assert r"a\x1b[31m.jsonl, row 2" in out
    assert unprintable(out) == set()


def test_a_terminal_obeys_no_message(run: Run, tmp_path: Path) -> None:
    said = run("--repo", tmp_path / "a\x1b[31m\u202e", "ls", status=2)
    assert r"a\x1b[31m\u202e" in said.trouble
    assert unprintable(said.err) == set()


def test_a_table_of_markdown_holds_any_address(run: Run, hostile: Path, tmp_path: Path) -> None:
    link = tmp_path / "a|b`c\nd\x1b"
    link.symlink_to(hostile)
    out = run("--repo", hostile, "diff", "x", f"{link}#y", "--markdown", status=1).out
    (head,) = (line for line in out.splitlines() if line.startswith("|  | `x` |"))
    assert head.endswith(r"/a\|b'c⏎d\x1b#y` |")
