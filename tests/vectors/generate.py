"""Prints the test vectors: ``python -m tests.vectors.generate`` writes ``tests/vectors/*.json``.

Deterministic, and compared with the committed files by ``tests/format/test_vectors.py``. A vector that changes is a
change of the format: it takes a new version, a page under ``docs/decisions/`` and a kept repository of the old kind.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from castore.dataset import Dataset
from castore.format.chunk import encode_spans, encode_values
from castore.format.code_points import UNSAFE
from castore.format.codec import Value, encode
from castore.format.digest import Digest, digest_of
from castore.format.files import DroppedRow, encode_dropped, encode_file, encode_vocabulary
from castore.format.manifest import (
    CHUNK_BYTES_MAX,
    CHUNK_BYTES_MIN,
    FANOUT_MAX,
    FANOUT_MIN,
    Manifest,
    Root,
    SplitRule,
)
from castore.format.node import Entry, encode_node
from castore.format.object import Object
from castore.format.order import Order, explicit_order
from castore.format.packing import COLUMNS, packing_name
from castore.format.run import (
    RUN_SOURCES_MAX,
    RUN_TEXT_BYTES_MAX,
    Run,
    RunConfiguration,
    RunOrigin,
    RunStatistics,
    SourceRecord,
)
from castore.format.samples import Piece, Samples, sample_keys
from castore.format.schema import DATA_ARRAYS, LENGTH, PROVENANCE_ARRAYS, TOKEN_IDS, Array
from castore.format.unit import LostColumn, Slice, Unit, recipe_digest, unit_name
from castore.store.imports import Imported, import_key, import_name
from castore.store.marker import FORMAT_VERSION
from castore.store.object_keys import object_key
from castore.store.packings import packing_key
from castore.store.records import seal
from castore.store.refs import RefEntry, entry_of_key
from castore.store.units import unit_key
from castore.store.writes import SourceTotal, Stored, write_key, write_name
from castore.train.best_fit import tight_fit
from castore.train.instances import PackingRule, pack_dataset
from castore.train.report import Rule
from castore.tree.build import SequenceBuilder
from castore.tree.split import CHUNK_BYTES, FANOUT, RULE_NAME, boundary_hashes, cut, level_hashes, sample_weights
from tests.support.strategies import piece_of
from tests.vectors import at_limits, signed
from tests.vectors import golden as golden_repository
from tests.vectors import links as unsound
from tests.vectors import packs as packs_by_hand
from tests.vectors.by_hand import in_one_block, windowed
from tests.vectors.generator import samples
from tests.vectors.values import to_json

FOLDER = Path(__file__).parent

Case = dict[str, Any]
File = dict[str, Any]


def digest(name: str) -> Digest:
    """Some digest: that of a name."""
    return digest_of(name.encode())


def u32(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}I", *numbers)


def u64(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}Q", *numbers)


def of_object(name: str, made: Object, **fields: Any) -> Case:
    return {"name": name, **fields, "hex": made.data.hex(), "digest": made.digest.hex()}


def bad(name: str, data: bytes, error: str = "format", **fields: Any) -> Case:
    return {"name": name, **fields, "hex": data.hex(), "error": error}


# ---- encoding


def encoding() -> File:
    integers = [0, 1, 127, 128, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**53, 2**63 - 1, 2**63, 2**64 - 1]
    integers += [-1, -32, -33, -128, -129, -32768, -32769, -(2**31), -(2**31) - 1, -(2**63)]
    nested: Any = 0
    for _ in range(16):
        nested = [nested]
    values: list[tuple[str, Any]] = [
        ("nil", None),
        ("false", False),
        ("true", True),
        *((f"integer {n}", n) for n in integers),
        ("empty text", ""),
        *((f"text of {n} bytes", "t" * n) for n in (1, 31, 32, 255, 256)),
        ("text beyond ASCII", "é☃😀\u0000"),
        ("empty bytes", b""),
        *((f"{n} bytes", b"b" * n) for n in (1, 31, 32, 255, 256)),
        ("empty list", []),
        *((f"list of {n}", list(range(n))) for n in (1, 15, 16)),
        ("sixteen lists in one another", nested),
        ("empty map", {}),
        *((f"map of {n}", {f"k{i:02}": i for i in range(n)}) for n in (1, 15, 16)),
        ("keys by bytes, not by length", {"": 0, "a": 1, "aa": 2, "b": 3}),
        ("keys by UTF-8, not by UTF-16", {"z": 0, "é": 1, "\ue000": 2, "\uffff": 3, "\U00010000": 4}),
        ("map in list in map", {"list": [{"digest": b"\x00\xff", "none": None}, -1]}),
    ]
    not_canonical = [
        ("1 as uint 8", "cc01"),
        ("127 as uint 8", "cc7f"),
        ("255 as uint 16", "cd00ff"),
        ("65535 as uint 32", "ce0000ffff"),
        ("2**32 - 1 as uint 64", "cf00000000ffffffff"),
        ("1 as int 8", "d001"),
        ("200 as int 16", "d100c8"),
        ("-1 as int 8", "d0ff"),
        ("-32 as int 8", "d0e0"),
        ("-128 as int 16", "d1ff80"),
        ("-32768 as int 32", "d2ffff8000"),
        ("-2**31 as int 64", "d3ffffffff80000000"),
        ("2**63 - 1 as int 64", "d37fffffffffffffff"),
        ("text of 1 byte as str 8", "d90161"),
        ("text of 1 byte as str 16", "da000161"),
        ("text of 1 byte as str 32", "db0000000161"),
        ("1 byte as bin 16", "c5000162"),
        ("1 byte as bin 32", "c60000000162"),
        ("list of 1 as array 16", "dc000101"),
        ("list of 1 as array 32", "dd0000000101"),
        ("map of 1 as map 16", "de0001a16101"),
        ("map of 1 as map 32", "df00000001a16101"),
        ("duplicate key, equal values", "82a16101a16101"),
        ("duplicate key, other values", "82a16101a16102"),
        ("keys descending", "82a16201a16101"),
        ("keys by length", "82a16201a2616102"),
        ("keys by UTF-16", "82a4f0908080" + "01" + "a3ee8080" + "02"),
        ("key as str 8", "81d9016101"),
        ("not canonical deep inside", "9181a16191cc01"),
    ]
    not_encoding = [
        ("nothing", ""),
        ("float 32", "ca3f800000"),
        ("float 64", "cb3ff0000000000000"),
        ("float 64 that is no number", "cb7ff8000000000000"),
        ("fixext 1", "d40100"),
        ("ext 8", "c7020100ff"),
        ("timestamp, an extension", "d6ff00000000"),
        ("reserved byte c1", "c1"),
        ("integer as a key", "810101"),
        ("bytes as a key", "81c4016101"),
        ("nil as a key", "81c001"),
        ("true as a key", "81c301"),
        ("list as a key", "819001"),
        ("trailing byte", "0101"),
        ("trailing garbage after a list", "9101c1"),
        ("list cut short", "9201"),
        ("map without its last value", "81a161"),
        ("integer cut short", "cd01"),
        ("text cut short", "a261"),
        ("bytes cut short", "c40261"),
        ("header cut short", "db000000"),
        ("list that claims 2**32 - 1 items", "ddffffffff"),
        ("bytes that claim 2**32 - 1", "c6ffffffff"),
        ("text that is not UTF-8", "a1ff"),
        ("text with a surrogate", "a3eda080"),
        ("text with an overlong form", "a2c080"),
        ("seventeen lists in one another", "91" * 17 + "00"),
        ("seventeen maps in one another", "81a0" * 17 + "00"),
        ("two thousand lists in one another", "91" * 2000 + "00"),
    ]
    return {
        "about": "docs/format/encoding.md. digest is BLAKE3-256 of the bytes.",
        "valid": [
            {
                "name": name,
                "value": to_json(value),
                "hex": encode(value).hex(),
                "digest": digest_of(encode(value)).hex(),
            }
            for name, value in values
        ],
        "invalid": [
            *(bad(name, bytes.fromhex(text), "not-canonical") for name, text in not_canonical),
            *(bad(name, bytes.fromhex(text)) for name, text in not_encoding),
        ],
    }


# ---- chunks


def spans_of(rows: list[list[tuple[int, int]]]) -> Object:
    """A spans chunk by the text of docs/format/chunks.md."""
    gaps, widths = [], []
    for row in rows:
        at = 0
        for start, stop in row:
            gaps.append(start - at)
            widths.append(stop - start)
            at = stop
    return encode_spans(u32(*map(len, rows)), u32(*gaps), u32(*widths))


def chunks() -> File:
    values = [
        ("three samples of 2, 0 and 1 tokens", "uint32", 3, u32(1, 2**32 - 1, 7)),
        ("one empty sample", "uint32", 1, b""),
        ("a thousand empty samples", "uint32", 1000, b""),
        ("lengths", "uint32", 3, u32(2, 0, 1)),
        ("rows", "uint64", 2, u64(0, 2**64 - 1)),
        ("keys", "bytes16", 2, bytes(range(32))),
        ("bytes", "uint8", 1, b"\x00\x01\xff"),
        ("half words", "uint16", 1, b"\x01\x00\xff\xff"),
        ("signed", "int64", 1, struct.pack("<q", -1)),
        ("single precision", "float32", 1, bytes.fromhex("0000803f")),
        ("double precision", "float64", 1, bytes.fromhex("000000000000f03f")),
    ]
    spans: list[tuple[str, list[list[tuple[int, int]]]]] = [
        ("one sample without spans", [[]]),
        ("one span from the start", [[(0, 5)]]),
        ("one span later", [[(3, 5)]]),
        ("two spans, the first from the start", [[(0, 1), (2, 4)]]),
        ("samples with 0, 1 and 3 spans", [[], [(2, 3)], [(1, 2), (3, 5), (9, 10)]]),
        ("spans of neighbouring samples do not touch", [[(0, 2)], [(0, 2)]]),
        ("a span that ends at 2**32 - 1", [[(0, 1), (2**32 - 2, 2**32 - 1)]]),
    ]
    values_bad = [
        ("another dtype than the array's", encode(["castore/values", "uint64", 1, u64(1)])),
        ("a spans chunk", spans_of([[]]).data),
        ("payload of no whole elements", encode(["castore/values", "uint32", 1, b"\x00\x00\x00"])),
        ("payload is text", encode(["castore/values", "uint32", 1, "abcd"])),
        ("count is text", encode(["castore/values", "uint32", "1", b""])),
        ("count is true", encode(["castore/values", "uint32", True, b""])),
        ("count is negative", encode(["castore/values", "uint32", -1, b""])),
        ("count beyond 2**63 - 1", encode(["castore/values", "uint32", 2**63, b""])),
        ("an element too many", encode(["castore/values", "uint32", 1, b"", None])),
        ("an element too few", encode(["castore/values", "uint32", 1])),
        ("another kind", encode(["castore/value", "uint32", 1, b""])),
        ("a map", encode({"kind": "castore/values"})),
        ("an empty list", encode([])),
        ("nil", encode(None)),
    ]
    spans_bad = [
        ("a values chunk", encode_values("uint32", 1, b"").data),
        ("spans that touch", encode(["castore/spans", 1, u32(2) + u32(0, 0) + u32(1, 1)])),
        ("spans that touch, later sample", encode(["castore/spans", 2, u32(1, 3) + u32(0, 0, 1, 0) + u32(1, 1, 1, 1)])),
        ("a span without elements", encode(["castore/spans", 1, u32(1) + u32(3) + u32(0)])),
        ("counts above the spans", encode(["castore/spans", 1, u32(2) + u32(0) + u32(1)])),
        ("counts below the spans", encode(["castore/spans", 1, u32(1) + u32(0, 1) + u32(1, 1)])),
        ("an odd number of words", encode(["castore/spans", 1, u32(1) + u32(0, 1) + u32(1)])),
        ("payload of no whole words", encode(["castore/spans", 1, u32(0) + b"\x00"])),
        ("fewer counts than samples", encode(["castore/spans", 2, u32(0)])),
        ("samples beyond all bytes", encode(["castore/spans", 2**62, u32(0)])),
        ("a span past 2**32 - 1", encode(["castore/spans", 1, u32(1) + u32(2**32 - 1) + u32(1)])),
        ("an element too many", encode(["castore/spans", 1, u32(0), 0])),
        ("payload is text", encode(["castore/spans", 1, "abcd"])),
    ]
    return {
        "about": "docs/format/chunks.md. items is the payload of a values chunk; spans are half-open, by sample.",
        "valid": [
            *(
                of_object(n, encode_values(t, c, i), kind="values", dtype=t, samples=c, items=i.hex())
                for n, t, c, i in values
            ),
            *(of_object(name, spans_of(rows), kind="spans", spans=rows) for name, rows in spans),
        ],
        "invalid": [
            *(bad(name, data, kind="values", dtype="uint32") for name, data in values_bad),
            *(bad(name, data, kind="spans") for name, data in spans_bad),
        ],
    }


# ---- nodes


def entries(*counts: tuple[int, int]) -> list[Entry]:
    return [Entry(digest(f"child {i}"), samples_below, items) for i, (samples_below, items) in enumerate(counts)]


def nodes() -> File:
    valid = [
        ("one child", 1, entries((3, 100))),
        ("a child without elements", 1, entries((3, 0), (1, 7))),
        ("level 31", 31, entries((2**40, 2**50), (1, 1))),
        ("64 children", 2, entries(*((i + 1, 1000 * i) for i in range(64)))),
    ]
    two = digest("child 0") + digest("child 1")
    invalid = [
        ("another level", 2, encode_node(1, entries((1, 1))).data),
        ("level is true", 1, encode(["castore/node", True, two, [1, 1], [1, 1]])),
        ("level is text", 1, encode(["castore/node", "1", two, [1, 1], [1, 1]])),
        ("no children", 1, encode(["castore/node", 1, b"", [], []])),
        ("digests cut short", 1, encode(["castore/node", 1, two[:63], [1, 1], [1, 1]])),
        ("sample counts too few", 1, encode(["castore/node", 1, two, [1], [1, 1]])),
        ("item counts too many", 1, encode(["castore/node", 1, two, [1, 1], [1, 1, 1]])),
        ("a child without samples", 1, encode(["castore/node", 1, two, [1, 0], [1, 1]])),
        ("a negative count", 1, encode(["castore/node", 1, two, [1, 1], [1, -1]])),
        ("a count beyond 2**63 - 1", 1, encode(["castore/node", 1, two, [1, 2**63], [1, 1]])),
        ("a count is nil", 1, encode(["castore/node", 1, two, [1, None], [1, 1]])),
        ("an element too many", 1, encode(["castore/node", 1, two, [1, 1], [1, 1], 0])),
        ("another kind", 1, encode(["castore/knot", 1, two, [1, 1], [1, 1]])),
    ]
    return {
        "about": "docs/format/trees.md. entries are [digest, samples, items].",
        "valid": [
            of_object(
                name, encode_node(level, e), level=level, entries=[[c.digest.hex(), c.samples, c.items] for c in e]
            )
            for name, level, e in valid
        ],
        "invalid": [bad(name, data, level=level) for name, level, data in invalid],
    }


# ---- documents


def fields_of(made: Object) -> Any:
    from castore.format.codec import decode

    return decode(made.data)


def changed(made: Object, *path: str, to: Any = None, drop: bool = False) -> bytes:
    """The bytes of a document with one entry changed or dropped."""
    fields = fields_of(made)
    below = fields
    for key in path[:-1]:
        below = below[key]
    if drop:
        del below[path[-1]]
    else:
        below[path[-1]] = to
    return encode(fields)


def document(name: str, made: Object) -> Case:
    return of_object(name, made, value=to_json(fields_of(made)))


RULE = SplitRule(RULE_NAME, CHUNK_BYTES, FANOUT)


def small_manifest(order: Order | None = None) -> Manifest:
    fine, coarse = entries((2, 30), (1, 12)), entries((3, 3))
    roots = {a.name: (a, Root(a.grain, tuple(coarse if a.grain else fine))) for a in DATA_ARRAYS}
    return Manifest(3, roots, RULE, order)


def manifest() -> File:
    empty = Manifest(0, {a.name: (a, Root(0, ())) for a in DATA_ARRAYS}, RULE, None)
    below = {"token": entries((2, 0), (4, 2**40)), "sample": entries((2, 2), (4, 4))}
    tall = Manifest(6, {a.name: (a, Root(3, tuple(below[a.axis]))) for a in DATA_ARRAYS}, RULE, None)
    most = entries((2**31, 7), (2**31, 0)), entries((2**31, 2**31), (2**31, 2**31))
    roots = {a.name: (a, Root(31, tuple(most[a.axis == "sample"]))) for a in DATA_ARRAYS}
    largest = Manifest(2**32, roots, SplitRule("rank-5", CHUNK_BYTES_MAX, FANOUT_MAX), None)
    smallest = replace(small_manifest(), split=SplitRule(RULE_NAME, CHUNK_BYTES_MIN, FANOUT_MIN))
    newer = small_manifest(Order("feistel-1", 7, 3, digest("order"), 3, (digest("chunk 0"), digest("chunk 1"))))
    nothing = empty.encode()
    small, shuffled = small_manifest().encode(), small_manifest(Order.shuffled(42, 3, 2)).encode()
    order = dict(fields_of(shuffled)["order"])
    explicit = small_manifest(explicit_order(np.array([2, 0, 1]))[0])
    invalid = [
        bad("a newer format", changed(small, "format", to=2), "unsupported-version"),
        bad("format 0", changed(small, "format", to=0), "unsupported-version"),
        *(bad(f"no array {a.name}", changed(small, "arrays", a.name, drop=True)) for a in DATA_ARRAYS),
        *(
            bad(f"{name} with {entry} {value}", changed(small, "arrays", name, entry, to=value))
            for name, entry, value in (
                ("token_ids", "dtype", "uint64"),
                ("token_ids", "grain", 1),
                ("labels_mask", "dtype", "uint8"),
                ("length", "dtype", "uint64"),
                ("length", "axis", "token"),
                ("key", "dtype", "uint32"),
                ("source", "grain", 0),
            )
        ),
        bad("masks of other tokens", changed(small, "arrays", "labels_mask", "items", to=[30, 13])),
        bad("lengths of other samples", changed(small, "arrays", "length", "items", to=[4])),
        bad("chunk_bytes 1", changed(small, "split", "chunk_bytes", to=1)),
        bad("chunk_bytes 63", changed(small, "split", "chunk_bytes", to=CHUNK_BYTES_MIN - 1)),
        bad("chunk_bytes 2**26 + 1", changed(small, "split", "chunk_bytes", to=CHUNK_BYTES_MAX + 1)),
        bad("fanout 0", changed(small, "split", "fanout", to=0)),
        bad("fanout 3", changed(small, "split", "fanout", to=FANOUT_MIN - 1)),
        bad("fanout 2049", changed(small, "split", "fanout", to=FANOUT_MAX + 1)),
        *(
            bad(f"no samples, {name} at level {level}", changed(nothing, "arrays", name, "level", to=level))
            for name, level in (("token_ids", 3), ("token_ids", 1), ("key", 1))
        ),
        bad("2**32 + 1 samples", replace(largest, samples=2**32 + 1, arrays=one_more(largest)).encode().data),
        bad("an explicit order with a seed", changed(explicit.encode(), "order", "seed", to=7)),
        bad("an unknown order of half a digest", changed(newer.encode(), "order", "chunks", to=bytes(16))),
        bad("another hash", changed(small, "hash", to="sha-256"), "unsupported-version"),
        bad("no hash", changed(small, "hash", drop=True), "format"),
        bad("format is text", changed(small, "format", to="1")),
        bad("an unknown entry", changed(small, "comment", to="hello")),
        bad("another kind", changed(small, "kind", to="castore/run")),
        bad("a list", encode(["castore/manifest"])),
        bad("no samples", changed(small, "samples", drop=True)),
        bad("samples that the trees do not cover", changed(small, "samples", to=4)),
        bad("no arrays", changed(small, "arrays", drop=True)),
        bad("an array of an unknown dtype", changed(small, "arrays", "source", "dtype", to="uint128")),
        bad("an array of an unknown axis", changed(small, "arrays", "source", "axis", to="row")),
        bad("a boolean with one element a sample", changed(small, "arrays", "labels_mask", "axis", to="sample")),
        bad("grain 2", changed(small, "arrays", "source", "grain", to=2)),
        bad("a root below the grain", changed(small, "arrays", "source", "level", to=0)),
        bad("a root at level 32", changed(small, "arrays", "source", "level", to=32)),
        bad("a child of a root without samples", changed(small, "arrays", "token_ids", "samples", to=[3, 0])),
        bad("counts that do not match the digests", changed(small, "arrays", "token_ids", "items", to=[1])),
        bad("a name in upper case", changed(small, "arrays", "Source", to=fields_of(small)["arrays"]["source"])),
        bad("a name with a slash", changed(small, "arrays", "a/b", to=fields_of(small)["arrays"]["source"])),
        bad("no split rule", changed(small, "split", drop=True)),
        bad("a split rule without a name", changed(small, "split", "rule", drop=True)),
        bad("a negative target", changed(small, "split", "chunk_bytes", to=-1)),
        bad("an order of other samples", changed(small, "order", to={**order, "count": 4})),
        bad("an order that takes too many", changed(small, "order", to={**order, "take": 4})),
        bad("an order with a short digest", changed(small, "order", to={**order, "digest": bytes(31)})),
        bad("a shuffle with chunks", changed(small, "order", to={**order, "chunks": bytes(32)})),
        bad("an explicit order without chunks", changed(small, "order", to={**order, "algorithm": "explicit"})),
        bad("an explicit order with a chunk too many", changed(explicit.encode(), "order", "chunks", to=bytes(64))),
        bad("an explicit order with half a digest", changed(explicit.encode(), "order", "chunks", to=bytes(16))),
        bad("an order without a seed", changed(shuffled, "order", "seed", drop=True)),
        bad("not canonical", small.data.replace(b"\xa6format\x01", b"\xa6format\xcc\x01"), "not-canonical"),
    ]
    return {
        "about": "docs/format/manifest.md. digest is the root; roots are the digests of the arrays' own root nodes.",
        "valid": [
            {**document(name, value.encode()), "roots": array_digests(value)}
            for name, value in (
                ("no samples", empty),
                ("three samples", small_manifest()),
                ("three samples, shuffled, two used", small_manifest(Order.shuffled(42, 3, 2))),
                ("three samples, an explicit order", explicit),
                ("a tall tree", tall),
                ("the most samples, the largest targets, an unknown rule", largest),
                ("the smallest targets", smallest),
                ("an unknown order with chunks: read, not applied", newer),
            )
        ],
        "invalid": invalid,
    }


def one_more(value: Manifest) -> dict[str, tuple[Array, Root]]:
    """The arrays of a manifest with one sample more."""
    return {
        name: (
            array,
            Root(
                root.level,
                (
                    root.entries[0]._replace(
                        samples=root.entries[0].samples + 1, items=root.entries[0].items + (array.axis == "sample")
                    ),
                    *root.entries[1:],
                ),
            ),
        )
        for name, (array, root) in value.arrays.items()
    }


def array_digests(value: Manifest) -> dict[str, str | None]:
    return {name: root.digest.hex() if root.digest else None for name, (_, root) in sorted(value.arrays.items())}


def order() -> File:
    cases = []
    for seed, count, take in ((0, 0, None), (0, 1, None), (42, 10, None), (42, 1000, 600), (2**40, 7, 0)):
        made = Order.shuffled(seed, count, take)
        cases.append(
            {
                "name": f"seed {seed}, {count} samples, {made.take} used",
                "value": to_json(made.value()),
                "first": made.positions()[:20].tolist(),
            }
        )
    made, chunks_made = explicit_order(np.array([3, 1, 0, 2]))
    explicit = {
        "name": "explicit",
        "value": to_json(made.value()),
        "first": [3, 1, 0, 2],
        "chunks": [chunk.data.hex() for chunk in chunks_made],
    }
    return {
        "about": "docs/format/order.md. first are the samples at the first 20 positions (fewer if take is less).",
        "valid": cases,
        "explicit": [explicit],
        "explicit_invalid": list(explicit_invalid()),
        "draws": [draws(seed) for seed in (0, 42, 2**32 - 1, 2**32, 2**63 - 1)],
        "unknown": {"value": to_json(unknown_order().value()), "error": "unsupported-version"},
    }


def draws(seed: int) -> Case:
    """What numpy draws on the way to a permutation; 64-bit numbers are hexadecimal."""
    generator = np.random.Generator(np.random.PCG64(seed))
    bounds = [1, 2, 3, 1000, 2**16, 2**31, 2**32 - 1]
    low_first = [half for n in np.random.PCG64(seed).random_raw(4).tolist() for half in (n & (2**32 - 1), n >> 32)]
    return {
        "seed": to_json(seed),
        "seed_words": [f"{n:016x}" for n in np.random.SeedSequence(seed).generate_state(4, np.uint64).tolist()],
        "draws_64": [f"{n:016x}" for n in np.random.PCG64(seed).random_raw(8).tolist()],
        "draws_32": low_first,
        "permutation_of_12": generator.permutation(12).tolist(),
        "bounds": bounds,
        "draws_up_to_bounds": drawn_up_to(np.random.PCG64(seed), bounds),
        "digest_of_permutation_of_5000": digest_of(
            np.random.default_rng(seed).permutation(5000).astype("<u8").tobytes()
        ).hex(),
    }


def drawn_up_to(bits: Any, bounds: list[int]) -> list[int]:
    """Masked rejection, which numpy has no name for that one could call; by the halves that it draws."""
    halves = (half for n in iter(lambda: int(bits.random_raw()), None) for half in (n & (2**32 - 1), n >> 32))
    return [next(m for h in halves if (m := h & (2 ** most.bit_length() - 1)) <= most) for most in bounds]


def unknown_order() -> Order:
    return Order("feistel-1", 7, 4, digest("order"), 4, (digest("chunk 0"),))


def explicit_invalid() -> Iterator[Case]:
    """Explicit orders whose map is as it should be, and whose chunks are not."""

    def case(name: str, error: str, permutation: list[int], chunk: bytes) -> Case:
        bound = digest_of(u64(*permutation))
        value = Order("explicit", 0, 4, bound, 4, (digest_of(chunk),)).value()
        return {"name": name, "value": to_json(value), "chunks": [chunk.hex()], "error": error}

    def chunk(*numbers: int, samples: int = 4) -> bytes:
        return encode_values("uint32", samples, u32(*numbers)).data

    yield case("a sample twice", "format", [3, 1, 1, 2], chunk(3, 1, 1, 2))
    yield case("a sample that is not there", "format", [4, 1, 0, 2], chunk(4, 1, 0, 2))
    yield case("too few entries", "format", [0, 1, 2, 3], chunk(0, 1, 2, samples=3))
    yield case("too many entries", "format", [0, 1, 2, 3], chunk(0, 1, 2, 3, 0, samples=5))
    yield case("another sample count", "format", [0, 1, 2, 3], chunk(0, 1, 2, 3, samples=3))
    yield case("another dtype", "format", [0, 1, 2, 3], encode_values("uint64", 4, u64(0, 1, 2, 3)).data)
    yield case("another permutation than its digest says", "corruption", [0, 1, 2, 3], chunk(3, 1, 0, 2))


def run() -> File:
    coarse = tuple(entries((2, 2), (1, 1)))
    full = Run(
        digest("manifest"),
        3,
        {array.name: (array, Root(1, coarse)) for array in PROVENANCE_ARRAYS},
        {"max_seq_length": None, "template": digest("template"), "tokenizer": {"tokenizer.json": digest("t")}},
        RunConfiguration("tulu", "out/", 2048, 7, 2, 42, "allenai/dolma2", 100_278),
        (
            SourceRecord(
                "gsm8k.jsonl",
                "3.0",
                digest("gsm8k"),
                {"empty": 1, "nothing-trainable": 2},
                "main",
                1,
                2,
                3,
                "train",
                40,
                4,
            ),
            SourceRecord("t0.jsonl", amount="5000"),
        ),
        RunStatistics(
            3,
            42,
            4,
            {"empty": 1, "nothing-trainable": 2},
            {"cut-at-max-length": {"rows": 1, "tokens": 5}, "role-not-written": {"developer": 1, "tool": 2}},
        ),
        {"tokenizer/tokenizer.json": digest("file"), "vocabulary": digest("vocabulary")},
        RunOrigin("ada", "0.1", "engine", "a note", 1_700_000_000),
    )
    plain = Run(digest("manifest"), 3, sources=[SourceRecord("gsm8k.jsonl")], statistics=RunStatistics(3, 42, 42))
    plain = replace(plain, origin=RunOrigin("", "", "", "", 0))
    bare = Run(digest("manifest"), 0)
    made = full.encode()
    return {
        "about": "docs/format/run.md. Of the invalid ones each has one thing wrong with it.",
        "valid": [document("full", made), document("plain", plain.encode()), document("bare", bare.encode())],
        "invalid": [
            bad("a newer format", changed(made, "format", to=2), "unsupported-version"),
            bad("format 0", changed(made, "format", to=0), "unsupported-version"),
            bad("another kind", changed(made, "kind", to="castore/manifest")),
            bad("a short manifest digest", changed(made, "manifest", to=bytes(31))),
            bad("manifest as text", changed(made, "manifest", to="00" * 32)),
            bad("provenance of other samples", changed(made, "samples", to=4)),
            bad("2**32 + 1 samples", changed(bare.encode(), "samples", to=2**32 + 1)),
            bad("a file without a digest", changed(made, "files", "vocabulary", to=b"")),
            bad("files as a list", changed(made, "files", to=[])),
            bad("no recipe", changed(made, "recipe", drop=True)),
            bad("recipe as nil", changed(made, "recipe", to=None)),
            bad("an unknown entry", changed(made, "licence", to="MIT")),
            *bad_sources(plain.encode()),
            *bad_part(plain.encode(), "configuration", RunConfiguration),
            bad("no configuration", changed(made, "configuration", drop=True)),
            bad("configuration as nil", changed(made, "configuration", to=None)),
            bad("a vocabulary of no token", changed(plain.encode(), "configuration", "vocab_size", to=0)),
            bad(
                "a vocabulary of 2**63 + 1 tokens", changed(plain.encode(), "configuration", "vocab_size", to=2**63 + 1)
            ),
            *bad_part(plain.encode(), "statistics", RunStatistics),
            bad("no statistics", changed(made, "statistics", drop=True)),
            bad("what rows lost without counts", changed(made, "statistics", "lost", "role-not-written", to=3)),
            bad("what rows lost less than none", changed(made, "statistics", "lost", to={"a": {"b": -1}})),
            bad("statistics of other samples", changed(plain.encode(), "statistics", "samples", to=2)),
            bad("more trainable tokens than tokens", changed(plain.encode(), "statistics", "trainable", to=43)),
            *bad_part(plain.encode(), "origin", RunOrigin),
            bad("no origin", changed(made, "origin", drop=True)),
        ],
    }


def bad_part(made: Object, part: str, kind: type[Any]) -> list[Case]:
    """Every way in which a part of a run record can be of another type."""
    good = fields_of(made)[part]
    return [
        bad(f"{part} as a list", changed(made, part, to=[])),
        *bad_entries(part, good, kind, lambda entries: changed(made, part, to=entries)),
    ]


def bad_entries(what: str, good: Case, kind: type[Any], document_of: Callable[[Case], bytes]) -> list[Case]:
    """Documents with a map that has one entry too many, too few, or of another type.

    Args:
        what: Name of the map.
        good: The map as it should be.
        kind: The class that it is read as.
        document_of: Makes a document of a map.
    """
    found = [bad(f"{what} with an unknown entry", document_of({**good, "licence": "MIT"}))]
    for field in sorted(fields(kind), key=lambda field: field.name):
        name, type_ = field.name, str(field.type)
        values: list[tuple[str, Any]] = [("a list", [])]
        if "None" not in type_:
            values.append(("nil", None))
        if "int" in type_ and "Mapping" not in type_:
            values += [("text", "3"), ("true", True), ("-1", -1)]
        elif "str" in type_ and "Mapping" not in type_:
            values += [("bytes", b"text"), ("a number", 3)]
        elif "Digest" in type_:
            values += [("text", "00" * 32), ("a number", 3)]
        else:
            values += [("text", "none"), ("counts of -1", {"empty": -1}), ("counts as text", {"empty": "1"})]
        found.append(bad(f"{what} without {name}", document_of({k: v for k, v in good.items() if k != name})))
        found += [bad(f"{what} with {name} as {spelled}", document_of({**good, name: v})) for spelled, v in values]
    return found


def bad_sources(made: Object) -> list[Case]:
    """Every way in which the sources of a run record can be wrong."""
    good = fields_of(made)["sources"][0]
    long = "n" * (RUN_TEXT_BYTES_MAX + 1)

    def source(what: str, **entries: Any) -> Case:
        return bad(f"a source with {what}", changed(made, "sources", to=[good, {**good, **entries}]))

    return [
        bad("no sources", changed(made, "sources", drop=True)),
        bad("sources as nil", changed(made, "sources", to=None)),
        bad("sources as a map", changed(made, "sources", to={})),
        bad("a source as text", changed(made, "sources", to=["gsm8k"])),
        bad(f"more than {RUN_SOURCES_MAX} sources", changed(made, "sources", to=[None] * (RUN_SOURCES_MAX + 1))),
        *bad_entries("source", good, SourceRecord, lambda entries: changed(made, "sources", to=[good, entries])),
        source("an empty name", name=""),
        source("a name that is too long", name=long),
        source("a digest of 31 bytes", digest=bytes(31)),
        *(source(f"the amount {amount!r}", amount=amount) for amount in ("", ".", "1,5", "-1", "1e3")),
        source("an amount of 309 digits", amount="1" * 309),
        source("an amount of 401 decimals", amount="0." + "1" * 401),
        source("a count of 2**63", rows=2**63),
    ]


def unit() -> File:
    chunks_of = {"labels_mask": digest("labels"), "token_ids": digest("tokens")}
    more = {"labels_mask": digest("labels 2"), "token_ids": digest("tokens 2")}
    full = Unit(
        5,
        u32(0, 2, 3),
        u32(10, 0, 7),
        bytes(range(48)),
        9,
        [(1, "no-trainable-tokens"), (4, "bad-row: messages is missing")],
        [Slice(chunks_of, 40, 39, 40, 1234), Slice(more, 2, 0, 2, 0)],
        [
            LostColumn("cut-at-max-length", "tokens", u32(3), u32(70_000)),
            LostColumn("role-not-written", "developer", u32(0, 3), u32(1, 1)),
            LostColumn("role-not-written", "tool", u32(2), u32(4)),
        ],
    )
    nothing = Unit(1, b"", b"", b"", 0, [(0, "empty")], [])
    made = Object.of(full.encode())
    one = fields_of(made)["slices"][0]
    lost = fields_of(made)["lost"]
    recipe = {"max_seq_length": None, "template": digest("template")}
    names = [
        {
            "name": "two rows",
            "recipe": to_json(recipe),
            "recipe_digest": recipe_digest(recipe).hex(),
            "row_keys": bytes(range(32)).hex(),
            "unit_name": unit_name(recipe_digest(recipe), bytes(range(32))).hex(),
        }
    ]
    return {
        "about": "docs/format/units.md. hex is the payload of the sealed record; names are how units are found.",
        "names": [{**case, "key": unit_key(Digest(bytes.fromhex(case["unit_name"])))} for case in names],
        "valid": [
            document("five rows, two of them dropped", made),
            document("nothing kept", Object.of(nothing.encode())),
        ],
        "invalid": [
            bad("a newer format", changed(made, "format", to=2), "unsupported-version"),
            bad("format 0", changed(made, "format", to=0), "unsupported-version"),
            bad("another kind", changed(made, "kind", to="castore/run")),
            bad("a row unaccounted for", changed(made, "row_count", to=6)),
            bad("kept is no whole uint32", changed(made, "kept", to=b"\x00\x00\x00")),
            bad("a length too few", changed(made, "lengths", to=u32(1, 2))),
            bad("a key cut short", changed(made, "keys", to=bytes(47))),
            bad("nothing of what rows lost", changed(made, "lost", drop=True)),
            bad("what rows lost out of order", changed(made, "lost", to=lost[::-1])),
            bad("what rows lost twice", changed(made, "lost", to=[lost[0], lost[0]])),
            bad("what rows lost cut short", changed(made, "lost", to=[lost[0][:3]])),
            bad("a count of what rows lost too few", changed(made, "lost", to=[["a", "b", u32(0, 2), u32(1)]])),
            bad("a row that was dropped and lost something", changed(made, "lost", to=[["a", "b", u32(1), u32(1)]])),
            bad("rows that lost something descend", changed(made, "lost", to=[["a", "b", u32(2, 0), u32(1, 1)]])),
            bad("a row that lost something no times", changed(made, "lost", to=[["a", "b", u32(0), u32(0)]])),
            bad("no row that lost something", changed(made, "lost", to=[["a", "b", b"", b""]])),
            bad("rows that lost something in 3 bytes", changed(made, "lost", to=[["a", "b", bytes(3), bytes(3)]])),
            bad("slices that hold too few", changed(made, "slices", to=[one])),
            bad("an empty slice", changed(made, "slices", to=[[one[0], 40, 37, 40, 0], [one[0], 40, 1, 1, 0]])),
            bad("a slice outside its chunk", changed(made, "slices", to=[[one[0], 2, 0, 3, 0]])),
            bad("a slice of four", changed(made, "slices", to=[one[:4]])),
            bad("a chunk named by 31 bytes", changed(made, "slices", to=[[{"token_ids": bytes(31)}, 3, 0, 3, 0]])),
            bad("a dropped row without a reason", changed(made, "dropped", to=[[1], [4, "x"]])),
            bad("a dropped row without a number", changed(made, "dropped", to=[["1", "x"], [4, "x"]])),
            bad("no trainable", changed(made, "trainable", drop=True)),
        ],
    }


def write() -> File:
    chunks_of = {"labels_mask": digest("labels"), "token_ids": digest("tokens"), "weight": digest("weights")}
    full = Stored(
        [2, 1],
        [chunks_of, chunks_of],
        u32(10, 0, 7),
        bytes(range(48)),
        {"score": np.array([0.5, -0.0, np.inf], "<f8").tobytes(), "source": u32(0, 0, 1)},
        [SourceTotal("a", 2, 10, 4), SourceTotal("b", 1, 7, 0)],
    )
    made = Object.of(full.encode())
    what: Value = [{"max_seq_length": None}, [["score", "float64", "sample"]], ["a"], 262144, 32]
    return {
        "about": "docs/format/writes.md. hex is the payload of the sealed record; names are how a write is found.",
        "names": [
            {
                "name": "a write",
                "resume_key": "nightly 42",
                "what": to_json(what),
                "write_name": write_name("nightly 42", what).hex(),
                "key": write_key(write_name("nightly 42", what), 3),
            }
        ],
        "valid": [document("three samples in two chunks", made)],
        "invalid": [
            bad("a newer format", changed(made, "format", to=2), "unsupported-version"),
            bad("format 0", changed(made, "format", to=0), "unsupported-version"),
            bad("another kind", changed(made, "kind", to="castore/unit")),
            bad("a length too few", changed(made, "lengths", to=u32(1, 2))),
            bad("a key cut short", changed(made, "keys", to=bytes(47))),
            bad("chunks that hold too few", changed(made, "counts", to=[1, 1])),
            bad("an empty chunk", changed(made, "counts", to=[3, 0])),
            bad("a chunk without a count", changed(made, "counts", to=[3])),
            bad("a chunk named by 31 bytes", changed(made, "chunks", to=[{"token_ids": bytes(31)}] * 2)),
            bad("a source of three", changed(made, "sources", to=[["a", 1, 2]])),
            bad("a column that is a list", changed(made, "columns", to={"source": [0, 0, 1]})),
            bad("no sources", changed(made, "sources", drop=True)),
        ],
    }


def files() -> File:
    rows = [
        DroppedRow(0, 7, 8, "no-trainable-tokens"),
        DroppedRow(1, 0, 1, "bad-row: x"),
        DroppedRow(1, 3, 9, "bad-row: x"),
    ]
    return {
        "about": "docs/format/run.md, objects beside the data. dropped rows are [source, row, line, reason].",
        "valid": [
            of_object("an empty file", encode_file(b""), kind="file", content=""),
            of_object("a file", encode_file(b"{}\n"), kind="file", content=b"{}\n".hex()),
            of_object("no vocabulary", encode_vocabulary([]), kind="vocabulary", tokens=[]),
            of_object(
                "a vocabulary",
                encode_vocabulary([b"a", b"", b"\xc3", b" the"]),
                kind="vocabulary",
                tokens=["61", "", "c3", "20746865"],
            ),
            of_object("no dropped rows", encode_dropped([]), kind="dropped", rows=[]),
            of_object(
                "dropped rows",
                encode_dropped(rows),
                kind="dropped",
                rows=[[r.source, r.row, r.line, r.reason] for r in rows],
            ),
        ],
        "invalid": [
            bad("content is text", encode(["castore/file", ""]), kind="file"),
            bad("a file of two", encode(["castore/file", b"", b""]), kind="file"),
            bad("ends that descend", encode(["castore/vocabulary", u32(2, 1), b"ab"]), kind="vocabulary"),
            bad("ends short of the text", encode(["castore/vocabulary", u32(1), b"ab"]), kind="vocabulary"),
            bad("text without ends", encode(["castore/vocabulary", b"", b"ab"]), kind="vocabulary"),
            bad("ends of no whole uint32", encode(["castore/vocabulary", b"\x00", b""]), kind="vocabulary"),
            bad("text is text", encode(["castore/vocabulary", b"", ""]), kind="vocabulary"),
            bad("a reason that is not there", encode(["castore/dropped", ["x"], u64(0, 0, 1, 1)]), kind="dropped"),
            bad("columns of unequal length", encode(["castore/dropped", ["x"], u64(0, 0, 1)]), kind="dropped"),
            bad("a reason that is a number", encode(["castore/dropped", [1], b""]), kind="dropped"),
        ],
    }


# ---- keys, boundaries, trees


def keys() -> File:
    rows: list[tuple[int, ...]] = [(), (0,), (1,), (1, 2), (2**32 - 1,), tuple(range(300))]
    made = [sample_keys(np.array(ids, np.uint32), np.array([len(ids)], np.uint32))[0].tobytes() for ids in rows]
    return {
        "about": "docs/format/trees.md. The key of a sample from its token ids; the stored key of an object.",
        "valid": [
            {"name": f"{len(ids)} tokens from {ids[:1]}", "token_ids": list(ids), "key": key.hex()}
            for ids, key in zip(rows, made, strict=True)
        ],
        "objects": [{"digest": digest("x").hex(), "key": object_key(digest("x"))}],
    }


def boundaries() -> File:
    rows = samples(1, 400, 30)
    piece = piece_of(rows)
    hashes = boundary_hashes(piece.keys, np.zeros(3, np.uint64))
    zero = boundary_hashes(np.zeros((2, 16), np.uint8), np.zeros(3, np.uint64)).tolist()
    high = 2**32 - 1
    cuts: list[tuple[str, int, list[list[int]]]] = [
        ("nothing", 100, []),
        ("one item", 100, [[high, 10]]),
        ("an item of twice the target is not too heavy", 100, [[high, 200], [high, 1]]),
        ("an item over twice the target is alone", 100, [[high, 10], [high, 201], [high, 10]]),
        ("too heavy at the start", 100, [[0, 201], [0, 10]]),
        ("no cut below half the target", 100, [[0, 49], [high, 1], [0, 10], [0, 10]]),
        ("half of an odd target rounds down", 101, [[0, 50], [0, 50]]),
        ("just at the threshold is no cut", 100, [[0x80000000, 50], [0x7FFFFFFF, 50], [0, 50]]),
        ("smallest rank when full", 100, [[high, 40], [high, 40], [high - 9, 40], [high, 40], [high, 40], [high, 40]]),
        ("the last on a tie", 100, [[high, 40]] * 6),
        ("rank counts weight", 100, [[high, 50], [high, 60], [high, 50], [high, 50]]),
        ("no candidate: cut right there", 100, [[high, 20], [high, 190], [high, 190]]),
        ("twice the target behind others: they are cut first", 100, [[high - 9, 60], [high, 60], [high, 200]]),
        ("two cuts at once", 100, [[high, 60], [high - 9, 1], [high, 99], [high, 40], [high, 150]]),
        ("the rest is weighed again", 100, [[high - 9, 50], [high, 49], [0, 1], [high, 100], [high, 90]]),
        ("all hashes alike", 8, [[high, 1]] * 50),
        ("all hashes zero", 8, [[0, 1]] * 20),
    ]
    return {
        "about": (
            "docs/format/split.md. WARNING: a boundary that moves makes every existing repository store its data a "
            "second time. No improvement of the splitter may change these numbers; another rule takes another name."
        ),
        "hashes": {
            "generator": "tests/vectors/generator.py: samples(seed=1, count=400, mean=30); numbers are hexadecimal",
            "keys": [key.tobytes().hex() for key in piece.keys[:8]],
            "boundary": [f"{h:016x}" for h in hashes[:8].tolist()],
            "level_0": [f"{h:08x}" for h in level_hashes(hashes[:8], 0).tolist()],
            "level_1": [f"{h:08x}" for h in level_hashes(hashes[:8], 1).tolist()],
            "level_31": [f"{h:08x}" for h in level_hashes(hashes[:8], 31).tolist()],
            "boundary_of_two_zero_keys": [f"{h:016x}" for h in zero],
        },
        "cuts": [{"name": n, "target": t, "items": items, "sizes": sizes_of(items, t)} for n, t, items in cuts],
        "golden": {
            "generator": "samples(seed=1, count=400, mean=30)",
            "targets": {str(t): cut(level_hashes(hashes, 0), sample_weights(piece.lengths), t) for t in (1024, 4096)},
        },
    }


def sizes_of(items: list[list[int]], target: int) -> list[int]:
    hashes32, weights = np.array(items, np.int64).reshape(-1, 2).T
    return cut(hashes32.astype(np.uint64), weights, target)


LARGE = {"seed": 7, "count": 20_000, "mean": 50}
"""The large dataset: about a million tokens."""


def dataset() -> File:
    rows = samples(**LARGE)
    out = []
    for name, chunk_bytes, fanout in (("the rule of this version", CHUNK_BYTES, FANOUT), ("a tall tree", 2048, 8)):
        builder = SequenceBuilder(DATA_ARRAYS, chunk_bytes=chunk_bytes, fanout=fanout)
        objects = builder.add(piece_of(rows))
        roots, rest = builder.finish()
        trees = {array.name: (array, roots[array.name]) for array in DATA_ARRAYS}
        made = Manifest(len(rows), trees, SplitRule(RULE_NAME, chunk_bytes, fanout), None)
        out.append(
            {
                "name": name,
                "split": to_json(made.split.value()),
                "root": made.encode().digest.hex(),
                "arrays": array_digests(made),
                "level": roots[TOKEN_IDS.name].level,
                "level_of_lengths": roots[LENGTH.name].level,
                "objects": len({o.digest for o in [*objects, *rest]}),
                "first_cuts": [c.stop for c in builder.take_cuts()][:32],
            }
        )
    return {
        "about": "A golden root: samples of tests/vectors/generator.py, all of source 0, in stored order.",
        "generator": {**LARGE, "tokens": sum(len(ids) for ids, _ in rows)},
        "valid": out,
    }


WEIGHT, SCORE = Array("weight", "float32", "token", 0), Array("score", "float64", "sample", 1)


def extra() -> File:
    rows = samples(11, 300, 50)
    tokens = sum(len(ids) for ids, _ in rows)
    # Bit patterns, not numbers: every float there is, signed zeros, infinities and NaNs with their payloads among them.
    weight = (np.arange(tokens, dtype=np.uint32) * np.uint32(2654435761)).view("<f4")
    score = (np.arange(len(rows), dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)).view("<f8")
    arrays = (*DATA_ARRAYS, WEIGHT, SCORE)
    builder = SequenceBuilder(arrays, chunk_bytes=2048, fanout=8)
    plain = piece_of(rows)
    loaded = plain.load()
    piece = Piece(
        plain.lengths,
        plain.keys,
        {**plain.scalars, "score": score},
        lambda: Samples(loaded.lengths, {**loaded.columns, "weight": weight}),
    )
    builder.add(piece)
    roots, _ = builder.finish()
    trees = {array.name: (array, roots[array.name]) for array in arrays}
    made = Manifest(len(rows), trees, SplitRule(RULE_NAME, 2048, 8), None)
    few = np.array([0x00000000, 0x80000000, 0x7F800000, 0x7FC00001, 0x3FC00000], "<u4").tobytes()
    return {
        "about": "docs/format/chunks.md: arrays more than every dataset has. Element i of weight is the float32 with "
        "the bits i * 2654435761 mod 2**32, of score the float64 with the bits i * 0x9e3779b97f4a7c15 mod 2**64.",
        "generator": {"seed": 11, "count": 300, "mean": 50, "tokens": tokens},
        "chunk": {
            "dtype": "float32",
            "samples": 2,
            "items": few.hex(),
            "hex": encode_values("float32", 2, few).data.hex(),
        },
        "valid": [
            {
                "name": "two arrays more",
                "split": to_json(made.split.value()),
                "root": made.encode().digest.hex(),
                "arrays": array_digests(made),
            }
        ],
    }


# ---- what is stored


def split_frame(high_bits: int, prefix: int, count: int, planes: bytes) -> bytes:
    return struct.pack("<BBII", 2, high_bits, prefix, count) + in_one_block(planes)


def short_frame(prefix: int, count: int, streams: bytes) -> bytes:
    return struct.pack("<BII", 3, prefix, count) + in_one_block(streams)


def low(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}H", *numbers)


def frames() -> File:
    # The three long ones were made once by the zstd library at level 3. Encoders may differ; decoders must not.
    with_dictionary = bytes.fromhex("28b52ffd21" + "07" + "03" + "190000") + b"abc"  # RFC 8878: one byte of its id
    compressed = "0128b52ffd20607d000040636173746f7265200100b5a97001"
    compressed_h1 = (
        "0201040000005000000028b52ffd20ae0502008403686561640000f526ea4ddf74d49bc9c2bee9b310a8379d5e9285d124c64bbb72b099"
        "a5c09ae78f0e8435795cb5878007feffffffffffffff01009ea5ae0c"
    )
    compressed_h16 = (
        "0210040000003c00000028b52ffd20f4450300c2c7171f907d50fa43e90fa53f94fe50fa43e90fa53fb8bbbbbb6b5c8fddddddddf10407"
        "090b0d0f11131517191b1d1f21232527292b2d2f31333537393b3d3f41434547494b4d4f51535557595b5d5f61636567696b6d6f717375"
        "77797b03be802001007c4d4114"
    )
    nine = [1 << 16 | 5, 6, 1 << 16, 65535, 0, 7, 8, 9, 1 << 16 | 1]
    valid = [
        ("raw", b"\x00abc", b"abc"),
        ("raw, empty", b"\x00", b""),
        ("zstd, one raw block", b"\x01" + in_one_block(b"abc"), b"abc"),
        ("zstd, content size in 4 bytes", b"\x01" + in_one_block(b"abc", "I"), b"abc"),
        ("zstd, one block of a repeated byte", b"\x01" + bytes.fromhex("28b52ffd2005" + "2b000061"), b"aaaaa"),
        ("zstd, compressed", bytes.fromhex(compressed), b"castore " * 12),
        ("split, no high bits", split_frame(0, 1, 2, b"p" + low(1, 65535)), b"p" + u32(1, 65535)),
        ("split, no prefix", split_frame(0, 0, 1, low(258)), u32(258)),
        ("split, no integers", split_frame(0, 2, 0, b"pp"), b"pp"),
        (
            "split, bit 16 packed",
            split_frame(1, 2, 9, b"pp" + low(*(n & 65535 for n in nine)) + b"\x05\x01"),
            b"pp" + u32(*nine),
        ),
        (
            "split, 16 high bits",
            split_frame(16, 1, 2, b"p" + low(1, 2) + low(65535, 3)),
            b"p" + u32(0xFFFF0001, 0x30002),
        ),
        (
            "split, bit 16 packed, compressed",
            bytes.fromhex(compressed_h1),
            b"head" + u32(*(i * 9973 % 100278 for i in range(20)), *[100277] * 60),
        ),
        (
            "split, 16 high bits, compressed",
            bytes.fromhex(compressed_h16),
            b"head" + u32(*(2**32 - 1 - i for i in range(60))),
        ),
        ("short, one byte each", short_frame(1, 3, b"p\x00\x01\xdf"), b"p" + u32(0, 1, 223)),
        ("short, no integers", short_frame(2, 0, b"pp"), b"pp"),
        (
            "short, two bytes",
            short_frame(0, 4, bytes([224, 7, 225, 254]) + bytes([224, 1, 255])),
            u32(224, 7, 257, 0x1EFF),
        ),
        (
            "short, five bytes",
            short_frame(
                2, 5, b"pp" + bytes([255, 1, 255, 224, 255, 0, 4, 230, 255, 0x1F, 0, 0, 3, 2, 1, 255, 255, 255])
            ),
            b"pp" + u32(0x1F00, 1, 0x01020304, 230, 2**32 - 1),
        ),
    ]
    good = in_one_block(b"abc")

    valid.append(("zstd, the largest window", b"\x01" + windowed(3, 17 << 3) + good[6:], b"abc"))
    no_size = b"\x28\xb5\x2f\xfd\x00\x58" + good[6:]  # a window descriptor in place of the content size
    invalid = [
        ("empty", b""),
        ("unknown codec 5", b"\x05abc"),
        ("unknown codec 255", b"\xff"),
        ("no zstd frame", b"\x01abc"),
        ("zstd without a body", b"\x01"),
        ("zstd that needs a dictionary", b"\x01" + with_dictionary),
        ("zstd cut short", b"\x01" + good[:-1]),
        ("zstd with a byte behind it", b"\x01" + good + b"\x00"),
        ("two zstd frames", b"\x01" + good + good),
        ("zstd of no content", b"\x01" + in_one_block(b"")),
        ("zstd of unknown content size", b"\x01" + no_size),
        ("zstd that says less than it holds", b"\x01" + good[:5] + b"\x02" + good[6:]),
        ("zstd that says more than it holds", b"\x01" + good[:5] + b"\x04" + good[6:]),
        ("zstd with a window of 144 MiB", b"\x01" + windowed(3, 17 << 3 | 1) + good[6:]),
        ("zstd with a window of 2 TiB", b"\x01" + windowed(3, 31 << 3) + good[6:]),
        ("zstd that claims 2**32 - 1 bytes", b"\x01\x28\xb5\x2f\xfd\xa0\xff\xff\xff\xff" + good[6:]),
        ("a skippable frame first", b"\x01" + bytes.fromhex("502a4d1800000000") + good),
        ("split without its header", b"\x02\x00\x00"),
        ("split of 2 high bits", split_frame(2, 0, 1, low(1) + b"\x00")),
        ("split with planes too short", split_frame(0, 1, 2, b"p" + low(1))),
        ("split with planes too long", split_frame(0, 1, 2, b"p" + low(1, 2, 3))),
        ("split with bits behind the last integer", split_frame(1, 0, 3, low(1, 2, 3) + b"\x08")),
        ("short without its header", b"\x03\x00\x00"),
        ("short without its streams", b"\x03" + bytes(8)),
        ("short with too few first bytes", short_frame(1, 3, b"p\x01\x02")),
        ("short without a second byte", short_frame(1, 2, b"p\x01\xe0")),
        ("short without the rest", short_frame(0, 1, b"\xff\x01\x00\x00")),
        ("short with a byte behind the rest", short_frame(0, 1, b"\xff\x01\x1f\x00\x00\x00")),
        ("short that claims 16 GiB", struct.pack("<BII", 3, 0, 2**32 - 1) + good),
        ("split that claims 16 GiB", struct.pack("<BBII", 2, 0, 0, 2**32 - 1) + good),
    ]
    return {
        "about": (
            "docs/format/repository.md. frame unpacks to data; bases are [digest, frame] of what it needs. Encoders "
            "may make other frames of the same data; every decoder takes these and refuses the invalid ones (limit: "
            "2**28 bytes)."
        ),
        "valid": [
            *({"name": name, "frame": frame.hex(), "data": data.hex()} for name, frame, data in valid),
            *packs_by_hand.valid_deltas(),
        ],
        "invalid": [
            *(
                {
                    "name": name,
                    "frame": frame.hex(),
                    "error": "unsupported-version" if name.startswith("unknown codec") else "corruption",
                }
                for name, frame in invalid
            ),
            *packs_by_hand.invalid_deltas(),
        ],
    }


REF_NAMES = ("a", "golden/olmo-3", "a.b_c+d-e", "A/b/9", "x" * 200, "0" * 19, "0" * 21, "0" * 63, "a.locks", "HEAD")
REF_NAMES_BAD = (
    *("", "/", "a/", "/a", "a//b", ".a", "a/.b", "-a", "a/-b", "a.", "a./b", "a..b", "a.lock", "a.lock/b", "x" * 201),
    *("0" * 20, "a/" + "1" * 20, "0" * 64, "A" * 64, "a" * 64, "a b", "a:b", "a@b", "a~b", "a\\b", "ä", "a\n", "a*"),
)
REF_KEYS = (
    "refs/a/00000000000000000000",
    "refs/golden/olmo/00000000000000000300",
    "refs/a/09223372036854775807",
    "refs/a/09223372036854775808",
    "refs/a/0000000000000000000",
    "refs/a/.00000000000000000000",
    "refs/00000000000000000000",
    "refs/a",
    "refs/.a/00000000000000000000",
    "ref/a/00000000000000000000",
)


def records() -> File:
    def packed(*fields: Any) -> bytes:
        return seal(encode(list(fields)))

    target, nonce = digest("run"), bytes(range(16))
    ref = [
        ("first", RefEntry("golden/olmo", 0, target, 1_700_000_000, "ada", "tokenize", bytes(range(16)))),
        ("removed", RefEntry("golden/olmo", 300, None, 0, "", "", bytes(16))),
        (
            "text beyond ASCII",
            RefEntry("x", 2**63 - 1, target, 2**63 - 1, "Ada Łovelace", "two\nlines\tand a tab", b"\xff" * 16),
        ),
        ("joined emoji and a character of the future", RefEntry("x", 0, target, 1, "\U0002fffd", "👩\u200d🔬", nonce)),
        ("what no writer may write: a line end and an escape", RefEntry("x", 0, target, 1, "a\nb", "\x1b[2J", nonce)),
    ]
    good = packed("castore/ref", 1, "r", 0, target, 5, "a", "m", nonce)
    long_time = good[:-32].replace(target + b"\x05", target + b"\xcc\x05")
    ref_bad = [
        ("damaged", good[:-1] + bytes([good[-1] ^ 1]), "corruption"),
        ("cut short", good[:31], "corruption"),
        ("of another place in the log", packed("castore/ref", 1, "r", 1, target, 5, "a", "m", nonce), "corruption"),
        ("of another ref", packed("castore/ref", 1, "s", 0, target, 5, "a", "m", nonce), "corruption"),
        ("a newer version", packed("castore/ref", 2, 0, "whatever"), "unsupported-version"),
        ("version 0", packed("castore/ref", 0, "r", 0, target, 5, "a", "m", nonce), "unsupported-version"),
        ("another kind", packed("castore/refs", 1, "r", 0, target, 5, "a", "m", nonce), "format"),
        ("a map", seal(encode({})), "format"),
        ("a field too few", packed("castore/ref", 1, "r", 0, target, 5, "a", "m"), "format"),
        ("a field too many", packed("castore/ref", 1, "r", 0, target, 5, "a", "m", nonce, 0), "format"),
        ("a target as text", packed("castore/ref", 1, "r", 0, target.hex(), 5, "a", "m", nonce), "format"),
        ("a short target", packed("castore/ref", 1, "r", 0, target[:31], 5, "a", "m", nonce), "format"),
        ("a short nonce", packed("castore/ref", 1, "r", 0, target, 5, "a", "m", nonce[:15]), "format"),
        ("a negative time", packed("castore/ref", 1, "r", 0, target, -1, "a", "m", nonce), "format"),
        ("a time that is not minimal", seal(long_time), "not-canonical"),
        ("a time of 2**63", packed("castore/ref", 1, "r", 0, target, 2**63, "a", "m", nonce), "format"),
        ("an author that is bytes", packed("castore/ref", 1, "r", 0, target, 5, b"a", "m", nonce), "format"),
        ("something behind it", seal(good[:-32] + b"\x00"), "format"),
        ("not msgpack", seal(b"\xc1"), "format"),
    ]
    return {
        "about": "docs/format/repository.md. Sealed records, entries of logs (valid ones under their key), the marker.",
        "sealed": [{"payload": p.hex(), "hex": seal(p).hex()} for p in (b"", b"payload")],
        "sealed_invalid": [
            {"hex": h.hex(), "error": "corruption"} for h in (b"", seal(b"")[:-1], b"q" + seal(b"payload")[1:])
        ],
        "refs": [
            {
                "name": name,
                "ref": e.name,
                "key": f"refs/{e.name}/{e.sequence:020d}",
                "value": to_json(
                    ["castore/ref", 1, e.name, e.sequence, e.target, e.time_s, e.author, e.message, e.nonce]
                ),
                "hex": e.encode().hex(),
            }
            for name, e in ref
        ],
        "refs_invalid": [
            {"name": name, "sequence": 0, "hex": data.hex(), "error": error} for name, data, error in ref_bad
        ],
        "unsafe": {
            "about": "docs/format/repository.md, refs: code points that no writer may put into an author or message "
            "([first, last]), less newline and tab in a message; a reader takes them.",
            "ranges": [list(pair) for pair in UNSAFE],
            "refused": {
                "author": ["\n", "\t", "a\x1b[2J"],
                "message": ["\r", "\x00", "\x85", "\u2028", "\u202e", "\u2066"],
            },
            "taken": {
                "author": ["", "Ada Łovelace", "\u200d", "\U0002fffd"],
                "message": ["a\n\tb", "👩\u200d🔬", "\u00ad"],
            },
        },
        "log": [
            {"name": name, "entries": present, "newest": newest, "error": error}
            for name, present, newest, error in (
                ("no entry", [], None, None),
                ("one entry", [0], 0, None),
                ("three entries", [0, 1, 2], 2, None),
                ("a hole in the middle", [0, 2], 2, "corruption"),
                ("no first entry", [1, 2], 2, "corruption"),
            )
        ],
        "names": {"valid": list(REF_NAMES), "invalid": list(REF_NAMES_BAD)},
        "keys": [
            {"key": key, "entry": None if (place := entry_of_key(key)) is None else list(place)} for key in REF_KEYS
        ],
        "marker": {"key": "format", "hex": (b"castore repository, format %d\n" % FORMAT_VERSION).hex()},
        "marker_invalid": [
            {"name": name, "hex": data.hex(), "error": error}
            for name, data, error in (
                ("empty", b"", "format"),
                ("of another program", b"repository format 1\n", "format"),
                ("no end of line", b"castore repository, format 1", "format"),
                ("two ends of line", b"castore repository, format 1\n\n", "format"),
                ("an end of line of Windows", b"castore repository, format 1\r\n", "format"),
                ("a leading zero", b"castore repository, format 01\n", "format"),
                ("number 0", b"castore repository, format 0\n", "format"),
                ("no number", b"castore repository, format \n", "format"),
                ("a sign", b"castore repository, format +1\n", "format"),
                ("a space behind it", b"castore repository, format 1 \n", "format"),
                ("upper case", b"Castore repository, format 1\n", "format"),
                ("number 2", b"castore repository, format 2\n", "unsupported-version"),
                ("nine digits", b"castore repository, format 999999999\n", "unsupported-version"),
                ("ten digits", b"castore repository, format 9999999999\n", "format"),
            )
        ],
    }


# ---- accelerators


def packings() -> File:
    packed = [
        ("nothing", 8, []),
        ("equal documents as they come", 8, [3, 3, 3, 3, 3]),
        ("the least space that holds it", 10, [6, 7, 8, 2, 3, 4]),
        ("of equal spaces the one that came first", 10, [6, 6, 6, 2, 2, 2, 2, 2, 2]),
        ("one document for each instance", 8, [8, 8, 8]),
        ("best fit is one too many: filled again", 10, [6, 5, 5, 4, 3, 3, 2, 2]),
        ("filled again, as often as there are documents", 12, [5, 5, 5, 5, 4, 4, 4, 4, 3, 3, 3, 3]),
        ("of equal sums the longest documents", 20, [11, 11, 5, 4, 9, 3, 2, 6, 1, 8]),
    ]
    ids = [[1, 2, 9], [], [3, 9, 0, 4, 9], [5], [6, 7, 8, 9, 0, 1, 1, 1, 1, 9], [9], [2, 9, 0], [0, 3, 3, 9]]
    permutation = [4, 1, 6, 0, 2, 7, 5, 3]
    olmo = [(8, 9, None, False, 1000), (8, 9, 0, False, 1000), (4, 9, None, True, 1000), (4, 9, 0, True, 10)]
    rules = [PackingRule(8), PackingRule(4)]
    rules += [PackingRule(n, "olmo-core", (Rule(n, eos, bos, cut_up), part)) for n, eos, bos, cut_up, part in olmo]
    cases = [packing_case(ids, order, rule) for rule in rules for order in (None, permutation)]
    made = Object.of(bytes.fromhex(cases[0]["hex"]))
    return {
        "about": "docs/format/packings.md. packed: numbers of documents by instance, mode documents; valid: datasets "
        "of the samples token_ids, none trained on, all of source 0, in an explicit order.",
        "packed": [
            {"name": name, "capacity": capacity, "lengths": lengths, "instances": by_instance(lengths, capacity)}
            for name, capacity, lengths in packed
        ],
        "valid": cases,
        "invalid": [
            bad("a newer format", changed(made, "format", to=2), "unsupported-version"),
            bad("format 0", changed(made, "format", to=0), "unsupported-version"),
            bad("another algorithm", changed(made, "algorithm", to="best-fit-2"), "unsupported-version"),
            bad("another kind", changed(made, "kind", to="castore/pack")),
            bad("a root of 31 bytes", changed(made, "root", to=bytes(31))),
            bad("a column too few", changed(made, "columns", "segment_start", drop=True)),
            bad("a column too many", changed(made, "columns", "segment_end", to=bytes(32))),
            bad("a column of half a digest", changed(made, "columns", "segment_start", to=bytes(16))),
            bad("a column of a chunk too many", changed(made, "columns", "segment_start", to=bytes(64))),
            bad("a count that is negative", changed(made, "tokens", to=-1)),
            bad("no rule", changed(made, "rule", drop=True)),
            bad("an unknown entry", changed(made, "time", to=1)),
        ],
    }


def by_instance(lengths: list[int], capacity: int) -> list[list[int]]:
    packed = tight_fit(np.array(lengths, np.int64), capacity)
    ends = np.cumsum(packed.counts).tolist()
    return [packed.documents[end - n : end].tolist() for n, end in zip(packed.counts.tolist(), ends, strict=True)]


def packing_case(ids: list[list[int]], permutation: list[int] | None, rule: PackingRule) -> Case:
    builder = SequenceBuilder(DATA_ARRAYS)
    objects = builder.add(piece_of([(tuple(row), ()) for row in ids]))
    roots, rest = builder.finish()
    order_value, more = (None, []) if permutation is None else explicit_order(np.array(permutation))
    trees = {array.name: (array, roots[array.name]) for array in DATA_ARRAYS}
    made = Manifest(len(ids), trees, RULE, order_value).encode()
    stored = {o.digest: o.data for o in [*objects, *rest, *more, made]}
    packing, chunks_made = pack_dataset(Dataset(stored.__getitem__, made.digest, None), rule)
    stored |= {o.digest: o.data for o in chunks_made}
    # Each column is one chunk, whose payload is its end.
    payloads = {name: stored[packing.columns[name][0]][-4 * packing.rows(name) :] for name in COLUMNS}
    columns = {name: np.frombuffer(payload, "<u4").tolist() for name, payload in payloads.items()}
    name = packing_name(made.digest, rule.value())
    held = [packing.encode().digest, *sorted({chunk.digest for chunk in chunks_made})]
    return of_object(
        f"{rule.value()}, {'stored order' if permutation is None else 'another order'}",
        packing.encode(),
        token_ids=ids,
        order=permutation,
        rule=rule.value(),
        root=made.digest.hex(),
        columns=columns,
        key=packing_key(name),
        record=seal(b"".join(held)).hex(),
    )


def imports() -> File:
    full = Imported(digest("manifest"), (SourceRecord("gsm8k.jsonl", amount="3.0", samples=2),), 9)
    made = Object.of(full.encode())
    content, datasets = "ab" * 32, '[{"name": "gsm8k"}]'
    return {
        "about": "docs/format/imports.md. hex is the payload of the sealed record; names are how imports are found.",
        "names": [
            {
                "content": content,
                "shuffle_seed": seed,
                "datasets": datasets,
                "import_name": import_name(content, seed, datasets).hex(),
                "key": import_key(import_name(content, seed, datasets)),
            }
            for seed in (None, 42)
        ],
        "valid": [document("one source", made)],
        "invalid": [
            bad("a newer format", changed(made, "format", to=2), "unsupported-version"),
            bad("format 0", changed(made, "format", to=0), "unsupported-version"),
            bad("another kind", changed(made, "kind", to="castore/unit")),
            bad("a manifest of 31 bytes", changed(made, "manifest", to=bytes(31))),
            bad("sources as a map", changed(made, "sources", to={})),
            bad("a source without a name", changed(made, "sources", to=[{"amount": "1"}])),
            bad("trainable as text", changed(made, "trainable", to="9")),
            bad("no sources", changed(made, "sources", drop=True)),
        ],
    }


def golden() -> File:
    return golden_repository.expected()


def signatures() -> File:
    return signed.signatures()


def packs() -> File:
    return packs_by_hand.packs()


def links() -> File:
    return unsound.links()


def limits() -> File:
    return at_limits.limits()


FILES: dict[str, Callable[[], File]] = {
    f.__name__: f
    for f in (
        encoding,
        chunks,
        nodes,
        manifest,
        order,
        run,
        unit,
        write,
        files,
        keys,
        boundaries,
        dataset,
        extra,
        frames,
        packs,
        records,
        packings,
        imports,
        golden,
        signatures,
        links,
        limits,
    )
}


def text_of(name: str) -> str:
    """The text of one vector file: JSON, a case a line."""
    lines = []
    for key, value in FILES[name]().items():
        if isinstance(value, list):
            cases = ",\n".join("  " + json.dumps(case, ensure_ascii=True) for case in value)
            lines.append(f' "{key}": [\n{cases}\n ]')
        else:
            lines.append(f' "{key}": {json.dumps(value, ensure_ascii=True)}')
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main() -> None:
    """Write all files."""
    for name in FILES:
        (FOLDER / f"{name}.json").write_text(text_of(name), encoding="ascii")
    (FOLDER / "golden.tar").write_bytes(golden_repository.archive(golden_repository.content()))
    (FOLDER / "golden-packed.tar").write_bytes(golden_repository.archive(golden_repository.packed_content()))


if __name__ == "__main__":
    main()
