"""The tree of docs/format/split.md, slow and obvious: whole lists, no streaming, no numpy, nothing of castore.tree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from blake3 import blake3

M64 = (1 << 64) - 1


def mix(x: int) -> int:
    x ^= x >> 30
    x = x * 0xBF58476D1CE4E5B9 & M64
    x ^= x >> 27
    x = x * 0x94D049BB133111EB & M64
    return x ^ x >> 31


def sample_key(token_ids: Sequence[int]) -> bytes:
    return blake3(b"".join(token.to_bytes(4, "little") for token in token_ids)).digest(length=16)


def boundary_hashes(keys: list[bytes]) -> list[int]:
    hashes = []
    for i in range(len(keys)):
        state = 0
        for j in range(i - 3, i + 1):
            word = int.from_bytes(keys[j][:8], "little") if j >= 0 else 0
            state = mix(state ^ word)
        hashes.append(state)
    return hashes


def level_hash(h: int, level: int) -> int:
    return mix((h + (level + 1) * 0x9E3779B97F4A7C15) & M64) >> 32


def cut(items: list[tuple[int, int]], target: int) -> list[int]:
    """Sizes of the runs of ``items``, each a (hash32, weight)."""
    sizes = []
    at = 0
    while at < len(items):
        size = first_run(items[at:], target)
        sizes.append(size)
        at += size
    return sizes


def first_run(items: list[tuple[int, int]], target: int) -> int:
    if items[0][1] > 2 * target:
        return 1
    total = 0
    candidates = []
    for i, (h, w) in enumerate(items):
        if w > 2 * target:
            return i
        if total + w > 2 * target:
            if not candidates:
                return i
            smallest = min(rank for rank, _ in candidates)
            return max(j for rank, j in candidates if rank == smallest) + 1
        total += w
        if total >= target // 2:
            if h * target < w * 2**32:
                return i + 1
            candidates.append((h * target // w, i))
    return len(items)


@dataclass
class Skeleton:
    """The cuts of a tree.

    Attributes:
        levels: ``levels[0]`` sizes of chunks in samples, ``levels[k]`` sizes of level-k nodes in children; the root
            holds the items of the last one.
        coarse: Sizes of the chunks of grain 1, in level-0 runs.
    """

    levels: list[list[int]]
    coarse: list[int]


def skeleton(keys: list[bytes], lengths: list[int], chunk_bytes: int, fanout: int) -> Skeleton:
    hashes = boundary_hashes(keys)
    weights = [4 * n + 32 for n in lengths]
    levels: list[list[int]] = []
    while True:
        sizes = cut(salted(hashes, weights, len(levels)), fanout if levels else chunk_bytes)
        levels.append(sizes)
        hashes = last_of_runs(hashes, sizes)
        weights = [1] * len(hashes)
        if len(levels) == 1:
            coarse = cut(salted(hashes, weights, 1), fanout)
        if len(sizes) <= 2 * fanout:
            return Skeleton(levels, coarse)


def salted(hashes: list[int], weights: list[int], level: int) -> list[tuple[int, int]]:
    return [(level_hash(h, level), w) for h, w in zip(hashes, weights, strict=True)]


def last_of_runs(hashes: list[int], sizes: list[int]) -> list[int]:
    return [hashes[sum(sizes[: i + 1]) - 1] for i in range(len(sizes))]
