"""Rows of Arrow streams: the files in which the ``datasets`` library saves and keeps rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from castore.errors import SourceError
from castore.ingest.columns import batch_rows, pyarrow_library, rows_of
from castore.ingest.readers import FileReader, IntArray, RowBatch, one_line


class ArrowReader(FileReader):
    """An Arrow stream, read from its file and not through a map of it, which would end the process if it shrank."""

    def names(self) -> list[str]:
        """As ``RowReader`` says."""
        with self._stream() as stream:
            return list(stream.schema.names)

    def batches(self, wanted: IntArray | None) -> Iterator[RowBatch]:
        """As ``RowReader`` says."""
        first = 0
        self.bytes_read = 0
        with self._stream() as stream:
            columns = [name for name in self.columns if name in stream.schema.names]
            for whole in stream:
                step = batch_rows(whole.select(columns).nbytes, whole.num_rows)
                for lo in range(0, whole.num_rows, step):
                    batch = whole.slice(lo, step)
                    numbers = np.arange(first + lo, first + lo + batch.num_rows, dtype=np.int64)
                    if wanted is not None:
                        keep = np.isin(numbers, wanted, assume_unique=True)
                        numbers, batch = numbers[keep], batch.filter(pyarrow_library().array(keep))
                    if len(numbers):
                        yield RowBatch(rows_of(batch, columns), numbers, numbers + 1)
                first += whole.num_rows
                if wanted is not None and first > wanted[-1]:
                    return

    def count(self) -> int:
        """As ``RowReader`` says."""
        with self._stream() as stream:
            return sum(batch.num_rows for batch in stream)

    @contextmanager
    def _stream(self) -> Iterator[Any]:
        pyarrow = pyarrow_library()
        with self.reading() as file:
            try:
                with pyarrow.ipc.open_stream(file) as stream:
                    yield stream
            except SourceError:
                raise
            except (pyarrow.ArrowException, OSError, ValueError, LookupError) as error:
                raise SourceError(self.name, f"not readable as an Arrow stream: {one_line(error)}") from error
