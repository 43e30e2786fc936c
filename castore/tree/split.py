"""Where runs end: one rule for samples into chunks and for children into nodes, in integers only.

Every sample has a *boundary hash*, mixed from the keys of the last four samples. From the last cut, with ``target`` the
wanted weight of a run:

1. A sample heavier than ``2 * target`` is a run alone.
2. Once a run weighs at least ``target / 2``, it ends after the first item with ``hash32 * target < weight * 2**32``:
   one in ``target`` units of weight.
3. If the next item would bring it over ``2 * target``, it ends after the item seen since ``target / 2`` whose
   ``hash32 * target // weight`` is smallest, the last one on a tie; and right there if there is no such item.

Cuts are a function of the sequence alone and find back to each other soon after an edit: rule 2 is local, and rule 3
picks the same item from overlapping windows. ``docs/format/split.md`` has the specification,
``tests/support/reference.py`` a slow and obvious implementation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WINDOW: Final = 4
"""Samples whose keys decide a boundary. One is not enough: with two distinct samples every cut would look alike."""

CHUNK_BYTES: Final = 1 << 18
"""Wanted token bytes of a chunk: an edited row stores about 50 KiB compressed, and 19e9 tokens are 290,000 chunks."""

FANOUT: Final = 32
"""Wanted children of a node. 1e7 samples are four levels; chunks of per-sample arrays stay near 130 KiB of keys."""

SAMPLE_BYTES: Final = 32
"""Weight of a sample beside its tokens, so that runs of empty samples end too."""

TARGET_MAX: Final = 1 << 32
"""Largest wanted weight of a run for which the arithmetic fits into 64 bits."""

RULE_NAME: Final = "rank-4"

_MASK: Final = (1 << 64) - 1
_GOLDEN: Final = 0x9E3779B97F4A7C15
_MIX_1: Final = 0xBF58476D1CE4E5B9
_MIX_2: Final = 0x94D049BB133111EB


def sample_weights(lengths: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Weights of samples by their tokens: 4 bytes a token and a constant."""
    return lengths.astype("i8") * 4 + SAMPLE_BYTES


def boundary_hashes(keys: NDArray[np.uint8], before: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Mix the keys of each sample and of the three before it.

    Args:
        keys: uint8[n, 16], the keys of consecutive samples.
        before: uint64[3], the first 8 bytes (little-endian) of the keys of the three samples before, zero where the
            sequence begins.

    Returns:
        uint64[n]. The mixer is the finaliser of splitmix64 (Steele, Lea and Flood, 2014), applied once a key.
    """
    import numpy as np

    words = np.concatenate([before, np.ascontiguousarray(keys[:, :8]).view("<u8").ravel()]).astype(np.uint64)
    count = len(words) - (WINDOW - 1)
    state = np.zeros(count, np.uint64)
    for shift in range(WINDOW):
        state = _mix_array(state ^ words[shift : shift + count])
    return state


def level_hashes(boundary_hashes: NDArray[np.uint64], level: int) -> NDArray[np.uint64]:
    """The 32-bit hashes that decide at a level, uint64[n]; salted, so that levels cut independently."""
    import numpy as np

    return _mix_array(boundary_hashes + np.uint64((level + 1) * _GOLDEN & _MASK)) >> np.uint64(32)


def _mix_array(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    import numpy as np

    state = (state ^ (state >> np.uint64(30))) * np.uint64(_MIX_1)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(_MIX_2)
    return state ^ (state >> np.uint64(31))


def cut(hashes32: NDArray[np.uint64], weights: NDArray[np.int64], target: int, *, final: bool = True) -> list[int]:
    """Sizes of the runs of a sequence, by the rule above.

    Args:
        hashes32: uint64[n], each below 2**32.
        weights: int64[n], each at least 1.
        target: Wanted weight of a run, 1 to ``TARGET_MAX``.
        final: The sequence ends here, so that the rest is a run. If not, only runs are given that stay as they are
            whatever follows.
    """
    import numpy as np

    scaled = hashes32 * np.uint64(target)
    hits = np.flatnonzero(_is_hit(scaled, weights))
    totals = np.cumsum(weights)
    sizes, at, count = [], 0, len(weights)
    while at < count:
        before = int(totals[at - 1]) if at else 0
        # The first item that rules 2 and 3 may cut after, and the first that would be too much. Half of a target of 1
        # is nothing, which the item before the cut weighs too.
        low, over = np.searchsorted(totals, (before + target // 2, before + 2 * target + 1)).tolist()
        low = max(low, at)
        hit = int(np.searchsorted(hits, low))
        if hit < len(hits) and hits[hit] < over:
            size = int(hits[hit]) + 1 - at
        elif over == count:
            if not final:
                break
            size = count - at
        elif over == at:
            size = 1
        elif low == over or weights[over] > 2 * target:
            size = over - at
        else:
            ranks = scaled[low:over] // weights[low:over].astype(np.uint64)
            size = over - at - int(ranks[::-1].argmin())
        sizes.append(size)
        at += size
    return sizes


def _is_hit(scaled: NDArray[np.uint64], weights: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Where rule 2 lets a run end, of items with these ``hash32 * target``."""
    # The same as scaled < weight * 2**32, which may not fit.
    return (scaled >> 32).view("i8") < weights


class Splitter:
    """``cut`` of a sequence that comes in batches. Holds the items since the last cut and the latest batch.

    Args:
        target: Wanted weight of a run, 1 to ``TARGET_MAX``.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._batches: list[tuple[NDArray[np.uint64], NDArray[np.int64]]] = []  # of the items since the last cut
        self._total = 0  # their weight
        self._pending = 0

    @property
    def pending(self) -> int:
        """Items since the last cut."""
        return self._pending

    def push(self, hashes32: NDArray[np.uint64], weights: NDArray[np.int64]) -> list[int]:
        """Take items as ``cut`` does and return the sizes of the runs that are now complete, oldest first.

        The sizes count items from the last cut on, so the first run may begin with items of earlier calls.
        """
        import numpy as np

        self._append(hashes32, weights)
        if self._total < self._target // 2:
            return []
        # Items of earlier calls were looked at then: a run ends at one of these few, or because it is full.
        is_few = 2 * len(weights) < self._pending and self._total <= 2 * self._target
        if is_few and not _is_hit(hashes32 * np.uint64(self._target), weights).any():
            return []
        hashes32, weights = (np.concatenate(parts) for parts in zip(*self._batches, strict=True))
        sizes = cut(hashes32, weights, self._target, final=False)
        at = sum(sizes)
        self._clear()
        self._append(hashes32[at:].copy(), weights[at:].copy())  # a view would keep all items in memory
        return sizes

    def finish(self) -> list[int]:
        """End the sequence: the rest is a run."""
        size = self._pending
        self._clear()
        return [size] if size else []

    def _append(self, hashes32: NDArray[np.uint64], weights: NDArray[np.int64]) -> None:
        self._batches.append((hashes32, weights))
        self._total += int(weights.sum())
        self._pending += len(weights)

    def _clear(self) -> None:
        self._batches.clear()
        self._total = self._pending = 0
