"""A tiny generator of integers and samples, written down so that any implementation can make the same ones.

``state = (6364136223846793005 * state + 1442695040888963407) mod 2**64``; each step gives ``state >> 33``. One sample
takes, in this order: one number n, from which its length is ``n mod (2 * mean)``; as many numbers as it has tokens,
each token being ``number mod 100278``; and one number s, from which its one true span begins at ``s mod length`` and
goes to the end of the sample. A sample without tokens takes no s and has no span.
"""

from __future__ import annotations

from tests.support.strategies import Row

VOCABULARY = 100_278


class Integers:
    """The stream of integers."""

    def __init__(self, seed: int) -> None:
        self._state = seed

    def __call__(self, below: int) -> int:
        """The next integer, modulo ``below``."""
        self._state = (6364136223846793005 * self._state + 1442695040888963407) % 2**64
        return (self._state >> 33) % below


def samples(seed: int, count: int, mean: int) -> list[Row]:
    """``count`` samples of ``mean`` tokens on average, each a pair of token ids and spans."""
    draw = Integers(seed)
    out: list[Row] = []
    for _ in range(count):
        ids = tuple(draw(VOCABULARY) for _ in range(draw(2 * mean)))
        out.append((ids, ((draw(len(ids)), len(ids)),) if ids else ()))
    return out
