"""Inputs that break splitters which look at content alone: chunks, nodes and depth stay within their bounds."""

from __future__ import annotations

import numpy as np
import pytest

from castore.format.samples import Piece, Samples
from castore.tree.build import SequenceBuilder
from castore.tree.split import FANOUT, boundary_hashes, cut, level_hashes, sample_weights
from tests.support.built import FEW, SMALL, Built, build
from tests.support.strategies import FINE, Row, random_rows, samples_of
from tests.vectors.generator import samples


def check_bounds(built: Built, rows: list[Row], chunk_bytes: int = SMALL, fanout: int = FEW) -> None:
    """Every chunk and node within its limits, and the sequence back unchanged."""
    weights = sample_weights(np.array([len(ids) for ids, _ in rows], np.uint32))
    for run in built.cuts:
        assert run.stop - run.start == 1 or weights[run.start : run.stop].sum() <= 2 * chunk_bytes
    for sizes in built.sizes("token_ids"):
        assert max(sizes) <= 2 * fanout
    assert built.roots["token_ids"].level <= 1 + len(rows).bit_length()
    assert built.rows() == rows


@pytest.mark.parametrize("count", [1, 8, 100, 3000])
@pytest.mark.parametrize("row", [((), ()), ((5,), ((0, 1),)), (tuple(range(20)), ())])
def test_identical_rows(row: Row, count: int) -> None:
    rows = [row] * count
    built = build(rows)
    check_bounds(built, rows)
    # Regular runs: but for the start and the end there is one chunk.
    assert len(set(built.chunks())) <= 4
    assert len(built.objects) <= 60


@pytest.mark.parametrize("period", [2, 3, 5, 17])
def test_short_periods(period: int) -> None:
    rows = (random_rows(period, seed=period) * 3000)[:3000]
    built = build(rows)
    check_bounds(built, rows)
    assert len(set(built.chunks())) <= 4 * period + 4


def test_identical_rows_and_one_more_at_any_place() -> None:
    rows: list[Row] = [((1, 2, 3), ())] * 2000
    base = build(rows)
    for at in (0, 1, 700, 1999, 2000):
        more = [*rows[:at], rows[0], *rows[at:]]
        assert len(build(more).objects.keys() - base.objects.keys()) <= 40
        other = [*rows[:at], ((9,), ()), *rows[at:]]
        built = build(other)
        check_bounds(built, other)
        assert len(set(built.chunks()) - set(base.chunks())) <= 6


def test_two_values_in_any_order_still_cut() -> None:
    """A window of one sample would see two boundary hashes only."""
    rows = [(((1, 2) if byte % 2 else (3, 4, 5)), ()) for byte in range(0, 9973 * 3000, 9973) for byte in [byte // 64]]
    built = build(rows)
    check_bounds(built, rows)
    assert len(built.cuts) >= len(rows) * 44 // (2 * SMALL)


def test_three_copies_are_a_third() -> None:
    rows = samples(71, 4000, 25)
    once, thrice = build(rows, chunk_bytes=4096), build(rows * 3, chunk_bytes=4096)
    check_bounds(thrice, rows * 3, 4096)
    chunks = thrice.chunks()
    assert 0.32 <= len(set(chunks)) / len(chunks) <= 0.36
    assert len(set(chunks) - set(once.chunks())) <= 6


def test_empty_rows_end_their_runs() -> None:
    rows: list[Row] = [((), ())] * 5000
    built = build(rows)
    check_bounds(built, rows)
    assert all(cut.stop - cut.start <= 2 * SMALL // 32 for cut in built.cuts)


@pytest.mark.parametrize("place", [0, 50, 99])
def test_a_giant_row_is_a_chunk_alone(place: int) -> None:
    rows = random_rows(100, seed=72)
    giant: Row = (tuple(range(SMALL)), ((0, 3), (7, SMALL)))
    rows[place:place] = [giant]
    built = build(rows)
    check_bounds(built, rows)
    assert [(cut.start, cut.stop) for cut in built.cuts if cut.start == place] == [(place, place + 1)]


def test_only_giant_rows() -> None:
    rows: list[Row] = [(tuple(range(i, i + SMALL)), ()) for i in range(60)]
    built = build(rows)
    check_bounds(built, rows)
    assert len(built.cuts) == 60


def test_weights_around_the_limit() -> None:
    rows: list[Row] = [((7,) * n, ()) for n in range(2 * SMALL // 4 - 12, 2 * SMALL // 4 + 2)] * 5
    check_bounds(build(rows), rows)


# ---- keys that an adversary chose


def built_of_keys(words: list[int]) -> tuple[list[int], int]:
    """Sizes of the chunks and the level of the root for samples of three tokens with chosen keys."""
    count = len(words)
    keys = np.zeros((count, 16), np.uint8)
    keys[:, :8] = np.array(words, "<u8").view(np.uint8).reshape(-1, 8)
    lengths = np.full(count, 3, np.uint32)
    builder = SequenceBuilder(FINE, chunk_bytes=SMALL, fanout=FEW)

    def load() -> Samples:
        return samples_of([((1, 2, 3), ())] * count)

    builder.add(Piece(lengths, keys, {}, load))
    roots, _ = builder.finish()
    return [cut.stop - cut.start for cut in builder.take_cuts()], roots["token_ids"].level


def words_where_level_0_is_high(count: int) -> list[int]:
    """Keys, found by search, that give every sample a hash above 0.9 of the range: no cut by the threshold."""
    words: list[int] = []
    before = [0, 0, 0]
    candidate = 1
    while len(words) < count:
        batch = np.arange(candidate, candidate + 256, dtype=np.uint64)
        candidate += 256
        state = np.array([[*before[-3:], int(word)] for word in batch], np.uint64)
        hashes = [int(boundary_hashes(row[3:].view(np.uint8).reshape(1, 8), row[:3])[0]) for row in state[:64]]
        high = level_hashes(np.array(hashes, np.uint64), 0) > np.uint64(int(2**32 * 9 / 10))
        chosen = int(batch[int(np.argmax(high))])
        assert high.any()
        words.append(chosen)
        before.append(chosen)
    return words


@pytest.mark.parametrize("word", [0, 1, 2**64 - 1, 0x0123456789ABCDEF])
def test_all_keys_alike(word: int) -> None:
    sizes, level = built_of_keys([word] * 2000)
    assert max(sizes) <= 2 * SMALL // 44
    assert min(sizes[:-1]) >= SMALL // 2 // 44
    assert level <= 12


def test_keys_that_never_pass_the_threshold() -> None:
    words = words_where_level_0_is_high(150)
    sizes, level = built_of_keys(words)
    assert max(sizes) <= 2 * SMALL // 44
    assert min(sizes[:-1]) >= SMALL // 2 // 44
    assert sum(sizes) == 150
    assert level <= 10


@pytest.mark.parametrize("hash32", [0, 2**31, 2**32 - 1])
def test_equal_hashes_at_every_level_end_in_a_root(hash32: int) -> None:
    """Hashes given directly: a level is at most a quarter of the one below at a fan-out of 8, whatever they are."""
    count = 100_000
    while count > 2 * FANOUT:
        sizes = cut(np.full(count, hash32, np.uint64), np.ones(count, np.int64), FANOUT)
        assert len(sizes) <= 1 + count // (FANOUT // 2)
        count = len(sizes)


def test_ascending_and_descending_ranks() -> None:
    """Descending hashes make every new item the best so far, ascending ones the first."""
    step = 2**32 // 5000
    for hashes in ([2**31 + step * i // 2 for i in range(5000)], [2**32 - 1 - step * i // 2 for i in range(5000)]):
        sizes = cut(np.array(hashes, np.uint64), np.ones(5000, np.int64), 64)
        assert sum(sizes) == 5000
        assert max(sizes) <= 128
