"""Frames that name the objects whose bytes they need; what is in them is ``castore.store.delta``'s."""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

from castore.errors import CorruptionError
from castore.format.digest import DIGEST_BYTES, Digest

DELTA_CODEC: Final = 4
"""First byte of such a frame."""

BASES_MAX: Final = 4

BASES_DEPTH_MAX: Final = 3
"""Bases of bases that a reader follows. Writers make none; two of them at once may."""

NO_TAIL: Final = 2**32 - 1

_DELTA = Struct("<BBI")


class Delta(NamedTuple):
    """A frame of ``DELTA_CODEC``, taken apart: the objects it needs, where a run of uint32 begins, and the rest."""

    bases: tuple[Digest, ...]
    tail: int | None
    body: memoryview


def delta_of(frame: bytes) -> Delta | None:
    """The parts of a frame that needs other objects; None of any other.

    Raises:
        CorruptionError: It ends too soon, or names none or too many.
    """
    if not frame or frame[0] != DELTA_CODEC:
        return None
    if len(frame) < _DELTA.size:
        raise CorruptionError("ends inside its header")
    _, count, tail = _DELTA.unpack_from(frame)
    end = _DELTA.size + count * DIGEST_BYTES
    if not 1 <= count <= BASES_MAX:
        raise CorruptionError(f"names {count} bases")
    if len(frame) < end:
        raise CorruptionError("ends inside its header")
    bases = tuple(Digest(frame[at : at + DIGEST_BYTES]) for at in range(_DELTA.size, end, DIGEST_BYTES))
    return Delta(bases, None if tail == NO_TAIL else tail, memoryview(frame)[end:])


def delta_frame(bases: tuple[Digest, ...], tail: int | None, body: bytes) -> bytes:
    """The frame of an object that is told by what it shares with others (``compress``)."""
    return _DELTA.pack(DELTA_CODEC, len(bases), NO_TAIL if tail is None else tail) + b"".join(bases) + body
