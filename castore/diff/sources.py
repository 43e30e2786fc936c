"""Which sources of two mixes stand for each other, and what has become of them, in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from castore.format.digest import is_digest_hex
from castore.format.run import SourceRecord

TOLD_MAX = 3
"""Things that are told of sources; of more, how many."""


def paired_sources(a: Sequence[SourceRecord], b: Sequence[SourceRecord]) -> dict[int, int]:
    """Numbers of sources of one side, and of those that stand for them on the other.

    Equal content first, with the same name and amount before others; then equal names; and if as many are left on both
    sides, these in order.
    """
    pairs: dict[int, int] = {}
    left = dict.fromkeys(range(len(b)))
    for key in _KEYS:
        places: dict[object, list[int]] = {}
        for j in left:
            found = key(b[j])
            if found is not None:
                places.setdefault(found, []).append(j)
        for i, source in enumerate(a):
            found = key(source)
            if i not in pairs and found is not None and places.get(found):
                pairs[i] = places[found].pop(0)
                del left[pairs[i]]
    alone = [i for i in range(len(a)) if i not in pairs]
    if len(alone) == len(left):
        pairs.update(zip(alone, left, strict=True))
    return pairs


_KEYS: Sequence[Callable[[SourceRecord], object]] = (
    lambda source: source.digest and (source.digest, source.name, source.amount),
    lambda source: source.digest and (source.digest, source.name),
    lambda source: source.digest and (source.digest, source.amount),
    lambda source: source.digest,
    lambda source: source.name,
    lambda source: base_name(source),
)


def renumbered(a: Sequence[SourceRecord], b: Sequence[SourceRecord]) -> dict[int, int]:
    """Sources whose number alone is another one: what was taken of their samples says nothing of the samples."""
    return {i: j for i, j in paired_sources(a, b).items() if i != j}


def sources_text(a: Sequence[SourceRecord], b: Sequence[SourceRecord]) -> str:
    """What has become of the sources, as one sentence."""
    pairs = paired_sources(a, b)
    texts = [*_gone(a, b, pairs), *_order(a, b, pairs)]
    for i, j in sorted(pairs.items(), key=lambda pair: pair[1]):
        said = [f"{name} {shown(getattr(a[i], name))} → {shown(getattr(b[j], name))}" for name in _fields(a[i], b[j])]
        if said:
            texts.append(f"source {j + 1} ({base_name(b[j])}): {', '.join(said)}")
    more = f"; and {len(texts) - TOLD_MAX:,} more" if len(texts) > TOLD_MAX else ""
    return "; ".join(texts[:TOLD_MAX]) + more


def base_name(source: SourceRecord) -> str:
    """The last part of a source's name."""
    return source.name.rstrip("/").rpartition("/")[2]


def _gone(a: Sequence[SourceRecord], b: Sequence[SourceRecord], pairs: Mapping[int, int]) -> list[str]:
    reached = set(pairs.values())
    new = [f"source {j + 1} ({base_name(b[j])}) is new" for j in range(len(b)) if j not in reached]
    return new + [f"source {i + 1} ({base_name(a[i])}) is gone" for i in range(len(a)) if i not in pairs]


def _order(a: Sequence[SourceRecord], b: Sequence[SourceRecord], pairs: Mapping[int, int]) -> list[str]:
    """What is to say of sources that stand in another order, whatever is new or gone between them."""
    kept = sorted(pairs)
    ranks = {j: rank for rank, j in enumerate(sorted(pairs.values()))}
    order = [ranks[pairs[i]] for i in kept]
    moved = [rank for rank, to in enumerate(order) if rank != to]
    if not moved:
        return []
    if len(moved) == 2:
        x, y = (kept[rank] for rank in moved)
        return [f"sources {x + 1} ({base_name(a[x])}) and {y + 1} ({base_name(a[y])}) changed places"]
    before = {j: i for i, j in pairs.items()}
    numbers = [str(before[j] + 1) for j in sorted(before)]
    shown = ", ".join(numbers[:20]) + (", …" if len(numbers) > 20 else "")
    return [f"another order of the sources: {shown} of before"]


def _fields(x: SourceRecord, y: SourceRecord) -> list[str]:
    """What to say of two sources: the digest only if the rows are as many."""
    fields = [name for name in ("amount", "rows") if getattr(x, name) != getattr(y, name)]
    return fields if fields or x.digest == y.digest else ["digest"]


def shown(value: object) -> str:
    """A value of a record in a few characters: digests cut."""
    if value is None:
        return "none"
    text = value.hex() if isinstance(value, bytes) else str(value)
    if is_digest_hex(text):
        return text[:12]
    return text if len(text) <= 60 else text[:57] + "..."
