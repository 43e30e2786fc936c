"""The skeleton that the trees of a dataset must have, from its keys and lengths alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from castore.tree.split import WINDOW, boundary_hashes, cut, level_hashes, sample_weights


@dataclass(frozen=True, slots=True)
class Skeleton:
    """Sizes that follow from keys and lengths.

    Attributes:
        levels: Of the chunks of grain 0 in samples, then of the nodes of each level in children; int64 arrays.
        coarse: Of the chunks of grain 1, in samples.
    """

    levels: list[NDArray[np.int64]]
    coarse: NDArray[np.int64]


def skeleton_of(keys: NDArray[np.uint8], lengths: NDArray[np.uint32], chunk_bytes: int, fanout: int) -> Skeleton:
    """The skeleton over samples with these keys (uint8[n, 16]) and lengths (uint32[n]); targets to ``TARGET_MAX``."""
    hashes = boundary_hashes(keys, np.zeros(WINDOW - 1, np.uint64))
    weights = sample_weights(lengths)
    levels: list[NDArray[np.int64]] = []
    coarse = np.zeros(0, np.int64)
    while True:
        target = fanout if levels else chunk_bytes
        sizes = np.array(cut(level_hashes(hashes, len(levels)), weights, target), np.int64)
        levels.append(sizes)
        ends = np.cumsum(sizes)
        hashes = hashes[ends - 1]
        weights = np.ones(len(hashes), np.int64)
        if len(levels) == 1:
            groups = cut(level_hashes(hashes, 1), weights, fanout)
            coarse = np.diff(ends[np.cumsum(groups, dtype=np.int64) - 1], prepend=0)
        if len(sizes) <= 2 * fanout:
            return Skeleton(levels, coarse)
