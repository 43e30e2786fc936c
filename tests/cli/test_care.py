"""The commands that look after a repository, as people and machines use them."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from tests.cli.conftest import Run


@pytest.fixture
def own(repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run) -> Path:
    """A copy of the shared repository, for a test that changes it."""
    shutil.copytree(repo, tmp_path / "own")
    monkeypatch.setenv("CASTORE_REPO", str(tmp_path / "own"))
    return tmp_path / "own"


def objects(folder: Path) -> list[Path]:
    return sorted((folder / "objects").rglob("*/*"))


def test_fsck(run: Run, own: Path, tmp_path: Path) -> None:
    said = run("fsck")
    assert said.out.startswith("clean: ")
    document = run("fsck", "--json").json
    assert document["clean"]
    assert document["findings"] == []
    assert document["objects"]["read"] == document["objects"]["stored"] == len(objects(own))
    assert run("fsck", "--sample", "5%", "--json").json["objects"]["read"] < len(objects(own))
    shutil.copytree(own, tmp_path / "good")
    victim = objects(own)[3]
    victim.write_bytes(b"\x01nothing")
    document = run("fsck", "--json", status=1).json
    (finding,) = document["findings"]
    assert (finding["id"], finding["severity"], finding["repaired"]) == ("object-damaged", "error", False)
    assert finding["key"] == victim.relative_to(own).as_posix()
    assert "--repair-from" in finding["advice"]
    assert "object-damaged" in run("fsck", "--repair-from", tmp_path / "good").out
    assert run("fsck", "--json").json["clean"]


def test_trouble_of_fsck(run: Run, own: Path, tmp_path: Path) -> None:
    assert "no castore repository" in run("--repo", tmp_path / "none", "fsck", status=2).trouble
    assert "no castore repository" in run("fsck", "--repair-from", tmp_path / "none", status=2).trouble
    for share in ("0", "2", "-1%", "much", "nan", "101%", ""):
        assert "is no share" in run("fsck", "--sample", share, status=2).trouble
    (own / "format").write_bytes(b"castore repository, format 1!\n")
    assert "marker-damaged" in run("fsck", status=1).out
    assert "is no castore repository" in run("ls", status=2).trouble


def test_copy(run: Run, own: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    said = run("copy", "base", f"{there}#mine", status=2).trouble
    assert said == f"there is no castore repository at {there}: --create makes one there"
    assert "nothing called" in run("copy", "nothing", there, "--create", status=2).trouble
    assert not there.exists()
    document = run("copy", "base", f"{there}#mine", "--create", "--json").json
    assert document["name"] == "mine"
    assert document["moved"]
    assert document["sent"]["objects"] == len(objects(there))
    assert document["root"] == run("show", "base", "--json").json["root"]
    assert run("diff", "base", f"{there}#mine").status == 0
    said = run("copy", "base", f"{there}#mine")
    assert "meant this already" in said.out
    word = run("copy", "word", there, "--json").json
    assert 0 < word["sent"]["objects"] < len(objects(there)) / 2
    run("--repo", tmp_path / "third", "copy", f"{there}#word", f"{tmp_path / 'third'}#word", "--create", "-q")
    assert run("diff", "word", f"{tmp_path / 'third'}#word").status == 0
    digest = run("show", "base", "--json").json["run"]
    assert "say what to call it" in run("copy", digest, there, status=2).trouble
    assert "say what to call it" in run("copy", "base@{0}", there, status=2).trouble
    run("copy", digest, f"{there}#by-digest")
    assert "nothing called" in run("copy", "nothing", there, status=2).trouble


def test_protected(run: Run, own: Path) -> None:
    run("tag", "base", "golden/x")
    assert "--force" in run("tag", "word", "golden/x", status=2).trouble
    assert "--force" in run("rm", "golden/x", status=2).trouble
    assert "wants the reason" in run("rm", "golden/x", "--force", status=2).trouble
    run("tag", "word", "golden/x", "--force", "-m", "the words were wrong")
    assert run("log", "golden/x", "--json").json[0]["message"] == "the words were wrong"
    run("tag", "word", "golden/x")
    mix = own.parent / "mix.jsonl"
    mix.write_text('{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n')
    from tests.cli.conftest import tokenize

    assert "--force" in run(*tokenize("--mix", mix, "1.0", "--as", "golden/x"), status=2).trouble
    assert run(*tokenize("--mix", mix, "1.0", "--as", "golden/x", "--force", "-m", "new")).status == 0


def test_gc_and_du(run: Run, own: Path) -> None:
    long_ago = time.time() - 400 * 24 * 3600
    for path in own.rglob("*"):
        os.utime(path, (long_ago, long_ago))
    before = len(objects(own))
    document = run("du", "--json").json
    assert document["bytes"]["stored"] == sum(path.stat().st_size for path in objects(own))
    assert {row["name"] for row in document["names"]} >= {"base", "again"}
    alone = run("du", "roles", "--json").json
    assert alone["freed"] == alone["names"][0]["freed"] > 0
    assert "would free" in run("du", "roles", "odd").out
    rehearsed = run("gc", "--dry-run", "--json").json
    assert rehearsed["dry_run"]
    assert len(objects(own)) == before
    done = run("gc", "--json").json
    assert done["objects"]["removed"] == rehearsed["objects"]["removed"] == before - len(objects(own))
    assert done["objects"]["listed"] == before
    run("rm", "roles")
    assert run("gc", "--json").json["objects"]["removed"] == 0, "its log holds it"
    assert run("gc", "--grace", "0s", "--keep-log", "0s", "--force", "--json").json["bytes"]["removed"] >= 1
    assert run("fsck", "--json").json["clean"]
    for period in ("1", "d", "-1d", "1w", "1.5d", "", "9" * 12 + "d"):
        assert "is no period" in run("gc", "--grace", period, status=2).trouble
    assert "--force" in run("gc", "--grace", "5m", status=2).trouble
    assert "--force" in run("gc", "--keep-log", "1d", status=2).trouble
