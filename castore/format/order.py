"""Order as a value: a recipe for a permutation and its digest, in place of shuffled storage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from castore.errors import CorruptionError, FormatError
from castore.format.codec import Value
from castore.format.digest import DIGEST_BYTES, Digest, digest_of
from castore.format.fields import expect, expect_count

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PCG64_PERMUTATION = "numpy-pcg64-permutation"
"""``numpy.random.default_rng(seed).permutation(count)``: entry j is the sample at position j."""


@dataclass(frozen=True, slots=True)
class Order:
    """A shuffle of all samples, of which the first ``take`` are used.

    Attributes:
        algorithm: ``PCG64_PERMUTATION``.
        seed: Its seed.
        count: Number of samples that are permuted.
        digest: BLAKE3-256 of the whole permutation as little-endian uint64, since numpy does not promise that a seed
            gives the same numbers for ever.
        take: Samples used from the front, at most ``count``.
    """

    algorithm: str
    seed: int
    count: int
    digest: Digest
    take: int

    @classmethod
    def shuffled(cls, seed: int, count: int, take: int | None = None) -> Order:
        """The order of a seeded shuffle of ``count`` samples, cut to the first ``take``."""
        permutation = _permutation(PCG64_PERMUTATION, seed, count)
        digest = digest_of(permutation.astype("<u8").tobytes())
        return cls(PCG64_PERMUTATION, seed, count, digest, count if take is None else take)

    def positions(self) -> NDArray[np.int64]:
        """int64[take]: the sample at each position.

        Raises:
            CorruptionError: The installed numpy gives another permutation than the one recorded.
        """
        permutation = _permutation(self.algorithm, self.seed, self.count)
        if digest_of(permutation.astype("<u8").tobytes()) != self.digest:
            raise CorruptionError(
                f"shuffle {self.algorithm} with seed {self.seed} of {self.count} samples is not the recorded one: "
                "this numpy draws other numbers than the one that wrote the manifest"
            )
        return permutation[: self.take]

    def value(self) -> dict[str, Value]:
        """The document's form."""
        return {
            "algorithm": self.algorithm,
            "count": self.count,
            "digest": self.digest,
            "seed": self.seed,
            "take": self.take,
        }

    @classmethod
    def of(cls, value: Value, samples: int) -> Order:
        """Read the document's form of an order over ``samples`` samples."""
        fields = expect(dict, value, "order")
        order = cls(
            expect(str, fields.get("algorithm"), "algorithm of the order"),
            expect_count(fields.get("seed"), "seed of the order"),
            expect_count(fields.get("count"), "count of the order"),
            Digest(expect(bytes, fields.get("digest"), "digest of the order")),
            expect_count(fields.get("take"), "take of the order"),
        )
        if order.count != samples or order.take > samples or len(order.digest) != DIGEST_BYTES:
            raise FormatError(f"order of {order.count} samples, first {order.take}, over {samples} samples")
        return order


def _permutation(algorithm: str, seed: int, count: int) -> NDArray[np.int64]:
    if algorithm != PCG64_PERMUTATION:
        raise FormatError(f"order algorithm {algorithm!r} is unknown: a newer castore wrote it")
    import numpy as np

    return np.random.default_rng(seed).permutation(count).astype(np.int64, copy=False)
