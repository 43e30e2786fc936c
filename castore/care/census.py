"""What a repository holds, from one listing: 48 bytes an object, whatever the objects are."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from castore.errors import BackendError
from castore.format.delta import BASES_DEPTH_MAX
from castore.format.digest import DIGEST_BYTES, Digest
from castore.format.pack import OBJECT_KIND, ROW_BYTES, UNIT_KIND, PackIndex
from castore.store import kinds
from castore.store.atomic_create import PROBED_FOLDER
from castore.store.backend import Backend, ListingEntry, everything
from castore.store.kinds import is_value_key
from castore.store.marker import FORMAT_KEY
from castore.store.object_keys import digest_of_key
from castore.store.pack_catalog import StoredPack, is_pack_key
from castore.store.packed_keys import value_key
from castore.store.packs import PackedBackend
from castore.store.protection import PROTECTED_KEY
from castore.store.refs import REFS, entry_of_key
from castore.store.trash import TRASH_FOLDER
from castore.store.units import UNITS

UNKNOWN_KEPT = 1000
"""Unknown keys that are remembered by name; the others are counted."""

IGNORED = frozenset({"tmp", "clock", PROBED_FOLDER})
"""Folders in which nothing counts."""

ROOT_KEYS = frozenset({FORMAT_KEY, PROTECTED_KEY})
"""Values that are in no folder."""


@dataclass(slots=True)
class Census:
    """All keys of a repository at one moment.

    Attributes:
        digests: Digests of the objects, ascending, uint8[n, 32].
        sizes: Their bytes as stored, int64[n].
        modified: When they were stored or last renewed, by the clock of the store, float64[n]; NaN if it does not tell.
            An object in a pack is as old as that.
        place: Where those are that are in a pack and nowhere else: number of the pack by name times 2**32, and offset
            in it, int64[n]; -1 for others.
        bases: Objects of which a stored frame needs another, with that object, int64[m, 2]; none that is missing.
        records: The other keys by their first part (``refs``, ``units``, …), ascending.
        unknown: Keys that nothing in castore is called, at most ``UNKNOWN_KEPT``.
        unknown_count: How many there are.
        faults: What is no value and has the name of one, or hides what may be below it: key and what it is, at most
            ``UNKNOWN_KEPT``. Entries of logs are among the records all the same: what is newer counts.
        faults_count: How many there are.
    """

    digests: NDArray[np.uint8]
    sizes: NDArray[np.int64]
    modified: NDArray[np.float64]
    place: NDArray[np.int64]
    bases: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 2), np.int64))
    records: dict[str, list[str]] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    unknown_count: int = 0
    faults: list[tuple[str, str]] = field(default_factory=list)
    faults_count: int = 0
    _prefixes: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))

    def __post_init__(self) -> None:
        # Eight bytes decide nearly always, and machine integers are found ten times sooner than byte strings.
        self._prefixes = np.ascontiguousarray(self.digests[:, :8]).view(">u8").ravel().astype(np.uint64)

    def __len__(self) -> int:
        return len(self.digests)

    def with_bases(self, some: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Some objects and those that their frames need, bool[n]."""
        some = some.copy()
        for _ in range(BASES_DEPTH_MAX):
            some[self.bases[some[self.bases[:, 0]], 1]] = True
        return some

    def needed(self) -> NDArray[np.bool_]:
        """Objects that a stored frame needs, whoever uses that: a writer may take it up again, bool[n]."""
        some = np.zeros(len(self), np.bool_)
        some[self.bases[:, 1]] = True
        return some

    @property
    def packed(self) -> NDArray[np.bool_]:
        """Whether objects are in a pack and nowhere else, bool[n]."""
        return self.place >= 0

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


def take_census(backend: PackedBackend, report: Callable[[int], None] = lambda count: None) -> Census:
    """List a repository.

    Args:
        backend: The place.
        report: Called now and then with the keys listed so far.
    """
    digests, sizes, modified = bytearray(), array("q"), array("d")
    records: dict[str, list[str]] = {folder: [] for folder in (*(kind.folder for kind in kinds.KINDS), TRASH_FOLDER)}
    unknown: list[str] = []
    faults: list[tuple[str, str]] = []
    unknown_count = faults_count = 0
    for count, entry in enumerate(everything(backend, "", details=True)):
        key = entry.key
        if not count % 10_000:
            report(count)
        fault = _fault_of(entry)
        if fault:
            faults_count += 1
            if len(faults) < UNKNOWN_KEPT:
                faults.append((key, fault))
            if entry_of_key(key) is not None:
                records[REFS.folder].append(key)
            continue
        if entry.is_folder:
            continue
        digest = digest_of_key(key)
        if digest is not None:
            digests += digest
            sizes.append(entry.size_bytes)
            modified.append(float("nan") if entry.modified_s is None else entry.modified_s)
            continue
        folder = key.partition("/")[0]
        if folder in records:
            records[folder].append(key)
        elif not is_pack_key(key) and key not in ROOT_KEYS and folder not in IGNORED:
            unknown_count += 1
            if len(unknown) < UNKNOWN_KEPT:
                unknown.append(key)
    packs = backend.catalog.fresh()
    units = {key for pack in packs for key in map(value_key, map(pack.index.key, pack.index.starting(UNIT_KIND)))}
    records[UNITS.folder] = [*{*records[UNITS.folder], *units}]
    census = Census(
        *_with_packed(
            np.frombuffer(bytes(digests), np.uint8).reshape(-1, DIGEST_BYTES),
            np.frombuffer(sizes, np.int64) if sizes else np.zeros(0, np.int64),
            np.frombuffer(modified, np.float64) if modified else np.zeros(0, np.float64),
            packs,
        ),
        records={folder: sorted(keys) for folder, keys in records.items()},
        unknown=unknown,
        unknown_count=unknown_count,
        faults=faults,
        faults_count=faults_count,
    )
    census.bases = bases_in(packs, census)
    return census


def bases_in(packs: Iterable[StoredPack], census: Census) -> NDArray[np.int64]:
    """As ``Census.bases``, of some packs."""
    pairs = [pack.index.key(row)[1:] + base for pack in packs for row, base in pack.index.bases()]
    found = census.find(b"".join(pairs)).reshape(-1, 2)
    return found[(found >= 0).all(axis=1)]


def bases_lacking(packs: Iterable[StoredPack], census: Census) -> set[Digest]:
    """Objects that frames of some packs need and that were not listed."""
    bases = [base for pack in packs for _, base in pack.index.bases()]
    return {base for base, place in zip(bases, census.find(b"".join(bases)).tolist(), strict=True) if place < 0}


def _with_packed(
    digests: NDArray[np.uint8], sizes: NDArray[np.int64], modified: NDArray[np.float64], packs: Iterable[StoredPack]
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """The columns of a census: of objects that are stored by themselves, then of those that only packs have."""
    columns = [(digests, sizes, modified, np.full(len(digests), -1, np.int64))]
    for number, pack in enumerate(packs):
        table = object_table(pack.index)
        age = np.full(len(table), np.nan if pack.modified_s is None else pack.modified_s)
        places = (number << 32) + table["offset"].astype(np.int64)
        columns.append((table["name"], table["size"].astype(np.int64), age, places))
    every, all_sizes, ages, places = map(np.concatenate, zip(*columns, strict=True))
    # Of several copies the first, the one by itself before those in packs.
    _, first = np.unique(np.ascontiguousarray(every).view(f"S{DIGEST_BYTES}").ravel(), return_index=True)
    return every[first], all_sizes[first], ages[first], places[first]


def object_table(index: PackIndex) -> NDArray[np.void]:
    """The objects of a pack by digest: ``name`` uint8[32], ``offset`` and ``size``."""
    kind = np.dtype({
        "names": ["name", "offset", "size"],
        "formats": [(np.uint8, DIGEST_BYTES), "<u4", "<u4"],
        "offsets": [1, 1 + DIGEST_BYTES, 5 + DIGEST_BYTES],
        "itemsize": ROW_BYTES,
    })  # fmt: skip
    rows = index.starting(OBJECT_KIND)
    return index.rows_table()[rows.start : rows.stop].reshape(-1).view(kind)


def _fault_of(entry: ListingEntry) -> str:
    """What is wrong with what a listing tells of: it has the name of a value and is none, or hides what is below it."""
    key = entry.key
    folder = key.partition("/")[0]
    if folder in IGNORED and key != folder:
        return ""
    if entry.is_folder and not entry.fault and is_value_key(key):
        return f"{key} is a folder, not a file of the repository"
    return entry.fault


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
