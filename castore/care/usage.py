"""``du``: what names take, what they share, and what would be free without them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from castore.care.census import take_census
from castore.care.graph import Graph
from castore.care.reach import walk
from castore.errors import CastoreError
from castore.format.digest import Digest
from castore.format.fields import kind_of
from castore.format.manifest import Manifest
from castore.format.run import RUN_KIND, Run
from castore.format.schema import ITEM_BYTES
from castore.store.addresses import nothing_called
from castore.store.backend import Backend
from castore.store.objects import ObjectStore
from castore.store.packs import packed
from castore.store.refs import REFS, RefEntry, RefStore, entry_of_key


@dataclass(slots=True)
class Name:
    """What one name takes, in bytes.

    Attributes:
        name: The name.
        author: Who wrote its newest entry.
        logical: Elements of its arrays, a byte for a boolean: what files of them would take.
        stored: Stored bytes of all that it reaches.
        unique: Of these, what no other name reaches.
        freed: What removing the name and collecting would free in the end: what neither another name nor its log
            reaches, and what this name's own log alone does.
    """

    name: str
    author: str
    logical: int = 0
    stored: int = 0
    unique: int = 0
    freed: int = 0

    @property
    def shared(self) -> int:
        """What another name reaches too."""
        return self.stored - self.unique


@dataclass(slots=True)
class Usage:
    """What a repository holds, in stored bytes.

    Attributes:
        names: Each name that was asked for, ascending.
        freed: What removing all of these would free.
        authors: By author, what their names reach.
        objects: Objects in all.
        stored: What they take.
        in_use: What names reach.
        in_logs: What only earlier values of names reach.
        read: Objects that were read.
    """

    names: list[Name] = field(default_factory=list)
    freed: int = 0
    authors: dict[str, int] = field(default_factory=dict)
    objects: int = 0
    stored: int = 0
    in_use: int = 0
    in_logs: int = 0
    read: int = 0


def usage(
    backend: Backend, names: list[str], *, report: Callable[[int, int], None] = lambda done, total: None
) -> Usage:
    """Count what names take.

    Args:
        backend: The repository.
        names: The names to tell of; none for all. What they share is counted with all others.
        report: Called with objects followed and objects in all.

    Raises:
        NotFoundError: There is no such name.
        CorruptionError: Something above the chunks is damaged.
    """
    backend = packed(backend)
    census = take_census(backend)
    objects, refs = ObjectStore(backend), RefStore(backend)
    graph = Graph(census)
    logs = {name: refs.log(name) for name in _all_names(census.records[REFS.folder])}
    current = {name: log[0].target for name, log in logs.items() if log[0].target is not None}
    for name in names:
        if name not in current:
            raise nothing_called(name, refs, backend.url)
    _follow(objects, graph, [target for target in current.values() if target is not None], report)
    for log in logs.values():
        for entry in log[1:]:
            _try_follow(objects, graph, entry)
    return _Counter(graph, logs, names or sorted(current)).count(objects)


def _all_names(keys: list[str]) -> list[str]:
    return sorted({place[0] for key in keys if (place := entry_of_key(key)) is not None})


def _follow(objects: ObjectStore, graph: Graph, targets: list[Digest], report: Callable[[int, int], None]) -> None:
    total = len(graph.census)

    asked: set[int] = set()  # of what names others: it has facts only when it was read, and many may name it by then

    def fresh(digests: list[Digest], inner: bool) -> list[bool]:
        # What was followed has facts; chunks and files are passed by, however often.
        places = graph.numbers(digests)
        answer = []
        for place in places:
            answer.append(place not in asked and (place >= len(graph.kind) or not graph.kind[place]))
            if inner:
                asked.add(place)
        return answer

    for count, (digest, facts) in enumerate(walk(objects, targets, fresh)):
        if facts is not None:
            graph.adopt(graph.number(digest), facts)
        if not count % 1000:
            report(min(count, total), total)


def _try_follow(objects: ObjectStore, graph: Graph, entry: RefEntry) -> None:
    """What a name meant before may have been collected."""
    try:
        if entry.target is not None:
            _follow(objects, graph, [entry.target], lambda done, total: None)
    except CastoreError:
        return


class _Counter:
    """Adds up bytes of what sets of names reach: a bit an object and name."""

    def __init__(self, graph: Graph, logs: dict[str, list[RefEntry]], asked: list[str]) -> None:
        self._graph, self._logs, self._asked = graph, logs, asked
        missing = len(graph.missing)
        self._sizes = np.concatenate([graph.census.sizes, np.zeros(missing, np.int64)])

    def count(self, objects: ObjectStore) -> Usage:
        """All figures."""
        size = len(self._sizes)
        by_names, by_all = np.zeros(size, np.int32), np.zeros(size, np.int32)
        reach: dict[str, tuple[NDArray[np.uint8], NDArray[np.uint8]]] = {}
        done = Usage(objects=len(self._graph.census), stored=self._graph.census.size_bytes)
        owners: dict[str, NDArray[np.bool_]] = {}
        for name, log in self._logs.items():
            now = self._reached(log[:1])
            ever = now | self._reached(log[1:])
            by_names += now
            by_all += ever
            reach[name] = np.packbits(now), np.packbits(ever)
            if log[0].target is not None:
                owners[log[0].author] = owners.get(log[0].author, np.zeros(size, np.bool_)) | now
        given = np.zeros(size, np.int32)
        for name in self._asked:
            now, ever = (np.unpackbits(bits, count=size).astype(np.bool_) for bits in reach[name])
            entry = self._logs[name][0]
            row = Name(name, entry.author, _logical(objects, entry.target))
            row.stored, row.unique = self._bytes(now), self._bytes(now & (by_names == 1))
            row.freed = self._bytes(ever & (by_all == 1))
            given += ever
            done.names.append(row)
        done.freed = self._bytes((given > 0) & (given == by_all))
        done.authors = {author: self._bytes(what) for author, what in sorted(owners.items())}
        done.in_use = self._bytes(by_names > 0)
        done.in_logs = self._bytes((by_all > 0) & (by_names == 0))
        done.read = objects.reads
        return done

    def _reached(self, entries: list[RefEntry]) -> NDArray[np.bool_]:
        start = [self._graph.number(entry.target) for entry in entries if entry.target is not None]
        reached = self._graph.reached(start)[: len(self._sizes)]
        listed = len(self._graph.census)
        reached[:listed] = self._graph.census.with_bases(reached[:listed])
        return reached

    def _bytes(self, which: NDArray[np.bool_]) -> int:
        return int(self._sizes[which].sum())


def _logical(objects: ObjectStore, target: Digest | None) -> int:
    """Bytes that files of all arrays would take."""
    if target is None:
        return 0
    data = objects.get(target)
    run = Run.decode(data) if kind_of(data) == RUN_KIND else None
    manifest = Manifest.decode(objects.get(run.manifest) if run else data)
    trees = [*manifest.arrays.values(), *(run.provenance.values() if run else ())]
    return sum(root.items * ITEM_BYTES.get(array.dtype, 1) for array, root in trees)
