"""Samples of an export in blocks of bounded size, with the places of everything in them as plain arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from castore.format.samples import Samples, SpanColumn, offsets_of

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class SampleBlock:
    """Consecutive whole samples.

    Attributes:
        ids: Token ids, uint32[m].
        edges: Where samples begin and end in it: int64[n + 1].
        starts, stops: Trainable spans in it, ascending, apart from each other: int64[s] each.
        sources: Number of the source of each sample, int64[n].
    """

    ids: NDArray[np.uint32]
    edges: Ints
    starts: Ints
    stops: Ints
    sources: Ints

    @classmethod
    def of(cls, samples: Samples) -> SampleBlock:
        """The block of samples with token_ids, labels_mask and source."""
        ids, spans, sources = (samples.columns[name] for name in ("token_ids", "labels_mask", "source"))
        assert isinstance(ids, np.ndarray)
        assert isinstance(spans, SpanColumn)
        assert isinstance(sources, np.ndarray)
        edges = offsets_of(samples.lengths)
        bases = np.repeat(edges[:-1], spans.counts)
        return cls(ids, edges, bases + spans.starts, bases + spans.stops, sources.astype(np.int64))

    def pieces(self, tokens: int) -> Iterator[SampleBlock]:
        """The same samples in blocks of at most ``tokens``, or of one sample."""
        lo, count = 0, len(self.sources)
        while lo < count:
            hi = max(int(np.searchsorted(self.edges, self.edges[lo] + tokens, side="right")) - 1, lo + 1)
            first, last = int(self.edges[lo]), int(self.edges[hi])
            spans = slice(*np.searchsorted(self.starts, [first, last]).tolist())
            yield SampleBlock(
                self.ids[first:last],
                self.edges[lo : hi + 1] - first,
                self.starts[spans] - first,
                self.stops[spans] - first,
                self.sources[lo:hi],
            )
            lo = hi

    def trainable_before(self, positions: Ints) -> Ints:
        """Trainable tokens in front of each position: int64, same shape."""
        if not len(self.starts):
            return np.zeros_like(positions)
        widths = self.stops - self.starts
        span = np.searchsorted(self.starts, positions, side="right") - 1
        inside = np.minimum(positions - self.starts[span], widths[span])
        return np.where(span < 0, 0, offsets_of(widths)[span] + inside)


def blocks_of(batches: Iterable[Samples], tokens: int) -> Iterator[SampleBlock]:
    """Samples in blocks of at most ``tokens``, or of one sample."""
    for samples in batches:
        yield from SampleBlock.of(samples).pieces(tokens)


def with_next(blocks: Iterable[SampleBlock]) -> Iterator[tuple[SampleBlock, int | None]]:
    """Each block with the id that follows it, None after the last one."""
    waiting: list[SampleBlock] = []
    for block in blocks:
        if len(block.ids):
            yield from ((earlier, int(block.ids[0])) for earlier in waiting)
            waiting = []
        waiting.append(block)
    yield from ((block, None) for block in waiting)
