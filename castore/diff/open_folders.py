"""Two output directories of open-instruct, opened to be compared: without numpy if they are equal."""

from __future__ import annotations

from functools import cached_property

from castore.format.manifest import Manifest
from castore.format.run import Run
from castore.olmo.companions import companions
from castore.olmo.equal import agreement
from castore.olmo.rootless import NO_ROOT, folder_manifest, no_objects
from castore.read.columns import Columns


def open_folders(a: str, b: str) -> tuple[Columns, Columns]:
    """Two directories as datasets.

    Raises:
        SourceError: A directory is incomplete or contradicts itself.
    """
    found = agreement(a, b)
    if found is not None and found.samples is not None:
        manifest = folder_manifest(found.samples, found.tokens)
        pair: tuple[Columns, Columns] = EqualFolder(a, manifest), EqualFolder(b, manifest)
    else:
        from castore.olmo.folder_dataset import FolderDataset

        first = FolderDataset(a)
        pair = first, FolderDataset(b, first, found)
    for data, path in zip(pair, (a, b), strict=True):
        data.companions = companions(path)
    return pair


class EqualFolder(Columns):
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
        from castore.olmo.folder_dataset import FolderDataset

        return FolderDataset(self._path).run
