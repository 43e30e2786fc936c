"""What Ctrl-C does: before a command runs, while it runs, and after it ended.

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

try:
    import signal
except KeyboardInterrupt:
    os._exit(130)

EXIT_INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells say it."""


_installed = False
"""Whether Ctrl-C is this module's to handle."""


def stand_from_the_start() -> None:
    """Let Ctrl-C end the process at once from here on, if nobody has said what it does."""
    global _installed
    try:
        # A shell starts what runs in the background with Ctrl-C ignored, which stays so.
        _installed = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        leave_on_interrupt()
    except KeyboardInterrupt:
        os._exit(EXIT_INTERRUPTED)


def leave_on_interrupt() -> None:
    """Let Ctrl-C end the process at once and without a word."""
    if _installed:
        signal.signal(signal.SIGINT, lambda number, frame: os._exit(EXIT_INTERRUPTED))


def raise_on_interrupt() -> None:
    """Let Ctrl-C raise KeyboardInterrupt, by which a command puts things in order."""
    if _installed:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.unraisablehook = _interrupt_again


def _interrupt_again(unraisable: UnraisableHookArgs) -> None:
    """Where Python would say that an exception is ignored: Ctrl-C is not.

    It came in a callback, where nothing can be raised. A timer raises it again when that is over.
    """
    if unraisable.exc_type is KeyboardInterrupt and hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        signal.setitimer(signal.ITIMER_REAL, 0.01)
    else:
        sys.__unraisablehook__(unraisable)
