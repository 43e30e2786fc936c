"""Letting a name mean something: looked at before the work, moved after it, so that what came between is never lost."""

from __future__ import annotations

from typing import TypedDict

from castore.errors import ConflictError
from castore.format.digest import Digest, digest_hex
from castore.store.backend import Backend
from castore.store.protection import check_unprotected
from castore.store.refs import RefEntry, RefStore, check_ref_name
from castore.store.run_origin import Origin


class Why(TypedDict, total=False):
    """What verbs that move a name take as keywords.

    Attributes:
        message: Why, for the log and the run record; goes before that of the origin.
        author: Who, likewise.
        force: Move a protected name; wants a message.
    """

    message: str
    author: str
    force: bool


class Move:
    """A name on its way to another meaning. Making one refuses now what would be refused after hours of work.

    Args:
        backend: The repository.
        name: The name.
        reason: The line for the log where there is no message.
        origin: Who moves it, when and why; this user, here and now, by default.
        target: What the name shall mean, where that is known: to mean the same again needs no force.
        message, author, force: As of ``Why``.

    Attributes:
        origin: Who, with message and author as they were given.
        expected: What the name meant before the work; None if nothing.

    Raises:
        InvalidInputError: The name, author or message cannot be; or the name is protected.
        BackendError: No name can be written safely in this store.
    """

    def __init__(
        self,
        backend: Backend,
        name: str,
        reason: str,
        origin: Origin | None = None,
        *,
        target: Digest | None = None,
        message: str = "",
        author: str = "",
        force: bool = False,
    ) -> None:
        who = origin or Origin.here()
        who = who._replace(message=message or who.message, author=author or who.author)
        self.origin, self._name, self._reason = who, name, who.message or reason
        check_ref_name(name)
        entry = RefEntry(name, 0, None, who.time_s, who.author, self._reason)
        entry.check_text()
        entry.encode()
        self._refs = RefStore(backend)
        self._refs.require_writable()
        self.expected = self._refs.current(name)
        if self.expected not in (None, target):
            check_unprotected(backend, name, who.message, force=force)

    def to(self, target: Digest | None) -> RefEntry:
        """Let the name mean the target, None for nothing.

        Raises:
            ConflictError: Somebody moved the name meanwhile.
        """
        who = self.origin
        return self._refs.compare_and_set(
            self._name, self.expected, target, time_s=who.time_s, author=who.author, message=self._reason
        )

    def publish(self, run: Digest) -> None:
        """Let the name mean a run that was just stored.

        Raises:
            ConflictError: Somebody moved the name meanwhile; the message says how to name the run.
        """
        try:
            self.to(run)
        except ConflictError as error:
            stored = f"the run is stored: castore tag {digest_hex(run)[:16]} {self._name}"
            raise ConflictError(f"{error}; {stored}") from error
