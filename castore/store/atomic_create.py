"""Whether a store creates atomically: asked once of a store that is new to its repository, by a small race.

The names of a repository rest on it: of two writers that move one name at the same moment exactly one must be told
that it did. Some servers accept the condition of a conditional write and ignore it (``rclone serve s3``), others let
several of a race win (Swift's S3). What a server says of itself does not tell.

That a store has passed is noted in the user's cache folder and, for other users and machines, in the repository::

    probed/<64 digits>     the digits are BLAKE3 of how the place and its server are spelled: a copy elsewhere is
                           asked anew
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress

from castore.errors import BackendError, CastoreError
from castore.store.backend import Backend
from castore.store.cache import cache_folder, keep_file
from castore.store.marker import FORMAT_KEY

RACERS = 16
RACES = 8
"""Of a server whose races have one winner in every third, eight in a row are seen once in 6,500 probes."""

UNDECIDED_MAX = 3
"""Races without a winner: some stores refuse two requests that come together, and take neither."""

PROBED_FOLDER = "probed"
_PASSED = b"creates atomically\n"

SINGLE_WRITER = "CASTORE_SINGLE_WRITER"

_sound: set[str] = set()  # places that have passed, by this process


def require_atomic_create(backend: Backend) -> None:
    """Refuse to write names into a store whose conditional create does not hold under a race.

    Nothing is asked of a disk, nor of a store that has passed before: this is noted in the user's cache folder and in
    the repository, by whoever may write there. The values that the probe stores below ``tmp/`` are removed.

    Raises:
        BackendError: It does not hold; or the store cannot be written to.
    """
    if not getattr(backend, "needs_probe", False) or os.environ.get(SINGLE_WRITER, "") not in ("", "0"):
        return
    place = str(getattr(backend, "identity", backend.url))
    if place in _sound:
        return
    note = _note_of(place)
    if note is None or not os.path.exists(note):  # noqa: PTH110 - pathlib costs start-up
        key = probed_key(place)
        if not _is_noted(backend, key):
            fault = probe_create(backend)
            if fault is not None:
                raise BackendError(
                    f"{backend.url}: names cannot be written here, since {fault}; use another store, or set "
                    f"{SINGLE_WRITER}=1 if nobody else ever writes to this one ('castore check-backend' tells more)"
                )
            with suppress(CastoreError):  # it is only asked once more
                if backend.has(FORMAT_KEY):  # else it would seem to be somebody else's place
                    backend.create(key, _PASSED)
        if note is not None:
            with suppress(OSError):
                keep_file(note, place.encode() + b"\n")
    _sound.add(place)


def probed_key(place: str) -> str:
    """The key of the note that a place has passed."""
    from castore.format.digest import digest_hex, digest_of

    return f"{PROBED_FOLDER}/{digest_hex(digest_of(place.encode()))}"


def _is_noted(backend: Backend, key: str) -> bool:
    try:
        return backend.get(key, len(_PASSED)) == _PASSED
    except CastoreError:  # some may write and not read
        return False


def probe_create(backend: Backend) -> str | None:
    """What is wrong with the conditional create of a store; None if nothing was found.

    Raises:
        BackendError: The store cannot be written to.
    """
    folder = f"tmp/probe-{os.urandom(8).hex()}"
    used: list[str] = []
    try:
        used.append(f"{folder}/twice")
        if not backend.create(used[0], b"first"):
            return "it refuses to create what is not there"
        if backend.create(used[0], b"other") or backend.get(used[0], 1024) != b"first":
            return "its create-if-absent overwrites: the condition of the request (If-None-Match) is ignored"
        decided = 0
        for number in range(RACES + UNDECIDED_MAX):
            if decided == RACES:
                break
            used.append(f"{folder}/{number}")
            won = race([backend] * RACERS, used[-1], _try_create)
            if not won and number - decided < UNDECIDED_MAX:
                continue
            decided += 1
            if len(won) != 1:
                return (
                    f"its create-if-absent is not atomic: {len(won)} of {RACERS} writers at once were told that they "
                    "were first"
                )
            if backend.get(used[-1], 1024) != won[0]:
                return "its create-if-absent is not atomic: what is stored is not what the winner wrote"
        return None
    finally:
        for key in used:
            with suppress(BackendError):  # a user without the right to delete may still write names
                backend.delete(key)


def _try_create(backend: Backend, key: str, value: bytes) -> bool:
    """Create a value by as few requests as the backend can: of hundreds nearly all are refused."""
    once: Callable[[str, bytes], bool] = getattr(backend, "try_create", backend.create)
    return once(key, value)


def _create(backend: Backend, key: str, value: bytes) -> bool:
    return backend.create(key, value)


def race(backends: Sequence[Backend], key: str, create: Callable[[Backend, str, bytes], bool] = _create) -> list[bytes]:
    """Have a key created by all instances at once, each with a value of its own.

    Args:
        backends: One instance a thread; may be the same where its ``create`` may be called by several threads.
        key: What is created.
        create: How.

    Returns:
        The values that were accepted.
    """
    won: list[bytes] = []
    failed: list[Exception] = []
    barrier = threading.Barrier(len(backends))

    def run(backend: Backend, value: bytes) -> None:
        barrier.wait()
        try:
            if create(backend, key, value):
                won.append(value)
        except CastoreError as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(each, os.urandom(16))) for each in backends]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return won


def _note_of(place: str) -> str | None:
    """The file that says that a place has passed; None if nothing is to be kept."""
    from castore.format.digest import digest_hex, digest_of

    folder = cache_folder()
    return None if folder is None else os.path.join(folder, "stores", digest_hex(digest_of(place.encode())))  # noqa: PTH118
