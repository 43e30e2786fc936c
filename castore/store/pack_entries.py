"""Reading many values of packs at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from castore.format.pack import Place, check_of
from castore.format.pack_writer import Entry, entry_head
from castore.store.backend import Backend
from castore.store.pack_catalog import FoundValue, StoredPack

_READ_BYTES = 8 * 2**20
_GAP_BYTES = 64 * 1024  # that are read for nothing rather than in two requests
_REQUEST_BYTES = 4 * 2**20


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


def read_together(backend: Backend, found: Mapping[str, FoundValue]) -> Iterator[tuple[str, bytes]]:
    """Values of packs by key, neighbours by one request; those of a pack that went are left out."""
    spans: list[tuple[str, int, int, list[str]]] = []
    for key in sorted(found, key=lambda key: (found[key].pack.name, found[key].offset)):
        place = found[key]
        end = place.offset + place.size
        if spans:
            pack, start, stop, members = spans[-1]
            if pack == place.pack.key and place.offset - stop <= _GAP_BYTES and end - start <= _REQUEST_BYTES:
                spans[-1] = (pack, start, max(stop, end), [*members, key])
                continue
        spans.append((place.pack.key, place.offset, end, [key]))
    asked = [(pack, start, stop - start) for pack, start, stop, _ in spans]
    for (_, start, stop, members), (_, data) in zip(spans, backend.get_parts(asked), strict=True):
        if data is None or len(data) != stop - start:
            continue
        for key in members:
            at = found[key].offset - start
            yield key, data[at : at + found[key].size]
