"""Sequences of 16-byte keys in one buffer, aligning them, and finding equal ones in other places.

Small sequences are aligned exactly, item by item (``castore.tree.align``), large ones without an object a key.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from castore.format.samples import sample_keys
from castore.format.schema import KEY_BYTES
from castore.read.arrays import RangeReader
from castore.tree.align import Gap, align

Ints: TypeAlias = NDArray[np.int64]

Match: TypeAlias = tuple[int, int, int]
"""``count`` items from ``a`` on and from ``b`` on that are equal pair by pair: (a, b, count)."""

LARGE = 1 << 16
"""Keys of one side from which on they are not aligned exactly, which would take an object for each."""

_READ_TOGETHER = 1 << 16
"""Stored keys that are read at once."""

MATCHES_MAX = 1 << 17
"""Matches up to which the heaviest ascending ones are searched for; of more, the order is another one."""


class Keys(Sequence[bytes]):
    """Keys as a sequence.

    Args:
        raw: The keys, one after another.
    """

    __slots__ = ("raw",)

    def __init__(self, raw: bytes | bytearray) -> None:
        self.raw = raw

    @classmethod
    def joined(cls, parts: Iterable[bytes | bytearray]) -> Keys:
        """Keys of several buffers, one after the other; a single one is not copied."""
        listed = list(parts)
        return cls(listed[0] if len(listed) == 1 else b"".join(listed))

    @classmethod
    def stored(cls, reader: RangeReader, name: str, lo: int, hi: int) -> Keys:
        """Elements ``lo`` to ``hi`` of an array of keys."""
        raw = bytearray()
        for at in range(lo, hi, _READ_TOGETHER):
            raw += reader.elements(name, at, min(at + _READ_TOGETHER, hi)).tobytes()
        return cls(raw)

    @classmethod
    def computed(cls, reader: RangeReader, lo: int, hi: int) -> Keys:
        """The keys of samples ``lo`` to ``hi``, from their tokens."""
        raw = bytearray()
        for ids, offsets in reader.token_batches(lo, hi):
            raw += sample_keys(ids, np.diff(offsets)).tobytes()
        return cls(raw)

    def __len__(self) -> int:
        return len(self.raw) // KEY_BYTES

    @overload
    def __getitem__(self, at: int) -> bytes: ...
    @overload
    def __getitem__(self, at: slice) -> Keys: ...
    def __getitem__(self, at: int | slice) -> bytes | Keys:
        if isinstance(at, slice):
            lo, hi, _ = at.indices(len(self))
            return self if hi - lo == len(self) else Keys(self.raw[KEY_BYTES * lo : KEY_BYTES * hi])
        at = range(len(self))[at]
        return bytes(self.raw[KEY_BYTES * at : KEY_BYTES * at + KEY_BYTES])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Keys) and self.raw == other.raw

    __hash__ = None  # type: ignore[assignment]

    def listed(self) -> list[bytes]:
        """One object a key."""
        raw = bytes(self.raw)
        return [raw[at : at + KEY_BYTES] for at in range(0, len(raw), KEY_BYTES)]


def align_keys(a: Keys, b: Keys) -> list[Gap]:
    """The gaps between two sequences of keys, in order; as ``align``."""
    head, tail = _common(a.raw, b.raw)
    gap = Gap(head, len(a) - tail, head, len(b) - tail)
    a, b = a[gap.a_lo : gap.a_hi], b[gap.b_lo : gap.b_hi]
    if not len(a) or not len(b):
        return [gap] if len(a) or len(b) else []
    if max(len(a), len(b)) < LARGE:
        listed = a.listed(), b.listed()
        gaps = _in_place(*listed)
        return [found.shifted(head, head) for found in (align(*listed) if gaps is None else gaps)]
    return [found.shifted(head, head) for found in _align_large(a, b)]


def _in_place(a: list[bytes], b: list[bytes]) -> list[Gap] | None:
    """The gaps if items were only replaced by others, each in its place: the usual case, found in one pass."""
    if len(a) != len(b):
        return None
    at = [i for i, (x, y) in enumerate(zip(a, b, strict=True)) if x != y]
    if not {a[i] for i in at}.isdisjoint(b[i] for i in at):
        return None
    gaps: list[Gap] = []
    for i in at:
        if gaps and gaps[-1].a_hi == i:
            gaps[-1] = Gap(gaps[-1].a_lo, i + 1, gaps[-1].b_lo, i + 1)
        else:
            gaps.append(Gap(i, i + 1, i, i + 1))
    return gaps


def _common(a: bytes | bytearray, b: bytes | bytearray) -> tuple[int, int]:
    """Equal keys at the front, and of the others equal ones at the end."""
    most = min(len(a), len(b))
    head = _equal(most, lambda lo, hi: a[lo:hi] == b[lo:hi]) // KEY_BYTES
    most -= head * KEY_BYTES
    x, y = len(a), len(b)
    return head, _equal(most, lambda lo, hi: a[x - hi : x - lo] == b[y - hi : y - lo]) // KEY_BYTES


def _equal(most: int, same: Any) -> int:
    """The largest n up to ``most`` for which ``same(0, n)``, given that it holds for all smaller ones."""
    step, at = 1 << 10, 0
    while at < most and same(at, min(at + step, most)):
        at, step = min(at + step, most), min(2 * step, 1 << 20)
    hi = min(at + step, most)
    while at < hi:  # the first unequal byte is in [at, hi)
        middle = (at + hi + 1) // 2
        if same(at, middle):
            at = middle
        else:
            hi = middle - 1
    return at


def matched(a: Keys, b: Keys) -> list[Match]:
    """Keys that both sides have, wherever, as matches that ascend in ``a``: the n-th of equal ones with the n-th."""
    at_a, at_b = _equal_places(_words(a), _words(b), unique=False)
    return _matches(at_a, at_b)


def _align_large(a: Keys, b: Keys) -> list[Gap]:
    """Unique keys as landmarks, as many as ascend on both sides; the rest is aligned between them."""
    matches = _matches(*_equal_places(_words(a), _words(b), unique=True))
    if len(matches) == 0 or len(matches) > MATCHES_MAX:
        return [Gap(0, len(a), 0, len(b))]
    gaps: list[Gap] = []
    a_at = b_at = 0
    for i, j, count in [*_heaviest(matches), (len(a), len(b), 0)]:
        if i > a_at or j > b_at:
            gap = Gap(a_at, i, b_at, j)
            small = max(i - a_at, j - b_at) < LARGE
            inner = align(a[a_at:i].listed(), b[b_at:j].listed()) if small else [Gap(0, i - a_at, 0, j - b_at)]
            gaps.extend(found.shifted(gap.a_lo, gap.b_lo) for found in inner)
        a_at, b_at = i + count, j + count
    return gaps


def _words(keys: Keys) -> NDArray[np.uint64]:
    """Keys as pairs of words: uint64[n, 2]."""
    return np.frombuffer(keys.raw, "<u8").reshape(-1, 2)


def _equal_places(a: NDArray[np.uint64], b: NDArray[np.uint64], *, unique: bool) -> tuple[Ints, Ints]:
    """Places of equal keys, ascending in ``a``: int64[m] each. With ``unique``, of keys that each side has once."""
    inside_a, inside_b = _shared(a[:, 0], b[:, 0])
    a, b = a[inside_a], b[inside_b]
    order_a, order_b = np.argsort(a[:, 0], kind="stable"), np.argsort(b[:, 0], kind="stable")
    sorted_a, sorted_b = a[order_a, 0], b[order_b, 0]
    at = np.arange(len(a))
    heads = np.searchsorted(sorted_a, sorted_a)
    spots = np.searchsorted(sorted_b, sorted_a) + (at - heads)
    inside = spots < len(b)
    inside[inside] = sorted_b[spots[inside]] == sorted_a[inside]
    if unique:
        inside &= np.searchsorted(sorted_a, sorted_a, side="right") - heads == 1
        inside &= np.searchsorted(sorted_b, sorted_a, side="right") - np.searchsorted(sorted_b, sorted_a) == 1
    places_a, places_b = order_a[inside], order_b[spots[inside]]
    whole = a[places_a, 1] == b[places_b, 1]  # sorted were the first halves
    places_a, places_b = places_a[whole], places_b[whole]
    ascending = np.argsort(places_a, kind="stable")
    return inside_a[places_a[ascending]], inside_b[places_b[ascending]]


def _shared(a: NDArray[np.uint64], b: NDArray[np.uint64]) -> tuple[Ints, Ints]:
    """Places of values that both sides have. Values are sorted alone first, several times faster than with places."""
    # By their first four bits, so that little more memory is taken than the keys take.
    parts = [_common_words(*(words[words >> np.uint64(60) == top] for words in (a, b))) for top in range(16)]
    common = np.concatenate(parts)
    if len(common) == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    return _where_in(a, common), _where_in(b, common)


def _common_words(a: NDArray[np.uint64], b: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Values that both sides have, ascending."""
    both = np.concatenate([_distinct(a), _distinct(b)])
    both.sort()
    common: NDArray[np.uint64] = both[1:][both[1:] == both[:-1]]
    return common


def _distinct(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    ordered = np.sort(words)
    return ordered[np.append(True, ordered[1:] != ordered[:-1])] if len(ordered) else ordered


def _where_in(words: NDArray[np.uint64], ordered: NDArray[np.uint64]) -> Ints:
    """Places of words that are among ordered ones."""
    spots = np.minimum(np.searchsorted(ordered, words), len(ordered) - 1)
    return np.flatnonzero(ordered[spots] == words)


def _matches(at_a: Ints, at_b: Ints) -> list[Match]:
    """Places of equal items, ascending in ``a``, as matches."""
    if len(at_a) == 0:
        return []
    breaks = (np.diff(at_a) != 1) | (np.diff(at_b) != 1)
    starts = np.concatenate([[0], np.flatnonzero(breaks) + 1])
    counts = np.diff(np.append(starts, len(at_a)))
    return list(zip(at_a[starts].tolist(), at_b[starts].tolist(), counts.tolist(), strict=True))


def _heaviest(matches: list[Match]) -> list[Match]:
    """Of matches that ascend in ``a`` those that ascend in ``b`` too and hold the most items, by a Fenwick tree."""
    ranks = {j: rank for rank, j in enumerate(sorted(j for _, j, _ in matches), 1)}
    best: list[tuple[int, int]] = [(0, -1)] * (len(matches) + 1)  # items of the best chain up to a rank, its last run
    before = [-1] * len(matches)
    top = (0, -1)
    for n, (_, j, count) in enumerate(matches):
        at, found = ranks[j] - 1, (0, -1)
        while at:
            found = max(found, best[at])
            at &= at - 1
        before[n] = found[1]
        here = found[0] + count, n
        top = max(top, here)
        at = ranks[j]
        while at < len(best):
            best[at] = max(best[at], here)
            at += at & -at
    chain = []
    n = top[1]
    while n >= 0:
        chain.append(matches[n])
        n = before[n]
    chain.reverse()
    return chain
