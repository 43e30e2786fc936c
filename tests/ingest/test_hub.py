"""Hugging Face datasets in a mix: the rows of a folder that ``load_dataset`` takes are those of the same files."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from blake3 import blake3

from castore.errors import InvalidInputError, MissingExtraError, SourceError
from castore.format.run import Run
from castore.ingest import hub
from castore.ingest.hub import open_source
from castore.ingest.source import Source
from castore.repository import Repository
from castore.store.backend import MemoryBackend
from tests.support.jobs import example_rows, run_job, write_rows

pytest.importorskip("datasets", reason="the library datasets is not installed")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of the test's own, and no network."""
    import datasets
    import huggingface_hub

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


def messages(*texts: str | None) -> list[dict[str, Any]]:
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]


def dataset(folder: Path, rows: Sequence[Any], name: str = "train.jsonl") -> Path:
    folder.mkdir(exist_ok=True)
    return write_rows(folder / name, [json.dumps(row, ensure_ascii=False).encode() for row in rows])


def rows_of(source: Source) -> list[bytes]:
    return [row.data for block in source.blocks() for row in block]


# ---- what is a dataset


@pytest.mark.parametrize(
    "name",
    ["owner/name", "name", "owner/name-v0.1", "owner/my.set", "a_b", "owner/set.v2"],
)
def test_names_of_datasets(name: str) -> None:
    with pytest.raises(SourceError, match="cannot be loaded as a Hugging Face dataset: ") as caught:
        open_source(name)
    assert caught.value.place == name
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    ["x.jsonl", "x.JSONL", "x.jsonl.gz", "owner/x.json", "x.parquet", "x/y.csv", "y.txt", "x.gz", "/a", "./a", "../a",
     "a/b/c", "a/b/c.x", "~/a"],
)  # fmt: skip
def test_what_looks_like_a_file_is_a_file(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "_load", None)
    with pytest.raises(SourceError, match="No such file or directory"):
        open_source(name)


@pytest.mark.parametrize("name", ["", "a\0b"])
def test_no_name_at_all(name: str) -> None:
    with pytest.raises(SourceError, match="not a file name"):
        open_source(name)


def test_a_file_that_is_there_is_read_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "_load", None)
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "name.jsonl", example_rows()[:3])
    source = open_source("name.jsonl", revision="v2")
    assert (source.split, source.revision, source.row_count()) == ("train", None, 3)
    (tmp_path / "name").write_bytes(b"{}")
    with pytest.raises(SourceError, match="unknown kind of file"):
        open_source("name")


def test_a_file_has_one_split(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "x.jsonl", example_rows()[:3])
    with pytest.raises(InvalidInputError, match="only the split train, not test"):
        open_source(str(path), "test")


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError) as caught:
        open_source("owner/name")
    assert caught.value.extra == "datasets"


# ---- rows


def test_the_columns_that_count_with_their_nulls(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "tools": None, "messages": messages("one", None)},
        {"id": "b", "tools": '[{"x": 1}]', "messages": messages("ünï", "two", "three", "four")},
    ]
    dataset(tmp_path / "set", rows)
    source = open_source(str(tmp_path / "set"))
    assert rows_of(source) == [
        b'{"messages":[{"role":"user","content":"one"},{"role":"assistant","content":null}],"tools":null}',
        '{"messages":[{"role":"user","content":"ünï"},{"role":"assistant","content":"two"},'
        '{"role":"user","content":"three"},{"role":"assistant","content":"four"}],"tools":"[{\\"x\\": 1}]"}'.encode(),
    ]
    assert (source.row_count(), source.bytes_read) == (2, source.byte_count)


def test_the_digest_is_that_of_the_rows(tmp_path: Path) -> None:
    """However the library keeps them: from JSON lines, from Parquet, in one file or two."""
    import pyarrow
    import pyarrow.parquet

    rows = [{"messages": messages(f"question {i}", f"answer {i}")} for i in range(700)]
    dataset(tmp_path / "one", rows)
    dataset(tmp_path / "two", rows[:300], "train-0.jsonl")
    dataset(tmp_path / "two", rows[300:], "train-1.jsonl")
    (tmp_path / "three").mkdir()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "three" / "train.parquet")
    sources = [open_source(str(tmp_path / name)) for name in ("one", "two", "three")]
    lines = b"".join(json.dumps(row, separators=(",", ":")).encode() + b"\n" for row in rows)
    assert {source.digest for source in sources} == {blake3(lines).hexdigest()}
    assert rows_of(sources[0]) == lines.splitlines()


@pytest.mark.parametrize("numbers", [[0], [699], [3, 255, 256, 257, 600], list(range(700))])
def test_chosen_rows(tmp_path: Path, numbers: list[int]) -> None:
    rows = [{"messages": messages(f"question {i}", f"answer {i}")} for i in range(700)]
    dataset(tmp_path / "set", rows)
    source = open_source(str(tmp_path / "set"), block_bytes=500)
    chosen = [row for block in source.blocks_of(np.array(numbers)) for row in block]
    assert [row.number for row in chosen] == numbers
    assert [json.loads(row.data) for row in chosen] == [rows[i] for i in numbers]


def test_splits(tmp_path: Path) -> None:
    dataset(tmp_path / "set", [{"messages": messages("a", "b")}] * 2)
    dataset(tmp_path / "set", [{"messages": messages("c", "d")}] * 3, "test.jsonl")
    name = str(tmp_path / "set")
    assert [open_source(name, split).row_count() for split in ("train", "test", "train+test", "test[:1]")] == [
        2, 3, 5, 1,
    ]  # fmt: skip
    with pytest.raises(SourceError, match="Unknown split"):
        open_source(name, "validation")


def test_without_messages(tmp_path: Path) -> None:
    dataset(tmp_path / "set", [{"text": "a"}])
    with pytest.raises(SourceError, match="no column `messages`"):
        open_source(str(tmp_path / "set"))


def test_a_time_is_no_text(tmp_path: Path) -> None:
    """The library may make times of texts that are dates; what they were written as cannot be told any more."""
    import datetime

    import pyarrow
    import pyarrow.parquet

    rows = [{"messages": [{"role": "user", "content": datetime.date(2026, 1, 1)}]}]
    (tmp_path / "set").mkdir()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "set" / "train.parquet")
    with pytest.raises(SourceError, match="row 1: this row or one soon after it has no JSON form"):
        rows_of(open_source(str(tmp_path / "set")))


def test_broken_data_files_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train.jsonl").write_bytes(b'{"messages": [}\n')
    with pytest.raises(SourceError) as caught:
        open_source(str(tmp_path / "set"))
    assert "\n" not in str(caught.value)
    assert "generating the dataset" not in str(caught.value)


def test_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    with pytest.raises(SourceError, match="cannot be loaded"):
        open_source(str(tmp_path / "set"))


def test_what_the_library_says_is_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import datasets

    dataset(tmp_path / "set", [{"messages": messages("a", "b")}])
    real = datasets.load_dataset

    def load_dataset(*args: Any, **options: Any) -> Any:
        logging.getLogger("datasets.load").warning("Using the latest cached version\nof it")
        return real(*args, **options)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    name = str(tmp_path / "set")
    assert open_source(name).warnings == (f"{name}: Using the latest cached version of it",)
    said: list[str] = []
    run_job(MemoryBackend(), [(name, "1.0")], warn=said.append)
    assert said == [f"{name}: Using the latest cached version of it"]
    assert capfd.readouterr().err == ""
    assert not datasets.are_progress_bars_disabled()


# ---- jobs


@pytest.mark.parametrize("amount", ["1.0", "2.5", "0.4", "30"])
def test_a_dataset_and_its_file_have_one_root(tmp_path: Path, amount: str) -> None:
    path = write_rows(tmp_path / "rows.jsonl", example_rows()[:80])
    (tmp_path / "set").mkdir()
    write_rows(tmp_path / "set" / "train.jsonl", example_rows()[:80])
    results = [run_job(MemoryBackend(), [(name, amount)]) for name in (path, tmp_path / "set")]
    assert results[0].root == results[1].root
    assert results[0].dropped == results[1].dropped


def test_the_record_tells_split_and_revision(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", example_rows()[:10])
    (tmp_path / "set").mkdir()
    write_rows(tmp_path / "set" / "test.jsonl", example_rows()[:10])
    backend = MemoryBackend()
    mix = [(path, "1.0"), (tmp_path / "set", "1.0")]
    result = run_job(backend, mix, split=("train", "test"), revision="v1")
    run = Run.decode(Repository(backend).objects.get(result.run))
    assert [(source.split, source.revision) for source in run.sources] == [("train", None), ("test", "v1")]
    again = run_job(backend, mix, split=("train", "test"))
    assert again.progress.rows_reused == 20
    assert again.root == result.root


@pytest.mark.parametrize("splits", [(), ("train",) * 3])
def test_one_split_for_all_or_one_for_each(tmp_path: Path, splits: tuple[str, ...]) -> None:
    path = write_rows(tmp_path / "rows.jsonl", example_rows()[:10])
    with pytest.raises(InvalidInputError, match=f"{len(splits)} splits for 2 sources"):
        run_job(MemoryBackend(), [(path, "1.0"), (path, "2")], split=splits)
