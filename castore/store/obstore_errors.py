"""What an error of obstore means: whether asking again may help, and what a user can use of it."""

from __future__ import annotations

import re

from obstore import exceptions

_TRANSIENT = ("timed out", "timeout", "error sending request", "connection", "50 Internal", "503 ", "502 ", "504 ")
_NO_BUCKET = ("NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist")
# What is said of a part that begins at the end of a value or beyond: by servers, of which some send an empty value
# whole, and by the library of an answer that is not what was asked for.
_NO_PART = ("416 ", "non-partial response", "Wanted range starting at")
_XML_MESSAGE = re.compile(r"<Code>(?P<code>[^<]*)</Code>(?:.*?<Message>(?P<text>[^<]*)</Message>)?", re.DOTALL)
_STATUS = re.compile(r"status code: (\d{3}[^:]*)")


def is_transient(error: BaseException) -> bool:
    """Whether a request that failed so may have been taken, or may be when it is sent again."""
    if isinstance(error, (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError)):
        return False
    text = str(error).partition("Debug source")[0]
    status = _STATUS.search(text)
    if status is not None:
        return status[1].startswith("5") or status[1].startswith("429")
    return any(sign in text.lower() for sign in _TRANSIENT)


def is_no_bucket(error: FileNotFoundError) -> bool:
    """Whether the bucket is missing, and not only the value."""
    return any(sign in str(error) for sign in _NO_BUCKET)


def is_no_part(error: BaseException) -> bool:
    """Whether the part of a value that was asked for may lie beyond its end, or cannot be asked for in this way."""
    if isinstance(error, exceptions.NotSupportedError):
        return True
    text = str(error).partition("Debug source")[0]
    status = _STATUS.search(text)
    return any(sign in (text if status is None else status[1]) for sign in _NO_PART)


def reason(error: BaseException) -> str:
    """What a user can use of an error of obstore, on one line."""
    text = str(error).partition("Debug source")[0]
    if isinstance(error, exceptions.UnauthenticatedError):
        return "the store does not know these credentials"
    xml = _XML_MESSAGE.search(text)
    if xml is not None:
        return " ".join(f"{xml['code']}: {xml['text'] or ''}".split()).rstrip(":")[:500]
    status = _STATUS.search(text)
    if status is not None:
        return " ".join(status[1].split())[:200]
    # Chained reasons are joined by " - "; the last one is the cause.
    return " ".join(text.split())[:500] or type(error).__name__
