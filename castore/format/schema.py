"""Arrays of a dataset: names, element types, and which tree level their chunks sit at."""

from __future__ import annotations

from typing import Final

from castore.errors import FormatError
from castore.frozen import frozen

ITEM_BYTES: Final = {
    "uint8": 1,
    "uint16": 2,
    "uint32": 4,
    "uint64": 8,
    "int64": 8,
    "float32": 4,
    "float64": 8,
    "bytes16": 16,
}
"""Stored bytes of one element, little-endian. ``bool`` has none: it is stored as spans."""

KEY_BYTES: Final = 16
"""Bytes of a sample's key: BLAKE3 of its token ids (uint32, little-endian), cut to 16 bytes."""

IGNORED_LABEL: Final = -100
"""The label, for trainers, of a token that the loss does not count: as PyTorch and Hugging Face have it."""

GRAIN_MAX: Final = 1
"""Arrays are chunked per level-0 run (grain 0) or per level-1 run (grain 1), nothing coarser."""


@frozen
class Array:
    """One array of a dataset.

    Attributes:
        name: Lower-case letters, digits and underscores.
        dtype: A key of ``ITEM_BYTES``, or ``bool`` for an array with axis ``token`` that is stored as spans.
        axis: ``token``: as many elements in a sample as it has tokens; ``sample``: one element in a sample.
        grain: Level at which its chunks sit: 0 cuts them where token chunks are cut, 1 where level-1 nodes are, so
            that an array of few bytes in a row does not become a million tiny objects.
    """

    name: str
    dtype: str
    axis: str
    grain: int

    def __post_init__(self) -> None:
        plain = self.name.replace("_", "a")
        if not (plain.isascii() and plain.isalnum() and plain.lower() == plain and len(self.name) <= 64):
            raise FormatError(f"array name {self.name!r} is not lower-case letters, digits and underscores")
        if self.axis not in ("token", "sample"):
            raise FormatError(f"array {self.name} has the unknown axis {self.axis!r}")
        if self.dtype not in ITEM_BYTES and not (self.dtype == "bool" and self.axis == "token"):
            raise FormatError(f"array {self.name} has the unknown dtype {self.dtype!r} for axis {self.axis}")
        if not 0 <= self.grain <= GRAIN_MAX:
            raise FormatError(f"array {self.name} has grain {self.grain}, outside 0 to {GRAIN_MAX}")

    @property
    def is_spans(self) -> bool:
        """True if chunks hold spans of true elements in place of the elements."""
        return self.dtype == "bool"


TOKEN_IDS: Final = Array("token_ids", "uint32", "token", 0)
LABELS_MASK: Final = Array("labels_mask", "bool", "token", 0)
LENGTH: Final = Array("length", "uint32", "sample", 1)
KEY: Final = Array("key", "bytes16", "sample", 1)
SOURCE: Final = Array("source", "uint32", "sample", 1)
ROW: Final = Array("row", "uint64", "sample", 1)
RAW_KEY: Final = Array("raw_key", "bytes16", "sample", 1)

DATA_ARRAYS: Final = (TOKEN_IDS, LABELS_MASK, LENGTH, KEY, SOURCE)
"""Arrays of the root: what the samples are."""

PROVENANCE_ARRAYS: Final = (ROW, RAW_KEY)
"""Arrays of the run record: which row of which source a sample came from. They never touch the root."""
