"""The zarr view: zarr's own tests of stores, and what zarr, dask, xarray and tensorstore read is what numpy has."""

from __future__ import annotations

import json
import pickle
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from zarr.abc.store import OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.core.buffer import Buffer, cpu, default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import MemoryStore
from zarr.testing.store import StoreTests

import castore
from castore.dataset import Dataset
from castore.errors import CorruptionError, InvalidInputError, NotFoundError
from castore.read import zarr_content
from castore.read.zarr_content import DatasetContent
from castore.read.zarr_store import CastoreStore
from castore.repository import Repository
from tests.support.servers import Server
from tests.support.strategies import random_rows

RECTILINEAR = zarr.config.get("array.rectilinear_chunks", None) is not None


# ---- zarr's own tests


class Table(dict[str, bytes]):
    """Content that tests fill as they like."""

    def has(self, key: str) -> bool:
        return key in self

    def keys(self, prefix: str = "") -> Iterator[str]:  # type: ignore[override]
        return (key for key in list(self) if key.startswith(prefix))


class Filled(CastoreStore):
    """The store over a table, with a way in for the tests that write what they read. All reading is the product's."""

    supports_writes = True
    supports_deletes = True

    def __init__(self, table: Table, read_only: bool = False) -> None:
        super().__init__(("table",), Table)
        self._content = table
        self._read_only = read_only

    def with_read_only(self, read_only: bool = False) -> Filled:
        return Filled(self.table, read_only)

    @property
    def table(self) -> Table:
        assert isinstance(self._content, Table)
        return self._content

    def __reduce__(self) -> tuple[Any, ...]:
        return Filled, (self.table, self._read_only)

    async def set(self, key: str, value: Buffer) -> None:
        self._check_writable()
        if not isinstance(value, Buffer):
            raise TypeError(f"`value` must be a Buffer instance. Got an instance of {type(value)} instead.")
        self.table[key] = value.to_bytes()

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        if key not in self.table:
            await self.set(key, value)

    async def delete(self, key: str) -> None:
        self._check_writable()
        self.table.pop(key, None)

    async def delete_dir(self, prefix: str) -> None:
        for key in self.table.keys(f"{prefix}/" if prefix else ""):
            await self.delete(key)

    async def clear(self) -> None:
        await self.delete_dir("")


class TestReading(StoreTests[Filled, cpu.Buffer]):
    """``StoreTests`` as they are, over what they write themselves."""

    store_cls = Filled
    buffer_cls = cpu.Buffer

    async def set(self, store: Filled, key: str, value: Buffer) -> None:
        store.table[key] = value.to_bytes()

    async def get(self, store: Filled, key: str) -> Buffer:
        return self.buffer_cls.from_bytes(store.table[key])

    @pytest.fixture
    def store_kwargs(self) -> dict[str, Any]:
        return {"table": Table()}

    @pytest.fixture
    def store(self, open_kwargs: dict[str, Any]) -> Filled:  # type: ignore[override]
        return sync(self.store_cls.open(**open_kwargs))

    @pytest.fixture
    def store_not_open(self, store_kwargs: dict[str, Any]) -> Filled:  # type: ignore[override]
        return self.store_cls(**store_kwargs)

    def test_store_repr(self, store: Filled) -> None:
        assert repr(store) == "CastoreStore('castore+table')"

    def test_store_supports_writes(self, store: Filled) -> None:
        assert store.supports_writes
        assert not CastoreStore.supports_writes
        assert not CastoreStore.supports_deletes

    def test_store_supports_listing(self, store: Filled) -> None:
        assert store.supports_listing


# ---- a dataset as a store

ARRAYS = {"weight": ("float32", "token"), "score": ("float64", "sample"), "flag": ("bool", "token")} | {
    "tag": ("bytes16", "sample")
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    made = castore.open(str(tmp_path_factory.mktemp("zarr") / "repo"), create=True)
    fill(made)
    return made


def fill(repository: Repository) -> None:
    rng = np.random.default_rng(4)
    rows = random_rows(3000, 4)
    with repository.writer("x", arrays=ARRAYS, shuffle_seed=7) as writer:
        for i, (ids, spans) in enumerate(rows):
            mask = np.zeros(len(ids), np.bool_)
            for lo, hi in spans:
                mask[lo:hi] = True
            writer.append(
                ids,
                mask,
                source="ab"[i > 1000],
                weight=rng.random(len(ids), np.float32),
                score=float(i),
                flag=~mask,
                tag=bytes([i % 256]) * 16,
            )


@pytest.fixture(params=["several", "one"])
def store(repository: Repository, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> CastoreStore:
    """The dataset in chunks of which arrays have several, and in those that users get."""
    if request.param == "several":
        monkeypatch.setattr(zarr_content, "CHUNK_ITEMS", 1000)
    return castore.zarr_store(repository.url, "x")


@pytest.fixture(scope="module")
def expected(repository: Repository) -> dict[str, Any]:
    return numpy_of(repository["x"])


def numpy_of(data: Dataset) -> dict[str, Any]:
    ids, offsets, mask = data.read()
    found = {"token_ids": ids, "labels_mask": mask, "sample_offsets": offsets}
    return found | {name: data.arrays[name][:] for name in ("source", *ARRAYS)}


def assert_equal(group: Any, expected: dict[str, Any]) -> None:
    for name, values in expected.items():
        found = np.asarray(group[name])
        assert (found.dtype, found.shape) == (values.dtype, values.shape), name
        assert found.tobytes() == values.tobytes(), name


def test_zarr_reads_what_numpy_has(store: CastoreStore, expected: dict[str, Any], repository: Repository) -> None:
    group = zarr.open_group(store, mode="r")
    assert set(group.array_keys()) == set(expected)
    assert_equal({name: group[name][:] for name in expected}, expected)
    lengths = expected["sample_offsets"]
    assert group["token_ids"][lengths[5] : lengths[6]].tolist() == repository["x"][5].token_ids.tolist()
    assert group["weight"][[5, 70, 2]].tolist() == expected["weight"][[5, 70, 2]].tolist()
    for use_consolidated in (True, False):
        again = zarr.open_group(store, mode="r", use_consolidated=use_consolidated)
        assert np.array_equal(again["source"][:], expected["source"])
    for name in expected:
        attributes = group[name].attrs
        assert attributes["long_name"]
        assert "units" in attributes or name in ARRAYS
    assert group.attrs["castore_root"] == repository["x"].root.hex()
    assert (group.attrs["samples"], group.attrs["sources"]) == (3000, ["a", "b"])
    assert group.attrs["order"]["seed"] == 7
    assert group["token_ids"].metadata.dimension_names == ("token",)


def test_every_key_is_listed_and_every_value_has_its_size(store: CastoreStore, expected: dict[str, Any]) -> None:
    """A copy of all keys into another store is the same group."""

    async def collect(found: AsyncIterator[str]) -> list[str]:
        return [key async for key in found]

    keys = sync(collect(store.list()))
    assert len(keys) == len(set(keys)) > 2 * len(expected)
    copy = MemoryStore()
    prototype = default_buffer_prototype()
    for key in keys:
        value = sync(store.get(key, prototype))
        assert value is not None
        assert sync(store.exists(key))
        assert sync(store.getsize(key)) == len(value)
        sync(copy.set(key, value))
        whole = value.to_bytes()
        for request, wanted in (
            (RangeByteRequest(3, 9), whole[3:9]),
            (OffsetByteRequest(5), whole[5:]),
            (SuffixByteRequest(4), whole[-4:]),
        ):
            part = sync(store.get(key, prototype, request))
            assert part is not None
            assert part.to_bytes() == wanted
    for prefix in ("", "token_ids", "token_ids/", "token_ids/c", "token_ids/c/", "tag/c/0", "nothing", "source/c/0"):
        assert sorted(sync(collect(store.list_prefix(prefix)))) == sorted(k for k in keys if k.startswith(prefix))
        start = f"{prefix.rstrip('/')}/" if prefix else ""
        below = {key.removeprefix(start).split("/")[0] for key in keys if key.startswith(start)}
        assert set(sync(collect(store.list_dir(prefix)))) == below
    last = max(int(key.rsplit("/", 1)[1]) for key in keys if key.startswith("token_ids/c/"))
    places = (str(last + 1), "00", "-1", "0/0", "", "²")
    for absent in (*(f"token_ids/c/{place}" for place in places), "tag/c/0", "x", "key/zarr.json", ""):
        assert sync(store.get(absent, prototype)) is None
        assert not sync(store.exists(absent))
    assert_equal(zarr.open_group(copy, mode="r"), expected)


@pytest.mark.parametrize("mode", ["r+", "a", "w"])
def test_writes_are_refused(store: CastoreStore, mode: str) -> None:
    assert not store.supports_writes
    zarr.open_group(store)  # whose default is a mode that no store takes that says of itself that it is read-only
    with pytest.raises(ValueError, match=r"read[- ]only|group exists"):  # zarr 3.2 looks before it empties a store
        zarr.open_group(store, mode=mode).create_array("y", shape=3, dtype="u1")  # type: ignore[arg-type]
    group = zarr.open_group(store, mode="r")
    with pytest.raises(ValueError, match=r"read[- ]only"):
        group["token_ids"][0] = 1
    value = cpu.Buffer.from_bytes(b"x")
    for refused in (
        store.set("foo", value),
        store.set_if_not_exists("foo", value),
        store.delete("token_ids/c/0"),
        store.delete_dir("token_ids"),
        store.clear(),
        store.set_partial_values([]),
    ):
        with pytest.raises(ValueError, match="read-only mode and does not support writing"):
            sync(refused)
    assert store.with_read_only(True) == store == pickle.loads(pickle.dumps(store))
    assert store.with_read_only(True).read_only
    with pytest.raises(ValueError, match="read-only mode and does not support writing"):
        sync(store.with_read_only(True).set("foo", value))


def test_a_store_is_of_the_data_and_not_of_the_name(repository: Repository, expected: dict[str, Any]) -> None:
    repository.tag("x", "moving", castore.repository.Origin("me", "here", 5))
    store = castore.zarr_store(repository.url, "moving")
    assert store == castore.zarr_store(repository.url, "x")
    repository.write([[1, 2, 3]], "moving")
    assert store != castore.zarr_store(repository.url, "moving")
    again = pickle.loads(pickle.dumps(store))
    assert again == store
    assert hash(again) == hash(store)
    assert_equal(zarr.open_group(again, mode="r"), expected)
    with pytest.raises(NotFoundError):
        castore.zarr_store(repository.url, "absent")


def test_damage_is_found_by_zarr_too(tmp_path: Path) -> None:
    repository = castore.open(str(tmp_path / "repo"), create=True)
    fill(repository)
    leaf = repository["x"].reader.index("token_ids").leaf(0)
    name = leaf.entry.digest.hex()
    path = tmp_path / "repo" / "objects" / name[:2] / name
    path.chmod(0o644)
    frame = bytearray(path.read_bytes())
    frame[-1] ^= 1
    path.write_bytes(frame)
    group = zarr.open_group(castore.zarr_store(repository.url, "x"), mode="r")
    assert group["source"][:].max() == 1
    with pytest.raises(CorruptionError):
        group["token_ids"][:]


def test_chunks_read_no_more_than_they_cover(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """The offsets of a few samples do not read the lengths of all."""
    monkeypatch.setattr(zarr_content, "CHUNK_ITEMS", 100)
    data = Dataset(repository.objects.get, repository["x"].root, None)
    content = DatasetContent(data)
    before = repository.objects.reads
    assert content.get("sample_offsets/c/12") is not None
    assert repository.objects.reads - before <= 3


def test_an_empty_array_is_shown(tmp_path: Path) -> None:
    repository = castore.open(str(tmp_path / "repo"), create=True)
    repository.write([[], []], "x")
    group = zarr.open_group(castore.zarr_store(repository.url, "x"), mode="r")
    assert group["token_ids"][:].tolist() == []
    assert group["sample_offsets"][:].tolist() == [0, 0, 0]


# ---- other readers


def test_dask_reads_what_numpy_has(store: CastoreStore, expected: dict[str, Any]) -> None:
    dask_array = pytest.importorskip("dask.array")
    found = {name: dask_array.from_zarr(store, component=name) for name in expected}
    assert_equal({name: array.compute(scheduler="threads") for name, array in found.items()}, expected)
    assert int(found["token_ids"].astype("i8").sum().compute()) == int(expected["token_ids"].sum(dtype=np.int64))


@pytest.mark.parametrize("chunks", [None, {}])
def test_xarray_reads_what_numpy_has(store: CastoreStore, expected: dict[str, Any], chunks: Any) -> None:
    xarray = pytest.importorskip("xarray")
    with xarray.open_zarr(store, chunks=chunks) as found:
        assert_equal({name: found[name].values for name in expected}, expected)
        assert found["token_ids"].dims == ("token",)
        assert found["weight"].dims == ("token",)
        assert found["source"].dims == ("sample",)
        assert found["token_ids"].attrs["units"] == "token id"
        assert found.attrs["samples"] == 3000


def test_tensorstore_reads_a_copy_of_the_keys(store: CastoreStore, expected: dict[str, Any], tmp_path: Path) -> None:
    """tensorstore knows no stores of Python, but what it is given as files is zarr to it."""
    tensorstore = pytest.importorskip("tensorstore")
    prototype = default_buffer_prototype()

    async def copy() -> None:
        async for key in store.list():
            value = await store.get(key, prototype)
            assert value is not None
            path = tmp_path / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(value.to_bytes())

    sync(copy())
    for name, values in expected.items():
        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{tmp_path}/{name}/"}}
        found = tensorstore.open(spec).result().read().result()
        assert found.tobytes() == values.tobytes(), name


@pytest.mark.skipif(RECTILINEAR, reason="the installed zarr reads rectilinear grids")
def test_a_rectilinear_grid_is_refused_where_zarr_cannot_read_it(repository: Repository) -> None:
    with pytest.raises(InvalidInputError, match=r"install zarr 3\.2 or later"):
        castore.zarr_store(repository.url, "x", grid="rectilinear")


@pytest.mark.skipif(not RECTILINEAR, reason="the installed zarr cannot read rectilinear grids")
def test_a_rectilinear_grid_has_the_chunks_of_the_dataset(repository: Repository, expected: dict[str, Any]) -> None:
    store = castore.zarr_store(repository.url, "x", grid="rectilinear")
    with zarr.config.set({"array.rectilinear_chunks": True}):
        group = zarr.open_group(store, mode="r")
        assert_equal({name: group[name][:] for name in expected}, expected)
        lengths = expected["sample_offsets"]
        part = group["token_ids"][lengths[500] : lengths[600]]
        assert np.array_equal(part, expected["token_ids"][lengths[500] : lengths[600]])
    document = json.loads(DatasetContent(repository["x"], "rectilinear").get("token_ids/zarr.json") or b"")
    sizes = document["chunk_grid"]["configuration"]["chunk_shapes"][0]
    reader = repository["x"].reader
    leaves = reader.index("token_ids").leaves(0, 3000)
    assert sizes == [leaf.entry.items for leaf in leaves if leaf.entry.items]


def test_an_unknown_grid_is_refused(repository: Repository) -> None:
    with pytest.raises(InvalidInputError, match="give one of regular, rectilinear"):
        castore.zarr_store(repository.url, "x", grid="hexagonal")._get("zarr.json")


# ---- elsewhere


def test_a_repository_in_memory_is_read_too(expected: dict[str, Any]) -> None:
    fill(castore.open("memory://zarr-view", create=True))
    assert_equal(zarr.open_group(castore.zarr_store("memory://zarr-view", "x"), mode="r"), expected)


@pytest.mark.slow
@pytest.mark.server
def test_a_repository_on_s3_is_read_too(
    moto: Server, expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in moto.env.items():
        monkeypatch.setenv(name, value)
    url = moto.url()
    fill(castore.open(url, create=True))
    store = castore.zarr_store(url, "x")
    assert_equal({name: array[:] for name, array in zarr.open_group(store, mode="r").arrays()}, expected)
    dask_array = pytest.importorskip("dask.array")
    found = dask_array.from_zarr(store, component="token_ids").compute()
    assert np.array_equal(found, expected["token_ids"])
    xarray = pytest.importorskip("xarray")
    with xarray.open_zarr(store, chunks=None) as dataset:
        assert np.array_equal(dataset["weight"].values, expected["weight"])
