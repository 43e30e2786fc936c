"""What Ctrl-C and the wish of a scheduler do: before a command runs, while it runs, and after it ended.

A scheduler asks by SIGTERM, a terminal that closes by SIGHUP. All are one thing: KeyboardInterrupt, by which a command
puts things in order, one line that says what is kept, and the exit code by which shells know the signal.

Python raises KeyboardInterrupt wherever it is: in the midst of an import, which shows as a traceback, or in a callback
of the import system, which shows one and goes on. So one handler stands from start to end, and raises only where
the caller of ``interruptible`` is sure to catch it: while that is among the callers of what is interrupted, and the
command is imported. At any other moment it ends the process at once and without a word: nothing is under way that must
be put in order. Handlers set when a command begins and again when it ends would leave moments between, in which it is
raised and nobody is there to catch it.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # that of typing, whose import takes milliseconds in which Ctrl-C would show

if TYPE_CHECKING:
    from collections.abc import Callable
    from sys import UnraisableHookArgs
    from types import FrameType
    from typing import ParamSpec, TypeVar

    P = ParamSpec("P")
    T = TypeVar("T")

try:
    import signal
except KeyboardInterrupt:
    os._exit(130)

_KINDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
if hasattr(signal, "SIGHUP"):  # not on Windows
    _KINDS[signal.SIGHUP] = "terminated"

_ours: set[int] = set()
"""Signals that are this module's to handle."""

_raises: bool = False
"""Whether a command is imported, so that KeyboardInterrupt may be raised in it."""

_asked: bool = False
"""Whether a signal other than Ctrl-C has come while a command was under way."""

_came: int = signal.SIGINT
"""The signal that came last."""


def stand_from_the_start() -> None:
    """Let the signals end the process at once from here on, if nobody has said what they do."""
    # A shell starts what runs in the background with Ctrl-C ignored, and nohup with SIGHUP: that stays so.
    plain = (signal.default_int_handler, signal.SIG_DFL)
    _ours.update(number for number in _KINDS if signal.getsignal(number) in plain)
    for number in _ours:
        signal.signal(number, _handle)


def interruptible(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Do ``work``, in which the signals raise KeyboardInterrupt from ``raise_on_interrupt`` on, and nowhere else.

    Who calls this catches it, or the RuntimeError that Python 3.11 makes of one that comes while a class is made.
    """
    return work(*args, **kwargs)


def raise_on_interrupt() -> None:
    """Let the signals raise KeyboardInterrupt, by which a command puts things in order, in what is interruptible."""
    global _raises
    if _ours:
        sys.unraisablehook = _interrupt_again
    _raises = True


def what_came() -> str:
    """Of the signal that raised KeyboardInterrupt: what became of the command, in a word."""
    return _KINDS[signal.Signals(_came)]


def exit_code() -> int:
    """Exit code after the signal that raised KeyboardInterrupt: 130 after Ctrl-C, 143 after SIGTERM, as in shells."""
    return 128 + _came


def _handle(number: int, frame: FrameType | None) -> None:
    global _asked, _came
    if _asked and number != signal.SIGINT:
        # Schedulers and the shells between send it again: putting things in order is not to be interrupted by that.
        return
    if not _is_under_way(frame):
        os._exit(128 + number)
    _came = number
    _asked = _asked or number != signal.SIGINT
    raise KeyboardInterrupt


def _is_under_way(frame: FrameType | None) -> bool:
    """Whether an exception that is raised in a frame comes to the caller of ``interruptible``."""
    while _raises and frame is not None:
        if frame.f_code is interruptible.__code__:
            return True
        frame = frame.f_back
    return False


def _interrupt_again(unraisable: UnraisableHookArgs) -> None:
    """Where Python would say that an exception is ignored: Ctrl-C is not.

    It came in a callback, where nothing can be raised. A timer raises it again when that is over.
    """
    if unraisable.exc_type is KeyboardInterrupt and hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, _raise_again)
        signal.setitimer(signal.ITIMER_REAL, 0.01)
    else:
        sys.__unraisablehook__(unraisable)


def _raise_again(number: int, frame: FrameType | None) -> None:
    if not _is_under_way(frame):
        os._exit(exit_code())
    raise KeyboardInterrupt
