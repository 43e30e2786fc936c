"""What one object says of itself and the links to the objects it names, checked as far as one object can be."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING

from castore.errors import FormatError
from castore.format.chunk import SPANS_KIND, VALUES_KIND, values_header
from castore.format.fields import kind_of
from castore.format.files import (
    DROPPED_KIND,
    FILE_KIND,
    VOCABULARY_KIND,
    decode_dropped,
    decode_file,
    decode_vocabulary,
)
from castore.format.manifest import MANIFEST_KIND, Manifest
from castore.format.node import LEVEL_MAX, NODE_KIND, Entry, decode_node
from castore.format.packing import PACKING_KIND, Packing
from castore.format.run import RUN_KIND, Run
from castore.format.schema import GRAIN_MAX, ITEM_BYTES, Array

if TYPE_CHECKING:
    from castore.format.samples import SpanColumn


class ObjectKind(IntEnum):
    """What an object is; ``UNREAD`` until it was read and found whole."""

    UNREAD = 0
    VALUES = 1
    SPANS = 2
    NODE = 3
    MANIFEST = 4
    RUN = 5
    FILE = 6


class Want(IntEnum):
    """What a link expects at its other end."""

    TREE = 0
    ORDER = 1
    MANIFEST = 2
    FILE = 3


DTYPES = ("bool", *ITEM_BYTES)
"""Element types by their number in facts and links."""

ANY = -1


@dataclass(slots=True)
class Link:
    """That one object names another, and what it says of it.

    Attributes:
        digest: The object named.
        want: What it must be.
        level: Level of a ``TREE`` link's end.
        leaf: ``leaf_code`` of the array, ``ANY`` where the object cannot know.
        samples: Samples below, ``ANY`` if that is not said.
        items: Elements below, ``ANY`` if that is not said.
    """

    digest: bytes
    want: Want
    level: int = ANY
    leaf: int = ANY
    samples: int = ANY
    items: int = ANY


@dataclass(slots=True)
class Facts:
    """What an object says.

    Attributes:
        kind: What it is.
        level: Of a node; 0 for others.
        dtype: Number of the element type of a chunk, ``ANY`` for others.
        samples: Samples in it or below it.
        items: Elements in it or below it; ``ANY`` for spans, which do not say.
        links: What it names.
        spans: Of a chunk of spans, what is in it: to find that out, it was decoded.
    """

    kind: ObjectKind
    level: int = 0
    dtype: int = ANY
    samples: int = ANY
    items: int = ANY
    links: list[Link] = field(default_factory=list)
    spans: SpanColumn | None = None


def leaf_code(dtype: int, grain: int) -> int:
    """Element type and level of the chunks of a tree as one small integer."""
    return dtype * (GRAIN_MAX + 1) + grain


def facts_of(data: bytes) -> Facts:
    """Read an object of any kind.

    Raises:
        FormatError: It is of no kind, or breaks a rule of its kind.
        UnsupportedVersionError: It is of a newer format.
    """
    header = values_header(data)
    if header is not None:
        dtype, samples, items = header
        return Facts(ObjectKind.VALUES, 0, DTYPES.index(dtype), samples, items)
    kind = kind_of(data)
    if kind == SPANS_KIND:
        from castore.format.samples import SpanColumn

        spans = SpanColumn.decode(data)
        return Facts(ObjectKind.SPANS, 0, DTYPES.index("bool"), len(spans.counts), spans=spans)
    if kind == NODE_KIND:
        return _node(data)
    if kind == MANIFEST_KIND:
        manifest = Manifest.decode(data)
        links = _roots({name: (array, root.level, root.entries) for name, (array, root) in manifest.arrays.items()})
        if manifest.order is not None:
            links += [Link(digest, Want.ORDER) for digest in manifest.order.chunks]
        return Facts(ObjectKind.MANIFEST, samples=manifest.samples, links=links)
    if kind == RUN_KIND:
        run = Run.decode(data)
        links = _roots({name: (array, root.level, root.entries) for name, (array, root) in run.provenance.items()})
        links.append(Link(run.manifest, Want.MANIFEST, samples=run.samples))
        links += [Link(digest, Want.FILE) for digest in run.files.values()]
        return Facts(ObjectKind.RUN, samples=run.samples, links=links)
    if kind == FILE_KIND:
        decode_file(data)
    elif kind == VOCABULARY_KIND:
        decode_vocabulary(data)
    elif kind == DROPPED_KIND:
        decode_dropped(data)
    elif kind == PACKING_KIND:  # what it names, its record names too
        Packing.decode(data)
    elif kind == VALUES_KIND:
        raise FormatError("a values chunk is not spelled as one is")
    else:
        raise FormatError(f"an object of the unknown kind {str(kind)[:80]!r}")
    return Facts(ObjectKind.FILE)


def _node(data: bytes) -> Facts:
    from castore.format.codec import decode

    value = decode(data)
    level = value[1] if type(value) is list and len(value) > 1 else None
    if type(level) is not int or not 1 <= level <= LEVEL_MAX:
        raise FormatError(f"a node at level {str(level)[:20]}")
    entries = decode_node(data, level)
    samples, items = sum(e.samples for e in entries), sum(e.items for e in entries)
    if max(samples, items) >> 63:  # no parent can state so many, and no array of facts holds it
        raise FormatError(f"a node with {samples} samples and {items} elements below it")
    return Facts(ObjectKind.NODE, level, ANY, samples, items, _entries(entries, level - 1, ANY))


def _roots(trees: dict[str, tuple[Array, int, tuple[Entry, ...]]]) -> list[Link]:
    links = []
    for array, level, entries in trees.values():
        links += _entries(entries, level, leaf_code(DTYPES.index(array.dtype), array.grain))
    return links


def _entries(entries: tuple[Entry, ...] | list[Entry], level: int, leaf: int) -> list[Link]:
    return [Link(entry.digest, Want.TREE, level, leaf, entry.samples, entry.items) for entry in entries]
