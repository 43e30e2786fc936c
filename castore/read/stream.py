"""All samples of a dataset, one piece after the other, in the recorded order or the stored one, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from castore.errors import CorruptionError
from castore.format.samples import Samples
from castore.format.schema import Array
from castore.read.arrays import Arrays
from castore.read.columns import Columns
from castore.read.whole import span_column, whole, whole_lengths
from castore.store.bucket_sort import BucketSort
from castore.tree.walk import Leaf, ahead, leaves

CHUNKS = 8
"""Chunks handled together: their labels are few numbers each, for which a call of numpy takes longer than its work."""


AHEAD = 8
"""Times ``CHUNKS`` that are asked for together, where that helps."""


def in_order(data: Columns, temporary: str | None, *, stored: bool = False) -> Iterator[Samples]:
    """All samples with token_ids, labels_mask and source, in the recorded order, some megabytes at a time.

    Args:
        data: The dataset.
        temporary: Folder for temporary files; the system's default if None.
        stored: In the stored order all the same.
    """
    order = None if stored else data.manifest.order
    lengths = whole_lengths(data)
    source = whole(data, "source") if data.has("source") else np.zeros(data.manifest.samples, np.uint32)
    if order is None:
        at = 0
        for samples in _in_stored_order(data, lengths):
            yield Samples(samples.lengths, {**samples.columns, "source": source[at : at + len(samples)]})
            at += len(samples)
        return
    positions = order.positions(data.fetch)
    place = np.full(data.manifest.samples, -1, np.int64)
    place[positions] = np.arange(len(positions))
    reorder = BucketSort(lengths[positions], temporary)
    try:
        at = 0
        for samples in _in_stored_order(data, lengths):
            reorder.add(place[at : at + len(samples)], samples)
            at += len(samples)
        at = 0
        for samples in reorder.windows():
            chosen = positions[at : at + len(samples)]
            yield Samples(samples.lengths, {**samples.columns, "source": source[chosen]})
            at += len(samples)
    finally:
        reorder.close()


def _in_stored_order(data: Columns, lengths: NDArray[np.uint32]) -> Iterator[Samples]:
    """Samples with token_ids and labels_mask, some chunks at a time, given the tokens of each."""
    ids, mask = data.tree("token_ids"), data.tree("labels_mask")
    chunks = data.passing()
    # Trees over equally many samples end together, or differ in an earlier chunk.
    pairs = zip(leaves(data.fetch, ids), leaves(data.fetch, mask), strict=False)
    while together := list(islice(pairs, AHEAD * CHUNKS)):
        ahead(data.fetch, [one.entry.digest for pair in together for one in pair])
        for lo in range(0, len(together), CHUNKS):
            yield _samples(chunks, ids.array, mask.array, together[lo : lo + CHUNKS], lengths)


def _samples(
    chunks: Arrays, ids: Array, mask: Array, some: Sequence[tuple[Leaf, Leaf]], lengths: NDArray[np.uint32]
) -> Samples:
    """The samples of consecutive chunks of token_ids and labels_mask."""
    for leaf, mask_leaf in some:
        if (leaf.start, leaf.entry.samples) != (mask_leaf.start, mask_leaf.entry.samples):
            raise CorruptionError(f"chunks of labels_mask at sample {leaf.start} are not cut as those of token_ids")
        if int(lengths[leaf.start : leaf.stop].sum(dtype=np.int64)) != leaf.entry.items:
            raise CorruptionError(f"lengths of samples {leaf.start} to {leaf.stop} do not add up to their tokens")
    token_ids = np.concatenate([np.frombuffer(chunks.values(leaf, ids).items, "<u4") for leaf, _ in some])
    spans = span_column(chunks, mask, *(mask_leaf for _, mask_leaf in some))
    start, stop = some[0][0].start, some[-1][0].stop
    if not spans.fits(lengths[start:stop]):
        raise CorruptionError(f"labels of samples {start} to {stop} reach over the end of one")
    return Samples(lengths[start:stop], {"token_ids": token_ids, "labels_mask": spans})
