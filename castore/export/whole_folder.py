"""A folder that is written whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from castore.errors import BackendError, InvalidInputError
from castore.store.files import sync

T = TypeVar("T")

EXPORTED = re.compile(
    r"token_ids_part_[0-9]{4,}\.(npy|csv\.gz)|labels_mask_part_[0-9]{4,}\.npy|dataset_statistics\.(json|txt)|tokenizer"
    r"|(token_ids|labels_mask)\.(bin|idx)"
    r"|index\.json|shard\.[0-9]{5,}\.mds"
    r"|part-[0-9]{5,}\.parquet"
)
"""Names that an export has at its top, of every layout: a folder with any other name in it is never replaced."""


def write_folder(folder: str, write: Callable[[Path], T], *, replace: bool = False) -> T:
    """Let ``write`` fill a folder beside ``folder`` and rename it when that is done.

    Args:
        folder: Must not exist or be empty, unless ``replace`` allows to replace what it holds.
        write: Writes durable files into the folder that it is given, and the names in it (``castore.store.files``).
        replace: Replace a folder that holds an earlier export, and nothing else.

    Returns:
        What ``write`` returns.

    Raises:
        InvalidInputError: The folder holds something that may not be replaced, or cannot be written.
        BackendError: The operating system refused; the folder stays as it was.
    """
    if not folder:
        raise InvalidInputError("'' is no folder")
    shown = Path(folder)
    with _os_errors(shown):
        target = Path(os.path.realpath(folder))  # a link is followed, since the folder itself is renamed
        _check_target(target, shown, replace)
        target.parent.mkdir(parents=True, exist_ok=True)
        part = _beside(target)
        part.mkdir()
        try:
            done = write(part)
            _put_in_place(part, target, shown, replace)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
    return done


def _check_target(target: Path, shown: Path, replace: bool) -> None:
    if not target.name:
        raise InvalidInputError(f"{shown} cannot be replaced: give a folder in it")
    if target.exists() and not target.is_dir():
        raise InvalidInputError(f"{shown} is not a folder")
    if target.is_dir() and any(target.iterdir()) and not replace:
        raise _occupied(shown)
    if target.is_dir():
        _check_replaceable(target, shown)


def _check_replaceable(old: Path, shown: Path) -> None:
    """Refuse to remove what no export has written: a wrong path must not cost a home folder, or the repository."""
    for name in sorted(path.name for path in old.iterdir()):
        if not EXPORTED.fullmatch(name):
            raise InvalidInputError(f"{shown} holds {name!r}, which is no part of an export: it is not replaced")


def _occupied(shown: Path) -> InvalidInputError:
    return InvalidInputError(
        f"{shown} already holds files: give another folder, or --replace to replace an earlier export"
    )


def _beside(target: Path) -> Path:
    """A hidden name next to a folder that no other export uses, on this or another machine."""
    return target.with_name(f".{target.name[:200]}.castore-{os.getpid()}-{os.urandom(4).hex()}")


class _os_errors:  # noqa: N801 - used as a function
    """Errors of the operating system as one line that names the folder."""

    def __init__(self, target: Path) -> None:
        self._target = target

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise BackendError(f"{self._target}: {error.strerror or error}; nothing was left half-written") from error


def _put_in_place(part: Path, target: Path, shown: Path, replace: bool) -> None:
    """Rename the finished folder; an old one is moved aside first and deleted last."""
    old = None
    if replace and target.is_dir():
        old = _beside(target)
        target.rename(old)
    try:
        if old is not None:
            _check_replaceable(old, shown)  # once more: nothing can enter by its name any longer
        part.rename(target)  # takes the place of an empty folder, and of no other
        try:
            sync(target.parent)
        except OSError:
            target.rename(part)
            raise
    except (OSError, InvalidInputError) as error:
        if old is not None:
            old.rename(target)
        if isinstance(error, OSError) and error.errno in (
            errno.ENOTEMPTY,
            errno.EEXIST,
        ):  # filled by somebody else meanwhile
            raise _occupied(shown) from error
        raise
    if old is not None:
        shutil.rmtree(old)
