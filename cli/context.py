"""What commands take from their surroundings: the repository's place, who runs them, and when."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from castore.repository import Origin, Repository
    from castore.view.dataset import Dataset


@dataclass(slots=True)
class State:
    """State of one invocation."""

    repo: str | None
    opened: dict[str, Repository] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """The repository's place."""
        return self.repo or os.path.join(_data_folder(), "castore")  # noqa: PTH118 - pathlib costs start-up

    def open(self, *, create: bool = False) -> Repository:
        """Open the repository; ``create`` for commands that write data into it."""
        return self._open(self.url, create=create)

    def dataset(self, address: str) -> tuple[Repository, Dataset]:
        """The dataset that an address names, ``URL#name`` included, and the repository that has it."""
        url, mark, name = address.rpartition("#")
        repository = self._open(url) if mark else self.open()
        return repository, repository.dataset(name)

    def _open(self, url: str, *, create: bool = False) -> Repository:
        from castore.repository import Repository

        if url not in self.opened:
            self.opened[url] = Repository.open(url, create=create)
        return self.opened[url]


def origin(message: str = "") -> Origin:
    """Who, where and when. ``CASTORE_AUTHOR`` and ``SOURCE_DATE_EPOCH`` speak first, as in git and Debian."""
    import socket
    import time

    from castore.repository import Origin

    author = os.environ.get("CASTORE_AUTHOR") or _user()
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    return Origin(author, socket.gethostname(), int(epoch) if epoch.isdigit() else int(time.time()), message)


def local_time(time_s: int) -> str:
    """A time as people here read it."""
    import time

    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time_s))


def use_colour() -> bool:
    """Colour is for terminals of people who did not say no (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return f"uid-{os.getuid()}"


def _data_folder() -> str:
    home = os.path.expanduser("~")  # noqa: PTH111 - pathlib costs start-up
    if sys.platform == "darwin":
        return f"{home}/Library/Application Support"
    return os.environ.get("XDG_DATA_HOME") or f"{home}/.local/share"
