"""A dataset as the keys and values of a zarr v3 group (https://zarr-specs.readthedocs.io/en/latest/v3/core/).

Nothing is stored twice: metadata are made from the manifest, and a chunk of an array from the chunks of the dataset
that it overlaps. No zarr here: this is what its stores hold, as plain bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from castore.errors import InvalidInputError
from castore.format.digest import digest_hex
from castore.format.schema import LABELS_MASK, SOURCE, TOKEN_IDS, Array
from castore.read.reader import Reader

if TYPE_CHECKING:
    from castore.read.columns import Columns

CHUNK_ITEMS = 1 << 18
"""Elements in a chunk of the regular grid, the last one aside: 1 MiB of token ids."""

GRIDS = ("regular", "rectilinear")

METADATA_KEY = "zarr.json"

_TEXTS: Mapping[str, Mapping[str, str]] = {
    TOKEN_IDS.name: {"long_name": "ids of the tokens, sample after sample", "units": "token id"},
    LABELS_MASK.name: {"long_name": "whether the loss counts at the token", "units": "1"},
    "sample_offsets": {"long_name": "where samples begin and end in the arrays of tokens", "units": "token"},
    SOURCE.name: {"long_name": "number of the source of the sample", "units": "1"},
}


@dataclass(frozen=True, slots=True)
class _Column:
    """One array of the group.

    Attributes:
        shape: Of the array.
        dtype: Its zarr name is that of numpy.
        dimensions: Names of its axes.
        edges: Where the chunks along the first axis begin and end; None for every ``CHUNK_ITEMS``.
        read: Gives elements ``lo`` to ``hi`` of the first axis.
        attributes: Shown to users.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    dimensions: tuple[str, ...]
    edges: Sequence[int] | None
    read: Callable[[int, int], NDArray[Any]]
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def chunk_items(self) -> int:
        """Elements along the first axis in a chunk of the regular grid."""
        return max(min(CHUNK_ITEMS, self.shape[0]), 1)

    @property
    def chunks(self) -> int:
        """Chunks along the first axis."""
        return -(-self.shape[0] // self.chunk_items) if self.edges is None else len(self.edges) - 1

    def chunk(self, number: int) -> bytes:
        """The bytes of a chunk; those of the regular grid are all of one size."""
        if self.edges is not None:
            return self._bytes(self.edges[number], self.edges[number + 1])
        lo = number * self.chunk_items
        raw = self._bytes(lo, min(lo + self.chunk_items, self.shape[0]))
        row = self.dtype.itemsize * int(np.prod(self.shape[1:], dtype=np.int64))
        return raw.ljust(self.chunk_items * row, b"\0")

    def _bytes(self, lo: int, hi: int) -> bytes:
        return np.ascontiguousarray(self.read(lo, hi), self.dtype.newbyteorder("<")).tobytes()

    def metadata(self) -> dict[str, Any]:
        """The metadata document."""
        rest = list(self.shape[1:])
        if self.edges is None:
            grid: dict[str, Any] = {
                "name": "regular",
                "configuration": {"chunk_shape": [self.chunk_items, *rest]},
            }
        else:
            sizes = [b - a for a, b in zip(self.edges, self.edges[1:], strict=False)]
            grid = {
                "name": "rectilinear",
                "configuration": {"kind": "inline", "chunk_shapes": [sizes or 1, *rest]},
            }
        plain = self.dtype.itemsize == 1
        return {
            "zarr_format": 3,
            "node_type": "array",
            "shape": list(self.shape),
            "data_type": self.dtype.name,
            "chunk_grid": grid,
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": False if self.dtype == np.bool_ else 0.0 if self.dtype.kind == "f" else 0,
            "codecs": [{"name": "bytes"} if plain else {"name": "bytes", "configuration": {"endian": "little"}}],
            "attributes": dict(self.attributes),
            "dimension_names": list(self.dimensions),
            "storage_transformers": [],
        }


class DatasetContent:
    """Keys and values of the group of one dataset.

    Args:
        data: The dataset.
        grid: ``regular``: chunks of equal size, which every reader of zarr knows; ``rectilinear``: those of the
            dataset, so that a chunk that is read is one chunk of the repository.
    """

    def __init__(self, data: Columns, grid: str = "regular") -> None:
        if grid not in GRIDS:
            raise InvalidInputError(f"grid {grid!r} is unknown: give one of {', '.join(GRIDS)}")
        self._data, self._grid = data, grid
        self._reader = Reader(data)
        self._columns = self._made()
        documents = {name: column.metadata() for name, column in self._columns.items()}
        self._documents = {f"{name}/{METADATA_KEY}": _json(document) for name, document in documents.items()} | {
            METADATA_KEY: _json(self._group(documents))
        }

    def get(self, key: str) -> bytes | None:
        """The value under a key, None if there is none."""
        if key in self._documents:
            return self._documents[key]
        place = self._place(key)
        return None if place is None else place[0].chunk(place[1])

    def has(self, key: str) -> bool:
        """Whether there is a value under a key."""
        return key in self._documents or self._place(key) is not None

    def _place(self, key: str) -> tuple[_Column, int] | None:
        """The array and chunk that a key means."""
        name, _, place = key.partition("/c/")
        column = self._columns.get(name)
        if column is None:
            return None
        first, *others = place.split("/")
        number = int(first) if first.isascii() and first.isdecimal() and len(first) < 20 else -1
        whole = str(number) == first and others == ["0"] * (len(column.shape) - 1)
        return (column, number) if whole and 0 <= number < column.chunks else None

    def keys(self, prefix: str) -> Iterator[str]:
        """All keys that begin with ``prefix``."""
        yield from (key for key in self._documents if key.startswith(prefix))
        for name, column in self._columns.items():
            start, end = f"{name}/c/", "/0" * (len(column.shape) - 1)
            if start.startswith(prefix) or prefix.startswith(start):
                yield from (key for i in range(column.chunks) if (key := f"{start}{i}{end}").startswith(prefix))

    # ---- the group

    def _made(self) -> dict[str, _Column]:
        manifest, reader = self._data.manifest, self._reader
        shown = [TOKEN_IDS, LABELS_MASK, SOURCE, *reader.extra]
        columns = {array.name: self._column(array) for array in shown if array.name in manifest.arrays}
        count = manifest.samples + 1
        columns["sample_offsets"] = _Column(
            (count,),
            np.dtype(np.int64),
            ("sample_edge",),
            None if self._grid == "regular" else [*range(0, count, CHUNK_ITEMS), count],
            reader.sample_offsets,
            _TEXTS["sample_offsets"],
        )
        return columns

    def _column(self, array: Array) -> _Column:
        items = self._data.manifest.arrays[array.name][1].items
        pair = array.dtype == "bytes16"
        texts = _TEXTS.get(array.name, {"long_name": f"{array.name}, one a {array.axis}"})
        return _Column(
            (items, 16) if pair else (items,),
            self._reader.dtype(array),
            (array.axis, "byte") if pair else (array.axis,),
            self._edges(array, items),
            lambda lo, hi: self._reader.elements(array.name, lo, hi),
            {**texts, "castore_dtype": array.dtype, "castore_axis": array.axis},
        )

    def _edges(self, array: Array, items: int) -> list[int] | None:
        """Where the chunks of the dataset begin and end, those without elements left out."""
        if self._grid == "regular":
            return None
        leaves = self._reader.index(array.name).leaves_of_items(0, items)
        return list(accumulate((leaf.entry.items for leaf in leaves), initial=0))

    def _group(self, documents: Mapping[str, Any]) -> dict[str, Any]:
        data = self._data
        order = data.order
        attributes: dict[str, Any] = {
            "castore_root": digest_hex(data.root),
            "samples": data.manifest.samples,
            "tokens": data.manifest.tokens,
            "sources": list(data.sources),
            "order": None if order is None else {"algorithm": order.algorithm, "seed": order.seed, "take": order.take},
        }
        return {
            "zarr_format": 3,
            "node_type": "group",
            "attributes": attributes,
            "consolidated_metadata": {
                "kind": "inline",
                "must_understand": False,
                "metadata": dict(sorted(documents.items())),
            },
        }


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, indent=2).encode()
