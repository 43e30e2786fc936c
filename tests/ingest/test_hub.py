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
from castore.ingest.places import open_source
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


def test_lines_of_a_folder_are_rows_as_they_are(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "tools": None, "messages": messages("one", "2026-01-01")},
        {"id": "b", "tools": '[{"x": 1}]', "messages": messages("ünï", "two", "three", "four")},
    ]
    path = dataset(tmp_path / "set", rows)
    source = open_source(str(tmp_path / "set"))
    assert rows_of(source) == path.read_bytes().splitlines()
    assert (source.row_count(), source.bytes_read) == (2, source.byte_count)


def test_the_columns_that_count_with_their_nulls(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    rows = [
        {"id": "a", "tools": None, "messages": messages("one", None)},
        {"id": "b", "tools": '[{"x": 1}]', "messages": messages("ünï", "two")},
    ]
    (tmp_path / "set").mkdir()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "set" / "train.parquet")
    assert rows_of(open_source(str(tmp_path / "set"))) == [
        b'{"tools":null,"messages":[{"role":"user","content":"one"},{"role":"assistant","content":null}]}',
        '{"tools":"[{\\"x\\": 1}]","messages":[{"role":"user","content":"ünï"},'
        '{"role":"assistant","content":"two"}]}'.encode(),
    ]


def test_the_digest_is_that_of_the_rows(tmp_path: Path) -> None:
    """However they are kept: as compact lines, compressed, in Parquet, in one file or two."""
    import gzip

    import pyarrow
    import pyarrow.parquet

    rows = [{"messages": messages(f"question {i}", f"answer {i}")} for i in range(700)]
    lines = [json.dumps(row, separators=(",", ":")).encode() + b"\n" for row in rows]
    for name in ("one", "two", "three", "four"):
        (tmp_path / name).mkdir()
    (tmp_path / "one" / "train.jsonl").write_bytes(b"".join(lines))
    (tmp_path / "two" / "train-0.jsonl").write_bytes(b"".join(lines[:300]))
    (tmp_path / "two" / "train-1.jsonl").write_bytes(b"".join(lines[300:]))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "three" / "train.parquet")
    (tmp_path / "four" / "train.jsonl.gz").write_bytes(gzip.compress(b"".join(lines)))
    sources = [open_source(str(tmp_path / name)) for name in ("one", "two", "three", "four")]
    assert {source.digest for source in sources} == {blake3(b"".join(lines)).hexdigest()}
    assert {source.row_count() for source in sources} == {700}


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
    dataset(tmp_path / "set", [{"messages": messages("c", str(i))} for i in range(5)], "test.jsonl")
    name = str(tmp_path / "set")
    counts = [open_source(name, split).row_count() for split in ("train", "test", "train+test", "all", "test[:20%]")]
    assert counts == [2, 5, 7, 7, 1]
    source = open_source(name, "train[1:]+test[1:3]+test[-1:]", block_bytes=100)
    said = [json.loads(row)["messages"][1]["content"] for row in rows_of(source)]
    assert said == ["b", "1", "2", "4"]
    chosen = [(row.number, row.data) for block in source.blocks_of(np.array([1, 3])) for row in block]
    assert [(number, json.loads(data)["messages"][1]["content"]) for number, data in chosen] == [(1, "1"), (3, "4")]
    with pytest.raises(SourceError, match="Unknown split"):
        open_source(name, "validation")


def test_a_file_that_changed_but_not_its_time_is_read_as_it_is(tmp_path: Path) -> None:
    """The library's cache goes by times; text is read without the library, other files into an empty cache."""
    import os

    pytest.importorskip("pandas", reason="the library reads csv with it")
    for suffix, first, second in (
        ("jsonl", b'{"messages": [{"role": "user", "content": "aaa"}]}\n', b"bbb"),
        ("csv", b"messages\naaa\n", b"bbb"),
    ):
        folder = tmp_path / suffix
        folder.mkdir()
        path = folder / f"train.{suffix}"
        path.write_bytes(first)
        before = path.stat()
        assert b"aaa" in rows_of(open_source(str(folder)))[0]
        path.write_bytes(first.replace(b"aaa", second))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert b"bbb" in rows_of(open_source(str(folder)))[0]


# ---- folders of save_to_disk


def saved(tmp_path: Path, **splits: Sequence[Any]) -> Path:
    import datasets

    made = {name: datasets.Dataset.from_list(list(rows), split=name) for name, rows in splits.items()}
    datasets.DatasetDict(made).save_to_disk(tmp_path / "saved", num_shards=dict.fromkeys(made, 2))
    return tmp_path / "saved"


def test_a_saved_dataset(tmp_path: Path) -> None:
    rows = [{"id": i, "messages": messages(f"question {i}", f"answer {i}")} for i in range(700)]
    folder = saved(tmp_path, train=rows, test=rows[:3])
    source = open_source(str(folder))
    assert [json.loads(row)["messages"] for row in rows_of(source)] == [row["messages"] for row in rows]
    assert (source.row_count(), source.bytes_read) == (700, source.byte_count)
    numbers = [0, 349, 350, 351, 699]
    chosen = [row for block in source.blocks_of(np.array(numbers)) for row in block]
    assert [json.loads(row.data)["messages"] for row in chosen] == [rows[i]["messages"] for i in numbers]
    assert open_source(str(folder), "test").row_count() == 3
    assert open_source(str(folder / "test"), "test").row_count() == 3
    assert open_source(str(folder / "test")).row_count() == 3
    with pytest.raises(SourceError, match="has the splits train, test, not validation: give --split"):
        open_source(str(folder), "validation")
    with pytest.raises(SourceError, match="holds one split, test, not validation"):
        open_source(str(folder / "test"), "validation")


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("dataset_dict.json", b"{}", "lists no splits"),
        ("dataset_dict.json", b"{", "not valid JSON"),
        ("dataset_dict.json", b"[]", "not a JSON object"),
        ("dataset_dict.json", b'{"splits": ["train", ".."]}', "no file or folder directly in it"),
        ("train/state.json", b"{}", "lists no data files"),
        ("train/state.json", b'{"_data_files": [{"filename": "../x"}]}', "no file or folder directly in it"),
        ("train/state.json", b'{"_data_files": [{"filename": "gone"}]}', "No such file"),
        ("train/state.json", b'{"_data_files": [], "_indices_data_files": [{}]}', "flatten_indices"),
        ("train/data-00000-of-00002.arrow", b"nothing of the kind", "not readable as an Arrow stream"),
    ],
)
def test_a_saved_dataset_that_is_damaged(tmp_path: Path, file: str, text: bytes, message: str) -> None:
    folder = saved(tmp_path, train=[{"messages": messages("a", "b")}] * 4)
    (folder / file).write_bytes(text)
    with pytest.raises(InvalidInputError, match=message) as caught:
        rows_of(open_source(str(folder), ".." if b'".."' in text else "train"))
    assert "\n" not in str(caught.value)


def test_without_messages(tmp_path: Path) -> None:
    dataset(tmp_path / "set", [{"text": "a"}])
    with pytest.raises(SourceError, match="row 1, messages: this column is missing: there is text"):
        run_job(MemoryBackend(), [(tmp_path / "set", "1.0")])


def test_a_broken_row_is_named(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train.jsonl").write_bytes(example_rows()[0] + b'\n{"messages": [}\n')
    with pytest.raises(SourceError, match="row 2: not valid JSON"):
        run_job(MemoryBackend(), [(tmp_path / "set", "1.0")])
    assert run_job(MemoryBackend(), [(tmp_path / "set", "1.0")], on_error="skip").dropped == {"bad-row": 1}


def test_broken_data_files_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train.csv").write_bytes(b'a,b\n1,2\n"3,4,5\n6')
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
    real = datasets.load_dataset_builder

    def load_dataset_builder(*args: Any, **options: Any) -> Any:
        logging.getLogger("datasets.load").warning("Using the latest cached version\nof it")
        return real(*args, **options)

    monkeypatch.setattr(datasets, "load_dataset_builder", load_dataset_builder)
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
