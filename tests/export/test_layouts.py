"""Exports in other layouts, read back by readers of their own and, where installed, by those of the trainers."""

from __future__ import annotations

import json
import os
import struct
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from castore.dataset import Dataset
from castore.errors import BackendError, CorruptionError, InvalidInputError, MissingExtraError
from castore.export import layouts
from castore.export.layouts import export_layout
from castore.export.receipt import RECEIPT_FILE
from castore.repository import Repository
from castore.store.backend import MemoryBackend
from castore.store.object_keys import object_key
from castore.tree.walk import leaves
from tests.export.earlier import earlier_export
from tests.support.jobs import example_rows, run_job, with_vocab_size, write_rows
from tests.support.layouts import flipped

Rows = list[tuple[list[int], list[int], str]]

NEEDS_PYARROW = pytest.mark.skipif(find_spec("pyarrow") is None, reason="pyarrow is not installed")
OTHERS = ("megatron", "mds", pytest.param("parquet", marks=NEEDS_PYARROW))


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> MemoryBackend:
    path = write_rows(tmp_path_factory.mktemp("rows") / "rows.jsonl", example_rows())
    more = write_rows(path.with_name("more.jsonl"), example_rows()[:50])
    backend = MemoryBackend()
    run_job(backend, [(path, "1.0"), (more, "1.0")], name="x", num_examples=300)
    return backend


@pytest.fixture
def data(backend: MemoryBackend) -> Dataset:
    return Repository(backend)["x"]


@pytest.fixture
def rows(data: Dataset) -> Rows:
    """Token ids, labels and source of every sample in the recorded order."""
    names = data.sources
    return [(s.token_ids.tolist(), s.labels_mask.tolist(), names[s.source]) for s in data.ordered]


# ---- Megatron


def read_megatron(prefix: Path) -> list[list[int]]:
    """The documents of a pair of files, each by its own offset."""
    index = prefix.with_suffix(".idx").read_bytes()
    assert index[:9] == b"MMIDIDX\x00\x00"
    version, code, sequences, documents = struct.unpack_from("<QBQQ", index, 9)
    assert version == 1
    dtype = np.dtype({1: "u1", 4: "<i4", 8: "<u2"}[code])
    at = 9 + 25
    lengths = np.frombuffer(index, "<i4", sequences, at)
    pointers = np.frombuffer(index, "<i8", sequences, at + 4 * sequences)
    ends = np.frombuffer(index, "<i8", documents, at + 12 * sequences)
    assert len(index) == at + 12 * sequences + 8 * documents
    assert ends.tolist() == list(range(sequences + 1))
    content = prefix.with_suffix(".bin").read_bytes()
    assert len(content) == dtype.itemsize * lengths.sum()
    pairs = zip(pointers.tolist(), lengths.tolist(), strict=True)
    return [np.frombuffer(content, dtype, length, pointer).tolist() for pointer, length in pairs]


def test_megatron(data: Dataset, rows: Rows, tmp_path: Path) -> None:
    reported: list[tuple[int, int]] = []
    done = export_layout(data, str(tmp_path / "out"), "megatron", report=lambda *state: reported.append(state))
    assert read_megatron(tmp_path / "out" / "token_ids") == [ids for ids, _, _ in rows]
    assert read_megatron(tmp_path / "out" / "labels_mask") == [mask for _, mask, _ in rows]
    assert (done.samples, done.tokens) == (len(rows), sum(len(ids) for ids, _, _ in rows))
    assert reported[-1] == (done.tokens, data.manifest.tokens)


@pytest.mark.parametrize(("vocab_size", "width"), [(65_499, 2), (65_500, 4), (None, 4)])
def test_megatrons_width_follows_the_vocabulary(
    data: Dataset, rows: Rows, tmp_path: Path, vocab_size: int | None, width: int
) -> None:
    with_vocab_size(data, vocab_size)
    done = export_layout(data, str(tmp_path / "out"), "megatron")
    assert (tmp_path / "out" / "token_ids.bin").stat().st_size == width * done.tokens
    assert read_megatron(tmp_path / "out" / "token_ids") == [ids for ids, _, _ in rows]


@pytest.mark.filterwarnings("ignore")
def test_megatron_itself_reads_it(data: Dataset, rows: Rows, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    module = pytest.importorskip("megatron.core.datasets.indexed_dataset", reason="megatron-core is not installed")
    export_layout(data, str(tmp_path / "out"), "megatron")
    found = module.IndexedDataset(str(tmp_path / "out" / "token_ids"))
    assert [found[i].tolist() for i in range(len(found))] == [ids for ids, _, _ in rows]


# ---- MDS


def read_mds(folder: Path) -> list[tuple[list[int], list[int], int]]:
    found = []
    for shard in json.loads((folder / "index.json").read_text())["shards"]:
        content = (folder / shard["raw_data"]["basename"]).read_bytes()
        assert len(content) == shard["raw_data"]["bytes"]
        (count,) = struct.unpack_from("<I", content)
        assert count == shard["samples"]
        offsets = struct.unpack_from(f"<{count + 1}I", content, 4)
        config = json.loads(content[4 * (count + 2) : offsets[0]])
        assert config == {name: value for name, value in shard.items() if name in config}
        assert config["column_names"] == sorted(config["column_names"])
        assert offsets[-1] == len(content)
        found += [_mds_sample(content[lo:hi]) for lo, hi in pairwise(offsets)]
    return found


def _mds_sample(sample: bytes) -> tuple[list[int], list[int], int]:
    labels, tokens = struct.unpack_from("<II", sample)
    (source,) = struct.unpack_from("<q", sample, 8 + labels)
    assert len(sample) == 8 + labels + 8 + tokens
    return _array(sample[16 + labels :], "<u4"), _array(sample[8 : 8 + labels], "u1"), source


def _array(data: bytes, dtype: str) -> list[int]:
    assert data[0] >> 2 == 1, "one dimension"
    width = 1 << (data[0] & 3)
    values: list[int] = np.frombuffer(data, dtype, offset=1 + width).tolist()
    assert len(values) == int.from_bytes(data[1 : 1 + width], "little")
    return values


@pytest.mark.parametrize("shard_bytes", [1 << 26, 5000, 1])
def test_mds(data: Dataset, rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shard_bytes: int) -> None:
    monkeypatch.setattr(layouts, "MDS_SHARD_BYTES", shard_bytes)
    done = export_layout(data, str(tmp_path / "out"), "mds")
    names = data.sources
    assert [(ids, mask, names[source]) for ids, mask, source in read_mds(tmp_path / "out")] == rows
    shards = list((tmp_path / "out").glob("shard.*.mds"))
    assert len(shards) == done.parts
    assert (len(shards) == 1) is (shard_bytes == 1 << 26)
    assert (len(shards) == len(rows)) is (shard_bytes == 1)


@pytest.mark.filterwarnings("ignore")
def test_streaming_itself_reads_it(data: Dataset, rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = pytest.importorskip("streaming.base.format", reason="mosaicml-streaming is not installed")
    monkeypatch.setattr(layouts, "MDS_SHARD_BYTES", 20_000)
    export_layout(data, str(tmp_path / "out"), "mds")
    found = []
    for shard in json.loads((tmp_path / "out" / "index.json").read_text())["shards"]:
        reader = module.reader_from_json(str(tmp_path / "out"), "", shard)
        found += [reader[i] for i in range(len(reader))]
    assert [(s["token_ids"].tolist(), s["labels_mask"].tolist(), data.sources[s["source"]]) for s in found] == rows


# ---- parquet


@pytest.mark.parametrize("part_tokens", [1 << 28, 4000])
def test_parquet(data: Dataset, rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part_tokens: int) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    monkeypatch.setattr(layouts, "PARQUET_PART_TOKENS", part_tokens)
    monkeypatch.setattr(layouts, "PARQUET_GROUP_TOKENS", 1500)
    done = export_layout(data, str(tmp_path / "out"), "parquet")
    found: list[Any] = []
    for path in sorted((tmp_path / "out").glob("*.parquet")):
        table = parquet.read_table(path)
        assert table.schema.metadata[b"castore.root"] == data.root.hex().encode()
        found += zip(*(table.column(name).to_pylist() for name in ("token_ids", "labels_mask", "source")), strict=True)
    assert found == rows
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        RECEIPT_FILE, *(f"part-{number:05d}.parquet" for number in range(done.parts)),
    ]  # fmt: skip
    assert parquet.read_table(tmp_path / "out").num_rows == done.samples  # the folder as a whole
    if part_tokens == 1 << 28:
        assert done.parts == 1


def test_parquet_without_pyarrow_is_told(data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"castore\[parquet\]"):
        export_layout(data, str(tmp_path / "out"), "parquet")
    assert list(tmp_path.iterdir()) == []


# ---- all of them


@pytest.mark.parametrize("layout", OTHERS)
def test_a_folder_is_complete_or_absent(backend: MemoryBackend, tmp_path: Path, layout: str) -> None:
    out = tmp_path / "out"
    earlier_export(out, "index.json")
    data = Repository(backend)["x"]
    with pytest.raises(InvalidInputError, match="already holds files"):
        export_layout(data, str(out), layout)
    assert sorted(path.name for path in out.iterdir()) == [RECEIPT_FILE, "index.json"]

    key = object_key(list(leaves(data.fetch, data.tree("token_ids")))[-1].entry.digest)
    flipped(backend, key)
    with pytest.raises(CorruptionError):
        export_layout(Repository(backend)["x"], str(out), layout, replace=True)
    assert sorted(path.name for path in tmp_path.rglob("*")) == [RECEIPT_FILE, "index.json", "out"]

    flipped(backend, key)
    export_layout(Repository(backend)["x"], str(out), layout, replace=True)
    assert not (out / "index.json").exists() or (out / "index.json").read_text() != "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("layout", OTHERS)
def test_a_disk_that_is_full(data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BackendError, match="nothing was left half-written"):
        export_layout(data, str(tmp_path / "out"), layout)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("layout", OTHERS)
def test_the_same_data_are_the_same_files(data: Dataset, tmp_path: Path, layout: str) -> None:
    for name in "ab":
        export_layout(data, str(tmp_path / name), layout)
    files = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in "ab"]
    assert files[0] == files[1]


def test_a_layout_that_there_is_not_is_refused(data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="layout 'arrow' is unknown: give one of olmo-core, megatron"):
        export_layout(data, str(tmp_path / "out"), "arrow")
    assert list(tmp_path.iterdir()) == []
