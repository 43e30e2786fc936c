"""Who does something, when and why: what a run record and the log of a ref say of it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from castore.errors import InvalidInputError

if TYPE_CHECKING:
    from castore.format.run import RunOrigin

_TIME_MAX_S = 253_402_300_799  # 9999-12-31T23:59:59Z


class Origin(NamedTuple):
    """Who does something, and when: what a run record and a ref's log say of it.

    Attributes:
        author: In the user's words.
        host: Name of the machine.
        time_s: Seconds since 1970 (UTC).
        message: Why, in the user's words.
    """

    author: str
    host: str
    time_s: int
    message: str = ""

    @classmethod
    def here(cls, message: str = "") -> Origin:
        """This user on this machine, now. ``CASTORE_AUTHOR`` and ``SOURCE_DATE_EPOCH`` speak first, as in git.

        Raises:
            InvalidInputError: ``SOURCE_DATE_EPOCH`` is a time after the year 9999.
        """
        import socket
        import time

        epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
        time_s = int(time.time())
        if epoch.isascii() and epoch.isdecimal():
            if len(epoch.lstrip("0")) > 12 or int(epoch) > _TIME_MAX_S:
                raise InvalidInputError(
                    f"SOURCE_DATE_EPOCH is {epoch[:40]}: give seconds up to {_TIME_MAX_S}, year 9999"
                )
            time_s = int(epoch)
        return cls(os.environ.get("CASTORE_AUTHOR") or _user(), socket.gethostname(), time_s, message)

    def recorded(self, version: str) -> RunOrigin:
        """As a run record keeps it, with the version of castore."""
        from castore.format.run import RunOrigin

        return RunOrigin(self.author, version, self.host, self.message, self.time_s)


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return f"uid-{os.getuid()}"
