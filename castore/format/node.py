"""Nodes: the inner blocks of a tree, ``["castore/node", level, digests, sample_counts, item_counts]``.

A node at level ``n`` has children at level ``n - 1``, which are nodes, or chunks where ``n - 1`` is the grain of the
array. ``digests`` is 32 bytes a child; the counts are lists of integers, one a child (``docs/format/trees.md``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from castore.errors import FormatError
from castore.format.codec import Value, encode
from castore.format.digest import DIGEST_BYTES, Digest
from castore.format.fields import decode_list, expect, expect_count
from castore.format.object import Object

NODE_KIND = "castore/node"

CHILDREN_MAX = 4096
"""Most children of a node that a reader accepts; the split rule makes at most twice the fan-out."""

LEVEL_MAX = 32
"""Highest level that a reader accepts. 2**63 samples at the smallest fan-out stay well below it."""


class Entry(NamedTuple):
    """One child: its digest, and how many samples and elements lie below it."""

    digest: Digest
    samples: int
    items: int


def node_fields(entries: Sequence[Entry]) -> dict[str, Value]:
    """Children as three lists, the form that nodes and roots share."""
    return {
        "digests": b"".join(entry.digest for entry in entries),
        "items": [entry.items for entry in entries],
        "samples": [entry.samples for entry in entries],
    }


def node_entries(fields: Mapping[str, Value], what: str, count_max: int) -> list[Entry]:
    """Read children from their three lists.

    Raises:
        FormatError: Too many, lists that do not match, a child without samples.
    """
    raw = expect(bytes, fields.get("digests"), f"digests of the {what}")
    count = len(raw) // DIGEST_BYTES
    if len(raw) % DIGEST_BYTES or count > count_max:
        raise FormatError(f"{what} has {len(raw)} bytes of digests")
    sample_counts = expect(list, fields.get("samples"), f"sample counts of the {what}")
    item_counts = expect(list, fields.get("items"), f"item counts of the {what}")
    if len(sample_counts) != count or len(item_counts) != count:
        raise FormatError(f"counts of the {what} do not match its children")
    entries = []
    for i in range(count):
        digest = Digest(raw[DIGEST_BYTES * i : DIGEST_BYTES * (i + 1)])
        samples, items = expect_count(sample_counts[i], "sample count"), expect_count(item_counts[i], "item count")
        if samples == 0:
            raise FormatError(f"a child of the {what} has no samples")
        entries.append(Entry(digest, samples, items))
    return entries


def encode_node(level: int, entries: Sequence[Entry]) -> Object:
    """Encode a node at ``level`` (at least 1) over its children in order."""
    if not 1 <= level <= LEVEL_MAX or not 1 <= len(entries) <= CHILDREN_MAX:
        raise FormatError(f"no node at level {level} with {len(entries)} children")
    fields = node_fields(entries)
    return Object.of(encode([NODE_KIND, level, fields["digests"], fields["samples"], fields["items"]]))


def decode_node(data: bytes, level: int) -> list[Entry]:
    """Decode a node that must be at ``level``.

    Raises:
        FormatError: Another kind or level, no child or too many, lists that do not match, a child without samples.
    """
    _, found, digests, samples, items = decode_list(data, NODE_KIND, 5)
    if found != level or type(found) is not int or not 1 <= level <= LEVEL_MAX:
        raise FormatError(f"node is at level {str(found)[:20]}, not {level} of at most {LEVEL_MAX}")
    entries = node_entries({"digests": digests, "items": items, "samples": samples}, "node", CHILDREN_MAX)
    if not entries:
        raise FormatError("node has no children")
    return entries
