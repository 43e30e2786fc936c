"""Refs: names that people give, each an append-only log of what it meant.

::

    refs/<name>/<20 digits>    a record (``records``) of the msgpack array
                               ["castore/ref", 1, name, sequence, target: bin 32 | nil,
                                time_s, author, message, nonce: bin 16]

The first entry has sequence 0, the next is one more, the newest counts. An entry is written by create-if-absent only:
of two writers that both saw entry n, one makes entry n+1 and the other is told so. That is a compare-and-swap on every
store that can create atomically, without locks, and the log of who moved a ref comes with it. Entries are never removed
or changed; a target of nil says that the ref was removed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from time import monotonic, sleep
from typing import TypeAlias, cast

from castore.errors import (
    BackendError,
    ConflictError,
    CorruptionError,
    FormatError,
    InvalidInputError,
    NotCanonicalError,
    NotFoundError,
    UnsupportedVersionError,
)
from castore.format.code_points import is_unsafe
from castore.format.codec import Value, decode, encode
from castore.format.digest import DIGEST_BYTES, Digest, digest_hex
from castore.frozen import frozen
from castore.store.backend import Backend, everything
from castore.store.records import Holds, RecordKind, seal, unseal
from castore.store.ref_names import REF_NAME_MAX as REF_NAME_MAX
from castore.store.ref_names import SEQUENCE_DIGITS, is_sequence
from castore.store.ref_names import check_ref_name as check_ref_name
from castore.store.ref_names import is_ref_name as is_ref_name

REF_ENTRY_VERSION = 1
ENTRY_BYTES_MAX = 64 * 1024

_KIND = "castore/ref"
_NONCE_BYTES = 16
_SEQUENCE_MAX = 2**63 - 1
# Each round that is lost means that another writer has won it: this many only happens to a writer that is stuck.
_UPDATE_ROUNDS = 1000
_PAUSE_MAX_S = 1.0


@frozen
class RefEntry:
    """One step of a ref.

    Attributes:
        name: The ref.
        sequence: 0 for the first entry of the ref, then ascending by one.
        target: What the ref means from here on; None if it was removed.
        time_s: Seconds since 1970, by the clock of the writer.
        author: Who, in the writer's words.
        message: Why, in the writer's words.
        nonce: 16 random bytes, so that a writer whose answer was lost can tell its own entry from a rival's.
    """

    name: str
    sequence: int
    target: Digest | None
    time_s: int
    author: str
    message: str
    nonce: bytes = b"\0" * 16

    def __post_init__(self) -> None:
        check_ref_name(self.name)
        if not 0 <= self.sequence <= _SEQUENCE_MAX or not 0 <= self.time_s <= _SEQUENCE_MAX:
            raise InvalidInputError(f"ref {self.name}: sequence {self.sequence} or time {self.time_s} is out of range")
        if self.target is not None and len(self.target) != DIGEST_BYTES:
            raise InvalidInputError(f"ref {self.name}: a target takes {DIGEST_BYTES} bytes, not {len(self.target)}")
        if len(self.nonce) != _NONCE_BYTES:
            raise InvalidInputError(f"ref {self.name}: a nonce takes {_NONCE_BYTES} bytes, not {len(self.nonce)}")

    def encode(self) -> bytes:
        """The stored bytes of the entry.

        Raises:
            InvalidInputError: They would exceed ``ENTRY_BYTES_MAX``.
        """
        data = seal(self._payload())
        if len(data) > ENTRY_BYTES_MAX:
            raise InvalidInputError(f"ref {self.name}: the message is too long ({len(data)} > {ENTRY_BYTES_MAX} bytes)")
        return data

    @classmethod
    def decode(cls, name: str, sequence: int, data: bytes, what: str) -> RefEntry:
        """The entry in the bytes that are stored as ``sequence`` of ``name``.

        Raises:
            CorruptionError: The bytes do not match their checksum, or belong to another place in the log.
            UnsupportedVersionError: They were written by a newer castore.
            NotCanonicalError: They are an entry, spelled in another way than the permitted one.
            FormatError: They are no entry.
        """
        payload = unseal(data, what)
        try:
            fields = decode(payload)
        except NotCanonicalError as error:
            raise NotCanonicalError(f"{what}: {error}") from error
        except FormatError as error:
            raise FormatError(f"{what} is no ref entry: {error}") from error
        if not isinstance(fields, list) or len(fields) < 2 or fields[0] != _KIND or type(fields[1]) is not int:
            raise FormatError(f"{what} is no ref entry")
        if fields[1] != REF_ENTRY_VERSION:
            raise UnsupportedVersionError(what, fields[1], REF_ENTRY_VERSION)
        if [type(field) for field in fields[2:]] not in (_TYPES, _TYPES_REMOVED):
            raise FormatError(f"{what} is no ref entry: its fields have other types")
        found_name, found, target, time_s, author, message, nonce = cast(_Fields, tuple(fields[2:]))
        if (found_name, found) != (name, sequence):
            raise CorruptionError(f"{what} holds entry {found} of {found_name!r}: it was moved or copied here")
        try:
            return cls(name, sequence, target, time_s, author, message, nonce)
        except InvalidInputError as error:
            raise FormatError(f"{what} is no ref entry: {error}") from error

    def _payload(self) -> bytes:
        head: list[Value] = [_KIND, REF_ENTRY_VERSION, self.name, self.sequence, self.target]
        return encode([*head, self.time_s, self.author, self.message, self.nonce])

    def check_text(self) -> None:
        """Refuse an author or message that no writer may store: one that a terminal would obey.

        Which characters these are is a list of code points, so that it is one on every machine. A reader takes every
        text, and spells out what it shows: an entry can never be taken back.

        Raises:
            InvalidInputError: There is such a character.
        """
        for what, text, permitted in (("author", self.author, ""), ("message", self.message, "\n\t")):
            for character in text:
                if is_unsafe(ord(character)) and character not in permitted:
                    raise InvalidInputError(
                        f"ref {self.name}: the {what} contains the unprintable character {character!r}"
                    )


_Fields: TypeAlias = tuple[str, int, Digest | None, int, str, str, bytes]
_TYPES = [str, int, bytes, int, str, str, bytes]
_TYPES_REMOVED = [str, int, type(None), int, str, str, bytes]


class RefStore:
    """The refs of a repository, on a backend whose ``create`` is atomic."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def read(self, name: str) -> RefEntry | None:
        """The newest entry of a ref; None if there never was one. Its target is None if the ref was removed."""
        newest = self._newest(name)
        return None if newest is None else self._entry(name, newest)

    def current(self, name: str) -> Digest | None:
        """What a ref means now; None if it does not exist."""
        return None if (entry := self.read(name)) is None else entry.target

    def current_sequence(self, name: str) -> int:
        """Sequence of the newest entry of a ref that has entries; -1 if it has none."""
        newest = self._newest(name)
        return -1 if newest is None else newest

    def log(self, name: str) -> list[RefEntry]:
        """All entries of a ref, newest first; empty if there never was one.

        Raises:
            CorruptionError: An entry is missing or damaged.
        """
        sequences = self._sequences(name)
        if sequences != list(range(len(sequences))):
            missing = next(i for i, sequence in enumerate(sequences) if i != sequence)
            place = f"the log of ref {name} in {self._backend.url}"
            raise CorruptionError(f"{place} has no entry {missing}, but later ones")
        return [self._entry(name, sequence) for sequence in reversed(sequences)]

    def entry(self, name: str, sequence: int) -> RefEntry:
        """One entry of a log.

        Raises:
            CorruptionError: It is missing or damaged.
        """
        return self._entry(name, sequence)

    def at(self, name: str, n: int) -> RefEntry:
        """The ``n``-th entry before the newest, as in ``name@{n}``; 0 is the newest.

        Raises:
            NotFoundError: The log is not that long.
        """
        newest = self._newest(name)
        if newest is None:
            raise NotFoundError(f"there is no ref {name} in {self._backend.url}")
        if not 0 <= n <= newest:
            raise NotFoundError(f"ref {name} has no entry @{{{n}}}: its log has {newest + 1}")
        return self._entry(name, newest - n)

    def names(self) -> list[str]:
        """The refs that exist, sorted. Files that are not called as an entry would be are passed over.

        A ref whose newest entry is damaged or unreadable is listed: reading it says what is wrong, and the others are
        not hidden. ``BackendError`` if there may be refs that cannot be seen.
        """
        newest: dict[str, int] = {}
        for name, sequence in self._entries(REFS.folder, whole=True):
            newest[name] = max(sequence, newest.get(name, 0))
        return sorted(name for name, sequence in newest.items() if self._is_listed(name, sequence))

    def all_names(self) -> list[str]:
        """The refs that have a log, those that were removed among them, sorted. One listing, and no entry is read."""
        return sorted({name for name, _ in self._entries(REFS.folder, whole=True)})

    def _is_listed(self, name: str, sequence: int) -> bool:
        try:
            return self._entry(name, sequence).target is not None
        except (CorruptionError, FormatError, BackendError):
            return True

    def require_writable(self) -> None:
        """Refuse now what would be refused after hours of work: a store in which no name can be written safely.

        Raises:
            BackendError: The store's conditional create does not hold under a race (``atomic_create``).
        """
        if getattr(self._backend, "needs_probe", False):
            from castore.store.atomic_create import require_atomic_create

            require_atomic_create(self._backend)

    def compare_and_set(
        self, name: str, expected: Digest | None, new: Digest | None, *, time_s: int, author: str, message: str
    ) -> RefEntry:
        """Move a ref from what it is expected to mean to something new, atomically.

        All objects that ``new`` reaches must be durable already. On return the move is durable and visible to
        everybody.

        Args:
            name: The ref.
            expected: What the caller last saw; None if no such ref exists.
            new: What the ref shall mean; None removes it (its log stays).
            time_s: Seconds since 1970.
            author: Who moves it: one line.
            message: Why.

        Raises:
            ConflictError: The ref means something else, or another writer moved it at the same moment. Nothing was
                written; look again and decide.
            NotFoundError: A ref that does not exist cannot be removed.
        """
        self.require_writable()
        before = self.read(name)
        found = None if before is None else before.target
        if found != expected:
            raise _conflict(name, expected, found)
        if new is None and found is None:
            raise NotFoundError(f"there is no ref {name} in {self._backend.url}")
        entry = self._append(name, before, new, time_s, author, message)
        if entry is None:
            raise _conflict(name, expected, self.current(name))
        return entry

    def update(self, name: str, new: Digest | None, *, time_s: int, author: str, message: str) -> RefEntry:
        """Move a ref whatever it means now; the last of several writers wins and all are in the log.

        Raises:
            NotFoundError: A ref that does not exist cannot be removed.
        """
        self.require_writable()
        for lost in range(_UPDATE_ROUNDS):
            began = monotonic()
            before = self.read(name)
            if new is None and (before is None or before.target is None):
                raise NotFoundError(f"there is no ref {name} in {self._backend.url}")
            entry = self._append(name, before, new, time_s, author, message)
            if entry is not None:
                return entry
            _pause(lost, monotonic() - began)
        raise ConflictError(f"ref {name} was moved by others {_UPDATE_ROUNDS} times in a row: try again later")

    def _append(
        self, name: str, before: RefEntry | None, new: Digest | None, time_s: int, author: str, message: str
    ) -> RefEntry | None:
        """Write the entry after ``before``; None if another writer was first."""
        sequence = 0 if before is None else before.sequence + 1
        entry = RefEntry(name, sequence, new, time_s, author, message, os.urandom(_NONCE_BYTES))
        entry.check_text()
        made = self._backend.create(entry_key(name, sequence), entry.encode())
        # A store that tried again after a lost answer says "exists" of our own entry.
        return entry if made or self._entry(name, sequence) == entry else None

    def _newest(self, name: str) -> int | None:
        return max(self._sequences(name), default=None)

    def _sequences(self, name: str) -> list[int]:
        check_ref_name(name)
        return [sequence for found, sequence in self._entries(f"{REFS.folder}/{name}") if found == name]

    def _entries(self, folder: str, *, whole: bool = False) -> Iterator[tuple[str, int]]:
        """Entries below a folder, and what only has the name of one; ``whole``: refuse what may hide others."""
        for found in everything(self._backend, folder, details=False):
            if (place := entry_of_key(found.key)) is not None:
                yield place
            elif whole and found.fault:
                raise BackendError(f"{found.fault}: there may be names that cannot be seen")

    def _entry(self, name: str, sequence: int) -> RefEntry:
        key = entry_key(name, sequence)
        data = self._backend.get(key, ENTRY_BYTES_MAX)
        if data is None:
            raise CorruptionError(f"the log of ref {name} in {self._backend.url} has lost its entry {sequence}")
        return RefEntry.decode(name, sequence, data, f"{key} in {self._backend.url}")


def entry_of_key(key: str) -> tuple[str, int] | None:
    """Name and sequence of the entry that is stored under ``key``; None if no entry would be."""
    folder, _, rest = key.partition("/")
    name, _, digits = rest.rpartition("/")
    well_named = folder == REFS.folder and is_sequence(digits) and is_ref_name(name) and int(digits) <= _SEQUENCE_MAX
    return (name, int(digits)) if well_named else None


def entry_key(name: str, sequence: int) -> str:
    """The key of an entry of a log."""
    return f"{REFS.folder}/{name}/{sequence:0{SEQUENCE_DIGITS}d}"


def _references(data: bytes, key: str) -> list[Digest]:
    place = entry_of_key(key)
    target = None if place is None else RefEntry.decode(*place, data, key).target
    return [] if target is None else [target]


REFS = RecordKind(
    "refs",
    ENTRY_BYTES_MAX,
    _references,
    Holds.DATASETS,
    expires=False,
    is_key=lambda key: entry_of_key(key) is not None,
    is_log=True,
    damage="ref-damaged",
)


def _pause(lost: int, round_s: float) -> None:
    """Wait after a round that was lost, of rounds that take so long here.

    Writers that go on in step all read and write for the one that wins; at different moments fewer do so in vain.
    """
    from random import random  # seldom needed

    sleep(random() * min(_PAUSE_MAX_S, round_s * 2 ** min(lost + 1, 4)))


def _conflict(name: str, expected: Digest | None, found: Digest | None) -> ConflictError:
    return ConflictError(
        f"ref {name} moved meanwhile: expected {_spelled(expected)}, found {_spelled(found)}; look again and repeat"
    )


def _spelled(target: Digest | None) -> str:
    return "no such ref" if target is None else digest_hex(target)
