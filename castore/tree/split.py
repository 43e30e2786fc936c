"""Where runs end: one rule for samples into chunks and for children into nodes, in integers only.

Every sample has a *boundary hash*, mixed from the keys of the last four samples. From the last cut, with ``target`` the
wanted weight of a run:

1. A sample heavier than ``2 * target`` is a run alone.
2. Once a run weighs at least ``target / 2``, it ends after the first item with ``hash32 * target < weight * 2**32``:
   one in ``target`` units of weight.
3. If the next item would bring it over ``2 * target``, it ends after the item seen since ``target / 2`` whose
   ``hash32 * target // weight`` is smallest, the last one on a tie; and right there if there is no such item.

Cuts are a function of the sequence alone and find back to each other soon after an edit: rule 2 is local, and rule 3
picks the same item from overlapping windows. ``docs/format/trees.md`` has the specification,
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

RULE_NAME: Final = "rank-4"

_MASK: Final = (1 << 64) - 1
_GOLDEN: Final = 0x9E3779B97F4A7C15
_MIX_1: Final = 0xBF58476D1CE4E5B9
_MIX_2: Final = 0x94D049BB133111EB


def sample_weight(token_count: int) -> int:
    """Weight of a sample: its token bytes and a constant."""
    return 4 * token_count + SAMPLE_BYTES


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


def level_hash(boundary_hash: int, level: int) -> int:
    """The 32-bit hash that decides at a level; salted, so that levels cut independently."""
    return mix((boundary_hash + (level + 1) * _GOLDEN) & _MASK) >> 32


def level_hashes(boundary_hashes: NDArray[np.uint64], level: int) -> NDArray[np.uint64]:
    """``level_hash`` of many samples."""
    import numpy as np

    return _mix_array(boundary_hashes + np.uint64((level + 1) * _GOLDEN & _MASK)) >> np.uint64(32)


def mix(state: int) -> int:
    """Finaliser of splitmix64 on one integer."""
    state = ((state ^ (state >> 30)) * _MIX_1) & _MASK
    state = ((state ^ (state >> 27)) * _MIX_2) & _MASK
    return state ^ (state >> 31)


def _mix_array(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    import numpy as np

    state = (state ^ (state >> np.uint64(30))) * np.uint64(_MIX_1)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(_MIX_2)
    return state ^ (state >> np.uint64(31))


class Splitter:
    """Cuts a stream of items into runs by the rule above, holding at most one run of them."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._min = target // 2
        self._max = target * 2
        self._pending: list[tuple[int, int]] = []  # (hash32, weight) of the items since the last cut
        self._total = 0
        self._best = -1  # index in _pending of the best cut so far, -1 for none
        self._best_rank = 0

    @property
    def pending(self) -> int:
        """Items since the last cut."""
        return len(self._pending)

    def push(self, hash32: int, weight: int) -> tuple[int, ...]:
        """Take one item and return the sizes of the runs that are now complete, oldest first.

        The sizes count items from the last cut on; the item itself may be in none of them.
        """
        if not self._pending and self._total == 0 and weight <= self._max:
            return self._accept(hash32, weight)
        return self._slow_push(hash32, weight)

    def finish(self) -> tuple[int, ...]:
        """End the stream: the rest is a run."""
        size = len(self._pending)
        self._reset()
        return (size,) if size else ()

    def _accept(self, hash32: int, weight: int) -> tuple[int, ...]:
        """Append an item that fits, and cut after it if rule 2 says so."""
        self._pending.append((hash32, weight))
        self._total += weight
        if self._total < self._min:
            return ()
        scaled = hash32 * self._target
        if scaled < weight << 32:
            return self.finish()
        rank = scaled // weight
        if self._best < 0 or rank <= self._best_rank:
            self._best, self._best_rank = len(self._pending) - 1, rank
        return ()

    def _slow_push(self, hash32: int, weight: int) -> tuple[int, ...]:
        cuts: tuple[int, ...] = ()
        if weight > self._max:
            return (*self.finish(), 1)
        # After a cut at an earlier item the rest is weighed again, and may itself be over the limit.
        while self._total + weight > self._max:
            cuts += self._cut_at_best()
        return cuts + self._accept(hash32, weight)

    def _cut_at_best(self) -> tuple[int, ...]:
        size = self._best + 1 if self._best >= 0 else len(self._pending)
        rest = self._pending[size:]
        self._reset()
        cuts: tuple[int, ...] = (size,)
        for item in rest:
            cuts += self.push(*item)
        return cuts

    def _reset(self) -> None:
        self._pending = []
        self._total = 0
        self._best = -1


class BatchSplitter:
    """Cuts as ``Splitter`` does, many items at a time: for samples, which come by the thousand."""

    def __init__(self, target: int) -> None:
        import numpy as np

        self._target = target
        self._hashes = np.zeros(0, np.uint64)  # of the items since the last cut
        self._weights = np.zeros(0, np.int64)

    def push(self, hashes32: NDArray[np.uint64], weights: NDArray[np.int64]) -> list[int]:
        """Take items and return the sizes of the runs that are now complete, oldest first.

        Args:
            hashes32: uint64[n], each below 2**32.
            weights: int64[n].
        """
        import numpy as np

        hashes = self._hashes = np.concatenate([self._hashes, hashes32])
        weights = self._weights = np.concatenate([self._weights, weights])
        scaled = hashes * np.uint64(self._target)
        hits = np.flatnonzero(scaled < weights.astype(np.uint64) << np.uint64(32))
        totals = np.cumsum(weights)
        sizes, at, count = [], 0, len(weights)
        while at < count:
            before = int(totals[at - 1]) if at else 0
            # The first item that rules 2 and 3 may cut after, and the first that would be too much. Half of a target of
            # 1 is nothing, which the item before the cut weighs too.
            low, over = np.searchsorted(totals, (before + self._target // 2, before + 2 * self._target + 1)).tolist()
            low = max(low, at)
            hit = int(np.searchsorted(hits, low))
            if hit < len(hits) and hits[hit] < over:
                size = int(hits[hit]) + 1 - at
            elif over == count:
                break
            elif over == at:
                size = 1
            elif low == over or weights[over] > 2 * self._target:
                size = over - at
            else:
                ranks = scaled[low:over] // weights[low:over].astype(np.uint64)
                size = over - at - int(ranks[::-1].argmin())
            sizes.append(size)
            at += size
        self._hashes, self._weights = hashes[at:], weights[at:]
        return sizes

    def finish(self) -> list[int]:
        """End the stream: the rest is a run."""
        size = len(self._weights)
        self._hashes, self._weights = self._hashes[:0], self._weights[:0]
        return [size] if size else []
