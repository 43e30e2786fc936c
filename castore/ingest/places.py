"""What an entry of a mix may be: a file, a pattern of files, ``-``, a URL, a folder, a Hugging Face dataset."""

from __future__ import annotations

import glob
import os
import re
import sys
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath
from typing import BinaryIO
from urllib.parse import urlsplit, urlunsplit

from castore.errors import BackendError, InvalidInputError, SourceError
from castore.ingest.defaults import FILE_SPLIT, MAIN_REVISION, MESSAGES_FORMAT
from castore.ingest.folders import open_folder
from castore.ingest.hub import HubReader
from castore.ingest.readers import one_line
from castore.ingest.source import BLOCK_BYTES_TARGET, READ_SUFFIXES, Source, open_reader
from castore.store.fetch import fetched

STDIN = "-"
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(::|://)")
# No dataset is called so; who writes it means a file.
_FILE_SUFFIXES = (*READ_SUFFIXES, ".arrow", ".bz2", ".csv", ".gz", ".npy", ".tsv", ".txt", ".xz", ".zip", ".zst")
_READ_BYTES = 1024 * 1024


def expanded(name: str) -> list[str]:
    """The sources that an entry of a mix means: one, or each file that a pattern fits, sorted.

    A pattern has ``*``, ``?`` or ``[`` in it, and ``**`` for folders below. What is there under the very name is meant
    before a pattern. A file that a pattern reaches by several ways, over links, is one.

    Raises:
        SourceError: No file fits the pattern.
    """
    if not glob.has_magic(name) or _URL.match(name) or "\0" in name or os.path.lexists(_local(name)):
        return [name]
    found = [path for path in glob.glob(_local(name), recursive=True) if not os.path.isdir(path)]  # noqa: PTH112, PTH207
    # The shortest way to a file first: a link to the folder it is in makes forty.
    once = {os.path.realpath(path): path for path in sorted(found, key=lambda path: (len(path), path), reverse=True)}
    if not once:
        raise SourceError(name, "no file fits this pattern")
    return sorted(once.values())


def open_source(
    name: str,
    split: str = FILE_SPLIT,
    revision: str = MAIN_REVISION,
    *,
    block_bytes: int = BLOCK_BYTES_TARGET,
    format_name: str = MESSAGES_FORMAT,
) -> Source:
    """Open what an entry of a mix names.

    Args:
        name: Path of a file or folder, ``-`` for standard input, a URL that fsspec knows, or name of a dataset as
            ``datasets.load_dataset`` takes it.
        split: As ``load_dataset`` takes it; a file has ``train`` alone.
        revision: Branch, tag or commit of a dataset; a file has none, so that it is not looked at.
        block_bytes: As for ``Source``.
        format_name: As for ``Source.choose_format``.

    Raises:
        SourceError: No such file or dataset, or its columns are not of the format.
        InvalidInputError: Another split of a file.
        MissingExtraError: A library is not installed that is needed for this kind of source.
    """
    warnings: tuple[str, ...] = ()
    if not _is_dataset_name(name):
        source = _open_file(name, block_bytes)
        if split != FILE_SPLIT:
            raise InvalidInputError(f"{source.name} is a file, which has only the split {FILE_SPLIT}, not {split}")
    else:
        if Path(_local(name)).is_dir():
            reader, warnings = open_folder(name, split, revision)
        else:
            reader = hub = HubReader(name, split, revision)
            warnings = hub.warnings
        source = Source(name, block_bytes=block_bytes, reader=reader)
        source.split, source.revision, source.warnings = split, revision, warnings
    source.choose_format(format_name)
    return source


def _open_file(name: str, block_bytes: int) -> Source:
    if name == STDIN:
        return _copied(STDIN, "standard input.json", _stdin(), block_bytes)
    if _URL.match(name):
        shown = _without_secrets(name)
        return _copied(shown, shown.partition("::")[0], _at_url(name, shown), block_bytes)
    return Source(name, block_bytes=block_bytes, reader=open_reader(name, _local(name)))


def _copied(name: str, suffix_of: str, pieces: Iterable[bytes], block_bytes: int) -> Source:
    """A source of bytes that can be read once: they go into a file of this process, which ends with the source."""
    suffix = next((suffix for suffix in READ_SUFFIXES if suffix_of.lower().endswith(suffix)), None)
    if suffix is None:
        raise SourceError(name, f"unknown kind of file: castore reads {', '.join(READ_SUFFIXES)}")
    descriptor, path = tempfile.mkstemp(prefix="castore-source-", suffix=suffix)
    try:
        with open(descriptor, "wb") as file:
            for piece in pieces:
                file.write(piece)
        reader = open_reader(name if name.lower().endswith(suffix) else name + suffix, path)
    except BaseException as error:
        os.unlink(path)  # noqa: PTH108
        if isinstance(error, OSError):
            said = one_line(error.strerror or error)
            raise SourceError(name, f"cannot be copied to {path}: {said}") from error
        raise
    reader.name = name
    weakref.finalize(reader, os.unlink, path)
    return Source(name, block_bytes=block_bytes, reader=reader)


def _stdin() -> Iterator[bytes]:
    stdin: BinaryIO | None = None if sys.stdin is None else sys.stdin.buffer
    if stdin is None or stdin.isatty():
        raise SourceError(STDIN, "standard input is a terminal or closed: give JSON lines through a pipe or <")
    return iter(lambda: stdin.read(_READ_BYTES), b"")


def _at_url(url: str, shown: str) -> Iterator[bytes]:
    try:
        yield from fetched(url)
    except (InvalidInputError, BackendError) as error:
        raise SourceError(shown, str(error).replace(url, shown)) from error


def _without_secrets(url: str) -> str:
    """A URL as it may be shown and recorded: without a user and password, and without what signs it."""
    shown = []
    for link in url.split("::"):
        parts = urlsplit(link)
        shown.append(
            urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", "")) if "://" in link else link
        )
    return "::".join(shown)


def _local(name: str) -> str:
    """A path with the home directory in the place of ``~``, unless something is called so."""
    if name.startswith("~") and not os.path.lexists(name):
        return os.path.expanduser(name)  # noqa: PTH111 - for a user that there is not, it keeps what was written
    return name


def _is_dataset_name(name: str) -> bool:
    """Whether a name is none of a file: ``owner/name``, ``name``, or a folder.

    Names of datasets may have points in them, so that a suffix alone makes no file.
    """
    if _spells_file(name):
        return False
    path = Path(_local(name))
    return path.is_dir() if path.exists() else spells_dataset(name)


def is_elsewhere(name: str) -> bool:
    """Whether a name is of no path: standard input, or a URL."""
    return name == STDIN or bool(_URL.match(name))


def spells_dataset(name: str) -> bool:
    """Whether a name that no file or folder has may be one of a dataset: ``owner/name`` or ``name``."""
    if _spells_file(name):
        return False
    return PurePath(name).parts[0] not in ("/", "..", "~") and name[:2] != "./" and name.count("/") <= 1


def _spells_file(name: str) -> bool:
    return not name or name == STDIN or "\0" in name or bool(_URL.match(name)) or name.lower().endswith(_FILE_SUFFIXES)
