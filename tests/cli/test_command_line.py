"""What makes the command line easy: ``--repo`` on either side, near misses, completion, and errors in one line."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from castore.repository import Repository
from castore_cli import show
from castore_cli.check import CheckOptions
from castore_cli.diff_options import DiffOptions
from castore_cli.import_ import ImportOptions
from castore_cli.main import COMMANDS
from castore_cli.main import castore as program
from castore_cli.parameters import RepositoryOption
from tests.cli.conftest import Run
from tests.support.commands import castore


def test_the_repository_before_or_behind_the_command(run: Run, repo: Path, tmp_path: Path) -> None:
    expected = run("ls").out
    nowhere = tmp_path / "nowhere"
    assert run("--repo", repo, "ls").out == expected
    assert run("ls", "--repo", repo).out == expected
    assert run("--repo", nowhere, "ls", "--repo", repo).out == expected, "the one behind the command counts"
    assert str(nowhere) in run("--repo", repo, "ls", "--repo", nowhere, status=2).trouble
    assert run("diff", "base", "--repo", repo, "again").out == run("diff", "base", "again").out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_takes_the_repository_once(name: str) -> None:
    for _ in range(2):
        command = program.get_command(program.make_context("castore", [name]), name)
        assert command is not None
        assert sum(isinstance(parameter, RepositoryOption) for parameter in command.params) == 1


@pytest.mark.parametrize(
    ("name", "options"),
    [("diff", DiffOptions), ("check", CheckOptions), ("import", ImportOptions)],
)
def test_options_have_the_names_that_click_gives(name: str, options: type[Any]) -> None:
    command = program.get_command(program.make_context("castore", [name]), name)
    assert command is not None
    given = {parameter.name for parameter in command.params if parameter.expose_value}
    assert given == {field.name for field in fields(options)}


@pytest.mark.parametrize(
    ("command", "hint"), [("shwo", "did you mean 'show'?"), ("dif", "did you mean 'diff'"), ("xyzzy", "")]
)
def test_a_command_that_there_is_not(run: Run, command: str, hint: str) -> None:
    said = run(command, status=2).trouble
    assert said.startswith(f"no such command {command!r}" + (": " if hint else " ("))
    assert hint in said


@pytest.mark.parametrize(
    "command", [("show",), ("log",), ("rm",), ("du",), ("cat", "--sample", "0"), ("diff", "base"), ("export", "/x")]
)
def test_a_name_that_there_is_not(run: Run, command: tuple[str, ...]) -> None:
    first, *more = command
    arguments = (first, "wrod", *more) if first != "diff" else (first, *more, "wrod")
    assert run(*arguments, status=2).trouble.endswith("has nothing called 'wrod': did you mean 'word'?")


def test_what_is_meant_is_said_with_its_step(run: Run) -> None:
    assert run("show", "wrod@{1}", status=2).trouble.endswith("did you mean 'word@{1}'?")
    assert "has no entry @{7}" in run("show", "word@{7}", status=2).trouble
    assert run("show", "xyzzy", status=2).trouble.endswith("'castore ls' lists the names")


def test_a_removed_name_is_not_meant(run: Run) -> None:
    run("tag", "base", "wanderer")
    run("rm", "wanderer")
    assert run("show", "wandere", status=2).trouble.endswith("'castore ls' lists the names")


def test_asking_whether_a_name_is_there_lists_none(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = Repository.open(str(repo))
    monkeypatch.setattr(repository.refs, "all_names", None)
    assert "wrod" not in repository


# ---- completion


def completed(*words: str | Path, repo: Path | None) -> list[str]:
    """What bash would offer for the last word."""
    env = {
        "_CASTORE_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(["castore", *map(str, words)]),
        "COMP_CWORD": str(len(words)),
        **({} if repo is None else {"CASTORE_REPO": str(repo)}),
    }
    return castore(env=env).stdout.split()


def test_a_shell_completes_names_of_the_repository(repo: Path, tmp_path: Path) -> None:
    assert completed("show", "wo", repo=repo) == ["plain,word"]
    assert completed("diff", "base", "o", repo=repo) == ["plain,odd", "plain,order"]
    assert completed("--repo", repo, "cat", "ag", repo=tmp_path) == ["plain,again"]
    assert completed("cat", "--repo", repo, "ag", repo=tmp_path) == ["plain,again"]
    assert completed("diff", "base", "./", repo=repo) == ["file,./"]
    assert completed("sh", repo=None) == ["plain,show"]


def test_a_shell_sees_no_error_while_it_completes(tmp_path: Path) -> None:
    assert completed("show", "x", repo=tmp_path / "nowhere") == []


# ---- errors


def test_a_bug_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("no\x1b[31m\nway")

    monkeypatch.setattr(show, "_document", fail)
    said = run("show", "base", status=2).trouble
    assert said.startswith("this is a bug of castore, please report it: ZeroDivisionError: no\\x1b[31m⏎way (test_comm")
    monkeypatch.setenv("CASTORE_TRACEBACK", "1")
    assert "Traceback (most recent call last)" in run("show", "base", status=2).err
