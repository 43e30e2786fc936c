"""A dataset opened for reading: what it says of itself, and its reader.

numpy is imported with the reader, so that what manifests alone tell is told quickly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, cast

from castore.errors import FormatError, InvalidInputError
from castore.format.digest import Digest
from castore.format.files import VOCABULARY_FILE, Vocabulary, decode_vocabulary
from castore.format.run import RunStatistics, unnamed_source
from castore.lru import LRU
from castore.read.arrays import Arrays, RangeReader
from castore.tree.walk import Fetch

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from castore.format.codec import Value
    from castore.format.order import Order

CACHE_BYTES = 64 * 1024 * 1024
"""Bytes of objects that one dataset keeps, so that neighbours cost no second read."""

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
        self._fetch, self._many = fetch, many
        self._objects: LRU[Digest, bytes] = LRU(bytes_max, len)

    def __call__(self, digest: Digest) -> bytes:
        kept = self._objects.get(digest)
        return self._objects.keep(digest, self._fetch(digest)) if kept is None else kept

    def once(self, digest: Digest) -> bytes:
        """As a call, for what nobody will ask for again soon: it is not kept."""
        kept = self._objects.pop(digest)
        return self._fetch(digest) if kept is None else kept

    def ahead(self, digests: Iterable[Digest]) -> None:
        """Read objects that will be asked for, in parallel where that is possible; at most ``AHEAD_MAX`` of them."""
        if self._many is None:
            return
        missing = [digest for digest in dict.fromkeys(digests) if digest not in self._objects][:AHEAD_MAX]
        if len(missing) > 1:
            for digest, data in self._many(missing):
                self._objects.keep(digest, data)


class SampleOrigin(NamedTuple):
    """Where a sample came from: name of the source and 0-based row in it; the row is None if it was not recorded."""

    source: str
    row: int | None


class Companions(NamedTuple):
    """What lies beside the data of a directory.

    Attributes:
        arrays: Files that hold arrays and are none of the parts, by name, with the digests of their contents.
        tokenizer: Files of ``tokenizer/`` by name, with the digests under which a run record would name them.
        others: All else.
        absent: Samples of the order that the directory is taken to be in, which it cannot hold and that are taken from
            the dataset beside it.
    """

    arrays: Mapping[str, Digest]
    tokenizer: Mapping[str, Digest]
    others: Sequence[str]
    absent: int = 0


class Columns(Arrays):
    """A dataset: what it says of itself, and its arrays in stored order, read when they are asked for and verified.

    Args:
        fetch: Gives verified objects.
        root: Digest of the manifest.
        run_digest: Digest of the run record, None if only the root is known.
        reopen: A function and arguments that open the dataset in another process; None if it is in no repository.

    Attributes:
        part_items: Ids of a full part where the dataset is a directory of several parts; None where an export decides.
        own_vocabulary: Reads the text of token ids from where the dataset is, in place of what the run recorded.
        companions: What lies beside the data where the dataset is a directory; None for one of a repository.
    """

    part_items: int | None = None
    companions: Companions | None = None
    own_vocabulary: Callable[[], Vocabulary | None] | None = None

    def __init__(
        self,
        fetch: Fetch,
        root: Digest,
        run_digest: Digest | None,
        reopen: tuple[Callable[..., Columns], tuple[str, ...]] | None = None,
    ) -> None:
        super().__init__(fetch, root, run_digest)
        self._reopen = reopen
        self._beside: Columns | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        if self._reopen is None:
            raise TypeError("a dataset that is in no repository cannot be pickled")
        return self._reopen

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.root.hex()[:12]}: {len(self)} samples, {self.manifest.tokens} tokens>"

    @cached_property
    def vocabulary(self) -> Vocabulary | None:
        """Text of token ids, None if the run did not record it."""
        if self.own_vocabulary is not None:
            return self.own_vocabulary()
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

    # ---- reading

    @cached_property
    def largest_id(self) -> int:
        """The largest token id among the samples of the recorded order, -1 without any; all ids are read for it."""
        from castore.read.whole import largest_id

        return largest_id(self, self.positions)

    @cached_property
    def reader(self) -> RangeReader:
        """Reads samples and ranges of arrays, and keeps the chunks that were decoded last."""
        from castore.read.reader import Reader

        return Reader(self)

    # ---- one sample

    def check_index(self, index: int) -> None:
        """Refuse an index that no sample has."""
        if not 0 <= index < self.manifest.samples:
            raise InvalidInputError(
                f"sample {index} of {self.manifest.samples}: ask for 0 to {self.manifest.samples - 1}"
            )

    def origin(self, index: int) -> SampleOrigin | None:
        """Where a sample came from, None if nothing was recorded."""
        if self.run is None or not self.run.sources:
            return None
        source = int(self.reader.elements("source", index, index + 1)[0])
        if source >= len(self.run.sources):
            raise FormatError(f"sample {index} names source {source} of {len(self.run.sources)}")
        row = int(self.reader.elements("row", index, index + 1)[0]) if self.has("row") else None
        return SampleOrigin(self.run.sources[source].name, row)


def vocab_size_of(data: Columns) -> int:
    """Vocabulary size of the tokenizer, without added tokens outside it; 2**32 where it was not recorded.

    It decides the width of exported ids where they fit that: ``castore.olmo.layout.id_width`` knows.
    """
    size = data.run.configuration.vocab_size if data.run else None
    return 1 << 32 if size is None else size


def ids_end_of(data: Columns) -> int:
    """One more than the largest id that the tokenizer has, added tokens and gaps included."""
    size, vocabulary = vocab_size_of(data), data.vocabulary
    return size if vocabulary is None else max(size, len(vocabulary))
