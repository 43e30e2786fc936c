"""Vectors of values at their limits and one beyond, too large to be written out: as parts that are repeated."""

from __future__ import annotations

import re
import struct
from typing import Any

from castore.format.codec import ELEMENTS_MAX, Value, decode, encode
from castore.format.delta import delta_frame
from castore.format.digest import digest_of
from castore.format.manifest import ROOT_ENTRIES_MAX, Manifest, Root, SplitRule
from castore.format.node import CHILDREN_MAX, LEVEL_MAX, Entry
from castore.format.run import RUN_SOURCES_MAX, RUN_TEXT_BYTES_MAX, Run, SourceRecord
from castore.format.schema import DATA_ARRAYS
from castore.store.backend import KEY_BYTES_MAX, PART_BYTES_MAX
from castore.store.delta import DELTA_BYTES_MAX
from castore.store.objects import OBJECT_BYTES_MAX
from castore.store.records import seal
from castore.store.refs import ENTRY_BYTES_MAX
from tests.vectors.by_hand import in_one_block

CHILD = digest_of(b"child")

BLOCK_BYTES = 1 << 17
"""The largest block of a zstd frame."""


BLOCK = (BLOCK_BYTES << 3 | 2).to_bytes(3, "little") + b"a"
"""A block of a repeated byte that others follow."""

BAD_KEYS = ("", "/a", "a/", "a//b", ".a", "a/.b", "a/..", "a\\b", "a\n", "\x7f", "ä")


def parts_of(data: bytes, *pieces: bytes) -> list[list[Any]]:
    """Bytes as parts, each with how often it is there: where one of the ``pieces`` stands twice or more, it is one."""
    found: list[list[Any]] = []
    at = 0
    for match in re.finditer(b"|".join(b"((?:%b){2,})" % re.escape(piece) for piece in pieces), data):
        piece = pieces[(match.lastindex or 1) - 1]
        found += [[data[at : match.start()].hex(), 1], [piece.hex(), len(match[0]) // len(piece)]]
        at = match.end()
    return [part for part in [*found, [data[at:].hex(), 1]] if part[0]]


def node(level: int, children: int) -> bytes:
    return encode(["castore/node", level, CHILD * children, [1] * children, [2] * children])


def manifest(entries: int) -> bytes:
    """A manifest of ``entries`` samples, each a chunk of its own of tokens."""
    fine = tuple([Entry(CHILD, 1, 2)] * entries)
    roots = {
        array.name: Root(0, fine)
        if array.grain == 0
        else Root(1, (Entry(digest_of(b"coarse"), entries, entries if array.axis == "sample" else 2 * entries),))
        for array in DATA_ARRAYS
    }
    arrays = {array.name: (array, roots[array.name]) for array in DATA_ARRAYS}
    return Manifest(entries, arrays, SplitRule("rank-4", 262144, 32), None).encode().data


def run(sources: int, text_bytes: int = 1) -> bytes:
    document = decode(Run(digest_of(b"manifest"), 0).encode().data)
    assert isinstance(document, dict)
    document["sources"] = [source(text_bytes)] * sources
    return encode(document)


def source(text_bytes: int) -> dict[str, Value]:
    return {**SourceRecord("n").value(), "name": "n" * text_bytes}


def repeated_byte(size: int) -> bytes:
    """A frame of codec 1 whose content is a byte, ``size`` times, in blocks of one repeated byte (RFC 8878)."""
    header = b"\x01\x28\xb5\x2f\xfd\xa0" + struct.pack("<I", size)
    whole, rest = divmod(size, BLOCK_BYTES)
    blocks = [BLOCK_BYTES] * whole + [rest] * (rest > 0)
    return header + b"".join(
        (length << 3 | 2 | (at == len(blocks) - 1)).to_bytes(3, "little") + b"a" for at, length in enumerate(blocks)
    )


def delta(*sizes: int) -> dict[str, Any]:
    """A frame of one byte on bases of these sizes, each a byte that is repeated, as parts."""
    contents = [b"a" * size for size in sizes]
    frame = delta_frame(tuple(map(digest_of, contents)), None, in_one_block(b"x"))
    bases = [
        [digest_of(content).hex(), parts_of(repeated_byte(len(content)), BLOCK)] for content in dict.fromkeys(contents)
    ]
    return {"parts": [[frame.hex(), 1]], "bases": bases}


def large_delta(size: int) -> dict[str, Any]:
    """A frame of a byte that is repeated, on a base of another, as parts."""
    frame = delta_frame((digest_of(b"b"),), None, repeated_byte(size)[1:])
    return {"parts": parts_of(frame, BLOCK), "bases": [[digest_of(b"b").hex(), [[b"\x00b".hex(), 1]]]]}


def entry(size: int) -> bytes:
    """An entry of a log whose record has ``size`` bytes."""

    def record(message_bytes: int) -> bytes:
        return seal(encode(["castore/ref", 1, "r", 0, None, 1, "", "m" * message_bytes, bytes(16)]))

    return record(40_000 + size - len(record(40_000)))


def limits() -> dict[str, Any]:
    """Cases by kind: what is at a limit is read, what is beyond is refused."""
    one, half = encode(source(1)), ELEMENTS_MAX // 2
    valid = [
        ("most elements in a list", "encoding", parts_of(encode([None] * ELEMENTS_MAX), b"\xc0")),
        ("most elements in two lists", "encoding", parts_of(encode([[None] * half, [None] * (half - 2)]), b"\xc0")),
        ("most children", "node", parts_of(node(1, CHILDREN_MAX), CHILD, b"\x01", b"\x02"), 1),
        ("the highest level", "node", parts_of(node(LEVEL_MAX, 1), b"\x00"), LEVEL_MAX),
        ("most entries of a root", "manifest", parts_of(manifest(ROOT_ENTRIES_MAX), CHILD, b"\x01", b"\x02")),
        ("most sources", "run", parts_of(run(RUN_SOURCES_MAX), one)),
        ("the longest text", "run", parts_of(run(1, RUN_TEXT_BYTES_MAX), b"n")),
        ("the largest record", "ref", parts_of(entry(ENTRY_BYTES_MAX), b"m")),
        ("the most content, and so the largest window", "frame", parts_of(repeated_byte(OBJECT_BYTES_MAX), BLOCK)),
    ]
    invalid = [
        ("an element too many in a list", "encoding", parts_of(encode([None] * (ELEMENTS_MAX + 1)), b"\xc0"), "format"),
        ("an element too many in two", "encoding", parts_of(encode([[None] * half] * 2), b"\xc0"), "format"),
        ("a child too many", "node", parts_of(node(1, CHILDREN_MAX + 1), CHILD, b"\x01", b"\x02"), "format", 1),
        ("a level too high", "node", parts_of(node(LEVEL_MAX + 1, 1), b"\x00"), "format", LEVEL_MAX + 1),
        ("an entry too many", "manifest", parts_of(manifest(ROOT_ENTRIES_MAX + 1), CHILD, b"\x01", b"\x02"), "format"),
        ("a source too many", "run", parts_of(run(RUN_SOURCES_MAX + 1), one), "format"),
        ("a text too long", "run", parts_of(run(1, RUN_TEXT_BYTES_MAX + 1), b"n"), "format"),
        ("a record too large", "ref", parts_of(entry(ENTRY_BYTES_MAX + 1), b"m"), "corruption"),
        ("content of a byte too many", "frame", parts_of(repeated_byte(OBJECT_BYTES_MAX + 1), BLOCK), "corruption"),
    ]
    most = DELTA_BYTES_MAX
    deltas = [
        {"name": "the most content on a base", "kind": "frame", **large_delta(most)},
        {"name": "the largest base", "kind": "frame", **delta(most)},
        {"name": "the largest bases together", "kind": "frame", **delta(most // 2, most // 2 - 1, 1)},
    ]
    wrong = {"kind": "frame", "error": "corruption"}
    deltas_invalid = [
        {"name": "content of a byte too many on a base", **wrong, **large_delta(most + 1)},
        {"name": "a base of a byte too many", **wrong, **delta(most + 1)},
        {"name": "bases of a byte too many together", **wrong, **delta(most // 2, most // 2, 1)},
    ]
    part, whole = "p" * PART_BYTES_MAX, "/".join(["k" * 204] * 5)
    return {
        "about": "docs/format/errors.md#limits. The bytes of a case are its parts one after another, each hexadecimal "
        "and with how often it is there; bases are [digest, parts] of what a frame needs. A ref is entry 0 of r.",
        "valid": [*(dict(zip(("name", "kind", "parts", "level"), case, strict=False)) for case in valid), *deltas],
        "invalid": [
            *(dict(zip(("name", "kind", "parts", "error", "level"), case, strict=False)) for case in invalid),
            *deltas_invalid,
        ],
        "keys": {
            "valid": ["a", "a/b", "a b", "~!", f"a/{part}", whole],
            "invalid": [*BAD_KEYS, f"a/{part}p", whole + "k"],
        },
    }


assert KEY_BYTES_MAX == 5 * 204 + 4
