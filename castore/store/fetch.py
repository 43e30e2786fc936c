"""Files of others at a URL, by fsspec: brought into a file of this machine in one pass."""

from __future__ import annotations

from collections.abc import Iterator

from castore.errors import BackendError, InvalidInputError

_READ_BYTES = 1024 * 1024


def fetched(url: str) -> Iterator[bytes]:
    """The bytes of the file at a URL, in pieces of bounded size.

    Raises:
        InvalidInputError: No such protocol, or its library is not installed: the text says which.
        BackendError: No such file, no permission, or the place fails.
    """
    from fsspec.core import url_to_fs

    try:
        filesystem, path = url_to_fs(url)
        with filesystem.open(path, "rb") as file:
            while piece := file.read(_READ_BYTES):
                yield piece
    except ImportError as error:
        raise InvalidInputError(f"another library is needed to read it: {_said(error)}") from error
    except ValueError as error:
        raise InvalidInputError(f"cannot be read: {_said(error)}") from error
    except FileNotFoundError as error:
        raise BackendError("there is no such file") from error
    except Exception as error:  # each filesystem of fsspec has errors of its own library
        raise BackendError(f"cannot be read: {_said(error)}") from error


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
