"""``Dataset``: what users hold, and ``Datasets``: how they get it.

The one file that joins reading, comparing, packing and exporting.

Imports are inside the methods, so that a command loads only what it uses.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Self, cast, overload

from castore.errors import CorruptionError, InvalidInputError, NotFoundError
from castore.format.digest import Digest
from castore.format.fields import kind_of
from castore.format.manifest import MANIFEST_KIND
from castore.format.run import RUN_KIND, Run
from castore.read.columns import CachedFetch, Columns
from castore.store.addresses import meanings, resolve
from castore.store.backend import Backend
from castore.store.cache import open_cache
from castore.store.marker import open_layout
from castore.store.objects import ObjectStore
from castore.store.packs import packed
from castore.store.refs import RefStore
from castore.store.urls import default_place, open_backend
from castore.tree.walk import Fetch

if TYPE_CHECKING:
    import datasets
    from numpy.typing import ArrayLike, NDArray

    from castore.diff.compare import Comparison
    from castore.export.olmo_core import Exported
    from castore.read.reader import Batch, Reader, Sample
    from castore.read.views import ArrayView, SampleView
    from castore.read.zarr_content import DatasetContent
    from castore.read.zarr_store import CastoreStore
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
    def __getitem__(self, key: str) -> ArrayView: ...
    @overload
    def __getitem__(self, key: slice | list[int] | NDArray[Any]) -> SampleView: ...
    def __getitem__(self, key: int | str | slice | list[int] | NDArray[Any]) -> Sample | SampleView | ArrayView:
        """A sample, several, or a whole array; of the latter two nothing is read yet.

        Args:
            key: A number in stored order, negative from the end, for a ``Sample``; a slice, list or array of numbers,
                or a mask of bool[n], for a ``SampleView``; the name of an array for an ``ArrayView``.

        Raises:
            IndexError: There is no such sample.
            NotFoundError: There is no such array.
        """
        if isinstance(key, str):
            if key not in self.arrays:
                raise NotFoundError(f"no array {key!r:.80} in this dataset: it has {', '.join(self.column_names)}")
            return self.arrays[key]
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
    def column_names(self) -> list[str]:
        """Names of the arrays of the root, sorted."""
        return sorted(self.manifest.arrays)

    @property
    def num_rows(self) -> int:
        """Number of samples, as ``len``."""
        return len(self)

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

    def export(
        self,
        folder: str | os.PathLike[str],
        *,
        layout: str = "olmo-core",
        replace: bool = False,
        part_bytes: int | None = None,
        report: Callable[[int, int], None] = lambda done, total: None,
    ) -> Exported:
        """Write the samples, in the recorded order, as files for a trainer.

        Args:
            folder: Complete or absent afterwards.
            layout: ``olmo-core``, ``megatron``, ``mds`` or ``parquet``.
            replace: Replace an earlier export, as a whole; a folder that holds anything else is refused.
            part_bytes: Bytes of ids in a full part of OLMo-core's layout; 1 GiB by default, as open-instruct writes.
            report: Called with tokens written and tokens in all.

        Raises:
            InvalidInputError: No such layout, the folder cannot be written, or its files cannot hold the data.
            MissingExtraError: pyarrow is needed and not installed.
            CorruptionError: An object is damaged; the folder stays as it was.
        """
        from castore.export.layouts import export_dataset

        return export_dataset(self, folder, layout=layout, replace=replace, part_bytes=part_bytes, report=report)

    def zarr_store(self, *, grid: str = "regular") -> CastoreStore:
        """A store for ``zarr.open_group(dataset.zarr_store())``, which refuses every write; it may be pickled.

        The group has token_ids uint32[m], labels_mask bool[m], sample_offsets int64[n + 1], source uint32[n] and the
        extra arrays, in stored order; every byte is verified when it is read.

        Args:
            grid: ``regular``: chunks of equal size, for dask, xarray, tensorstore and every zarr. ``rectilinear``: the
                chunks of the repository as they are, for zarr 3.2 or later with ``array.rectilinear_chunks`` switched
                on.

        Raises:
            InvalidInputError: The dataset is in no repository, or the installed zarr cannot read the grid.
        """
        from castore.read.zarr_store import CastoreStore, check_grid

        check_grid(grid)
        if self._reopen is None:
            raise InvalidInputError("a dataset that is in no repository has no zarr store")
        # The store opens the repository again: zarr reads in threads of its own, and a repository belongs to one.
        reopen, where = self._reopen
        return CastoreStore((*where, grid), partial(_zarr_content, reopen), read_only=False)

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


def _zarr_content(reopen: Callable[..., Columns], place: str, digest: str, grid: str) -> DatasetContent:
    """What a zarr store shows, also where it was pickled to."""
    from castore.read.zarr_content import DatasetContent

    return DatasetContent(reopen(place, digest), grid)


class Datasets:
    """The datasets of a repository, by address: a name, ``name@{n}``, or the beginning of a digest.

    Args:
        backend: Where its bytes live.
    """

    def __init__(self, backend: Backend) -> None:
        cache = open_cache() if getattr(backend, "needs_probe", False) else None
        self.backend = backend = packed(backend, cache)
        self.objects = ObjectStore(backend, cache=cache)
        self.refs = RefStore(backend)
        # One cache for all datasets of the repository: what two of them share is read once.
        self._fetch = CachedFetch(self.objects.get, many=self.objects.get_many if backend.is_far else None)

    @classmethod
    def open(cls, url: str | os.PathLike[str] | None = None, *, create: bool = False) -> Self:
        """Open the repository at a path or URL.

        Args:
            url: A folder, or any URL that fsspec knows; by default what commands use without ``--repo``.
            create: Make it if there is nothing.

        Raises:
            NotFoundError: There is no repository and ``create`` is False.
            UnsupportedVersionError: It is of a newer format.
        """
        backend = open_backend(default_place() if url is None else os.fspath(url))
        open_layout(backend, create)
        return cls(backend)

    @property
    def url(self) -> str:
        """The place."""
        return self.backend.url

    @property
    def place(self) -> str:
        """The same for other processes: a folder as an absolute path."""
        return getattr(self.backend, "place", self.backend.url)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url}>"

    def resolve(self, address: str | Digest) -> Digest:
        """The run record or manifest that an address names; a digest as bytes is taken whole.

        Raises:
            NotFoundError: Nothing has that name.
            InvalidInputError: More than one object has a digest that begins so.
        """
        return resolve(address, self.refs, self.objects, self.url)

    def __getitem__(self, address: str | Digest) -> Dataset:
        """The dataset that an address names."""
        return self.dataset(address)

    def __iter__(self) -> Iterator[str]:
        """The names, sorted."""
        return iter(self.refs.names())

    def __contains__(self, address: object) -> bool:
        """Whether an address names something."""
        try:
            return bool(resolve(cast("str | Digest", address), self.refs, self.objects, self.url, suggest=False))
        except (NotFoundError, InvalidInputError, TypeError):
            return False

    def dataset(self, address: str | Digest) -> Dataset:
        """The dataset that an address names; also by the digest of its root or run, as bytes."""
        found = self._at(self.resolve(address))
        if found is None:
            raise CorruptionError(f"{address!r} names an object that is neither a run record nor a manifest")
        return found

    def dataset_of_root(self, root: Digest, name: str = "") -> Dataset | None:
        """The dataset of a root, None if it is not here; with its run record if a name leads or led to one.

        Args:
            root: Digest of the manifest.
            name: The name whose log is looked at before the other names.
        """
        if not self.objects.has(root):
            return None
        for target in meanings(name, self.refs):
            found = self._at(target)
            if found is not None and found.root == root:
                return found
        return self._at(root)

    def pack(
        self, data: Dataset, rule: PackingRule, *, report: Callable[[int, int], None] = lambda done, total: None
    ) -> Instances:
        """The packing of a dataset of this repository under a rule; what ``Dataset.pack`` calls."""
        from castore.train.stored import stored_packing

        return stored_packing(data, rule, self.backend, self.objects, report=report)

    def _at(self, digest: Digest) -> Dataset | None:
        """The dataset of a run record or manifest, None if the object is neither."""
        data = self._fetch(digest)
        kind, reopen = kind_of(data), (_reopened, (self.place, digest.hex()))
        if kind == RUN_KIND:
            return Dataset(self._fetch, Run.decode(data).manifest, digest, reopen, self.pack)
        return Dataset(self._fetch, digest, None, reopen, self.pack) if kind == MANIFEST_KIND else None


def _reopened(place: str, digest: str) -> Dataset:
    """A dataset that was pickled, where it arrives."""
    return Datasets.open(place).dataset(digest)
