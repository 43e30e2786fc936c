"""Rows of Parquet files, as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from castore.errors import SourceError
from castore.ingest.columns import batch_rows, pyarrow_library, rows_of
from castore.ingest.readers import FileReader, IntArray, RowBatch, one_line, orjson_library


class ParquetReader(FileReader):
    """Parquet. Each row becomes a JSON object of the columns that can change tokens, in the order of the file."""

    def __init__(self, name: str, path: str | None = None) -> None:
        super().__init__(name, path)
        with self._table():
            pass

    def names(self) -> list[str]:
        """As ``RowReader`` says."""
        with self._table() as table:
            return list(table.schema_arrow.names)

    def batches(self, wanted: IntArray | None) -> Iterator[RowBatch]:
        """As ``RowReader`` says."""
        pyarrow = pyarrow_library()
        orjson_library()
        with self._table() as table:
            columns = [name for name in table.schema_arrow.names if name in self.columns]
            for group, first in self._groups(table, wanted):
                for batch in table.iter_batches(
                    batch_size=_batch_rows(table.metadata.row_group(group), columns),
                    row_groups=[group],
                    columns=columns,
                    # Threads would outlive a fork, and the workers have the cores.
                    use_threads=False,
                ):
                    numbers = np.arange(first, first + batch.num_rows, dtype=np.int64)
                    first += batch.num_rows
                    if wanted is not None:
                        keep = np.isin(numbers, wanted, assume_unique=True)
                        numbers, batch = numbers[keep], batch.filter(pyarrow.array(keep))
                    if len(numbers):
                        yield RowBatch(rows_of(batch, columns), numbers, numbers + 1)

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

    @contextmanager
    def _table(self) -> Iterator[Any]:
        """The open file as ``pyarrow.parquet.ParquetFile``."""
        pyarrow = pyarrow_library()
        with self.reading() as file:
            try:
                with pyarrow.parquet.ParquetFile(file, pre_buffer=False) as table:
                    yield table
            except SourceError:
                raise
            except (pyarrow.ArrowException, OSError, ValueError, LookupError) as error:
                # Damaged metadata surfaces as names that are not UTF-8, or as columns that are not there.
                raise SourceError(self.name, f"not readable as Parquet: {one_line(error)}") from error


def _batch_rows(group: Any, names: Sequence[str]) -> int:
    """How many rows of a row group are decoded at a time, before dictionaries are resolved."""
    columns = (group.column(at) for at in range(group.num_columns))
    byte_count = sum(
        column.total_uncompressed_size for column in columns if column.path_in_schema.partition(".")[0] in names
    )
    return batch_rows(byte_count, group.num_rows)
