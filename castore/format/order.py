"""Order as a value: a recipe for a permutation and its digest, in place of shuffled storage."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from castore.errors import CorruptionError, FormatError, UnsupportedVersionError
from castore.format.codec import Value
from castore.format.digest import DIGEST_BYTES, Digest, digest_of
from castore.format.fields import expect, expect_count, expect_entries
from castore.format.object import Object
from castore.frozen import frozen

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PCG64_PERMUTATION = "numpy-pcg64-permutation"
"""``numpy.random.default_rng(seed).permutation(count)``: entry j is the sample at position j."""

EXPLICIT = "explicit"
"""A permutation that no seed gives: its entries are stored as chunks of uint32."""

EXPLICIT_CHUNK = 1 << 20
"""Entries in a chunk of an explicit permutation, the last one aside."""


_ENTRIES = frozenset({"algorithm", "chunks", "count", "digest", "seed", "take"})


@frozen
class Order:
    """An order of all samples, of which the first ``take`` are used.

    Attributes:
        algorithm: ``PCG64_PERMUTATION`` or ``EXPLICIT``, or one of a newer castore, which can be kept and not applied.
        seed: Of the algorithm; 0 for an explicit order.
        count: Number of samples that are permuted.
        digest: BLAKE3-256 of the whole permutation as little-endian uint64. numpy does not promise that a seed gives
            the same numbers for ever.
        take: Samples used from the front, at most ``count``.
        chunks: Digests of the chunks of an explicit permutation, in order.
    """

    algorithm: str
    seed: int
    count: int
    digest: Digest
    take: int
    chunks: tuple[Digest, ...] = ()

    @classmethod
    def shuffled(cls, seed: int, count: int, take: int | None = None) -> Order:
        """The order of a seeded shuffle of ``count`` samples, cut to the first ``take``."""
        permutation = _drawn(seed, count)
        return cls(PCG64_PERMUTATION, seed, count, _digest_of(permutation), count if take is None else take)

    def positions(self, fetch: Callable[[Digest], bytes] | None = None) -> NDArray[np.int64]:
        """The sample at each position, int64[take].

        Args:
            fetch: Gives objects; needed for an explicit order.

        Raises:
            CorruptionError: The installed numpy draws another permutation than the recorded one, or the chunks hold
                another.
            FormatError: What the chunks hold is no permutation, or is cut elsewhere than it must be.
            UnsupportedVersionError: The algorithm is not known.
        """
        if self.algorithm == PCG64_PERMUTATION:
            permutation = _drawn(self.seed, self.count)
            why = "this numpy draws other numbers than the one that wrote the manifest"
        elif self.algorithm == EXPLICIT and fetch is not None:
            permutation = _joined((fetch(digest) for digest in self.chunks), self.count)
            why = "its chunks hold another one"
        else:
            raise UnsupportedVersionError.unknown(f"the order algorithm {self.algorithm[:80]!r}")
        if len(permutation) != self.count or _digest_of(permutation) != self.digest:
            raise CorruptionError(f"the order of {self.count} samples is not the recorded one: {why}")
        _check_permutation(permutation)
        return permutation[: self.take]

    def value(self) -> dict[str, Value]:
        """The document's form."""
        return {
            "algorithm": self.algorithm,
            "chunks": b"".join(self.chunks),
            "count": self.count,
            "digest": self.digest,
            "seed": self.seed,
            "take": self.take,
        }

    @classmethod
    def of(cls, value: Value, samples: int) -> Order:
        """Read the document's form of an order over ``samples`` samples."""
        fields = expect(dict, value, "order")
        expect_entries(fields, _ENTRIES, "order")
        raw = expect(bytes, fields.get("chunks"), "chunks of the order")
        order = cls(
            expect(str, fields.get("algorithm"), "algorithm of the order"),
            expect_count(fields.get("seed"), "seed of the order"),
            expect_count(fields.get("count"), "count of the order"),
            Digest(expect(bytes, fields.get("digest"), "digest of the order")),
            expect_count(fields.get("take"), "take of the order"),
            tuple(Digest(raw[at : at + DIGEST_BYTES]) for at in range(0, len(raw), DIGEST_BYTES)),
        )
        if order.count != samples or order.take > samples or len(order.digest) != DIGEST_BYTES:
            raise FormatError(f"order of {order.count} samples, first {order.take}, over {samples} samples")
        if order.algorithm == EXPLICIT and order.seed:
            raise FormatError(f"an explicit order has the seed {order.seed}, where it has none")
        if len(raw) % DIGEST_BYTES:
            raise FormatError(f"order has {len(raw)} bytes of digests")
        if order.algorithm in (EXPLICIT, PCG64_PERMUTATION):  # how many another one has is not known
            chunk_count = -(-samples // EXPLICIT_CHUNK) if order.algorithm == EXPLICIT else 0
            if len(order.chunks) != chunk_count:
                raise FormatError(f"order has {len(order.chunks)} chunks, not {chunk_count}")
        return order


def explicit_order(permutation: NDArray[np.int64]) -> tuple[Order, list[Object]]:
    """An order that is stored as it is, and the objects that hold it."""
    from castore.format.chunk import encode_values

    raw = permutation.astype("<u4").tobytes()
    step = 4 * EXPLICIT_CHUNK
    chunks = [
        encode_values("uint32", len(raw[at : at + step]) // 4, raw[at : at + step]) for at in range(0, len(raw), step)
    ]
    digests = tuple(chunk.digest for chunk in chunks)
    count = len(permutation)
    return Order(EXPLICIT, 0, count, _digest_of(permutation), count, digests), chunks


def _digest_of(permutation: NDArray[np.int64]) -> Digest:
    return digest_of(permutation.astype("<u8").tobytes())


def _check_permutation(permutation: NDArray[np.int64]) -> None:
    """Every sample must have one position: a reader fills places that nothing else would fill."""
    import numpy as np

    seen = np.zeros(len(permutation), np.bool_)
    inside = permutation[permutation < len(permutation)]
    seen[inside] = True
    if not seen.all():
        raise FormatError(f"the order of {len(permutation)} samples is no permutation: some have no position")


def _drawn(seed: int, count: int) -> NDArray[np.int64]:
    import numpy as np

    return np.random.default_rng(seed).permutation(count).astype(np.int64, copy=False)


def _joined(chunks: Iterable[bytes], count: int) -> NDArray[np.int64]:
    """The entries of an explicit order of ``count`` samples, whose chunks must be cut where all writers cut them."""
    import numpy as np

    from castore.format.chunk import decode_values

    parts, left = [np.zeros(0, np.uint32)], count
    for chunk in chunks:
        values = decode_values(chunk, "uint32")
        expected = min(left, EXPLICIT_CHUNK)
        if values.sample_count != expected or values.item_count != expected:
            raise FormatError(f"a chunk of the order has {values.item_count} entries, not {expected}")
        parts.append(np.frombuffer(values.items, "<u4"))
        left -= expected
    return np.concatenate(parts).astype(np.int64)
