"""Going down from runs and manifests of a repository, a level at a time, many objects at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from castore.care.facts import Facts, Link, Want, facts_of
from castore.errors import NotFoundError
from castore.format.digest import Digest, digest_hex
from castore.format.schema import GRAIN_MAX
from castore.store.objects import ObjectStore

BATCH = 256
"""Objects that are asked for at once."""

Fresh = Callable[[list[Digest]], list[bool]]
"""Which of some digests were not seen before; marks them as seen."""


def is_inner(link: Link, grain: int | None) -> bool:
    """Whether a link may end at an object that names others. ``grain`` is that of the array, None if unknown."""
    if link.want is Want.TREE:
        return link.level > (0 if grain is None else grain)
    return link.want is Want.MANIFEST


def grain_of(link: Link) -> int | None:
    """The level of the chunks below a link, where the link knows it."""
    return None if link.leaf < 0 else link.leaf % (GRAIN_MAX + 1)


def walk(objects: ObjectStore, targets: Iterable[Digest], fresh: Fresh) -> Iterator[tuple[Digest, Facts | None]]:
    """Every object that is reached from runs or manifests, each once, with its facts if it is above the chunks.

    Chunks and files are not read. Memory grows with the nodes of one level, a thirtieth of the objects.

    Raises:
        NotFoundError: An inner object is missing.
        CorruptionError: One is damaged.
    """
    wanted = list(dict.fromkeys(targets))
    frontier: list[tuple[Digest, int | None]] = [
        (digest, None) for digest, is_fresh in zip(wanted, fresh(wanted), strict=True) if is_fresh
    ]
    while frontier:
        below: list[tuple[Digest, int | None]] = []
        for at in range(0, len(frontier), BATCH):
            batch = frontier[at : at + BATCH]
            read = objects.get_many([digest for digest, _ in batch])
            for (_, grain), (digest, data) in zip(batch, read, strict=True):
                facts = facts_of(data)
                yield digest, facts
                leaves = []
                for link, child, is_fresh in _fresh_links(facts, fresh):
                    known = grain if grain is not None else grain_of(link)
                    if not is_fresh:
                        continue
                    if is_inner(link, known):
                        below.append((child, known))
                    else:
                        leaves.append(child)
                for child in leaves:
                    yield child, None
        frontier = below


def _fresh_links(facts: Facts, fresh: Fresh) -> Iterator[tuple[Link, Digest, bool]]:
    digests = [Digest(link.digest) for link in facts.links]
    yield from zip(facts.links, digests, fresh(digests), strict=True)


def renew_all(objects: ObjectStore, target: Digest) -> int:
    """Renew everything that a run or manifest reaches, so that no collection that is under way takes it.

    Returns:
        How many objects there are.

    Raises:
        NotFoundError: One is missing.
        CorruptionError: One above the chunks is damaged.
    """
    seen: set[Digest] = set()

    def fresh(digests: list[Digest]) -> list[bool]:
        # Not in one go: a node may name a child twice.
        return [not (digest in seen or seen.add(digest)) for digest in digests]  # type: ignore[func-returns-value]

    for digest, found in objects.renew_many(digest for digest, _ in walk(objects, [target], fresh)):
        if not found:
            raise NotFoundError(f"there is no object {digest_hex(digest)}")
    objects.flush()
    return len(seen)
