"""The console script: Ctrl-C is provided for before anything else is imported, unless only the version is asked for."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line; the console script ``castore``."""
    try:
        if sys.argv[1:] == ["--version"] and _tell_version():
            return
        from castore_cli.interrupt import stand_from_the_start

        stand_from_the_start()
    except KeyboardInterrupt:
        os._exit(130)
    from castore_cli.main import main as run

    run()


def _tell_version() -> bool:
    """Print the version as the command line would, whose import takes three times as long as Python's start.

    Returns:
        Whether it could be printed; if not, the command line is to say why.
    """
    from castore.version import __version__

    try:
        os.write(1, f"castore, version {__version__}\n".encode())  # of which nothing stays behind if it fails
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main()
