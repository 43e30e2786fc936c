"""``fsck``: everything is read and hashed again, every link compared with both its ends, every dataset derived anew.

Each object is read once (but for keys and lengths, which every dataset needs whole). What objects say is kept in arrays
(``graph``), and links are judged when all is known, so data that many datasets share costs as much as one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from castore.care.allocator import keep_freed_memory
from castore.care.census import Census, take_census
from castore.care.findings import Finding, Findings
from castore.care.fsck_dataset import dataset_faults
from castore.care.fsck_packs import check_copies, check_packs
from castore.care.fsck_records import check_marker, check_records, check_refs
from castore.care.graph import Graph
from castore.care.links import ObjectKind, facts_of
from castore.care.repair import Repairer
from castore.errors import (
    BackendError,
    CastoreError,
    CorruptionError,
    FormatError,
    MissingBaseError,
    NotFoundError,
    UnsupportedVersionError,
)
from castore.format.digest import Digest
from castore.store.backend import Backend, NotAValueError
from castore.store.object_keys import object_key
from castore.store.objects import ObjectStore
from castore.store.packs import PackedBackend, packed
from castore.store.refs import REFS

BATCH = 256
"""Objects that are asked for at once."""


@dataclass(slots=True)
class FsckResult:
    """Outcome of a check.

    Attributes:
        findings: What was found.
        objects: Objects that are stored.
        objects_read: How many of them were read.
        bytes_stored: Stored bytes of all objects.
        bytes_read: Stored bytes of those that were read.
        bytes_content: Canonical bytes of those that were read.
        unreferenced: Objects that nothing in use leads to, as far as was read.
        names: Refs that exist.
    """

    findings: Findings
    objects: int = 0
    objects_read: int = 0
    bytes_stored: int = 0
    bytes_read: int = 0
    bytes_content: int = 0
    unreferenced: int = 0
    names: int = 0


def check(
    backend: Backend,
    *,
    share: float = 1.0,
    source: Backend | None = None,
    repair: bool = False,
    tell: Callable[[Finding], None] = lambda finding: None,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> FsckResult:
    """Check a repository, and put right what another one has.

    Args:
        backend: The repository; it need not be healthy enough to be opened.
        share: Part of the objects that is read, drawn at random; inner nodes are always read.
        source: A repository from which what is damaged or missing is taken, verified.
        repair: Put right what can be without another repository.
        tell: Called at once with every finding that is listed.
        report: Called with bytes read and bytes to be read.
    """
    keep_freed_memory()
    backend = packed(backend)
    findings = Findings(tell)
    repairer = Repairer(backend, None if source is None else packed(source))
    check_marker(backend, repairer, findings)
    return _Check(backend, findings, repairer, share, report, repair or source is not None).run()


@dataclass
class _Check:
    """One check under way."""

    backend: PackedBackend
    findings: Findings
    repairer: Repairer
    share: float
    report: Callable[[int, int], None]
    repair: bool
    done: FsckResult = field(init=False)
    census: Census = field(init=False)
    graph: Graph = field(init=False)

    def run(self) -> FsckResult:
        """Check in this order: listing, names, objects, links, datasets, records."""
        self.census = take_census(self.backend)
        self.graph = Graph(self.census)
        self.objects = ObjectStore(self.backend)
        self.done = FsckResult(self.findings, len(self.census), 0, self.census.size_bytes)
        self._unknown_files()
        refs = check_refs(self.backend, self.census.records[REFS.folder], self.repairer, self.findings)
        self.done.names = len(refs.current)
        self._read_objects([target for target, _ in (*refs.current, *refs.former)])
        current = {self.graph.number(target): f"ref {name}" for target, name in refs.current}
        former = {self.graph.number(target): f"ref {name}" for target, name in refs.former}
        used = self._follow(list(current))
        self._targets(current, "ref-wrong-target")
        earlier = self._follow(list(former), former=True)
        if self.share >= 1:
            used |= earlier[: len(used)]
        for index, where in former.items():
            if index >= len(self.census) and not self.graph.kind[index : index + 1].any():
                self.findings.add("log-target-missing", where, f"meant {self.graph.name(index).hex()[:12]} once")
        for name, index, text in self.graph.broken_links():
            self.findings.add(name, self.graph.key(index), text)
        self._datasets(list(current))
        held = check_records(self.backend, self.census, self.repairer, self.findings)
        used[: len(held)] |= held
        self.done.unreferenced = int((~self.census.with_bases(used[: len(self.census)])).sum())
        self.repairer.finish()
        whole = self.share >= 1 and not self.backend.is_far
        check_packs(self.backend, self.findings, whole=whole, repair=self.repair)
        if whole:
            check_copies(self.backend, self.census, self.findings, repair=self.repair)
        return self.done

    def _unknown_files(self) -> None:
        for key in self.census.unknown:
            self.findings.add("unknown-file", key, "nothing in a repository is called so")
        for key, text in self.census.faults:
            self.findings.add("not-a-file", key, text)
        for name, more in (
            ("unknown-file", self.census.unknown_count - len(self.census.unknown)),
            ("not-a-file", self.census.faults_count - len(self.census.faults)),
        ):
            if more:
                self.findings.counts[name] = self.findings.counts.get(name, 0) + more

    # ---- objects

    def _read_objects(self, targets: list[bytes]) -> None:
        """Read what is to be read: all in the order of the listing, or inner nodes from the top and a sample."""
        count = len(self.census)
        chosen = np.ones(count, np.bool_)
        if self.share < 1:
            drawn = np.array(random.sample(range(count), max(1, round(self.share * count)) if count else 0), np.int64)
            chosen[:] = False
            chosen[drawn] = True
        self.bytes_chosen = int(self.census.sizes[chosen].sum())
        if self.share < 1:
            self._read_inner(targets)
        numbers = np.flatnonzero(chosen & (self.graph.kind == ObjectKind.UNREAD))
        # Neighbours in a pack one after the other.
        self._read(numbers[np.argsort(self.census.place[numbers], kind="stable")].tolist())

    def _read_inner(self, targets: list[bytes]) -> None:
        """Read everything above the chunks, level by level."""
        # A run that two names mean, or that one meant before, is read once.
        frontier = sorted({number for number in map(self.graph.number, targets) if number < len(self.census)})
        first = 0
        while frontier:
            self._read(frontier)
            children, inner = self.graph.ends(first)
            first += len(children)
            found = np.unique(children[inner])
            found = found[found < len(self.census)]
            frontier = found[self.graph.kind[found] == ObjectKind.UNREAD].tolist()

    def _read(self, numbers: list[int]) -> None:
        for at in range(0, len(numbers), BATCH):
            batch = numbers[at : at + BATCH]
            wanted = [self.census.digest(number) for number in batch]
            for number, digest, answer in zip(batch, wanted, self._opened(wanted), strict=True):
                self._take(number, digest, answer)
            self.report(self.done.bytes_read, self.bytes_chosen)

    def _opened(self, digests: list[Digest]) -> Iterator[bytes | CastoreError]:
        """Each object, or why it cannot be had: one that fails does not hide the others."""
        at = 0
        while at < len(digests):
            try:
                for _, data in self.objects.get_many(digests[at:]):
                    at += 1
                    yield data
            except (CorruptionError, BackendError, NotFoundError, UnsupportedVersionError) as error:
                at += 1
                yield error

    def _take(self, number: int, digest: Digest, answer: bytes | CastoreError) -> None:
        """Note what an object says, or what is wrong with it."""
        key = object_key(digest)
        if isinstance(answer, CorruptionError):
            data = self.repairer.object(digest)
            name = "base-missing" if isinstance(answer, MissingBaseError) else "object-damaged"
            self.findings.add(name, key, str(answer).partition(": run ")[0], repaired=data is not None)
        elif isinstance(answer, UnsupportedVersionError):  # a newer codec, or a flipped byte
            data = self.repairer.object(digest)
            self.findings.add("object-newer", key, str(answer), repaired=data is not None)
        elif isinstance(answer, NotFoundError):
            data = None  # it went since the listing; a link to it will be missed by name
        elif isinstance(answer, CastoreError):
            self.findings.add("object-unreadable", key, str(answer))
            data = None
        else:
            data = answer
        if data is None:
            return
        self.done.objects_read += 1
        self.done.bytes_read += int(self.census.sizes[number])
        self.done.bytes_content += len(data)
        try:
            self.graph.record(number, facts_of(data))
        except UnsupportedVersionError as error:
            self.findings.add("object-newer", key, str(error))
        except FormatError as error:
            self.findings.add("object-malformed", key, str(error))

    # ---- links

    def _follow(self, start: list[int], *, former: bool = False) -> NDArray[np.bool_]:
        """What is reached from names; what of it is missing is fetched, and followed in turn.

        What names meant before may have been collected: of that only what can be had again is told.
        """
        told: set[int] = set()
        while True:
            reached = self.graph.reached(start)
            count = len(self.census)
            lost = [count + i for i in np.flatnonzero(reached[count:]).tolist() if count + i not in told]
            lost = [number for number in lost if number >= len(self.graph.kind) or not self.graph.kind[number]]
            if not lost:
                return reached
            named_by = self._named_by(lost)
            for number in lost:
                told.add(number)
                digest = Digest(self.graph.name(number))
                kept = next(self._opened([digest]))
                if isinstance(kept, bytes):  # in the trash, where readers find it and the next collection fetches it
                    self._adopt(number, kept)
                    continue
                if isinstance(kept, BackendError):  # it cannot be seen, which is not to be missing
                    if not isinstance(kept, NotAValueError):  # of which the listing has told
                        self.findings.add("object-unreadable", object_key(digest), str(kept))
                    continue
                data = self.repairer.object(digest)
                if data is not None or not former:
                    by = named_by.get(number)
                    text = "a name means it" if by is None else f"named by {self.graph.key(by)}"
                    self.findings.add("object-missing", object_key(digest), text, repaired=data is not None)
                if data is not None:
                    self._adopt(number, data)

    def _adopt(self, number: int, data: bytes) -> None:
        """What a missing object names, now that it was fetched."""
        try:
            self.graph.adopt(number, facts_of(data))
        except FormatError as error:
            self.findings.add("object-malformed", self.graph.key(number), str(error))

    def _named_by(self, numbers: list[int]) -> dict[int, int]:
        """The first object that names each of some others."""
        parents, children = self.graph.links()
        places = np.flatnonzero(np.isin(children, numbers))[::-1]
        return dict(zip(children[places].tolist(), parents[places].tolist(), strict=True))

    def _targets(self, targets: dict[int, str], name: str) -> None:
        for index, where in targets.items():
            if index < len(self.census) and self.graph.kind[index] in (
                ObjectKind.VALUES,
                ObjectKind.SPANS,
                ObjectKind.NODE,
                ObjectKind.FILE,
            ):
                self.findings.add(
                    name, where, f"means {self.graph.name(index).hex()[:12]}, which is no run or manifest"
                )

    # ---- datasets

    def _datasets(self, targets: Iterable[int]) -> None:
        """Derive trees anew from keys and lengths, and compare arrays with one another, once for each dataset."""
        seen: set[tuple[object, ...]] = set()
        for index in targets:
            if index >= len(self.census):
                continue
            digest = self.census.digest(index)
            for name, text in dataset_faults(self.objects, self.graph, digest, seen, self.share):
                self.findings.add(name, object_key(digest), text)
