"""The part of a check that compares arrays of a dataset with one another: keys with tokens, and spans with lengths.

An object says nothing of the objects beside it: a chunk of tokens is whole whatever the keys of its samples are, and a
span may reach over the end of a sample whose length is in another tree. So chunks are read a second time, by the place
they have in a dataset; each once, however many datasets share it with the same lengths and keys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from castore.format.chunk import decode_values
from castore.format.digest import Digest, digest_of
from castore.format.manifest import Root
from castore.format.samples import SpanColumn, sample_keys
from castore.format.schema import KEY, KEY_BYTES, LENGTH, TOKEN_IDS, Array
from castore.store.objects import ObjectStore
from castore.tree.walk import Leaf, Tree, leaves

Trees = dict[str, tuple[Array, Root]]

BATCH = 64
"""Chunks that are asked for at once."""

_SEEN_BYTES = 16


def sample_faults(
    objects: ObjectStore, trees: Trees, chosen: Callable[[Digest], bool], seen: set[tuple[object, ...]]
) -> Iterator[tuple[str, str]]:
    """Samples whose key is not that of their tokens, and spans over the end of a sample.

    Args:
        objects: The repository's objects.
        trees: Arrays of a dataset, ``length`` and ``key`` among them.
        chosen: Whether a chunk is compared.
        seen: What was compared already; what is, is added.

    Raises:
        CastoreError: A chunk is damaged, missing or malformed: which was found before.
    """
    compared: list[tuple[Array, Callable[[bytes, NDArray[np.uint32], NDArray[np.uint8]], str | None]]] = [
        (TOKEN_IDS, _token_fault)
    ]
    compared += [(array, _span_fault) for array, _ in trees.values() if array.is_spans]
    for array, fault in compared:
        lengths, keys = (_ScalarColumn(objects, *trees[name]) for name in (LENGTH.name, KEY.name))
        found = (leaf for leaf in leaves(objects.get, Tree(*trees[array.name])) if chosen(leaf.entry.digest))
        for leaf, data in _read(objects, found):
            some = np.frombuffer(lengths.read(leaf.start, leaf.stop), "<u4")
            known = keys.read(leaf.start, leaf.stop) if fault is _token_fault else b""
            place = (array.name, digest_of(b"".join((leaf.entry.digest, some.tobytes(), known)))[:_SEEN_BYTES])
            if place in seen:
                continue
            seen.add(place)
            wrong = fault(data, some, np.frombuffer(known, np.uint8).reshape(-1, KEY_BYTES))
            if wrong is not None:
                name = "wrong-keys" if fault is _token_fault else "wrong-lengths"
                yield name, f"chunk {leaf.entry.digest.hex()} of array {array.name}, from sample {leaf.start}: {wrong}"


def _read(objects: ObjectStore, found: Iterator[Leaf]) -> Iterator[tuple[Leaf, bytes]]:
    batch: list[Leaf] = []
    for leaf in found:
        batch.append(leaf)
        if len(batch) == BATCH:
            yield from zip(
                batch, (data for _, data in objects.get_many(one.entry.digest for one in batch)), strict=True
            )
            batch = []
    yield from zip(batch, (data for _, data in objects.get_many(one.entry.digest for one in batch)), strict=True)


def _token_fault(data: bytes, lengths: NDArray[np.uint32], keys: NDArray[np.uint8]) -> str | None:
    ids = np.frombuffer(decode_values(data, TOKEN_IDS.dtype).items, "<u4")
    if len(ids) != int(lengths.sum(dtype=np.int64)):
        return f"{len(ids)} tokens, and lengths of {int(lengths.sum(dtype=np.int64))}"
    others = np.flatnonzero((sample_keys(ids, lengths) != keys).any(axis=1))
    return f"sample {others[0]} of it has another key than that of its tokens" if len(others) else None


def _span_fault(data: bytes, lengths: NDArray[np.uint32], keys: NDArray[np.uint8]) -> str | None:
    spans = SpanColumn.decode(data)
    if len(spans.counts) != len(lengths):
        return f"{len(spans.counts)} samples, not {len(lengths)}"
    return None if spans.fits(lengths) else "a span reaches over the end of its sample"


class _ScalarColumn:
    """Elements of an array with one a sample, read forwards; the chunk that was read last is kept."""

    def __init__(self, objects: ObjectStore, array: Array, root: Root) -> None:
        self._objects, self._tree = objects, Tree(array, root)
        self._start = self._stop = 0
        self._items = b""

    def read(self, lo: int, hi: int) -> bytes:
        """Elements of samples ``lo`` to ``hi``, which is more than none."""
        parts = []
        width = 0
        while lo < hi:
            if not self._start <= lo < self._stop:
                leaf = next(leaves(self._objects.get, self._tree, lo, lo + 1))
                self._start, self._stop = leaf.start, leaf.stop
                values = decode_values(self._objects.get(leaf.entry.digest), self._tree.array.dtype)
                self._items = bytes(values.items)
            width = len(self._items) // (self._stop - self._start)
            end = min(hi, self._stop)
            parts.append(self._items[(lo - self._start) * width : (end - self._start) * width])
            lo = end
        return b"".join(parts)
