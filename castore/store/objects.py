"""The door to objects: stored once under their digest, verified whenever they are read."""

from __future__ import annotations

import builtins
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain

from castore.errors import CorruptionError, InvalidInputError, MissingBaseError, NotFoundError, UnsupportedVersionError
from castore.format.delta import BASES_DEPTH_MAX, delta_of
from castore.format.digest import DIGEST_BYTES, Digest, digest_from_hex, digest_hex, digest_of
from castore.format.object import Object
from castore.store.backend import Backend
from castore.store.cache import ObjectCache
from castore.store.compress import FRAME_OVERHEAD_MAX, u32_tail_of
from castore.store.frames import Frames
from castore.store.object_keys import OBJECTS_FOLDER, digest_of_key, object_key
from castore.store.packs import PackedBackend

OBJECT_BYTES_MAX = 256 * 2**20
"""Canonical bytes of the largest object: a sample of 64 million tokens, a thousand times the target of a chunk."""

FRAME_BYTES_MAX = OBJECT_BYTES_MAX + FRAME_OVERHEAD_MAX
PREFIX_DIGITS_MIN = 4

_DIGITS = 2 * DIGEST_BYTES
_HEX_DIGITS = "0123456789abcdef"


class ObjectStore:
    """Immutable objects under their digests, on any backend.

    Every byte that leaves was compared with its digest; nothing else in castore reads objects.

    Args:
        backend: Where they are.
        level: Of compression.
        cache: Where those that were read are kept, for a backend that is far away. What is read from there is
            verified too; what is wrong there is read from the backend again.

    Attributes:
        reads: Objects read from the backend so far, and ``bytes_read`` what they take as stored.
        writes: Objects newly stored so far, and ``bytes_written`` what they take as stored. Some backends tell only
            at the next flush.
    """

    def __init__(self, backend: Backend, level: int = 3, cache: ObjectCache | None = None) -> None:
        self.reads = self.bytes_read = self.writes = self.bytes_written = 0
        self._backend = backend
        self._packed = backend if isinstance(backend, PackedBackend) else None
        self._is_far: bool = getattr(backend, "is_far", False)
        self._cache = cache
        self._frames = Frames(self._stored, level, is_far=self._is_far)

    def put(
        self,
        digest: Digest,
        data: bytes,
        *,
        u32_tail: int | None = None,
        features: tuple[int, ...] = (),
        frame: bytes | None = None,
    ) -> bool:
        """Store an object under its digest, once.

        Visible to this instance on return, durable and visible to others when ``flush`` returns: flush before anything
        names it. Putting an object that is already there writes nothing but renews its age, so a running sweep spares
        it; what is stored there and is not this object is replaced. In a store that is far away only emptiness is seen.

        Args:
            digest: The digest of ``data``. Believed, since the caller has just computed it.
            data: The canonical bytes, at most ``OBJECT_BYTES_MAX``; the objects it names must already be stored.
            u32_tail: Where in ``data`` a run of little-endian uint32 begins that goes to its end, if one does. A hint
                for compression alone.
            features: By which relatives are found, on which it may be stored.
            frame: A frame of it that needs no other object, if there is one already.

        Returns:
            True if the object was new, as far as that is known: a store that is far away is not waited for.

        Raises:
            BackendError: The bytes may or may not have landed; calling again is safe.
        """
        if len(data) > OBJECT_BYTES_MAX:
            raise InvalidInputError(f"an object of {len(data)} bytes exceeds the {OBJECT_BYTES_MAX} that one may have")
        key = object_key(digest)
        is_there = self._backend.touch(key)
        if is_there and (self._is_far or self._holds(key, data)):
            return False
        if self._packed is None:
            made = frame or self._frames.make(data, u32_tail)
            self._backend.put(key, made)
        else:
            # What is stored again since it is damaged may be what others need, and needs nothing itself.
            on_relative = None if is_there else self._delta(digest, data, u32_tail, features)
            made = on_relative or frame or self._frames.make(data, u32_tail)
            self._packed.put(key, made, features)
        self.writes += 1
        self.bytes_written += len(made)
        return True

    def _delta(self, digest: Digest, data: bytes, u32_tail: int | None, features: tuple[int, ...]) -> bytes | None:
        """A frame on a relative that is stored, which stays for it: it is renewed before anything can name it."""
        assert self._packed is not None
        bases = self._packed.similar(features) if features else []
        if not bases or digest in bases or not all(self._packed.touch(object_key(base)) for base in bases):
            return None
        with suppress(CorruptionError, UnsupportedVersionError):
            return self._frames.make_delta(data, u32_tail, bases)
        return None

    def _holds(self, key: str, data: bytes) -> bool:
        """Whether what is stored under a key is ``data``: without hashing it, and by no more memory than that takes."""
        try:
            frame = self._backend.get(key, FRAME_BYTES_MAX)
            return frame is not None and self._frames.open(frame, len(data)) == data
        except CorruptionError:
            return False

    def put_bytes(self, data: bytes, *, u32_tail: int | None = None) -> Digest:
        """Store an object and return its digest; the promises of ``put``."""
        digest = digest_of(data)
        self.put(digest, data, u32_tail=u32_tail)
        return digest

    def put_all(self, objects: Iterable[Object]) -> None:
        """``put`` of objects as they were made, in their order."""
        for made in objects:
            self.put(made.digest, made.data, u32_tail=made.u32_tail, features=made.features)

    def get(self, digest: Digest) -> bytes:
        """The canonical bytes of an object, verified.

        Raises:
            NotFoundError: There is no such object.
            CorruptionError: What is stored is not this object.
            UnsupportedVersionError: It is stored in a frame of a codec that is not known.
        """
        key = object_key(digest)
        found = self._cached(digest, key)
        return found if found is not None else self._read(digest, self._backend.get(key, FRAME_BYTES_MAX))

    def _read(self, digest: Digest, frame: bytes | None) -> bytes:
        """As ``_found`` and ``_opened``, and into the cache."""
        found = self._found(digest, frame)
        found, data = self._opened(digest, found)
        if self._cache is not None:
            self._cache.put(object_key(digest), found)
        return data

    def _cached(self, digest: Digest, key: str) -> bytes | None:
        """The canonical bytes from the cache, verified; None if they are not there, or not right."""
        frame = None if self._cache is None else self._cache.get(key, FRAME_BYTES_MAX)
        if frame is None or self._cache is None:
            return None
        with suppress(CorruptionError, UnsupportedVersionError):
            data = self._frames.open(frame, OBJECT_BYTES_MAX)
            if digest_of(data) == digest:
                return data
        for wrong in (digest, *self._frames.bases_of(frame)):
            self._cache.drop(object_key(wrong))
        return None

    def get_many(self, digests: Iterable[Digest]) -> Iterator[tuple[Digest, bytes]]:
        """``get`` of many, each with its digest, in the order asked; several at once where the place allows it."""
        if self._cache is None:
            return ((digest, data) for digest, _, data in self.get_frames(digests))
        return self._get_many_cached(self._cache, digests)

    def _get_many_cached(self, cache: ObjectCache, digests: Iterable[Digest]) -> Iterator[tuple[Digest, bytes]]:
        asked: deque[Digest] = deque()  # those that are asked for, and between them those that are cached

        def keys() -> Iterator[str]:
            for digest in digests:
                asked.append(digest)
                key = object_key(digest)
                if not cache.has(key):
                    yield key

        for found, frame in self._read_many(keys()):
            while object_key(asked[0]) != found:
                digest = asked.popleft()
                yield digest, self.get(digest)
            digest = asked.popleft()
            yield digest, self._read(digest, frame)
        while asked:
            digest = asked.popleft()
            yield digest, self.get(digest)

    def _found(self, digest: Digest, frame: bytes | None) -> bytes:
        """The frame that was read, or the one in the trash, where a collection may have put it a moment too late."""
        found = frame
        if found is None:
            from castore.store.trash import trash_key

            found = self._backend.get(trash_key(digest), FRAME_BYTES_MAX)
        if found is None:
            raise NotFoundError(f"there is no object {digest_hex(digest)} in {self._backend.url}")
        return found

    def _opened(
        self, digest: Digest, frame: bytes, tried: set[Digest] | None = None, depth: int = 0
    ) -> tuple[bytes, bytes]:
        """A frame that was read under ``digest`` and the canonical bytes in it, verified; or another that is stored.

        For each object copies are looked for once (``tried``): frames that need each other would never come to an end.
        """
        try:
            return frame, self._open(digest, frame, depth)
        except (CorruptionError, UnsupportedVersionError):
            tried = {digest} if tried is None else tried
            copies = () if self._packed is None else self._packed.copies(object_key(digest), FRAME_BYTES_MAX)
            for number, other in enumerate(chain((frame,), copies)):
                if other == frame and (number or not self._frames.bases_of(frame)):
                    continue  # it would fail once more, and take as much memory
                self._mend_bases(other, tried, depth + 1)
                with suppress(CorruptionError, UnsupportedVersionError):
                    return other, self._open(digest, other, depth)
            raise

    def _mend_bases(self, frame: bytes, tried: set[Digest], depth: int) -> None:
        """Have at hand what a frame needs: some of it may be wrong in one place, and whole in another."""
        for base in self._frames.bases_of(frame):
            if base not in tried and depth <= BASES_DEPTH_MAX:
                tried.add(base)
                with suppress(CorruptionError, NotFoundError, UnsupportedVersionError):
                    stored = self._found(base, self._backend.get(object_key(base), FRAME_BYTES_MAX))
                    self._frames.keep_verified(base, self._opened(base, stored, tried, depth)[1])

    def _open(self, digest: Digest, frame: bytes, depth: int = 0) -> bytes:
        key = object_key(digest)
        self.reads += 1
        self.bytes_read += len(frame)
        try:
            data = self._frames.open(frame, OBJECT_BYTES_MAX, depth)
        except MissingBaseError as error:
            raise MissingBaseError(str(self._damaged(key, str(error)))) from error
        except CorruptionError as error:
            raise self._damaged(key, str(error)) from error
        except UnsupportedVersionError as error:
            # What only a newer castore can open is not to be deleted. A byte that was flipped looks the same.
            raise UnsupportedVersionError.unknown(
                f"object {key} in {self._backend.url} is stored with a codec that"
            ) from error
        if digest_of(data) != digest:
            raise self._damaged(key, "its bytes have another digest")
        return data

    def has(self, digest: Digest) -> bool:
        """Whether an object is stored under ``digest``. It is not read: only ``get`` says that it is whole."""
        return self._backend.has(object_key(digest))

    def renew(self, digest: Digest) -> bool:
        """Renew the age of an object that is about to be named, so that a running sweep spares it; False if absent."""
        return self._backend.touch(object_key(digest))

    def renew_many(self, digests: Iterable[Digest]) -> Iterator[tuple[Digest, bool]]:
        """``renew`` of many, each with its answer, in the order asked; several at once where the place allows it."""
        asked: deque[Digest] = deque()

        def keys() -> Iterator[str]:
            for digest in digests:
                asked.append(digest)
                yield object_key(digest)

        return ((asked.popleft(), found) for _, found in self._backend.touch_many(keys()))

    def renew_whole(self, digests: Iterable[Digest]) -> bool:
        """Renew objects that are about to be named in place of storing them; False if one is absent, or not right.

        They are read for that, each once. Those of a store that is far away are not: it keeps its own checksums, and
        fetching data costs more than making it again.
        """
        wanted = builtins.list(dict.fromkeys(digests))
        if not all(found for _, found in self.renew_many(wanted)):
            return False
        try:
            return self._is_far or all(True for _ in self.get_many(wanted))
        except (CorruptionError, NotFoundError):
            return False

    def list(self) -> Iterator[Digest]:
        """The digests of all objects, ascending. Files that are not called as an object would be are passed over."""
        return self._below(OBJECTS_FOLDER)

    def resolve(self, prefix_hex: str) -> builtins.list[Digest]:
        """All objects whose hexadecimal digest begins with ``prefix_hex``, ascending.

        Raises:
            InvalidInputError: Fewer than ``PREFIX_DIGITS_MIN`` digits, more than a digest has, or not digits.
        """
        if not PREFIX_DIGITS_MIN <= len(prefix_hex) <= _DIGITS or prefix_hex.strip(_HEX_DIGITS):
            raise InvalidInputError(
                f"{prefix_hex[:80]!r} does not begin a digest: give {PREFIX_DIGITS_MIN} to {_DIGITS} lower-case "
                "hexadecimal digits"
            )
        if len(prefix_hex) == _DIGITS:
            digest = digest_from_hex(prefix_hex)
            return [digest] if self.has(digest) else []
        below = self._below(f"{OBJECTS_FOLDER}/{prefix_hex[:2]}")
        return [digest for digest in below if digest_hex(digest).startswith(prefix_hex)]

    def barrier(self) -> None:
        """Whatever is put from here on is never seen without all that was put before: before what names it is put."""
        if self._packed is not None:
            self._packed.barrier()
        else:
            self.flush()

    def flush(self) -> None:
        """Make all objects put so far durable and visible to everybody; the promises of ``Backend.flush``.

        Those that were renewed a moment too late, while a collection removed them, are taken back from the trash.
        """
        from castore.store.trash import flush_restoring

        flush_restoring(self._backend)

    def get_frames(self, digests: Iterable[Digest]) -> Iterator[tuple[Digest, bytes, bytes]]:
        """``get_many`` with the frames: digest, frame as stored, and the verified canonical bytes in it."""
        asked: deque[Digest] = deque()

        def keys() -> Iterator[str]:
            for digest in digests:
                asked.append(digest)
                yield object_key(digest)

        for _, frame in self._read_many(keys()):
            digest = asked.popleft()
            yield digest, *self._opened(digest, self._found(digest, frame))

    def _read_many(self, keys: Iterator[str]) -> Iterator[tuple[str, bytes | None]]:
        """What is stored under keys; from far away the objects that some of it needs are fetched together before."""
        found = self._backend.get_many(keys, FRAME_BYTES_MAX)
        return self._frames.with_bases(found) if self._is_far else found

    def _stored(self, digests: Iterable[Digest]) -> Iterator[tuple[Digest, bytes | None]]:
        """The stored frames of objects that others need, into the cache and from there."""
        asked: dict[str, Digest] = {}
        for digest in digests:
            key = object_key(digest)
            kept = None if self._cache is None else self._cache.get(key, FRAME_BYTES_MAX)
            if kept is None:
                asked[key] = digest
            else:
                yield digest, kept
        for key, frame in self._backend.get_many(asked, FRAME_BYTES_MAX):
            if frame is not None and self._cache is not None:
                self._cache.put(key, frame)
            yield asked[key], frame

    def own_frame(self, frame: bytes, data: bytes) -> bytes:
        """A frame of an object that needs no other: the given one, from ``get_frames``, unless that does."""
        own, tail = self._own_frame(frame, data)
        return own or self._frames.make(data, tail)

    def adopt(self, digest: Digest, frame: bytes, data: bytes, features: tuple[int, ...]) -> bool:
        """``put`` of an object with its frame in another store, which is taken if it needs no other object."""
        own, tail = self._own_frame(frame, data)
        return self.put(digest, data, u32_tail=tail, features=features, frame=own)

    @staticmethod
    def _own_frame(frame: bytes, data: bytes) -> tuple[bytes | None, int | None]:
        """A frame if it needs no other object; else None, and where a run of uint32 begins in the object."""
        delta = delta_of(frame)
        if delta is None:
            return frame, None
        run = -1 if delta.tail is None else len(data) - delta.tail  # a hint, which nobody has verified
        return None, delta.tail if run >= 0 and run % 4 == 0 else None

    def delta_on(self, digest: Digest, frame: bytes, bases: builtins.list[Digest]) -> bytes | None:
        """A frame of a stored object on relatives, None if that saves too little.

        Args:
            digest: The object.
            frame: The one that it has, which needs no other object.
            bases: Stored objects that need none either.
        """
        found, data = self._opened(digest, frame)
        return self._frames.make_delta(data, u32_tail_of(found), bases)

    def features(self, digest: Digest) -> tuple[int, ...]:
        """By which relatives of a stored object are found; none of one that is stored by itself."""
        return () if self._packed is None else self._packed.features(object_key(digest))

    def _below(self, folder: str) -> Iterator[Digest]:
        for key in self._backend.list(folder):
            digest = digest_of_key(key)
            if digest is not None:
                yield digest

    def _damaged(self, key: str, how: str) -> CorruptionError:
        again = "store" if self._packed is not None and self._packed.is_packed(key) else "delete the file and store"
        return CorruptionError(
            f"object {key} in {self._backend.url} is damaged ({how}): run 'castore fsck --repair-from URL' with a copy "
            f"of the repository, or {again} the same data again"
        )
