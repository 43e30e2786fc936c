"""Files of others that are compressed with zstd, decompressed a piece at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

# A block of 4 bytes may stand for 128 KiB: so much at a time is at most 32 MiB of text.
_READ_BYTES = 1024


def zstd_pieces(file: BinaryIO) -> Iterator[bytes]:
    """Text of a file of one or more zstd frames, in pieces of bounded size, however well it is compressed.

    Raises:
        ValueError: Damaged data, or something else after the last frame.
        EOFError: The file ends within a frame or has none.
    """
    import zstandard

    decompressor = zstandard.ZstdDecompressor()
    frame = None
    frames = 0
    data = b""
    while data or (data := file.read(_READ_BYTES)):
        if frame is None:
            frame = decompressor.decompressobj()
            frames += 1
        try:
            piece = frame.decompress(data)
        except zstandard.ZstdError as error:
            raise ValueError(str(error)) from error
        data = b""
        if frame.eof:
            data, frame = frame.unused_data, None
        if piece:
            yield piece
    if frame is not None or not frames:
        raise EOFError("unexpected end of file")
