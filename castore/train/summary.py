"""What a dataset looks like in numbers: lengths, trained share by source, and how full instances would be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from castore.errors import InvalidInputError
from castore.format.samples import TOKENS_MAX, offsets_of
from castore.read.columns import Columns
from castore.read.whole import span_column, whole, whole_lengths
from castore.train.instances import count_instances
from castore.tree.walk import leaves

SEQUENCE_LENGTHS = (1024, 2048, 4096, 8192, 16384, 32768)
"""Tokens of an instance for which packing is told by default."""

PERCENTILES = (1, 10, 25, 50, 75, 90, 99)


@dataclass(frozen=True, slots=True)
class Bin:
    """Samples of ``lo`` to ``hi`` − 1 tokens."""

    lo: int
    hi: int
    samples: int
    tokens: int


@dataclass(frozen=True, slots=True)
class SourceCounts:
    """What one source has in the output."""

    name: str
    samples: int
    tokens: int
    trainable: int


@dataclass(frozen=True, slots=True)
class PackingLine:
    """What packing over true boundaries comes to: instances, places in them, and samples that must be split."""

    sequence_length: int
    instances: int
    tokens: int
    split: int

    @property
    def efficiency(self) -> float:
        """Share of the places that hold a token, for people to read."""
        places = self.instances * self.sequence_length
        return self.tokens / places if places else 0.0


@dataclass(frozen=True, slots=True)
class Summary:
    """A dataset in numbers, over the samples that its order takes.

    Attributes:
        samples, tokens, trainable: In all.
        shortest, longest: Tokens of a sample; 0 without samples.
        percentiles: Tokens of the sample at each of ``PERCENTILES`` of the samples.
        bins: Samples by length, each bin up to twice its begin, none left out between the first and the last.
        sources: By number of the source.
        packings: By sequence length.
    """

    samples: int
    tokens: int
    trainable: int
    shortest: int
    longest: int
    percentiles: Sequence[int]
    bins: Sequence[Bin]
    sources: Sequence[SourceCounts]
    packings: Sequence[PackingLine]
    lengths: NDArray[np.int64]


def summary(data: Columns, sequence_lengths: Sequence[int] = SEQUENCE_LENGTHS) -> Summary:
    """Look at a dataset; lengths, spans and sources of samples are read, their tokens are not.

    Args:
        data: The dataset.
        sequence_lengths: Tokens of an instance for which packing is told.

    Raises:
        InvalidInputError: A sequence length that no instance can have.
    """
    for length in sequence_lengths:
        if not 1 <= length <= TOKENS_MAX:
            raise InvalidInputError(f"sequence length {length}: give 1 to {TOKENS_MAX}")
    lengths = whole_lengths(data).astype(np.int64)  # before the order, which takes memory for what is claimed
    chosen = data.positions
    lengths = lengths[chosen]
    trainable = _trainable(data)[chosen]
    ascending = np.sort(lengths, kind="stable")
    return Summary(
        len(lengths),
        int(lengths.sum()),
        int(trainable.sum()),
        int(ascending[0]) if len(ascending) else 0,
        int(ascending[-1]) if len(ascending) else 0,
        [int(ascending[len(ascending) * p // 100]) if len(ascending) else 0 for p in PERCENTILES],
        _bins(lengths),
        _sources(data, chosen, lengths, trainable),
        [_packing(lengths, length) for length in sequence_lengths],
        lengths,
    )


def _trainable(data: Columns) -> NDArray[np.int64]:
    """Trainable tokens of every sample in stored order, int64[n]."""
    if not data.has("labels_mask"):
        return np.zeros(len(data), np.int64)
    tree = data.tree("labels_mask")
    parts = [np.zeros(0, np.int64)]
    for leaf in leaves(data.fetch, tree):
        column = span_column(data, tree.array, leaf)
        sums = offsets_of(column.stops.astype(np.int64) - column.starts)
        parts.append(np.diff(sums[offsets_of(column.counts)]))
    return np.concatenate(parts)


def _bins(lengths: NDArray[np.int64]) -> list[Bin]:
    """Bins that begin at powers of two, and one for samples without tokens where there are such."""
    if not len(lengths):
        return []
    # Of lengths below 2**53 the exponent of a float is exact.
    which = np.frexp(lengths.astype(np.float64))[1]
    samples = np.bincount(which)
    tokens = np.bincount(which, weights=lengths)
    first = int(np.flatnonzero(samples)[0])
    return [Bin(1 << (i - 1) if i else 0, 1 << i, int(samples[i]), int(tokens[i])) for i in range(first, len(samples))]


def _sources(
    data: Columns, chosen: NDArray[np.int64], lengths: NDArray[np.int64], trainable: NDArray[np.int64]
) -> list[SourceCounts]:
    source = whole(data, "source")[chosen] if data.has("source") else np.zeros(len(chosen), np.uint32)
    found = []
    for number in np.unique(source).tolist():
        mine = source == number
        name = data.source_name(number)
        found.append(SourceCounts(name, int(mine.sum()), int(lengths[mine].sum()), int(trainable[mine].sum())))
    return found


def _packing(lengths: NDArray[np.int64], sequence_length: int) -> PackingLine:
    instances = count_instances(lengths, sequence_length)
    return PackingLine(sequence_length, instances, int(lengths.sum()), int((lengths > sequence_length).sum()))
