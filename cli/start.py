"""The console script: Ctrl-C is provided for before anything else is imported."""

from __future__ import annotations

import os

try:
    from castore_cli.interrupt import stand_from_the_start
except KeyboardInterrupt:
    os._exit(130)


def main() -> None:
    """Run the command line; the console script ``castore``."""
    try:
        stand_from_the_start()
    except KeyboardInterrupt:
        os._exit(130)
    from castore_cli.main import main as run

    run()


if __name__ == "__main__":
    main()
