"""The split rule against its slow reference, and what it promises about any input."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from castore.tree.split import (
    FANOUT,
    TARGET_MAX,
    WINDOW,
    Splitter,
    boundary_hashes,
    cut,
    level_hashes,
    sample_weights,
)
from tests.support import reference

TOP = 2**32 - 1

Item = tuple[int, int]
Case = tuple[int, list[Item]]

# Few values of hashes make ties, and hits of the rule's threshold at every weight.
hashes32 = st.one_of(st.integers(0, TOP), st.sampled_from([0, 1, 5, 2**31 - 1, 2**31, TOP - 1, TOP]))
targets = st.one_of(st.integers(1, 60), st.sampled_from([1, 2, 3, 1 << 18, 1 << 30, TARGET_MAX - 1, TARGET_MAX]))
cases = targets.flatmap(
    lambda target: st.tuples(
        st.just(target),
        st.lists(
            st.tuples(
                hashes32,
                st.one_of(
                    st.integers(1, 3),
                    st.integers(1, max(1, target // 8)),
                    st.integers(1, 3 * target),
                    st.sampled_from([target, 2 * target, 2 * target + 1, 1 << 34]),
                ),
            ),
            max_size=80,
        ),
    )
)


def arrays_of(sequence: list[Item]) -> tuple[np.ndarray, np.ndarray]:
    pairs = np.array(sequence, np.int64).reshape(-1, 2)
    return pairs[:, 0].astype(np.uint64), pairs[:, 1]


def sizes_of(sequence: list[Item], target: int) -> list[int]:
    return cut(*arrays_of(sequence), target)


@given(cases)
def test_cut_is_the_reference(case: Case) -> None:
    target, sequence = case
    assert sizes_of(sequence, target) == reference.cut(sequence, target)


@given(cases, st.lists(st.integers(0, 80), max_size=80))
def test_the_splitter_is_the_reference_in_any_batches(case: Case, edges: list[int]) -> None:
    target, sequence = case
    hashes, weights = arrays_of(sequence)
    splitter = Splitter(target)
    sizes: list[int] = []
    for lo, hi in itertools.pairwise([0, *sorted(min(edge, len(sequence)) for edge in edges), len(sequence)]):
        sizes += splitter.push(hashes[lo:hi], weights[lo:hi])
        assert splitter.pending == hi - sum(sizes)
        # Nothing is held back that is decided: what is there is what ``cut`` gives of the beginning.
        assert sizes == cut(hashes[:hi], weights[:hi], target, final=False)
    assert sizes + splitter.finish() == reference.cut(sequence, target)
    assert splitter.pending == 0
    assert splitter.finish() == []


@given(cases)
def test_the_splitter_is_the_reference_item_by_item(case: Case) -> None:
    target, sequence = case
    hashes, weights = arrays_of(sequence)
    splitter = Splitter(target)
    sizes = [size for i in range(len(sequence)) for size in splitter.push(hashes[i : i + 1], weights[i : i + 1])]
    assert sizes + splitter.finish() == reference.cut(sequence, target)


@given(cases, st.integers(0, 80))
def test_cuts_of_a_beginning_stay(case: Case, at: int) -> None:
    target, sequence = case
    begun = cut(*arrays_of(sequence[:at]), target, final=False)
    assert begun == sizes_of(sequence, target)[: len(begun)]


@given(cases)
def test_runs_are_bounded(case: Case) -> None:
    target, sequence = case
    at = 0
    for size in sizes_of(sequence, target):
        assert size > 0
        weights = [weight for _, weight in sequence[at : at + size]]
        assert size == 1 or sum(weights) <= 2 * target
        at += size
    assert at == len(sequence)


@given(cases, st.integers(0, 80))
def test_a_cut_forgets_what_was_before_it(case: Case, which: int) -> None:
    target, sequence = case
    sizes = sizes_of(sequence, target)
    first = which % (len(sizes) + 1)
    assert sizes_of(sequence[sum(sizes[:first]) :], target) == sizes[first:]


@pytest.mark.parametrize("value", [0, TOP])
def test_equal_hashes_make_regular_runs(value: int) -> None:
    sizes = sizes_of([(value, 1)] * 1000, FANOUT)
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
        assert many == [reference.level_hash(h, level) for h in expected]


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
    lengths = np.array([0, 1, 100, 2**32 - 1], np.uint32)
    assert sample_weights(lengths).tolist() == [32, 36, 432, 2**34 + 28]
