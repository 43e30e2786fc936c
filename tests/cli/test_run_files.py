"""Run files and dry runs on the command line, and repositories that a command makes."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pytest

from castore.repository import Repository
from tests.cli.conftest import Run
from tests.support.jobs import TOKENIZER, example_rows, write_rows


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A run file in a folder of its own, with its source beside it."""
    path = tmp_path / "runs" / "mix.toml"
    path.parent.mkdir()
    write_rows(path.parent / "rows.jsonl", example_rows()[:40])
    path.write_text(
        f'tokenizer = "{os.path.relpath(TOKENIZER, path.parent)}"\nmax_seq_length = 100\nshuffle_seed = 7\n'
        'workers = 1\n[[mix]]\npath = "rows.jsonl"\namount = 1.0\n'
    )
    return path


def test_a_run_file_is_used_and_shown(run: Run, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repo = tmp_path / "own"
    first = run("--repo", repo, "tokenize", "--config", config, "--as", "first", "--json", "-q").json
    shown = run("--repo", repo, "show", "first", "--config").out
    assert shown.startswith(f"# root {first['root']}\n")
    assert f'path = "{config.parent}/rows.jsonl"\namount = 1.0\n' in shown
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(shown.encode())))
    again = run("--repo", repo, "tokenize", "--config", "-", "--as", "again", "--json", "-q").json
    assert again["root"] == first["root"]
    data = Repository.open(repo)["first"]
    assert data.order is not None
    assert data.order.seed == 7
    assert max(data["length"][:]) == 100


def test_the_command_line_goes_before_the_file(run: Run, config: Path, tmp_path: Path) -> None:
    repo, other = tmp_path / "own", write_rows(tmp_path / "other.jsonl", example_rows()[40:50])
    given = ("--repo", repo, "tokenize", "--config", config, "--as", "x", "-q")
    config.write_text(config.read_text() + 'split = "train"\n')
    run(*given, "--shuffle-seed", "42", "--max-seq-length", "50")  # the default too, where it is given
    data = Repository.open(repo)["x"]
    assert data.order is not None
    assert (data.order.seed, max(data["length"][:])) == (42, 50)
    run(*given, "--no-shuffle")
    assert Repository.open(repo)["x"].order is None
    run(*given, "--mix", other, "1.0", "--mix", other, "3")
    assert Repository.open(repo)["x"].sources == [str(other), str(other)]
    said = run(*given, "--tokenizer", tmp_path / "none", status=2).trouble
    assert said == f"tokenizer {tmp_path / 'none'} is not a folder"


def test_what_neither_says_is_asked_for(run: Run, config: Path) -> None:
    config.write_text("")
    for given, missing in (
        (("--as", "x"), "--mix"),
        (("--as", "x", "--mix", "a.jsonl", "1"), "--tokenizer"),
        (("--mix", "a.jsonl", "1", "--tokenizer", "t"), "--as"),
    ):
        assert f"missing option '{missing}'" in run("tokenize", "--config", config, *given, status=2).trouble
    config.write_text("add-bos = true")
    said = run("tokenize", "--config", config, "--as", "x", status=2).trouble
    assert said == f"{config}: unknown key 'add-bos': did you mean 'add_bos'?"


def test_a_run_file_is_a_document_of_its_own(run: Run) -> None:
    for other in ("--json", "--dropped"):
        assert "a document of its own" in run("show", "base", "--config", other, status=2).trouble


def test_a_dry_run_tells_and_writes_nothing(run: Run, config: Path, tmp_path: Path) -> None:
    repo = tmp_path / "own"
    dry = ("--repo", repo, "tokenize", "--config", config, "--dry-run")
    said = run(*dry).out
    assert not repo.exists()
    assert said.splitlines()[0].startswith(f"{config.parent}/rows.jsonl: 40 of 40 rows, about ")
    assert said.splitlines()[-1] == "nothing was written"
    document = run(*dry, "--json", "-q").json
    assert document["rows"] == {"total": 40, "reused": 0}
    done = run("--repo", repo, "tokenize", "--config", config, "--as", "x", "--json", "-q").json
    known = run(*dry, "--as", "y", "--json", "-q").json
    assert (known["tokens"], known["tokens_known"]) == (done["tokens"], done["tokens"]) == (document["tokens"],) * 2
    assert known["units"] == {"total": 1, "reused": 1}
    assert known["bytes_new"] == 0
    assert list(Repository.open(repo)) == ["x"]
    assert f"rows.jsonl: 40 of 40 rows, {done['tokens']:,} tokens" in run(*dry).out


# ---- repositories that are made


def test_a_command_says_that_it_made_a_repository(run: Run, config: Path, tmp_path: Path) -> None:
    repo = tmp_path / "own"
    job = ("--repo", repo, "tokenize", "--config", config, "--as", "x", "-q")
    assert run(*job).err == f"castore: new repository at {repo}\n"
    assert run(*job).err == ""
    run("--repo", repo, "export", "x", tmp_path / "out", "-q")
    taken = run("--repo", tmp_path / "third", "import", tmp_path / "out", "--as", "x", "-q")
    assert taken.err == f"castore: new repository at {tmp_path / 'third'}\n"


def test_no_command_but_these_makes_one(run: Run, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    for command in (("ls",), ("show", "x"), ("tag", "x", "y"), ("rm", "x"), ("fsck",), ("gc",), ("du",), ("lock", "x")):
        assert f"no castore repository at {nowhere}" in run("--repo", nowhere, *command, status=2).trouble
    for there in (nowhere, f"{nowhere}#x", f"file://{nowhere}"):
        assert "--create makes one there" in run("copy", "base", there, status=2).trouble
    assert not nowhere.exists()
    assert run("copy", "base", nowhere, "--create", "-q").err == ""
    assert run("copy", "base", nowhere, "--create", "-q").out.endswith("the name meant this already\n")
