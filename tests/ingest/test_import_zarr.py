"""Zarr groups become datasets: a copy of the zarr view has the root it came from, others what they hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

import castore
from castore.dataset import Dataset
from castore.errors import InvalidInputError
from castore.ingest import import_zarr
from castore.repository import Repository
from tests.support.complete import check_complete
from tests.support.jobs import ORIGIN, example_rows, tokenize, write_rows


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return castore.open(str(tmp_path / "repo"), create=True)


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_zarr, "BATCH_TOKENS", 3000)
    monkeypatch.setattr(import_zarr, "BATCH_SAMPLES", 50)


def copied(store: Any, folder: Path) -> str:
    """All keys of a store as files."""

    async def copy() -> None:
        async for key in store.list():
            value = await store.get(key, default_buffer_prototype())
            (folder / key).parent.mkdir(parents=True, exist_ok=True)
            (folder / key).write_bytes(value.to_bytes())

    sync(copy())
    return str(folder)


def made(folder: Path, zarr_format: int = 3, /, **arrays: Any) -> str:
    """A group of these arrays; ``attributes`` are its own."""
    attributes = arrays.pop("attributes", {})
    group = zarr.open_group(str(folder), mode="w", zarr_format=zarr_format, attributes=attributes)  # type: ignore[arg-type]
    for name, values in arrays.items():
        found = np.asarray(values)
        created = group.create_array(name, shape=found.shape, dtype=found.dtype)
        created[...] = found
    return str(folder)


def imported(repository: Repository, place: str) -> Dataset:
    repository.import_zarr(place, "x", ORIGIN)
    check_complete(repository)
    return repository["x"]


@pytest.mark.parametrize("options", [{}, {"num_examples": 77}, {"shuffle_seed": None}])
def test_a_copy_of_the_view_has_the_root_it_came_from(
    repository: Repository, tmp_path: Path, options: dict[str, Any]
) -> None:
    path = write_rows(tmp_path / "rows.jsonl", example_rows())
    root = tokenize(repository, [(path, "1.0"), (path, "0.5")], "tokenized", **options).root
    place = copied(castore.zarr_store(repository.url, "tokenized"), tmp_path / "copy.zarr")
    before = repository.objects.writes
    data = imported(repository, place)
    assert data.root == root
    assert data.sources == [str(path)] * 2
    assert repository.objects.writes - before == 1, "all chunks are shared, the run record is new"
    assert repository["tokenized"].diff(data).equal


def test_all_arrays_come_along(repository: Repository, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, 200, 120)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    m, n = int(offsets[-1]), len(lengths)
    arrays = {
        "token_ids": rng.integers(0, 70000, m).astype(np.int32),
        "sample_offsets": offsets.astype(np.uint64),
        "labels_mask": rng.random(m) < 0.5,
        "source": rng.integers(0, 3, n),
        "weight": rng.random(m).astype(np.float32),
        "half": rng.random(m).astype(np.float16),
        "rank": rng.integers(-5, 5, n).astype(np.int32),
        "flag": rng.random(n) < 0.5,
    }
    place = made(tmp_path / "a.zarr", **arrays, odd=np.zeros((3, 4)), attributes={"sources": ["one", "two"]})
    result = repository.import_zarr(place, "x", ORIGIN)
    assert list(result.left_out) == ["odd"]
    check_complete(repository)
    data = repository["x"]
    assert data.sources == ["one", "two", f"{place}#2"]
    ids, found, mask = data.read()
    assert np.array_equal(ids, arrays["token_ids"])
    assert np.array_equal(found, offsets)
    assert np.array_equal(mask, arrays["labels_mask"])
    for name in ("source", "weight", "half", "rank", "flag"):
        assert np.array_equal(data.arrays[name][:], arrays[name]), name
    assert {name: str(data.arrays[name].dtype) for name in ("half", "rank", "flag")} == {
        "half": "float32",
        "rank": "int64",
        "flag": "uint8",
    }
    # The same again is the same; one changed weight is found.
    assert repository.import_zarr(place, "again", ORIGIN).written.root == data.root
    changed = dict(arrays, weight=arrays["weight"].copy())
    changed["weight"][offsets[60]] += 1
    assert lengths[60] > 0
    before = repository.objects.bytes_written
    repository.import_zarr(made(tmp_path / "b.zarr", **changed, attributes={"sources": ["one", "two"]}), "b", ORIGIN)
    assert repository.objects.bytes_written - before < 70_000
    difference = data.diff(repository["b"])
    assert difference.first is not None
    assert (difference.first.array, difference.first.a.sample, difference.first.index) == ("weight", 60, 0)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_rows_are_samples(repository: Repository, tmp_path: Path, zarr_format: int) -> None:
    ids = np.arange(70 * 128).reshape(70, 128)
    mask = ids % 3 == 0
    data = imported(repository, made(tmp_path / "rows", zarr_format, token_ids=ids, labels_mask=mask, loss=ids / 2))
    assert len(data) == 70
    assert data[5].token_ids.tolist() == ids[5].tolist()
    assert data[69].labels_mask.tolist() == mask[69].tolist()
    assert data[3].arrays["loss"].tolist() == (ids[3] / 2).tolist()
    plain = imported(repository, made(tmp_path / "plain", token_ids=ids))
    assert plain.arrays["labels_mask"][:].all()


IDS, EDGES = np.arange(6), np.array([0, 2, 6])


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"data": IDS}, "has no array token_ids"),
        ({"token_ids": IDS}, "where do samples begin"),
        ({"token_ids": IDS, "sample_offsets": [1, 6]}, "do not ascend from 0 to the 6 tokens"),
        ({"token_ids": IDS, "sample_offsets": [0, 5]}, "do not ascend"),
        ({"token_ids": IDS, "sample_offsets": [0, 7]}, "do not ascend"),
        ({"token_ids": IDS, "sample_offsets": [0, 4, 3, 6]}, "do not ascend"),
        ({"token_ids": IDS, "sample_offsets": [0.0, 6.0]}, "not integers"),
        ({"token_ids": IDS - 1, "sample_offsets": EDGES}, "token id -1"),
        ({"token_ids": IDS * 0.5, "sample_offsets": EDGES}, "token_ids are a list of integers"),
        ({"token_ids": IDS, "sample_offsets": EDGES, "labels_mask": [True]}, "labels_mask is of shape"),
        ({"token_ids": IDS, "sample_offsets": EDGES, "labels_mask": IDS}, "other values than true and false"),
        ({"token_ids": IDS, "sample_offsets": EDGES, "source": [0]}, "source is of shape"),
        ({"token_ids": IDS, "sample_offsets": EDGES, "source": [0, -1]}, "no number of a source"),
        ({"token_ids": np.zeros((2, 2, 2), int)}, "give one axis"),
    ],
)
def test_groups_that_contradict_themselves_are_refused(
    repository: Repository, tmp_path: Path, arrays: dict[str, Any], words: str
) -> None:
    place = made(tmp_path / "a.zarr", **arrays)
    with pytest.raises(InvalidInputError, match=words):
        repository.import_zarr(place, "x", ORIGIN)
    assert repository.refs.names() == []


def test_what_is_no_group_is_refused_in_one_line(repository: Repository, tmp_path: Path) -> None:
    (tmp_path / "x.zarr").mkdir()
    (tmp_path / "x.zarr" / "zarr.json").write_text("{")
    for place in (tmp_path / "absent.zarr", tmp_path / "x.zarr"):
        with pytest.raises(InvalidInputError, match="cannot be read as a zarr group") as caught:
            repository.import_zarr(str(place), "x", ORIGIN)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", [(1, 1 << 40), (1 << 40,)])
def test_a_sample_that_is_too_long_is_not_read(repository: Repository, tmp_path: Path, shape: tuple[int, ...]) -> None:
    group = zarr.open_group(str(tmp_path / "g"), mode="w")
    group.create_array("token_ids", shape=shape, chunks=(1, 1024)[-len(shape) :], dtype="uint8")
    if len(shape) == 1:
        offsets = group.create_array("sample_offsets", shape=(2,), dtype="int64")
        offsets[:] = [0, 1 << 40]
    with pytest.raises(InvalidInputError, match="sample 0 has 1099511627776 tokens: at most 33554432 are possible"):
        repository.import_zarr(str(tmp_path / "g"), "x")


def test_a_damaged_chunk_is_named(repository: Repository, tmp_path: Path) -> None:
    place = made(tmp_path / "a.zarr", token_ids=IDS, sample_offsets=EDGES)
    (tmp_path / "a.zarr" / "token_ids" / "c" / "0").write_bytes(b"no zstd")
    with pytest.raises(InvalidInputError, match="array token_ids cannot be read"):
        repository.import_zarr(place, "x", ORIGIN)
    assert repository.refs.names() == []
