"""Best-fit decreasing packing of documents into instances, each with its documents by name.

The rule is that of ``packing``, from "Fewer Truncations Improve Language Modeling" (https://arxiv.org/abs/2404.10830):
longest first, each document into the instance with the least space that still holds it. Ties are settled here so that
the answer is one on every machine: equal documents in the order they are given (a stable sort), equal instances in the
order in which they came to have that space. OLMo-core's packer settles instances so too, and documents by a sort that
differs between processors.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from castore.format.samples import offsets_of

Ints = NDArray[np.int64]


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

    Documents of one length are placed together: the instance that took one of them is the best fit for the next as long
    as it holds another, so consecutive documents fill consecutive instances. Instances with equal space are kept as
    ranges of their numbers, and a step places as many documents as a range holds. A step places at least one document;
    on real lengths, hundreds. Everything that is done for each document is done by numpy at once.

    Args:
        lengths: Tokens of each document, from 1 to ``capacity``: int64[n].
        capacity: Tokens of an instance.
    """
    if not len(lengths):
        return Packed(np.zeros(0, np.int64), np.zeros(0, np.int64))
    assert 1 <= lengths.min(), "a document without tokens"
    assert lengths.max() <= capacity, f"a document of {lengths.max()} tokens for instances of {capacity}"
    order = _longest_first(lengths, capacity)
    counts = np.bincount(lengths, minlength=capacity + 1)
    occurring = np.flatnonzero(counts)[::-1]
    spaces = _Spaces(capacity)
    for length, count in zip(occurring.tolist(), counts[occurring].tolist(), strict=True):
        spaces.place(length, count)
    instances = spaces.instances()
    by_instance = np.argsort(instances, kind="stable")
    return Packed(order[by_instance], np.bincount(instances, minlength=spaces.opened))


def _longest_first(lengths: Ints, capacity: int) -> Ints:
    """Numbers of the documents by falling length, equal ones as they came: int64[n]."""
    # numpy sorts 16 bits by counting, several times faster than anything wider.
    keys = (capacity - lengths).astype(np.uint16 if capacity < 1 << 16 else np.int64)
    return np.argsort(keys, kind="stable")


class _Spaces:
    """Instances by the tokens that are free in them, and what was placed where."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._free: dict[int, deque[tuple[int, int]]] = {}  # by space: ranges of instances, first come first
        self._sorted: list[int] = []
        self._steps: list[tuple[int, int, int]] = []  # first instance, instances, documents in each
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
        """Fill instances ``lo`` to ``hi``, which have ``space``, one after the other; the number of documents placed."""
        each = space // length
        full = min(count // each, hi - lo)
        placed = full * each
        if full:
            self._steps.append((lo, full, each))
            self._add(space - each * length, lo, lo + full)
            lo += full
        if lo < hi and placed < count:
            rest = count - placed
            self._steps.append((lo, 1, rest))
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

    def instances(self) -> Ints:
        """The instance of each document in the order they were placed."""
        firsts, instances, each = (np.array(column, np.int64) for column in zip(*self._steps, strict=True))
        visited = np.arange(instances.sum()) + np.repeat(firsts - offsets_of(instances)[:-1], instances)
        return np.repeat(visited, np.repeat(each, instances))
