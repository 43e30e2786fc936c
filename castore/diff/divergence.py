"""The first difference in detail: element, text, origin, and place in an export."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from struct import unpack
from typing import NamedTuple

from castore.diff.hunks import Hunk
from castore.format.schema import ITEM_BYTES
from castore.olmo.layout import Place, place_is_cheap, place_of
from castore.read.columns import Columns, Origin

_EXPORTED = ("token_ids", "labels_mask")

_STRUCT = {
    "uint8": "B",
    "uint16": "H",
    "uint32": "I",
    "uint64": "Q",
    "int64": "q",
    "float32": "f",
    "float64": "d",
}


class Side(NamedTuple):
    """The first divergence as one side has it.

    Attributes:
        sample: The sample, None if this side has none there.
        value: The element (a key in hexadecimal), None if the sample is shorter or absent.
        text: Text of the token at the index, None if there is none or no vocabulary was recorded.
        context: Text before, at and after the index, None likewise.
        origin: Where the sample came from.
        place: Where the element stands in an export, None if it is in none.
    """

    sample: int | None
    value: int | float | str | None = None
    text: str | None = None
    context: tuple[str, str, str] | None = None
    origin: Origin | None = None
    place: Place | None = None


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first difference in stored order: array, index within the sample, and both sides.

    Attributes:
        placed: Whether places were looked for. In large shuffled datasets they are only if asked for.
    """

    array: str
    index: int
    a: Side
    b: Side
    placed: bool = True


def first_divergence(a: Columns, b: Columns, hunk: Hunk, context: int, places: bool) -> Divergence:
    """The first difference within the first hunk; see ``compare`` for the options."""
    sample_a = None if hunk.op == "insert" else hunk.a[0]
    sample_b = None if hunk.op == "delete" else hunk.b[0]
    array, index = ("token_ids", 0)
    if sample_a is not None and sample_b is not None:
        array, index = _first_element(a, sample_a, b, sample_b, hunk.arrays[0])
    placed = places or all(place_is_cheap(data) for data in (a, b))
    sides = [_side(data, at, array, index, context, placed) for data, at in ((a, sample_a), (b, sample_b))]
    return Divergence(array, index, sides[0], sides[1], placed)


def _first_element(a: Columns, sample_a: int, b: Columns, sample_b: int, array: str) -> tuple[str, int]:
    """Array and index at which two samples part."""
    if array == "token_ids":
        pair = a.token_ids(sample_a, sample_a + 1)[0], b.token_ids(sample_b, sample_b + 1)[0]
        return array, _first_unequal(*pair)
    kind_a, kind_b = a.tree(array).array, b.tree(array).array
    if kind_a != kind_b or kind_a.axis == "sample":
        return array, 0
    if kind_a.is_spans:
        edges_a = [edge for span in a.spans(sample_a, sample_a + 1, array)[0] for edge in span]
        edges_b = [edge for span in b.spans(sample_b, sample_b + 1, array)[0] for edge in span]
        at = _first_unequal(edges_a, edges_b)
        # Two masks agree up to the smaller of the first edges in which they differ.
        return array, min([*edges_a[at : at + 1], *edges_b[at : at + 1]])
    bytes_a, bytes_b = a.elements(array, sample_a, sample_a + 1)[0], b.elements(array, sample_b, sample_b + 1)[0]
    return array, _first_unequal(bytes_a, bytes_b) // ITEM_BYTES[kind_a.dtype]


def _first_unequal(x: Sequence[int], y: Sequence[int]) -> int:
    return next((i for i, (p, q) in enumerate(zip(x, y, strict=False)) if p != q), min(len(x), len(y)))


def _side(data: Columns, sample: int | None, array: str, index: int, context: int, placed: bool) -> Side:
    if sample is None:
        return Side(None)
    tokens = data.token_ids(sample, sample + 1)[0]
    token_array = data.tree(array).array.axis == "token"
    value = _element(data, array, sample, index, tokens) if index < len(tokens) or not token_array else None
    text = around = None
    if data.vocabulary is not None and token_array:
        decode = data.vocabulary.decode
        parts = tokens[max(index - context, 0) : index], tokens[index : index + 1]
        around = decode(parts[0]), decode(parts[1]), decode(tokens[index + 1 : index + 1 + context])
        text = around[1] if len(parts[1]) else None
    place = place_of(data, sample, index, array) if array in _EXPORTED and placed else None
    return Side(sample, value, text, around, data.origin(sample), place)


def _element(data: Columns, name: str, sample: int, index: int, tokens: Sequence[int]) -> int | float | str:
    if name == "token_ids":
        return tokens[index]
    array = data.tree(name).array
    if array.is_spans:
        return int(any(lo <= index < hi for lo, hi in data.spans(sample, sample + 1, name)[0]))
    at = ITEM_BYTES[array.dtype] * (index if array.axis == "token" else 0)
    raw = data.elements(name, sample, sample + 1)[0][at : at + ITEM_BYTES[array.dtype]]
    if array.dtype == "bytes16":
        return raw.hex()
    value: int | float = unpack("<" + _STRUCT[array.dtype], raw)[0]
    return value if isfinite(value) else f"{value} ({raw.hex()})"  # JSON has no such numbers; NaNs come in many kinds
