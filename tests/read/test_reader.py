"""Reading a dataset from Python: what numpy would give, chunk for chunk verified, and no more than was asked for."""

from __future__ import annotations

import gc
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import castore
from castore.dataset import Dataset
from castore.errors import CorruptionError, InvalidInputError, NotFoundError
from castore.read.reader import Reader
from castore.read.views import SampleView
from castore.repository import Repository
from castore.store.backend import MemoryBackend
from castore.store.local import LocalBackend
from castore.store.object_keys import object_key
from castore.train.token_cache import TokenCache
from tests.support.complete import check_complete
from tests.support.jobs import example_rows, run_job, tokenize, write_rows
from tests.support.layouts import LAYOUTS, Layout, flipped


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("rows") / "rows.jsonl", example_rows())


@pytest.fixture(scope="module")
def repository(path: Path) -> Repository:
    backend = MemoryBackend()
    run_job(backend, [(path, "1.0"), (path, "0.5")], name="x", num_examples=100)
    return Repository(backend)


@pytest.fixture
def data(repository: Repository) -> Dataset:
    return repository["x"]


@pytest.fixture(scope="module")
def rows(repository: Repository) -> list[tuple[list[int], list[bool], int]]:
    """All samples as another reader has them."""
    found = []
    for token_ids, spans, source in check_complete(repository)["x"].rows:
        mask = [False] * len(token_ids)
        for lo, hi in spans:
            mask[lo:hi] = [True] * (hi - lo)
        found.append((list(token_ids), mask, source))
    return found


def test_samples_are_those_of_another_reader(
    data: Dataset, rows: list[tuple[list[int], list[bool], int]], repository: Repository
) -> None:
    assert data.statistics is not None
    assert len(data) == len(rows) == data.statistics.samples
    read = [(s.token_ids.tolist(), s.labels_mask.tolist(), s.source) for s in data]
    assert read == rows
    assert [s.index for s in data] == list(range(len(rows)))
    some = data[7]
    assert (some.token_ids.dtype, some.labels_mask.dtype) == (np.uint32, np.bool_)
    assert some.key == data.reader.elements("key", 7, 8).tobytes()
    assert data[-1].token_ids.tolist() == rows[-1][0]
    assert [len(s) for s in data[10:20:3]] == [len(rows[i][0]) for i in (10, 13, 16, 19)]
    with pytest.raises(IndexError):
        data[len(rows)]
    with pytest.raises(NotFoundError, match="nothing called"):
        repository["y"]


def test_ranges_and_choices_are_slices_of_the_whole(data: Dataset) -> None:
    ids, offsets, mask = data.read()
    assert (ids.dtype, offsets.dtype, mask.dtype) == (np.uint32, np.int64, np.bool_)
    assert len(ids) == len(mask) == offsets[-1] == data.manifest.tokens
    for lo, hi in ((0, 0), (0, 1), (3, 90), (len(data) - 1, len(data)), (len(data), len(data))):
        part = data.read(lo, hi)
        first, last = offsets[lo], offsets[hi]
        assert np.array_equal(part.token_ids, ids[first:last])
        assert np.array_equal(part.labels_mask, mask[first:last])
        assert np.array_equal(part.offsets, offsets[lo : hi + 1] - first)
    chosen = np.random.default_rng(1).integers(0, len(data), 300)  # some of them twice
    taken = data.take(chosen)
    assert np.array_equal(taken.token_ids, np.concatenate([ids[offsets[i] : offsets[i + 1]] for i in chosen]))
    assert np.array_equal(taken.labels_mask, np.concatenate([mask[offsets[i] : offsets[i + 1]] for i in chosen]))
    assert np.array_equal(np.diff(taken.offsets), np.diff(offsets)[chosen])
    assert len(data.take([]).token_ids) == 0
    assert np.array_equal(data.reader.lengths(), np.diff(offsets))


@pytest.mark.parametrize("bad", [[-1], [10**9], [0.5], [[1]], "x"])
def test_indices_that_no_sample_has_are_refused(data: Dataset, bad: object) -> None:
    with pytest.raises(InvalidInputError):
        data.take(bad)  # type: ignore[arg-type]


def test_ranges_outside_are_refused(data: Dataset) -> None:
    for lo, hi in ((-1, 2), (2, 1), (0, len(data) + 1)):
        with pytest.raises(InvalidInputError, match="ask for a range"):
            data.read(lo, hi)


def test_what_is_read_may_be_written_to(data: Dataset) -> None:
    """A caller that changes its arrays changes nothing for the next one."""
    before = data[5].token_ids.copy()
    for ids in (data[5].token_ids, data.read(5, 6).token_ids, data.take([5]).token_ids, data.arrays["token_ids"][:]):
        ids[:] = 0
    next(iter(data)).token_ids[:] = 0
    assert np.array_equal(data[5].token_ids, before)


def test_the_recorded_order_is_a_view(data: Dataset) -> None:
    assert data.order is not None
    view = data.ordered
    assert len(view) == data.order.take == 100
    assert [s.index for s in view] == data.positions.tolist()
    assert isinstance(view[2:5], SampleView)
    assert np.array_equal(view[2:5].read().token_ids, data.take(data.positions[2:5]).token_ids)
    assert np.array_equal(data[2:5].read().token_ids, data.read(2, 5).token_ids)
    assert data[5:0:-2].read().token_ids.tolist() == data.take([5, 3, 1]).token_ids.tolist()


def test_arrays_are_indexed_as_numpy_arrays_are(data: Dataset) -> None:
    ids, _, mask = data.read()
    whole = {"token_ids": ids, "labels_mask": mask, "length": data.reader.lengths()}
    assert set(data.arrays) == {"token_ids", "labels_mask", "length", "key", "source"}
    for name, expected in whole.items():
        array = data.arrays[name]
        assert (array.dtype, array.shape, len(array)) == (expected.dtype, expected.shape, len(expected))
        assert np.array_equal(np.asarray(array), expected)
        for key in (slice(3, 900), slice(None, None, -7), slice(-5, None), slice(5, 5), 0, -1, ..., (), [3, 1], (4,)):
            assert np.array_equal(array[key], expected[key]), (name, key)
    key = data.arrays["key"]
    assert (key.dtype, key.shape) == (np.uint8, (len(data), 16))
    assert key[3].tobytes() == data[3].key
    assert np.array_equal(key[2:4, :3], key[:][2:4, :3])
    with pytest.raises(IndexError):
        key[len(data)]


@pytest.mark.parametrize("name", ["token_ids", "labels_mask", "length", "key"])
def test_arrays_take_what_numpy_gives_as_a_place(data: Dataset, name: str) -> None:
    array = data.arrays[name]
    expected = array[:]
    places = np.array([3, -1, 0, 3])
    for key in (np.int64(5), np.uint8(5), np.array(5), places, np.zeros(0, np.int64), places.reshape(2, 2), True):
        assert np.array_equal(array[key], expected[key]), key
    mask = np.arange(len(array)) % 3 == 0
    assert np.array_equal(array[mask], expected[mask])
    for wrong in (np.array([len(array)]), mask[1:]):
        with pytest.raises(IndexError):
            array[wrong]


@pytest.mark.parametrize("name", ["token_ids", "labels_mask"])
def test_chosen_elements_read_their_chunks_only(repository: Repository, name: str) -> None:
    def reads(*keys: object) -> int:
        array = Dataset(repository.objects.get, repository["x"].root, None).arrays[name]
        before = repository.objects.reads
        for key in keys:
            array[key]
        return repository.objects.reads - before

    first_and_last = reads(0, -1)
    assert first_and_last < reads(slice(None))
    assert reads([3, 1, -1, 2]) == first_and_last
    assert reads(np.arange(len(repository["x"].arrays[name])) < 10) < first_and_last


def test_one_sample_reads_one_chunk_of_each_array(repository: Repository) -> None:
    data = Dataset(repository.objects.get, repository["x"].root, None)
    assert len(list(data.manifest.arrays)) == 5
    data[100]
    before = repository.objects.reads
    data[100]
    data[101]
    assert repository.objects.reads - before <= 2  # the next sample may be in the next chunk
    # All samples: each chunk and node once.
    fresh = Dataset(repository.objects.get, data.root, None)
    before = repository.objects.reads
    fresh.take(np.random.default_rng(0).permutation(len(data)))
    assert repository.objects.reads - before <= sum(1 for _ in repository.objects.list())


def test_a_small_cache_gives_the_same(data: Dataset) -> None:
    small = Reader(data, cache_bytes=1000)
    chosen = np.random.default_rng(2).permutation(len(data))
    assert np.array_equal(small.take(chosen).token_ids, data.take(chosen).token_ids)


@LAYOUTS
def test_damage_is_found_where_it_is_read(path: Path, layout: Layout) -> None:
    backend = MemoryBackend()
    run_job(layout(backend), [(path, "1.0")], name="x")
    data = Repository(backend)["x"]
    leaf = data.reader.index("token_ids").leaf(50)
    flipped(backend, object_key(leaf.entry.digest))
    assert len(data[0]) > 0
    with pytest.raises(CorruptionError):
        data[50]
    with pytest.raises(CorruptionError):
        list(data)


def test_a_dataset_travels_to_other_processes(tmp_path: Path, path: Path) -> None:
    repository = castore.open(str(tmp_path / "repo"), create=True)
    tokenize(repository, [(path, "1.0")], "x")
    data = repository["x"]
    again = pickle.loads(pickle.dumps(data))
    assert (again.root, again.run_digest) == (data.root, data.run_digest)
    assert np.array_equal(again[3].token_ids, data[3].token_ids)
    assert data.diff(again).equal
    assert data.sources == [str(path)]
    assert data.recipe["tokenizer"]
    with pytest.raises(TypeError):
        pickle.dumps(Dataset(repository.objects.get, data.root, None))


def open_files() -> set[str]:
    return {entry.name for entry in Path("/proc/self/fd").iterdir()}


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="the system does not list open files")
def test_a_cache_of_tokens_leaves_no_file_open(tmp_path: Path, path: Path) -> None:
    backend = LocalBackend(str(tmp_path / "repo"))
    run_job(backend, [(path, "1.0")], name="x")
    data = Repository(backend)["x"]
    gc.collect()  # other tests' files must not go while this one counts
    before = open_files()
    for _ in range(3):
        cache = TokenCache(data, 1 << 16, str(tmp_path))
        assert cache.read(0)[0].tolist() == data[0].token_ids.tolist()
        del cache
    gc.collect()
    assert open_files() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["repo"]


def test_what_only_the_run_has_is_not_compared(data: Dataset) -> None:
    assert data.has("row")
    with pytest.raises(InvalidInputError, match="no array row on both sides"):
        data.diff(data, only="row")


def test_importing_castore_loads_nothing() -> None:
    heavy = ("numpy", "fsspec", "msgpack", "zarr", "blake3")
    code = f"import castore, sys; print([name for name in sys.modules if name.partition('.')[0] in {heavy}])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.strip() == "[]"


# ---- as a notebook shows and asks


def test_objects_say_in_a_line_what_they_are(repository: Repository, data: Dataset) -> None:
    n, m = len(data), data.manifest.tokens
    said = {
        repr(repository): "<Repository memory-backend>",
        repr(data): f"<Dataset {data.root.hex()[:12]}: {n} samples, {m} tokens>",
        repr(data[3:7]): "<SampleView: 4 samples>",
        repr(data.diff(data)): f"<Comparison: equal, {n} samples>",
        repr(data.pack(256)): f"<Instances: {len(data.pack(256))} of 256 tokens, ",
        repr(data.vocabulary): "<Vocabulary: 3000 token ids>",
    }
    for shown, expected in said.items():
        assert shown.startswith(expected.rstrip(">")), shown
    sample = data[3]
    first = ", ".join(map(str, sample.token_ids[:6].tolist()))
    assert repr(sample) == f"<Sample 3: {len(sample)} tokens, {sample.labels_mask.sum()} trained on; [{first}, …]>"


def test_a_comparison_says_in_a_line_what_differs(tmp_path: Path) -> None:
    repository = Repository.open(tmp_path / "repo", create=True)
    rows = [[i, i + 1, i + 2] for i in range(20)]
    repository.write(rows, "a")
    repository.write([*rows[:5], [7, 7], *rows[6:12], *rows[13:]], "b")
    found = repository["a"].diff(repository["b"])
    assert repr(found) == "<Comparison: different, 1 replaced, 1 deleted; 20 and 19 samples>"


def test_samples_are_chosen_by_list_and_mask(data: Dataset) -> None:
    assert [sample.index for sample in data[[5, 0, -1]]] == [5, 0, len(data) - 1]
    assert [sample.index for sample in data[np.array([7, 7])]] == [7, 7]
    lengths = data.arrays["length"][:]
    long = data[lengths > 100]
    assert isinstance(long, SampleView)
    assert all(len(sample) > 100 for sample in long)
    assert len(long) == int((lengths > 100).sum()) > 0
    assert (long.read().token_ids == np.concatenate([sample.token_ids for sample in long])).all()
    assert [sample.index for sample in data[10:30:2][[0, -1]]] == [10, 28]
    assert data.ordered[[0]][0].index == data.ordered[0].index
    assert len(data[[]]) == 0
    assert data[np.int64(2)].index == 2


@pytest.mark.parametrize(
    ("key", "error", "says"),
    [
        (10**6, IndexError, "sample 1000000 of"),
        (-(10**6), IndexError, "sample -1000000 of"),
        ([0, 10**6], IndexError, "sample 1000000 of"),
        (np.zeros(3, np.bool_), IndexError, "a mask of 3 for"),
        ("x", NotFoundError, "no array 'x' in this dataset: it has key, labels_mask"),
        (1.5, TypeError, "not by float"),
        ([1.5], TypeError, "not by float64"),
        (None, TypeError, "not by NoneType"),
    ],
)
def test_a_key_that_no_sample_has_is_refused(data: Dataset, key: object, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        data[key]  # type: ignore[call-overload]


def test_datasets_are_equal_by_their_roots(path: Path, repository: Repository) -> None:
    other = MemoryBackend()
    run_job(other, [(path, "1.0"), (path, "0.5")], name="y", num_examples=100)
    run_job(other, [(path, "1.0")], name="z")
    there = Repository(other)
    assert repository["x"] == there["y"] != there["z"]
    assert len({repository["x"], there["y"], there["z"]}) == 2
    assert repository["x"] != "x"
    with pytest.raises(TypeError, match=r"repository\['name'\], not with 'y'"):
        repository["x"].diff("y")  # type: ignore[arg-type]


def test_the_working_folder_may_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    repository = castore.open("repo", create=True)
    repository.write([[1, 2, 3]], "x")
    data, store = pickle.dumps(repository["x"]), pickle.dumps(castore.zarr_store("repo", "x"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert pickle.loads(data)[0].token_ids.tolist() == [1, 2, 3]
    assert pickle.loads(store) is not None
    zarr = pytest.importorskip("zarr")
    assert zarr.open_group(pickle.loads(store), mode="r")["token_ids"][:].tolist() == [1, 2, 3]


def test_classes_can_be_named_in_annotations() -> None:
    assert castore.Dataset is Dataset
    assert castore.Repository is Repository
    with pytest.raises(AttributeError, match="no attribute 'Datasets'"):
        castore.Datasets  # noqa: B018
