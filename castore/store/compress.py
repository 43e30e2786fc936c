"""The stored frame of an object, no part of its identity: any frame that unpacks to the canonical bytes is right.

All integers are little-endian. A frame is one byte, the codec, and a body::

    codec 0, raw      00   the canonical bytes

    codec 1, zstd     01   one zstd frame (RFC 8878) of the canonical bytes

    codec 2, split    02   h: u8   p: u32   n: u32   one zstd frame of the planes

The canonical bytes of codec 2 are p bytes of prefix, then n unsigned 32-bit integers: p + 4n bytes. Its planes, one
after the other, are::

    prefix            p bytes    the prefix as it is
    low               2n bytes   bits 0 to 15 of every integer, as u16
    high              h = 0      nothing: bits 16 to 31 of every integer are 0
                      h = 1      ceil(n / 8) bytes: bit 16 of integer i is bit i mod 8 of byte i div 8 (bit 0 is the
                                 least significant); bits 17 to 31 of every integer are 0, and so are the unused bits of
                                 the last byte
                      h = 16     2n bytes: bits 16 to 31 of every integer, as u16

Every zstd frame carries its content size, which is greater than 0, uses no dictionary, and ends where the stored frame
ends. A reader refuses everything else, before it takes memory for the content.

Why split: on 200 chunks of 256 KiB of real tokens (gsm8k and t0, dolma2 tokenizer, ids below 2^17) zstd-3 leaves 17.0 %
of the bytes with it and 19.4 % without, zstd-1 18.6 % and 20.7 %, and packing is a fifth faster. What is split is
packed by zstd's fast strategy with matches from 6 bytes, which is three tokens, and a hash table of 2^15: 22.4 % at
0.86 GB/s on 300 chunks of six real sources, between zstd-1 (23.3 %, 0.95 GB/s) and zstd-3 (22.0 %, 0.60 GB/s); matches
from 4 bytes leave 21.7 % at 0.66 GB/s. Everything else is small, and gets the level asked for.
"""

from __future__ import annotations

import sys
from _thread import get_ident
from struct import Struct
from typing import TYPE_CHECKING

from castore.errors import CorruptionError, InvalidInputError

if TYPE_CHECKING:
    import zstandard

FRAME_OVERHEAD_MAX = 1
"""Bytes by which a frame may exceed the canonical bytes: the codec of a raw one. No other is larger."""

_RAW, _ZSTD, _SPLIT = 0, 1, 2
_SPLIT_HEADER = Struct("<BBII")  # codec, h, p, n
_U32_MAX = 2**32 - 1

# zstd contexts are worth keeping (a compressor is 1 to 3 MB) and must not be used by two threads at once.
_compressors: dict[tuple[int, int | None], zstandard.ZstdCompressor] = {}
_decompressors: dict[int, zstandard.ZstdDecompressor] = {}
_tables: list[bytes] = []


def pack(data: bytes, *, u32_tail: int | None, level: int = 3) -> bytes:
    """The stored frame of canonical bytes: the smallest that is tried.

    Args:
        data: Canonical bytes.
        u32_tail: Where a run of little-endian uint32 begins that goes to the end of ``data``; None if none does.
        level: Of zstd, for what is not split.

    Raises:
        InvalidInputError: ``u32_tail`` is not inside ``data``, or what follows it is no whole number of uint32.
    """
    frame = None
    if u32_tail is not None:
        if not 0 <= u32_tail <= len(data) or (len(data) - u32_tail) % 4 or len(data) > _U32_MAX:
            raise InvalidInputError(f"no run of uint32 from byte {u32_tail} to the end of {len(data)} bytes")
        if u32_tail < len(data):
            frame = _pack_split(data, u32_tail)
    if frame is None and data:
        frame = bytes([_ZSTD]) + _compressor(level).compress(data)
    if frame is None or len(frame) > len(data):
        frame = bytes([_RAW]) + data
    return frame


def unpack(frame: bytes, max_bytes: int) -> bytes:
    """The canonical bytes of a stored frame.

    Not verified against a digest: ``ObjectStore.get`` is the door for that.

    Args:
        frame: A frame as ``pack`` makes it, or any bytes.
        max_bytes: The most that the canonical bytes may take. Nothing larger is ever allocated.

    Raises:
        CorruptionError: ``frame`` is no frame, or one of more than ``max_bytes``.
    """
    codec = frame[0] if frame else None
    if codec == _RAW:
        if len(frame) - 1 > max_bytes:
            raise CorruptionError(f"{len(frame) - 1} bytes, more than {max_bytes}")
        return frame[1:]
    if codec == _ZSTD:
        return _decompress(memoryview(frame)[1:], max_bytes)
    if codec == _SPLIT:
        return _unpack_split(frame, max_bytes)
    raise CorruptionError("empty" if codec is None else f"unknown codec {codec}")


def _pack_split(data: bytes, prefix_bytes: int) -> bytes:
    import numpy as np

    # A copy, since numpy is several times slower on integers that are not aligned.
    integers = np.frombuffer(data[prefix_bytes:], dtype="<u4")
    top = int(integers.max()) >> 16
    if top == 0:
        bits, high_plane = 0, b""
    elif top == 1:
        bits, high_plane = 1, np.packbits(integers >= 1 << 16, bitorder="little").tobytes()
    else:
        bits, high_plane = 16, (integers >> 16).astype("<u2").tobytes()
    header = _SPLIT_HEADER.pack(_SPLIT, bits, prefix_bytes, len(integers))
    planes = b"".join((data[:prefix_bytes], integers.astype("<u2").tobytes(), high_plane))
    return header + _compressor(None).compress(planes)


def _unpack_split(frame: bytes, max_bytes: int) -> bytes:
    if len(frame) < _SPLIT_HEADER.size:
        raise CorruptionError("ends inside its header")
    _, bits, prefix_bytes, count = _SPLIT_HEADER.unpack_from(frame)
    if bits not in (0, 1, 16):
        raise CorruptionError(f"unknown split of {bits} high bits")
    if prefix_bytes + 4 * count > max_bytes:
        raise CorruptionError(f"{prefix_bytes + 4 * count} bytes, more than {max_bytes}")
    high_bytes = (bits * count + 7) // 8
    planes_bytes = prefix_bytes + 2 * count + high_bytes
    planes = _decompress(memoryview(frame)[_SPLIT_HEADER.size :], planes_bytes)
    if len(planes) != planes_bytes:
        raise CorruptionError(f"{len(planes)} bytes of planes in place of {planes_bytes}")
    if bits == 1 and count % 8 and planes[-1] >> count % 8:
        raise CorruptionError("bits set behind the last integer")
    # numpy is quicker, but importing it takes the time of several hundred chunks.
    join = _join_numpy if "numpy" in sys.modules else _join_plain
    return join(planes, prefix_bytes, count, bits)


def _join_numpy(planes: bytes, prefix_bytes: int, count: int, bits: int) -> bytes:
    import numpy as np

    low_end = prefix_bytes + 2 * count
    # Widening all at once, then every fourth byte: quicker than both halves with a step. Slices are copies, aligned.
    integers = np.frombuffer(planes[prefix_bytes:low_end], dtype="<u2").astype("<u4")
    if bits == 1:
        packed = np.frombuffer(planes, dtype=np.uint8, offset=low_end)
        integers.view(np.uint8)[2::4] = np.unpackbits(packed, count=count, bitorder="little")
    elif bits == 16:
        integers.view("<u2")[1::2] = np.frombuffer(planes, dtype="<u2", offset=low_end)
    return b"".join((memoryview(planes)[:prefix_bytes], integers.data))  # one copy, and integers that are aligned


def _join_plain(planes: bytes, prefix_bytes: int, count: int, bits: int) -> bytes:
    # Slices of bytes and bytearray with a step are copied five times as quickly as those of memoryviews.
    low_end = prefix_bytes + 2 * count
    data = bytearray(prefix_bytes + 4 * count)
    data[:prefix_bytes] = planes[:prefix_bytes]
    data[prefix_bytes::4] = planes[prefix_bytes:low_end:2]
    data[prefix_bytes + 1 :: 4] = planes[prefix_bytes + 1 : low_end : 2]
    if bits == 1:
        packed = planes[low_end:]
        for bit, table in enumerate(_bit_tables()):
            integers = (count - bit + 7) // 8  # those whose number is bit modulo 8
            data[prefix_bytes + 4 * bit + 2 :: 32] = packed[:integers].translate(table)
    elif bits == 16:
        data[prefix_bytes + 2 :: 4] = planes[low_end::2]
        data[prefix_bytes + 3 :: 4] = planes[low_end + 1 :: 2]
    return bytes(data)


def _bit_tables() -> list[bytes]:
    """For each of the 8 bits, a table from a byte to that bit of it."""
    if not _tables:
        _tables.extend(bytes(byte >> bit & 1 for byte in range(256)) for bit in range(8))
    return _tables


def _decompress(frame: memoryview, max_bytes: int) -> bytes:
    """The content of exactly one zstd frame that says beforehand how large its content is."""
    import zstandard

    try:
        header = zstandard.get_frame_parameters(frame)
        # An unknown size reads as a huge one. A size of 0 would make zstandard skip the rest unseen.
        if not 0 < header.content_size <= max_bytes:
            raise CorruptionError(f"a zstd frame of unknown size, or not of 1 to {max_bytes} bytes")
        decompressor = _decompressors.get(get_ident())
        if decompressor is None:
            decompressor = _decompressors[get_ident()] = zstandard.ZstdDecompressor()
        return decompressor.decompress(frame, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise CorruptionError(f"broken zstd frame: {error}") from error


def _compressor(level: int | None) -> zstandard.ZstdCompressor:
    """The compressor of this thread for a level; None for that of planes."""
    import zstandard

    key = (get_ident(), level)
    compressor = _compressors.get(key)
    if compressor is None:
        if level is None:
            parameters = zstandard.ZstdCompressionParameters.from_level(
                1, hash_log=15, min_match=6, write_content_size=True
            )
            compressor = zstandard.ZstdCompressor(compression_params=parameters)
        else:
            compressor = zstandard.ZstdCompressor(level=level, write_content_size=True)
        _compressors[key] = compressor
    return compressor
