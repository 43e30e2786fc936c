"""Unit records: what became of one run of raw rows under one recipe, so that it is never tokenized twice.

A unit is named by what went in (the keys of its rows and the recipe), so the same rows are found again whichever file,
copy, run or user they come from. It is an accelerator: nothing is lost when it is (``docs/format/units.md``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from castore.errors import FormatError
from castore.format.chunk import uint32s
from castore.format.codec import Value, encode
from castore.format.digest import DIGEST_BYTES, Digest, digest_of
from castore.format.fields import decode_map, expect, expect_count
from castore.format.schema import KEY_BYTES, LABELS_MASK, TOKEN_IDS

UNIT_KIND = "castore/unit"
UNIT_VERSION = 1

_ENTRIES = frozenset({"dropped", "kept", "keys", "lengths", "lost", "row_count", "slices", "trainable"})
_CHUNK_NAMES = frozenset({TOKEN_IDS.name, LABELS_MASK.name})


def recipe_digest(recipe: Mapping[str, Value]) -> Digest:
    """Digest of all that can change tokens."""
    return digest_of(encode(["castore/recipe", dict(recipe)]))


def unit_name(recipe: Digest, row_keys: bytes) -> Digest:
    """Name of the unit of the rows whose keys (16 bytes each) are ``row_keys``, under a recipe."""
    return digest_of(encode(["castore/unit-name", recipe, row_keys]))


@dataclass(frozen=True, slots=True)
class Slice:
    """Samples ``lo`` to ``hi`` of chunks that hold ``count`` samples.

    Attributes:
        chunks: The chunks by array of grain 0.
        count: Samples in each of them.
        lo: First sample.
        hi: One past the last sample.
        item_lo: Tokens in the chunks before sample ``lo``.
    """

    chunks: Mapping[str, Digest]
    count: int
    lo: int
    hi: int
    item_lo: int


@dataclass(frozen=True, slots=True)
class LostColumn:
    """What rows lost of one kind, though they became samples.

    Attributes:
        reason: Why.
        subject: What: a role, a field of messages of a role, or the like.
        rows: Positions of the rows, ascending, uint32 little-endian.
        counts: How often in each of them, uint32 little-endian, at least 1.
    """

    reason: str
    subject: str
    rows: bytes
    counts: bytes


@dataclass(frozen=True, slots=True)
class Unit:
    """What became of the rows of a unit.

    Attributes:
        row_count: Rows that went in.
        kept: Positions of the rows that became samples, ascending, uint32 little-endian.
        lengths: Tokens of each sample, uint32 little-endian.
        keys: Key of each sample, 16 bytes each.
        trainable: Trainable tokens of all samples.
        dropped: Position and reason of every other row, ascending.
        slices: Where the samples lie, in order.
        lost: What rows lost that became samples, ascending by reason and subject.
    """

    row_count: int
    kept: bytes
    lengths: bytes
    keys: bytes
    trainable: int
    dropped: Sequence[tuple[int, str]]
    slices: Sequence[Slice]
    lost: Sequence[LostColumn] = field(default_factory=list)

    @property
    def sample_count(self) -> int:
        """Rows that became samples."""
        return len(self.kept) // 4

    def __post_init__(self) -> None:
        count = self.sample_count
        if len(self.kept) % 4 or len(self.lengths) != 4 * count or len(self.keys) != KEY_BYTES * count:
            raise FormatError("lists of a unit record differ in length")
        if count + len(self.dropped) != self.row_count:
            raise FormatError(f"unit record accounts for {count + len(self.dropped)} of {self.row_count} rows")
        kept, dropped = uint32s(self.kept), [position for position, _ in self.dropped]
        if any(a >= b for rows in (kept, dropped) for a, b in pairwise(rows)):
            raise FormatError("rows of a unit record do not ascend")
        if {*kept, *dropped} != set(range(self.row_count)):
            raise FormatError(f"unit record does not account for each of its {self.row_count} rows")
        if any(part.chunks.keys() != _CHUNK_NAMES for part in self.slices):
            raise FormatError(
                f"a slice of a unit record does not name the chunks of {' and '.join(sorted(_CHUNK_NAMES))}"
            )
        if sum(part.hi - part.lo for part in self.slices) != count:
            raise FormatError(f"slices of a unit record do not hold its {count} samples")
        if not all(0 <= part.lo < part.hi <= part.count for part in self.slices):
            raise FormatError("a slice of a unit record is empty or outside its chunk")
        if any((a.reason, a.subject) >= (b.reason, b.subject) for a, b in pairwise(self.lost)):
            raise FormatError("what rows of a unit record lost does not ascend")
        there = set(kept)
        for column in self.lost:
            if len(column.rows) % 4 or len(column.rows) != len(column.counts) or not column.rows:
                raise FormatError("lists of what rows of a unit record lost differ in length")
            rows = uint32s(column.rows)
            if any(a >= b for a, b in pairwise(rows)) or not there.issuperset(rows):
                raise FormatError("rows of a unit record that lost something do not ascend, or were not kept")
            if not all(uint32s(column.counts)):
                raise FormatError("a row of a unit record lost something no times")

    def encode(self) -> bytes:
        """Canonical bytes of the record."""
        return encode(
            {
                "dropped": [[position, reason] for position, reason in self.dropped],
                "format": UNIT_VERSION,
                "kept": self.kept,
                "keys": self.keys,
                "kind": UNIT_KIND,
                "lengths": self.lengths,
                "lost": [[column.reason, column.subject, column.rows, column.counts] for column in self.lost],
                "row_count": self.row_count,
                "slices": [[dict(part.chunks), part.count, part.lo, part.hi, part.item_lo] for part in self.slices],
                "trainable": self.trainable,
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> Unit:
        """Read a record; ``FormatError`` if it is none or contradicts itself."""
        fields = decode_map(data, UNIT_KIND, UNIT_VERSION, _ENTRIES)
        return cls(
            expect_count(fields.get("row_count"), "row_count"),
            expect(bytes, fields.get("kept"), "kept"),
            expect(bytes, fields.get("lengths"), "lengths"),
            expect(bytes, fields.get("keys"), "keys"),
            expect_count(fields.get("trainable"), "trainable"),
            [_dropped(item) for item in expect(list, fields.get("dropped"), "dropped")],
            [_slice(item) for item in expect(list, fields.get("slices"), "slices")],
            [_lost(item) for item in expect(list, fields.get("lost"), "lost")],
        )


def _dropped(value: Value) -> tuple[int, str]:
    pair = expect(list, value, "dropped row")
    if len(pair) != 2:
        raise FormatError("dropped row is not a pair")
    return expect_count(pair[0], "position of a dropped row"), expect(str, pair[1], "reason of a dropped row")


def _lost(value: Value) -> LostColumn:
    parts = expect(list, value, "what rows lost")
    if len(parts) != 4:
        raise FormatError("what rows lost does not have 4 elements")
    texts = [expect(str, part, "reason or subject of what rows lost") for part in parts[:2]]
    lists = [expect(bytes, part, "rows or counts of what rows lost") for part in parts[2:]]
    return LostColumn(texts[0], texts[1], lists[0], lists[1])


def _slice(value: Value) -> Slice:
    parts = expect(list, value, "slice")
    if len(parts) != 5:
        raise FormatError("slice does not have 5 elements")
    chunks = {}
    for name, raw in expect(dict, parts[0], "chunks of a slice").items():
        digest = expect(bytes, raw, f"chunk of {name}")
        if len(digest) != DIGEST_BYTES:
            raise FormatError(f"chunk of {name} is named by {len(digest)} bytes")
        chunks[name] = Digest(digest)
    return Slice(chunks, *(expect_count(part, "bound of a slice") for part in parts[1:]))
