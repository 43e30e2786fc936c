"""Making and opening the frames of objects, those that need other objects among them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from castore.errors import CorruptionError, MissingBaseError
from castore.format.delta import BASES_DEPTH_MAX, DELTA_CODEC, delta_of
from castore.format.digest import Digest, digest_hex, digest_of
from castore.lru import LRU
from castore.store.compress import pack, unpack

_BASES_BYTES = 4 * 2**20  # canonical bytes of bases that are kept: in order each is needed once, from a quick cache
_BASES_FAR_BYTES = 64 * 2**20  # the same where many are fetched together


class _Base(NamedTuple):
    """An object that others are told by: its canonical bytes, not verified, and how many bytes its frame has."""

    data: bytes
    stored_bytes: int


class Frames:
    """Frames of one place.

    What is opened is not verified: a wrong base makes a wrong object, which whoever compares digests finds out.

    Args:
        fetch: Gives the stored frame of an object, None if there is none.
        level: Of compression.
        is_far: Whether bases of many frames are fetched together (``keep_base``).
    """

    def __init__(self, fetch: Callable[[Digest], bytes | None], level: int, *, is_far: bool) -> None:
        self._fetch, self._level = fetch, level
        bytes_max = _BASES_FAR_BYTES if is_far else _BASES_BYTES
        self._bases: LRU[Digest, _Base] = LRU(bytes_max, lambda base: len(base.data))

    def make(self, data: bytes, u32_tail: int | None) -> bytes:
        """A frame that needs no other object."""
        return pack(data, u32_tail=u32_tail, level=self._level)

    def make_delta(self, data: bytes, u32_tail: int | None, bases: Sequence[Digest]) -> bytes | None:
        """A frame on relatives, if that takes less than half of what one of its own would, as far as can be told.

        Raises:
            CorruptionError: A relative is missing or damaged.
            UnsupportedVersionError: One is stored with a codec that is not known.
        """
        from castore.store.delta import DELTA_BYTES_MAX, DELTA_BYTES_MIN, pack_delta

        if not DELTA_BYTES_MIN <= len(data) <= DELTA_BYTES_MAX:
            return None
        known = [self._base(base, 0) for base in bases]
        for name, base in zip(bases, known, strict=True):
            if digest_of(base.data) != name:  # or what is stored on it would be lost when it is mended
                raise CorruptionError(f"object {digest_hex(name)} is damaged")
        content_bytes = sum(len(base.data) for base in known)
        if not 0 < content_bytes <= DELTA_BYTES_MAX:
            return None
        frame = pack_delta(data, [(name, base.data) for name, base in zip(bases, known, strict=True)], u32_tail)
        stored_bytes = sum(base.stored_bytes for base in known)
        return frame if 2 * len(frame) * content_bytes < stored_bytes * len(data) else None

    def open(self, frame: bytes, max_bytes: int, depth: int = 0) -> bytes:
        """The canonical bytes of a frame.

        Raises:
            CorruptionError: It is none, or one of more bytes; or an object that it needs is missing or damaged.
            UnsupportedVersionError: It has a codec that is not known.
        """
        if frame[:1] != bytes([DELTA_CODEC]):
            return unpack(frame, max_bytes)
        from castore.store.delta import DELTA_BYTES_MAX, unpack_delta

        delta = delta_of(frame)
        assert delta is not None
        if depth >= BASES_DEPTH_MAX:
            raise CorruptionError("needs an object that needs others, which need others again")
        known: list[bytes] = []
        for digest in delta.bases:
            known.append(self._base(digest, depth).data)
            if sum(map(len, known)) > DELTA_BYTES_MAX:
                raise CorruptionError(f"needs objects of more than {DELTA_BYTES_MAX} bytes")
        return unpack_delta(delta, known, max_bytes)

    def missing_bases(self, frames: Iterable[bytes | None]) -> list[Digest]:
        """The objects that frames need and that are not at hand."""
        wanted = dict.fromkeys(digest for frame in frames if frame is not None for digest in self.bases_of(frame))
        return [digest for digest in wanted if digest not in self._bases]

    @staticmethod
    def bases_of(frame: bytes) -> tuple[Digest, ...]:
        """The objects that a frame needs, none of one that is damaged."""
        try:
            delta = delta_of(frame)
        except CorruptionError:
            return ()
        return delta.bases if delta else ()

    def keep_base(self, digest: Digest, frame: bytes) -> None:
        """Have an object at hand that frames need."""
        from castore.store.delta import DELTA_BYTES_MAX

        self._bases.keep(digest, _Base(self.open(frame, DELTA_BYTES_MAX, 1), len(frame)))

    def keep_verified(self, digest: Digest, data: bytes) -> None:
        """As ``keep_base``, of canonical bytes that were verified."""
        self._bases.keep(digest, _Base(data, len(data)))

    def _base(self, digest: Digest, depth: int) -> _Base:
        from castore.store.delta import DELTA_BYTES_MAX

        base = self._bases.get(digest)
        if base is not None:
            return base
        frame = self._fetch(digest)
        if frame is None:
            raise MissingBaseError(f"needs object {digest_hex(digest)}, which is missing")
        try:
            return self._bases.keep(digest, _Base(self.open(frame, DELTA_BYTES_MAX, depth + 1), len(frame)))
        except CorruptionError as error:
            raise type(error)(f"needs object {digest_hex(digest)}: {error}") from error
