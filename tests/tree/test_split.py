"""The split rule against its slow reference, and what it promises about any input."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from castore.tree.split import (
    FANOUT,
    WINDOW,
    BatchSplitter,
    Splitter,
    boundary_hashes,
    level_hash,
    level_hashes,
    mix,
    sample_weight,
)
from tests.support import reference

TOP = 2**32 - 1

hashes32 = st.one_of(st.integers(0, TOP), st.sampled_from([0, 1, 2**31 - 1, 2**31, TOP - 1, TOP]))
items = st.integers(1, 60).flatmap(
    lambda target: st.tuples(
        st.just(target),
        st.lists(st.tuples(hashes32, st.one_of(st.integers(1, 3), st.integers(1, 3 * target))), max_size=80),
    )
)


def cut(sequence: list[tuple[int, int]], target: int) -> list[int]:
    splitter = Splitter(target)
    sizes = [size for item in sequence for size in splitter.push(*item)]
    return [*sizes, *splitter.finish()]


@given(items)
def test_splitter_is_the_reference(case: tuple[int, list[tuple[int, int]]]) -> None:
    target, sequence = case
    assert cut(sequence, target) == reference.cut(sequence, target)


@given(items, st.lists(st.integers(0, 80), max_size=6))
def test_batch_splitter_is_the_reference(case: tuple[int, list[tuple[int, int]]], stops: list[int]) -> None:
    """Whatever batches the items come in."""
    target, sequence = case
    hashes = np.array([hash32 for hash32, _ in sequence], np.uint64)
    weights = np.array([weight for _, weight in sequence], np.int64)
    splitter = BatchSplitter(target)
    sizes = []
    for lo, hi in itertools.pairwise([0, *sorted(min(stop, len(sequence)) for stop in stops), len(sequence)]):
        sizes += splitter.push(hashes[lo:hi], weights[lo:hi])
    assert sizes + splitter.finish() == reference.cut(sequence, target)
    assert splitter.finish() == []


@given(st.lists(st.tuples(hashes32, st.integers(1, 3)), max_size=80))
def test_a_target_of_one_ends(sequence: list[tuple[int, int]]) -> None:
    """Half of it is nothing: no run may be empty."""
    splitter = BatchSplitter(1)
    hashes, weights = (np.array([item[i] for item in sequence], np.int64) for i in (0, 1))
    sizes = splitter.push(hashes.astype(np.uint64), weights)
    assert sizes + splitter.finish() == reference.cut(sequence, 1)


@given(items)
def test_runs_are_bounded(case: tuple[int, list[tuple[int, int]]]) -> None:
    target, sequence = case
    at = 0
    for size in cut(sequence, target):
        assert size > 0
        weights = [weight for _, weight in sequence[at : at + size]]
        assert size == 1 or sum(weights) <= 2 * target
        at += size
    assert at == len(sequence)


@given(items)
def test_pending_counts_what_is_in_no_run(case: tuple[int, list[tuple[int, int]]]) -> None:
    target, sequence = case
    splitter = Splitter(target)
    given_back = 0
    for count, item in enumerate(sequence, 1):
        given_back += sum(splitter.push(*item))
        assert splitter.pending == count - given_back
    splitter.finish()
    assert splitter.pending == 0
    assert splitter.finish() == ()


@given(items, st.integers(0, 80))
def test_a_cut_forgets_what_was_before_it(case: tuple[int, list[tuple[int, int]]], which: int) -> None:
    target, sequence = case
    sizes = cut(sequence, target)
    first = which % (len(sizes) + 1)
    assert cut(sequence[sum(sizes[:first]) :], target) == sizes[first:]


@pytest.mark.parametrize("value", [0, TOP])
def test_equal_hashes_make_regular_runs(value: int) -> None:
    sizes = cut([(value, 1)] * 1000, FANOUT)
    expected = FANOUT // 2 if value == 0 else 2 * FANOUT
    assert set(sizes[:-1]) == {expected}


@given(
    st.lists(st.binary(min_size=16, max_size=16), max_size=40),
    st.lists(st.integers(0, 40), max_size=3),
)
def test_boundary_hashes_are_the_reference_in_any_batches(keys: list[bytes], edges: list[int]) -> None:
    expected = reference.boundary_hashes(keys)
    before = np.zeros(WINDOW - 1, np.uint64)
    made: list[int] = []
    bounds = [0, *sorted(min(edge, len(keys)) for edge in edges), len(keys)]
    for lo, hi in itertools.pairwise(bounds):
        batch = np.frombuffer(b"".join(keys[lo:hi]), np.uint8).reshape(-1, 16)
        made.extend(boundary_hashes(batch, before).tolist())
        words = np.frombuffer(b"".join(key[:8] for key in keys[:hi]), "<u8")
        before = np.concatenate([np.zeros(3, np.uint64), words])[-3:].astype(np.uint64)
    assert made == expected
    for level in (0, 1, 5):
        many = level_hashes(np.array(expected, np.uint64), level).tolist()
        assert many == [level_hash(h, level) for h in expected] == [reference.level_hash(h, level) for h in expected]


@given(st.integers(0, 2**64 - 1))
def test_mix_is_the_reference(state: int) -> None:
    assert mix(state) == reference.mix(state)


def test_only_the_last_four_samples_and_eight_bytes_decide() -> None:
    keys = np.arange(160, dtype=np.uint8).reshape(-1, 16)
    plain = boundary_hashes(keys, np.zeros(3, np.uint64))
    tail_changed = keys.copy()
    tail_changed[2, 8:] ^= 255
    assert np.array_equal(boundary_hashes(tail_changed, np.zeros(3, np.uint64)), plain)
    head_changed = keys.copy()
    head_changed[2, 7] ^= 1
    differs = boundary_hashes(head_changed, np.zeros(3, np.uint64)) != plain
    assert differs.tolist() == [False, False, True, True, True, True, False, False, False, False]


def test_weight_counts_empty_samples() -> None:
    assert [sample_weight(n) for n in (0, 1, 100)] == [32, 36, 432]
