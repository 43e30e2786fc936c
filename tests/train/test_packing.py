"""PackingCounts by histogram against a packing that places one document after the other."""

from __future__ import annotations

import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from castore.train.packing import PackingCounts, pack


def packed_one_by_one(lengths: list[int], capacity: int) -> list[int]:
    """Free tokens of every instance, after each document went where it fits best."""
    free: list[int] = []
    for length in sorted(lengths, reverse=True):
        fitting = [index for index, space in enumerate(free) if space >= length]
        if fitting:
            free[min(fitting, key=free.__getitem__)] -= length
        else:
            free.append(capacity - length)
    return free


@given(st.integers(0, 7).flatmap(lambda p: st.tuples(st.just(2**p), st.lists(st.integers(1, 2**p), max_size=120))))
def test_it_is_best_fit_decreasing(case: tuple[int, list[int]]) -> None:
    capacity, lengths = case
    expected = packed_one_by_one(lengths, capacity)
    assert pack(Counter(lengths), capacity) == PackingCounts(len(expected), sum(lengths))


@given(st.dictionaries(st.integers(1, 64), st.integers(1, 90), max_size=12))
def test_it_is_best_fit_decreasing_with_many_of_a_length(counts: dict[int, int]) -> None:
    lengths = list(Counter(counts).elements())
    assert pack(counts, 64) == PackingCounts(len(packed_one_by_one(lengths, 64)), sum(lengths))


@pytest.mark.parametrize(
    ("lengths", "instances"),
    [
        ([], 0),
        ([8], 1),
        ([8, 8, 8], 3),
        ([1] * 8, 1),
        ([1] * 9, 2),
        ([5, 5, 3, 3], 2),
        ([5, 4, 4, 3], 2),  # 3 goes to 5, which it fills, and not to the empty half
        ([3] * 5, 3),  # two in each, the last one alone
        ([6, 5, 3, 2], 2),
        ([7, 6, 2, 1], 2),
    ],
)
def test_small_packings(lengths: list[int], instances: int) -> None:
    assert pack(Counter(lengths), 8) == PackingCounts(instances, sum(lengths))


def test_a_document_must_fit() -> None:
    with pytest.raises(AssertionError, match="9 tokens"):
        pack({9: 1}, 8)


def test_millions_of_documents_take_no_longer_than_their_lengths() -> None:
    rng = np.random.default_rng(1)
    lengths = np.minimum(rng.lognormal(6, 1.3, 2_000_000).astype(np.int64) + 1, 32768)
    values, counts = np.unique(lengths, return_counts=True)
    began = time.process_time()
    packing = pack(dict(zip(values.tolist(), counts.tolist(), strict=True)), 32768)
    assert time.process_time() - began < 3  # a hundredth of a second on a quiet machine
    assert packing.tokens == int(lengths.sum())
    assert packing.tokens <= packing.instances * 32768 <= packing.tokens * 1.001
