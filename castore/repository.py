"""``Repository``: the rooms introduced to each other, one method a verb, nothing computed.

Imports are inside the methods, so that a command loads only what it uses: comparing two runs must start in a tenth of a
second, and numpy alone takes longer than that.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from castore.errors import BackendError, ConflictError, CorruptionError, InvalidInputError, NotFoundError
from castore.format.digest import Digest, digest_hex
from castore.store.addresses import meanings, nothing_called, resolve
from castore.store.backend import Backend
from castore.store.cache import open_cache
from castore.store.marker import open_layout
from castore.store.objects import ObjectStore
from castore.store.protection import is_protected
from castore.store.refs import RefEntry, RefStore, check_ref_name, is_ref_name
from castore.store.run_origin import Origin as Origin
from castore.store.urls import default_place, open_backend
from castore.version import __version__

if TYPE_CHECKING:
    from castore.care.copy import Copied
    from castore.dataset import Dataset
    from castore.export.olmo_core import Exported
    from castore.format.codec import Value
    from castore.format.run import RunOrigin
    from castore.ingest.caller_samples import ArraySpec
    from castore.ingest.import_folder import ImportResult, Like
    from castore.ingest.import_zarr import GroupImport
    from castore.ingest.job import TokenizeJob, TokenizeResult
    from castore.ingest.run_writer import Progress
    from castore.ingest.sample_writer import SampleWriter
    from castore.ingest.write_job import WriteResult
    from castore.read.columns import Columns
    from castore.read.zarr_content import DatasetContent
    from castore.read.zarr_store import CastoreStore
    from castore.train.instances import Instances, PackingRule
    from castore.tree.walk import Fetch


class Repository:
    """An opened repository.

    Args:
        backend: Where its bytes live.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.objects = ObjectStore(backend, cache=open_cache() if getattr(backend, "needs_probe", False) else None)
        self.refs = RefStore(backend)
        self._fetch: Fetch | None = None

    @classmethod
    def open(cls, url: str | os.PathLike[str] | None = None, *, create: bool = False) -> Repository:
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
        return f"<Repository {self.url}>"

    # ---- addresses

    def resolve(self, address: str | Digest) -> Digest:
        """The run record or manifest that an address names: ``name``, ``name@{n}``, or the beginning of a digest.

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
        found = self._dataset_at(self.resolve(address))
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
            found = self._dataset_at(target)
            if found is not None and found.root == root:
                return found
        return self._dataset_at(root)

    def _dataset_at(self, digest: Digest) -> Dataset | None:
        """The dataset of a run record or manifest, None if the object is neither."""
        from castore.dataset import Dataset
        from castore.format.fields import kind_of
        from castore.format.manifest import MANIFEST_KIND
        from castore.format.run import RUN_KIND, Run
        from castore.read.columns import CachedFetch

        # One cache for all datasets of the repository: what two of them share is read once.
        fetch = self._fetch = self._fetch or CachedFetch(self.objects.get, many=getattr(self.objects, "get_many", None))
        data = fetch(digest)
        kind, reopen = kind_of(data), (open_dataset, (self.place, digest.hex()))
        if kind == RUN_KIND:
            return Dataset(fetch, Run.decode(data).manifest, digest, reopen, self.pack)
        return Dataset(fetch, digest, None, reopen, self.pack) if kind == MANIFEST_KIND else None

    # ---- verbs

    def tokenize(
        self,
        job: TokenizeJob,
        name: str,
        origin: Origin,
        *,
        force: bool = False,
        report: Callable[[Progress], None] = lambda progress: None,
        warn: Callable[[str], None] = lambda message: None,
    ) -> TokenizeResult:
        """Tokenize a mix and let ``name`` mean the result.

        Raises:
            InvalidInputError: The job or a source is wrong; what was tokenized is kept for the next run.
            ConflictError: Somebody moved the name meanwhile; the run is stored and can be tagged by its digest.
        """
        from castore.ingest.job import tokenize
        from castore.store.units import UnitStore

        message = origin.message or "tokenize"
        _check_loggable(name, origin, message)
        self.refs.require_writable()
        expected = self.refs.current(name)
        self._guard(name, expected, None, origin, force)
        result = tokenize(job, self.objects, UnitStore(self.backend), _run_origin(origin), report=report, warn=warn)
        self._publish(name, expected, result.run, origin, message)
        return result

    def writer(
        self,
        name: str,
        *,
        recipe: Mapping[str, Value] | None = None,
        arrays: ArraySpec | None = None,
        sources: Sequence[str] = (),
        shuffle_seed: int | None = None,
        num_examples: int | None = None,
        resume_key: str | None = None,
        tokenizer: str | None = None,
        origin: Origin | None = None,
        force: bool = False,
    ) -> SampleWriter:
        """A writer of samples; ``name`` means them when it is closed, as at the end of a ``with`` block.

        Args:
            name: Of the result.
            recipe: All that can change tokens: text, integers, lists and maps. Recorded, and compared by ``diff``.
            arrays: Extra arrays by name: ``(dtype, axis)``, such as ``("float32", "token")``.
            sources: Names of the sources in the order of their numbers; others are numbered as they appear.
            shuffle_seed: Seed of the recorded order; None for the order of writing.
            num_examples: Samples used of the order; None for all.
            resume_key: Any text that names this write. What is stored is recorded under it as the write goes on, and a
                writer that is opened with it again begins at ``position``.
            tokenizer: Folder of the tokenizer, kept beside the data so that it can be shown as text.
            origin: Who, where, when and why; this user, here and now, by default.
            force: Move a protected name; the origin must say why.

        Raises:
            InvalidInputError: A name, array or recipe that cannot be; or a protected name.
        """
        from castore.ingest.sample_writer import SampleWriter
        from castore.ingest.write_job import WriteJob

        who = origin or Origin.here()
        message = who.message or "write"
        _check_loggable(name, who, message)
        self.refs.require_writable()
        expected = self.refs.current(name)
        self._guard(name, expected, None, who, force)
        job = WriteJob(name, recipe or {}, arrays or {}, sources, shuffle_seed, num_examples, resume_key, tokenizer)

        def publish(run: Digest) -> None:
            self._publish(name, expected, run, who, message)

        return SampleWriter(job, self.backend, self.objects, _run_origin(who), publish)

    def write(self, samples: Iterable[Any], as_: str, **options: Any) -> WriteResult:
        """Write what an iterator gives, and let the name ``as_`` mean it.

        Args:
            samples: Each a ``(token_ids, labels_mask)`` tuple, token ids alone, or a mapping of what
                ``SampleWriter.append`` takes; also of ``input_ids``, ``labels`` with −100 where not trained on, and
                ``attention_mask``, as a dataset of Hugging Face gives them.
            as_: Name of the result.
            **options: As ``writer`` takes them. With a ``resume_key``, samples that an interrupted write has stored are
                taken from the iterator, compared and passed over.

        Raises:
            InvalidInputError: A sample cannot be; or is another than the interrupted write has in its place.
            ConflictError: Somebody moved the name meanwhile; the run is stored and can be tagged by its digest.
        """
        from castore.ingest.write_all import write_all

        return write_all(self.writer(as_, **options), samples)

    def import_folder(
        self,
        path: str,
        name: str,
        origin: Origin | None = None,
        *,
        force: bool = False,
        shuffle_seed: int | None = None,
        like: str | None = None,
        report: Callable[[int, int], None] = lambda done, total: None,
    ) -> ImportResult:
        """Let ``name`` mean an output directory of open-instruct.

        Raises:
            SourceError: The directory is incomplete or contradicts itself.
            ConflictError: Somebody moved the name meanwhile.
        """
        from castore.ingest.import_folder import import_folder
        from castore.olmo.folder import OlmoCoreFolder
        from castore.store.imports import ImportStore

        origin = origin or Origin.here()
        check_ref_name(name)
        self.refs.require_writable()
        expected = self.refs.current(name)
        self._guard(name, expected, None, origin, force)
        other = None if like is None else _as_like(self.dataset(like))
        result = import_folder(
            OlmoCoreFolder(path),
            self.objects,
            ImportStore(self.backend),
            _run_origin(origin),
            shuffle_seed=shuffle_seed,
            like=other,
            report=report,
        )
        self._move(name, expected, result.run, origin, origin.message or f"import {path}")
        return result

    def import_zarr(
        self,
        place: str,
        name: str,
        origin: Origin | None = None,
        *,
        force: bool = False,
        report: Callable[[int, int], None] = lambda done, total: None,
    ) -> GroupImport:
        """Let ``name`` mean the samples of the zarr group at a path or URL.

        Raises:
            InvalidInputError: There is no group.
            SourceError: It has no samples, or arrays that contradict each other.
            ConflictError: Somebody moved the name meanwhile.
        """
        from castore.ingest.import_zarr import GroupSamples, write_group
        from castore.read.zarr_store import open_group

        check_ref_name(name)
        origin = origin or Origin.here()
        self._guard(name, self.refs.current(name), None, origin, force)
        samples = GroupSamples(place, *open_group(place))
        who = origin._replace(message=origin.message or f"import {place}")
        seed, take = samples.order
        writer = self.writer(
            name,
            arrays=samples.extra,
            sources=samples.sources,
            shuffle_seed=seed,
            num_examples=take,
            origin=who,
            force=force,
        )
        return write_group(writer, samples, report)

    def export(
        self,
        data: Columns,
        folder: str,
        *,
        replace: bool = False,
        time_text: str | None = None,
        layout: str = "olmo-core",
        part_bytes: int | None = None,
        report: Callable[[int, int], None] = lambda done, total: None,
    ) -> Exported:
        """Write a dataset as files for OLMo-core, or in another of ``castore.export.layouts.LAYOUTS``.

        Args:
            data: The dataset.
            folder: Complete or absent afterwards.
            replace: Replace an earlier export, as a whole; a folder that holds anything else is refused.
            time_text: The timestamp in OLMo-core's statistics; now, by default.
            layout: One of ``LAYOUTS``.
            part_bytes: Bytes of ids in a full part of OLMo-core's layout; 1 GiB by default, as open-instruct writes.
            report: Called with tokens written and tokens in all.

        Raises:
            InvalidInputError: ``part_bytes`` for another layout, or below ``castore.olmo.layout.PART_BYTES_MIN``.
        """
        import time

        from castore.export.layouts import export_layout
        from castore.export.olmo_core import export_olmo_core
        from castore.olmo.layout import part_size

        if layout != "olmo-core":
            if part_bytes is not None:
                raise InvalidInputError(f"the size of parts is OLMo-core's: layout {layout} has its own")
            return export_layout(data, folder, layout, replace=replace, report=report)
        said = time_text or time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(Origin.here().time_s))
        size = part_size(part_bytes)
        return export_olmo_core(data, folder, replace=replace, time_text=said, part_bytes=size, report=report)

    def pack(
        self,
        data: Dataset,
        rule: PackingRule,
        *,
        report: Callable[[int, int], None] = lambda done, total: None,
    ) -> Instances:
        """The packing of a dataset of this repository: read if somebody has made it, else made and stored for others.

        A repository that cannot be written to serves as well; then nothing is stored.
        """
        from castore.format.packing import packing_name
        from castore.store.packings import PackingStore
        from castore.train.instances import pack_dataset, read_instances

        records = PackingStore(self.backend)
        name = packing_name(data.root, rule.value())
        known = records.get(name)
        if known is not None:
            with suppress(NotFoundError):  # it was collected: a packing can be made again
                found = read_instances(self.objects.get, known, data.root, rule)
                with suppress(BackendError):  # not everybody may write
                    records.renew(name)
                return found
        packing, chunks = pack_dataset(data, rule, report=report)
        document = packing.encode()
        objects = {item.digest: item for item in [*chunks, document]}
        with suppress(BackendError):
            self.objects.put_all(objects.values())
            self.objects.flush()
            records.put(name, document.digest, sorted({chunk.digest for chunk in chunks}))
        return read_instances(lambda digest: objects[digest].data, document.digest, data.root, rule)

    def tag(self, address: str, name: str, origin: Origin | None = None, *, force: bool = False) -> RefEntry:
        """Let ``name`` mean what ``address`` means.

        What no name means now may be about to be collected: all that it reaches is renewed first.

        Raises:
            NotFoundError: Some of it was collected already.
        """
        origin = origin or Origin.here()
        expected = self.refs.current(name)
        target = self.resolve(address)
        self._guard(name, expected, target, origin, force)
        if not is_ref_name(address) or self.refs.current(address) != target:
            self._renew(target, address)
        return self._move(name, expected, target, origin, origin.message or f"tag {address}")

    def _renew(self, target: Digest, address: str) -> None:
        from castore.care.reach import renew_all

        try:
            renew_all(self.objects, target)
        except NotFoundError as error:
            raise NotFoundError(f"{address} is no longer complete: {error}") from error

    def remove(self, name: str, origin: Origin | None = None, *, force: bool = False) -> RefEntry:
        """Let ``name`` mean nothing; its log stays, and the data as long as gc keeps what logs name."""
        origin = origin or Origin.here()
        expected = self.refs.current(name)
        if expected is None:
            raise nothing_called(name, self.refs, self.url)
        self._guard(name, expected, None, origin, force)
        return self._move(name, expected, None, origin, origin.message or "rm")

    def copy(
        self,
        address: str,
        to: Repository,
        name: str,
        origin: Origin | None = None,
        *,
        force: bool = False,
        check: Callable[[Digest], None] = lambda root: None,
        report: Callable[[int, int], None] = lambda done, total: None,
    ) -> tuple[Copied, bool]:
        """Make what ``address`` means durable in another repository, and let ``name`` mean it there.

        Signatures of the name and root travel too. ``check`` is called with the root before anything else does.

        Returns:
            What was sent, and whether the name moved (it may have meant the same already).

        Raises:
            ConflictError: Somebody moved the name meanwhile; what was sent is there.
        """
        from castore.care.copy import copy_dataset
        from castore.store.signatures import SignatureStore

        origin = origin or Origin.here()
        check_ref_name(name)
        target = self.resolve(address)
        expected = to.refs.current(name)
        to._guard(name, expected, target, origin, force)
        root = self.dataset(digest_hex(target)).root
        check(root)
        held = [digest for each in to.refs.names() if (digest := to.refs.current(each)) is not None]
        copied = copy_dataset(self.objects, to.objects, target, held, report=report)
        for signature in SignatureStore(self.backend).of(name, root):
            SignatureStore(to.backend).put(signature)
        if expected == target:
            return copied, False
        to._move(name, expected, target, origin, origin.message or f"copy {address} from {self.url}")
        return copied, True

    def _guard(self, name: str, expected: Digest | None, target: Digest | None, origin: Origin, force: bool) -> None:
        if expected is None or expected == target or not is_protected(self.backend, name):
            return
        if not force:
            raise InvalidInputError(f"{name} is protected: give --force, and the reason with --message")
        if not origin.message.strip():
            raise InvalidInputError(f"{name} is protected: --force wants the reason with --message")

    def _publish(self, name: str, expected: Digest | None, run: Digest, origin: Origin, message: str) -> None:
        try:
            self._move(name, expected, run, origin, message)
        except ConflictError as error:
            raise ConflictError(f"{error}; the run is stored: castore tag {digest_hex(run)[:16]} {name}") from error

    def _move(
        self, name: str, expected: Digest | None, target: Digest | None, origin: Origin, message: str
    ) -> RefEntry:
        return self.refs.compare_and_set(
            name, expected, target, time_s=origin.time_s, author=origin.author, message=message
        )


def zarr_store(url: str | os.PathLike[str], name: str, *, grid: str = "regular") -> CastoreStore:
    """A dataset as a read-only zarr store (``castore.zarr_store``)."""
    from castore.read.zarr_store import CastoreStore, check_grid

    check_grid(grid)
    repository = Repository.open(url)
    return CastoreStore((repository.place, digest_hex(repository.resolve(name)), grid), open_zarr_content)


def open_zarr_content(url: str, digest: str, grid: str) -> DatasetContent:
    """What a zarr store shows, also where it was pickled to."""
    from castore.read.zarr_content import DatasetContent

    return DatasetContent(open_dataset(url, digest), grid)


def open_dataset(url: str, address: str) -> Dataset:
    """A dataset by the place of its repository: how one that was pickled is opened again."""
    return Repository.open(url).dataset(address)


def _as_like(data: Dataset) -> Like:
    """A dataset as an import takes its order."""
    import numpy as np

    from castore.ingest.import_folder import Like
    from castore.read.whole import whole, whole_keys

    source = whole(data, "source") if data.has("source") else np.zeros(data.samples, np.uint32)
    return Like(whole_keys(data), source, tuple(data.sources))


def _check_loggable(name: str, origin: Origin, message: str) -> None:
    """Refuse now what could not be logged after hours of work."""
    RefEntry(name, 0, None, origin.time_s, origin.author, message).encode()


def _run_origin(origin: Origin) -> RunOrigin:
    """An origin as a run record keeps it."""
    from castore.format.run import RunOrigin

    return RunOrigin(origin.author, __version__, origin.host, origin.message, origin.time_s)
