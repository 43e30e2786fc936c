"""Names that a ref may have, in one place for all who take one."""

from __future__ import annotations

from castore.errors import InvalidInputError
from castore.format.digest import is_digest_hex

REF_NAME_MAX = 200
SEQUENCE_DIGITS = 20
_PART_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._+-")
_DIGITS = frozenset("0123456789")


def check_ref_name(name: str) -> None:
    """Refuse what cannot name a ref.

    A name is parts of letters, digits and ``. _ + -`` joined by ``/``, at most 200 characters. No part begins with a
    dot or a minus, ends with a dot or ``.lock``, has two dots in a row, or is 20 digits (which name entries). The whole
    is not 64 hexadecimal digits (which name objects).

    Raises:
        InvalidInputError: ``name`` is no such name.
    """
    if not is_ref_name(name):
        raise InvalidInputError(
            f"{name[:80]!r} cannot name a ref: use parts of letters, digits and . _ + - joined by /, that do not begin "
            f"with . or -, at most {REF_NAME_MAX} characters"
        )


def is_ref_name(name: str) -> bool:
    """Whether ``check_ref_name`` accepts ``name``."""
    if len(name) > REF_NAME_MAX or is_digest_hex(name.lower()):
        return False
    return all(_is_name_part(part) for part in name.split("/"))


def _is_name_part(part: str) -> bool:
    return (
        bool(part)
        and _PART_CHARACTERS.issuperset(part)
        and part[0] not in ".-"
        and not part.endswith((".", ".lock"))
        and ".." not in part
        and not is_sequence(part)
    )


def is_sequence(part: str) -> bool:
    """Whether a part of a key is the number of an entry."""
    return len(part) == SEQUENCE_DIGITS and _DIGITS.issuperset(part)
