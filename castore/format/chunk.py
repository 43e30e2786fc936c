"""Chunks: the elements of consecutive whole samples of one array.

Two kinds of object, both lists in canonical msgpack whose last element is the payload, so that the payload runs to the
end of the object (``docs/format/chunks.md``):

* ``["castore/values", dtype, sample_count, items]``: fixed-width little-endian elements, sample after sample. How many
  belong to each sample is told by the array ``length`` (axis ``token``) or is one (axis ``sample``).
* ``["castore/spans", sample_count, runs]``: a boolean array as its true spans, little-endian uint32:
  ``counts[sample_count]``, then ``gaps[span_count]``, then ``widths[span_count]``. A gap is the distance from the end
  of the span before it in the same sample (or from the sample's start), a width the number of true elements. Spans are
  maximal, so only the first gap of a sample may be 0, and no width is 0: a mask has one encoding.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NamedTuple

import msgpack

from castore.errors import FormatError
from castore.format.codec import encode, encode_before
from castore.format.fields import decode_list, expect, expect_count
from castore.format.object import Object
from castore.format.schema import ITEM_BYTES

VALUES_KIND = "castore/values"
SPANS_KIND = "castore/spans"


def uint32s(data: bytes | memoryview) -> Sequence[int]:
    """View little-endian uint32 bytes as integers without numpy; a copy on big-endian machines only."""
    view = memoryview(data)
    if sys.byteorder == "big":
        import array

        swapped = array.array("I", view.tobytes())
        swapped.byteswap()
        return swapped
    return view.cast("B").cast("I")


def encode_values(dtype: str, sample_count: int, items: bytes | memoryview) -> Object:
    """Encode a chunk of fixed-width elements.

    Args:
        dtype: A key of ``ITEM_BYTES``.
        sample_count: Samples that the elements belong to.
        items: The elements, little-endian, ``ITEM_BYTES[dtype]`` bytes each.
    """
    size = memoryview(items).nbytes
    if size % ITEM_BYTES[dtype]:
        raise FormatError(f"{size} bytes are not whole {dtype} elements")
    head = encode_before([VALUES_KIND, dtype, sample_count], size)
    return Object.of(b"".join((head, items)), len(head) if dtype in ("uint32", "uint64") else None)


class Values(NamedTuple):
    """A decoded chunk of elements: ``item_count`` little-endian elements of ``dtype`` in ``items``."""

    dtype: str
    sample_count: int
    items: memoryview

    @property
    def item_count(self) -> int:
        """Number of elements."""
        return len(self.items) // ITEM_BYTES[self.dtype]


def decode_values(data: bytes, dtype: str) -> Values:
    """Decode a values chunk. The items are a part of ``data``, not a copy, and need not be aligned.

    Raises:
        FormatError: Another kind of object, another dtype, or a payload that is not whole elements.
    """
    header = values_header(data)
    if header is not None and header[0] == dtype:
        return Values(dtype, header[1], memoryview(data)[len(data) - header[2] * ITEM_BYTES[dtype] :])
    _, found, count, payload = decode_list(data, VALUES_KIND, 4)  # says what is wrong
    if found != dtype:
        raise FormatError(f"chunk holds {found!r} elements, not {dtype}")
    items = memoryview(expect(bytes, payload, "payload of a values chunk"))
    if len(items) % ITEM_BYTES[dtype]:
        raise FormatError(f"chunk payload of {len(items)} bytes is not whole {dtype} elements")
    return Values(dtype, expect_count(count, "sample count of a chunk"), items)


def values_header(data: bytes) -> tuple[str, int, int] | None:
    """Element type, sample count and item count of a values chunk, from its first bytes: the payload is not touched.

    None for every other object, also for one that is not spelled as ``encode_values`` spells it: what this accepts
    ``decode_values`` accepts.
    """
    if not data.startswith(_VALUES_START):
        return None
    try:
        reader = msgpack.Unpacker(max_buffer_size=_HEADER_MAX)  # else a claim of 100 million elements is believed
        reader.feed(data[len(_VALUES_START) : len(_VALUES_START) + _HEADER_MAX])
        dtype, count = reader.unpack(), reader.unpack()
        payload_at = len(_VALUES_START) + reader.tell()
        width = {0xC4: 1, 0xC5: 2, 0xC6: 4}[data[payload_at]]
    except (ValueError, KeyError, IndexError, msgpack.exceptions.UnpackException):
        return None
    if type(dtype) is not str or dtype not in ITEM_BYTES or type(count) is not int or not 0 <= count < 1 << 63:
        return None
    size = len(data) - payload_at - 1 - width
    head = encode([VALUES_KIND, dtype, count, b""])[:-2]
    kind = 0xC4 if size < 1 << 8 else 0xC5 if size < 1 << 16 else 0xC6
    said = int.from_bytes(data[payload_at + 1 : payload_at + 1 + width], "big")
    if not data.startswith(head) or data[payload_at] != kind or said != size or size % ITEM_BYTES[dtype]:
        return None
    return dtype, count, size // ITEM_BYTES[dtype]


_VALUES_START = b"\x94" + encode(VALUES_KIND)
_HEADER_MAX = 32


def encode_spans(counts: bytes, gaps: bytes, widths: bytes) -> Object:
    """Encode a chunk of spans from three runs of little-endian uint32 (see the module's text)."""
    head = encode_before([SPANS_KIND, len(counts) // 4], len(counts) + len(gaps) + len(widths))
    return Object.of(b"".join((head, counts, gaps, widths)), len(head))


def span_parts(data: bytes) -> tuple[int, bytes]:
    """Sample count and runs of a spans chunk, not looked into.

    Raises:
        FormatError: Another kind of object, or runs that are no whole numbers.
    """
    _, count, payload = decode_list(data, SPANS_KIND, 3)
    sample_count = expect_count(count, "sample count of a chunk")
    raw = expect(bytes, payload, "payload of a spans chunk")
    if len(raw) % 4 or len(raw) < 4 * sample_count:
        raise FormatError(f"spans payload of {len(raw)} bytes does not fit {sample_count} samples")
    return sample_count, raw
