"""Comparisons of whole datasets: against a naive one, and the place in the export that they name."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from castore.dataset import Dataset
from castore.diff.compare import Comparison, compare
from castore.export.olmo_core import export_olmo_core
from castore.format.manifest import Manifest, SplitRule
from castore.format.order import Order
from castore.format.schema import DATA_ARRAYS
from castore.olmo.layout import place_of
from castore.read.columns import CachedFetch
from castore.repository import Repository
from castore.store.backend import MemoryBackend
from castore.store.objects import ObjectStore
from castore.tree.build import SequenceBuilder
from castore.tree.split import RULE_NAME
from tests.support.strategies import Row, piece_of, random_rows, rows

CHUNK_BYTES, FANOUT = 600, 4


def dataset(
    rows: list[Row], seed: int | None = 42, take: int | None = None, store: ObjectStore | None = None
) -> Dataset:
    """A dataset of these samples, all of source 0, without a run record."""
    store = store or ObjectStore(MemoryBackend())
    builder = SequenceBuilder(DATA_ARRAYS, chunk_bytes=CHUNK_BYTES, fanout=FANOUT)
    objects = builder.add(piece_of(rows)) if rows else []
    roots, last = builder.finish()
    order = None if seed is None else Order.shuffled(seed, len(rows), take)
    arrays = {array.name: (array, roots[array.name]) for array in DATA_ARRAYS}
    manifest = Manifest(len(rows), arrays, SplitRule(RULE_NAME, CHUNK_BYTES, FANOUT), order).encode()
    for made in (*objects, *last, manifest):
        store.put(made.digest, made.data)
    return Dataset(CachedFetch(store.get), manifest.digest, None)


def edited(rows: list[Row], seed: int, edits: int) -> list[Row]:
    """Some rows changed, relabelled, removed and added."""
    rng = random.Random(seed)
    out = list(rows)
    for _ in range(edits):
        at = rng.randrange(len(out) + 1)
        what = rng.choice(["insert", "delete", "token", "label", "swap"])
        if what == "insert" or not out or at == len(out):
            out.insert(at, random_rows(1, rng.randrange(1 << 30))[0])
            continue
        ids, spans = out[at]
        if what == "delete":
            del out[at]
        elif what == "token" and ids:
            i = rng.randrange(len(ids))
            out[at] = (*ids[:i], ids[i] ^ 1, *ids[i + 1 :]), spans
        elif what == "label" and ids:
            out[at] = ids, () if spans else ((0, len(ids)),)
        elif what == "swap":
            other = rng.randrange(len(out))
            out[at], out[other] = out[other], out[at]
    return out


def applied(result: Comparison, a: list[Row], b: list[Row]) -> list[Row]:
    """``a`` with every hunk replaced by what ``b`` has there; whatever is between hunks is taken from ``a``."""
    out: list[Row] = []
    at = 0
    for hunk in result.hunks:
        out += a[at : hunk.a[0]]
        assert len(out) == hunk.b[0], "what is between hunks is as long on both sides"
        out += b[hunk.b[0] : hunk.b[1]]
        at = hunk.a[1]
    return out + a[at:]


def check(a: list[Row], b: list[Row]) -> Comparison:
    result = compare(dataset(a), dataset(b))
    assert result.equal == (a == b) == (not result)
    assert applied(result, a, b) == b
    for hunk in result.hunks:
        if hunk.op == "replace":
            pairs = list(zip(a[slice(*hunk.a)], b[slice(*hunk.b)], strict=True))
            if hunk.arrays == ("labels_mask",):
                assert all(x[0] == y[0] and x[1] != y[1] for x, y in pairs)
            else:
                assert hunk.arrays == ("token_ids",)
                assert all(x[0] != y[0] for x, y in pairs)
    # Of tokens alone it cannot be told where samples end.
    assert (result.arrays["token_ids"] and result.arrays["length"]) == ([ids for ids, _ in a] == [ids for ids, _ in b])
    if result.hunks:
        check_first(result, a, b)
    else:
        assert result.first is None
    return result


def check_first(result: Comparison, a: list[Row], b: list[Row]) -> None:
    first = result.first
    assert first is not None
    hunk = result.hunks[0]
    assert first.a.sample == (None if hunk.op == "insert" else hunk.a[0])
    assert first.b.sample == (None if hunk.op == "delete" else hunk.b[0])
    if first.a.sample is None or first.b.sample is None:
        return
    (ids_a, spans_a), (ids_b, spans_b) = a[first.a.sample], b[first.b.sample]
    if first.array == "token_ids":
        x, y = list(ids_a), list(ids_b)
    else:
        x = [int(any(lo <= i < hi for lo, hi in spans_a)) for i in range(len(ids_a))]
        y = [int(any(lo <= i < hi for lo, hi in spans_b)) for i in range(len(ids_b))]
    assert x[: first.index] == y[: first.index]
    found = [side[first.index] if first.index < len(side) else None for side in (x, y)]
    assert [first.a.value, first.b.value] == found
    assert found[0] != found[1]


@given(st.integers(0, 10**9), st.integers(0, 120), st.integers(0, 12))
def test_random_edits(seed: int, count: int, edits: int) -> None:
    rows = random_rows(count, seed)
    check(rows, edited(rows, seed, edits))


@given(st.lists(rows(), max_size=40), st.lists(rows(), max_size=40))
def test_anything_against_anything(a: list[Row], b: list[Row]) -> None:
    """Samples from a tiny alphabet, so that many are equal."""
    check(a, b)


def test_hunks_are_few_where_edits_are() -> None:
    a = random_rows(500, 1)
    b = list(a)
    ids, spans = b[200]
    b[200] = (ids[0] ^ 1, *ids[1:]), spans
    result = check(a, b)
    assert [(h.op, h.a, h.b, h.arrays) for h in result.hunks] == [("replace", (200, 201), (200, 201), ("token_ids",))]
    result = check(a, a[:100] + a[101:])
    assert [(h.op, h.a, h.b) for h in result.hunks] == [("delete", (100, 101), (100, 100))]
    result = check(a, a[:100] + random_rows(2, 99) + a[100:])
    assert [(h.op, h.a, h.b) for h in result.hunks] == [("insert", (100, 100), (100, 102))]
    c = [(ids, () if i in (7, 8, 300) else spans) for i, (ids, spans) in enumerate(a)]
    result = check(a, c)
    assert [(h.a, h.arrays) for h in result.hunks] == [((7, 9), ("labels_mask",)), ((300, 301), ("labels_mask",))]
    assert result.arrays["token_ids"]
    assert not result.arrays["labels_mask"]


def test_the_same_tokens_in_other_samples() -> None:
    """The chunks of tokens are equal, and what differs is where samples end."""
    a, b = [((1, 2, 3), ()), ((4,), ())], [((1, 2), ()), ((3, 4), ())]
    result = check(a, b)
    assert [(h.op, h.a, h.b) for h in result.hunks] == [("replace", (0, 2), (0, 2))]
    rows = random_rows(300, 1)
    (x, _), (y, _) = rows[100:102]
    moved = [*rows[:100], (x[:-1], ()), ((x[-1], *y), ()), *rows[102:]]
    assert len(check(rows, moved).hunks) == 1


def test_another_order_is_no_other_data() -> None:
    rows = random_rows(50, 1)
    for other in (dataset(rows, seed=7), dataset(rows, seed=None), dataset(rows, take=10)):
        result = compare(dataset(rows), other)
        assert not result.equal
        assert result, "the order counts"
        assert not result.same_order
        assert result.same_samples
        assert all(result.arrays.values())
        assert result.first is None


# ---- one array


def test_only_one_array() -> None:
    """What differs elsewhere does not count, and what differs there is never overlooked."""
    a = random_rows(200, 1)
    b = list(a)
    b[50] = b[50][0], ()
    c = [*a[:120], *random_rows(1, 5), *a[120:]]
    ids, _ = a[30]
    d = [*a[:30], ((*ids[:-1], ids[-1] ^ 1), ()), *a[31:]]
    expected = {
        ("b", "token_ids"): [],
        ("b", "labels_mask"): [("replace", (50, 51))],
        ("b", "length"): [],
        ("b", "key"): [],
        ("c", "token_ids"): [("insert", (120, 120))],
        ("c", "labels_mask"): [("insert", (120, 120))],
        ("c", "length"): [("insert", (120, 120))],
        ("c", "key"): [("insert", (120, 120))],
        ("d", "token_ids"): [("replace", (30, 31))],
        ("d", "labels_mask"): [("replace", (30, 31))],
        ("d", "length"): [],
        ("d", "key"): [("replace", (30, 31))],
        ("d", "source"): [],
    }
    for (name, only), hunks in expected.items():
        result = compare(dataset(a), dataset({"b": b, "c": c, "d": d}[name]), only=only)
        assert [(h.op, h.a) for h in result.hunks] == hunks, (name, only)
        assert all(h.arrays == (only,) for h in result.hunks)
        assert bool(hunks) == (not result.arrays[only]), (name, only)
        assert bool(result) == bool(hunks), "true where that array differs"


def test_only_a_key_shows_the_key() -> None:
    a = random_rows(20, 1)
    b = [*a[:5], *random_rows(1, 9), *a[6:]]
    first = compare(dataset(a), dataset(b), only="key").first
    assert first is not None
    assert first.array == "key"
    assert isinstance(first.a.value, str)
    assert len(first.a.value) == 32
    assert first.a.value != first.b.value


# ---- the place in an export


@pytest.mark.parametrize(("seed", "take"), [(42, None), (None, None), (42, 15)])
@pytest.mark.parametrize("part_bytes", [1 << 30, 400])
def test_the_named_byte_holds_the_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int | None, take: int | None, part_bytes: int
) -> None:
    monkeypatch.setattr("castore.olmo.layout.PART_BYTES", part_bytes)
    rows = random_rows(40, 3)
    data = dataset(rows, seed, take)
    export_olmo_core(data, str(tmp_path / "out"), part_bytes=part_bytes)
    absent = 0
    for sample, (ids, spans) in enumerate(rows):
        for index in {0, len(ids) // 2, len(ids) - 1}:
            place = place_of(data, sample, index, "token_ids")
            mask_place = place_of(data, sample, index, "labels_mask")
            if place is None or mask_place is None:
                assert place is mask_place is None
                absent += 1
                continue
            raw = (tmp_path / "out" / place.file).read_bytes()[place.offset : place.offset + 4]
            assert int.from_bytes(raw, "little") == ids[index]
            mask = (tmp_path / "out" / mask_place.file).read_bytes()[mask_place.offset]
            assert mask == any(lo <= index < hi for lo, hi in spans)
    assert (absent > 0) == (take is not None)


# ---- cost


def reads_of(a: list[Row], b: list[Row]) -> tuple[int, Comparison]:
    """Objects read to compare two datasets in two stores with fresh caches, manifests included."""
    stores = [ObjectStore(MemoryBackend()), ObjectStore(MemoryBackend())]
    sides: list[Any] = [dataset(rows, store=store) for rows, store in zip((a, b), stores, strict=True)]
    fresh = [Dataset(CachedFetch(store.get), side.root, None) for side, store in zip(sides, stores, strict=True)]
    result = compare(*fresh)
    return sum(store.reads for store in stores), result


def test_equal_data_cost_no_more_than_the_manifests() -> None:
    rows = random_rows(3000, 1)
    reads, result = reads_of(rows, list(rows))
    assert result.equal
    assert reads <= 2


def test_reads_grow_with_the_depth_and_not_with_the_data() -> None:
    """Everything but the lengths that the place in the export needs."""
    for count in (500, 4000):
        a = random_rows(count, 1)
        b = list(a)
        ids, spans = b[count // 3]
        b[count // 3] = (ids[0] ^ 1, *ids[1:]), spans
        stores = [ObjectStore(MemoryBackend()) for _ in range(2)]
        roots = [dataset(rows, seed=None, store=store).root for rows, store in zip((a, b), stores, strict=True)]
        for store in stores:
            store.reads = 0
        sides = [Dataset(CachedFetch(s.get), root, None) for s, root in zip(stores, roots, strict=True)]
        assert compare(*sides).hunks == compare(*sides).hunks
        assert len(compare(*sides).hunks) == 1
        level = sides[0].manifest.arrays["token_ids"][1].level
        assert sum(store.reads for store in stores) <= 2 * (2 + 3 * (level + 2) * FANOUT)


def test_random_rows_are_what_the_tests_want() -> None:
    lengths = np.array([len(ids) for ids, _ in random_rows(100, 1)])
    assert lengths.min() >= 1
    assert lengths.max() > 40


def test_labels_that_are_cut_elsewhere_are_equal_all_the_same(tmp_path: Path) -> None:
    """The tree of labels follows the cuts of the tokens: other tokens, and equal labels may have another tree."""
    rng = np.random.default_rng(1)
    rows = [rng.integers(0, 3000, 4000) for _ in range(60)]
    repository = Repository.open(tmp_path / "repo", create=True)
    repository.write(rows, "a")
    a = repository["a"]
    moved = 0
    for i in range(20, 40, 4):
        repository.write([*rows[:i], (rows[i] + 1) % 3000, *rows[i + 1 :]], "b")
        b = repository["b"]
        moved += a.manifest.arrays["labels_mask"] != b.manifest.arrays["labels_mask"]
        found = a.diff(b)
        expected = {"token_ids": False, "labels_mask": True, "key": False, "length": True, "source": True}
        assert found.arrays == expected
    assert moved > 0
    repository.write([(row + 1) % 3000 for row in rows], "every")
    assert a.diff(repository["every"]).arrays == expected
    labels = [np.arange(4000) != 7 * (i == 50) for i in range(60)]
    repository.write(
        [
            *zip(rows[:20], labels[:20], strict=True),
            ((rows[20] + 1) % 3000, labels[20]),
            *zip(rows[21:], labels[21:], strict=True),
        ],
        "c",
    )
    assert not a.diff(repository["c"]).arrays["labels_mask"]
