"""zstd frames that were written out by RFC 8878: no compressor has a say, so no version of one."""

from __future__ import annotations

import struct

MAGIC = b"\x28\xb5\x2f\xfd"
_RLE = 0b01_01_01_00  # of all three tables of a block's sequences: one code each
_LENGTHS = ((131, 7, 43), (99, 5, 42), (67, 4, 40), (51, 3, 38), (43, 2, 36), (35, 1, 32))
# Of a match: the least, how many bits say what is more, and the code. Those between them are left out.


def sized(content_bytes: int, size_field: str = "B") -> bytes:
    """The head of a frame of a single segment, with its content size in 1 or 4 bytes."""
    return MAGIC + {"B": b"\x20", "I": b"\xa0"}[size_field] + struct.pack("<" + size_field, content_bytes)


def windowed(content_bytes: int, descriptor: int) -> bytes:
    """The head of a frame with a window, given as exponent and mantissa, and its content size in four bytes."""
    return MAGIC + b"\x80" + bytes([descriptor]) + struct.pack("<I", content_bytes)


def raw_block(content: bytes) -> bytes:
    """The last block of a frame, as it is."""
    return (1 | len(content) << 3).to_bytes(3, "little") + content


def in_one_block(content: bytes, size_field: str = "B") -> bytes:
    """A frame of one raw block."""
    return sized(len(content), size_field) + raw_block(content)


def match_block(offset: int, length: int, rest: bytes, before: bytes = b"") -> bytes:
    """The last block of a frame: up to 15 bytes, then ``length`` bytes from ``offset`` bytes before them, then others.

    What lies before the content is its dictionary.
    """
    size = len(before + rest)
    literals = (size << 4 | 1 << 2).to_bytes(2, "little") + before + rest
    code = (offset + 3).bit_length() - 1
    if length < 35:
        of_length, bits, more = length - 3, 0, 0
    else:
        start, bits, of_length = next(one for one in _LENGTHS if one[0] <= length)
        more = length - start
        assert more < 1 << bits
    stream = 1 << code + bits | (offset + 3 - (1 << code)) << bits | more
    sequences = bytes([1, _RLE, len(before), code, of_length])
    body = literals + sequences + stream.to_bytes(stream.bit_length() // 8 + 1, "little").rstrip(b"\x00")
    return (1 | 2 << 1 | len(body) << 3).to_bytes(3, "little") + body


def on_a_base(content: bytes, base: bytes) -> bytes:
    """A frame of what begins as its dictionary does."""
    length = next(i for i in range(len(content)) if content[i] != base[i])
    return sized(len(content), "I") + match_block(len(base), length, content[length:])
