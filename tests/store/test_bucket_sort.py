"""Samples in another order: against a plain permutation, with windows small enough to need files."""

from __future__ import annotations

import resource
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from castore.errors import BackendError
from castore.format.samples import Samples, SpanColumn
from castore.store.bucket_sort import BucketSort, take_ragged
from tests.support.strategies import Row, random_rows, row_lists, samples_of


def rows_of(samples: Samples) -> list[Row]:
    """The plain form of a batch."""
    ids, spans = samples.columns["token_ids"], samples.columns["labels_mask"]
    assert isinstance(ids, np.ndarray)
    assert isinstance(spans, SpanColumn)
    out: list[Row] = []
    at = span_at = 0
    for length, count in zip(samples.lengths.tolist(), spans.counts.tolist(), strict=True):
        edges = zip(spans.starts[span_at : span_at + count], spans.stops[span_at : span_at + count], strict=True)
        out.append((tuple(ids[at : at + length].tolist()), tuple((int(lo), int(hi)) for lo, hi in edges)))
        at += length
        span_at += count
    assert at == len(ids)
    assert span_at == len(spans.starts)
    return out


def reordered(rows: list[Row], positions: list[int], batch: int, window_bytes: int, folder: str | None) -> list[Row]:
    """``rows`` through a BucketSort in batches; a position of -1 leaves a row out."""
    used = [(position, i) for i, position in enumerate(positions) if position >= 0]
    lengths = np.array([len(rows[i][0]) for _, i in sorted(used)], np.uint32)
    reorder = BucketSort(lengths, folder, window_bytes)
    try:
        for lo in range(0, len(rows), batch):
            part = rows[lo : lo + batch]
            reorder.add(np.array(positions[lo : lo + batch], np.int64), samples_of(part))
        out: list[Row] = []
        for window in reorder.windows():
            assert len(window) > 0
            assert len(window) == 1 or int(window.lengths.sum()) * 4 <= max(window_bytes, 4)
            out += rows_of(window)
        return out
    finally:
        reorder.close()


@st.composite
def orders(draw: st.DrawFn) -> tuple[list[Row], list[int], int, int]:
    rows = draw(row_lists)
    permutation = draw(st.permutations(range(len(rows))))
    take = draw(st.integers(0, len(rows)))
    positions = [-1] * len(rows)
    for position, i in enumerate(permutation[:take]):
        positions[i] = position
    return rows, positions, draw(st.sampled_from([1, 2, 7, 1000])), draw(st.sampled_from([4, 40, 200, 1 << 20]))


@given(orders())
def test_any_order_of_any_samples(case: tuple[list[Row], list[int], int, int]) -> None:
    rows, positions, batch, window_bytes = case
    by_position = sorted((position, i) for i, position in enumerate(positions) if position >= 0)
    assert reordered(rows, positions, batch, window_bytes, None) == [rows[i] for _, i in by_position]


def test_windows_beyond_the_first_are_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tempfile

    made: list[Any] = []
    real = tempfile.TemporaryFile

    def spy(**options: Any) -> Any:
        made.append(options)
        return real(**options)

    monkeypatch.setattr(tempfile, "TemporaryFile", spy)
    rows = random_rows(200, seed=1)
    positions = np.random.default_rng(2).permutation(200).tolist()
    wanted = [rows[i] for i in np.argsort(positions).tolist()]
    assert reordered(rows, positions, 13, 2000, str(tmp_path)) == wanted
    assert len(made) > 5
    assert {options["dir"] for options in made} == {str(tmp_path)}
    assert not list(tmp_path.iterdir()), "unnamed from the start, so that a kill leaves nothing"
    made.clear()
    assert reordered(rows, positions, 13, 1 << 20, str(tmp_path)) == wanted
    assert not made


def test_an_empty_order() -> None:
    assert reordered(random_rows(5, seed=1), [-1] * 5, 2, 100, None) == []
    assert reordered([], [], 2, 100, None) == []


def test_samples_without_tokens() -> None:
    rows: list[Row] = [((), ()), ((1, 2), ((0, 1),)), ((), ()), ((3,), ())]
    assert reordered(rows, [3, 2, 1, 0], 2, 4, None) == rows[::-1]


def test_a_missing_sample_is_noticed() -> None:
    rows = random_rows(3, seed=1)
    reorder = BucketSort(np.array([len(ids) for ids, _ in rows], np.uint32), None, 1 << 20)
    reorder.add(np.array([0, 2]), samples_of(rows[:2]))
    with pytest.raises(AssertionError, match="every position"):
        list(reorder.windows())
    reorder.close()


def test_no_folder_for_temporary_files() -> None:
    with pytest.raises(BackendError, match="no temporary file in /no/such/folder"):
        BucketSort(np.full(10, 100, np.uint32), "/no/such/folder", 400)


def test_files_are_closed_when_the_next_cannot_be_made(tmp_path: Path) -> None:
    """No file is left to the garbage collector, which would warn."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    try:
        with pytest.raises(BackendError, match="no temporary file in"):
            BucketSort(np.full(200, 100, np.uint32), str(tmp_path), 400)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_memory_is_that_of_some_windows() -> None:
    """24 MB of tokens through windows of 1 MB; what grows with the data is positions and spans, not tokens."""
    count, length = 6000, 1000
    order = np.random.default_rng(1).permutation(count)
    reorder = BucketSort(np.full(count, length, np.uint32), None, 1 << 20)
    tracemalloc.start()
    try:
        for lo in range(0, count, 50):
            ids = np.repeat(np.arange(lo, lo + 50, dtype=np.uint32), length)
            column = SpanColumn(np.ones(50, np.uint32), np.zeros(50, np.uint32), np.full(50, length, np.uint32))
            samples = Samples(np.full(50, length, np.uint32), {"token_ids": ids, "labels_mask": column})
            reorder.add(order[lo : lo + 50].astype(np.int64), samples)
        wanted = np.argsort(order)
        at = 0
        for window in reorder.windows():
            token_ids = window.columns["token_ids"]
            assert isinstance(token_ids, np.ndarray)
            assert np.array_equal(token_ids[::length], wanted[at : at + len(window)])
            at += len(window)
        assert at == count
        assert tracemalloc.get_traced_memory()[1] < 10 << 20
    finally:
        tracemalloc.stop()
        reorder.close()


@given(st.lists(st.integers(0, 200), max_size=30), st.data())
def test_take_ragged(counts: list[int], data: st.DataObject) -> None:
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    items = np.arange(int(offsets[-1]), dtype=np.uint32)
    indices = st.lists(st.integers(0, len(counts) - 1), max_size=20) if counts else st.just([])
    chosen = np.array(data.draw(indices), np.int64)
    expected = [x for i in chosen.tolist() for x in range(int(offsets[i]), int(offsets[i + 1]))]
    assert take_ragged(items, offsets, chosen).tolist() == expected
