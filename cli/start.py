"""The console script: what Ctrl-C does before a command runs and after it ended.

Python raises KeyboardInterrupt wherever it is: in the midst of an import, which shows as a traceback, or in a callback
of the import system, which shows one and goes on. So the handler of this module stands while the command line is
imported and parsed, and again when the command is done: nothing is under way then that must be put in order.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

try:
    import signal
except KeyboardInterrupt:
    os._exit(130)

EXIT_INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells say it."""


class _Started:
    here = False
    in_callback = False


def main() -> None:
    """Run the command line; the console script ``castore``."""
    try:
        # A shell starts what runs in the background with Ctrl-C ignored, which stays so.
        _Started.here = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        leave_on_interrupt()
    except KeyboardInterrupt:
        os._exit(EXIT_INTERRUPTED)
    from castore_cli.main import main as run

    run()


def leave_on_interrupt() -> None:
    """Let Ctrl-C end the process at once and without a word."""
    if _Started.here:
        signal.signal(signal.SIGINT, lambda number, frame: os._exit(EXIT_INTERRUPTED))


def raise_on_interrupt() -> None:
    """Let Ctrl-C raise KeyboardInterrupt, by which a command puts things in order."""
    if _Started.here:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.unraisablehook = _interrupt_again


def _interrupt_again(unraisable: UnraisableHookArgs) -> None:
    """Where Python would say that an exception is ignored: of Ctrl-C it is not.

    It came in a callback, where nothing can be raised: it comes again when that is over.
    """
    import threading

    if unraisable.exc_type is not KeyboardInterrupt or threading.current_thread() is not threading.main_thread():
        sys.__unraisablehook__(unraisable)
        return
    before = signal.signal(signal.SIGINT, lambda number, frame: None)  # nothing can be raised here either
    _Started.in_callback = True
    threading.Thread(target=_interrupt_after_callback, daemon=True).start()
    signal.signal(signal.SIGINT, before)
    _Started.in_callback = False  # the last step, behind which Python looks at signals only when this is over


def _interrupt_after_callback() -> None:
    while _Started.in_callback:
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    main()
