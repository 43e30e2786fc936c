"""A repository of any number of tiny objects that takes little room: chunks are made when they are asked for."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np

from castore.format.chunk import encode_spans, encode_values
from castore.format.digest import Digest
from castore.format.manifest import Manifest, Root, SplitRule
from castore.format.node import Entry, encode_node
from castore.format.samples import sample_keys
from castore.format.schema import KEY, LABELS_MASK, LENGTH, SOURCE, TOKEN_IDS
from castore.store.backend import ListingEntry, MemoryBackend, part_bounds
from castore.store.marker import open_layout
from castore.store.object_keys import digest_of_key, object_key
from castore.store.refs import RefStore

FANOUT = 32


class ManyObjects(MemoryBackend):
    """``used`` chunks below one name, and ``unused`` ones that nothing names, all of long ago.

    Args:
        used: Chunks of one token each in one dataset.
        unused: Chunks in none.
    """

    def __init__(self, used: int, unused: int) -> None:
        super().__init__()
        open_layout(self, create=True)
        chunks = [encode_values("uint32", 1, n.to_bytes(4, "little")).digest for n in range(used + unused)]
        manifest = self._build(chunks[:used])
        RefStore(self).update("all", manifest, time_s=1, author="a tester", message="")
        digests = np.frombuffer(b"".join(chunks), np.uint8).reshape(-1, 32)
        self._numbers = np.argsort(digests.view("S32").ravel())
        self._digests = digests.view("S32").ravel()[self._numbers]
        self.gone = np.zeros(len(chunks), np.bool_)
        self._others = sorted(key for key in super().list("objects"))

    def _build(self, chunks: list[Digest]) -> Digest:
        entries = [Entry(digest, 1, 1) for digest in chunks]
        level = 0
        while len(entries) > 2 * FANOUT:
            level += 1
            parents = []
            for at in range(0, len(entries), FANOUT):
                group = entries[at : at + FANOUT]
                node = encode_node(level, group)
                self._keep(node.digest, node.data)
                parents.append(Entry(node.digest, sum(e.samples for e in group), sum(e.items for e in group)))
            entries = parents
        trees = {"token_ids": (TOKEN_IDS, Root(level, tuple(entries)))}
        count = len(chunks)
        ids, ones = np.arange(count, dtype=np.uint32), np.ones(count, np.uint32)
        others = {
            LABELS_MASK: encode_spans(bytes(4 * count), b"", b""),
            LENGTH: encode_values("uint32", count, ones.tobytes()),
            KEY: encode_values("bytes16", count, sample_keys(ids, ones).tobytes()),
            SOURCE: encode_values("uint32", count, bytes(4 * count)),
        }
        for array, made in others.items():
            self._keep(made.digest, made.data)
            trees[array.name] = array, Root(array.grain, (Entry(made.digest, count, count),))
        # Cut by a rule that is not known, so that only links and samples are compared.
        manifest = Manifest(count, trees, SplitRule("one-each", 1 << 18, FANOUT), None).encode()
        self._keep(manifest.digest, manifest.data)
        return manifest.digest

    def _keep(self, digest: Digest, data: bytes) -> None:
        clock, self.clock = self.clock, lambda: 1000.0
        self.put(object_key(digest), b"\0" + data)
        self.flush()
        self.clock = clock

    def _place(self, key: str) -> int:
        digest = digest_of_key(key)
        if digest is None:
            return -1
        at = int(np.searchsorted(self._digests, np.frombuffer(digest, "S32")[0]))
        return at if at < len(self._digests) and self._digests[at].ljust(32, b"\0") == digest else -1

    def get(self, key: str, max_bytes: int) -> bytes | None:
        found = super().get(key, max_bytes)
        place = -1 if found is not None else self._place(key)
        if place < 0 or self.gone[place]:
            return found
        return b"\0" + encode_values("uint32", 1, int(self._numbers[place]).to_bytes(4, "little")).data

    def get_part(self, key: str, start: int, length: int) -> bytes | None:
        value = self.get(key, sys.maxsize)
        return None if value is None else value[slice(*part_bounds(len(value), start, length))]

    def entries(self, prefix: str) -> Iterator[ListingEntry]:
        if prefix:
            yield from super().entries(prefix)
            return
        for entry in super().entries(""):
            if not entry.key.startswith("objects/"):
                yield entry
        others = iter([*self._others, "z"])
        other = next(others)
        for place in np.flatnonzero(~self.gone).tolist():
            key = object_key(Digest(self._digests[place].ljust(32, b"\0")))
            while other < key:
                yield ListingEntry(other, 100, 1000.0)
                other = next(others)
            yield ListingEntry(key, 50, 1000.0)
        while other != "z":
            yield ListingEntry(other, 100, 1000.0)
            other = next(others)

    def expire(self, key: str, before_s: float) -> bool:
        place = self._place(key)
        if place < 0:
            return super().expire(key, before_s)
        removed = not self.gone[place]
        self.gone[place] = True
        return bool(removed)
