"""Moved samples, other orders, pairs within gaps; large sequences of keys; and how many objects are read."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from castore.dataset import Dataset
from castore.diff.compare import Comparison, compare
from castore.diff.hunks import Hunk
from castore.diff.keys import Keys, align_keys, matched
from castore.export.olmo_core import export_olmo_core
from castore.format.digest import Digest
from castore.olmo.folder_dataset import FolderDataset
from castore.read.columns import CachedFetch, FetchMany
from castore.repository import Repository
from castore.store.backend import MemoryBackend
from castore.store.marker import open_layout
from castore.store.objects import ObjectStore
from castore.tree.align import Gap
from tests.diff.test_compare import FANOUT, applied, dataset, edited, reads_of
from tests.support import reference
from tests.support.jobs import ORIGIN
from tests.support.strategies import Edit, Row, edit_scripts, random_rows, row_lists
from tests.support.strategies import edited as scripted


def compared(a: list[Row], b: list[Row]) -> Comparison:
    result = compare(dataset(a), dataset(b))
    assert applied(result, a, b) == b
    return result


def said(result: Comparison) -> list[tuple[str, tuple[int, int], tuple[int, int] | None]]:
    return [(h.op, h.b if h.op == "insert" else h.a, h.moved) for h in result.hunks]


# ---- what has moved


def test_a_block_that_moved_is_no_other_data() -> None:
    a = random_rows(400, 1)
    b = [*a[:100], *a[150:300], *a[100:150], *a[300:]]
    result = compared(a, b)
    assert said(result) == [("delete", (100, 150), (250, 300)), ("insert", (250, 300), (100, 150))]
    assert (result.moved, result.count("insert"), result.count("delete")) == (50, 0, 0)
    assert result.same_samples
    assert not result.equal


def test_a_moved_sample_with_other_labels_is_not_the_same() -> None:
    a = random_rows(60, 1)
    b = [*a[:10], *a[11:50], (a[10][0], ()), *a[50:]]
    result = compared(a, b)
    assert [(h.op, h.moved, h.arrays) for h in result.hunks] == [
        ("delete", (49, 50), ("labels_mask",)),
        ("insert", (10, 11), ("labels_mask",)),
    ]
    assert not result.same_samples


def test_moved_beside_what_is_new() -> None:
    a, new = random_rows(60, 1), random_rows(3, 9)
    b = [*a[:10], new[0], *a[12:40], new[1], a[10], new[2], *a[40:]]
    result = compared(a, b)
    assert (result.moved, result.count("replace"), result.count("insert"), result.count("delete")) == (1, 1, 2, 0)


@given(row_lists, edit_scripts())
def test_scripts_with_moves_and_copies(rows: list[Row], script: list[Edit]) -> None:
    b = scripted(rows, script)
    result = compared(rows, b)
    assert result.equal == (rows == b)
    for hunk in result.hunks:
        if hunk.moved:
            here, there = (rows, b) if hunk.op == "delete" else (b, rows)
            bounds = hunk.a if hunk.op == "delete" else hunk.b
            ids = [[ids for ids, _ in side[slice(*at)]] for side, at in ((here, bounds), (there, hunk.moved))]
            assert ids[0] == ids[1]
    if sorted(rows) == sorted(b):
        assert result.count("insert") == result.count("delete")


def test_very_many_moves_are_another_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("castore.diff.hunks.MOVES_MAX", 20)
    a = random_rows(200, 1)
    b = random.Random(1).sample(a, len(a))
    result = compare(dataset(a, seed=None), dataset(b, seed=None))
    assert result.hunks == []
    assert result.same_samples
    assert 150 < result.moved == result.reordered < 200
    relabelled = [(ids, ()) if i == 7 else (ids, spans) for i, (ids, spans) in enumerate(b)]
    result = compare(dataset(a, seed=None), dataset([*relabelled[:150], *random_rows(1, 8), *b[151:]], seed=None))
    at = a.index(b[7])
    found = [(h.op, h.a, h.b, h.arrays) for h in result.hunks if h.op == "replace"]
    assert found == [("replace", (at, at + 1), (7, 8), ("labels_mask",))]
    assert (result.count("insert"), result.count("delete")) == (1, 1)


@pytest.mark.parametrize("moves_max", [10_000, 3])
def test_extra_arrays_of_every_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moves_max: int) -> None:
    """In place and in another order: an element a token or a sample, floats by their bits, integers, truth."""
    monkeypatch.setattr("castore.diff.hunks.MOVES_MAX", moves_max)
    rng = np.random.default_rng(3)
    lengths = rng.integers(0, 9, 60)
    rows: list[dict[str, Any]] = [
        {
            "token_ids": rng.integers(0, 3000, n).astype(np.uint32),
            "weight": np.where(rng.random(n) < 0.2, np.nan, rng.random(n)).astype(np.float32),
            "shown": rng.random(n) < 0.5,
            "score": np.float64("nan") if n == 4 else np.float64(n),
            "round": np.uint8(n),
        }
        for n in lengths
    ]
    arrays = {"weight": "float32", "shown": "bool", "score": ("float64", "sample"), "round": ("uint8", "sample")}
    other = [dict(row) for row in rows]
    long = [i for i, n in enumerate(lengths) if n > 4]
    wanted = {"weight": long[0], "shown": long[1], "score": long[2], "round": long[3]}
    other[long[0]]["weight"] = -other[long[0]]["weight"]
    other[long[1]]["shown"] = ~other[long[1]]["shown"]
    other[long[2]]["score"] = np.float64(-1)
    other[long[3]]["round"] = np.uint8(200)
    place = list(range(len(rows)))
    if moves_max == 3:
        place = random.Random(1).sample(place, len(place))
    repository = Repository.open(tmp_path / "repo", create=True)
    repository.write(rows, name="a", arrays=arrays)
    repository.write([rows[i] for i in place], name="same", arrays=arrays)
    repository.write([other[i] for i in place], name="b", arrays=arrays)
    assert not [hunk for hunk in repository["a"].diff(repository["same"]).hunks if hunk.arrays]
    found = {hunk.arrays: hunk for hunk in repository["a"].diff(repository["b"]).hunks if hunk.op == "replace"}
    assert {name: found[name,].a[0] for name in wanted} == wanted
    assert {name: place[found[name,].b[0]] for name in wanted} == wanted
    assert len(found) == len(wanted)


# ---- pairs


def test_similar_samples_are_paired() -> None:
    a = random_rows(30, 1, tokens=60)
    x, y, z = random_rows(3, 2, tokens=60)
    near = (*y[0][:-1], y[0][-1] ^ 1), y[1]
    result = compared([*a[:10], x, y, *a[10:]], [*a[:10], near, z, *a[10:]])
    assert [(h.op, h.a, h.b) for h in result.hunks] == [
        ("delete", (10, 11), (10, 10)),
        ("replace", (11, 12), (10, 11)),
        ("insert", (12, 12), (11, 12)),
    ]


# ---- many keys


@given(st.lists(st.integers(0, 40), max_size=80), st.integers(0, 10**9), st.booleans())
def test_large_sequences_as_small_ones(items: list[int], seed: int, shuffle: bool) -> None:
    rng = random.Random(seed)
    other = [x for x in items if rng.random() > 0.2]
    for _ in range(rng.randrange(5)):
        other.insert(rng.randrange(len(other) + 1), rng.randrange(60))
    if shuffle:
        rng.shuffle(other)
    a, b = (Keys(b"".join(x.to_bytes(2, "big").ljust(16, b"x") for x in side)) for side in (items, other))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("castore.diff.keys.LARGE", 4)
        gaps, runs = align_keys(a, b), matched(a, b)
    at, rebuilt = 0, list[int]()
    for gap in gaps:
        rebuilt += [*items[at : gap.a_lo], *other[gap.b_lo : gap.b_hi]]
        assert len(rebuilt) == gap.b_hi
        at = gap.a_hi
    assert [*rebuilt, *items[at:]] == other
    pairs = [(i + n, j + n) for i, j, count in runs for n in range(count)]
    assert all(items[i] == other[j] for i, j in pairs)
    assert len({i for i, _ in pairs}) == len({j for _, j in pairs}) == len(pairs)
    assert len(pairs) == sum(min(items.count(x), other.count(x)) for x in set(items))
    assert sorted(runs) == runs == matched(a, b)


def test_the_heavier_block_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("castore.diff.keys.LARGE", 4)
    a, b = [*range(100), *range(200, 300)], [*range(200, 300), *range(99)]
    raw = [Keys(b"".join(x.to_bytes(16, "little") for x in side)) for side in (a, b)]
    assert align_keys(*raw) == [Gap(0, 100, 0, 0), Gap(200, 200, 100, 199)]


# ---- directories


def exported(folder: Path, rows: list[Row]) -> FolderDataset:
    export_olmo_core(dataset(rows, seed=None), str(folder))
    return FolderDataset(str(folder))


def test_directories_are_compared_by_key_alone(tmp_path: Path) -> None:
    a = random_rows(20, 1)
    b = [*a[:5], *random_rows(1, 9), *a[6:]]
    sides = exported(tmp_path / "a", a), exported(tmp_path / "b", b)
    first = compare(*sides, only="key").first
    assert first is not None
    assert (first.array, first.a.sample) == ("key", 5)
    assert first.a.value == reference.sample_key(a[5][0]).hex()
    assert first.b.value == reference.sample_key(b[5][0]).hex()


@pytest.mark.parametrize("seed", range(12))
def test_directories_say_what_datasets_say(tmp_path: Path, seed: int) -> None:
    a = random_rows(80, seed)
    rng = random.Random(seed)
    b = rng.sample(a, len(a)) if seed == 0 else edited(a, seed, rng.randrange(5))
    sides = exported(tmp_path / "a", a), exported(tmp_path / "b", b)
    found, expected = compare(*sides), compare(dataset(a, seed=None), dataset(b, seed=None))
    assert found.hunks == expected.hunks
    assert applied(found, a, b) == b
    assert (found.equal, found.moved, found.same_samples) == (expected.equal, expected.moved, expected.same_samples)
    assert found.changes == expected.changes
    assert found.arrays["token_ids"] == expected.arrays["token_ids"]
    if found.first is None:
        assert expected.first is None
    else:
        assert expected.first is not None
        for side, other in ((found.first.a, expected.first.a), (found.first.b, expected.first.b)):
            assert (side.sample, side.value, side.place) == (other.sample, other.value, other.place)


def test_equal_lengths_that_are_shifted(tmp_path: Path) -> None:
    """All documents are as long: lengths alone say that every one was replaced."""
    a = [(tuple(range(8 * i, 8 * i + 8)), ()) for i in range(50)]
    result = compare(exported(tmp_path / "a", a), exported(tmp_path / "b", a[1:]))
    assert [(h.op, h.a, h.b) for h in result.hunks] == [("delete", (0, 1), (0, 0))]


# ---- cost


def test_reads_grow_with_changes_times_depth() -> None:
    """k scattered changes read O(k log n) objects, however many samples there are."""
    for count in (1000, 8000):
        a = random_rows(count, 1)
        store_a = ObjectStore(MemoryBackend())
        root_a = dataset(a, None, store=store_a).root
        depth = Dataset(store_a.get, root_a, None).manifest.arrays["token_ids"][1].level + 1
        for changes in (1, 4, 16):
            b = list(a)
            for at in range(0, count, count // changes):
                ids, spans = b[at]
                b[at] = (ids[0] ^ 1, *ids[1:]), spans
            stores = store_a, ObjectStore(MemoryBackend())
            roots = root_a, dataset(b, None, store=stores[1]).root
            for store in stores:
                store.reads = 0
            sides = [Dataset(CachedFetch(s.get), root, None) for s, root in zip(stores, roots, strict=True)]
            result = compare(*sides)
            assert result.count("replace") == len(range(0, count, count // changes))
            # A change: its nodes and its neighbours' on either side, its chunks, lengths, keys and labels.
            assert sum(store.reads for store in stores) <= 2 * (2 + changes * (3 * depth * FANOUT + 8)), changes


def test_equal_columns_cost_one_comparison() -> None:
    """Labels changed and nothing else: no chunk of tokens is read to find them."""
    a = random_rows(3000, 1)
    b = [(ids, () if i == 1500 else spans) for i, (ids, spans) in enumerate(a)]
    store = ObjectStore(MemoryBackend())
    sides = [Dataset(CachedFetch(store.get), dataset(rows, None, store=store).root, None) for rows in (a, b)]
    store.reads = 0
    result = compare(*sides, changes=False)
    assert [h.arrays for h in result.hunks] == [("labels_mask",)]
    assert [name for name, same in result.arrays.items() if not same] == ["labels_mask"]
    depth = sides[0].manifest.arrays["labels_mask"][1].level + 1
    assert store.reads <= 2 + 2 * (3 * depth * FANOUT + 8)


def test_one_change_reads_the_same_in_any_size() -> None:
    small, large = (reads_of(rows, [*rows[:-1], ((1, 2), ())])[0] for rows in (random_rows(n, 1) for n in (60, 90)))
    assert large <= small + 30


def test_keys_of_a_whole_dataset_are_not_objects() -> None:
    keys = Keys(np.random.default_rng(1).bytes(16 * 100))
    assert list(keys) == keys.listed()
    assert keys[-1] == keys[99] == keys.raw[-16:]
    with pytest.raises(IndexError):
        keys[100]
    assert len(keys) == 100
    assert keys[3] == keys.listed()[3]
    assert keys[5:7].listed() == keys.listed()[5:7]
    assert keys[:] is keys


def test_objects_are_asked_for_together() -> None:
    """Where a store can give many at once, few calls read about half of the objects; none is read twice or in vain."""
    a = random_rows(3000, 1)
    b = list(a)
    for at in range(0, 3000, 150):
        ids, spans = b[at]
        b[at] = (ids[0] ^ 1, *ids[1:]), spans
    store = ObjectStore(MemoryBackend())
    roots = [dataset(rows, None, store=store).root for rows in (a, b)]
    alone = reads_with(store, roots, None)
    batches: list[int] = []

    def many(digests: Iterable[Digest]) -> Iterator[tuple[Digest, bytes]]:
        wanted = list(digests)
        batches.append(len(wanted))
        return ((digest, store.get(digest)) for digest in wanted)

    assert reads_with(store, roots, many) == alone
    assert len(batches) < alone / 4
    assert sum(batches) > alone * 0.45


def reads_with(store: ObjectStore, roots: list[Digest], many: FetchMany | None) -> int:
    store.reads = 0
    fetch = CachedFetch(store.get, many=many)
    assert compare(*(Dataset(fetch, root, None) for root in roots)).count("replace") == 20
    return store.reads


def test_other_labels_everywhere_take_no_memory() -> None:
    backend = MemoryBackend()
    open_layout(backend, create=True)
    repository = Repository(backend)
    count = 100_000
    ids, offsets = np.arange(2 * count, dtype=np.uint32), np.arange(0, 2 * count + 1, 2)
    for name, mask in (("a", ids < 0), ("b", ids % 2 == 0)):
        with repository.writer(name, origin=ORIGIN) as writer:
            writer.extend(ids, offsets, mask)
    a, b = repository["a"], repository["b"]
    compare(repository["a"], repository["b"], changes=False)  # what is imported is not counted
    tracemalloc.start()
    try:
        found = compare(a, b, changes=False)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.hunks == [Hunk("replace", (0, count), (0, count), ("labels_mask",))]
    assert peak < 80 * count, "those of a chunk are looked at together; noting every one took 200 bytes each"
