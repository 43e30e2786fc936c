"""Copying a dataset to another repository: what is missing travels, children first, and the caller moves the name last.

What a name of the destination holds is there whole, and stays: that is the order of writing, and collection keeps to
it. So the walk down the source's trees stops at every node that is also met on the way down from the destination's
names, and only what is below the others is asked for one by one. A node that merely *is* there proves nothing: an
interrupted copy or collection may have left it without its children.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from castore.care.links import ANY, Facts, Link, ObjectKind, Want, facts_of
from castore.care.reach import BATCH, grain_of, is_inner
from castore.errors import CastoreError, CorruptionError, InvalidInputError
from castore.format.digest import Digest, digest_hex
from castore.store.objects import ObjectStore

FLUSH_BYTES = 64 * 2**20
"""Bytes after which what was sent is made durable, so that an interrupted copy goes on from there."""

LOOKED_AT = 16
"""Nodes of the destination's names that are read for one new node of the source, at most."""


@dataclass(slots=True)
class Copied:
    """What a copy did.

    Attributes:
        sent: Objects that were sent, and ``sent_bytes`` what they take as stored.
        present: Objects that were asked for one by one and were there.
        held: Objects and whole trees that a name of the destination holds; what is below them was not looked at.
        moved: Whether the name there moved; it may have meant the same before.
    """

    sent: int = 0
    sent_bytes: int = 0
    present: int = 0
    held: int = 0
    moved: bool = False


Report = Callable[[int, int], None]
_Links = dict[Digest, Link]  # what is named, with what is said of it


@dataclass
class _Copy:
    """One copy under way."""

    source: ObjectStore
    target: ObjectStore
    report: Report
    done: Copied = field(default_factory=Copied)
    unflushed: int = 0
    total: int = 0
    empty: bool = False

    def send(self, wanted: Sequence[Digest] | _Links) -> None:
        """Renew what is there and send the rest; ``wanted`` may say what each must be."""
        said = wanted if isinstance(wanted, dict) else {}
        digests = list(wanted)
        for at in range(0, len(digests), BATCH):
            batch = digests[at : at + BATCH]
            missing = batch if self.empty else [digest for digest, found in self.target.renew_many(batch) if not found]
            self.done.present += len(batch) - len(missing)
            for digest, frame, data in self.source.get_frames(missing):
                if digest in said:
                    _check_end(said[digest], facts_of(data))
                before = self.target.bytes_written
                self.target.adopt(digest, frame, data, self.source.features(digest))
                self.done.sent += 1
                self.done.sent_bytes += self.target.bytes_written - before
                self.unflushed += self.target.bytes_written - before
                if self.unflushed > FLUSH_BYTES:
                    self.flush()
            self.report(self.done.sent + self.done.present, self.total)

    def flush(self) -> None:
        """Make what was sent durable."""
        self.target.flush()
        self.unflushed = 0


def copy_dataset(
    source: ObjectStore,
    target: ObjectStore,
    digest: Digest,
    held_by: Iterable[Digest],
    *,
    report: Report = lambda done, total: None,
) -> Copied:
    """Make a run or manifest and all that it reaches durable in another repository.

    Args:
        source: Where it is.
        target: Where it shall be.
        digest: The run record or manifest.
        held_by: What names of the target mean now; all that they reach is there, and stays for the length of the copy.
        report: Called with objects done and objects known of.

    Raises:
        NotFoundError: The source lacks an object.
        CorruptionError: The source has a damaged one; nothing of it is sent.
    """
    held = list(dict.fromkeys(held_by))
    copy = _Copy(source, target, report, empty=next(target.list(), None) is None)
    if digest in held:
        copy.done.held = 1
        return copy.done
    facts = _read(source, [digest])[0]
    if facts.kind not in (ObjectKind.RUN, ObjectKind.MANIFEST):
        raise InvalidInputError(f"{digest_hex(digest)} is neither a run nor a manifest: only these can be copied")
    tops, files, inner = [digest], _ends(facts), _inner(facts)
    manifests = [Digest(link.digest) for link in facts.links if link.want is Want.MANIFEST]
    known = _HeldByTarget(target, held)
    copy.done.held += known.strike(files, manifests)
    for manifest in manifests:
        below = _read(source, [manifest])[0]
        if below.kind is not ObjectKind.MANIFEST or below.samples != facts.samples:
            raise CorruptionError(f"object {digest_hex(manifest)} is not what is said of it: run 'castore fsck'")
        tops.insert(0, manifest)
        files.update(_ends(below))
        for level, links in _inner(below).items():
            inner.setdefault(level, {}).update(links)
    copy.done.held += known.strike(files, [])
    stacks = _descend(copy, inner, known, files)
    copy.send(files)
    for nodes in stacks:
        copy.target.barrier()
        copy.send(nodes)
    for top in tops:
        copy.target.barrier()
        copy.send([top])
    copy.flush()
    return copy.done


def _descend(copy: _Copy, inner: dict[int, _Links], known: _HeldByTarget, files: _Links) -> list[list[Digest]]:
    """Go down the source's trees where the target does not hold them, and send their chunks.

    Returns:
        The nodes that are not held, lowest level first.
    """
    stacks: list[list[Digest]] = []
    copy.total = len(files)
    for level in range(max(inner, default=0), 0, -1):
        links = inner.pop(level, {})
        copy.done.held += known.at(level, links)
        stacks.insert(0, list(links))
        copy.total += len(links)
        chunks: _Links = {}
        for digests in _batches(list(links)):
            for digest, facts in zip(digests, _read(copy.source, digests), strict=True):
                link = links[digest]
                _check_end(link, facts)
                ends = {Digest(end.digest): _below(link, end) for end in facts.links}
                if level - 1 > (grain_of(link) or 0):
                    inner.setdefault(level - 1, {}).update(ends)
                else:
                    chunks.update(ends)
            if len(chunks) > BATCH:
                _send_chunks(copy, chunks, known)
        _send_chunks(copy, chunks, known)
    return stacks


def _send_chunks(copy: _Copy, chunks: _Links, known: _HeldByTarget) -> None:
    copy.done.held += known.strike(chunks, [])
    copy.total += len(chunks)
    copy.send(chunks)
    chunks.clear()


def _below(link: Link, end: Link) -> Link:
    """A link out of a node, with what is known of its array from above."""
    end.leaf = link.leaf
    return end


_KINDS = {
    Want.TREE: (ObjectKind.VALUES, ObjectKind.SPANS),
    Want.ORDER: (ObjectKind.VALUES,),
    Want.FILE: (ObjectKind.FILE,),
}


def _check_end(link: Link, facts: Facts) -> None:
    """Refuse an object that is not what is said of it: what it names itself might not travel.

    Raises:
        CorruptionError: It is of another kind or level, or holds other counts.
    """
    grain = grain_of(link)
    if link.want is Want.TREE and grain is not None and link.level > grain:
        right = facts.kind is ObjectKind.NODE and facts.level == link.level
    else:
        right = facts.kind in _KINDS[link.want]
    counts_differ = link.samples != ANY and facts.samples != link.samples
    items_differ = ANY not in (link.items, facts.items) and facts.items != link.items
    if not right or counts_differ or items_differ:
        raise CorruptionError(f"object {digest_hex(link.digest)} is not what is said of it: run 'castore fsck'")


class _HeldByTarget:
    """What the names of the target are known to hold, found by going down beside the source."""

    def __init__(self, target: ObjectStore, held: list[Digest]) -> None:
        self._target = target
        self._held: set[Digest] = set(held)
        self._inner: dict[int, _Links] = {}
        manifests: dict[Digest, None] = {}
        for digests in _batches(held):
            for facts in self._try(digests):
                self._note(facts)
                manifests.update({Digest(link.digest): None for link in facts.links if link.want is Want.MANIFEST})
        for digests in _batches(list(manifests)):
            for facts in self._try(digests):
                self._note(facts)

    def _try(self, digests: list[Digest]) -> list[Facts]:
        """Facts of the target's objects; none if one is damaged, for then a name does not hold what it should."""
        try:
            return _read(self._target, digests)
        except CastoreError:
            return []

    def _note(self, facts: Facts) -> None:
        self._held.update(Digest(link.digest) for link in facts.links)
        for level, links in _inner(facts).items():
            self._inner.setdefault(level, {}).update(links)

    def strike(self, wanted: _Links, also: list[Digest]) -> int:
        """Leave only what is not held; how many were."""
        struck = [digest for digest in wanted if digest in self._held]
        for digest in struck:
            del wanted[digest]
        kept = [digest for digest in also if digest not in self._held]
        count = len(struck) + len(also) - len(kept)
        also[:] = kept
        return count

    def at(self, level: int, wanted: _Links) -> int:
        """Leave only nodes of a level that are not held, and look below the target's own that they might differ from.

        Levels must be asked for from the highest down.
        """
        for above in sorted((n for n in self._inner if n > level), reverse=True):
            # Trees of the target that are higher than the source's: their nodes lead to this level.
            self._expand(above, set(), LOOKED_AT * len(wanted) + BATCH)
        struck = [digest for digest in wanted if digest in self._held]
        for digest in struck:
            del wanted[digest]
        self._expand(level, set(struck), LOOKED_AT * len(wanted) + BATCH if wanted else 0)
        return len(struck)

    def _expand(self, level: int, shared: set[Digest], most: int) -> None:
        own = {digest: link for digest, link in self._inner.pop(level, {}).items() if digest not in shared}
        for digests in _batches(list(own)[:most]):
            for digest, facts in zip(digests, self._try(digests), strict=False):
                ends = {Digest(end.digest): _below(own[digest], end) for end in facts.links}
                self._held.update(ends)
                if level - 1 > (grain_of(own[digest]) or 0):
                    self._inner.setdefault(level - 1, {}).update(ends)


def _read(objects: ObjectStore, digests: list[Digest]) -> list[Facts]:
    return [facts_of(data) for _, data in objects.get_many(digests)]


def _inner(facts: Facts) -> dict[int, _Links]:
    """The roots that a run or manifest names: by level, the nodes and what is said of them."""
    found: dict[int, _Links] = {}
    for link in facts.links:
        if link.want is Want.TREE and is_inner(link, grain_of(link)):
            found.setdefault(link.level, {})[Digest(link.digest)] = link
    return found


def _ends(facts: Facts) -> _Links:
    """What a run or manifest names that names nothing itself."""
    ends = (link for link in facts.links if link.want is not Want.MANIFEST and not is_inner(link, grain_of(link)))
    return {Digest(link.digest): link for link in ends}


def _batches(digests: list[Digest]) -> Iterator[list[Digest]]:
    return (digests[at : at + BATCH] for at in range(0, len(digests), BATCH))
