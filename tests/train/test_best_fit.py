"""Packings of documents by number, against one that places a document after the other."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from castore.format.digest import digest_of
from castore.train.best_fit import Packed, best_fit, tight_fit
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
