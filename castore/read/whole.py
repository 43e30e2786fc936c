"""Whole arrays with one element a sample, as numpy arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from castore.errors import CorruptionError
from castore.format.chunk import span_parts
from castore.format.digest import digest_hex
from castore.format.samples import SpanColumn
from castore.format.schema import KEY_BYTES, LENGTH, Array
from castore.read.arrays import Arrays
from castore.tree.walk import Leaf, leaves


def whole(data: Arrays, name: str) -> NDArray[np.uint32]:
    """A whole uint32 array with one element a sample, uint32[n]."""
    tree = data.tree(name)
    parts = [np.frombuffer(data.values(leaf, tree.array).items, "<u4") for leaf in leaves(data.fetch, tree)]
    return np.concatenate(parts).astype(np.uint32, copy=False) if parts else np.zeros(0, np.uint32)


def whole_lengths(data: Arrays) -> NDArray[np.uint32]:
    """Tokens of every sample, uint32[n]; what they add up to may be taken memory for.

    Raises:
        CorruptionError: They do not add up to the tokens.
    """
    lengths = whole(data, LENGTH.name)
    if int(lengths.sum(dtype=np.int64)) != data.manifest.tokens:
        raise CorruptionError("lengths of the samples do not add up to their tokens")
    return lengths


def largest_id(data: Arrays, positions: NDArray[np.int64]) -> int:
    """The largest token id of the samples at ``positions`` (int64[k]); -1 if they have none."""
    tree, chunks = data.tree("token_ids"), data.passing()
    count, largest = data.manifest.samples, -1
    used = np.zeros(count, np.bool_)
    used[positions] = True
    lengths = None if used.all() else whole_lengths(data)
    for leaf in leaves(data.fetch, tree):
        ids = np.frombuffer(chunks.values(leaf, tree.array).items, "<u4")
        if lengths is not None:
            own = lengths[leaf.start : leaf.stop]
            if int(own.sum(dtype=np.int64)) != len(ids):
                raise CorruptionError(f"lengths of samples {leaf.start} to {leaf.stop} do not add up to their tokens")
            ids = ids[np.repeat(used[leaf.start : leaf.stop], own)]
        if len(ids):
            largest = max(largest, int(ids.max()))
    return largest


def span_column(data: Arrays, array: Array, *consecutive: Leaf) -> SpanColumn:
    """The spans at leaves of an array that is stored as spans.

    Raises:
        CorruptionError: A chunk holds other counts than its parent states.
    """
    chunks = [data.fetch(leaf.entry.digest) for leaf in consecutive]
    for leaf, chunk in zip(consecutive, chunks, strict=True):
        if span_parts(chunk)[0] != leaf.entry.samples:
            raise CorruptionError(
                f"chunk {digest_hex(leaf.entry.digest)} of {array.name} holds other counts than its parent"
            )
    return SpanColumn.decode(*chunks)


def whole_keys(data: Arrays) -> NDArray[np.uint8]:
    """The keys of all samples in stored order, uint8[n, 16]."""
    tree = data.tree("key")
    parts = [np.frombuffer(data.values(leaf, tree.array).items, np.uint8) for leaf in leaves(data.fetch, tree)]
    return np.concatenate([np.zeros(0, np.uint8), *parts]).reshape(-1, KEY_BYTES)
