"""The first difference in detail: element, text, origin, and place in an export."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from castore.diff.hunks import Hunk
from castore.diff.unequal_values import read_values, token_offsets
from castore.olmo.layout import Place, place_is_cheap, place_of
from castore.read.columns import Columns, SampleOrigin

_EXPORTED = ("token_ids", "labels_mask")


class Side(NamedTuple):
    """The first difference as one side has it.

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
    origin: SampleOrigin | None = None
    place: Place | None = None


@dataclass(frozen=True, slots=True)
class FirstDifference:
    """The first difference in stored order: array, index within the sample, and both sides.

    Attributes:
        placed: Whether places were looked for. In large shuffled datasets they are only if asked for.
    """

    array: str
    index: int
    a: Side
    b: Side
    placed: bool = True


def first_difference(a: Columns, b: Columns, hunk: Hunk, context: int, places: bool) -> FirstDifference:
    """The first difference within the first hunk; see ``compare`` for the options."""
    sample_a = None if hunk.op == "insert" else hunk.a[0]
    sample_b = None if hunk.op == "delete" else hunk.b[0]
    array, index = ("token_ids", 0)
    if sample_a is not None and sample_b is not None:
        array, index = _first_element(a, sample_a, b, sample_b, hunk.arrays[0])
    placed = places or all(place_is_cheap(data) for data in (a, b))
    sides = [_side(data, at, array, index, context, placed) for data, at in ((a, sample_a), (b, sample_b))]
    return FirstDifference(array, index, sides[0], sides[1], placed)


def _first_element(a: Columns, sample_a: int, b: Columns, sample_b: int, array: str) -> tuple[str, int]:
    """Array and index at which two samples part."""
    if array == "token_ids":
        pair = a.reader.tokens(sample_a, sample_a + 1)[0], b.reader.tokens(sample_b, sample_b + 1)[0]
        return array, _first_unequal(*pair)
    kind_a, kind_b = a.tree(array).array, b.tree(array).array
    if kind_a != kind_b or kind_a.axis == "sample":
        return array, 0
    values_a, values_b = read_values(a, array, sample_a, sample_a + 1), read_values(b, array, sample_b, sample_b + 1)
    if kind_a.is_spans:
        edges_a, edges_b = (np.column_stack(values.columns).reshape(-1) for values in (values_a, values_b))
        at = _first_unequal(edges_a, edges_b)
        # Two masks agree up to the smaller of the first edges in which they differ.
        return array, int(min([*edges_a[at : at + 1], *edges_b[at : at + 1]]))
    return array, _first_unequal(values_a.columns[0], values_b.columns[0])


def _first_unequal(x: NDArray[Any], y: NDArray[Any]) -> int:
    """Where two arrays part, the end of the shorter one at the latest."""
    count = min(len(x), len(y))
    unequal = x[:count] != y[:count]
    return int(unequal.argmax()) if unequal.any() else count


def _side(data: Columns, sample: int | None, array: str, index: int, context: int, placed: bool) -> Side:
    if sample is None:
        return Side(None)
    tokens, _ = data.reader.tokens(sample, sample + 1)
    token_array = data.tree(array).array.axis == "token"
    value = _element(data, array, sample, index, tokens) if index < len(tokens) or not token_array else None
    text = around = None
    if data.vocabulary is not None and token_array:
        decode = data.vocabulary.decode
        parts = tokens[max(index - context, 0) : index], tokens[index : index + 1], tokens[index + 1 :][:context]
        around = decode(parts[0].tolist()), decode(parts[1].tolist()), decode(parts[2].tolist())
        text = around[1] if len(parts[1]) else None
    place = place_of(data, sample, index, array) if array in _EXPORTED and placed else None
    return Side(sample, value, text, around, data.origin(sample), place)


def _element(data: Columns, name: str, sample: int, index: int, tokens: NDArray[np.uint32]) -> int | float | str:
    """An element of a sample, as JSON has it."""
    if name == "token_ids":
        return int(tokens[index])
    array = data.tree(name).array
    if array.is_spans:
        spans = data.reader.spans(name, sample, sample + 1)
        return int(np.any((spans.starts <= index) & (index < spans.stops)))
    at = int(token_offsets(data, sample, sample + 1)[0]) + index if array.axis == "token" else sample
    element = data.reader.elements(name, at, at + 1)
    if array.dtype == "bytes16":
        return element.tobytes().hex()
    value: int | float = element[0].item()
    if isfinite(value):
        return value
    stored = element.astype(element.dtype.newbyteorder("<")).tobytes()
    return f"{value} ({stored.hex()})"  # JSON has no such numbers; NaNs come in many kinds
