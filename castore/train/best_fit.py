"""Packing of documents into instances, best fit and longest first, each instance with its documents by number.

The rule is best-fit decreasing, as in "Fewer Truncations Improve Language Modeling" (https://arxiv.org/abs/2404.10830),
which OLMo-core follows: longest first, each document into the instance with the least space that still holds it, or
into a new one. Ties are settled here so that the answer is one on every machine: equal documents in the order they are
given (a stable sort), equal instances in the order in which they came to have that space. OLMo-core's packer settles
instances so too, and documents by a sort that differs between processors. Ties change what instances hold and never how
many there are, for which a histogram of the lengths is enough.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from castore.format.samples import offsets_of
from castore.train.exact_fit import exact_fit

Ints = NDArray[np.int64]

Step = tuple[int, int, int]
"""First instance, instances, and how many of the next documents each of them takes."""


@dataclass(frozen=True, slots=True)
class Packed:
    """Documents by instance.

    Attributes:
        documents: Numbers of the documents, instance after instance, longest first in each: int64[n].
        counts: Documents in each instance, int64[instances].
    """

    documents: Ints
    counts: Ints


def best_fit(lengths: Ints, capacity: int) -> Packed:
    """Pack documents into instances of ``capacity`` tokens.

    What is done for each document is done by numpy at once; the rest, for each step of ``_Spaces``.

    Args:
        lengths: Tokens of each document, from 1 to ``capacity``: int64[n].
        capacity: Tokens of an instance.
    """
    if not len(lengths):
        return Packed(np.zeros(0, np.int64), np.zeros(0, np.int64))
    spaces = _filled(_histogram(lengths), capacity)
    return _placed(lengths, capacity, spaces.steps, spaces.opened)


def best_fit_instances(counts: Mapping[int, int], capacity: int) -> int:
    """How many instances ``best_fit`` makes.

    Args:
        counts: Number of documents by length in tokens, lengths from 1 to ``capacity``.
        capacity: Tokens of an instance.
    """
    return _filled(counts, capacity).opened


def tight_fit(lengths: Ints, capacity: int) -> Packed:
    """Pack by best fit, or closer where best fit takes a thousandth more instances than the tokens call for.

    Arguments and result are those of ``best_fit``; there are never more instances than it makes.
    """
    packed = best_fit(lengths, capacity)
    needed = -(-int(lengths.sum()) // capacity)
    if (len(packed.counts) - needed) * 1000 <= needed:
        return packed
    fillings = exact_fit(_histogram(lengths), capacity)
    opened = sum(times for _, times in fillings)
    if opened >= len(packed.counts):
        return packed
    steps, first = [], 0
    for filling, times in fillings:
        steps += [(-length, first, times, each) for length, each in filling.items()]
        first += times
    return _placed(lengths, capacity, [step[1:] for step in sorted(steps)], opened)


def _filled(counts: Mapping[int, int], capacity: int) -> _Spaces:
    """Documents by length, all of them placed."""
    spaces = _Spaces(capacity)
    for length, count in sorted(counts.items(), reverse=True):
        assert length >= 1, "a document without tokens"
        assert length <= capacity, f"a document of {length} tokens for instances of {capacity}"
        spaces.place(length, count)
    return spaces


def _histogram(lengths: Ints) -> dict[int, int]:
    """Number of documents by length."""
    counts = np.bincount(lengths)
    occurring = np.flatnonzero(counts)
    return dict(zip(occurring.tolist(), counts[occurring].tolist(), strict=True))


def _placed(lengths: Ints, capacity: int, steps: list[Step], opened: int) -> Packed:
    """Documents, longest first, where the steps put them one after the other."""
    firsts, instances, each = (np.array(column, np.int64) for column in zip(*steps, strict=True))
    visited = np.arange(instances.sum()) + np.repeat(firsts - offsets_of(instances)[:-1], instances)
    placed = np.repeat(visited, np.repeat(each, instances))
    by_instance = np.argsort(placed, kind="stable")
    return Packed(_longest_first(lengths, capacity)[by_instance], np.bincount(placed, minlength=opened))


def _longest_first(lengths: Ints, capacity: int) -> Ints:
    """Numbers of the documents by falling length, equal ones as they came: int64[n]."""
    # numpy sorts 16 bits by counting, several times faster than anything wider.
    keys = (capacity - lengths).astype(np.uint16 if capacity < 1 << 16 else np.int64)
    return np.argsort(keys, kind="stable")


class _Spaces:
    """Instances by the tokens that are free in them, and what was placed where.

    Documents of one length are placed together: the instance that took one of them is the best fit for the next as long
    as it holds another, so consecutive documents fill consecutive instances. Instances with equal space are kept as
    ranges of their numbers, and a step places as many documents as a range holds: at least one; on real lengths,
    hundreds.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._free: dict[int, deque[tuple[int, int]]] = {}  # by space: ranges of instances, first come first
        self._sorted: list[int] = []
        self.steps: list[Step] = []
        self.opened = 0
        """Instances so far."""

    def place(self, length: int, count: int) -> None:
        """Place ``count`` documents of one length, none of which is longer than any placed before."""
        while count:
            at = bisect_left(self._sorted, length)
            if at < len(self._sorted):
                space = self._sorted[at]
                ranges = self._free[space]
                lo, hi = ranges.popleft()
                if not ranges:
                    del self._sorted[at], self._free[space]
            else:
                space, lo = self._capacity, self.opened
                self.opened = hi = lo - (-count // (space // length))
            count -= self._fill(lo, hi, space, length, count)

    def _fill(self, lo: int, hi: int, space: int, length: int, count: int) -> int:
        """Fill instances ``lo`` to ``hi``, which have ``space``, in turn; the number of documents placed."""
        each = space // length
        full = min(count // each, hi - lo)
        placed = full * each
        if full:
            self.steps.append((lo, full, each))
            self._add(space - each * length, lo, lo + full)
            lo += full
        if lo < hi and placed < count:
            rest = count - placed
            self.steps.append((lo, 1, rest))
            self._add(space - rest * length, lo, lo + 1)
            placed = count
            lo += 1
        if lo < hi:  # what is left over was first in its row, and stays so
            self._add(space, lo, hi, first=True)
        return placed

    def _add(self, space: int, lo: int, hi: int, *, first: bool = False) -> None:
        if not space:
            return
        ranges = self._free.get(space)
        if ranges is None:
            ranges = self._free[space] = deque()
            insort(self._sorted, space)
        if first:
            ranges.appendleft((lo, hi))
        elif ranges and ranges[-1][1] == lo:
            ranges[-1] = (ranges[-1][0], hi)
        else:
            ranges.append((lo, hi))
