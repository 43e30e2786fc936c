"""Going down from runs and manifests of a repository, a level at a time, many objects at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from castore.care.links import Facts, Link, Want, facts_of
from castore.errors import NotFoundError
from castore.format.digest import Digest, digest_hex
from castore.format.schema import GRAIN_MAX
from castore.store.objects import ObjectStore

T = TypeVar("T")

BATCH = 256
"""Objects that are asked for at once."""

Fresh = Callable[[list[Digest], bool], list[bool]]
"""Which of some digests were not seen before; marks them as seen. Objects whose links are to be followed (True) are
asked for apart from those that end a way (False): where something wrongly names a manifest as a file, or a node as a
chunk, the walk that meets it as what it is must not find it done."""


def is_inner(link: Link, grain: int | None) -> bool:
    """Whether a link may end at an object that names others. ``grain`` is that of the array, None if unknown."""
    if link.want is Want.TREE:
        return link.level > (0 if grain is None else grain)
    return link.want is Want.MANIFEST


def grain_of(link: Link) -> int | None:
    """The level of the chunks below a link, where the link knows it."""
    return None if link.leaf < 0 else link.leaf % (GRAIN_MAX + 1)


def walk(
    objects: ObjectStore, targets: Iterable[Digest], fresh: Fresh, *, lenient: bool = False
) -> Iterator[tuple[Digest, Facts | None]]:
    """Every object that is reached from runs or manifests, each once, with its facts if it is above the chunks.

    Chunks and files are not read. Memory grows with the nodes of one level, a thirtieth of the objects.

    Args:
        objects: The repository's.
        targets: Where to begin.
        fresh: Says what was met before.
        lenient: Pass over inner objects that are missing, and follow all others.

    Raises:
        NotFoundError: An inner object is missing.
        CorruptionError: One is damaged.
    """
    wanted = list(dict.fromkeys(targets))
    frontier: list[tuple[Digest, int | None]] = [
        (digest, None) for digest, is_fresh in zip(wanted, fresh(wanted, True), strict=True) if is_fresh
    ]
    while frontier:
        below: list[tuple[Digest, int | None]] = []
        for at in range(0, len(frontier), BATCH):
            batch = frontier[at : at + BATCH]
            read = _read(objects, [digest for digest, _ in batch], lenient)
            for (digest, grain), data in zip(batch, read, strict=True):
                if data is None:
                    continue
                facts = facts_of(data)
                yield digest, facts
                inner, leaves = _ends(facts, grain)
                for child, known in _chosen(inner, fresh([child for child, _ in inner], True)):
                    below.append((child, known))
                for child in _chosen(leaves, fresh(leaves, False)):
                    yield child, None
        frontier = below


def _read(objects: ObjectStore, digests: list[Digest], lenient: bool) -> Iterator[bytes | None]:
    """Each object; None for one that is missing, if that is to be passed over."""
    at = 0
    while at < len(digests):
        try:
            for _, data in objects.get_many(digests[at:]):
                at += 1
                yield data
        except NotFoundError:
            if not lenient:
                raise
            at += 1
            yield None


def _ends(facts: Facts, grain: int | None) -> tuple[list[tuple[Digest, int | None]], list[Digest]]:
    """What an object names: what names others itself, with its grain, and what does not."""
    inner, leaves = [], []
    for link in facts.links:
        known = grain if grain is not None else grain_of(link)
        if is_inner(link, known):
            inner.append((Digest(link.digest), known))
        else:
            leaves.append(Digest(link.digest))
    return inner, leaves


def _chosen(values: list[T], chosen: list[bool]) -> Iterator[T]:
    return (value for value, is_chosen in zip(values, chosen, strict=True) if is_chosen)


def renew_all(objects: ObjectStore, target: Digest, address: str = "") -> int:
    """Renew everything that a run or manifest reaches, so that no collection that is under way takes it.

    Args:
        objects: Of the repository.
        target: The run or manifest.
        address: What messages call it; its digest by default.

    Returns:
        How many objects there are.

    Raises:
        NotFoundError: One is missing.
        CorruptionError: One above the chunks is damaged.
    """
    seen: set[tuple[Digest, bool]] = set()

    def fresh(digests: list[Digest], inner: bool) -> list[bool]:
        # Not in one go: a node may name a child twice.
        pairs = ((digest, inner) for digest in digests)
        return [not (pair in seen or seen.add(pair)) for pair in pairs]  # type: ignore[func-returns-value]

    try:
        for digest, found in objects.renew_many(digest for digest, _ in walk(objects, [target], fresh)):
            if not found:
                raise NotFoundError(f"there is no object {digest_hex(digest)}")
    except NotFoundError as error:
        raise NotFoundError(f"{address or digest_hex(target)} is no longer complete: {error}") from error
    objects.flush()
    return len(seen)
