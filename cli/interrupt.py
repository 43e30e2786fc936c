"""What Ctrl-C and the wish of a scheduler do: before a command runs, while it runs, and after it ended.

A scheduler asks by SIGTERM, a terminal that closes by SIGHUP. All are one thing: KeyboardInterrupt, by which a command
puts things in order, one line that says what is kept, and the exit code by which shells know the signal.

Python raises KeyboardInterrupt wherever it is: in the midst of an import, which shows as a traceback, or in a callback
of the import system, which shows one and goes on. So a handler that ends the process stands while the command line is
imported and parsed, and again when the command is done: nothing is under way then that must be put in order.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # that of typing, whose import takes milliseconds in which Ctrl-C would show

if TYPE_CHECKING:
    from sys import UnraisableHookArgs
    from types import FrameType

try:
    import signal
except KeyboardInterrupt:
    os._exit(130)

_KINDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
if hasattr(signal, "SIGHUP"):  # not on Windows
    _KINDS[signal.SIGHUP] = "terminated"

_ours: set[int] = set()
"""Signals that are this module's to handle."""

_came: int = signal.SIGINT
"""The signal that came last."""


def stand_from_the_start() -> None:
    """Let the signals end the process at once from here on, if nobody has said what they do."""
    try:
        # A shell starts what runs in the background with Ctrl-C ignored, and nohup with SIGHUP: that stays so.
        plain = (signal.default_int_handler, signal.SIG_DFL)
        _ours.update(number for number in _KINDS if signal.getsignal(number) in plain)
        leave_on_interrupt()
    except KeyboardInterrupt:
        os._exit(130)


def leave_on_interrupt() -> None:
    """Let the signals end the process at once and without a word."""
    for number in _ours:
        signal.signal(number, lambda number, frame: os._exit(128 + number))


def raise_on_interrupt() -> None:
    """Let the signals raise KeyboardInterrupt, by which a command puts things in order."""
    for number in _ours:
        signal.signal(number, _raise)
    if _ours:
        sys.unraisablehook = _interrupt_again


def what_came() -> str:
    """Of the signal that raised KeyboardInterrupt: what became of the command, in a word."""
    return _KINDS[signal.Signals(_came)]


def exit_code() -> int:
    """Exit code after the signal that raised KeyboardInterrupt: 130 after Ctrl-C, 143 after SIGTERM, as in shells."""
    return 128 + _came


def _raise(number: int, frame: FrameType | None) -> None:
    global _came
    _came = number
    if number != signal.SIGINT:
        # Schedulers and the shells between send it again: putting things in order is not to be interrupted by that.
        for other in _ours - {signal.SIGINT}:
            signal.signal(other, signal.SIG_IGN)
    raise KeyboardInterrupt


def _interrupt_again(unraisable: UnraisableHookArgs) -> None:
    """Where Python would say that an exception is ignored: Ctrl-C is not.

    It came in a callback, where nothing can be raised. A timer raises it again when that is over.
    """
    if unraisable.exc_type is KeyboardInterrupt and hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        signal.setitimer(signal.ITIMER_REAL, 0.01)
    else:
        sys.__unraisablehook__(unraisable)
