"""Writing a page: whole or not at all, and never over what is no page."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from typing import TYPE_CHECKING

from castore.errors import InvalidInputError
from castore_cli.progress import Meter

if TYPE_CHECKING:
    from castore_cli.diff_page import Page


def write_page(path: str, page: Page, limit: int, context: int, *, quiet: bool) -> None:
    """Render a page into a file. What was there stays until the new page is complete.

    Raises:
        InvalidInputError: There is something else than an earlier page.
    """
    _check(path)
    with Meter("reading samples", "samples", quiet=quiet) as meter:
        content = page.render(limit=limit, context=context, report=meter.update)
    folder = os.path.dirname(path) or "."  # noqa: PTH120 - pathlib costs start-up
    handle, temporary = tempfile.mkstemp(prefix=".castore-page-", dir=folder)
    try:
        with open(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())  # noqa: PTH101 - mkstemp makes it private
        os.replace(temporary, path)  # noqa: PTH105
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)  # noqa: PTH108
        raise


def _check(path: str) -> None:
    """Refuse to overwrite what is no page, before anything is compared for it."""
    from castore_cli.diff_page import MARK

    if not os.path.lexists(path):
        return
    if not os.path.isfile(path):  # noqa: PTH113
        raise InvalidInputError(f"{path} is not a file: no page is written there")
    with open(path, "rb") as file:
        begin = file.read(len(MARK))
    if begin not in (b"", MARK):
        raise InvalidInputError(f"{path} exists and is no page of castore diff: it is not overwritten")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
