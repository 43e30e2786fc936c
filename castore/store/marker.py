"""The marker that makes a place a repository: the key ``format``.

It is plain text, so that a person who finds the folder knows what it is. It is written before anything else and never
changes; a repository of another format has another number in it.
"""

from __future__ import annotations

from castore.errors import BackendError, FormatError, NotFoundError, UnsupportedVersionError
from castore.store.backend import Backend

FORMAT_KEY = "format"
FORMAT_VERSION = 1

_PREFIX = b"castore repository, format "
MARKER_BYTES_MAX = 1024  # the key is of a common name: a foreign file should be called foreign, not too large


def open_layout(backend: Backend, create: bool) -> None:
    """Make sure that ``backend`` holds a repository that this version can read.

    Args:
        backend: The place.
        create: Make it a repository if it is empty. Any number of processes may do so at once.

    Raises:
        NotFoundError: There is nothing at the place and ``create`` is False.
        FormatError: There is something, and it is no repository.
        UnsupportedVersionError: The repository is of a newer format.
    """
    marker = backend.get(FORMAT_KEY, MARKER_BYTES_MAX)
    if marker is None and _is_empty(backend):
        if not create:
            raise NotFoundError(f"there is no castore repository at {backend.url}")
        backend.create(FORMAT_KEY, _PREFIX + b"%d\n" % FORMAT_VERSION)
        marker = backend.get(FORMAT_KEY, MARKER_BYTES_MAX)
        if marker is None:
            raise BackendError(f"{backend.url}: {FORMAT_KEY!r} was stored and is not there", transient=True)
    elif marker is None:
        # Not empty may mean that another process made it a repository since the first look.
        marker = backend.get(FORMAT_KEY, MARKER_BYTES_MAX)
        if marker is None:
            raise FormatError(f"{backend.url} is neither empty nor a castore repository: it has no file {FORMAT_KEY!r}")
    check_marker_bytes(marker, backend.url)


def _is_empty(backend: Backend) -> bool:
    return next(iter(backend.list("")), None) is None


def check_marker_bytes(marker: bytes, url: str) -> None:
    """Refuse a marker that is not spelled as one, or is of a newer format; ``url`` is the place for the message."""
    number = marker.removeprefix(_PREFIX).removesuffix(b"\n")
    if marker != _PREFIX + number + b"\n" or not number.isdigit() or len(number) > 9 or number.startswith(b"0"):
        raise FormatError(f"{url} is no castore repository: its file {FORMAT_KEY!r} says something else")
    if int(number) > FORMAT_VERSION:
        raise UnsupportedVersionError(f"the repository {url}", int(number), FORMAT_VERSION)
