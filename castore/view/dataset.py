"""A manifest opened for reading: one sample, or a range of one array, without numpy."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import NamedTuple, TypeAlias

from castore.errors import CorruptionError, FormatError, InvalidInputError, NotFoundError
from castore.format.chunk import Values, decode_values, spans_between, uint32s
from castore.format.digest import Digest
from castore.format.files import VOCABULARY_FILE, Vocabulary, decode_vocabulary
from castore.format.manifest import Manifest
from castore.format.run import Run
from castore.format.schema import KEY_BYTES, Array
from castore.tree.walk import Fetch, Leaf, Tree, ahead, leaves, overlapping

CACHE_BYTES = 64 * 1024 * 1024
"""Bytes of objects that one reader keeps, so that neighbours cost no second read."""


AHEAD_MAX = 192
"""Objects that are asked for together."""

FetchMany: TypeAlias = "Callable[[Iterable[Digest]], Iterator[tuple[Digest, bytes]]]"
"""Gives many verified objects, each with its digest; several at once where the place allows it."""


class CachedFetch:
    """A ``fetch`` that remembers what it read last, and counts nothing twice.

    Args:
        fetch: Gives an object.
        bytes_max: What is remembered.
        many: Gives many objects at once, where there is such a way.
    """

    def __init__(self, fetch: Fetch, bytes_max: int = CACHE_BYTES, many: FetchMany | None = None) -> None:
        self._fetch, self._bytes_max, self._many = fetch, bytes_max, many
        self._objects: OrderedDict[Digest, bytes] = OrderedDict()
        self._bytes = 0

    def __call__(self, digest: Digest) -> bytes:
        if digest in self._objects:
            self._objects.move_to_end(digest)
            return self._objects[digest]
        data = self._fetch(digest)
        self._keep(digest, data)
        return data

    def ahead(self, digests: Iterable[Digest]) -> None:
        """Read objects that will be asked for, in parallel where that is possible; at most ``AHEAD_MAX`` of them."""
        if self._many is None:
            return
        missing = [digest for digest in dict.fromkeys(digests) if digest not in self._objects][:AHEAD_MAX]
        if len(missing) > 1:
            for digest, data in self._many(missing):
                self._keep(digest, data)

    def _keep(self, digest: Digest, data: bytes) -> None:
        self._objects[digest] = data
        self._bytes += len(data)
        while self._bytes > self._bytes_max and len(self._objects) > 1:
            self._bytes -= len(self._objects.popitem(last=False)[1])


class Origin(NamedTuple):
    """Where a sample came from: name of the source and 0-based row in it; the row is None if it was not recorded."""

    source: str
    row: int | None


class Dataset:
    """One dataset of a repository.

    Args:
        fetch: Gives verified objects.
        root: Digest of the manifest.
        run_digest: Digest of the run record, None if only the root is known.
    """

    def __init__(self, fetch: Fetch, root: Digest, run_digest: Digest | None) -> None:
        self.fetch = fetch
        self.root = root
        self.run_digest = run_digest

    @cached_property
    def manifest(self) -> Manifest:
        """What the dataset is."""
        return Manifest.decode(self.fetch(self.root))

    @cached_property
    def run(self) -> Run | None:
        """How it came to be, None if only the root is known."""
        return None if self.run_digest is None else Run.decode(self.fetch(self.run_digest))

    @cached_property
    def vocabulary(self) -> Vocabulary | None:
        """Text of token ids, None if the run did not record it."""
        if self.run is None or VOCABULARY_FILE not in self.run.files:
            return None
        return decode_vocabulary(self.fetch(self.run.files[VOCABULARY_FILE]))

    def tree(self, name: str) -> Tree:
        """The tree of an array of the root or of the provenance.

        Raises:
            NotFoundError: There is no such array.
        """
        if name in self.manifest.arrays:
            return Tree(*self.manifest.arrays[name])
        if self.run is not None and name in self.run.provenance:
            return Tree(*self.run.provenance[name])
        raise NotFoundError(f"dataset {self.root.hex()[:12]} has no array {name}")

    @property
    def samples(self) -> int:
        """Number of samples."""
        return self.manifest.samples

    def has_data(self, name: str) -> bool:
        """Whether there is an array of this name in the root."""
        return name in self.manifest.arrays

    def has(self, name: str) -> bool:
        """Whether there is an array of this name."""
        return name in self.manifest.arrays or (self.run is not None and name in self.run.provenance)

    # ---- ranges of one array

    def values(self, leaf: Leaf, array: Array) -> Values:
        """The chunk at a leaf of an array that is not stored as spans."""
        chunk = decode_values(self.fetch(leaf.entry.digest), array.dtype)
        if chunk.sample_count != leaf.entry.samples or chunk.item_count != leaf.entry.items:
            raise CorruptionError(
                f"chunk {leaf.entry.digest.hex()} of {array.name} holds other counts than its parent says"
            )
        return chunk

    def integers(self, name: str, lo: int, hi: int) -> list[int]:
        """Elements of samples ``lo`` to ``hi`` of an integer array with one element a sample."""
        tree = self.tree(name)
        out: list[int] = []
        for leaf, start, stop in _clipped(self.fetch, tree, lo, hi):
            items = self.values(leaf, tree.array).items
            view = uint32s(items) if tree.array.dtype == "uint32" else _uint64s(items, tree.array)
            out.extend(view[start:stop])
        return out

    def keys(self, name: str, lo: int, hi: int) -> list[bytes]:
        """Elements of samples ``lo`` to ``hi`` of an array of 16-byte keys."""
        raw = bytes(self.key_bytes(name, lo, hi))
        return [raw[i : i + KEY_BYTES] for i in range(0, len(raw), KEY_BYTES)]

    def key_bytes(self, name: str, lo: int, hi: int) -> bytearray:
        """The same, one after the other in one buffer."""
        tree = self.tree(name)
        out = bytearray()
        for leaf, start, stop in _clipped(self.fetch, tree, lo, hi):
            out += self.values(leaf, tree.array).items[KEY_BYTES * start : KEY_BYTES * stop]
        return out

    def token_ids(self, lo: int, hi: int) -> list[Sequence[int]]:
        """Token ids of samples ``lo`` to ``hi``."""
        tree = self.tree("token_ids")
        out: list[Sequence[int]] = []
        for leaf, start, stop in _clipped(self.fetch, tree, lo, hi):
            items = uint32s(self.values(leaf, tree.array).items)
            lengths = self.integers("length", leaf.start, leaf.start + stop)
            if stop == leaf.entry.samples and sum(lengths) != len(items):
                raise CorruptionError(f"lengths of samples {leaf.start} to {leaf.stop} do not add up to their tokens")
            at = sum(lengths[:start])
            for length in lengths[start:stop]:
                out.append(items[at : at + length])
                at += length
        return out

    def spans(self, lo: int, hi: int) -> list[list[tuple[int, int]]]:
        """Trainable spans of samples ``lo`` to ``hi``, half-open within each sample."""
        tree = self.tree("labels_mask")
        out: list[list[tuple[int, int]]] = []
        for leaf, start, stop in _clipped(self.fetch, tree, lo, hi):
            samples, spans = spans_between(self.fetch(leaf.entry.digest), start, stop)
            if samples != leaf.entry.samples:
                raise CorruptionError(
                    f"chunk {leaf.entry.digest.hex()} of {tree.array.name} holds other counts than its parent says"
                )
            out.extend(spans)
        return out

    def read_ahead(self, names: Iterable[str], ranges: Sequence[tuple[int, int]]) -> None:
        """Read the chunks of some ranges of samples, in parallel where that is possible, before they are asked for."""
        if ranges and getattr(self.fetch, "ahead", None) is not None:
            digests: list[Digest] = []
            for name in names:
                if self.has(name):
                    digests += overlapping(self.fetch, self.tree(name), ranges)
            ahead(self.fetch, digests)

    # ---- one sample

    def check_index(self, index: int) -> None:
        """Refuse an index that no sample has."""
        if not 0 <= index < self.manifest.samples:
            raise InvalidInputError(
                f"sample {index} of {self.manifest.samples}: ask for 0 to {self.manifest.samples - 1}"
            )

    def token_start(self, index: int) -> int:
        """Tokens of all samples before one, in stored order."""
        leaf = next(iter(leaves(self.fetch, self.tree("token_ids"), index, index + 1)))
        return leaf.item_start + sum(self.integers("length", leaf.start, index))

    def origin(self, index: int) -> Origin | None:
        """Where a sample came from, None if nothing was recorded."""
        if self.run is None or not self.run.sources:
            return None
        source = self.integers("source", index, index + 1)[0]
        if source >= len(self.run.sources):
            raise FormatError(f"sample {index} names source {source} of {len(self.run.sources)}")
        row = self.integers("row", index, index + 1)[0] if self.has("row") else None
        return Origin(str(self.run.sources[source].get("name", "?")), row)


def _clipped(fetch: Fetch, tree: Tree, lo: int, hi: int) -> Iterator[tuple[Leaf, int, int]]:
    """Leaves of a range, each with the samples of it that lie in the range, counted in the leaf."""
    for leaf in leaves(fetch, tree, lo, hi):
        yield leaf, max(lo - leaf.start, 0), min(hi, leaf.stop) - leaf.start


def _uint64s(items: memoryview, array: Array) -> Sequence[int]:
    """View little-endian uint64 bytes as integers: pairs of uint32 joined, so that no byte order matters."""
    if array.dtype != "uint64":
        raise FormatError(f"array {array.name} is {array.dtype}, not an integer array with one element a sample")
    halves = uint32s(items)
    return [low | high << 32 for low, high in zip(halves[0::2], halves[1::2], strict=True)]
