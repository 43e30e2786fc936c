"""What a repository holds, from one listing: 48 bytes an object, whatever the objects are."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from castore.errors import BackendError
from castore.format.digest import DIGEST_BYTES, Digest
from castore.store import kinds
from castore.store.backend import Backend
from castore.store.marker import FORMAT_KEY
from castore.store.objects import TRASH_FOLDER, digest_of_key
from castore.store.protection import PROTECTED_KEY

UNKNOWN_KEPT = 1000
"""Unknown keys that are remembered by name; the others are counted."""

IGNORED = ("tmp/", "clock/")
"""Folders in which nothing counts."""


@dataclass(slots=True)
class Census:
    """All keys of a repository at one moment.

    Attributes:
        digests: Digests of the objects, ascending, uint8[n, 32].
        sizes: Their bytes as stored, int64[n].
        modified: When they were stored or last renewed, by the clock of the store, float64[n]; NaN if it does not tell.
        records: The other keys by their first part (``refs``, ``units``, …), ascending.
        unknown: Keys that nothing in castore is called, at most ``UNKNOWN_KEPT``.
        unknown_count: How many there are.
    """

    digests: NDArray[np.uint8]
    sizes: NDArray[np.int64]
    modified: NDArray[np.float64]
    records: dict[str, list[str]] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    unknown_count: int = 0
    _prefixes: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))

    def __post_init__(self) -> None:
        # Eight bytes decide nearly always, and machine integers are found ten times sooner than byte strings.
        self._prefixes = np.ascontiguousarray(self.digests[:, :8]).view(">u8").ravel().astype(np.uint64)

    def __len__(self) -> int:
        return len(self.digests)

    @property
    def size_bytes(self) -> int:
        """Stored bytes of all objects."""
        return int(self.sizes.sum())

    def digest(self, index: int) -> Digest:
        """The digest of an object."""
        return Digest(self.digests[index].tobytes())

    def find(self, raw: bytes) -> NDArray[np.int64]:
        """Where digests stand, -1 for those that were not listed.

        Args:
            raw: n digests one after another, 32n bytes.

        Returns:
            int64[n].
        """
        wanted = np.frombuffer(raw, np.uint8).reshape(-1, DIGEST_BYTES)
        if not len(self):
            return np.full(len(wanted), -1, np.int64)
        prefixes = np.ascontiguousarray(wanted[:, :8]).view(">u8").ravel().astype(np.uint64)
        at = np.searchsorted(self._prefixes, prefixes)
        found = np.minimum(at, len(self) - 1)
        same = (self.digests[found] == wanted).all(axis=1)
        for i in np.flatnonzero(~same).tolist():
            # Another digest may share the eight bytes: look on among those that do.
            place = int(at[i])
            found[i] = -1
            while place < len(self) and self._prefixes[place] == prefixes[i]:
                if (self.digests[place] == wanted[i]).all():
                    found[i] = place
                    break
                place += 1
        return found.astype(np.int64)


def take_census(backend: Backend, report: Callable[[int], None] = lambda count: None) -> Census:
    """List a repository.

    Args:
        backend: The place.
        report: Called now and then with the keys listed so far.
    """
    digests, sizes, modified = bytearray(), array("q"), array("d")
    records: dict[str, list[str]] = {folder: [] for folder in (*(kind.folder for kind in kinds.KINDS), TRASH_FOLDER)}
    unknown: list[str] = []
    unknown_count = 0
    for count, (key, size, time_s) in enumerate(backend.entries("")):
        if not count % 10_000:
            report(count)
        digest = digest_of_key(key)
        if digest is not None:
            digests += digest
            sizes.append(size)
            modified.append(float("nan") if time_s is None else time_s)
            continue
        folder = key.partition("/")[0]
        if folder in records:
            records[folder].append(key)
        elif key not in (FORMAT_KEY, PROTECTED_KEY) and not key.startswith(IGNORED):
            unknown_count += 1
            if len(unknown) < UNKNOWN_KEPT:
                unknown.append(key)
    return Census(
        np.frombuffer(bytes(digests), np.uint8).reshape(-1, DIGEST_BYTES),
        np.frombuffer(sizes, np.int64) if sizes else np.zeros(0, np.int64),
        np.frombuffer(modified, np.float64) if modified else np.zeros(0, np.float64),
        records,
        unknown,
        unknown_count,
    )


def clock_of(backend: Backend) -> float:
    """What the clock of the place says: the age of a value that is written now.

    Raises:
        BackendError: The place does not tell ages.
    """
    import os

    key = f"clock/{os.urandom(8).hex()}"
    backend.put(key, b"")
    backend.flush()
    try:
        found = next((entry.modified_s for entry in backend.entries("clock") if entry.key == key), None)
    finally:
        backend.delete(key)
        backend.flush()
    if found is None:
        raise BackendError(f"{backend.url} does not tell how old its values are")
    return found
