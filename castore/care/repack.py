"""What a collection does with packs: those that hold nothing in use go, those that hold much else are written anew.

A pack goes by the rules by which an object goes: only if neither stored nor renewed within the grace period, looked at
in the step that removes it. What is in use of it is durable in another pack before that. So a reader who finds a pack
gone looks at the listing again; a writer who renews one a moment before it would go keeps all of it; and whoever is
killed leaves values twice, of which the next collection removes one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from castore.care.census import Census, object_table
from castore.care.relatives import find_relatives
from castore.errors import CorruptionError, NotFoundError, UnsupportedVersionError
from castore.format.digest import Digest, digest_of
from castore.format.pack import MAGIC, OBJECT_KIND, PACK_BYTES_MAX, UNIT_KIND, check_of
from castore.format.pack_writer import FEATURE_HEAD_BYTES, HEAD_BYTES
from castore.store.frames import Frames
from castore.store.object_keys import object_key
from castore.store.objects import FRAME_BYTES_MAX, OBJECT_BYTES_MAX, ObjectStore
from castore.store.pack_catalog import StoredPack
from castore.store.pack_entries import read_entries
from castore.store.packed_keys import value_key
from castore.store.packs import PACK_BYTES, PackedBackend
from castore.store.trash import TRASH_FOLDER

UNUSED_SHARE = 0.25
"""Of the bytes of a pack, from which on it is written anew: at most a third more is stored than is in use, and what is
written again is at most three times what is freed."""

GAIN_SHARE = 0.75
"""Of an object that a relative is found for, what storing it on that saves, about."""

SMALL_BYTES = PACK_BYTES // 8
SMALL_PACKS = 8
"""So many packs of less than ``SMALL_BYTES`` become one."""


@dataclass(slots=True)
class Repacked:
    """What became of packs, or, in a rehearsal, would.

    Attributes:
        packs: Packs that are stored.
        removed: Packs that were removed, and ``objects_removed`` and ``bytes_removed`` what was in them and not in use.
        rewritten: Of them, those of which something was kept, and ``bytes_rewritten`` how much.
        spared: Packs that a writer renewed after they were listed.
        damaged: Packs that stay because something in them is wrong.
        unused_bytes: What is in packs that stay and not in use.
    """

    packs: int = 0
    removed: int = 0
    objects_removed: int = 0
    bytes_removed: int = 0
    rewritten: int = 0
    bytes_rewritten: int = 0
    spared: int = 0
    damaged: int = 0
    unused_bytes: int = 0


class _Looked(NamedTuple):
    """A pack, the numbers in the census of its objects, int64[n], -1 for others, and which need others, bool[n]."""

    pack: StoredPack
    at: NDArray[np.int64]
    needing: NDArray[np.bool_]


class _Judged(NamedTuple):
    """A pack, and which of its rows are to be kept, bool[n]; those that another pack has too are in ``twice``.

    What would be gained by storing objects on relatives that their writers did not see is ``gain_bytes``, about.
    """

    pack: StoredPack
    kept: NDArray[np.bool_]
    twice: NDArray[np.bool_]
    kept_bytes: int
    unused_bytes: int
    gain_bytes: int


class Repacking:
    """One pass over the packs of a place.

    Args:
        backend: The place.
        census: The listing.
        in_use: Of its objects, bool[n].
        dead_units: Names of unit records that were not used for long.
        before_s: Packs that were stored or renewed since stay.
        objects: To read objects that are stored anew on their relatives.
        dry_run: Count, and change nothing.
    """

    def __init__(
        self,
        backend: PackedBackend,
        census: Census,
        in_use: NDArray[np.bool_],
        dead_units: set[bytes],
        before_s: float,
        objects: ObjectStore,
        *,
        dry_run: bool,
    ) -> None:
        self._backend, self._census, self._dead_units = backend, census, dead_units
        self._objects, self._in_use = objects, in_use
        self._before, self._dry_run = before_s, dry_run
        self._frames = Frames(self._stored, 1, is_far=False)
        self.done = Repacked()
        self._judged = self._judge()
        self._chosen = self._choose(self._judged)

    def units_staying(self) -> set[bytes]:
        """Those of the dead units of which a record is in a pack that stays."""
        chosen = {one.pack.name for one in self._chosen}
        staying = (pack for pack in self._backend.catalog.packs().values() if pack.name not in chosen)
        names = (pack.index.key(row)[1:] for pack in staying for row in pack.index.starting(UNIT_KIND))
        return self._dead_units & {*names}

    def run(self, report: Callable[[int, int], None] = lambda done, total: None) -> Repacked:
        """Write anew and remove packs that are not worth their place, youngest first: records name what is older."""
        judged, chosen = self._judged, self._chosen
        self.done.packs = len(judged)
        for number, one in enumerate(chosen):
            report(number, len(chosen))
            self._replace(one)
        chosen_names = {one.pack.name for one in chosen}
        self.done.unused_bytes += sum(one.unused_bytes for one in judged if one.pack.name not in chosen_names)
        return self.done

    def _judge(self) -> list[_Judged]:
        """What of each pack is in use. Of a value in several packs the youngest keeps it."""
        packs = [pack for pack in self._backend.catalog.packs().values() if not pack.damage]
        packs.sort(key=lambda pack: (-(pack.modified_s or 0.0), pack.name))
        looked = [_looked(pack, self._census) for pack in packs]
        # Nothing of a pack that stays is stored anew.
        relatives = find_relatives(packs[::-1], self._census, self._in_use) if any(map(self._is_old, packs)) else {}
        self._relatives = relatives
        used = self._in_use | self._census.needed()
        alone = self._by_themselves(looked)
        claimed = np.zeros(len(self._census), np.bool_)
        units: set[bytes] = set()
        judged = []
        for pack, at, needing in looked:
            known, number = at >= 0, np.maximum(at, 0)
            # What came after the listing is younger than any collection may take.
            live = ~known | used[number]
            # Whatever needs an object that itself needs others shall find it by itself.
            twice = live & known & (claimed[number] | (alone[number] & needing))
            claimed[at[live & known & ~twice]] = True
            kept = np.zeros(len(pack.index), np.bool_)
            doubled = np.zeros(len(pack.index), np.bool_)
            rows = pack.index.starting(OBJECT_KIND)
            kept[rows.start : rows.stop] = live
            doubled[rows.start : rows.stop] = twice
            for row in pack.index.starting(UNIT_KIND):
                name = pack.index.key(row)[1:]
                kept[row] = name not in self._dead_units and name not in units
                units.add(name)
            sizes = np.array([pack.index.place(row).size for row in range(len(pack.index))], np.int64)
            heads = np.full(len(sizes), HEAD_BYTES)
            for row, features in pack.features.items():
                heads[row] += FEATURE_HEAD_BYTES * len(features)
            stays = kept & ~doubled
            kept_bytes = int(sizes[stays].sum())
            # What stands before a value is in use as that is, or packs of tiny values would never be worth their place.
            unused_bytes = pack.index.end - len(MAGIC) - kept_bytes - int(heads[stays].sum())
            smaller = [row for row, one in zip(rows, at.tolist(), strict=True) if one in relatives and stays[row]]
            gain = int(GAIN_SHARE * sizes[smaller].sum())
            judged.append(_Judged(pack, kept, doubled, kept_bytes, unused_bytes, gain))
        return judged

    def _by_themselves(self, looked: list[_Looked]) -> NDArray[np.bool_]:
        """Objects that others need and of which a pack has a frame that needs none, bool[n]."""
        found = np.zeros(len(self._census), np.bool_)
        for _, at, needing in looked:
            found[at[(at >= 0) & ~needing]] = True
        return self._census.needed() & found

    def _is_old(self, pack: StoredPack) -> bool:
        return pack.modified_s is not None and pack.modified_s < self._before

    def _choose(self, judged: list[_Judged]) -> list[_Judged]:
        """The packs to be removed: what they hold is not in use, for a good part or wholly, or they are small."""
        old = [one for one in judged if self._is_old(one.pack)]
        small = [one for one in old if one.pack.size_bytes < SMALL_BYTES]
        self._merged = {one.pack.name for one in small} if len(small) >= SMALL_PACKS else set()
        return [
            one
            for one in old
            if one.kept_bytes == 0
            or one.unused_bytes + one.gain_bytes >= UNUSED_SHARE * one.pack.index.end
            or one.pack.name in self._merged
        ]  # fmt: skip

    def _replace(self, one: _Judged) -> None:
        pack, kept = one.pack, one.kept & ~one.twice
        smaller, gained = self._on_relatives(pack, np.flatnonzero(kept).tolist())
        is_worth = one.unused_bytes + gained >= UNUSED_SHARE * pack.index.end
        if one.kept_bytes and not is_worth and pack.name not in self._merged:
            self.done.unused_bytes += one.unused_bytes  # what was expected of relatives was not so
            return
        if not self._dry_run:
            lacking = [row for row in np.flatnonzero(one.twice).tolist() if not self._is_elsewhere(pack, row)]
            kept[lacking] = True
            if not self._write_anew(pack, np.flatnonzero(kept).tolist(), smaller):
                self.done.damaged += 1
                return
            if not self._remove(pack):
                self.done.spared += 1
                return
        first = pack.index.starting(OBJECT_KIND)
        self.done.removed += 1
        self.done.objects_removed += int((~one.kept[first.start : first.stop]).sum())
        self.done.bytes_removed += pack.size_bytes - one.kept_bytes + gained
        if kept.any():
            self.done.rewritten += 1
            self.done.bytes_rewritten += one.kept_bytes - gained

    def _is_elsewhere(self, pack: StoredPack, row: int) -> bool:
        """Whether another pack has a whole value of the same name, which is looked at: it may be damaged."""
        name = pack.index.key(row)
        for found in self._backend.catalog.all(name):
            if found.pack.name != pack.name:
                value = self._backend.raw.get_part(found.pack.key, found.offset, found.size)
                if value is not None and check_of(value) == found.pack.index.place(found.row).check:
                    needs_others = name[0] == OBJECT_KIND and self._frames.bases_of(value)
                    if not needs_others or self._can_be_opened(Digest(name[1:]), value):
                        return True
        return False

    def _can_be_opened(self, digest: Digest, frame: bytes) -> bool:
        """Whether a frame and all that it needs are whole."""
        try:
            return digest_of(self._frames.open(frame, OBJECT_BYTES_MAX)) == digest
        except (CorruptionError, UnsupportedVersionError):
            return False

    def _stored(self, digests: Iterable[Digest]) -> Iterator[tuple[Digest, bytes | None]]:
        return ((digest, self._backend.get(object_key(digest), FRAME_BYTES_MAX)) for digest in digests)

    def _on_relatives(self, pack: StoredPack, rows: list[int]) -> tuple[dict[int, bytes], int]:
        """Frames on the relatives that were found for objects of a pack, by row, and what they save in all."""
        digests = {row: Digest(pack.index.key(row)[1:]) for row in rows if pack.index.key(row)[0] == OBJECT_KIND}
        at = self._census.find(b"".join(digests.values())).tolist()
        wanted = [row for row, number in zip(digests, at, strict=True) if number in self._relatives]
        smaller: dict[int, bytes] = {}
        gained = 0
        for read in read_entries(self._backend.raw, pack, wanted):
            frame = None if read.entry is None else self._on_relative(digests[read.row], read.entry.value)
            if read.entry is not None and frame is not None:
                smaller[read.row] = frame
                gained += len(read.entry.value) - len(frame)
        return smaller, gained

    def _write_anew(self, pack: StoredPack, rows: list[int], smaller: dict[int, bytes]) -> bool:
        """Store values of a pack in another, durably, some in a frame given; False if one of them is damaged."""
        for read in read_entries(self._backend.raw, pack, rows):
            if read.entry is None:
                return False
            name = pack.index.key(read.row)
            self._backend.put(value_key(name), smaller.get(read.row, read.entry.value), read.entry.features)
        self._backend.flush()
        return True

    def _on_relative(self, digest: Digest, frame: bytes) -> bytes | None:
        """The frame of an object on the relatives that were found for it, None if there are none or it would not do."""
        number = int(self._census.find(digest)[0])
        bases = [self._census.digest(base) for base in self._relatives.get(number, ())]
        if not bases:
            return None
        try:
            return self._objects.delta_on(digest, frame, bases)
        except (CorruptionError, NotFoundError, UnsupportedVersionError):
            return None

    def _remove(self, pack: StoredPack) -> bool:
        raw = self._backend.raw
        if not getattr(raw, "expires_in_one_step", False):
            # A writer may renew it between the look at its age and the removal.
            data = raw.get(pack.key, PACK_BYTES_MAX)
            if data is not None:
                raw.put(f"{TRASH_FOLDER}/{pack.key}", data)
                raw.flush()
        if not raw.expire(pack.key, self._before):
            return False
        self._backend.catalog.forget(pack)
        return True


def _looked(pack: StoredPack, census: Census) -> _Looked:
    rows = pack.index.starting(OBJECT_KIND)
    needing = np.zeros(len(pack.index), np.bool_)
    needing[[row for row, _ in pack.index.bases()]] = True
    at = census.find(object_table(pack.index)["name"].tobytes())
    return _Looked(pack, at, needing[rows.start : rows.stop])
