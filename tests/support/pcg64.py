"""The seeded order in plain Python, written from ``docs/format/order.md`` alone: slow, obvious, and without numpy."""

from __future__ import annotations

from collections.abc import Iterator

MASK_32, MASK_64, MASK_128 = 2**32 - 1, 2**64 - 1, 2**128 - 1


def seed_words(seed: int) -> list[int]:
    """The four 64-bit words that a seed below 2**64 is spread to."""
    const = 0x43B0D7E5

    def hashed(value: int) -> int:
        nonlocal const
        value ^= const
        const = const * 0x931E8875 & MASK_32
        value = value * const & MASK_32
        return value ^ value >> 16

    pool = [hashed(word) for word in (seed & MASK_32, seed >> 32, 0, 0)]
    for source in range(4):
        for target in range(4):
            if source != target:
                mixed = (0xCA01F9DD * pool[target] - 0x4973F715 * hashed(pool[source])) & MASK_32
                pool[target] = mixed ^ mixed >> 16
    const = 0x8B51F9DD
    halves = []
    for i in range(8):
        value = pool[i % 4] ^ const
        const = const * 0x58F38DED & MASK_32
        value = value * const & MASK_32
        halves.append(value ^ value >> 16)
    return [halves[i] | halves[i + 1] << 32 for i in range(0, 8, 2)]


def draws_64(seed: int) -> Iterator[int]:
    """The 64-bit numbers that the generator draws."""
    words = seed_words(seed)
    increment = (2 * (words[2] << 64 | words[3]) + 1) & MASK_128
    state = _stepped((increment + (words[0] << 64 | words[1])) & MASK_128, increment)
    while True:
        state = _stepped(state, increment)
        folded, turn = (state >> 64 ^ state) & MASK_64, state >> 122
        yield (folded >> turn | folded << (64 - turn)) & MASK_64


def _stepped(state: int, increment: int) -> int:
    return (state * 0x2360ED051FC65DA44385DF649FCCF645 + increment) & MASK_128


def draws_32(seed: int) -> Iterator[int]:
    """Their halves, the low one first."""
    for number in draws_64(seed):
        yield number & MASK_32
        yield number >> 32


def up_to(numbers: Iterator[int], most: int) -> int:
    """A number from 0 to ``most``, which is 1 to 2**32 - 1, of a stream of 32-bit numbers."""
    mask = 2 ** most.bit_length() - 1
    return next(found for number in numbers if (found := number & mask) <= most)


def permutation(seed: int, count: int) -> list[int]:
    """The seeded order of ``count`` samples."""
    numbers, found = draws_32(seed), list(range(count))
    for last in range(count - 1, 0, -1):
        other = up_to(numbers, last)
        found[last], found[other] = found[other], found[last]
    return found
