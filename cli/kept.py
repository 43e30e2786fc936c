"""What is said when a command could not be finished: what is kept of its work, and how to go on.

One table for Ctrl-C, for the wish of a scheduler and for a full disk.
"""

from __future__ import annotations

from typing import NamedTuple


class KeptWork(NamedTuple):
    """Of a command that could not be finished: what is kept, and what to do."""

    what: str
    go_on: str


_AGAIN = "run the same command again"

KEPT = {
    "tokenize": KeptWork("what was tokenized is kept", f"{_AGAIN} to go on from here"),
    "import": KeptWork("what was stored is kept, and not stored again", f"{_AGAIN} to go on"),
    "copy": KeptWork("what was sent is kept, and not sent again", f"{_AGAIN} to go on from here"),
    "export": KeptWork("the folder is as it was, and nothing is left beside it", _AGAIN),
    "gc": KeptWork("nothing that is in use was removed", f"{_AGAIN} to remove the rest"),
    "fsck": KeptWork("nothing was changed but what was repaired", _AGAIN),
    "diff": KeptWork("nothing was changed", _AGAIN),
    "stats": KeptWork("nothing was changed", _AGAIN),
}
"""By the name of the command; others have nothing to keep, and take no time."""


def after_interrupt(command: str | None, what_came: str) -> str:
    """The line after a signal."""
    kept = KEPT.get(command or "")
    return what_came if kept is None else f"{what_came}; {kept.what}: {kept.go_on}"


def after_full_disk(command: str | None, message: str) -> str:
    """The line after an error for want of room."""
    kept = KEPT.get(command or "")
    return message if kept is None else f"{message}; {kept.what}: make room, then {kept.go_on}"
