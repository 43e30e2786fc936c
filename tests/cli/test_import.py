"""``castore import``, and directories on either side of ``castore diff``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run, tokenize
from tests.support.jobs import example_rows, write_rows
from tests.support.olmo_core import DAMAGES, damaged_folder, documents, set_byte, write_folder


@pytest.fixture
def out(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of the test's own in the working folder, with a run ``native`` of two sources; and its export."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CASTORE_REPO", "own")
    write_rows(tmp_path / "a.jsonl", example_rows()[:30])
    write_rows(tmp_path / "b.jsonl", example_rows()[30:50])
    run(*tokenize("--mix", "a.jsonl", "2.0", "--mix", "b.jsonl", "0.5", "--as", "native"))
    run("export", "native", "out", "-q")
    return tmp_path / "out"


# ---- import


def test_the_summary(run: Run, out: Path) -> None:
    root = run("show", "native", "--json").json["root"]
    said = run("import", "out", "--shuffle-seed", "42", "--as", "back")
    lines = said.out.splitlines()
    assert lines[0] == f"back  {root}"
    assert lines[1].startswith("  samples  70, ")
    assert lines[2].startswith("  stored   2 new objects, ")
    assert run("diff", "native", "back").out.startswith("equal: 70 samples, ")
    found = run("import", "out", "--like", "native", "--as", "like", "--json").json
    assert set(found) == {"name", "root", "run", "samples", "tokens", "known", "stored"}
    assert (found["samples"], found["known"]) == (70, 70)
    lines = run("import", "out", "--like", "native", "--as", "like").out.splitlines()
    assert lines[2] == "  known    70 of them are in native"
    sources = [line for line in run("show", "back").out.splitlines() if line.startswith("source")]
    assert [line.split()[1] for line in sources] == ["a.jsonl", "b.jsonl"]


def test_show_and_cat_of_an_import(run: Run, out: Path) -> None:
    run("import", "out", "--as", "back", "-m", "the old golden")
    shown = run("show", "back", "--json").json
    assert (shown["origin"]["message"], shown["statistics"]["samples"]) == ("the old golden", 70)
    assert "sample 3" in run("cat", "back", "--sample", "3").out
    assert run("log", "back").out.rstrip().endswith("the old golden")


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_directory_is_one_line_and_exit_code_2(run: Run, tmp_path: Path, damage: str) -> None:
    said = damaged_folder(tmp_path / "out", damage)
    repo = tmp_path / "own"
    assert said in run("--repo", repo, "import", tmp_path / "out", "--as", "x", status=2).trouble
    assert said in run("--repo", repo, "diff", tmp_path / "out", tmp_path / "out", status=2).trouble
    assert run("--repo", repo, "ls").out == ""


def test_more_that_is_refused(run: Run, out: Path, tmp_path: Path) -> None:
    trouble = run("import", "nothing", "--as", "x", status=2).trouble
    assert trouble == "nothing: No such file or directory"
    trouble = run("import", "a.jsonl", "--as", "x", status=2).trouble
    assert trouble == "a.jsonl: is no folder"
    trouble = run("import", "out", "--as", "x", "--like", "native", "--shuffle-seed", "42", status=2).trouble
    assert "give one of them" in trouble
    assert "nothing called 'nobody'" in run("import", "out", "--as", "x", "--like", "nobody", status=2).trouble
    assert run("import", "out", "--as", "-x", status=2).trouble
    run(*tokenize("--mix", "a.jsonl", "1.0", "--num-examples", "10", "--as", "few"))
    run("export", "few", "cut", "-q")
    trouble = run("import", "cut", "--as", "x", "--shuffle-seed", "42", status=2).trouble
    assert "holds 10 of the 30 documents that were shuffled" in trouble
    set_byte(out / "labels_mask_part_0000.npy", 7, 2)
    assert "a label is 2, not 0 or 1" in run("import", "out", "--as", "x", status=2).trouble
    assert {line.split()[0] for line in run("ls").out.splitlines()} == {"few", "native"}


# ---- diff


@pytest.mark.parametrize("spelling", ["./out", "out/", "./out/", "{}", "../{name}/out"])
def test_a_directory_is_equal_to_its_run(run: Run, out: Path, spelling: str) -> None:
    address = spelling.format(out, name=out.parent.name)
    for pair in (("native", address), (address, "native")):
        assert run("diff", *pair).out.startswith("equal: 70 samples, ")
    assert run("diff", "native", address, "--json").json["equal"] is True
    assert run("diff", address, address, "-q").out == ""


def test_a_name_wins_over_a_folder_that_is_called_like_it(run: Run, out: Path) -> None:
    folder = out.parent / "golden" / "chat"
    write_folder(folder, documents(5))
    assert run("diff", "golden/chat", "./golden/chat").out.startswith("equal: 5 samples")
    run("tag", "native", "golden/chat")
    assert run("diff", "golden/chat", "native").out.startswith("equal: 70 samples")
    run("diff", "golden/chat", "./golden/chat", "-q", status=1)
    write_folder(out.parent / "native", documents(5))
    assert run("diff", "native", "golden/chat").out.startswith("equal: 70 samples")


def test_directories_need_no_repository(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a/x", "b/x"):
        write_folder(tmp_path / name, documents(20))
    said = run("--repo", "nowhere", "diff", "a/x", "b/x")
    assert said.out.startswith("equal: 20 samples")
    assert not (tmp_path / "nowhere").exists()


def test_a_place_that_is_no_directory(run: Run, out: Path) -> None:
    assert "./nothing: No such file or directory" in run("diff", "native", "./nothing", status=2).trouble
    assert "own: holds no token_ids_part_0000.npy" in run("diff", "native", "./own", status=2).trouble
    assert "nothing called 'out'" in run("diff", "native", "out", status=2).trouble
    assert run("diff", f"{out.parent}/own#native", "./out").out.startswith("equal: ")


def test_one_token_that_changed(run: Run, out: Path) -> None:
    ids = out / "token_ids_part_0000.npy"
    at = 4321
    before = int.from_bytes(ids.read_bytes()[2 * at : 2 * at + 2], "little")
    set_byte(ids, 2 * at, (before & 0xFF) ^ 1)
    found = run("diff", "native", "./out", "--json", status=1).json
    assert found["samples"] == {"a": 70, "b": 70, "replaced": 1, "inserted": 0, "deleted": 0, "moved": 0}
    first = found["first"]
    assert (first["array"], first["a"], first["b"]) == ("token_ids", before, before ^ 1)
    assert first["place_a"] == first["place_b"] == {"file": "token_ids_part_0000.npy", "offset": 2 * at}
    sample = run("cat", "native", "--sample", str(first["sample_a"]), "--json").json
    assert sample["token_ids"][first["index"]] == before
    text = run("diff", "native", "./out", status=1).out
    assert f"value {before}; token_ids_part_0000.npy at byte {2 * at}" in text
    assert f"value {before ^ 1}; token_ids_part_0000.npy at byte {2 * at}" in text


def test_a_document_that_is_missing(run: Run, tmp_path: Path) -> None:
    made = documents(100)
    write_folder(tmp_path / "a", made)
    write_folder(tmp_path / "b", [*made[:40], *made[41:]])
    found = run("diff", tmp_path / "a", tmp_path / "b", "--json", status=1).json
    assert found["hunks"] == [
        {"op": "delete", "a": [40, 41], "b": [40, 40], "arrays": list(found["hunks"][0]["arrays"])}
    ]


def test_statistics_are_read_as_open_instruct_writes_them(run: Run, out: Path) -> None:
    """What an import gives back has the same sources, amounts and numbers."""
    run("import", "out", "--shuffle-seed", "42", "--as", "back")
    run("export", "back", "again", "-q")
    documents = [json.loads((out.parent / name / "dataset_statistics.json").read_bytes()) for name in ("out", "again")]
    for document in documents:
        del document["output_directory"], document["timestamp"]
    assert documents[0] == documents[1]


def test_a_zarr_group_is_imported(run: Run, tmp_path: Path) -> None:
    import numpy as np
    import zarr

    group = zarr.open_group(tmp_path / "x.zarr", mode="w")
    for name, values in (("token_ids", [5, 6, 7]), ("sample_offsets", [0, 2, 3]), ("odd", [[1]])):
        group[name] = np.asarray(values)
    repo = tmp_path / "other"
    said = run("--repo", repo, "import", tmp_path / "x.zarr", "--as", "x", "-q")
    assert "samples  2, 3 tokens" in said.out
    assert said.err.splitlines() == [
        f"castore: new repository at {repo}",
        "castore: warning: array odd is left out: its shape [1, 1] is neither one a token nor one a sample",
    ]
    (tmp_path / "x.zarr").rename(tmp_path / "y")  # found by what it holds, too
    again = run("--repo", repo, "import", tmp_path / "y", "--as", "y", "--json").json
    assert (again["samples"], again["tokens"], list(again["left_out"])) == (2, 3, ["odd"])
    assert run("--repo", repo, "diff", "x", "y", status=0).out.startswith("equal")
    refused = run("--repo", repo, "import", tmp_path / "y", "--as", "z", "--like", "x", status=2)
    assert "not for zarr groups" in refused.err
