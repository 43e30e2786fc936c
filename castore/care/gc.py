"""``gc``: mark what is in use, remove what is not in use and old (``docs/explanation/collection.md``).

What makes it safe beside writers that it does not see:

* Whoever is about to name an object stores or renews it first, and is told if it is not there.
* An object goes only if it is older than the grace period, by the clock of the store, looked at in the step that
  removes it (``Backend.expire``). So an object that a writer has just stored or renewed stays, marked or not.
* Names are read before and after marking, until nothing new is found. A name that appears later names only objects that
  its writer stored or renewed, or that another name held all the time and whose log still holds them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from castore.care.census import Census, bases_in, bases_lacking, clock_of, take_census
from castore.care.policy import DAY_S as DAY_S
from castore.care.policy import Policy as Policy
from castore.care.reach import walk
from castore.care.repack import Repacked, Repacking
from castore.care.trash import fill_trash, settle_trash
from castore.errors import BackendError, CorruptionError, FormatError, InvalidInputError, NotFoundError
from castore.format.digest import Digest
from castore.store import kinds
from castore.store.backend import Backend, everything
from castore.store.object_keys import OBJECTS_FOLDER, object_key
from castore.store.objects import ObjectStore
from castore.store.pack_catalog import PACKS_FOLDER
from castore.store.packs import PackedBackend, packed
from castore.store.records import Holds, RecordKind, record_key
from castore.store.refs import REFS, RefStore, entry_of_key, is_ref_name
from castore.store.trash import TRASH_FOLDER
from castore.store.units import UNITS

CLOCKS_MAX_S = 3600

TRASH_BATCH = 64
"""Objects that are put into the trash before they are removed, where that takes two steps."""


_Records = tuple[RecordKind, list[str], list[str]]
"""Keys of records of a kind: those that stay, and those that were not used for long."""

_NOTHING_REMOVED = "nothing was removed, for what is in use cannot be known: run 'castore fsck'"


@dataclass(slots=True)
class Collected:
    """What a collection did, or, as a rehearsal, would do.

    Attributes:
        listed: Objects that are stored.
        listed_bytes: What they take.
        read: Objects that were read to follow links.
        marked: Objects in use, and those that are needed to read them.
        young: Objects not in use that are within the grace period.
        removed: Objects that were removed, and ``removed_bytes`` what they took.
        spared: Objects that were renewed by a writer after they were listed.
        records_removed: Records of units, imports, packings and writes that were removed.
        packs: What became of packs; what was removed with them is among ``removed``.
    """

    listed: int = 0
    listed_bytes: int = 0
    read: int = 0
    marked: int = 0
    young: int = 0
    removed: int = 0
    removed_bytes: int = 0
    spared: int = 0
    records_removed: int = 0
    packs: Repacked = field(default_factory=Repacked)


Report = Callable[[str, int, int], None]


def collect(
    backend: Backend,
    policy: Policy,
    *,
    dry_run: bool = False,
    force: bool = False,
    report: Report = lambda what, done, total: None,
) -> Collected:
    """Remove what nothing uses.

    Args:
        backend: The repository.
        policy: What to keep.
        dry_run: Count, and remove nothing.
        force: Accept periods that are unsafe beside writers.
        report: Called with what is being done (``marking``, ``sweeping``), how far, and of how many.

    Raises:
        CorruptionError: Something above the chunks is missing or damaged: what is below it cannot be known, and nothing
            is removed.
        InvalidInputError: The policy is unsafe.
        BackendError: The place does not tell ages; or something cannot be read, such as a link that leads nowhere in
            the place of an entry of a name: nothing is removed either.
    """
    import time

    policy.check(force=force)
    here = time.time()
    now = here if dry_run else clock_of(backend)  # a rehearsal writes nothing
    if abs(now - here) > CLOCKS_MAX_S and not force:
        raise InvalidInputError(
            f"the clock of {backend.url} and that of this machine differ by {abs(now - here):,.0f} s: one is wrong, "
            "and ages cannot be trusted; give --force to believe that of the store"
        )
    return _Collection(packed(backend), policy, now, dry_run, report).run()


@contextmanager
def _removing_nothing() -> Iterator[None]:
    """Say of an error of the place that nothing was removed so far."""
    try:
        yield
    except BackendError as error:
        raise BackendError(f"{error}; {_NOTHING_REMOVED}", transient=error.transient) from error


class _Marks:
    """Which objects were reached, and of which of them the links were followed.

    What was stored after the listing is no candidate for the sweep, but what it names may be: it is kept aside.

    Args:
        census: The listing.
        *others: Marks that were made before.

    Attributes:
        used: Whether an object of the census was reached, bool[n].
        late: Those that the census lacks, and whether their links were followed.
    """

    def __init__(self, census: Census, *others: _Marks) -> None:
        self._census, self._others = census, others
        self.used = np.zeros(len(census), np.bool_)
        self._entered = np.zeros(len(census), np.bool_)
        self.late: dict[Digest, bool] = {}

    def fresh(self, digests: list[Digest], inner: bool) -> list[bool]:
        """As ``Fresh`` of ``reach``; what one of the others has is not fresh, and is not marked again."""
        answer = []
        makers = (self, *self._others)
        tables = [marks._entered if inner else marks.used for marks in makers]
        places: list[int] = self._census.find(b"".join(digests)).tolist() if digests else []
        for digest, place in zip(digests, places, strict=True):
            if place >= 0:
                is_fresh = not any(table[place] for table in tables)
                if is_fresh:
                    self.used[place] = True
                    self._entered[place] |= inner
            else:
                is_fresh = not any(marks._has_late(digest, inner) for marks in makers)
                if is_fresh:
                    self.late[digest] = inner
            answer.append(is_fresh)
        return answer

    def _has_late(self, digest: Digest, inner: bool) -> bool:
        return self.late.get(digest, False) or (digest in self.late and not inner)


@dataclass
class _Collection:
    """One collection under way."""

    backend: PackedBackend
    policy: Policy
    now: float
    dry_run: bool
    report: Report
    done: Collected = field(default_factory=Collected)
    dead_units: set[bytes] = field(default_factory=set)
    census: Census = field(init=False)

    def run(self) -> Collected:
        """Marking, records, sweeping, in this order; nothing is removed before all that is in use is known."""
        self.objects = ObjectStore(self.backend)
        with _removing_nothing():
            records = self._see_all()
        # A record that is used after its removal was tried renews what it names, and finds out what is missing; one
        # that was used before is still there, and holds it.
        for kind, _, old in records:
            self._mark_records(kind, self._remove_records(old))
        repacking = self._plan_packs()
        self.done.read = self.objects.reads
        self.done.marked = int(self.in_use.sum())
        if not self.dry_run:
            late = {*self.named.late, *self.logged.late, *self.recorded.late}
            late |= bases_lacking(self.backend.catalog.packs().values(), self.census)
            settle_trash(self.backend, late, self.now - self.policy.grace_s)
        self._sweep(repacking)
        return self.done

    def _see_all(self) -> list[_Records]:
        """List and mark; the records by kind."""
        records = self._records_by_age()
        self.census = take_census(self.backend)
        self._require_seen()
        self.done.listed, self.done.listed_bytes = len(self.census), self.census.size_bytes
        if np.isnan(self.census.modified).any():
            raise BackendError(f"{self.backend.url} does not tell how old its values are")
        # Marks of logs and records are their own: a walk that damage ends leaves objects marked whose links nobody has
        # followed, and names must not take these for done.
        self.named = _Marks(self.census)
        self.logged = _Marks(self.census, self.named)
        self.recorded = _Marks(self.census, self.named, self.logged)
        current: set[Digest] = set()
        former: set[Digest] = set()
        self._mark_names(current, former)
        for kind, kept, _ in records:
            self._mark_records(kind, kept)
        self._mark_names(current, former)
        return records

    # ---- roots

    def _held_by_names(self) -> tuple[set[Digest], set[Digest]]:
        """What names mean, and what they meant within the time that logs are kept."""
        refs = RefStore(self.backend)
        logs: dict[str, list[tuple[int, float]]] = {}
        for entry in everything(self.backend, REFS.folder, details=True):
            place = entry_of_key(entry.key)
            hides_names = not entry.is_folder and is_ref_name(entry.key.removeprefix(f"{REFS.folder}/"))
            if entry.fault or (place is None and hides_names):
                what = entry.fault or f"{entry.key} is a file where only folders of names are"
                raise BackendError(f"{what}: there may be names that cannot be seen")
            if place is not None:
                logs.setdefault(place[0], []).append((place[1], entry.modified_s or self.now))
        current: set[Digest] = set()
        former: set[Digest] = set()
        for name, entries in logs.items():
            entries.sort()
            if [sequence for sequence, _ in entries] != list(range(len(entries))):
                raise CorruptionError(f"the log of {name} has a gap")
            for at, (sequence, _) in enumerate(entries):
                is_newest = at + 1 == len(entries)
                # An entry counts until the next one is written, and for the time that logs are kept from then on.
                until = self.now if is_newest else entries[at + 1][1]
                if until < self.now - self.policy.keep_log_s:
                    continue
                target = refs.entry(name, sequence).target
                if target is not None:
                    (current if is_newest else former).add(target)
        return current, former

    def _require_seen(self) -> None:
        """Refuse to collect where something may be in use that cannot be seen.

        Raises:
            BackendError: Something is in the place of a value or folder of the repository.
        """
        known = {OBJECTS_FOLDER, TRASH_FOLDER, PACKS_FOLDER, *(kind.folder for kind in kinds.KINDS)}
        for key, fault in self.census.faults:
            if key.partition("/")[0] in known:
                raise BackendError(fault)
        for error in self.backend.catalog.unseen.values():
            if not isinstance(error, CorruptionError):  # what is damaged needs nothing, and is missed where it is named
                raise BackendError(f"{error}; in a pack there may be objects that need others")
        if self.census.faults_count > len(self.census.faults):
            raise BackendError(f"{self.backend.url} has {self.census.faults_count} things in it that are no files")

    def _records_by_age(self) -> list[_Records]:
        """The keys of the records that hold something or expire."""
        before = self.now - self.policy.keep_records_s
        records: list[_Records] = []
        for kind in kinds.KINDS:
            if kind.is_log or (kind.holds is Holds.NOTHING and not kind.expires):
                continue
            kept: list[str] = []
            old: list[str] = []
            for entry in self.backend.entries(kind.folder):
                stays = not kind.expires or entry.modified_s is None or entry.modified_s >= before
                (kept if stays else old).append(entry.key)
            records.append((kind, kept, old))
        return records

    def _remove_records(self, keys: list[str]) -> list[str]:
        """Remove records that were not used for long; those that were used meanwhile."""
        before = self.now - self.policy.keep_records_s
        spared = []
        for key in keys:
            if self.backend.is_packed(key):  # it goes with its pack, or stays if that does
                self.dead_units.add(bytes.fromhex(key[-64:]))
                self.done.records_removed += 1
            elif self.dry_run or self.backend.expire(key, before):
                self.done.records_removed += 1
            else:
                spared.append(key)
        return spared

    def _mark_records(self, kind: RecordKind, keys: list[str]) -> None:
        """Mark what records name. They are conveniences: one that is damaged or names what is gone holds nothing."""
        if kind.holds is Holds.NOTHING:
            return
        for key, data in self._records(keys, kind.bytes_max):
            try:
                named = kind.references(data, key)
                if kind.holds is Holds.DATASETS:
                    self._mark(named, self.recorded)
                else:
                    self.recorded.fresh(named, False)
            except (CorruptionError, FormatError, NotFoundError):
                continue

    def _records(self, keys: list[str], bytes_max: int) -> Iterator[tuple[str, bytes]]:
        """Records with their bytes, less those that are gone or too large to be right."""
        at = 0
        while at < len(keys):
            try:
                for key, data in self.backend.get_many(keys[at:], bytes_max):
                    at += 1
                    if data is not None:
                        yield key, data
            except CorruptionError:
                at += 1

    # ---- marking

    def _mark_names(self, current: set[Digest], former: set[Digest]) -> None:
        """Mark what names hold, until nothing is found beside ``current`` and ``former``; adds it to these."""
        try:
            while True:
                now, before = self._held_by_names()
                if now <= current and before <= former:
                    return
                self._mark(sorted(now - current), self.named)
                # A collection that kept logs for a shorter time may have taken some of it, and been killed.
                self._mark(sorted(before - former), self.logged, lenient=True)
                current |= now
                former |= before
        except (NotFoundError, CorruptionError, FormatError) as error:
            raise CorruptionError(f"{str(error).partition(': run ')[0]}; {_NOTHING_REMOVED}") from error

    def _mark(self, targets: list[Digest], marks: _Marks, *, lenient: bool = False) -> None:
        """Mark what runs and manifests reach."""
        for count, _ in enumerate(walk(self.objects, targets, marks.fresh, lenient=lenient)):
            if not count % 1000:
                self.report("marking", count, len(self.census))

    # ---- sweeping

    def _plan_packs(self) -> Repacking:
        """What is to become of packs; a record whose pack stays holds what it names, though it is old."""
        while True:
            self.in_use = self.census.with_bases(self.named.used | self.logged.used | self.recorded.used)
            before = self.now - self.policy.grace_s
            plan = Repacking(
                self.backend, self.census, self.in_use, self.dead_units, before, self.objects, dry_run=self.dry_run
            )
            staying = plan.units_staying()
            if not staying:
                return plan
            self.dead_units -= staying
            self.done.records_removed -= len(staying)
            self._mark_records(UNITS, [record_key(UNITS.folder, Digest(name)) for name in sorted(staying)])

    def _sweep(self, repacking: Repacking) -> None:
        before = self.now - self.policy.grace_s
        old = self.census.modified < before
        self.done.packs = repacking.run(lambda done, total: self.report("repacking", done, total))
        self.done.removed += self.done.packs.objects_removed
        self.done.removed_bytes += self.done.packs.bytes_removed
        # What is left in packs may be taken up by a writer, and what it is stored on must be there then.
        kept = self.in_use.copy()
        kept[bases_in(self.backend.catalog.packs().values(), self.census)[:, 1]] = True
        self.done.young = int((~kept & ~old).sum())
        doomed = np.flatnonzero(~kept & old & ~self.census.packed).tolist()
        for at in range(0, len(doomed), TRASH_BATCH):
            batch = doomed[at : at + TRASH_BATCH]
            if not self.dry_run and not getattr(self.backend, "expires_in_one_step", False):
                fill_trash(self.backend, [self.census.digest(index) for index in batch])
            for index in batch:
                if self.dry_run or self.backend.expire(object_key(self.census.digest(index)), before):
                    self.done.removed += 1
                    self.done.removed_bytes += int(self.census.sizes[index])
                else:
                    self.done.spared += 1
            self.report("sweeping", at, len(doomed))
        if not self.dry_run:
            self.backend.flush()
