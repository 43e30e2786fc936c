"""Writing a page: whole or not at all, and never over what is no page."""

from __future__ import annotations

import os

from castore.errors import BackendError, InvalidInputError
from castore.store.files import is_full, open_regular, sweep, write_whole


def write_file(path: str, content: bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        BackendError: The operating system refused; what was there stays.
    """
    try:
        sweep(os.path.dirname(path))  # noqa: PTH120
        write_whole(path, content)
    except OSError as error:
        raise BackendError(f"{path}: {error.strerror or error}", full=is_full(error)) from error


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
    with open_regular(path) as file:
        begin = file.read(len(mark))
    if begin not in (b"", mark):
        raise InvalidInputError(f"{path} exists and is no page of {command}: it is not overwritten")
