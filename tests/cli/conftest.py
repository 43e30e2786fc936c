"""A repository made by the command line, and the command in this process, where that is enough."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from castore_cli.main import main
from tests.support.jobs import TOKENIZER, example_rows, row, write_rows


@dataclass(frozen=True)
class Said:
    """What a command said."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its one JSON document."""
        assert len(self.out.splitlines()) == 1
        return json.loads(self.out)

    @property
    def trouble(self) -> str:
        """The one line of a command that failed, behind the note of one that made a repository before."""
        assert self.out == ""
        (line,) = (line for line in self.err.splitlines() if not line.startswith("castore: new repository at "))
        assert line.startswith("castore: ")
        return line.removeprefix("castore: ")


Run = Callable[..., Said]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, repo: Path) -> Run:
    """Run a command in this process, on the shared repository unless it says otherwise."""
    monkeypatch.setenv("CASTORE_REPO", str(repo))
    monkeypatch.setenv("CASTORE_AUTHOR", "a tester")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)

    def call(*arguments: str | Path, status: int | None = 0) -> Said:
        found = invoke(arguments)
        text = capsys.readouterr()
        said = Said(found, text.out, text.err)
        assert status is None or found == status, said
        return said

    return call


def invoke(arguments: Sequence[str | Path]) -> int:
    """Run ``main`` with these arguments; the exit code."""
    with mock.patch.object(sys, "argv", ["castore", *map(str, arguments)]), pytest.raises(SystemExit) as caught:
        main()
    code = caught.value.code
    assert isinstance(code, int)
    return code


def tokenize(*arguments: str | Path) -> tuple[str | Path, ...]:
    """Arguments of ``tokenize`` with the shipped tokenizer."""
    return ("tokenize", "--tokenizer", TOKENIZER, "--workers", "1", "-q", *arguments)


TWO_ROLES = "{% for m in messages %}{{ m['content'] }}{{ eos_token }}{% endfor %}"
"""A template that does not show who speaks, so that a label can differ where no token does."""


@pytest.fixture(scope="session")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with several datasets; every test leaves these names as they are."""
    folder = tmp_path_factory.mktemp("cli")
    rows = list(example_rows()[:60])
    rows[5] = row("nobody answers")
    variants = {
        "base": rows,
        "again": rows,
        "word": [*rows[:11], rows[11].replace(b"the", b"teh", 1), *rows[12:]],
        "removed": [*rows[:20], *rows[21:]],
        "inserted": [*rows[:30], example_rows()[200], *rows[30:]],
        "odd": [*rows[:40], row("x", "bell \x07 escape \x1b[31m red \x85 \u2028 \u202e end\tnew\nline"), *rows[41:]],
    }
    repo = folder / "repo"
    with mock.patch.dict("os.environ", {"CASTORE_REPO": str(repo), "CASTORE_AUTHOR": "a tester"}):
        for name, chosen in variants.items():
            path = write_rows(folder / f"{name}.jsonl", chosen)
            assert invoke(tokenize("--mix", path, "1.0", "--as", name, "-m", f"made for {name}")) == 0
        base = folder / "base.jsonl"
        assert invoke(tokenize("--mix", base, "1.0", "--as", "order", "--shuffle-seed", "1")) == 0
        assert invoke(tokenize("--mix", base, "1.0", "--as", "few", "--num-examples", "10")) == 0
        template = folder / "two.jinja"
        template.write_text(TWO_ROLES)
        turns = [row("one ", "two ", "three ", "four"), row("five ", "six")]
        swapped = [turns[0], turns[1].replace(b'"user"', b'"assistant"')]
        for name, chosen in (("roles", turns), ("swapped", swapped)):
            path = write_rows(folder / f"{name}.jsonl", chosen)
            assert invoke(tokenize("--mix", path, "1.0", "--as", name, "--chat-template", template)) == 0
    return repo
