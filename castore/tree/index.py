"""Finding the chunk of a sample or an element again and again: decoded nodes are kept. Pure Python, no numpy."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from castore.format.node import Entry
from castore.lru import LRU
from castore.tree.walk import Fetch, Leaf, Tree, children

NODES_BYTES = 64 * 1024 * 1024
"""Bytes of decoded nodes that one index keeps: those of 230,000 chunks."""

ENTRY_BYTES = 293
"""What a decoded child takes in memory: its digest, its counts and its sums (CPython 3.11, measured)."""


@dataclass(frozen=True, slots=True)
class _Children:
    """Children of a node or root, with the samples and elements before each: one more entry than children."""

    entries: Sequence[Entry]
    samples: Sequence[int]
    items: Sequence[int]

    @classmethod
    def of(cls, entries: Sequence[Entry]) -> _Children:
        return cls(
            entries,
            list(accumulate((entry.samples for entry in entries), initial=0)),
            list(accumulate((entry.items for entry in entries), initial=0)),
        )


class TreeIndex:
    """Chunks of one tree by sample or element. A look-up reads the nodes on its way once.

    Args:
        fetch: Gives verified objects.
        tree: The tree.
    """

    def __init__(self, fetch: Fetch, tree: Tree) -> None:
        self.tree = tree
        self._fetch = fetch
        self._root = _Children.of(tree.root.entries)
        self._nodes: LRU[bytes, _Children] = LRU(NODES_BYTES, lambda block: ENTRY_BYTES * len(block.entries))

    def leaf(self, sample: int) -> Leaf:
        """The chunk that holds a sample, 0 to the number of samples − 1."""
        return self._down(sample, lambda block: block.samples)

    def leaf_of_item(self, item: int) -> Leaf:
        """The chunk that holds an element, 0 to the number of elements − 1."""
        return self._down(item, lambda block: block.items)

    def leaves(self, lo: int, hi: int) -> Iterator[Leaf]:
        """Chunks that hold samples ``lo`` to ``hi``, in order."""
        while lo < hi:
            leaf = self.leaf(lo)
            yield leaf
            lo = leaf.stop

    def leaves_of_items(self, lo: int, hi: int) -> Iterator[Leaf]:
        """Chunks that hold elements ``lo`` to ``hi``, in order."""
        while lo < hi:
            leaf = self.leaf_of_item(lo)
            yield leaf
            lo = leaf.item_start + leaf.entry.items

    def _down(self, at: int, edges_of: Callable[[_Children], Sequence[int]]) -> Leaf:
        block, level, start, item_start = self._root, self.tree.root.level, 0, 0
        while True:
            edges = edges_of(block)
            # Of chunks that begin at the same element all but the last are empty.
            i = bisect_right(edges, at, hi=len(edges) - 1) - 1
            at -= edges[i]
            start += block.samples[i]
            item_start += block.items[i]
            entry = block.entries[i]
            if level == self.tree.array.grain:
                return Leaf(start, item_start, entry)
            block = self._children(entry, level)
            level -= 1

    def _children(self, entry: Entry, level: int) -> _Children:
        block = self._nodes.get(entry.digest)
        if block is None:
            block = self._nodes.keep(entry.digest, _Children.of(children(self._fetch, entry, level)))
        return block
