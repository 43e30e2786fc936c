"""Where good copies come from: another repository, whose objects and records take the place of what is damaged here."""

from __future__ import annotations

from castore.errors import CorruptionError, NotFoundError, UnsupportedVersionError
from castore.format.digest import Digest
from castore.store.backend import Backend
from castore.store.marker import open_layout
from castore.store.object_keys import object_key
from castore.store.objects import ObjectStore
from castore.store.packs import PackedBackend


class Repairer:
    """Fetches good copies from another repository and puts them in place.

    Args:
        backend: The repository that is repaired.
        source: Where copies come from; None if nothing is to be repaired.

    Raises:
        NotFoundError: There is no repository at the source.
    """

    def __init__(self, backend: Backend, source: Backend | None) -> None:
        if source is not None:
            open_layout(source, create=False)
        self.backend, self.source = backend, source
        self._objects = ObjectStore(backend)
        self._raw = backend.raw if isinstance(backend, PackedBackend) else backend
        self._good = None if source is None else ObjectStore(source)

    def object(self, digest: Digest) -> bytes | None:
        """Put an object in place and return its content; None if there is no good copy."""
        if self._good is None:
            return None
        try:
            _, frame, data = next(iter(self._good.get_frames([digest])))
        except (NotFoundError, CorruptionError, UnsupportedVersionError):
            return None
        self.put(object_key(digest), self._objects.own_frame(frame, data))
        return data

    def raw(self, key: str, max_bytes: int) -> bytes | None:
        """The bytes that the other repository has under a key, None if it has none or they are too many."""
        try:
            return None if self.source is None else self.source.get(key, max_bytes)
        except CorruptionError:
            return None

    def put(self, key: str, data: bytes) -> None:
        """Put a value in place of what is there."""
        # Not into a pack beside what is wrong and stored by itself.
        alone = self._raw.has(key)
        (self._raw if alone else self.backend).put(key, data)

    def finish(self) -> None:
        """Make what was repaired durable."""
        if self.source is not None:
            self.backend.flush()
