"""Rows of Parquet files, as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from castore.errors import MissingExtraError, SourceError
from castore.ingest.readers import FileReader, IntArray, RowBatch, one_line, orjson_library

# Rows are decoded about so many bytes at a time; few, because repeated strings are stored once and may be many times as
# large when decoded.
_BATCH_BYTES = 1024 * 1024
_BATCH_ROWS_MAX = 256
# The only columns that can change tokens.
_COLUMNS = ("messages", "tools")


class ParquetReader(FileReader):
    """Parquet with a ``messages`` column. Each row becomes a JSON object of the columns that can change tokens."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        with self._table():
            pass

    def batches(self, wanted: IntArray | None) -> Iterator[RowBatch]:
        """As ``RowReader`` says."""
        orjson = orjson_library()
        with self._table() as table:
            for group, first in self._groups(table, wanted):
                for batch in table.iter_batches(
                    batch_size=_batch_rows(table.metadata.row_group(group)),
                    row_groups=[group],
                    columns=[name for name in table.schema_arrow.names if name in _COLUMNS],
                    # Threads would outlive a fork, and the workers have the cores.
                    use_threads=False,
                ):
                    numbers = np.arange(first, first + batch.num_rows, dtype=np.int64)
                    first += batch.num_rows
                    if wanted is not None:
                        keep = np.isin(numbers, wanted, assume_unique=True)
                        numbers, batch = numbers[keep], batch.filter(_pyarrow().array(keep))
                    if len(numbers):
                        yield RowBatch(self._rows(batch, orjson, numbers), numbers, numbers + 1)

    def count(self) -> int:
        """As ``RowReader`` says."""
        with self._table() as table:
            return int(table.metadata.num_rows)

    def _groups(self, table: Any, wanted: IntArray | None) -> Iterator[tuple[int, int]]:
        """Row groups that hold wanted rows, each with the number of its first row."""
        first = 0
        self.bytes_read = 0
        for group in range(table.metadata.num_row_groups):
            after = first + table.metadata.row_group(group).num_rows
            if wanted is None or np.searchsorted(wanted, first) < np.searchsorted(wanted, after):
                yield group, first
            first = after
            # Row groups need not lie one after another: their share of the rows is as near as progress has to be.
            self.bytes_read = self.stamp[0] * after // max(table.metadata.num_rows, 1)

    def _rows(self, batch: Any, orjson: Any, numbers: IntArray) -> list[bytes]:
        try:
            return [orjson.dumps(row) for row in batch.to_pylist()]
        except (TypeError, ValueError) as error:
            raise SourceError(
                self.name, f"this row or one soon after it has no JSON form: {error}", row=int(numbers[0]) + 1
            ) from error

    @contextmanager
    def _table(self) -> Iterator[Any]:
        """The open file as ``pyarrow.parquet.ParquetFile``, its columns checked."""
        pyarrow = _pyarrow()
        with self._reading() as file:
            try:
                with pyarrow.parquet.ParquetFile(file, pre_buffer=False) as table:
                    if "messages" not in table.schema_arrow.names:
                        raise SourceError(self.name, "no column `messages`", field="messages")
                    yield table
            except SourceError:
                raise
            except (pyarrow.ArrowException, OSError, ValueError, LookupError) as error:
                # Damaged metadata surfaces as names that are not UTF-8, or as columns that are not there.
                raise SourceError(self.name, f"not readable as Parquet: {one_line(error)}") from error


def _batch_rows(group: Any) -> int:
    """How many rows of a row group make about ``_BATCH_BYTES`` before dictionaries are resolved."""
    columns = (group.column(at) for at in range(group.num_columns))
    byte_count = sum(
        column.total_uncompressed_size for column in columns if column.path_in_schema.partition(".")[0] in _COLUMNS
    )
    row_bytes = byte_count // max(group.num_rows, 1) + 1
    return int(min(max(_BATCH_BYTES // row_bytes, 1), _BATCH_ROWS_MAX))


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError("pyarrow", "parquet") from error
    return pyarrow
