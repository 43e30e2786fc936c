"""``Repository``: the rooms introduced to each other, one method a verb, nothing computed.

Imports are inside the methods, so that a command loads only what it uses: comparing two runs must start in a tenth of a
second, and numpy alone takes longer than that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from castore.errors import ConflictError, CorruptionError, InvalidInputError, NotFoundError
from castore.format.digest import Digest, digest_hex
from castore.store.backend import Backend
from castore.store.cache import open_cache
from castore.store.layout import open_layout
from castore.store.objects import PREFIX_DIGITS_MIN, ObjectStore
from castore.store.protection import is_protected
from castore.store.refs import RefEntry, RefStore, check_ref_name, is_ref_name
from castore.store.urls import open_backend

if TYPE_CHECKING:
    from castore.care.copy import Copied
    from castore.format.codec import Value
    from castore.ingest.import_folder import ImportResult
    from castore.ingest.job import TokenizeJob, TokenizeResult
    from castore.ingest.write import Progress
    from castore.tree.walk import Fetch
    from castore.view.dataset import Dataset
    from castore.view.export import Exported

RESOLVED_MAX = 1000
"""Objects with one digest prefix that are looked at before the prefix is called ambiguous."""


@dataclass(frozen=True, slots=True)
class Origin:
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
        self.objects = ObjectStore(backend, cache=open_cache() if getattr(backend, "needs_probe", False) else None)
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
        from castore.format.fields import kind_of
        from castore.format.manifest import MANIFEST_KIND
        from castore.format.run import RUN_KIND, Run
        from castore.view.dataset import CachedFetch, Dataset

        digest = self.resolve(address)
        # One cache for all datasets of the repository: what two of them share is read once.
        fetch = self._fetch = self._fetch or CachedFetch(self.objects.get)
        data = fetch(digest)
        kind = kind_of(data)
        if kind == RUN_KIND:
            return Dataset(fetch, Run.decode(data).manifest, digest)
        if kind == MANIFEST_KIND:
            return Dataset(fetch, digest, None)
        raise CorruptionError(f"{address} names an object that is neither a run record nor a manifest")

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
        # What cannot be logged is refused now, not after hours of work.
        RefEntry(name, 0, None, origin.time_s, origin.author, message).encode()
        self.refs.require_writable()
        expected = self.refs.current(name)
        self._guard(name, expected, None, origin, force)
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
        from castore.store.imports import ImportStore
        from castore.store.olmo_core import OlmoCoreFolder
        from castore.view.arrays import whole_keys

        check_ref_name(name)
        self.refs.require_writable()
        expected = self.refs.current(name)
        self._guard(name, expected, None, origin, force)
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

    def tag(self, address: str, name: str, origin: Origin, *, force: bool = False) -> RefEntry:
        """Let ``name`` mean what ``address`` means.

        What no name means now may be about to be collected: all that it reaches is renewed first.

        Raises:
            NotFoundError: Some of it was collected already.
        """
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

    def remove(self, name: str, origin: Origin, *, force: bool = False) -> RefEntry:
        """Let ``name`` mean nothing; its log stays, and the data as long as gc keeps what logs name."""
        expected = self.refs.current(name)
        if expected is None:
            raise NotFoundError(f"{self.url} has nothing called {name!r}")
        self._guard(name, expected, None, origin, force)
        return self._move(name, expected, None, origin, origin.message or "rm")

    def copy(
        self,
        address: str,
        to: Repository,
        name: str,
        origin: Origin,
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
