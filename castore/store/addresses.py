"""What an address names: a ref, one of its earlier values, or the object whose digest begins so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from castore.errors import CastoreError, InvalidInputError, NotFoundError
from castore.format.digest import Digest, digest_hex
from castore.store.objects import PREFIX_DIGITS_MIN, ObjectStore
from castore.store.refs import RefEntry, RefStore, is_ref_name

RESOLVED_MAX = 1000
"""Objects with one digest prefix that are looked at before the prefix is called ambiguous."""

LOG_MAX = 100
"""Entries of a log, and names, that are looked at for the run record of a root."""


def resolve(address: str | Digest, refs: RefStore, objects: ObjectStore, place: str, *, suggest: bool = True) -> Digest:
    """The run record or manifest that an address names: ``name``, ``name@{n}``, or the beginning of a digest.

    Args:
        address: The address; a digest as bytes is taken whole.
        refs: Names of the repository.
        objects: Its objects.
        place: What messages call it.
        suggest: Whether an error says which names may be meant, for which they are listed.

    Raises:
        NotFoundError: Nothing has that name.
        InvalidInputError: More than one object has a digest that begins so.
    """
    if isinstance(address, bytes):
        return _by_prefix(digest_hex(address), objects, place)
    if not isinstance(address, str):
        raise TypeError(f"a dataset is asked for by name or digest, not by {type(address).__name__}")
    entry = named_entry(address, refs, place, suggest=suggest)
    if entry is not None:
        return _target(entry, address, refs)
    if len(address) >= PREFIX_DIGITS_MIN and not address.strip("0123456789abcdef"):
        return _by_prefix(address, objects, place)
    raise nothing_called(address, refs, place, suggest=suggest)


def named_entry(address: str, refs: RefStore, place: str, *, suggest: bool = True) -> RefEntry | None:
    """The entry of a log that ``name`` or ``name@{n}`` means; None where the address is neither or there is no log.

    Raises:
        NotFoundError: The log is not that long.
        InvalidInputError: It is spelled as such an address and is none.
    """
    name, _, back = address.partition("@{")
    if not back:
        return refs.read(address) if is_ref_name(address) else None
    is_number = back.isascii() and back[:-1].isdecimal() and len(back) <= 18
    if not back.endswith("}") or not is_number:
        raise InvalidInputError(f"{address!r} is no address: write name@{{2}} for the second value back")
    try:
        return refs.at(name, int(back[:-1]))
    except NotFoundError:
        if refs.current_sequence(name) < 0:
            raise nothing_called(address, refs, place, suggest=suggest) from None
        raise


def nothing_called(name: str, refs: RefStore, place: str, *, suggest: bool = True) -> NotFoundError:
    """The error that says that nothing has a name, with the names that it may be meant for.

    Args:
        name: The name, or an address that begins with one.
        refs: Names of the repository.
        place: What messages call it.
        suggest: Whether to list the names for it.
    """
    from difflib import get_close_matches  # only here: it costs start-up

    plain, mark, back = name.partition("@{")
    near: list[str] = []
    with suppress(CastoreError):  # what is to be said is that there is no such name
        close = get_close_matches(plain, refs.all_names() if suggest else [])
        near = [other for other in close if refs.current(other) is not None]
    hint = "'castore ls' lists the names"
    if near:
        hint = f"did you mean {' or '.join(repr(other + mark + back) for other in near)}?"
    return NotFoundError(f"{place} has nothing called {name!r}: {hint}")


def meanings(name: str, refs: RefStore) -> Iterator[Digest]:
    """What a name has meant, newest first, then what the other names mean; no more than ``LOG_MAX`` of each."""
    log = refs.log(name)[:LOG_MAX] if is_ref_name(name) else []
    yield from (entry.target for entry in log if entry.target is not None)
    for other in refs.names()[:LOG_MAX]:
        target = refs.current(other)
        if target is not None:
            yield target


def _target(entry: RefEntry, address: str, refs: RefStore) -> Digest:
    if entry.target is None:
        back = refs.current_sequence(entry.name) - entry.sequence + 1
        raise NotFoundError(f"{address} was removed: '{entry.name}@{{{back}}}' is what it was before")
    return entry.target


def _by_prefix(prefix: str, objects: ObjectStore, place: str) -> Digest:
    begin_so = objects.resolve(prefix)
    if len(begin_so) > RESOLVED_MAX:
        raise InvalidInputError(f"{prefix} begins the digests of {len(begin_so)} objects: give more digits")
    found = [digest for digest in begin_so if _is_document(objects.get(digest))]
    if not found:
        raise NotFoundError(f"{place} has no name and no run with a digest that begins with {prefix}")
    if len(found) > 1:
        raise InvalidInputError(f"{prefix} begins the digests of {len(found)} runs: give more digits")
    return found[0]


def _is_document(data: bytes) -> bool:
    # Most addresses are names, which need none of this.
    from castore.format.fields import kind_of
    from castore.format.manifest import MANIFEST_KIND
    from castore.format.run import RUN_KIND

    return kind_of(data) in (RUN_KIND, MANIFEST_KIND)
