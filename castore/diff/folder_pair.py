"""Two output directories of open-instruct, opened to be compared: without numpy if they are equal."""

from __future__ import annotations

from functools import cached_property

from castore.errors import NotFoundError
from castore.format.digest import Digest
from castore.format.manifest import Manifest, Root, SplitRule
from castore.format.node import Entry
from castore.format.run import Run
from castore.format.schema import DATA_ARRAYS
from castore.olmo.equal import agreement
from castore.read.columns import Columns
from castore.tree.split import CHUNK_BYTES, FANOUT, RULE_NAME

NO_ROOT = Digest(b"")
"""In place of the root of what has no trees."""


def open_folders(a: str, b: str) -> tuple[Columns, Columns]:
    """Two directories as datasets.

    Raises:
        SourceError: A directory is incomplete or contradicts itself.
    """
    found = agreement(a, b)
    if found is not None and found.samples is not None:
        manifest = folder_manifest(found.samples, found.tokens)
        return SameFolder(a, manifest), SameFolder(b, manifest)
    from castore.diff.folders import FolderDataset

    first = FolderDataset(a)
    return first, FolderDataset(b, first, found)


class SameFolder(Columns):
    """An output directory that was found to be equal to another: what counts it, and no samples.

    Args:
        path: The directory.
        manifest: Arrays and counts.
    """

    def __init__(self, path: str, manifest: Manifest) -> None:
        super().__init__(no_objects, NO_ROOT, None)
        self._path, self._manifest = path, manifest

    @property
    def manifest(self) -> Manifest:
        """Arrays and counts."""
        return self._manifest

    @cached_property
    def run(self) -> Run | None:
        """What the directory tells of itself."""
        from castore.diff.folders import FolderDataset

        return FolderDataset(self._path).run


def folder_manifest(samples: int, tokens: int) -> Manifest:
    """Arrays and counts of a directory; the entries name nothing."""
    arrays = {}
    for array in DATA_ARRAYS:
        entry = Entry(NO_ROOT, samples, tokens if array.axis == "token" else samples)
        arrays[array.name] = array, Root(array.grain, (entry,))
    return Manifest(samples, arrays, SplitRule(RULE_NAME, CHUNK_BYTES, FANOUT), None)


def no_objects(digest: Digest) -> bytes:
    """A ``fetch`` of what has no objects."""
    raise NotFoundError("a directory has no objects")
