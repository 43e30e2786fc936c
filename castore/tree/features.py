"""By what an object's relatives are found: a few integers that most objects with nearly the same samples share.

The keys of the samples below an object are divided by three of their bits, and the smallest key of each part is a
feature. Two objects share a feature with the probability that their sets' Jaccard similarity gives (one permutation
hashing: Li, Owen and Zhang, 2012). Features of several objects are those of what they hold together, part by part.

They are a hint for how frames are stored and no part of anything's identity.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Final

from castore.format.digest import digest_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PARTS: Final = 8

NONE: Final = 2**64 - 1
"""Of a part in which there is no key."""

_FEW = 512  # keys for which calls of numpy take longer than a loop


def sketch_of(keys: NDArray[np.uint8]) -> tuple[int, ...]:
    """The smallest key of each part.

    Args:
        keys: uint8[n, 16], keys of samples.
    """
    import numpy as np

    # Not the half of a key by which boundaries are found: what is smallest there lies at boundaries more often.
    words = np.ascontiguousarray(keys[:, 8:]).view("<u8").ravel()
    if len(words) > _FEW:
        parts = words % np.uint64(PARTS)
        return tuple(int(words[parts == part].min(initial=NONE)) for part in range(PARTS))
    smallest = [NONE] * PARTS
    for word in words.tolist():
        if word < smallest[word % PARTS]:
            smallest[word % PARTS] = word
    return tuple(smallest)


def merged(sketches: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The sketch of what several sketches are of."""
    return tuple(map(min, zip(*sketches, strict=True)))


def features_of(sketch: tuple[int, ...], array: str, level: int) -> tuple[int, ...]:
    """The features of an object over the samples of a sketch; objects of other arrays and levels have others."""
    salt = _salt(array, level)
    return tuple((smallest ^ salt) >> 32 for smallest in sketch if smallest != NONE)


@cache
def _salt(array: str, level: int) -> int:
    return int.from_bytes(digest_of(f"features of {array} at {level}".encode())[:8], "little")
