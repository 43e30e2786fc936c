"""The console script: Ctrl-C is provided for before anything else is imported."""

from __future__ import annotations

try:
    from castore_cli.interrupt import stand_from_the_start
except KeyboardInterrupt:
    import os

    os._exit(130)


def main() -> None:
    """Run the command line; the console script ``castore``."""
    stand_from_the_start()
    from castore_cli.main import main as run

    run()


if __name__ == "__main__":
    main()
