"""The arrays of a dataset as trees, and what reads ranges of them. Pure Python, no numpy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from castore.errors import CorruptionError, FormatError, NotFoundError
from castore.format.chunk import Values, decode_values
from castore.format.digest import Digest
from castore.format.manifest import Manifest
from castore.format.run import Run
from castore.format.schema import DATA_ARRAYS, PROVENANCE_ARRAYS, TOKEN_IDS, Array
from castore.tree.walk import Fetch, Leaf, Tree, ahead, overlapping

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from castore.format.samples import SpanColumn

_KNOWN = {array.name: array for array in (*DATA_ARRAYS, *PROVENANCE_ARRAYS)}


class Arrays:
    """The arrays that a manifest and a run record name, each as a tree of verified chunks.

    Args:
        fetch: Gives verified objects.
        root: Digest of the manifest.
        run_digest: Digest of the run record, None if only the root is known.
    """

    def __init__(self, fetch: Fetch, root: Digest, run_digest: Digest | None) -> None:
        self.fetch = fetch
        self.root = root
        self.run_digest = run_digest
        self._trees: dict[str, Tree] = {}

    def passing(self) -> Arrays:
        """The same dataset for going through its chunks once: they are not kept, so that the next takes their place in
        the processor's cache."""
        return Arrays(getattr(self.fetch, "once", self.fetch), self.root, self.run_digest)

    @cached_property
    def manifest(self) -> Manifest:
        """What the dataset is."""
        return Manifest.decode(self.fetch(self.root))

    @cached_property
    def run(self) -> Run | None:
        """How it came to be, None if only the root is known."""
        return None if self.run_digest is None else Run.decode(self.fetch(self.run_digest))

    def tree(self, name: str) -> Tree:
        """The tree of an array of the root or of the provenance.

        Raises:
            NotFoundError: There is no such array.
            FormatError: It is of another type than arrays of this name are, or has not an element a sample or token.
        """
        if name not in self._trees:
            if name in self.manifest.arrays:
                tree = Tree(*self.manifest.arrays[name])
            elif self.run is not None and name in self.run.provenance:
                tree = Tree(*self.run.provenance[name])
            else:
                raise NotFoundError(f"dataset {self.root.hex()[:12]} has no array {name}")
            self._check(tree)
            self._trees[name] = tree
        return self._trees[name]

    def _check(self, tree: Tree) -> None:
        array, known = tree.array, _KNOWN.get(tree.array.name, tree.array)
        if (array.dtype, array.axis) != (known.dtype, known.axis):
            raise FormatError(
                f"array {array.name} is {array.dtype}, one a {array.axis}: it must be {known.dtype}, one a {known.axis}"
            )
        lead = self.manifest.arrays.get(TOKEN_IDS.name)
        count = tree.root.samples if array.axis == "sample" else None if lead is None else lead[1].items
        if count is not None and tree.root.items != count:
            raise FormatError(f"array {array.name} has {tree.root.items} elements, not {count}, one a {array.axis}")

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

    def values(self, leaf: Leaf, array: Array) -> Values:
        """The chunk at a leaf of an array that is not stored as spans."""
        chunk = decode_values(self.fetch(leaf.entry.digest), array.dtype)
        if chunk.sample_count != leaf.entry.samples or chunk.item_count != leaf.entry.items:
            raise CorruptionError(
                f"chunk {leaf.entry.digest.hex()} of {array.name} holds other counts than its parent says"
            )
        return chunk

    def read_ahead(self, names: Iterable[str], ranges: Sequence[tuple[int, int]]) -> None:
        """Read the chunks of some ranges of samples, in parallel where that is possible, before they are asked for."""
        if ranges and getattr(self.fetch, "ahead", None) is not None:
            digests: list[Digest] = []
            for name in names:
                if self.has(name):
                    digests += overlapping(self.fetch, self.tree(name), ranges)
            ahead(self.fetch, digests)


class RangeReader(Protocol):
    """Reads ranges of a dataset as numpy arrays: a ``Reader`` down its trees, or one of a directory without trees."""

    def tokens(self, lo: int, hi: int) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """Token ids of samples ``lo`` to ``hi``, uint32[m], and where each begins and ends in them, int64[n + 1]."""
        ...

    def token_batches(self, lo: int, hi: int) -> Iterator[tuple[NDArray[np.uint32], NDArray[np.int64]]]:
        """The same, at most some megabytes or one sample at a time."""
        ...

    def spans(self, name: str, lo: int, hi: int) -> SpanColumn:
        """True spans of samples ``lo`` to ``hi`` in a boolean array with an element a token."""
        ...

    def elements(self, name: str, lo: int, hi: int) -> NDArray[Any]:
        """Elements ``lo`` to ``hi`` of an array, whatever its axis; keys as uint8[n, 16]."""
        ...

    def sample_offsets(self, lo: int, hi: int) -> NDArray[np.int64]:
        """Elements ``lo`` to ``hi`` of the n + 1 places where samples begin and end among all tokens."""
        ...
