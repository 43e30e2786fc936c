"""Where the trees of a dataset must be cut, from its keys and lengths: the rule of ``tree.split`` over whole arrays."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from castore.tree.split import SAMPLE_BYTES, WINDOW, boundary_hashes, level_hashes

TARGET_MAX = 1 << 30
"""Largest target that fits the arithmetic here; the one in use is 2**18."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes that follow from keys and lengths.

    Attributes:
        levels: Of the chunks of grain 0 in samples, then of the nodes of each level in children; int64 arrays.
        coarse: Of the chunks of grain 1, in samples.
    """

    levels: list[NDArray[np.int64]]
    coarse: NDArray[np.int64]


def shape_of(keys: NDArray[np.uint8], lengths: NDArray[np.uint32], chunk_bytes: int, fanout: int) -> Shape:
    """The shape of all trees over samples with these keys (uint8[n, 16]) and lengths (uint32[n])."""
    hashes = boundary_hashes(keys, np.zeros(WINDOW - 1, np.uint64))
    weights = lengths.astype(np.int64) * 4 + SAMPLE_BYTES
    levels: list[NDArray[np.int64]] = []
    coarse = np.zeros(0, np.int64)
    while True:
        sizes = cut(level_hashes(hashes, len(levels)), weights, fanout if levels else chunk_bytes)
        levels.append(sizes)
        ends = np.cumsum(sizes)
        hashes = hashes[ends - 1]
        weights = np.ones(len(hashes), np.int64)
        if len(levels) == 1:
            groups = cut(level_hashes(hashes, 1), weights, fanout)
            coarse = np.diff(ends[np.cumsum(groups) - 1], prepend=0)
        if len(sizes) <= 2 * fanout:
            return Shape(levels, coarse)


def cut(hashes: NDArray[np.uint64], weights: NDArray[np.int64], target: int) -> NDArray[np.int64]:
    """Sizes of the runs of items with these 32-bit hashes and weights; ``target`` is at most ``TARGET_MAX``."""
    count = len(hashes)
    # What weighs more than two targets is a run alone, however much more.
    weight = np.minimum(weights, 2 * target + 1).astype(np.uint64)
    scaled = hashes * np.uint64(target)
    strong = np.flatnonzero(scaled < weight << np.uint64(32)).tolist()
    heavy = np.flatnonzero(weights > 2 * target).tolist()
    ranks = scaled // weight
    total = np.concatenate([[0], np.cumsum(weights)])
    sizes = []
    at = 0
    while at < count:
        size = _run(at, target, total, strong, heavy, ranks)
        sizes.append(size)
        at += size
    return np.array(sizes, np.int64)


def _run(
    at: int,
    target: int,
    total: NDArray[np.int64],
    strong: list[int],
    heavy: list[int],
    ranks: NDArray[np.uint64],
) -> int:
    """Size of the run that begins at an item."""
    count = len(ranks)
    # Items from ``first`` on may end the run; the one at ``limit`` would make it too heavy.
    first = int(np.searchsorted(total, total[at] + target // 2)) - 1
    limit = int(np.searchsorted(total, total[at] + 2 * target, side="right")) - 1
    next_heavy = bisect_left(heavy, at)
    if next_heavy < len(heavy) and heavy[next_heavy] <= limit:
        if heavy[next_heavy] == at:
            return 1
        limit, alone = heavy[next_heavy], True
    else:
        alone = False
    first = max(first, at)
    next_strong = bisect_left(strong, first)
    if next_strong < len(strong) and strong[next_strong] < limit:
        return strong[next_strong] + 1 - at
    if limit >= count or alone or first >= limit:
        return limit - at
    candidates = ranks[first:limit]
    return first + len(candidates) - int(np.argmin(candidates[::-1])) - at
