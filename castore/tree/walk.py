"""Going down a tree: children of a node, leaves of a range, everything reachable. Pure Python, no numpy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from castore.errors import CorruptionError
from castore.format.digest import Digest, digest_hex
from castore.format.manifest import Root
from castore.format.node import Entry, decode_node
from castore.format.schema import Array

Fetch: TypeAlias = Callable[[Digest], bytes]
"""Gives the verified canonical bytes of an object."""


class Tree(NamedTuple):
    """One array of a manifest or run record."""

    array: Array
    root: Root


class Leaf(NamedTuple):
    """A chunk in its place: first sample and first element of it in the whole sequence."""

    start: int
    item_start: int
    entry: Entry

    @property
    def stop(self) -> int:
        """One past its last sample."""
        return self.start + self.entry.samples


def ahead(fetch: Fetch, digests: Iterable[Digest]) -> None:
    """Tell a ``fetch`` what it will be asked for, if it can make use of that: it then reads it in parallel."""
    hint = getattr(fetch, "ahead", None)
    if hint is not None:
        hint(digests)


# A walk to one sample passes the same nodes as the one before it, and decoding one takes longer than reading it.
_decoded = lru_cache(maxsize=256)(decode_node)


def children(fetch: Fetch, entry: Entry, level: int) -> list[Entry]:
    """The children of the node that ``entry`` names and that is at ``level``.

    Raises:
        CorruptionError: The node's counts are not those that its parent states.
    """
    below = _decoded(fetch(entry.digest), level)
    if sum(e.samples for e in below) != entry.samples or sum(e.items for e in below) != entry.items:
        raise CorruptionError(f"node {digest_hex(entry.digest)} holds other counts than its parent states")
    return below


def leaves(fetch: Fetch, tree: Tree, lo: int = 0, hi: int | None = None) -> Iterator[Leaf]:
    """Chunks that hold samples ``lo`` to ``hi`` (all by default), in order; reads no node outside that range."""
    hi = tree.root.samples if hi is None else hi
    if lo < hi:
        yield from _leaves(fetch, tree.root.entries, tree.root.level, tree.array.grain, Leaf(0, 0, _NOTHING), lo, hi)


_NOTHING = Entry(Digest(b""), 0, 0)


def _leaves(
    fetch: Fetch, entries: Sequence[Entry], level: int, grain: int, at: Leaf, lo: int, hi: int
) -> Iterator[Leaf]:
    start, item_start = at.start, at.item_start
    for entry in entries:
        if start >= hi:
            return
        if start + entry.samples > lo:
            here = Leaf(start, item_start, entry)
            if level == grain:
                yield here
            else:
                yield from _leaves(fetch, children(fetch, entry, level), level - 1, grain, here, lo, hi)
        start += entry.samples
        item_start += entry.items


def overlapping(fetch: Fetch, tree: Tree, ranges: Sequence[tuple[int, int]]) -> list[Digest]:
    """Chunks that hold samples of some ranges; the nodes of a level are asked for together."""
    level, at = tree.root.level, 0
    entries: list[tuple[Entry, int]] = []
    for entry in tree.root.entries:
        entries.append((entry, at))
        at += entry.samples
    while True:
        entries = [(e, at) for e, at in entries if any(lo < at + e.samples and at < hi for lo, hi in ranges)]
        if level <= tree.array.grain or not entries:
            return [entry.digest for entry, _ in entries]
        ahead(fetch, [entry.digest for entry, _ in entries])
        below: list[tuple[Entry, int]] = []
        for entry, at in entries:
            for child in children(fetch, entry, level):
                below.append((child, at))
                at += child.samples
        entries, level = below, level - 1


def reachable(fetch: Fetch, tree: Tree) -> Iterator[tuple[Digest, int]]:
    """Every object below a root with its level, parents before children; a chunk's level is the array's grain."""
    stack = [(entry, tree.root.level) for entry in reversed(tree.root.entries)]
    while stack:
        entry, level = stack.pop()
        yield entry.digest, level
        if level > tree.array.grain:
            stack.extend((child, level - 1) for child in reversed(children(fetch, entry, level)))
