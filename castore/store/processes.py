"""Whose a temporary file or folder is, and whether that process is gone: what is left by the dead may be removed.

A name says it, since locks do not hold on every network file system. Only this machine, as it runs now, can tell that
one of its processes is gone; of those of another machine nothing is known but the age of what they left.
"""

# pathlib costs start-up.

from __future__ import annotations

import os
from functools import cache

from castore.format.digest import digest_of

OWNER = r"[0-9a-f]{12}-[0-9]+-[0-9]+"
"""What ``this_process`` gives, as a regular expression without groups."""


def this_process() -> str:
    """This process as a part of a name: machine, number, time of its start."""
    return _named(os.getpid())


@cache  # by the number, since a fork inherits what is known
def _named(number: int) -> str:
    return f"{_machine()}-{number}-{_start_of(number) or 0}"


def is_dead(owner: str) -> bool:
    """Whether a process, as it named itself by ``this_process``, is known to be gone.

    Of processes of another machine, container or start of this machine it is not known.
    """
    machine, number, start = owner.split("-")
    if machine != _machine() or not number.isdecimal():
        return False
    try:
        os.kill(int(number), 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:  # somebody else's
        pass
    now = _start_of(int(number))
    return now is not None and start not in ("0", str(now))  # another process has the number now


def _start_of(process: int) -> int | None:
    """When a process began, in ticks since the machine did; None where the system does not tell."""
    try:
        with open(f"/proc/{process}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


@cache
def _machine() -> str:
    """Where a number means one process: this machine since it was started, and in it the container."""
    try:
        space = os.readlink("/proc/self/ns/pid")  # noqa: PTH115
        with open("/proc/sys/kernel/random/boot_id") as file:
            boot = file.read().strip()
    except OSError:  # not on Linux
        space = boot = ""
    return digest_of(f"{os.uname().nodename} {boot} {space}".encode()).hex()[:12]
