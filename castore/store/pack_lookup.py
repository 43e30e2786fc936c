"""One sorted table over the indexes of many packs: a lookup costs the same however many there are.

Of a name eight bytes decide nearly always, and the index of the pack the rest. 20 bytes an object, and 12 a feature.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from castore.format.pack import PackIndex

SHARING_MAX = 64
"""Objects with one feature that are told of: of more that share it, these are enough to find a relative."""

_KIND_BYTES = 1


class PackLookup:
    """Where values are in some packs.

    Args:
        indexes: Of the packs; what is found is told by its place in this list.
    """

    def __init__(self, indexes: Sequence[PackIndex]) -> None:
        self._indexes = indexes
        names, name_packs, name_rows = _joined([_names(index) for index in indexes], np.uint64)
        order = np.argsort(names, kind="stable")
        self._names, self._packs, self._rows = names[order], name_packs[order], name_rows[order]
        features, feature_packs, feature_rows = _joined([_features(index) for index in indexes], np.uint32)
        order = np.argsort(features, kind="stable")
        self._features, self._feature_packs = features[order], feature_packs[order]
        self._feature_rows = feature_rows[order]

    def find(self, name: bytes) -> tuple[int, int] | None:
        """Pack and row of a value, by kind and name, 33 bytes: the first of several packs."""
        return next(self.all(name), None)

    def all(self, name: bytes) -> Iterator[tuple[int, int]]:
        """Packs and rows of a value."""
        wanted = np.uint64(int.from_bytes(name[_KIND_BYTES : _KIND_BYTES + 8], "big"))
        at = int(np.searchsorted(self._names, wanted))
        while at < len(self._names) and self._names[at] == wanted:
            pack, row = int(self._packs[at]), int(self._rows[at])
            if self._indexes[pack].key(row) == name:
                yield pack, row
            at += 1

    def similar(self, features: Sequence[int]) -> Iterator[tuple[int, int, int]]:
        """Which of some features an object has that needs no other, its pack and row; once for each that it has."""
        wanted = np.array(features, np.uint32)
        first = self._features.searchsorted(wanted)
        inside = first < len(self._features)
        inside[inside] = self._features[first[inside]] == wanted[inside]
        if not inside.any():  # nearly always
            return
        last = np.minimum(self._features.searchsorted(wanted[inside], side="right"), first[inside] + SHARING_MAX)
        for number, lo, hi in zip(np.flatnonzero(inside).tolist(), first[inside].tolist(), last.tolist(), strict=True):
            for pack, row in zip(self._feature_packs[lo:hi].tolist(), self._feature_rows[lo:hi].tolist(), strict=True):
                yield number, pack, row


def _names(index: PackIndex) -> tuple[NDArray[np.uint64], NDArray[np.uint32]]:
    """The first eight bytes of each name, as a number, with its row."""
    rows = index.rows_table()
    beginnings = np.ascontiguousarray(rows[:, _KIND_BYTES : _KIND_BYTES + 8])
    return beginnings.view(">u8").ravel().astype(np.uint64), np.arange(len(rows), dtype=np.uint32)


def _features(index: PackIndex) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """The features of the objects whose frames need no others, with their rows."""
    features, rows = index.feature_columns()
    alone = ~np.isin(rows, np.fromiter((row for row, _ in index.bases()), np.uint32))
    return features[alone], rows[alone]


def _joined(
    columns: Sequence[tuple[NDArray[np.generic], NDArray[np.uint32]]], dtype: type[np.generic]
) -> tuple[NDArray[np.generic], NDArray[np.uint32], NDArray[np.uint32]]:
    """Values, packs and rows of all packs."""
    values = [np.zeros(0, dtype), *(value for value, _ in columns)]
    packs = [np.zeros(0, np.uint32), *(np.full(len(value), at, np.uint32) for at, (value, _) in enumerate(columns))]
    rows = [np.zeros(0, np.uint32), *(row for _, row in columns)]
    return np.concatenate(values), np.concatenate(packs), np.concatenate(rows)
