"""All objects of a repository and the links between them, in arrays, and what the links promise compared with them."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from castore.care.census import Census
from castore.care.links import ANY, Facts, Link, ObjectKind, Want
from castore.format.digest import digest_hex
from castore.format.schema import GRAIN_MAX
from castore.store.object_keys import object_key

_CODES = GRAIN_MAX + 1
_TREE_KINDS = (ObjectKind.VALUES, ObjectKind.SPANS, ObjectKind.NODE)


class Graph:
    """Facts of the objects of a census, 19 bytes each, and 35 bytes a link, 51 once links are followed.

    Objects that a link names and that the census lacks are kept as missing, with a number after the census's own.
    """

    def __init__(self, census: Census) -> None:
        count = len(census)
        self.census = census
        self.kind = np.zeros(count, np.uint8)
        self.level = np.zeros(count, np.uint8)
        self.dtype = np.full(count, ANY, np.int8)
        self.samples = np.full(count, ANY, np.int64)
        self.items = np.full(count, ANY, np.int64)
        self.missing: list[bytes] = []
        self._missing_at: dict[bytes, int] = {}
        self._parents, self._children = array("q"), array("q")
        self._wants, self._levels, self._leaves = array("b"), array("b"), array("b")
        self._samples, self._items = array("q"), array("q")
        self._order = self._sorted = np.zeros(0, np.int64)

    def record(self, index: int, facts: Facts) -> None:
        """Remember what an object says."""
        self.kind[index], self.level[index], self.dtype[index] = facts.kind, facts.level, facts.dtype
        self.samples[index], self.items[index] = facts.samples, facts.items
        if facts.links:
            self._link(index, facts.links)

    def adopt(self, index: int, facts: Facts) -> None:
        """``record`` of an object that was missing."""
        more = index + 1 - len(self.kind)
        if more > 0:
            self.kind, self.level = np.pad(self.kind, (0, more)), np.pad(self.level, (0, more))
            self.dtype = np.pad(self.dtype, (0, more), constant_values=ANY)
            self.samples = np.pad(self.samples, (0, more), constant_values=ANY)
            self.items = np.pad(self.items, (0, more), constant_values=ANY)
        self.record(index, facts)

    def number(self, digest: bytes) -> int:
        """The number of an object, listed or missing."""
        return self.numbers([digest])[0]

    def name(self, index: int) -> bytes:
        """The digest with a number."""
        count = len(self.census)
        return self.missing[index - count] if index >= count else self.census.digest(index)

    def key(self, index: int) -> str:
        """The key of an object."""
        return object_key(self.name(index))  # type: ignore[arg-type]

    def numbers(self, digests: Sequence[bytes]) -> list[int]:
        """The numbers of objects, listed or missing."""
        if not digests:
            return []
        numbers: list[int] = self.census.find(b"".join(digests)).tolist()
        for i, number in enumerate(numbers):
            if number < 0:
                digest = digests[i]
                if digest not in self._missing_at:
                    self._missing_at[digest] = len(self.census) + len(self.missing)
                    self.missing.append(digest)
                numbers[i] = self._missing_at[digest]
        return numbers

    def _link(self, parent: int, links: list[Link]) -> None:
        self._children.extend(self.numbers([link.digest for link in links]))
        self._parents.extend([parent] * len(links))
        self._wants.extend(link.want for link in links)
        self._levels.extend(link.level for link in links)
        self._leaves.extend(link.leaf for link in links)
        self._samples.extend(link.samples for link in links)
        self._items.extend(link.items for link in links)

    # ---- what follows from all of them

    def links(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Parent and child of every link."""
        return _view(self._parents, np.int64), _view(self._children, np.int64)

    def ends(self, first: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """The ends of links from the ``first`` on, and whether they may be more than chunks.

        A link to level 0 ends at a chunk; one to level 1 may end at one, and chunks of that level are few.
        """
        inner = (_view(self._levels, np.int8)[first:] >= 1) | (_view(self._wants, np.int8)[first:] != Want.TREE)
        return _view(self._children, np.int64)[first:], inner

    def nodes_of(self, first: int, grain: NDArray[np.int8]) -> NDArray[np.int64]:
        """The manifests and nodes among the ends of links from the ``first`` on: what chunks are reached by.

        Args:
            first: Number of a link.
            grain: By object, the grain of the array that it is in, as far as that is known; set for these ends.
        """
        parents, children = (ends[first:] for ends in self.links())
        levels, leaves = _view(self._levels, np.int8)[first:], _view(self._leaves, np.int8)[first:]
        wants = _view(self._wants, np.int8)[first:]
        own = np.where(leaves != ANY, leaves % _CODES, grain[np.minimum(parents, len(grain) - 1)])
        listed = children < len(grain)
        grain[children[listed]] = own[listed]
        found: NDArray[np.int64] = children[(wants == Want.MANIFEST) | ((wants == Want.TREE) & (levels > own))]
        return found

    def below(
        self, numbers: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """The links of some nodes, in order: how many each has, then number, samples and items of all ends."""
        at, counts = self._links_of(numbers)
        samples, items = _view(self._samples, np.int64), _view(self._items, np.int64)
        return counts, self.links()[1][at], samples[at], items[at]

    def is_known(self, numbers: NDArray[np.int64]) -> bool:
        """Whether all of some objects were read."""
        if (numbers < 0).any() or (numbers >= len(self.kind)).any():
            return False
        return bool((self.kind[numbers] != ObjectKind.UNREAD).all())

    def _links_of(self, numbers: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Places of the links of some objects, one object after the other, and how many each has."""
        if len(self._parents) != len(self._order):
            parents = self.links()[0]
            self._order = np.argsort(parents, kind="stable")
            self._sorted = parents[self._order]
        lo = np.searchsorted(self._sorted, numbers)
        counts = np.searchsorted(self._sorted, numbers, side="right") - lo
        starts = np.repeat(lo - (np.cumsum(counts) - counts), counts)
        return self._order[starts + np.arange(int(counts.sum()))], counts

    def reached(self, start: list[int]) -> NDArray[np.bool_]:
        """Whether an object is reached from the given ones, by number, missing ones included."""
        seen = np.zeros(len(self.census) + len(self.missing), np.bool_)
        seen[start] = True
        children = self.links()[1]
        frontier = np.unique(np.array(start, np.int64))
        while len(frontier):
            below = np.unique(children[self._links_of(frontier)[0]])
            frontier = below[~seen[below]]
            seen[frontier] = True
        return seen

    def broken_links(self) -> Iterator[tuple[str, int, str]]:
        """Links whose ends are not what is said of them: name of the finding, number of the parent, what is wrong.

        Ends that are missing or were not read are passed over.
        """
        parents, children = self.links()
        known = children < len(self.kind)
        known[known] = self.kind[children[known]] != ObjectKind.UNREAD
        rows = np.flatnonzero(known)
        if not len(rows):
            return
        ends = {
            "parent": parents[rows],
            "child": children[rows],
            "want": _view(self._wants, np.int8)[rows],
            "level": _view(self._levels, np.int8)[rows].astype(np.int64),
            "leaf": _view(self._leaves, np.int8)[rows].astype(np.int64),
            "samples": _view(self._samples, np.int64)[rows],
            "items": _view(self._items, np.int64)[rows],
        }
        kind = self.kind[ends["child"]]
        is_tree = ends["want"] == Want.TREE
        right_kind = np.where(
            is_tree,
            np.isin(kind, _TREE_KINDS),
            np.where(
                ends["want"] == Want.ORDER,
                kind == ObjectKind.VALUES,
                np.where(ends["want"] == Want.MANIFEST, kind == ObjectKind.MANIFEST, kind == ObjectKind.FILE),
            ),
        )
        yield from self._told("wrong-kind", ~right_kind, ends, "names {child}, which is of another kind")
        is_node = kind == ObjectKind.NODE
        wrong_level = (
            is_tree
            & right_kind
            & np.where(is_node, self.level[ends["child"]] != ends["level"], ends["level"] > GRAIN_MAX)
        )
        yield from self._told("node-wrong-level", wrong_level, ends, "names {child}, which is not at the level below")
        counted = right_kind & (ends["samples"] != ANY)
        items = self.items[ends["child"]]
        differ = (self.samples[ends["child"]] != ends["samples"]) | (
            (items != ANY) & (ends["items"] != ANY) & (items != ends["items"])
        )
        yield from self._told("wrong-counts", counted & differ, ends, "states other counts of {child} than it holds")
        yield from self._mixed(ends, is_tree & right_kind & ~wrong_level, is_node)

    def _mixed(self, ends: dict[str, Any], rows: Any, is_node: Any) -> Iterator[tuple[str, int, str]]:
        """Nodes and roots above chunks of more than one element type or level."""
        code = np.full(len(self.kind), ANY, np.int64)  # of the chunks below a node
        mixed = np.zeros(len(self.kind), np.bool_)
        found = np.where(is_node, ANY, self.dtype[ends["child"]].astype(np.int64) * _CODES + ends["level"])
        parent_level = self.level[ends["parent"]].astype(np.int64)
        from_node = self.kind[ends["parent"]] == ObjectKind.NODE
        for level in np.unique(parent_level[from_node]).tolist():
            here = np.flatnonzero(rows & from_node & (parent_level == level))
            codes = np.where(is_node[here], code[ends["child"][here]], found[here])
            here, codes = here[codes != ANY], codes[codes != ANY]  # others were not read
            code[ends["parent"][here]] = codes
            mixed[ends["parent"][here[code[ends["parent"][here]] != codes]]] = True
        for index in np.flatnonzero(mixed).tolist():
            yield "node-mixed", index, "has chunks of different arrays below it"
        ended = np.where(is_node, code[ends["child"]], found)
        wrong = rows & (ends["leaf"] != ANY) & (ended != ANY) & (ended != ends["leaf"])
        yield from self._told("wrong-kind", wrong, ends, "has {child} in an array of another type")

    def _told(self, name: str, rows: Any, ends: dict[str, Any], text: str) -> Iterator[tuple[str, int, str]]:
        for at in np.flatnonzero(rows).tolist():
            child = digest_hex(self.name(int(ends["child"][at])))
            yield name, int(ends["parent"][at]), text.format(child=child)


def _view(values: array[int], dtype: Any) -> NDArray[Any]:
    return np.array(values, dtype) if values else np.zeros(0, dtype)
