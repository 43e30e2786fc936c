"""A writer of datasets that knows nothing of castore: written from ``docs/format/`` alone, from raw arrays to a root.

It holds everything in memory, and leaves the cuts to ``reference`` and the seeded order to ``pcg64``, which are written
from the same pages.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgpack
from blake3 import blake3

from tests.support import pcg64, reference
from tests.support.bare_reader import EXPLICIT_CHUNK, ordered

Spans = Sequence[tuple[int, int]]

VOCABULARY = 100_278


def encode(value: Any) -> bytes:
    return bytes(msgpack.packb(ordered(value), use_bin_type=True))


def u32(numbers: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(numbers)}I", *numbers)


def generated(seed: int, count: int, mean: int) -> tuple[list[list[int]], list[list[tuple[int, int]]]]:
    """Ids and spans of the generator of samples that ``split.md`` writes down."""
    state = seed

    def number() -> int:
        nonlocal state
        state = (6364136223846793005 * state + 1442695040888963407) % 2**64
        return state >> 33

    ids, spans = [], []
    for _ in range(count):
        tokens = number() % (2 * mean)
        ids.append([number() % VOCABULARY for _ in range(tokens)])
        spans.append([(number() % tokens, tokens)] if tokens else [])
    return ids, spans


@dataclass
class Column:
    """One array: its type, and by sample its elements as bytes, or the spans of a mask with the tokens of each."""

    dtype: str
    axis: str
    grain: int
    rows: Sequence[bytes] = ()
    width: int = 0
    masks: Sequence[Spans] = ()
    lengths: Sequence[int] = ()

    def items(self, lo: int, hi: int) -> int:
        """Elements of samples."""
        if self.dtype == "bool":
            return sum(self.lengths[lo:hi])
        return sum(map(len, self.rows[lo:hi])) // self.width

    def chunk(self, lo: int, hi: int) -> bytes:
        """The chunk of samples."""
        if self.dtype != "bool":
            return encode(["castore/values", self.dtype, hi - lo, b"".join(self.rows[lo:hi])])
        gaps, widths = [], []
        for spans in self.masks[lo:hi]:
            at = 0
            for start, stop in spans:
                gaps.append(start - at)
                widths.append(stop - start)
                at = stop
        counts = [len(spans) for spans in self.masks[lo:hi]]
        return encode(["castore/spans", hi - lo, u32(counts) + u32(gaps) + u32(widths)])


def tokens_of(rows: Sequence[bytes], dtype: str, width: int) -> Column:
    return Column(dtype, "token", 0, rows, width)


def scalars(rows: Sequence[bytes], dtype: str, width: int) -> Column:
    return Column(dtype, "sample", 1, rows, width)


@dataclass
class Dataset:
    """Samples, and what they become.

    Args:
        ids: Token ids by sample.
        spans: Spans by sample.
        sources: Number of the source by sample.
        more: Further arrays by name.

    Attributes:
        objects: What was made, by digest.
        arrays: The map of each array in the manifest.
        cuts: The last sample and one of each run of level 0.
    """

    ids: Sequence[Sequence[int]]
    spans: Sequence[Spans]
    sources: Sequence[int]
    more: dict[str, Column] = field(default_factory=dict)
    chunk_bytes: int = 262144
    fanout: int = 32
    objects: dict[bytes, bytes] = field(default_factory=dict)
    arrays: dict[str, dict[str, Any]] = field(default_factory=dict)
    cuts: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        rows = [u32(ids) for ids in self.ids]
        lengths = [len(ids) for ids in self.ids]
        keys = [blake3(row).digest(length=16) for row in rows]
        columns = {
            "token_ids": tokens_of(rows, "uint32", 4),
            "labels_mask": Column("bool", "token", 0, masks=self.spans, lengths=lengths),
            "length": scalars([u32([n]) for n in lengths], "uint32", 4),
            "key": scalars(keys, "bytes16", 16),
            "source": scalars([u32([n]) for n in self.sources], "uint32", 4),
            **self.more,
        }
        skeleton = reference.skeleton(keys, lengths, self.chunk_bytes, self.fanout) if rows else None
        for name, column in columns.items():
            self.arrays[name] = self._array(column, skeleton)

    def put(self, data: bytes) -> bytes:
        digest = blake3(data).digest()
        self.objects[digest] = data
        return digest

    def _array(self, column: Column, skeleton: reference.Skeleton | None) -> dict[str, Any]:
        level, entries = 0, list[tuple[bytes, int, int]]()
        if skeleton is not None:
            level, entries = self._tree(column, skeleton)
        digests, samples, items = zip(*entries, strict=True) if entries else ((), (), ())
        named = {"level": level, "digests": b"".join(digests), "samples": list(samples), "items": list(items)}
        return {"axis": column.axis, "dtype": column.dtype, "grain": column.grain, **named}

    def _tree(self, column: Column, skeleton: reference.Skeleton) -> tuple[int, list[tuple[bytes, int, int]]]:
        """The level of a root and what it names."""
        sizes = list(skeleton.levels[0])
        if not self.cuts:
            self.cuts = [sum(sizes[: i + 1]) for i in range(len(sizes))]
        if column.grain == 1:  # a chunk for every run of level 1
            sizes = [sum(run) for run in runs_of(sizes, skeleton.coarse)]
        entries, at = [], 0
        for size in sizes:
            entries.append((self.put(column.chunk(at, at + size)), size, column.items(at, at + size)))
            at += size
        root_level = len(skeleton.levels) - 1
        for level in range(column.grain + 1, root_level + 1):
            entries = [self._node(level, run) for run in runs_of(entries, skeleton.levels[level])]
        return max(root_level, column.grain), entries

    def _node(self, level: int, children: list[tuple[bytes, int, int]]) -> tuple[bytes, int, int]:
        digests, samples, items = zip(*children, strict=True)
        return self.put(node(level, digests, samples, items)), sum(samples), sum(items)

    def array_digest(self, name: str) -> str | None:
        array = self.arrays[name]
        if not array["samples"]:
            return None
        data = node(array["level"] + 1, [array["digests"]], array["samples"], array["items"])
        return blake3(data).hexdigest()

    def root(self, order: dict[str, Any] | None = None) -> bytes:
        """The root, with the manifest among the objects."""
        split = {"rule": "rank-4", "chunk_bytes": self.chunk_bytes, "fanout": self.fanout}
        head = {"kind": "castore/manifest", "format": 1, "hash": "blake3-256", "samples": len(self.ids)}
        return self.put(encode({**head, "arrays": self.arrays, "split": split, "order": order}))

    def seeded(self, seed: int, take: int | None = None) -> dict[str, Any]:
        """The map of a seeded order."""
        return self._order("numpy-pcg64-permutation", seed, pcg64.permutation(seed, len(self.ids)), b"", take)

    def explicit(self, permutation: Sequence[int]) -> dict[str, Any]:
        """The map of a stored order, with its chunks among the objects."""
        chunks = b""
        for at in range(0, len(permutation), EXPLICIT_CHUNK):
            entries = permutation[at : at + EXPLICIT_CHUNK]
            chunks += self.put(encode(["castore/values", "uint32", len(entries), u32(entries)]))
        return self._order("explicit", 0, permutation, chunks, None)

    def _order(
        self, algorithm: str, seed: int, permutation: Sequence[int], chunks: bytes, take: int | None
    ) -> dict[str, Any]:
        count = len(self.ids)
        digest = blake3(struct.pack(f"<{count}Q", *permutation)).digest()
        order = {"algorithm": algorithm, "seed": seed, "chunks": chunks, "digest": digest}
        return {**order, "count": count, "take": count if take is None else take}


def node(level: int, digests: Sequence[bytes], samples: Sequence[int], items: Sequence[int]) -> bytes:
    return encode(["castore/node", level, b"".join(digests), list(samples), list(items)])


def runs_of(items: list[Any], sizes: Sequence[int]) -> list[list[Any]]:
    runs, at = [], 0
    for size in sizes:
        runs.append(items[at : at + size])
        at += size
    return runs


def write_repository(folder: Path, name: str, dataset: Dataset, order: dict[str, Any] | None, author: str) -> bytes:
    """Make a repository with one name for a dataset; returns its root. Of the codecs the first is enough."""
    root = dataset.root(order)
    tokens = sum(map(len, dataset.ids))
    trainable = sum(stop - start for spans in dataset.spans for start, stop in spans)
    nothing = ("chat_template", "imported", "max_seq_length", "mix_seed", "num_examples", "tokenizer", "vocab_size")
    counts = {"samples": len(dataset.ids), "tokens": tokens, "trainable": trainable, "dropped": {}, "lost": {}}
    source = {"amount": None, "digest": None, "dropped": {}, "name": "by hand", "revision": None, "rows": None}
    source |= dict.fromkeys(("samples", "selected", "split", "tokens", "trainable"))
    run = {
        "kind": "castore/run",
        "format": 1,
        "manifest": root,
        "samples": len(dataset.ids),
        "configuration": {**dict.fromkeys(nothing), "shuffle_seed": None if order is None else order["seed"]},
        "files": {},
        "origin": {"author": author, "castore": "none", "host": "", "message": "", "time": 1},
        "provenance": {},
        "recipe": {},
        "sources": [source] * (max(dataset.sources, default=-1) + 1),
        "statistics": counts,
    }
    target = dataset.put(encode(run))
    put(folder, "format", b"castore repository, format 1\n")
    for digest, data in dataset.objects.items():  # children stand before their parents
        put(folder, f"objects/{digest.hex()[:2]}/{digest.hex()}", b"\0" + data)
    entry = encode(["castore/ref", 1, name, 0, target, 1, author, "by hand", bytes(16)])
    put(folder, f"refs/{name}/{0:020d}", entry + blake3(entry).digest())
    return root


def put(folder: Path, key: str, data: bytes) -> None:
    path = folder / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
