"""The promises of backends, checked on a live URL."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from castore.errors import CastoreError, InvalidInputError
from castore.store.backend import Backend
from castore.store.conformance import CHECKS
from castore.store.conformance_means import LIMIT, Check
from castore.store.local import LocalBackend


@dataclass(frozen=True, slots=True)
class Kept:
    """What came of one check.

    Attributes:
        name: Of the check, stable.
        promise: What it is about.
        broken: How the promise was broken; None if it was kept.
        seconds: How long it took.
    """

    name: str
    promise: str
    broken: str | None
    seconds: float


class LivePlace:
    """A folder of a live store whose other door is another instance."""

    def __init__(self, open_: Callable[[], Backend]) -> None:
        self.open = open_

    def raw_get(self, key: str) -> bytes | None:
        """As another instance reads it."""
        return self.open().get(key, LIMIT)

    def raw_put(self, key: str, data: bytes) -> None:
        """As another instance stores it."""
        with suppress(InvalidInputError):  # no door here takes what is not a key
            backend = self.open()
            backend.put(key, data)
            backend.flush()


def check_url(url: str, open_: Callable[[str], Backend]) -> Iterator[Kept]:
    """Run all checks in a fresh folder below a URL, which is empty again afterwards.

    Args:
        url: The place. What is there already is neither read nor changed.
        open_: Opens a URL.

    Raises:
        BackendError: The place cannot be reached, or what the checks have stored cannot be removed.
    """
    folder = f"castore-check-{os.urandom(6).hex()}"
    whole = open_(f"{url.rstrip('/')}/{folder}")
    next(whole.list(""), None)  # a place that cannot be asked breaks no promise, it fails
    try:
        for number, check in enumerate(CHECKS):
            here = f"{url.rstrip('/')}/{folder}/{number:02d}"
            begin = time.monotonic()
            broken = None
            try:
                check(LivePlace(lambda here=here: open_(here)))  # type: ignore[misc]
            except CastoreError as error:
                broken = str(error)
            yield Kept(check.__name__, promise(check), broken, time.monotonic() - begin)
    finally:
        _remove(open_(f"{url.rstrip('/')}/{folder}"))


def promise(check: Check) -> str:
    """What a check is about, as a sentence."""
    return (check.__doc__ or check.__name__).partition("\n")[0]


def _remove(backend: Backend) -> None:
    if isinstance(backend, LocalBackend):
        import shutil

        shutil.rmtree(backend.url.removeprefix("file://"), ignore_errors=True)
        return
    for _ in range(3):  # where a value and a folder had one name, one may stand in the way of the other
        for key in [*backend.list("")]:
            backend.delete(key)
        backend.flush()
