"""Making and opening the frames of objects, those that need other objects among them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple, TypeVar

from castore.errors import CorruptionError, MissingBaseError, UnsupportedVersionError
from castore.format.delta import BASES_DEPTH_MAX, DELTA_CODEC, delta_of
from castore.format.digest import Digest, digest_hex, digest_of
from castore.lru import LRU
from castore.store.compress import pack, unpack

_BASES_BYTES = 4 * 2**20  # canonical bytes of bases that are kept: in order each is needed once, from a quick cache
_BASES_FAR_BYTES = 64 * 2**20  # the same where many are fetched together, or found in another place
_TOGETHER, _TOGETHER_BYTES = 32, 16 * 2**20  # frames that are held while what they need is fetched

_TOO_DEEP = "needs an object that needs others, which need others again"

K = TypeVar("K")

Fetch = Callable[[Iterable[Digest]], Iterable[tuple[Digest, bytes | None]]]


class _Base(NamedTuple):
    """An object that others are told by: its canonical bytes, not verified, and how many bytes its frame has.

    ``below`` are the bases that it needs itself, one after the other.
    """

    data: bytes
    stored_bytes: int
    below: int = 0


class Frames:
    """Frames of one place.

    What is opened is not verified: a wrong base makes a wrong object, which whoever compares digests finds out.

    Args:
        fetch: Gives the stored frames of objects, each with its digest, None if there is none.
        level: Of compression.
        is_far: Whether bases of many frames are fetched together (``with_bases``).
    """

    def __init__(self, fetch: Fetch, level: int, *, is_far: bool) -> None:
        self._fetch, self._level = fetch, level
        self._has_room = is_far
        self._bases = self._kept_bases()

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
        used: dict[Digest, _Base] = {}
        content_bytes = 0
        for name in bases:
            base = self._base(name, 0)
            if digest_of(base.data) != name:  # or what is stored on it would be lost when it is mended
                raise CorruptionError(f"object {digest_hex(name)} is damaged")
            if content_bytes + len(base.data) <= DELTA_BYTES_MAX:
                used[name] = base
                content_bytes += len(base.data)
        if not content_bytes:
            return None
        frame = pack_delta(data, [(name, base.data) for name, base in used.items()], u32_tail)
        stored_bytes = sum(base.stored_bytes for base in used.values())
        return frame if 2 * len(frame) * content_bytes < stored_bytes * len(data) else None

    def open(self, frame: bytes, max_bytes: int, depth: int = 0) -> bytes:
        """The canonical bytes of a frame.

        Raises:
            CorruptionError: It is none, or one of more bytes; or an object that it needs is missing or damaged.
            UnsupportedVersionError: It has a codec that is not known.
        """
        return self._opened(frame, max_bytes, depth)[0]

    def _opened(self, frame: bytes, max_bytes: int, depth: int) -> tuple[bytes, int]:
        """As ``open``, and how many bases were needed, one after the other."""
        if frame[:1] != bytes([DELTA_CODEC]):
            return unpack(frame, max_bytes), 0
        from castore.store.delta import DELTA_BYTES_MAX, unpack_delta

        delta = delta_of(frame)
        assert delta is not None
        known: list[bytes] = []
        below = 0
        for digest in delta.bases:
            if depth >= BASES_DEPTH_MAX:
                raise CorruptionError(_TOO_DEEP)
            base = self._base(digest, depth)
            below = max(below, base.below + 1)
            known.append(base.data)
            if sum(map(len, known)) > DELTA_BYTES_MAX:
                raise CorruptionError(f"needs objects of more than {DELTA_BYTES_MAX} bytes")
        if below > BASES_DEPTH_MAX:  # of which some were at hand
            raise CorruptionError(_TOO_DEEP)
        return unpack_delta(delta, known, max_bytes), below

    def with_bases(self, found: Iterable[tuple[K, bytes | None]]) -> Iterator[tuple[K, bytes | None]]:
        """Frames that were read, each when what it needs is at hand: of some of them together, which are held."""
        held: list[tuple[K, bytes | None]] = []
        size = 0
        for key, frame in found:
            held.append((key, frame))
            size += len(frame or b"")
            if len(held) == _TOGETHER or size > _TOGETHER_BYTES:
                self._fetch_bases(some for _, some in held)
                yield from held
                held, size = [], 0
        self._fetch_bases(some for _, some in held)
        yield from held

    def _fetch_bases(self, frames: Iterable[bytes | None]) -> None:
        """Have at hand what frames need, as far as it can be opened: all that is not is fetched together."""
        from castore.store.delta import DELTA_BYTES_MAX

        wanted = dict.fromkeys(digest for frame in frames if frame is not None for digest in self.bases_of(frame))
        for digest, frame in self._fetch([digest for digest in wanted if digest not in self._bases]):
            if frame is not None:
                with suppress(CorruptionError, UnsupportedVersionError):
                    data, below = self._opened(frame, DELTA_BYTES_MAX, 1)
                    self._bases.keep(digest, _Base(data, len(frame), below))

    @staticmethod
    def bases_of(frame: bytes) -> tuple[Digest, ...]:
        """The objects that a frame needs, none of one that is damaged."""
        try:
            delta = delta_of(frame)
        except CorruptionError:
            return ()
        return delta.bases if delta else ()

    def keep_verified(self, digest: Digest, data: bytes) -> None:
        """Have an object at hand that frames need, by canonical bytes that were verified."""
        if not self._has_room:  # all that one frame needs must be kept until that is opened
            self._has_room = True
            self._bases = self._kept_bases()
        self._bases.keep(digest, _Base(data, len(data)))

    def _kept_bases(self) -> LRU[Digest, _Base]:
        return LRU(_BASES_FAR_BYTES if self._has_room else _BASES_BYTES, lambda base: len(base.data))

    def _base(self, digest: Digest, depth: int) -> _Base:
        from castore.store.delta import DELTA_BYTES_MAX

        base = self._bases.get(digest)
        if base is not None:
            return base
        frame = dict(self._fetch([digest]))[digest]
        if frame is None:
            raise MissingBaseError(f"needs object {digest_hex(digest)}, which is missing")
        try:
            data, below = self._opened(frame, DELTA_BYTES_MAX, depth + 1)
            return self._bases.keep(digest, _Base(data, len(frame), below))
        except CorruptionError as error:
            raise type(error)(f"needs object {digest_hex(digest)}: {error}") from error
