"""Choosing the relatives that an object is stored on, by the features that it shares with others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeVar

K = TypeVar("K")

SHARED_MIN: Final = 2
"""Features that a relative shares at least: one may be chance."""


def most_similar(shared: Mapping[K, int], features: int) -> list[K]:
    """The one that shares the most, and the one that shares most of what the first does not; of equals the first.

    Two may be needed since a chunk that was cut, or joined with another, has two relatives. One feature is enough for
    the second, which may be the smaller part of a chunk that was joined.

    Args:
        shared: Candidates, and which features of the object they have, a bit for each.
        features: How many features the object has.
    """
    best = max(shared, key=lambda one: shared[one].bit_count(), default=None)
    if best is None or shared[best].bit_count() < min(SHARED_MIN, features):
        return []
    lacking = ~shared[best]
    second = max(shared, key=lambda one: (shared[one] & lacking).bit_count())
    return [best, second] if shared[second] & lacking else [best]
