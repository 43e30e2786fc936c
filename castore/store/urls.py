"""Which backend a URL means."""

from __future__ import annotations

import os
import sys

from castore.errors import BackendError, InvalidInputError, MissingExtraError
from castore.store.backend import Backend
from castore.store.local import LocalBackend

_EXTRAS = {
    "s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs",
    "az": "azure", "azure": "azure", "abfs": "azure", "abfss": "azure", "adl": "azure",
}  # fmt: skip


def default_place() -> str:
    """The repository where nobody says which: ``CASTORE_REPO``, else ``default_folder``."""
    return os.environ.get("CASTORE_REPO") or default_folder()


def default_folder() -> str:
    """The folder ``castore`` under the user's data directory."""
    home = os.path.expanduser("~")  # noqa: PTH111 - pathlib costs start-up
    data = f"{home}/Library/Application Support" if sys.platform == "darwin" else f"{home}/.local/share"
    return os.path.join(os.environ.get("XDG_DATA_HOME") or data, "castore")  # noqa: PTH118


def open_backend(url: str) -> Backend:
    """The backend at ``url``. Nothing is read or written yet.

    A plain path, with ``~`` for the home directory, and ``file:///path`` are a folder, for which no library is even
    imported. ``s3``, ``gs`` and ``az`` are obstore's. Everything else is fsspec's: ``memory://name`` lives as long as
    the process, ``http`` and ``https`` can be read alone.

    Raises:
        InvalidInputError: No backend can be meant.
        MissingExtraError: The library for this kind of store is not installed.
    """
    if not url or "\0" in url:
        raise InvalidInputError(f"{url!r} is no place of a repository")
    protocol, separator, path = url.partition("://")
    if not separator and "::" not in url:
        # A shell does this where it sees a path; in Python, in a variable or behind --repo= nobody has.
        return LocalBackend(os.path.expanduser(url) if url.partition("/")[0] == "~" else url)  # noqa: PTH111
    if protocol in ("file", "local"):
        if not path.startswith("/"):
            raise InvalidInputError(f"{url!r} has no absolute path: write file:///path or the path alone")
        return LocalBackend(path)
    if protocol in _EXTRAS and "::" not in url:
        from importlib.util import find_spec

        if find_spec("obstore") is None:
            raise MissingExtraError("obstore", _EXTRAS[protocol])
        from castore.store.obstore_places import open_obstore

        return open_obstore(url)
    return _open_fsspec(url)


def _open_fsspec(url: str) -> Backend:
    from fsspec.core import url_to_fs

    from castore.store.fsspec import FsspecBackend

    try:
        filesystem, root = url_to_fs(url)
    except ImportError as error:
        raise InvalidInputError(f"{url}: {' '.join(str(error).split())}") from error
    except ValueError as error:
        raise InvalidInputError(f"{url!r} is no place of a repository: {' '.join(str(error).split())}") from error
    except OSError as error:  # some connect at once
        raise BackendError(f"cannot reach {url}: {error.strerror or error}") from error
    return FsspecBackend(filesystem, root, url)
