"""Samples put into another order with bounded memory: exports of shuffled data, and rows picked at random.

Samples come in any order, each with its position; they go out in order, a window at a time. While all of them fit into
the budget they stay in memory. Beyond it each window is a temporary file that grows as samples come in, and is put in
order when its turn comes: every byte is written once and read once, never sought (an external bucket sort).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import IO

import numpy as np
from numpy.typing import NDArray

from castore.errors import BackendError
from castore.format.samples import Samples, SpanColumn, offsets_of
from castore.store.files import is_full

WINDOW_BYTES = 48 * 1024 * 1024
"""Token bytes of one window: with the copies made while it is put in order, about four times that in memory."""


WINDOWS_MAX = 512
"""Most windows, which is reached at 6e9 tokens; beyond, they grow: 19e9 tokens take windows of 150 MB."""


class BucketSort:
    """Collects samples with their positions and gives them back in order.

    Args:
        lengths: Tokens of the sample at each position, uint32[n].
        folder: Where temporary files go; the system's default if None.
        window_bytes: Token bytes held in memory at once.
    """

    def __init__(
        self, lengths: NDArray[np.uint32], folder: str | None = None, window_bytes: int = WINDOW_BYTES
    ) -> None:
        self._lengths = lengths
        offsets = offsets_of(lengths)
        # Each window is an open file, of which a process may have few.
        self._bounds = _window_bounds(offsets, max(window_bytes // 4, int(offsets[-1]) // WINDOWS_MAX))
        self._folder = folder
        self._windows: list[_Window] = []
        try:
            for _ in self._bounds[1:]:
                self._windows.append(_Window(self._spool()))
        except BaseException:
            self.close()
            raise

    def add(self, positions: NDArray[np.int64], samples: Samples) -> None:
        """Take samples (``token_ids``, ``labels_mask``), one for each of ``positions``; below 0 means unused."""
        token_ids, spans = _columns(samples)
        offsets = offsets_of(samples.lengths)
        span_offsets = offsets_of(spans.counts)
        which = np.searchsorted(self._bounds, positions, side="right") - 1
        for window in np.unique(which[positions >= 0]).tolist():
            chosen = np.flatnonzero((which == window) & (positions >= 0))
            self._windows[window].take(positions[chosen], chosen, token_ids, offsets, spans, span_offsets)

    def windows(self) -> Iterator[Samples]:
        """All samples in order, a window at a time; each window is forgotten when the next is asked for."""
        for index, window in enumerate(self._windows):
            lo, hi = int(self._bounds[index]), int(self._bounds[index + 1])
            yield window.in_order(self._lengths[lo:hi], lo)
            window.close()

    def close(self) -> None:
        """Delete the temporary files."""
        for window in self._windows:
            window.close()

    def _spool(self) -> IO[bytes] | None:
        """A file for a window, or None if there is one window only, which then stays in memory."""
        if len(self._bounds) <= 2:
            return None
        try:
            return tempfile.TemporaryFile(dir=self._folder, prefix="castore-")
        except OSError as error:
            raise BackendError(
                f"no temporary file in {self._folder or tempfile.gettempdir()}: {error.strerror}"
            ) from error


class _Window:
    """The samples of one window in the order they came."""

    def __init__(self, file: IO[bytes] | None) -> None:
        self._file = file
        self._tokens: list[NDArray[np.uint32]] = []
        self._positions: list[NDArray[np.int64]] = []
        self._spans: list[SpanColumn] = []

    def take(
        self,
        positions: NDArray[np.int64],
        chosen: NDArray[np.int64],
        token_ids: NDArray[np.uint32],
        offsets: NDArray[np.int64],
        spans: SpanColumn,
        span_offsets: NDArray[np.int64],
    ) -> None:
        """Keep the samples ``chosen`` (ascending indices) of a batch."""
        tokens = take_ragged(token_ids, offsets, chosen)
        if self._file is None:
            self._tokens.append(tokens)
        else:
            try:
                self._file.write(np.ascontiguousarray(tokens).data)
            except OSError as error:
                raise BackendError(f"temporary file: {error.strerror}", full=is_full(error)) from error
        self._positions.append(positions)
        starts = take_ragged(spans.starts, span_offsets, chosen)
        self._spans.append(SpanColumn(spans.counts[chosen], starts, take_ragged(spans.stops, span_offsets, chosen)))

    def in_order(self, lengths: NDArray[np.uint32], first: int) -> Samples:
        """The samples of the window by position; ``lengths`` are theirs and ``first`` is the first position."""
        positions = np.concatenate(self._positions) - first if self._positions else np.zeros(0, np.int64)
        assert len(positions) == len(lengths), "every position must have got its sample"
        came = np.argsort(positions, kind="stable")
        offsets = offsets_of(lengths[positions])
        spans = SpanColumn.concat(self._spans) if self._spans else SpanColumn(*[np.zeros(0, np.uint32)] * 3)
        span_offsets = offsets_of(spans.counts)
        ordered = SpanColumn(
            spans.counts[came],
            take_ragged(spans.starts, span_offsets, came),
            take_ragged(spans.stops, span_offsets, came),
        )
        return Samples(lengths, {"token_ids": take_ragged(self._all_tokens(), offsets, came), "labels_mask": ordered})

    def _all_tokens(self) -> NDArray[np.uint32]:
        if self._file is None:
            return np.concatenate(self._tokens) if self._tokens else np.zeros(0, np.uint32)
        self._file.seek(0)
        return np.fromfile(self._file, np.uint32)

    def close(self) -> None:
        """Forget everything."""
        if self._file is not None:
            self._file.close()
        self._tokens, self._positions, self._spans = [], [], []


def take_ragged(items: NDArray[np.uint32], offsets: NDArray[np.int64], chosen: NDArray[np.int64]) -> NDArray[np.uint32]:
    """Concatenate the runs ``items[offsets[i]:offsets[i + 1]]`` for each i of ``chosen``, without a loop in Python.

    Each output element's index is its position plus the shift of its run. Runs are long enough for plain slices to be
    faster when they average over a few hundred elements, which is why both ways are here.
    """
    starts = offsets[chosen]
    counts = offsets[chosen + 1] - starts
    total = int(counts.sum())
    if total == 0:
        return items[:0]
    if total > 64 * len(chosen):
        stops = (starts + counts).tolist()
        return np.concatenate([items[lo:hi] for lo, hi in zip(starts.tolist(), stops, strict=True)])
    shifts = starts - offsets_of(counts)[:-1]
    return items[np.arange(total) + np.repeat(shifts, counts)]


def _window_bounds(offsets: NDArray[np.int64], window_items: int) -> NDArray[np.int64]:
    """First position of each window and one past the last: int64[windows + 1]; windows hold ``window_items`` or one."""
    count = len(offsets) - 1
    bounds = [0]
    while bounds[-1] < count:
        stop = int(np.searchsorted(offsets, offsets[bounds[-1]] + window_items, side="right")) - 1
        bounds.append(min(max(stop, bounds[-1] + 1), count))
    return np.array(bounds, np.int64)


def _columns(samples: Samples) -> tuple[NDArray[np.uint32], SpanColumn]:
    token_ids, spans = samples.columns["token_ids"], samples.columns["labels_mask"]
    assert isinstance(token_ids, np.ndarray)
    assert isinstance(spans, SpanColumn)
    return token_ids, spans
