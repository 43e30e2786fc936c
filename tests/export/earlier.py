"""An earlier export, small."""

from __future__ import annotations

from pathlib import Path

from castore.export.mark import write_mark


def earlier_export(folder: Path, *names: str) -> None:
    """A folder with files of these names, as an export leaves it: with its mark."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("old")
    write_mark(folder)
