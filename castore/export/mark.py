"""The mark that an export leaves in its folder, and by which ``--replace`` knows what may be removed.

``.castore-export.json`` lists every file that the export wrote. A folder is replaced only if it has a mark and holds
nothing else: no file, link, folder or pipe that the mark does not name, and none that is another than was written. The
name begins with a dot, so that readers of folders (pyarrow, datasets, Streaming, OLMo-core) pass over it.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from blake3 import blake3

from castore.errors import InvalidInputError
from castore.store.files import open_regular, sync, write_whole

MARK_FILE = ".castore-export.json"

END_BYTES = 1 << 19
"""Bytes at the beginning and at the end of a file that its digest covers: all of a file that has no more of them."""

_VERSION = 1
_MARK_BYTES_MAX = 1 << 28


class _Written(NamedTuple):
    """A file as it was written: its bytes, and BLAKE3 of its two ends, 64 hex digits."""

    size: int
    ends: str


class NotOursError(InvalidInputError):
    """A folder is not, or not only, what an export wrote; the message says why."""


def write_mark(folder: Path) -> None:
    """Name every file in a folder, however deep, in its mark.

    Equal files make equal marks.

    Raises:
        OSError: In any call.
    """
    files = {name: _look(path) for name, path in sorted(_files(folder))}
    entries = {name: {"bytes": written.size, "ends_blake3": written.ends} for name, written in files.items()}
    document = {"written_by": "castore export", "version": _VERSION, "files": entries}
    write_whole(folder / MARK_FILE, json.dumps(document, indent=1).encode())
    sync(folder)


def check_marked(folder: Path, shown: Path) -> list[str]:
    """What an export has in its folder, as names relative to it, a folder before what is in it; if it is all there is.

    Args:
        folder: What may be removed.
        shown: What it is called in messages.

    Raises:
        NotOursError: There is no mark; or something that it does not name, or that was changed since, or unreadable.
    """
    files, marked_ns = _read_mark(folder, shown)
    found = []
    try:
        for name, entry in _entries(folder, ""):
            fault = None if name == MARK_FILE else _fault(name, entry, files, marked_ns)
            if fault is not None:
                how = "it is not replaced; move that away, or give another folder"
                raise NotOursError(f"{shown} holds {name!r}, which {fault}: {how}")
            found.append(name)
    except OSError as error:
        inside = shown / Path(os.fsdecode(error.filename or "")).relative_to(folder)
        raise NotOursError(f"{inside} cannot be read ({error.strerror or error}): {shown} is not replaced") from None
    return found


def remove_marked(folder: Path, names: list[str]) -> None:
    """Remove what ``check_marked`` found, and the folder; what came into it since stays, and is an error.

    Raises:
        OSError: Something cannot be removed. The mark goes last, so that it can be tried again.
    """
    for name in reversed(names):
        path = folder / name
        if name != MARK_FILE:
            with suppress(FileNotFoundError):
                path.rmdir() if stat.S_ISDIR(path.lstat().st_mode) else path.unlink()
    left = sorted(path.name for path in folder.iterdir() if path.name != MARK_FILE)
    if left:
        raise FileExistsError(errno.ENOTEMPTY, f"{left[0]!r} came into it", os.fspath(folder))
    (folder / MARK_FILE).unlink(missing_ok=True)
    folder.rmdir()


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    for name, entry in _entries(folder, ""):
        if not entry.is_dir(follow_symlinks=False):
            yield name, Path(entry.path)


def _entries(folder: Path, above: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """All that is in a folder and below it, by name; a link is one entry, and is not followed.

    A folder comes before what is in it.
    """
    with os.scandir(folder) as entries:
        listed = sorted(entries, key=lambda entry: entry.name)
    for entry in listed:
        name = above + entry.name
        yield name, entry
        if entry.is_dir(follow_symlinks=False):
            yield from _entries(Path(entry.path), f"{name}/")


def _look(path: Path) -> _Written:
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        hasher = blake3(file.read(END_BYTES))
        file.seek(max(END_BYTES, size - END_BYTES))
        hasher.update(file.read(END_BYTES))
    return _Written(size, hasher.hexdigest())


def _fault(name: str, entry: os.DirEntry[str], files: Mapping[str, _Written], marked_ns: int) -> str | None:
    """Why an entry is not what the mark says; None if it is."""
    try:
        status = entry.stat(follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            return None if any(known.startswith(f"{name}/") for known in files) else "is a folder of somebody else's"
        if stat.S_ISLNK(status.st_mode):
            return "is a link"
        if not stat.S_ISREG(status.st_mode):
            return "is not a file"
        written = files.get(name)
        if written is None:
            return "the export there did not write"
        if status.st_size != written.size:
            return f"has {status.st_size} bytes where the export wrote {written.size}"
        # Of a long file only the ends are compared; one that was written to afterwards is newer than the mark.
        changed = status.st_size > 2 * END_BYTES and status.st_mtime_ns > marked_ns
        if changed or _look(Path(entry.path)) != written:
            return "was changed since the export wrote it"
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    return None


def _read_mark(folder: Path, shown: Path) -> tuple[Mapping[str, _Written], int]:
    """The files that a mark names, and when it was written, in nanoseconds since 1970."""
    path = folder / MARK_FILE
    how = "it is not replaced; remove it yourself if nothing in it is needed, or give another folder"
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            raise NotOursError(f"{shown}: {MARK_FILE}, by which an export is known, is not a file: {how}")
        with open_regular(path) as file:
            content = file.read(_MARK_BYTES_MAX)
    except FileNotFoundError:
        raise NotOursError(f"{shown} has no {MARK_FILE}, by which an export is known: {how}") from None
    except OSError as error:
        raise NotOursError(
            f"{shown}: {MARK_FILE}, by which an export is known, cannot be read ({error.strerror or error}): {how}"
        ) from None
    try:
        return _files_of(json.loads(content)), status.st_mtime_ns
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise NotOursError(f"{shown}: {MARK_FILE} is not what an export writes: {how}") from None


def _files_of(document: Any) -> Mapping[str, _Written]:
    if document["written_by"] != "castore export" or document["version"] != _VERSION:
        raise ValueError
    return {name: _Written(entry["bytes"], entry["ends_blake3"]) for name, entry in document["files"].items()}
