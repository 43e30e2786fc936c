"""Rows of a Hugging Face dataset, through the ``datasets`` library: from the hub, its cache, or a folder.

Where the rows come from is the library's affair: its cache, its offline mode, its way to find data files. What is taken
from them is fixed here: the columns ``messages`` and ``tools`` of every row as one JSON object, nulls kept, so that the
same rows are the same bytes on every machine.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from blake3 import blake3

from castore.errors import InvalidInputError, MissingExtraError, SourceError
from castore.ingest.defaults import FILE_SPLIT, MAIN_REVISION
from castore.ingest.readers import IntArray, RowBatch, RowReader, one_line, orjson_library
from castore.ingest.source import BLOCK_BYTES_TARGET, READ_SUFFIXES, Source

__all__ = ["open_source"]

# In the order in which they stand in a row.
_COLUMNS = ("messages", "tools")
# No dataset is called so; who writes it means a file.
_FILE_SUFFIXES = (*READ_SUFFIXES, ".arrow", ".bz2", ".csv", ".gz", ".npy", ".tsv", ".txt", ".xz", ".zip", ".zst")
_BATCH_BYTES = 1024 * 1024
_BATCH_ROWS_MAX = 256
_REASON_LENGTH_MAX = 300


def open_source(
    name: str, split: str = FILE_SPLIT, revision: str = MAIN_REVISION, *, block_bytes: int = BLOCK_BYTES_TARGET
) -> Source:
    """Open what an entry of a mix names: a local file, or a dataset for the ``datasets`` library.

    Args:
        name: Path of a file, or name of a dataset as ``datasets.load_dataset`` takes it, which may be a folder.
        split: As ``load_dataset`` takes it; a local file has ``train`` alone.
        revision: Branch, tag or commit of a dataset; a file has none, so that it is not looked at.
        block_bytes: As for ``Source``.

    Raises:
        SourceError: No such file or dataset, or it has no column ``messages``.
        InvalidInputError: Another split of a local file.
        MissingExtraError: The name is one of a dataset, and ``datasets`` is not installed.
    """
    if not _is_dataset_name(name):
        source = Source(name, block_bytes=block_bytes)
        if split != FILE_SPLIT:
            raise InvalidInputError(f"{name} is a local file, which has only the split {FILE_SPLIT}, not {split}")
        return source
    reader = _HubReader(name, split, revision)
    source = Source(name, block_bytes=block_bytes, reader=reader)
    source.split, source.revision, source.warnings = split, revision, reader.warnings
    return source


def _is_dataset_name(name: str) -> bool:
    """Whether a name is none of a local file: ``owner/name``, ``name``, or a folder.

    Names of datasets may have points in them, so that a suffix alone makes no file.
    """
    if not name or "\0" in name or name.lower().endswith(_FILE_SUFFIXES):
        return False
    path = Path(name)
    return path.is_dir() if path.exists() else spells_dataset(name)


def spells_dataset(name: str) -> bool:
    """Whether a name that no file or folder has may be one of a dataset: ``owner/name`` or ``name``."""
    if not name or "\0" in name or name.lower().endswith(_FILE_SUFFIXES):
        return False
    return PurePath(name).parts[0] not in ("/", "..", "~") and name[:2] != "./" and name.count("/") <= 1


class _HubReader(RowReader):
    """Rows of one split of a dataset. The library keeps them in a file that is mapped, not in memory.

    Attributes:
        warnings: What the library had to say, a line each.
    """

    def __init__(self, name: str, split: str, revision: str) -> None:
        super().__init__(name)
        self._data, self.warnings = _load(name, split, revision)
        if "messages" not in self._data.column_names:
            raise SourceError(name, "no column `messages`", field="messages")
        columns = [column for column in _COLUMNS if column in self._data.column_names]
        self._data = self._data.select_columns(columns)

    @property
    def byte_count(self) -> int:
        """Bytes of the columns as the library keeps them."""
        return int(self._data.data.nbytes)

    def batches(self, wanted: IntArray | None) -> Iterator[RowBatch]:
        hasher = blake3()
        for numbers in self._ranges(wanted):
            rows = self._rows(numbers)
            if wanted is None:
                hasher.update(b"".join(row + b"\n" for row in rows))
            yield RowBatch(rows, numbers, numbers + 1)
        if wanted is None:
            self.settle(hasher.hexdigest())

    def count(self) -> int:
        return len(self._data)

    def scan_digest(self) -> str:
        """BLAKE3 of the rows as JSON lines: equal for equal rows, wherever the library found them."""
        for _ in self.batches(None):
            pass
        assert self.digest is not None
        return self.digest

    def _ranges(self, wanted: IntArray | None) -> Iterator[IntArray]:
        """Row numbers a batch at a time, int64[1 to _BATCH_ROWS_MAX]; of ``wanted`` only, if it is given."""
        count = len(self._data)
        row_bytes = self.byte_count // max(count, 1) + 1
        step = min(max(_BATCH_BYTES // row_bytes, 1), _BATCH_ROWS_MAX)
        self.bytes_read = 0
        for lo in range(0, count, step):
            numbers = np.arange(lo, min(lo + step, count), dtype=np.int64)
            if wanted is not None:
                numbers = numbers[np.isin(numbers, wanted, assume_unique=True)]
            if len(numbers):
                yield numbers
            self.bytes_read = self.byte_count * min(lo + step, count) // count

    def _rows(self, numbers: IntArray) -> list[bytes]:
        orjson = orjson_library()
        lo, hi = int(numbers[0]), int(numbers[-1]) + 1
        try:
            columns = self._data[lo:hi] if hi - lo == len(numbers) else self._data[numbers.tolist()]
            # A text that is a date everywhere was made a time by the library: it is no text any more.
            return [orjson.dumps(row, option=orjson.OPT_PASSTHROUGH_DATETIME) for row in _transposed(columns)]
        except (TypeError, ValueError) as error:
            reason = f"this row or one soon after it has no JSON form: {one_line(error)}"
            raise SourceError(self.name, reason, row=lo + 1) from error


def _transposed(columns: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """Columns as rows, fields in the order of ``_COLUMNS``."""
    names = [name for name in _COLUMNS if name in columns]
    for values in zip(*(columns[name] for name in names), strict=True):
        yield dict(zip(names, values, strict=True))


# ---- the library


def _load(name: str, split: str, revision: str) -> tuple[Any, tuple[str, ...]]:
    """The dataset, and what the library had to say."""
    try:
        import datasets
    except ImportError as error:
        raise MissingExtraError("datasets", "datasets") from error
    with _silenced(datasets) as said:
        try:
            data = datasets.load_dataset(name, split=split, revision=revision)
        except Exception as error:  # the library raises errors of all the libraries below it
            raise SourceError(name, f"cannot be loaded as a Hugging Face dataset: {_reason(error)}") from error
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
def _silenced(datasets: Any) -> Iterator[list[str]]:
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
