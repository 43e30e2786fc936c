"""``castore check`` as users run it: verdict, table, causes, exit codes, JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from castore.repository import Repository
from castore.train.check import check_olmo_core
from castore.train.report import Rule
from tests.support.commands import castore

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
CHECK = ("--trainer", "olmo-core", "--sequence-length", "64")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("check")
    lines = (EXAMPLES / "conversations.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / "first.jsonl").write_text("".join(lines[:100]), encoding="utf-8")
    (folder / "second.jsonl").write_text("".join(lines[100:160]), encoding="utf-8")
    mix = ("--mix", "first.jsonl", "1.0", "--mix", "second.jsonl", "1.0", "--tokenizer", EXAMPLES / "tokenizer")
    more = ("--max-seq-length", "64", "--workers", "1", "--as", "cut", "-q")
    castore("--repo", folder / "repository", "tokenize", *mix, *more, cwd=folder)
    return folder / "repository"


def document(repository: Path, *options: str, code: int = 0) -> dict[str, Any]:
    done = castore("--repo", repository, "check", "cut", *CHECK, "--json", *options, check=code)
    parsed: dict[str, Any] = json.loads(done.stdout)
    return parsed


def test_the_text_has_verdict_table_packing_and_causes(repository: Path) -> None:
    lines = castore("--repo", repository, "check", "cut", *CHECK, "--max-loss", "0.9").stdout.splitlines()
    assert lines[0].startswith("OLMo-core drops ")
    assert lines[0].endswith(": within --max-loss 0.9")
    assert " ".join(lines[1].split()) == (
        "source conversations arrive whole documents tokens dropped trainable dropped"
    )
    assert [line.split()[0] for line in lines[2:5]] == ["first.jsonl", "second.jsonl", "all"]
    assert " of 64 tokens in 1 part, " in lines[5]
    assert any("cut at 64 when tokenized have no EOS and merge with the next" in line for line in lines[6:])
    assert "--boundaries metadata" in lines[-1]


def test_the_document_has_the_counts_of_the_library(repository: Path) -> None:
    got = document(repository)
    report = check_olmo_core(Repository.open(str(repository)).dataset("cut"), Rule(64, 0))
    total = report.total
    assert got["eos_token_id"] == 0
    assert got["bos_token_id"] is None
    assert got["num_instances"] == report.instances
    assert got["documents_packed"] == report.pieces
    assert got["documents_found"] == total.documents
    assert got["tokens_packed"] == total.packed_tokens
    assert got["tokens_packed"] + got["tokens_dropped"] == got["tokens_on_disk"] == total.tokens
    assert got["trainable_in_instances"] + got["trainable_dropped"] == got["trainable_on_disk"] == total.trainable
    assert [source["name"] for source in got["sources"]] == ["first.jsonl", "second.jsonl"]
    for field in ("documents_found", "tokens_dropped", "trainable_mixed", "documents_in_csv"):
        assert sum(source[field] for source in got["sources"]) == got[field]
    assert {cause["id"] for cause in got["causes"]} >= {"cut-without-end", "mixed", "dropped-merged"}


def test_more_loss_than_allowed_is_exit_code_1(repository: Path) -> None:
    assert document(repository, "--max-loss", "0.01", code=1)["over_max_loss"] is True
    assert document(repository, "--max-loss", "1%", code=1)["max_loss"] == "1%"
    assert document(repository, "--max-loss", "1")["over_max_loss"] is False
    kept = document(repository, "--max-loss", "0", "--boundaries", "metadata")
    assert (kept["tokens_dropped"], kept["causes"]) == (0, [])
    assert kept["conversations"]["intact"] == kept["conversations"]["total"]


def test_parts_are_those_of_an_export(repository: Path, tmp_path: Path) -> None:
    """``export`` and ``check`` with one size of parts; an import knows it again."""
    size = ("--part-size", "5000")
    done = castore("--repo", repository, "export", "cut", tmp_path / "out", *size, "--json")
    parts = sorted((tmp_path / "out").glob("token_ids_part_*.npy"))
    assert json.loads(done.stdout)["parts"] == len(parts) > 2
    assert {path.stat().st_size for path in parts[:-1]} == {5000}
    # The check tells the same of the run, and of the directory, which knows its own parts.
    assert castore("--repo", repository, "check", "cut", *CHECK, *size).stdout.count(f"in {len(parts)} parts") == 1
    same = castore("--repo", repository, "import", tmp_path / "out", "--as", "again", "--shuffle-seed", "42", "--json")
    shown = castore("--repo", repository, "show", "cut", "--json")
    assert json.loads(same.stdout)["root"] == json.loads(shown.stdout)["root"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--part-size", "4095"), "parts of 4095 bytes: give at least 4096"),
        (("--part-size", "0"), "parts of 0 bytes"),
        (("--part-size", "-1"), "'-1' is no size"),
        (("--part-size", "4 parts"), "'4 parts' is no size: write bytes, or 4MiB, or 1G"),
        (("--part-size", "1e9"), "'1e9' is no size"),
        (("--part-size", "\u0664\u0660\u0669\u0666"), "is no size"),
        (("--part-size", "4MiB", "--layout", "mds"), "the size of parts is OLMo-core's: layout mds has its own"),
    ],
)
def test_parts_that_cannot_be(repository: Path, tmp_path: Path, options: tuple[str, ...], message: str) -> None:
    done = castore("--repo", repository, "export", "cut", tmp_path / "out", *options, check=2)
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_options_reach_the_rule(repository: Path) -> None:
    pieces = document(repository, "--long-doc-strategy", "fragment")
    assert {cause["id"] for cause in pieces["causes"]}.isdisjoint({"dropped-merged", "dropped-long"})
    assert document(repository, "--eos", "100000")["documents_found"] == 0
    assert document(repository, "--bos", "100000")["documents_found"] <= 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--sequence-length", "100"), "powers of two only"),
        (("--sequence-length", str(1 << 63)), "give 1 to 33554432"),
        (("--eos", str(1 << 32)), "EOS 4294967296 is the id of no token"),
        (("--max-loss", "101%"), "is no share"),
        (("--max-loss", "1.5"), "is no share"),
        (("--max-loss", "-0.1"), "is no share"),
        (("--max-loss", "1/0"), "is no share"),
        (("--max-loss", "1e-999999999"), "is no share"),  # exact, a number of a billion digits
        (("--max-loss", "1e9_99_99_99_99"), "is no share"),
        (("--trainer", "torchtitan"), "olmo-core"),
    ],
)
def test_what_cannot_be_is_refused(repository: Path, options: tuple[str, ...], message: str) -> None:
    done = castore("--repo", repository, "check", "cut", *CHECK, *options, check=2)
    assert message in done.stderr
    assert done.stdout == ""


def test_without_a_tokenizer_an_eos_must_be_given(repository: Path) -> None:
    root = Repository.open(str(repository)).dataset("cut").root.hex()
    done = castore("--repo", repository, "check", root, *CHECK, check=2)
    assert "give --eos ID" in done.stderr
    same = castore("--repo", repository, "check", root, *CHECK, "--eos", "0", "--json").stdout
    assert json.loads(same)["documents_found"] == document(repository)["documents_found"]
