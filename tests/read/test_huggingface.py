"""A dataset as ``datasets`` has it: the columns that trainers take, in the recorded order, verified."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import castore
from castore.dataset import Dataset
from castore.errors import CorruptionError
from castore.read import huggingface
from castore.repository import Repository
from tests.support.jobs import example_rows, tokenize, write_rows

datasets = pytest.importorskip("datasets")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    folder = tmp_path_factory.mktemp("hf")
    made = castore.open(str(folder / "repo"), create=True)
    path = write_rows(folder / "rows.jsonl", example_rows())
    tokenize(made, [(path, "1.0")], "x", num_examples=200)
    tokenize(made, [(path, "1.0")], "plain", shuffle_seed=None)
    return made


@pytest.fixture
def data(repository: Repository) -> Dataset:
    return repository["x"]


def assert_examples(found: Any, data: Dataset, indices: Any) -> None:
    examples = list(found)
    assert len(examples) == len(indices)
    for example, index in zip(examples, indices, strict=True):
        sample = data[int(index)]
        labels = np.where(sample.labels_mask, sample.token_ids.astype(np.int64), -100)
        assert example["input_ids"] == sample.token_ids.tolist()
        assert example["labels"] == labels.tolist()
        assert example["attention_mask"] == [1] * len(sample)


def test_a_dataset_is_in_the_recorded_order(data: Dataset, repository: Repository, tmp_path: Path) -> None:
    found = data.to_hf(cache_dir=str(tmp_path))
    assert isinstance(found, datasets.Dataset)
    assert found.column_names == ["input_ids", "labels", "attention_mask"]
    assert found.features["input_ids"].feature.dtype == "int32"
    assert_examples(found, data, data.positions)
    assert len(data.positions) == 200 < len(data)
    assert_examples(data.to_hf(ordered=False, cache_dir=str(tmp_path)), data, range(len(data)))
    plain = repository["plain"]
    assert_examples(plain.to_hf(cache_dir=str(tmp_path)), plain, range(len(plain)))
    assert found.with_format("torch" if _has_torch() else "numpy")[3]["labels"].shape == (len(found[3]["labels"]),)


def test_what_it_gives_can_be_written(data: Dataset, repository: Repository, tmp_path: Path) -> None:
    for streaming in (False, True):
        examples = data.to_hf(streaming=streaming, ordered=False, cache_dir=str(tmp_path))
        repository.write(examples, "again")
        for name in ("token_ids", "labels_mask"):
            assert repository["again"].manifest.arrays[name] == data.manifest.arrays[name]


def _has_torch() -> bool:
    from importlib.util import find_spec

    return find_spec("torch") is not None


def test_a_stream_has_the_same_examples(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface, "STREAM_SAMPLES", 7)
    monkeypatch.setattr(huggingface, "SHARDS_MAX", 6)
    found = data.to_hf(streaming=True)
    assert isinstance(found, datasets.IterableDataset)
    assert found.column_names == ["input_ids", "labels", "attention_mask"]
    assert found.num_shards == 6
    assert_examples(found, data, data.positions)
    assert_examples(data.to_hf(streaming=True, ordered=False), data, range(len(data)))
    halves = [found.shard(2, i) for i in range(2)]
    assert sum(len(list(half)) for half in halves) == 200
    assert_examples(found.skip(150), data, data.positions[150:])


def test_the_file_is_made_once_and_verified_at_every_load(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = data.to_hf(cache_dir=str(tmp_path))
    expected = first.to_dict()
    (path,) = (tmp_path / "castore").glob("*.arrow")
    made: list[Path] = []
    real = huggingface._write

    def write(*arguments: Any) -> None:
        made.append(arguments[1])
        real(*arguments)

    monkeypatch.setattr(huggingface, "_write", write)
    data.to_hf(cache_dir=str(tmp_path))
    assert made == []
    del first
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    again = data.to_hf(cache_dir=str(tmp_path))
    assert made == [path]
    assert again.to_dict() == expected
    assert [p.name for p in (tmp_path / "castore").iterdir() if p.name.startswith(".")] == []
    (seal,) = (tmp_path / "castore").glob("*.blake3")
    seal.write_bytes(b"\xff" + seal.read_bytes())
    data.to_hf(cache_dir=str(tmp_path))
    assert made == [path, path]


@pytest.mark.parametrize("streaming", [False, True])
def test_damage_in_the_repository_is_found(tmp_path: Path, streaming: bool) -> None:
    repository = castore.open(str(tmp_path / "repo"), create=True)
    repository.write([[1, 2], [3]], "x")
    data = repository["x"]
    name = data.reader.index("labels_mask").leaf(0).entry.digest.hex()
    path = tmp_path / "repo" / "objects" / name[:2] / name
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    options: dict[str, Any] = {"streaming": True} if streaming else {"cache_dir": str(tmp_path / "cache")}
    with pytest.raises(CorruptionError):
        list(data.to_hf(**options))
    assert not list(tmp_path.glob("cache/castore/*"))


def test_ids_that_take_more_bits_have_them(tmp_path: Path) -> None:
    repository = castore.open(str(tmp_path / "repo"), create=True)
    repository.write([([(1 << 32) - 1, 5], [True, False])], "x")
    (example,) = repository["x"].to_hf(cache_dir=str(tmp_path))
    assert example == {"input_ids": [(1 << 32) - 1, 5], "labels": [(1 << 32) - 1, -100], "attention_mask": [1, 1]}
