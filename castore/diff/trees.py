"""Two datasets that have trees, and what differs between them, reading only that."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from castore.diff.keys import Keys, align_keys
from castore.diff.unequal_values import read_values, unequal_samples
from castore.read.columns import Columns
from castore.tree.align import Gap
from castore.tree.diff import differing, joined, unequal

FEW_STRETCHES = 8
FEW_SAMPLES = 1 << 16
"""Up to this many differing stretches and samples in them the keys are computed from the token chunks, which are read
anyway for the first of them; beyond, the array of keys costs less."""

COMPARED_TOGETHER = 1 << 14
"""Samples whose values are compared at once."""

READ_AHEAD = 16
"""Stretches whose chunks are asked for together."""


class TreePair:
    """Two datasets, compared down their trees.

    Args:
        a, b: The datasets; their ``fetch`` may be of two repositories.
    """

    def __init__(self, a: Columns, b: Columns) -> None:
        self.a, self.b = a, b

    def equal(self) -> bool:
        """Whether all arrays are equal, and the orders."""
        return self.a.root == self.b.root

    def same(self, name: str) -> bool:
        """Whether an array is equal, element by element: one comparison."""
        return self.a.manifest.arrays.get(name) == self.b.manifest.arrays.get(name)

    def gaps(self) -> Iterator[tuple[Gap, Keys, Keys]]:
        """Samples whose tokens differ or that only one side has, in order, with their keys on both sides."""
        a, b = self.a, self.b
        stretches = self._stretches()
        samples = sum(max(stretch.a_hi - stretch.a_lo, stretch.b_hi - stretch.b_lo) for stretch in stretches)
        few = len(stretches) <= FEW_STRETCHES and samples <= FEW_SAMPLES
        read = ("length", "token_ids") if few else ("key",)
        for number, stretch in enumerate(stretches):
            if number % READ_AHEAD == 0:
                coming = stretches[number : number + READ_AHEAD]
                a.read_ahead(read, [(gap.a_lo, gap.a_hi) for gap in coming])
                b.read_ahead(read, [(gap.b_lo, gap.b_hi) for gap in coming])
            keys_a = _keys(a, stretch.a_lo, stretch.a_hi, few)
            keys_b = _keys(b, stretch.b_lo, stretch.b_hi, few)
            for gap in align_keys(keys_a, keys_b):
                sides = keys_a[gap.a_lo : gap.a_hi], keys_b[gap.b_lo : gap.b_hi]
                yield (gap.shifted(stretch.a_lo, stretch.b_lo), *sides)

    def _stretches(self) -> list[Gap]:
        """Stretches outside of which all samples have equal tokens, pair by pair.

        A chunk of tokens does not say where in it samples end: where chunks are equal their lengths are compared too.
        """
        a, b = self.a, self.b
        by_tokens = differing(a.fetch, a.tree("token_ids"), b.fetch, b.tree("token_ids"))
        if self.same("length"):
            return by_tokens
        out: list[Gap] = []
        a_at = b_at = 0
        for stretch in [*by_tokens, Gap(a.samples, a.samples, b.samples, b.samples)]:
            count = stretch.a_lo - a_at
            unlike = list(self.unequal("length", a_at, b_at, count))
            if unlike:
                # If most of them differ, equal tokens were a coincidence: what is around tells what stands for what.
                lo, hi = (0, count) if 2 * len(unlike) > count else (unlike[0], unlike[-1] + 1)
                out.append(Gap(a_at + lo, a_at + hi, b_at + lo, b_at + hi))
            if stretch.a_lo < a.samples or stretch.b_lo < b.samples:
                out.append(stretch)
            a_at, b_at = stretch.a_hi, stretch.b_hi
        return joined(out)

    def unequal(self, name: str, a_lo: int, b_lo: int, count: int) -> Iterator[int]:
        """Offsets of samples whose elements of an array differ, of ``count`` whose tokens do not."""
        a, b = self.a, self.b
        for lo, hi in unequal(a.fetch, a.tree(name), b.fetch, b.tree(name), a_lo, b_lo, count):
            for at in range(lo, hi, COMPARED_TOGETHER):
                some = min(COMPARED_TOGETHER, hi - at)
                values = (read_values(data, name, x + at, x + at + some) for data, x in ((a, a_lo), (b, b_lo)))
                every = np.arange(some)
                differ = unequal_samples(next(values), every, next(values), every)
                yield from (at + np.flatnonzero(differ)).tolist()


def _keys(data: Columns, lo: int, hi: int, few: bool) -> Keys:
    if not few and data.has("key"):
        return Keys.stored(data.reader, "key", lo, hi)
    return Keys.computed(data.reader, lo, hi)
