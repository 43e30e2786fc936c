"""``castore lock`` and ``castore diff --expect``."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cli.conftest import Run, tokenize
from tests.cli.test_diff import plain
from tests.support.jobs import example_rows, write_rows


@pytest.fixture
def locked(run: Run, tmp_path: Path) -> Path:
    """The lock file of ``base``."""
    path = tmp_path / "castore.lock"
    path.write_text(run("lock", "base").out, encoding="utf-8")
    return path


def test_the_same_data_gives_the_same_file(run: Run) -> None:
    base, again = run("lock", "base").out, run("lock", "again").out
    assert base.replace('name = "base"', 'name = "again"') == again
    assert not re.search(r"/|tester|\d{10,}\b(?!\w)", re.sub(r"[0-9a-f]{64}|^#.*\n", "", base).replace("golden/", ""))


def test_as_expected(run: Run, locked: Path) -> None:
    said = run("diff", "again", "--expect", locked)
    assert plain(said.out.replace(str(locked), "LOCK")) == (
        "as expected by LOCK: equal: 59 samples, 6,968 tokens, root DIGEST\nread N objects\n"
    )
    assert "read 2 objects" in said.out
    document = run("diff", "again", "--expect", locked, "--json").json
    assert document["equal"] is True
    assert document["expected"]["held"] is True
    assert run("diff", "again", "--expect", locked, "-q").out == ""


def test_not_as_expected_with_the_data(run: Run, locked: Path) -> None:
    """What was locked is the first side, and its row is known from the log of its name."""
    said = run("diff", "word", "--expect", locked, status=1)
    shown = plain(said.out.replace(str(locked), "LOCK"))
    assert shown.startswith("not as expected by LOCK: different: 1 replaced of 59 samples; equal: source\n")
    assert "  LOCK (base): sample 10, base.jsonl row 12\n" in shown
    assert "  word: sample 10, word.jsonl row 12\n" in shown
    document = run("diff", "word", "--expect", locked, "--json", status=1).json
    assert (document["first"]["a"], document["first"]["b"]) == (602, 261)
    assert document["expected"]["held"] is True
    run("diff", "word", "--expect", locked, "-q", status=1)


def test_a_name_that_has_moved_on_is_found_in_its_log(run: Run, tmp_path: Path) -> None:
    repo = tmp_path / "repo"
    for count in (10, 11):
        path = write_rows(tmp_path / f"{count}.jsonl", example_rows()[:count])
        run("--repo", repo, *tokenize("--mix", path, "1.0", "--as", "x"))
        if count == 10:
            (tmp_path / "lock").write_text(run("--repo", repo, "lock", "x").out)
    out = run("--repo", repo, "diff", "x", "--expect", tmp_path / "lock", status=1).out
    assert "1 inserted" in out
    run("--repo", repo, "rm", "x")
    run("--repo", repo, "diff", "x@{2}", "--expect", tmp_path / "lock")


@pytest.fixture
def elsewhere(run: Run, tmp_path: Path) -> Path:
    """A repository that holds ``word`` under another template, and nothing that was locked."""
    rows = [*example_rows()[:11], example_rows()[11].replace(b"the", b"teh", 1)]
    path = write_rows(tmp_path / "other.jsonl", rows)
    run("--repo", tmp_path / "repo", *tokenize("--mix", path, "1.0", "--as", "word", "--max-seq-length", "50"))
    return tmp_path / "repo"


def test_not_as_expected_without_the_data(run: Run, locked: Path, elsewhere: Path) -> None:
    out = run("--repo", elsewhere, "diff", "word", "--expect", locked, status=1).out
    lines = plain(out.replace(str(locked), "LOCK")).splitlines()
    assert re.fullmatch(
        r"not as expected by LOCK: \d+ samples, \d+ tokens where 59 and 6,968 were expected; "
        r"different: token_ids, labels_mask, key, length, source; another order",
        lines[0],
    )
    assert lines[1] == "  recipe.max_seq_length: none → 50"
    assert lines[2].startswith("  sources: 1.0 of ")
    assert lines[-1] == "no repository at hand holds the expected root DIG: its samples cannot be compared"
    document = run("--repo", elsewhere, "diff", "word", "--expect", locked, "--json", status=1).json
    assert document["hunks"] is None
    assert document["expected"]["held"] is False
    assert document["expected"]["root"] == document["a"]["root"] != document["b"]["root"]
    assert document["samples"]["a"] == 59
    markdown = run("--repo", elsewhere, "diff", "word", "--expect", locked, "--markdown", status=1).out
    assert markdown.startswith("**not as expected by ")


def test_a_folder_without_any_repository(run: Run, locked: Path, tmp_path: Path) -> None:
    for name in ("base", "word"):
        run("export", name, tmp_path / name, "-q")
    nowhere = tmp_path / "nowhere"
    out = run("--repo", nowhere, "diff", tmp_path / "base", "--expect", locked).out
    assert out.startswith("as expected by ")
    assert "sources" not in out
    out = run("--repo", nowhere, "diff", tmp_path / "word", "--expect", locked, status=1).out
    assert "different: token_ids, " in out
    assert "another order" not in out
    assert not nowhere.exists()
    assert "first difference: token_ids[23]" in run("diff", tmp_path / "word", "--expect", locked, status=1).out


def test_labels_alone(run: Run, tmp_path: Path, elsewhere: Path) -> None:
    lock = tmp_path / "lock"
    lock.write_text(run("lock", "roles").out)
    run("export", "swapped", tmp_path / "swapped", "-q")
    out = run("--repo", elsewhere, "diff", tmp_path / "swapped", "--expect", lock, status=1).out
    assert "; different: labels_mask; equal: token_ids, key, length, source\n" in out
    folder = tmp_path / "swapped"
    run("--repo", elsewhere, "diff", folder, "--expect", lock, "--only", "token_ids")
    run("--repo", elsewhere, "diff", folder, "--expect", lock, "--only", "labels_mask", status=1)


def test_another_order(run: Run, locked: Path) -> None:
    out = run("diff", "order", "--expect", locked, status=1).out
    assert ": another order of the same 59 samples\n" in out


def test_strict_counts_the_recipe(run: Run, locked: Path, tmp_path: Path) -> None:
    path = tmp_path / "more.lock"
    path.write_text(locked.read_text().replace('tokenizers = "', 'tokenizers = "9.'))
    assert "  recipe.tokenizers: 9." in run("diff", "base", "--expect", path).out
    run("diff", "base", "--expect", path, "--strict", status=1)
    run("diff", "base", "--expect", locked, "--strict")


def test_what_cannot_be_answered(run: Run, locked: Path, tmp_path: Path) -> None:
    assert "give B, or --expect FILE" in run("diff", "base", status=2).trouble
    assert "give B, or --expect FILE" in run("diff", "base", "word", "--expect", locked, status=2).trouble
    assert "nothing called 'nix'" in run("diff", "nix", "--expect", locked, status=2).trouble
    assert "no/lock: No such file" in run("diff", "base", "--expect", tmp_path / "no/lock", status=2).trouble
    large = tmp_path / "large"
    large.write_bytes(b"#" * (1 << 20) + b"\n")
    assert "more than 1048576 bytes" in run("diff", "base", "--expect", large, status=2).trouble
    large.write_bytes(b"\xff")
    assert "no lock file: 'utf-8' codec" in run("diff", "base", "--expect", large, status=2).trouble
    assert "nothing called 'nix'" in run("lock", "nix", status=2).trouble
