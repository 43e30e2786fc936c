"""Two datasets that have trees, and what differs between them, reading only that."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from blake3 import blake3

from castore.diff.keys import Keys, Run, align_keys
from castore.format.schema import KEY_BYTES
from castore.read.columns import Columns
from castore.tree.align import Gap
from castore.tree.diff import differing, joined, unequal
from castore.tree.walk import Tree

FEW_STRETCHES = 8
FEW_SAMPLES = 1 << 16
"""Up to this many differing stretches and samples in them the keys are computed from the token chunks, which are read
anyway for the first of them; beyond, the array of keys costs less."""

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
            unlike = list(self.changed("length", a_at, b_at, count))
            if unlike:
                # If most of them differ, equal tokens were a coincidence: what is around tells what stands for what.
                lo, hi = (0, count) if 2 * len(unlike) > count else (unlike[0], unlike[-1] + 1)
                out.append(Gap(a_at + lo, a_at + hi, b_at + lo, b_at + hi))
            if stretch.a_lo < a.samples or stretch.b_lo < b.samples:
                out.append(stretch)
            a_at, b_at = stretch.a_hi, stretch.b_hi
        return joined(out)

    def changed(self, name: str, a_lo: int, b_lo: int, count: int) -> Iterator[int]:
        """Offsets of samples whose elements of an array differ, of ``count`` whose tokens do not."""
        tree_a, tree_b = self.a.tree(name), self.b.tree(name)
        for lo, hi in unequal(self.a.fetch, tree_a, self.b.fetch, tree_b, a_lo, b_lo, count):
            values_a = _elements(self.a, tree_a, a_lo + lo, a_lo + hi)
            values_b = _elements(self.b, tree_b, b_lo + lo, b_lo + hi)
            for i, (x, y) in enumerate(zip(values_a, values_b, strict=True)):
                if x != y:
                    yield lo + i

    def relabelled(self, name: str, runs: Sequence[Run]) -> Iterator[tuple[int, int]]:
        """Samples in other places whose elements of an array differ."""
        from castore.diff.reordered import relabelled, whole_column

        yield from relabelled(whole_column(self.a, name), whole_column(self.b, name), runs)


def _keys(data: Columns, lo: int, hi: int, few: bool) -> Keys:
    if not few and data.has("key"):
        return Keys(data.key_bytes("key", lo, hi))
    return Keys.joined(sample_key(tokens) for tokens in data.token_ids(lo, hi))


def sample_key(token_ids: Sequence[int]) -> bytes:
    """The key of one sample: BLAKE3 of its token ids as little-endian uint32, cut to 16 bytes."""
    if isinstance(token_ids, memoryview) and memoryview(b"\1\0").cast("H")[0] == 1:
        data: bytes | memoryview = token_ids.cast("B")
    else:
        data = b"".join(token.to_bytes(4, "little") for token in token_ids)
    return blake3(data).digest(length=KEY_BYTES)


def _elements(data: Columns, tree: Tree, lo: int, hi: int) -> Sequence[object]:
    """One comparable value a sample."""
    name = tree.array.name
    if tree.array.is_spans:
        return data.spans(lo, hi, name)
    if tree.array.axis == "sample" and tree.array.dtype in ("uint32", "uint64"):
        return data.integers(name, lo, hi)
    return data.elements(name, lo, hi)
