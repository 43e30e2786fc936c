"""A manifest opened for reading: its trees, and ranges of one array, without numpy."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, cast

from castore.errors import CorruptionError, FormatError, InvalidInputError, NotFoundError
from castore.format.chunk import Values, decode_values, spans_between, uint32s
from castore.format.digest import Digest
from castore.format.files import VOCABULARY_FILE, Vocabulary, decode_vocabulary
from castore.format.manifest import Manifest
from castore.format.run import Run, RunStatistics, unnamed_source
from castore.format.schema import DATA_ARRAYS, ITEM_BYTES, KEY_BYTES, PROVENANCE_ARRAYS, TOKEN_IDS, Array
from castore.tree.walk import Fetch, Leaf, Tree, ahead, leaves, overlapping

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from castore.format.codec import Value
    from castore.format.order import Order

CACHE_BYTES = 64 * 1024 * 1024
"""Bytes of objects that one reader keeps, so that neighbours cost no second read."""


_KNOWN = {array.name: array for array in (*DATA_ARRAYS, *PROVENANCE_ARRAYS)}

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

    def once(self, digest: Digest) -> bytes:
        """As a call, for what nobody will ask for again soon: it is not kept."""
        kept = self._objects.pop(digest, None)
        if kept is None:
            return self._fetch(digest)
        self._bytes -= len(kept)
        return kept

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


class Columns:
    """The arrays of a dataset: ranges of them, in stored order, read when they are asked for and verified.

    Args:
        fetch: Gives verified objects.
        root: Digest of the manifest.
        run_digest: Digest of the run record, None if only the root is known.
        reopen: A function and arguments that open the dataset in another process; None if it is in no repository.

    Attributes:
        part_items: Ids of a full part where the dataset is a directory of several parts; None where an export decides.
    """

    part_items: int | None = None

    def __init__(
        self,
        fetch: Fetch,
        root: Digest,
        run_digest: Digest | None,
        reopen: tuple[Callable[..., Columns], tuple[str, ...]] | None = None,
    ) -> None:
        self.fetch = fetch
        self.root = root
        self.run_digest = run_digest
        self._reopen = reopen
        self._beside: Columns | None = None
        self._trees: dict[str, Tree] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        if self._reopen is None:
            raise TypeError("a dataset that is in no repository cannot be pickled")
        return self._reopen

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.root.hex()[:12]}: {len(self)} samples, {self.manifest.tokens} tokens>"

    def passing(self) -> Columns:
        """The same dataset for going through its chunks once: they are not kept, so that the next takes their place in
        the processor's cache."""
        return Columns(getattr(self.fetch, "once", self.fetch), self.root, self.run_digest)

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
        digest, beside = self.run.files[VOCABULARY_FILE], self._beside
        read = None if beside is None else beside.__dict__.get("vocabulary")  # only if it was read already
        if read is not None and beside is not None and beside.run and beside.run.files[VOCABULARY_FILE] == digest:
            return cast("Vocabulary", read)
        return decode_vocabulary(self.fetch(digest), whole=False)  # a check of the repository looks at all of it

    def stand_beside(self, other: Columns) -> None:
        """Take from another dataset what need not be read twice: the vocabulary, if it is the same."""
        self._beside = other

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

    # ---- what it says of itself

    def __len__(self) -> int:
        return self.manifest.samples

    def __eq__(self, other: object) -> bool:
        """Whether the roots are the same: equal data, however they were made."""
        if not isinstance(other, Columns):
            return NotImplemented
        return self is other or (bool(self.root) and self.root == other.root)

    def __hash__(self) -> int:
        return hash(self.root)

    def __bool__(self) -> bool:
        return True  # a dataset without samples is still one

    @property
    def order(self) -> Order | None:
        """The order that was recorded for reading and exporting; None if it is the stored one."""
        return self.manifest.order

    @cached_property
    def positions(self) -> NDArray[np.int64]:
        """The sample at each place of the recorded order, int64[k]; shorter than the dataset where that was cut."""
        import numpy as np

        return np.arange(len(self)) if self.order is None else self.order.positions(self.fetch)

    @property
    def recipe(self) -> Mapping[str, Value]:
        """All that could change tokens when they were made; empty if nothing was recorded."""
        return {} if self.run is None else self.run.recipe

    @property
    def statistics(self) -> RunStatistics | None:
        """Counts over all sources: samples, tokens, trainable tokens, dropped rows; None if nothing was recorded."""
        return None if self.run is None else self.run.statistics

    @property
    def sources(self) -> Sequence[str]:
        """Names of the sources by their number; empty if nothing was recorded."""
        return [] if self.run is None else [source.name for source in self.run.sources]

    def source_name(self, number: int) -> str:
        """Name of a source by its number; ``source <number>`` if nothing was recorded."""
        listed = () if self.run is None else self.run.sources
        return listed[number].name if number < len(listed) else unnamed_source(number)

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

    def elements(self, name: str, lo: int, hi: int) -> list[bytes]:
        """Elements of samples ``lo`` to ``hi`` of any array but one of spans, as stored: bytes of each sample."""
        tree = self.tree(name)
        width = ITEM_BYTES[tree.array.dtype]
        out: list[bytes] = []
        for leaf, start, stop in _clipped(self.fetch, tree, lo, hi):
            items = self.values(leaf, tree.array).items
            counts = (
                [1] * stop if tree.array.axis == "sample" else self.integers("length", leaf.start, leaf.start + stop)
            )
            at = 0
            for i, count in enumerate(counts):
                if i >= start:
                    out.append(bytes(items[width * at : width * (at + count)]))
                at += count
            if at * width > len(items):
                raise CorruptionError(f"lengths of samples {leaf.start} to {leaf.stop} do not add up to {name}")
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

    def spans(self, lo: int, hi: int, name: str = "labels_mask") -> list[list[tuple[int, int]]]:
        """True spans of samples ``lo`` to ``hi``, half-open within each sample: the trainable ones by default."""
        tree = self.tree(name)
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
        return Origin(self.run.sources[source].name, row)


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


def vocab_size_of(data: Columns) -> int:
    """Vocabulary size of the tokenizer, which decides the width of exported ids; 2**32 where it was not recorded."""
    size = data.run.configuration.vocab_size if data.run else None
    return 1 << 32 if size is None else size
