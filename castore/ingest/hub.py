"""Rows of a Hugging Face dataset, through the ``datasets`` library: from the hub or its cache.

Where the rows come from is the library's affair: its cache, its offline mode, its way to find data files. What is taken
from them is fixed here: the columns that count, of every row as one JSON object, nulls kept, so that the same rows are
the same bytes on every machine. The library's cache holds what a revision says; of a local folder it may hold what was
there before, so that those are read without it (``folders``).
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from blake3 import blake3

from castore.errors import MissingExtraError, SourceError
from castore.ingest.columns import batch_rows, rows_of
from castore.ingest.readers import IntArray, RowBatch, RowReader, one_line

_REASON_LENGTH_MAX = 300


class HubReader(RowReader):
    """Rows of one split of a dataset. The library keeps them in a file that is mapped, not in memory.

    Args:
        name: As ``datasets.load_dataset`` takes it.
        split: Likewise.
        revision: Branch, tag or commit.
        folder: That the name means, if it is a local one: it is read anew, into a cache of this reader alone.

    Attributes:
        warnings: What the library had to say, a line each.

    Raises:
        SourceError: No such dataset or split.
        MissingExtraError: ``datasets`` is not installed.
    """

    def __init__(self, name: str, split: str, revision: str, folder: Path | None = None) -> None:
        super().__init__(name)
        cache = None
        if folder is not None:
            cache = tempfile.mkdtemp(prefix="castore-datasets-")
            weakref.finalize(self, shutil.rmtree, cache, ignore_errors=True)
        self._data, self.warnings = _load(name, name if folder is None else str(folder), split, revision, cache)
        self._arrow = self._data.with_format("arrow")

    def names(self) -> list[str]:
        """As ``RowReader`` says."""
        return list(self._data.column_names)

    @property
    def byte_count(self) -> int:
        """Bytes of the columns as the library keeps them."""
        return int(self._data.data.nbytes)

    def batches(self, wanted: IntArray | None) -> Iterator[RowBatch]:
        """As ``RowReader`` says."""
        hasher = blake3()
        there = self.names()
        columns = [name for name in self.columns if name in there]
        for numbers in self._ranges(wanted):
            lo, hi = int(numbers[0]), int(numbers[-1]) + 1
            rows = rows_of(self._arrow[lo:hi] if hi - lo == len(numbers) else self._arrow[numbers.tolist()], columns)
            if wanted is None:
                hasher.update(b"".join(row + b"\n" for row in rows))
            yield RowBatch(rows, numbers, numbers + 1)
        if wanted is None:
            self.settle(hasher.hexdigest())

    def count(self) -> int:
        """As ``RowReader`` says."""
        return len(self._data)

    def scan_digest(self) -> str:
        """BLAKE3 of the rows as JSON lines: equal for equal rows, wherever the library found them."""
        for _ in self.batches(None):
            pass
        assert self.digest is not None
        return self.digest

    def _ranges(self, wanted: IntArray | None) -> Iterator[IntArray]:
        """Row numbers a batch at a time, int64[1 to BATCH_ROWS_MAX]; of ``wanted`` only, if it is given."""
        count = len(self._data)
        step = batch_rows(self.byte_count, count)
        self.bytes_read = 0
        for lo in range(0, count, step):
            numbers = np.arange(lo, min(lo + step, count), dtype=np.int64)
            if wanted is not None:
                numbers = numbers[np.isin(numbers, wanted, assume_unique=True)]
            if len(numbers):
                yield numbers
            self.bytes_read = self.byte_count * min(lo + step, count) // count


# ---- the library


def datasets_library() -> Any:
    """The library; MissingExtraError if it is not installed."""
    try:
        import datasets
    except ImportError as error:
        raise MissingExtraError("datasets", "datasets") from error
    return datasets


@contextmanager
def loading(name: str) -> Iterator[list[str]]:
    """Calls of the library: what it has to say is collected, and its errors, of all the libraries below it, are one.

    Raises:
        SourceError: Whatever it raised.
    """
    with silenced(datasets_library()) as said:
        try:
            yield said
        except SourceError:
            raise
        except Exception as error:
            raise SourceError(name, f"cannot be loaded as a Hugging Face dataset: {_reason(error)}") from error


def _load(name: str, place: str, split: str, revision: str, cache: str | None) -> tuple[Any, tuple[str, ...]]:
    """The dataset, and what the library had to say."""
    datasets = datasets_library()
    with loading(name) as said:
        data = datasets.load_dataset(place, split=split, revision=revision, cache_dir=cache)
    if not isinstance(data, datasets.Dataset):
        raise SourceError(name, f"split {split} is not one set of rows")
    return data, tuple(f"{name}: {line}" for line in dict.fromkeys(said))


def _reason(error: BaseException) -> str:
    """The error that began it, in one line: the library wraps what goes wrong while it reads data files."""
    while error.__cause__ is not None and "generating the dataset" in str(error):
        error = error.__cause__
    text = one_line(error) or type(error).__name__
    return text if len(text) <= _REASON_LENGTH_MAX else text[: _REASON_LENGTH_MAX - 1] + "…"


@contextmanager
def silenced(datasets: Any) -> Iterator[list[str]]:
    """Collect what the library would write to stderr, where our own progress is; its progress bars are not shown."""
    said: list[str] = []
    loggers = [logging.getLogger(name) for name in ("datasets", "huggingface_hub")]
    before = [(logger, logger.handlers[:], logger.propagate) for logger in loggers]
    bars = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    for logger in loggers:
        logger.handlers, logger.propagate = [_Collector(said)], False
    try:
        with warnings.catch_warnings(record=True) as caught:
            yield said
        said.extend(one_line(one.message) for one in caught if issubclass(one.category, UserWarning))
    finally:
        for logger, handlers, propagate in before:
            logger.handlers, logger.propagate = handlers, propagate
        if bars:
            datasets.enable_progress_bars()


class _Collector(logging.Handler):
    """Keeps warnings as lines."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(one_line(record.getMessage()))
