"""Which names are protected: moving or removing one needs ``--force`` and a reason.

The key ``protected`` of a repository is text, a pattern a line: ``*`` stands for any characters. Without the key
``golden/*`` is protected; with an empty one nothing is. It keeps people from slips, and nobody from anything.
"""

from __future__ import annotations

from castore.errors import FormatError, InvalidInputError
from castore.store.backend import Backend

PROTECTED_KEY = "protected"
DEFAULT = "golden/*"

_BYTES_MAX = 64 * 1024


def protected_patterns(backend: Backend) -> list[str]:
    """The patterns of protected names.

    Raises:
        FormatError: The key holds no text.
    """
    data = backend.get(PROTECTED_KEY, _BYTES_MAX)
    if data is None:
        return [DEFAULT]
    try:
        lines = data.decode().splitlines()
    except UnicodeDecodeError as error:
        raise FormatError(f"{PROTECTED_KEY} in {backend.url} is no text: write a pattern a line") from error
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def is_protected(backend: Backend, name: str) -> bool:
    """Whether a name is protected in this repository."""
    return any(_matches(name, pattern) for pattern in protected_patterns(backend))


def check_unprotected(backend: Backend, name: str, message: str, *, force: bool) -> None:
    """Refuse to move or remove a protected name without force and a reason.

    Raises:
        InvalidInputError: It is protected, and one of the two is missing.
    """
    if not is_protected(backend, name):
        return
    if not force:
        raise InvalidInputError(f"{name} is protected: give --force, and the reason with --message")
    if not message.strip():
        raise InvalidInputError(f"{name} is protected: --force wants the reason with --message")


def _matches(name: str, pattern: str) -> bool:
    """Whether a pattern covers a whole name. Only ``*`` is special, and backtracking is linear in the pattern."""
    first, *rest = pattern.split("*")
    if not rest:
        return name == pattern
    if not name.startswith(first) or not name.endswith(rest[-1]):
        return False
    at = len(first)
    for part in rest[:-1]:
        found = name.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    return at <= len(name) - len(rest[-1])
