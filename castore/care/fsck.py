"""``fsck``: everything is read and hashed again, every link compared with both its ends, every dataset derived anew.

Each object is read once: nodes first, then the datasets, whose chunks are compared with one another as they come by,
then what is left. Read again is only what no memory would hold: more than ``KEPT_BYTES`` of keys and lengths that
datasets share, and chunks that two datasets divide into other samples. What objects say is kept in arrays (``graph``),
and links are judged when all is known, so data that many datasets share costs as much as one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
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
from castore.care.links import ANY, ObjectKind, facts_of
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
from castore.format.samples import SpanColumn
from castore.lru import LRU
from castore.store.backend import Backend, NotAValueError
from castore.store.object_keys import object_key
from castore.store.objects import ObjectStore
from castore.store.packs import PackedBackend, packed
from castore.store.refs import REFS

BATCH = 256
"""Objects that are asked for at once."""

KEPT_BYTES = 64 * 2**20
"""Run records, manifests, keys and lengths that are kept, since another dataset may have the same."""


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
        """Check in this order: listing, names, nodes, datasets, other objects, links, records."""
        self.census = take_census(self.backend)
        self.graph = Graph(self.census)
        self.objects = ObjectStore(self.backend)
        self.looked = np.zeros(len(self.census), np.bool_)
        self.adopted = False
        self.seen: set[object] = set()
        self._decoded: tuple[bytes, SpanColumn | None] = b"", None
        self._kept: LRU[Digest, bytes] = LRU(KEPT_BYTES, len)
        self.done = FsckResult(self.findings, len(self.census), 0, self.census.size_bytes)
        self._unknown_files()
        refs = check_refs(self.backend, self.census.records[REFS.folder], self.repairer, self.findings)
        self.done.names = len(refs.current)
        current = {self.graph.number(target): f"ref {name}" for target, name in refs.current}
        former = {self.graph.number(target): f"ref {name}" for target, name in refs.former}
        self._choose()
        self._read_inner([*current, *former])
        waiting = self._datasets(current)
        if not waiting:  # nothing will ask for them again
            self.seen.clear()
            self._kept = LRU(0, len)
        numbers = np.flatnonzero(self.chosen & ~self.looked)
        # Neighbours in a pack one after the other.
        self._read(numbers[np.argsort(self.census.place[numbers], kind="stable")].tolist())
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
        if self.adopted:  # and with it what a dataset lacked
            self._datasets(waiting)
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

    def _choose(self) -> None:
        """Which objects are read whatever they are: all, or as many as the share says."""
        count = len(self.census)
        self.chosen = np.ones(count, np.bool_)
        if self.share < 1:
            drawn = np.array(random.sample(range(count), max(1, round(self.share * count)) if count else 0), np.int64)
            self.chosen[:] = False
            self.chosen[drawn] = True
        self.bytes_chosen = int(self.census.sizes[self.chosen].sum())

    def _read_inner(self, targets: list[int]) -> None:
        """Read everything above the chunks, level by level; of a part of the objects, all that may be above some."""
        # A run that two names mean, or that one meant before, is read once.
        frontier = sorted({number for number in targets if number < len(self.census)})
        grain = np.full(len(self.census), ANY, np.int8)
        first = 0
        while frontier:
            self._read(frontier)
            children, inner = self.graph.ends(first)
            found = np.unique(children[inner] if self.share < 1 else self.graph.nodes_of(first, grain))
            first += len(children)
            found = found[found < len(self.census)]
            frontier = found[~self.looked[found]].tolist()

    def _read(self, numbers: list[int]) -> None:
        for _ in self.read(numbers):
            pass

    def wants(self, number: int) -> bool:
        """Whether an object is among those that are read."""
        return self.share >= 1 or (number < len(self.census) and bool(self.chosen[number]))

    def read(self, numbers: Sequence[int]) -> Iterator[bytes | None]:
        """Objects by their numbers, in this order; None for one that is not whole.

        What is read for the first time is noted, or told if something is wrong with it.
        """
        for at in range(0, len(numbers), BATCH):
            batch = numbers[at : at + BATCH]
            is_read = [not self._is_bad(number) for number in batch]
            answers = self._opened([Digest(self.graph.name(n)) for n, read in zip(batch, is_read, strict=True) if read])
            for number, read in zip(batch, is_read, strict=True):
                yield self._take(number, next(answers)) if read else None
            self.report(self.done.bytes_read, self.bytes_chosen)

    def _is_bad(self, number: int) -> bool:
        """Whether an object was looked at, and something was wrong with it."""
        listed = number < len(self.census)
        return listed and bool(self.looked[number]) and bool(self.graph.kind[number] == ObjectKind.UNREAD)

    def spans(self, data: bytes) -> SpanColumn:
        """What is in a chunk of spans: that which ``read`` gave last was decoded to be noted, and is not again."""
        noted, spans = self._decoded
        return spans if noted is data and spans is not None else SpanColumn.decode(data)

    def kept(self, digest: Digest) -> bytes | None:
        """``read`` of one that other datasets may name too."""
        found = self._kept.get(digest)
        if found is None:
            found = next(self.read([self.graph.number(digest)]))
        return None if found is None else self._kept.keep(digest, found)

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

    def _take(self, number: int, answer: bytes | CastoreError) -> bytes | None:
        """Note what an object says, or what is wrong with it, unless that was done; gives it if it is whole."""
        if number >= len(self.census) or self.looked[number]:
            return answer if isinstance(answer, bytes) else None
        self.looked[number] = True
        digest = self.census.digest(number)
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
            return None
        self.done.objects_read += 1
        self.done.bytes_read += int(self.census.sizes[number])
        self.done.bytes_content += len(data)
        try:
            facts = facts_of(data)
        except UnsupportedVersionError as error:
            self.findings.add("object-newer", key, str(error))
            return None
        except FormatError as error:
            self.findings.add("object-malformed", key, str(error))
            return None
        self.graph.record(number, facts)
        self._decoded = data, facts.spans
        if facts.kind in (ObjectKind.RUN, ObjectKind.MANIFEST):
            self._kept.keep(digest, data)
        return data

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
        self.adopted = True
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

    def _datasets(self, targets: Iterable[int]) -> list[int]:
        """Derive trees anew from keys and lengths, and compare arrays with one another, once for each dataset.

        Returns:
            Those of which something could not be looked at.
        """
        waiting = []
        for index in targets:
            where = self.graph.key(index)
            faults = dataset_faults(self, self.graph, Digest(self.graph.name(index)), self.seen, self.share)
            try:
                while True:
                    name, text = next(faults)
                    self.findings.add(name, where, text)
            except StopIteration as end:
                if not end.value:
                    waiting.append(index)
        return waiting
