"""``Dataset``: what users hold. The one file that joins reading, comparing, packing and exporting.

Imports are inside the methods, so that a command loads only what it uses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, overload

from castore.errors import InvalidInputError
from castore.format.digest import Digest
from castore.read.columns import Columns
from castore.tree.walk import Fetch

if TYPE_CHECKING:
    import datasets
    from numpy.typing import ArrayLike, NDArray

    from castore.diff.compare import Comparison
    from castore.read.reader import Batch, Reader, Sample
    from castore.read.views import ArrayView, SampleView
    from castore.train.instances import Instances, PackingRule


class Dataset(Columns):
    """One dataset of a repository: a sequence of samples in stored order, read when they are asked for and verified.

    A dataset of a repository may be pickled: it is opened again by its place and digest where it arrives.

    Args:
        fetch: Gives verified objects.
        root: Digest of the manifest.
        run_digest: Digest of the run record, None if only the root is known.
        reopen: A function and arguments that open the dataset in another process; None if it is in no repository.
        packer: Finds or stores a packing of the dataset; None if there is no place to store it.
    """

    def __init__(
        self,
        fetch: Fetch,
        root: Digest,
        run_digest: Digest | None,
        reopen: tuple[Callable[..., Dataset], tuple[str, ...]] | None = None,
        packer: Callable[[Dataset, PackingRule], Instances] | None = None,
    ) -> None:
        super().__init__(fetch, root, run_digest, reopen)
        self._packer = packer

    # ---- samples

    @cached_property
    def reader(self) -> Reader:
        """Reads samples as numpy arrays."""
        from castore.read.reader import Reader

        return Reader(self)

    @overload
    def __getitem__(self, key: int) -> Sample: ...
    @overload
    def __getitem__(self, key: slice | list[int] | NDArray[Any]) -> SampleView: ...
    def __getitem__(self, key: int | slice | list[int] | NDArray[Any]) -> Sample | SampleView:
        """Sample ``key`` in stored order, negative from the end; or a view of several, which reads nothing yet.

        Several are a slice, a list or array of integers, or a mask of bool[n].

        Raises:
            IndexError: There is no such sample.
        """
        from castore.read.views import SampleView

        found: Sample | SampleView = SampleView(self.reader, range(len(self)))[key]
        return found

    def __iter__(self) -> Iterator[Sample]:
        """All samples in stored order, a chunk at a time."""
        return self.reader.samples(0, len(self))

    def read(self, lo: int = 0, hi: int | None = None) -> Batch:
        """Samples ``lo`` to ``hi`` at once: token_ids uint32[m], offsets int64[n + 1], labels_mask bool[m].

        Raises:
            InvalidInputError: The range is not within 0 to the number of samples.
        """
        hi = len(self) if hi is None else hi
        if not 0 <= lo <= hi <= len(self):
            raise InvalidInputError(f"samples {lo} to {hi} of {len(self)}: ask for a range within them")
        return self.reader.read(lo, hi)

    def take(self, indices: ArrayLike) -> Batch:
        """Any samples at once, in the order of ``indices`` (int[n]), in the form of ``read``.

        Raises:
            InvalidInputError: An index that no sample has.
        """
        return self.reader.take(indices)

    @cached_property
    def arrays(self) -> Mapping[str, ArrayView]:
        """The arrays of the root by name; each has ``dtype`` and ``shape`` and is read when it is indexed."""
        from castore.read.views import ArrayView

        trees = map(self.tree, self.manifest.arrays)
        return {array.name: ArrayView(self.reader, array, root.items) for array, root in trees}

    @property
    def ordered(self) -> SampleView:
        """The samples in the recorded order."""
        from castore.read.views import SampleView

        return SampleView(self.reader, range(len(self)) if self.order is None else self.positions)

    # ---- what can be done with it

    def diff(self, other: Columns, *, context: int = 8, only: str | None = None) -> Comparison:
        """Compare with another dataset, of this or another repository, reading only what differs.

        Args:
            other: The other side, ``b`` in the result.
            context: Tokens shown before and after the first divergence.
            only: Name of the one array to compare.

        Raises:
            InvalidInputError: One of the two has no such array.
        """
        from castore.diff.compare import compare

        if not isinstance(other, Columns):
            raise TypeError(f"a dataset is compared with a dataset, such as repository['name'], not with {other!r:.80}")
        if only is not None and not (self.has_data(only) and other.has_data(only)):
            raise InvalidInputError(f"no array {only} on both sides")

        return compare(self, other, context=context, only=only)

    def pack(self, sequence_length: int, mode: str = "documents", **options: Any) -> Instances:
        """Pack the samples, in the recorded order, into instances of ``sequence_length`` tokens.

        The first to ask computes the packing and stores it in the repository, where everybody finds it by the root and
        the rule. It is the same on every machine.

        Args:
            sequence_length: Tokens of an instance.
            mode: ``documents``: true boundaries, longer samples are split, nothing is lost; ``olmo-core``: the
                boundaries that OLMo-core finds, with what it drops.
            options: ``eos``, ``bos``, ``fragment`` of mode ``olmo-core`` (``castore.train.instances.packing_rule``).

        Raises:
            InvalidInputError: No such mode or length, or EOS was not recorded.
        """
        from castore.train.instances import computed, packing_rule

        rule = packing_rule(self, sequence_length, mode, **options)
        return computed(self, rule) if self._packer is None else self._packer(self, rule)

    def to_hf(
        self, *, streaming: bool = False, ordered: bool = True, cache_dir: str | None = None
    ) -> datasets.Dataset | datasets.IterableDataset:
        """For the trainers of Hugging Face: ``input_ids``, ``labels`` (−100 where not trained on), ``attention_mask``.

        Args:
            streaming: An ``IterableDataset``, which reads from the repository as it goes; else a ``Dataset``, for which
                an Arrow file is written once, named by the root and verified at every load.
            ordered: In the recorded order, of which only the samples that it uses are there; else in the stored one.
            cache_dir: Where the Arrow file is kept; the cache of ``datasets`` by default.

        Raises:
            MissingExtraError: ``datasets`` is not installed.
            CorruptionError: An object of the repository is damaged.
        """
        from castore.read.huggingface import load_dataset, stream_dataset

        if streaming:
            return stream_dataset(self, ordered=ordered)
        return load_dataset(self, ordered=ordered, cache_dir=cache_dir)
