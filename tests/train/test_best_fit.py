"""Packings of documents, by number and counted, against ones that place a document after the other."""

from __future__ import annotations

import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from castore.format.digest import digest_of
from castore.train.best_fit import Packed, best_fit, best_fit_instances, tight_fit
from castore.train.exact_fit import exact_fit

CASES = st.integers(1, 40).flatmap(lambda c: st.tuples(st.just(c), st.lists(st.integers(1, c), max_size=120)))


def one_by_one(lengths: list[int], capacity: int) -> list[list[int]]:
    """Documents of each instance; equal documents as they come, equal instances first come first."""
    instances: list[list[int]] = []
    by_space: dict[int, deque[int]] = defaultdict(deque)
    for document in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        fitting = [space for space, waiting in by_space.items() if waiting and space >= lengths[document]]
        space = min(fitting, default=capacity)
        if fitting:
            instance = by_space[space].popleft()
        else:
            instance = len(instances)
            instances.append([])
        instances[instance].append(document)
        by_space[space - lengths[document] or -1].append(instance)
    return instances


def as_lists(packed: Packed) -> list[list[int]]:
    return (
        [part.tolist() for part in np.split(packed.documents, np.cumsum(packed.counts)[:-1])]
        if len(packed.counts)
        else []
    )


@given(CASES)
def test_it_is_best_fit_decreasing_with_settled_ties(case: tuple[int, list[int]]) -> None:
    capacity, lengths = case
    assert as_lists(best_fit(np.array(lengths, np.int64), capacity)) == one_by_one(lengths, capacity)


@given(CASES)
def test_a_tight_fit_packs_everything_once_and_no_worse(case: tuple[int, list[int]]) -> None:
    capacity, lengths = case
    instances = as_lists(tight_fit(np.array(lengths, np.int64), capacity))
    assert sorted(document for instance in instances for document in instance) == list(range(len(lengths)))
    assert all(0 < sum(lengths[document] for document in instance) <= capacity for instance in instances)
    assert all(
        [(-lengths[d], d) for d in instance] == sorted((-lengths[d], d) for d in instance) for instance in instances
    )
    assert len(instances) <= len(one_by_one(lengths, capacity))


@pytest.mark.parametrize(
    ("counts", "instances"),
    [
        ({}, 0),
        ({10: 3}, 3),
        ({6: 1, 5: 1, 4: 1, 3: 2, 2: 1}, 3),
        ({5: 2, 4: 3, 2: 2, 1: 1}, 3),  # 5 5, 4 4 2, 4 2 1: best fit does no better
        ({7: 4, 5: 8, 3: 4}, 8),
    ],
)
def test_small_fillings(counts: dict[int, int], instances: int) -> None:
    fillings = exact_fit(counts, 10)
    assert sum(times for _, times in fillings) == instances
    total = {length: sum(filling.get(length, 0) * times for filling, times in fillings) for length in counts}
    assert total == counts


def test_it_is_tighter_where_best_fit_leaves_room() -> None:
    lengths = np.array([44] * 100 + [30] * 100 + [26] * 100 + [23] * 100, np.int64)
    best, tight = best_fit(lengths, 100), tight_fit(lengths, 100)
    assert (len(tight.counts), len(best.counts)) == (125, 142)  # 123 hold 12,300 tokens


def test_a_document_must_fit() -> None:
    with pytest.raises(AssertionError, match="9 tokens"):
        best_fit(np.array([9], np.int64), 8)
    with pytest.raises(AssertionError, match="without tokens"):
        best_fit(np.array([0], np.int64), 8)


Pack = Callable[[NDArray[np.int64], int], Packed]


@pytest.mark.parametrize(
    ("pack", "instances", "expected"), [(best_fit, 1146, "eeba805b8ddde87f"), (tight_fit, 1110, "ba4d2a4e04573ca3")]
)
def test_the_answer_stays_what_it_is(pack: Pack, instances: int, expected: str) -> None:
    """Another answer is another algorithm, and needs another name in ``castore.format.packing``."""
    lengths = np.array([i * i * 7919 % 211 + 119 for i in range(5000)], np.int64)
    packed = pack(lengths, 1024)
    data = packed.documents.astype("<i8").tobytes() + packed.counts.astype("<i8").tobytes()
    assert (len(packed.counts), digest_of(data).hex()[:16]) == (instances, expected)


# ---- how many instances there are, from a histogram


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
def test_their_number_is_that_of_best_fit_decreasing(case: tuple[int, list[int]]) -> None:
    capacity, lengths = case
    assert best_fit_instances(Counter(lengths), capacity) == len(packed_one_by_one(lengths, capacity))


@given(st.dictionaries(st.integers(1, 64), st.integers(1, 90), max_size=12))
def test_their_number_is_that_of_best_fit_decreasing_with_many_of_a_length(counts: dict[int, int]) -> None:
    lengths = list(Counter(counts).elements())
    assert best_fit_instances(counts, 64) == len(packed_one_by_one(lengths, 64))


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
    assert best_fit_instances(Counter(lengths), 8) == instances
    assert len(best_fit(np.array(lengths, np.int64), 8).counts) == instances


def test_a_document_that_is_counted_must_fit() -> None:
    with pytest.raises(AssertionError, match="9 tokens"):
        best_fit_instances({9: 1}, 8)
    with pytest.raises(AssertionError, match="without tokens"):
        best_fit_instances({0: 1}, 8)


def test_millions_of_documents_take_no_longer_than_their_lengths() -> None:
    rng = np.random.default_rng(1)
    lengths = np.minimum(rng.lognormal(6, 1.3, 2_000_000).astype(np.int64) + 1, 32768)
    values, counts = np.unique(lengths, return_counts=True)
    began = time.process_time()
    instances = best_fit_instances(dict(zip(values.tolist(), counts.tolist(), strict=True)), 32768)
    assert time.process_time() - began < 3  # a tenth of a second on a quiet machine
    assert int(lengths.sum()) <= instances * 32768 <= int(lengths.sum()) * 1.001
