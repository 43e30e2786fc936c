"""Writing a page: whole or not at all, and never over what is no page."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress

from castore.errors import BackendError, InvalidInputError


def write_file(path: str, content: bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        BackendError: The operating system refused; what was there stays.
    """
    temporary = ""
    try:
        folder = os.path.dirname(path) or "."  # noqa: PTH120 - pathlib costs start-up
        handle, temporary = tempfile.mkstemp(prefix=".castore-page-", dir=folder)
        with open(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())  # noqa: PTH101 - mkstemp makes it private
        os.replace(temporary, path)  # noqa: PTH105
    except BaseException as error:
        if temporary:
            with suppress(OSError):
                os.unlink(temporary)  # noqa: PTH108
        if isinstance(error, OSError):
            raise BackendError(f"{path}: {error.strerror or error}") from error
        raise


def check_page(path: str, mark: bytes, command: str) -> None:
    """Refuse to overwrite what is no page.

    Args:
        path: Where a page is to be.
        mark: What pages of this kind begin with.
        command: Which writes them.

    Raises:
        InvalidInputError: There is something else than an earlier page, or no folder for one.
    """
    if not path:
        raise InvalidInputError("'' is no file to write the page in")
    if not os.path.isdir(os.path.dirname(path) or "."):  # noqa: PTH112, PTH120
        raise InvalidInputError(f"{path}: there is no folder to write the page in")
    if not os.path.lexists(path):
        return
    if not os.path.isfile(path):  # noqa: PTH113
        raise InvalidInputError(f"{path} is not a file: no page is written there")
    with open(path, "rb") as file:
        begin = file.read(len(mark))
    if begin not in (b"", mark):
        raise InvalidInputError(f"{path} exists and is no page of {command}: it is not overwritten")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
