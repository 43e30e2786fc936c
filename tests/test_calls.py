"""What a user types: every call with plain values, and what it says to those that cannot be."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import castore
from castore.errors import InvalidInputError, NotFoundError
from castore.ingest.mix import spelled_mix
from castore.repository import Repository
from castore.store.move import Why
from tests.support.jobs import ORIGIN, TOKENIZER, example_rows, write_rows


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "rows.jsonl", example_rows()[:12])


@pytest.fixture
def repository(path: Path, tmp_path: Path) -> Repository:
    made = castore.open(tmp_path / "repository", create=True)
    made.tokenize([(path, 1.0)], tokenizer=TOKENIZER, name="one")
    return made


def test_tokenize_takes_all_that_the_command_takes_with_its_defaults() -> None:
    from castore_cli.tokenize import tokenize as command

    given = command.make_context(
        "tokenize", ["--mix", "x.jsonl", "1.0", "--tokenizer", "tokenizer", "--as", "x"]
    ).params
    assert given.pop("splits") == (inspect.signature(Repository.tokenize).parameters["split"].default,)
    assert given.pop("no_shuffle") is False
    for name in ("mix", "tokenizer", "name", "as_json", "quiet", *Why.__annotations__):
        given.pop(name, None)
    others = {"self", "mix", "tokenizer", "name", "split", "origin", "report", "warn", "why"}
    keywords = inspect.signature(Repository.tokenize).parameters
    assert given == {name: keyword.default for name, keyword in keywords.items() if name not in others}


@pytest.mark.parametrize(
    ("amount", "text"),
    [(1.0, "1.0"), (3, "3"), (0.37, "0.37"), (1e-05, "0.00001"), ("0.5", "0.5"), (np.float64(0.5), "0.5"),
     (np.int64(7), "7"), (np.float32(0.25), "0.25"), (2e3, "2000.0")],
)  # fmt: skip
def test_an_amount_may_be_a_number(path: Path, amount: str | float, text: str) -> None:
    assert spelled_mix([(path, amount)]) == [(str(path), text)]


@pytest.mark.parametrize(
    ("mix", "said"),
    [
        ("x.jsonl", r"a mix is pairs of a path and an amount: give \[\('x.jsonl', 1.0\)\]"),
        (["x.jsonl"], r"mix\[0\] is 'x.jsonl': give a pair"),
        ([("x.jsonl", 1.0), ("y.jsonl",)], r"mix\[1\] is \('y.jsonl',\): give a pair"),
        ([(3, 1.0)], r"mix\[0\] is \(3, 1.0\): give a pair"),
        ([("x.jsonl", True)], r"mix\[0\], x.jsonl: True is not an amount"),
        ([("x.jsonl", None)], r"mix\[0\], x.jsonl: None is not an amount"),
        ([("x.jsonl", float("nan"))], r"mix\[0\], x.jsonl: 'NaN' is not an amount"),
        ([("x.jsonl", -1)], r"mix\[0\], x.jsonl: '-1' is not an amount"),
        ([("x.jsonl", 0.0)], r"mix\[0\], x.jsonl: amount 0.0 takes no row"),
    ],
)
def test_a_mix_that_is_none_is_refused_in_one_line(repository: Repository, mix: Any, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        repository.tokenize(mix, tokenizer=TOKENIZER, name="x")
    assert "x" not in repository


def test_tokenize_says_who_and_why(repository: Repository, path: Path) -> None:
    repository.tokenize([(path, 1.0)], tokenizer=TOKENIZER, name="x", message="why not", author="ada")
    repository.tokenize([(str(path), "0.5")], tokenizer=str(TOKENIZER), name="x", origin=ORIGIN, message="half")
    newest, first = repository.log("x")
    assert (first.author, first.message) == ("ada", "why not")
    assert (newest.author, newest.message, newest.time_s) == (ORIGIN.author, "half", ORIGIN.time_s)
    assert repository["x@{1}"] == repository["one"]
    with pytest.raises(NotFoundError, match="has nothing called 'never'"):
        repository.log("never")


def test_what_an_export_holds_is_imported_again(repository: Repository, tmp_path: Path) -> None:
    repository.export("one", tmp_path / "out")
    done = repository.import_folder(tmp_path / "out", "again", shuffle_seed=42, message="back")
    assert done.root == repository["one"].root
    assert repository.log("again")[0].message == "back"
    repository.import_folder(tmp_path / "out", "golden/again", like="one")
    with pytest.raises(InvalidInputError, match="golden/again is protected: give --force"):
        repository.import_folder(tmp_path / "out", "golden/again")


def test_a_dataset_exports_itself(repository: Repository, tmp_path: Path) -> None:
    data = repository["one"]
    assert data.export(tmp_path / "a").samples == data.num_rows == 12
    repository.export("one", tmp_path / "b", part_bytes=4096)
    (whole,) = (tmp_path / "a").glob("token_ids_part_*.npy")
    parts = sorted((tmp_path / "b").glob("token_ids_part_*.npy"))
    assert whole.read_bytes() == b"".join(part.read_bytes() for part in parts)
    assert repository.export(repository["one"], tmp_path / "c", layout="mds").samples == 12
    with pytest.raises(InvalidInputError, match="unknown: give one of olmo-core, megatron"):
        data.export(tmp_path / "d", layout="none")


def test_a_copy_may_go_to_a_place_and_keeps_its_name(repository: Repository, tmp_path: Path) -> None:
    assert repository.copy("one", tmp_path / "other", message="sent").moved
    other = Repository.open(tmp_path / "other")
    assert list(other) == ["one"]
    assert other.log("one")[0].message == "sent"
    assert not repository.copy("one", other).moved
    repository.copy("one@{0}", other, "two")
    with pytest.raises(InvalidInputError, match=r"one@\{0\} is no name: say what to call it there"):
        repository.copy("one@{0}", other)
    with pytest.raises(NotFoundError, match="has nothing called 'never'"):
        repository.copy("never", tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_a_repository_looks_after_itself(tmp_path: Path) -> None:
    repository = Repository.open(tmp_path / "repo", create=True)
    repository.write([[1, 2], [3]], "x")
    repository.write([[1, 2], [4]], "y")
    repository.copy("y", tmp_path / "spare")
    chunk = next((tmp_path / "spare" / "objects").rglob("??/*"))
    for source in (tmp_path / "spare", Repository.open(tmp_path / "spare")):
        (tmp_path / "repo" / chunk.relative_to(tmp_path / "spare")).write_bytes(b"")
        found = repository.fsck().findings
        assert [finding.name for finding in found.listed] == ["object-damaged"]
        assert repository.fsck(repair_from=source).findings.clean
    assert [name.name for name in repository.du().names] == ["x", "y"]
    assert repository.du("x").freed > 0
    repository.remove("x")
    yesterday = time.time() - 24 * 3600
    for path in (tmp_path / "repo").rglob("*"):
        os.utime(path, (yesterday, yesterday))  # what was stored in this very second is not older than nothing
    done = repository.gc(grace_s=60, keep_log_s=0, keep_records_s=0, force=True)
    assert done.removed > 0
    with pytest.raises(InvalidInputError, match="a grace under 3600 s"):
        repository.gc(grace_s=0)


def test_a_dataset_gives_its_arrays_by_name(repository: Repository) -> None:
    data = repository["one"]
    assert data.column_names == ["key", "labels_mask", "length", "source", "token_ids"]
    assert np.array_equal(data["token_ids"][:], data.read().token_ids)
    assert set(data.arrays) == set(data.column_names)
    with pytest.raises(NotFoundError, match="no array 'weight' in this dataset: it has key, labels_mask"):
        data["weight"]


def test_castore_has_its_classes_and_errors_and_loads_none_of_them() -> None:
    code = "import castore, sys; print(sorted(m for m in sys.modules if m.startswith('castore.')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.strip() == "['castore.version']"
    errors = {name for name, kind in vars(castore.errors).items() if isinstance(kind, type) and "Error" in name}
    assert errors <= set(castore.__all__)
    for name in castore.__all__:
        assert getattr(castore, name) is not None
        assert name in dir(castore)
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        castore.Nothing  # type: ignore[attr-defined]  # noqa: B018
