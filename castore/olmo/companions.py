"""What lies in an output directory beside the parts that are compared: told without numpy."""

# pathlib costs start-up
# ruff: noqa: PTH112, PTH118

from __future__ import annotations

import os
from collections.abc import Callable

from blake3 import blake3

from castore.errors import SourceError
from castore.format.digest import Digest
from castore.format.files import encode_file
from castore.olmo.files import TOKENIZER_FILE_BYTES_MAX, part_names
from castore.read.columns import Companions
from castore.store.files import open_regular

TOKENIZER_FOLDER = "tokenizer"

RECEIPT = ".castore-export.json"
"""Names the files of an export (``castore.export.receipt``), and tells nothing of the data."""

_READ_BYTES = 1 << 20


def companions(folder: str, *, absent: int = 0) -> Companions:
    """What lies beside the parts of a directory.

    Args:
        folder: The directory.
        absent: Samples that it is taken to have, though it does not hold them.

    Raises:
        SourceError: A file cannot be read.
    """
    parts = {name for part in part_names(folder) for name in part}
    arrays, tokenizer, others = {}, {}, []
    for name, is_file in _entries(folder):
        if name in parts or name == RECEIPT:
            continue
        if is_file and (name.endswith(".npy") or "_part_" in name):
            arrays[name] = _digest(folder, name, _file_digest)
        elif name == TOKENIZER_FOLDER and os.path.isdir(os.path.join(folder, name)):
            for inner, regular in _entries(os.path.join(folder, name)):
                below = os.path.join(name, inner)
                if regular:
                    tokenizer[below] = _digest(folder, below, _object_digest)
                else:
                    others.append(below)
        else:
            others.append(name)
    return Companions(arrays, tokenizer, tuple(others), absent)


def _entries(folder: str) -> list[tuple[str, bool]]:
    """Names in a folder, sorted, and whether each is a file."""
    try:
        with os.scandir(folder) as found:
            return sorted((entry.name, entry.is_file()) for entry in found)
    except OSError as error:
        raise SourceError(folder, error.strerror or "cannot be listed") from error


def _digest(folder: str, name: str, of: Callable[[str], Digest]) -> Digest:
    try:
        return of(os.path.join(folder, name))
    except OSError as error:
        raise SourceError(folder, f"{name}: {error.strerror}") from error


def _file_digest(path: str) -> Digest:
    """BLAKE3 of a file."""
    hasher, buffer = blake3(), bytearray(_READ_BYTES)
    with open_regular(path) as file:
        while count := file.readinto(buffer):
            hasher.update(memoryview(buffer)[:count])
    return Digest(hasher.digest())


def _object_digest(path: str) -> Digest:
    """The digest of a file as a run record names it; of one that none would keep, of its content."""
    with open_regular(path) as file:
        content = file.read(TOKENIZER_FILE_BYTES_MAX + 1)
    return _file_digest(path) if len(content) > TOKENIZER_FILE_BYTES_MAX else encode_file(content).digest
