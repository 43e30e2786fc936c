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

    codec 3, short    03   p: u32   n: u32   one zstd frame of the streams

The canonical bytes of codec 3 are made as those of codec 2, of integers that are mostly small. Its streams are::

    prefix            p bytes    the prefix as it is
    first             n bytes    of every integer x: x if it is below 224, else 224 + min(x >> 8, 31)
    second            m bytes    the lowest byte of each of the m integers from 224 on
    rest              3k bytes   x >> 8 of each of the k integers whose first byte is 255, as u24

Every zstd frame carries its content size, which is greater than 0, has a window of at most 128 MiB or its content,
uses no dictionary, and ends where the stored frame ends. A reader refuses everything else, before it takes memory for
the content.

Why split: on 200 chunks of 256 KiB of real tokens (gsm8k and t0, dolma2 tokenizer, ids below 2^17) zstd-3 leaves 17.0 %
of the bytes with it and 19.4 % without, zstd-1 18.6 % and 20.7 %, and packing is a fifth faster. What is split is
packed by zstd's fast strategy with matches from 6 bytes, which is three tokens, and a hash table of 2^15: 22.4 % at
0.86 GB/s on 300 chunks of six real sources, between zstd-1 (23.3 %, 0.95 GB/s) and zstd-3 (22.0 %, 0.60 GB/s); matches
from 4 bytes leave 21.7 % at 0.66 GB/s. Everything else is small, and gets the level asked for.

Why short: spans of labels are lengths of turns, of which most fit a byte and nearly all the others share few high ones.
600 chunks of them (425 spans each) take 1,167 bytes split, 994 as planes of bytes, 930 as the usual varints and 921 so;
their entropy, byte by byte and each kind of number apart, is 750 to 780.
"""

from __future__ import annotations

import sys
from _thread import get_ident
from struct import Struct
from typing import TYPE_CHECKING

from castore.errors import CorruptionError, InvalidInputError, UnsupportedVersionError

if TYPE_CHECKING:
    import numpy as np
    import zstandard
    from numpy.typing import NDArray

WINDOW_BYTES_MAX = 1 << 27
"""Largest window of a zstd frame, or its content if that is more: what decoders that stream take memory for."""

FRAME_OVERHEAD_MAX = 1
"""Bytes by which a frame may exceed the canonical bytes: the codec of a raw one. No other is larger."""

_RAW, _ZSTD, _SPLIT, _SHORT = 0, 1, 2, 3
_SPLIT_HEADER = Struct("<BBII")  # codec, h, p, n
_SHORT_HEADER = Struct("<BII")  # codec, p, n
_SHORT_FROM = 224  # integers from here on take more than one byte
_LONG_FROM = (255 - _SHORT_FROM) << 8  # and from here on five
_LOOKED_AT = 1024  # integers that decide between split and short
_JOINED = 1 << 16  # integers that are joined at once
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
            frame = _pack_integers(data, u32_tail, level)
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
        UnsupportedVersionError: It has a codec that is not known.
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
    if codec == _SHORT:
        return _unpack_short(frame, max_bytes)
    if codec is None:
        raise CorruptionError("empty")
    raise UnsupportedVersionError.unknown(f"codec {codec}")


def u32_tail_of(frame: bytes) -> int | None:
    """Where a run of uint32 begins that goes to the end of the canonical bytes, as far as a frame says so."""
    if frame[:1] == bytes([_SPLIT]) and len(frame) >= _SPLIT_HEADER.size:
        return int(_SPLIT_HEADER.unpack_from(frame)[2])
    if frame[:1] == bytes([_SHORT]) and len(frame) >= _SHORT_HEADER.size:
        return int(_SHORT_HEADER.unpack_from(frame)[1])
    return None


def _pack_integers(data: bytes, prefix_bytes: int, level: int) -> bytes:
    import numpy as np

    # A copy, since numpy is several times slower on integers that are not aligned.
    integers = np.frombuffer(data[prefix_bytes:], dtype="<u4")
    some = integers[:: -(-len(integers) // _LOOKED_AT)]
    short = len(some) + np.count_nonzero(some >= _SHORT_FROM) + 3 * np.count_nonzero(some >= _LONG_FROM)
    if short < 2 * len(some):
        return _pack_short(data[:prefix_bytes], integers, level)
    return _pack_split(data[:prefix_bytes], integers)


def _pack_split(prefix: bytes, integers: NDArray[np.uint32]) -> bytes:
    import numpy as np

    top = int(integers.max()) >> 16
    if top == 0:
        bits, high_plane = 0, b""
    elif top == 1:
        bits, high_plane = 1, np.packbits(integers >= 1 << 16, bitorder="little").tobytes()
    else:
        bits, high_plane = 16, (integers >> 16).astype("<u2").tobytes()
    header = _SPLIT_HEADER.pack(_SPLIT, bits, len(prefix), len(integers))
    planes = b"".join((prefix, integers.astype("<u2").tobytes(), high_plane))
    return header + _compressor(None).compress(planes)


def _pack_short(prefix: bytes, integers: NDArray[np.uint32], level: int) -> bytes:
    import numpy as np

    first = integers.astype(np.uint8)
    large = integers >= _SHORT_FROM
    high = integers[large] >> 8
    second = first[large].tobytes()
    first[large] = np.minimum(_SHORT_FROM + high, 255)
    rest = high[high >= 255 - _SHORT_FROM].astype("<u4").view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
    header = _SHORT_HEADER.pack(_SHORT, len(prefix), len(integers))
    return header + _compressor(level).compress(b"".join((prefix, first.tobytes(), second, rest)))


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


def _unpack_short(frame: bytes, max_bytes: int) -> bytes:
    if len(frame) < _SHORT_HEADER.size:
        raise CorruptionError("ends inside its header")
    _, prefix_bytes, count = _SHORT_HEADER.unpack_from(frame)
    if prefix_bytes + 4 * count > max_bytes:
        raise CorruptionError(f"{prefix_bytes + 4 * count} bytes, more than {max_bytes}")
    streams = _decompress(memoryview(frame)[_SHORT_HEADER.size :], prefix_bytes + 5 * count)
    first = streams[prefix_bytes : prefix_bytes + count]
    large = len(first.translate(None, _SMALL_BYTES))
    size = prefix_bytes + count + large + 3 * first.count(255)
    if len(first) != count or len(streams) != size:
        raise CorruptionError(f"{len(streams)} bytes of streams in place of {size}")
    join = _join_short_numpy if "numpy" in sys.modules else _join_short_plain
    return join(streams, prefix_bytes, count, large)


def _join_short_numpy(streams: bytes, prefix_bytes: int, count: int, large: int) -> bytes:
    import numpy as np

    second_at = prefix_bytes + count
    rest_at = second_at + large
    first = np.frombuffer(streams, np.uint8, count, prefix_bytes)
    integers = first.astype("<u4")
    for lo in range(0, count, _JOINED):  # a real chunk is one round; of a huge one not all is taken memory for at once
        at = np.flatnonzero(first[lo : lo + _JOINED] >= _SHORT_FROM) + lo
        high = integers[at] - _SHORT_FROM
        long = high == 255 - _SHORT_FROM
        rest = np.frombuffer(streams, np.uint8, 3 * np.count_nonzero(long), rest_at).reshape(-1, 3).astype("<u4")
        high[long] = rest[:, 0] | rest[:, 1] << 8 | rest[:, 2] << 16
        integers[at] = high << 8 | np.frombuffer(streams, np.uint8, len(at), second_at)
        second_at += len(at)
        rest_at += 3 * len(rest)
    return b"".join((memoryview(streams)[:prefix_bytes], integers.data))


def _join_short_plain(streams: bytes, prefix_bytes: int, count: int, large: int) -> bytes:
    data = bytearray(prefix_bytes + 4 * count)
    data[:prefix_bytes] = streams[:prefix_bytes]
    data[prefix_bytes::4] = streams[prefix_bytes : prefix_bytes + count]
    second_at = prefix_bytes + count
    rest_at = second_at + large
    for at in range(prefix_bytes, len(data), 4):
        first = data[at]
        if first < _SHORT_FROM:
            continue
        data[at] = streams[second_at]
        second_at += 1
        if first < 255:
            data[at + 1] = first - _SHORT_FROM
        else:
            data[at + 1 : at + 4] = streams[rest_at : rest_at + 3]
            rest_at += 3
    return bytes(data)


_SMALL_BYTES = bytes(range(_SHORT_FROM))


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
        if header.window_size > max(WINDOW_BYTES_MAX, header.content_size):
            raise CorruptionError(f"a zstd frame with a window of {header.window_size} bytes")
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
