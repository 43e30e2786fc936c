"""Every error that castore raises on purpose, grouped by what a caller would do about it.

::

    CastoreError                      .code is stable and append-only
    ├── InvalidInputError             the caller's words or files are wrong: say it again, right
    │   ├── SourceError               a row, file or column of the input data        (place, row, field)
    │   └── MissingExtraError         an optional library is not installed           (extra)
    ├── NotFoundError                 the thing that was named is not there
    ├── ConflictError                 somebody else moved it meanwhile: look again
    ├── FormatError                   bytes that this version cannot read
    │   ├── NotCanonicalError         readable, but not the one permitted spelling
    │   └── UnsupportedVersionError   written by a newer castore
    ├── CorruptionError               bytes that are not what their name says
    ├── BackendError                  the place where bytes live said no             (.transient: a retry may help)
    ├── SignatureError                nobody who is trusted vouches for it
    └── WorkerDiedError               a process that helped is gone: run again

Messages are one line, name the place (file, row and field, or key and digest) and say what to do where that is known.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar


class CastoreError(Exception):
    """Base of all errors raised on purpose; ``str()`` of it is one line that may be shown to a user."""

    code: ClassVar[str] = "error"


class InvalidInputError(CastoreError, ValueError):
    """What the caller gave cannot be used as it is."""

    code = "invalid-input"


class SourceError(InvalidInputError):
    """A row, file or column of the input data is wrong.

    Args:
        place: The file as the user spelled it.
        message: What is wrong, without the place.
        row: 1-based row (line) number in the file, if the fault is in one row.
        field: The field of the row, for example ``messages[2].role``.
    """

    code = "source"

    def __init__(self, place: str, message: str, *, row: int | None = None, field: str | None = None) -> None:
        where = place
        if row is not None:
            where += f", row {row}"
        if field is not None:
            where += f", {field}"
        super().__init__(f"{where}: {message}")
        self.place, self.row, self.field, self.reason = place, row, field, message


class MissingExtraError(InvalidInputError):
    """An optional library is needed and not installed.

    Args:
        library: The import that failed.
        extra: The extra of castore that brings it.
    """

    code = "missing-extra"

    def __init__(self, library: str, extra: str) -> None:
        super().__init__(f"{library} is not installed: pip install 'castore[{extra}]'")
        self.library, self.extra = library, extra


class NotFoundError(CastoreError, KeyError):
    """Something that was named does not exist."""

    code = "not-found"

    def __str__(self) -> str:
        # KeyError shows the repr of its argument, which would put quotes around a sentence.
        return str(self.args[0]) if self.args else ""


class ConflictError(CastoreError):
    """A ref moved between reading and writing it."""

    code = "conflict"


class FormatError(CastoreError):
    """Bytes that cannot be understood as what they should be."""

    code = "format"


class NotCanonicalError(FormatError):
    """Bytes that mean something but are not its one permitted spelling."""

    code = "not-canonical"


class UnsupportedVersionError(FormatError):
    """A repository or object of a format version that this castore does not know."""

    code = "unsupported-version"

    def __init__(self, what: str, found: object, supported: int) -> None:
        super().__init__(
            f"{what} has format version {found}, this castore reads up to {supported}: install a newer castore"
        )
        self.found, self.supported = found, supported

    @classmethod
    def unknown(cls, what: str) -> UnsupportedVersionError:
        """That something has a name, not a number, that this castore does not know: an algorithm, a codec, a hash."""
        error = cls(what, "?", 0)
        error.args = (f"{what} is unknown to this castore: install a newer castore",)
        return error


class CorruptionError(CastoreError):
    """Stored bytes are not what their name, size or checksum says."""

    code = "corruption"


class MissingBaseError(CorruptionError):
    """An object is stored by what it shares with another, which is missing."""

    code = "missing-base"


class BackendError(CastoreError):
    """The storage behind a repository failed.

    Attributes:
        transient: True if the same call may succeed when tried again.
        full: True if there was no more room.
    """

    code = "backend"

    def __init__(self, message: str, *, transient: bool = False, full: bool = False) -> None:
        super().__init__(message)
        self.transient, self.full = transient, full


class SignatureError(CastoreError):
    """No trusted key vouches for what a name means."""

    code = "signature"


class WorkerDiedError(CastoreError):
    """A worker process ended without an answer, most likely for want of memory."""

    code = "worker-died"


def did_you_mean(name: str, known: Iterable[str], *, mark: str = ": ", most: int = 1) -> str:
    """The end of a message about a name that is not known: behind ``mark`` what it is near to, or nothing at all.

    Args:
        name: What was written.
        known: What could have been.
        mark: What stands in front.
        most: Names that are offered at most.
    """
    from difflib import get_close_matches  # only here: it costs start-up

    close = get_close_matches(name, known, most)
    return f"{mark}did you mean {' or '.join(map(repr, close))}?" if close else ""
