"""``Repository``: the rooms introduced to each other, one method a verb, nothing computed.

Imports are inside the methods, so that a command loads only what it uses: comparing two runs must start in a tenth of a
second, and numpy alone takes longer than that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from castore.errors import ConflictError, CorruptionError, InvalidInputError, NotFoundError
from castore.format.digest import Digest, digest_hex
from castore.store.backend import Backend
from castore.store.layout import open_layout
from castore.store.objects import PREFIX_DIGITS_MIN, ObjectStore
from castore.store.refs import RefEntry, RefStore, check_ref_name, is_ref_name
from castore.store.urls import open_backend

if TYPE_CHECKING:
    from castore.format.codec import Value
    from castore.ingest.import_folder import ImportResult
    from castore.ingest.job import TokenizeJob, TokenizeResult
    from castore.ingest.write import Progress
    from castore.tree.walk import Fetch
    from castore.view.dataset import Dataset
    from castore.view.export import Exported

RESOLVED_MAX = 1000
"""Objects with one digest prefix that are looked at before the prefix is called ambiguous."""

LOG_MAX = 100
"""Entries of a log, and names, that are looked at for the run record of a root."""


class Origin(NamedTuple):
    """Who does something, and when: what a run record and a ref's log say of it.

    Attributes:
        author: In the user's words.
        host: Name of the machine.
        time_s: Seconds since 1970 (UTC).
        message: Why, in the user's words.
    """

    author: str
    host: str
    time_s: int
    message: str = ""


class Repository:
    """An opened repository.

    Args:
        backend: Where its bytes live.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.objects = ObjectStore(backend)
        self.refs = RefStore(backend)
        self._fetch: Fetch | None = None

    @classmethod
    def open(cls, url: str, *, create: bool = False) -> Repository:
        """Open the repository at a path or URL.

        Args:
            url: A folder, or any URL that fsspec knows.
            create: Make it if there is nothing.

        Raises:
            NotFoundError: There is no repository and ``create`` is False.
            UnsupportedVersionError: It is of a newer format.
        """
        backend = open_backend(url)
        open_layout(backend, create)
        return cls(backend)

    @property
    def url(self) -> str:
        """The place."""
        return self.backend.url

    # ---- addresses

    def resolve(self, address: str) -> Digest:
        """The run record or manifest that an address names: ``name``, ``name@{n}``, or the beginning of a digest.

        Raises:
            NotFoundError: Nothing has that name.
            InvalidInputError: More than one object has a digest that begins so.
        """
        name, _, back = address.partition("@{")
        if back:
            if not back.endswith("}") or not back[:-1].isdecimal() or len(back) > 18:
                raise InvalidInputError(f"{address!r} is no address: write name@{{2}} for the second value back")
            return self._target(self.refs.at(name, int(back[:-1])), address)
        if is_ref_name(address):
            entry = self.refs.read(address)
            if entry is not None:
                return self._target(entry, address)
        if len(address) >= PREFIX_DIGITS_MIN and not address.strip("0123456789abcdef"):
            return self._by_prefix(address)
        raise NotFoundError(f"{self.url} has nothing called {address!r}: 'castore ls' lists the names")

    def _target(self, entry: RefEntry | None, address: str) -> Digest:
        if entry is None:
            raise NotFoundError(f"{self.url} has nothing called {address!r}: 'castore ls' lists the names")
        if entry.target is None:
            back = self.refs.current_sequence(entry.name) - entry.sequence + 1
            raise NotFoundError(f"{address} was removed: '{entry.name}@{{{back}}}' is what it was before")
        return entry.target

    def _by_prefix(self, prefix: str) -> Digest:
        begin_so = self.objects.resolve(prefix)
        if len(begin_so) > RESOLVED_MAX:
            raise InvalidInputError(f"{prefix} begins the digests of {len(begin_so)} objects: give more digits")
        found = [digest for digest in begin_so if self._is_document(digest)]
        if not found:
            raise NotFoundError(f"{self.url} has no name and no run with a digest that begins with {prefix}")
        if len(found) > 1:
            raise InvalidInputError(f"{prefix} begins the digests of {len(found)} runs: give more digits")
        return found[0]

    def _is_document(self, digest: Digest) -> bool:
        from castore.format.fields import kind_of
        from castore.format.manifest import MANIFEST_KIND
        from castore.format.run import RUN_KIND

        return kind_of(self.objects.get(digest)) in (RUN_KIND, MANIFEST_KIND)

    def dataset(self, address: str) -> Dataset:
        """The dataset that an address names."""
        found = self._dataset_at(self.resolve(address))
        if found is None:
            raise CorruptionError(f"{address} names an object that is neither a run record nor a manifest")
        return found

    def dataset_of_root(self, root: Digest, name: str = "") -> Dataset | None:
        """The dataset of a root, None if it is not here; with its run record if a name leads or led to one.

        Args:
            root: Digest of the manifest.
            name: The name whose log is looked at before the other names.
        """
        if not self.objects.has(root):
            return None
        for target in self._targets(name):
            found = self._dataset_at(target)
            if found is not None and found.root == root:
                return found
        return self._dataset_at(root)

    def _targets(self, name: str) -> Iterator[Digest]:
        """What a name has meant, newest first, then what the others mean."""
        log = self.refs.log(name)[:LOG_MAX] if is_ref_name(name) else []
        yield from (entry.target for entry in log if entry.target is not None)
        for other in self.refs.names()[:LOG_MAX]:
            target = self.refs.current(other)
            if target is not None:
                yield target

    def _dataset_at(self, digest: Digest) -> Dataset | None:
        """The dataset of a run record or manifest, None if the object is neither."""
        from castore.format.fields import kind_of
        from castore.format.manifest import MANIFEST_KIND
        from castore.format.run import RUN_KIND, Run
        from castore.view.dataset import CachedFetch, Dataset

        # One cache for all datasets of the repository: what two of them share is read once.
        fetch = self._fetch = self._fetch or CachedFetch(self.objects.get, many=getattr(self.objects, "get_many", None))
        data = fetch(digest)
        kind = kind_of(data)
        if kind == RUN_KIND:
            return Dataset(fetch, Run.decode(data).manifest, digest)
        return Dataset(fetch, digest, None) if kind == MANIFEST_KIND else None

    # ---- verbs

    def tokenize(
        self,
        job: TokenizeJob,
        name: str,
        origin: Origin,
        *,
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
        # What cannot be logged is refused now, not after hours of work.
        RefEntry(name, 0, None, origin.time_s, origin.author, message).encode()
        expected = self.refs.current(name)
        result = tokenize(job, self.objects, UnitStore(self.backend), _fields(origin), report=report, warn=warn)
        try:
            self._move(name, expected, result.run, origin, message)
        except ConflictError as error:
            raise ConflictError(
                f"{error}; the run is stored: castore tag {digest_hex(result.run)[:16]} {name}"
            ) from error
        return result

    def import_folder(
        self,
        path: str,
        name: str,
        origin: Origin,
        *,
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
        from castore.store.imports import ImportStore
        from castore.store.olmo_core import OlmoCoreFolder
        from castore.view.arrays import whole_keys

        check_ref_name(name)
        expected = self.refs.current(name)
        keys = None if like is None else whole_keys(self.dataset(like))
        result = import_folder(
            OlmoCoreFolder(path),
            self.objects,
            ImportStore(self.backend),
            _fields(origin),
            shuffle_seed=shuffle_seed,
            like=keys,
            report=report,
        )
        self._move(name, expected, result.run, origin, origin.message or f"import {path}")
        return result

    def export(
        self,
        data: Dataset,
        folder: str,
        *,
        replace: bool,
        time_text: str,
        report: Callable[[int, int], None] = lambda done, total: None,
    ) -> Exported:
        """Write a dataset as files for OLMo-core."""
        from castore.view.export import export_olmo_core

        return export_olmo_core(data, folder, replace=replace, time_text=time_text, report=report)

    def tag(self, address: str, name: str, origin: Origin) -> RefEntry:
        """Let ``name`` mean what ``address`` means."""
        expected = self.refs.current(name)
        return self._move(name, expected, self.resolve(address), origin, origin.message or f"tag {address}")

    def remove(self, name: str, origin: Origin) -> RefEntry:
        """Let ``name`` mean nothing; its log stays, and the data with it."""
        expected = self.refs.current(name)
        if expected is None:
            raise NotFoundError(f"{self.url} has nothing called {name!r}")
        return self._move(name, expected, None, origin, origin.message or "rm")

    def _move(
        self, name: str, expected: Digest | None, target: Digest | None, origin: Origin, message: str
    ) -> RefEntry:
        return self.refs.compare_and_set(
            name, expected, target, time_s=origin.time_s, author=origin.author, message=message
        )


def _fields(origin: Origin) -> Mapping[str, Value]:
    """An origin as a run record keeps it."""
    return {
        "author": origin.author,
        "castore": _version(),
        "host": origin.host,
        "message": origin.message,
        "time": origin.time_s,
    }


def _version() -> str:
    from castore import __version__

    return __version__
