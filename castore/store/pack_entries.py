"""Reading many values of one pack: in the order in which they lie there, some MiB at a time, each compared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from castore.format.pack import Place, check_of
from castore.format.pack_writer import Entry, entry_head
from castore.store.backend import Backend
from castore.store.pack_catalog import StoredPack

_READ_BYTES = 8 * 2**20


class ReadEntry(NamedTuple):
    """An entry that was read.

    Attributes:
        row: Of the index.
        entry: It, or None if its value is not as it was written.
        is_headed: Whether what stands before the value is as it was written.
    """

    row: int
    entry: Entry | None
    is_headed: bool


def read_entries(backend: Backend, pack: StoredPack, rows: Iterable[int]) -> Iterator[ReadEntry]:
    """Entries of a pack by their rows in the index, in the order in which they lie in the pack."""
    index, features = pack.index, pack.features
    wanted: list[tuple[int, Place, bytes]] = []
    for place, row in sorted((index.place(row), row) for row in rows):
        key = index.key(row)
        wanted.append((row, place, entry_head(key[0], key[1:], place.size, features.get(row, ()))))
    at = 0
    while at < len(wanted):
        start = wanted[at][1].offset - len(wanted[at][2])
        stop = at + 1
        while stop < len(wanted) and wanted[stop][1].offset + wanted[stop][1].size - start <= _READ_BYTES:
            stop += 1
        end = wanted[stop - 1][1].offset + wanted[stop - 1][1].size
        data = backend.get_part(pack.key, start, end - start) or b""
        for row, place, head in wanted[at:stop]:
            value_at = place.offset - start
            value = data[value_at : value_at + place.size]
            key = index.key(row)
            whole = Entry(key[0], key[1:], value, features.get(row, ())) if check_of(value) == place.check else None
            yield ReadEntry(row, whole, data[value_at - len(head) : value_at] == head)
        at = stop
