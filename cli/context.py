"""What commands take from their surroundings: the repository's place, who runs them, and when."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

import click

from castore_cli.formatting import visible

if TYPE_CHECKING:
    from castore.diff.lock import Lock
    from castore.format.files import Vocabulary
    from castore.read.columns import Columns
    from castore.repository import Origin, Repository


SEED_MAX = (1 << 63) - 1
"""Of a shuffle: what a record can hold."""


class State:
    """State of one invocation.

    Args:
        repo: The repository's place as the user spelled it, None for the default.
    """

    def __init__(self, repo: str | None) -> None:
        self.repo = repo
        self.opened: dict[str, Repository] = {}

    @property
    def url(self) -> str:
        """The repository's place."""
        from castore.store.urls import default_folder

        return self.repo or default_folder()

    def open(self, *, create: bool = False) -> Repository:
        """Open the repository; ``create`` for commands that write data into it, which say so where they make one."""
        return self._open(self.url, create=create, say=True)

    def open_or_empty(self) -> Repository:
        """The repository, or an empty one in memory where there is none."""
        from castore.errors import NotFoundError
        from castore.repository import Repository
        from castore.store.backend import MemoryBackend

        try:
            return self.open()
        except NotFoundError:
            return Repository(MemoryBackend(self.url))

    def dataset(self, address: str) -> tuple[Repository, Columns]:
        """The dataset that an address names, ``URL#name`` included, and the repository that has it."""
        from castore.errors import NotFoundError

        repository, name = self.place(address)
        try:
            return repository, repository.dataset(name)
        except NotFoundError as error:
            raise NotFoundError(f"{error}{_folder_hint(address)}") from error

    def place(self, address: str) -> tuple[Repository, str]:
        """The repository that an address is in, and the rest of the address: ``URL#name`` or a plain one."""
        url, mark, name = address.rpartition("#")
        return (self._open(url) if mark else self.open()), name

    def at(self, url: str, *, create: bool = False) -> Repository:
        """Another repository; ``create`` where the user has said that it is to be made."""
        return self._open(url, create=create)

    def pair(self, a: str, b: str) -> tuple[Columns, Columns]:
        """Two datasets to compare; either address may also be an output directory of open-instruct.

        A directory is taken to be in the order of the other side where that can be.
        """
        folders = self.is_folder(a), self.is_folder(b)
        if all(folders):
            from castore.diff.open_folders import open_folders

            pair = open_folders(a, b)
            for path, data in zip((a, b), pair, strict=True):
                _read_by_itself(path, data, None)
            return pair
        data_a = None if folders[0] else self.dataset(a)[1]
        data_b = None if folders[1] else self.dataset(b)[1]
        if data_a is None or data_b is None:
            from castore.olmo.directory import directory_dataset

            data_a = data_a or _read_by_itself(a, directory_dataset(a, data_b), data_b)
            data_b = data_b or _read_by_itself(b, directory_dataset(b, data_a), data_a)
        return data_a, data_b

    def beside_lock(self, address: str, lock: Lock) -> tuple[Columns | None, Columns]:
        """The dataset that a lock file expects, None where no repository at hand has it, and the one of an address."""
        folder = self.is_folder(address)
        found = None if folder else self.dataset(address)[1]
        expected = None if found is not None and found.root == lock.root else self._locked(lock)
        if found is None:
            from castore.olmo.directory import directory_dataset

            found = directory_dataset(address, expected, lock.seeded_order())
            _read_by_itself(address, found, expected)
        return expected, found

    def _locked(self, lock: Lock) -> Columns | None:
        """The dataset of a lock file, from the repository or one that was opened already."""
        from castore.errors import NotFoundError

        with contextlib.suppress(NotFoundError):  # a lock file is enough where there is no repository
            self.open()
        name = lock.name.rpartition("#")[2].partition("@{")[0]
        found = (repository.dataset_of_root(lock.root, name) for repository in self.opened.values())
        return next((data for data in found if data is not None), None)

    def is_folder(self, address: str) -> bool:
        """Whether an address is a directory: ``./x``, ``../x``, ``/x``, ``x/``; or ``x/y``, if that is no name."""
        if address[:1] in (".", "/") or address.endswith("/"):
            return "#" not in address or os.path.isdir(address)  # noqa: PTH112 - pathlib costs start-up
        return _is_output_folder(address) and not self._has_name(address)

    def _has_name(self, address: str) -> bool:
        from castore.errors import CastoreError

        try:
            return self.open().refs.read(address) is not None
        except CastoreError:  # no repository, or nothing that can be a name in it
            return False

    def reads(self) -> dict[str, int]:
        """Objects read from all repositories so far, and their stored bytes."""
        stores = [repository.objects for repository in list(self.opened.values())]
        return {"objects": sum(s.reads for s in stores), "bytes": sum(s.bytes_read for s in stores)}

    def _open(self, url: str, *, create: bool = False, say: bool = False) -> Repository:
        from castore.errors import NotFoundError
        from castore.repository import Repository

        if url not in self.opened:
            try:
                self.opened[url] = Repository.open(url)
            except NotFoundError as error:
                if not create:
                    said = "the first command that writes data makes it; --repo or CASTORE_REPO names another"
                    raise NotFoundError(f"{error}: {said}" if url == self.url else str(error)) from error
                self.opened[url] = Repository.open(url, create=True)
                if say:
                    click.echo(f"castore: new repository at {visible(url)}", err=True)
        return self.opened[url]


def _read_by_itself(path: str, data: Columns, beside: Columns | None) -> Columns:
    """A directory that has another tokenizer than the dataset beside it: its text is read with its own."""
    name = "tokenizer/tokenizer.json"
    own = None if data.companions is None else data.companions.tokenizer.get(name)
    if own is not None and (beside is None or beside.run is None or beside.run.files.get(name) != own):

        def vocabulary() -> Vocabulary | None:
            from castore.errors import CastoreError
            from castore.ingest.tokenizer_folder import folder_vocabulary

            with contextlib.suppress(CastoreError):  # ids can be compared all the same, and are shown then
                return folder_vocabulary(os.path.join(path, "tokenizer"))  # noqa: PTH118 - pathlib costs start-up
            return None

        data.own_vocabulary = vocabulary
    return data


def origin(message: str = "") -> Origin:
    """Who, where and when. ``CASTORE_AUTHOR`` and ``SOURCE_DATE_EPOCH`` speak first, as in git and Debian."""
    from castore.repository import Origin

    return Origin.here(message)


def local_time(time_s: int) -> str:
    """A time, in seconds since 1970, as people here read it; the seconds where the calendar has none."""
    import time

    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time_s))
    except (OverflowError, OSError, ValueError):  # an entry of a log may say any number, and stays
        return f"{time_s} s"


def use_colour() -> bool:
    """Colour is for terminals of people who did not say no (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _folder_hint(address: str) -> str:
    """The end of a sentence that says that an address means nothing, if it is a folder."""
    if not os.path.isdir(address):  # noqa: PTH112 - pathlib costs start-up
        return ""
    if "/" not in address:
        return f"; for the folder write ./{address}"
    return f"; 'castore import {address} --as NAME' makes a dataset of the folder, 'castore diff' compares it as it is"


def _is_output_folder(address: str) -> bool:
    """Whether an address is a directory in the OLMo-core layout; without a slash it never is."""
    return "/" in address and os.path.isfile(os.path.join(address, "token_ids_part_0000.npy"))  # noqa: PTH113, PTH118
