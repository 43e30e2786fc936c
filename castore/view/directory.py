"""An output directory of open-instruct as a dataset, without importing it: streamed once, nothing written.

The trees are built in memory. Of the token chunks, which are nearly all of the data, only their places are kept; one
that is asked for is read from the directory again.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from castore.errors import NotFoundError
from castore.format.codec import Value
from castore.format.digest import Digest, digest_hex
from castore.format.files import VOCABULARY_FILE
from castore.format.manifest import Manifest, SplitRule
from castore.format.object import Object
from castore.format.order import Order
from castore.format.run import Run
from castore.format.schema import DATA_ARRAYS, TOKEN_IDS
from castore.store.olmo_core import OlmoCoreFolder, check_statistics
from castore.store.olmo_core_scan import FolderScan, folder_sources
from castore.store.olmo_core_sources import text_of
from castore.tree.build import SequenceBuilder
from castore.tree.split import CHUNK_BYTES, FANOUT, RULE_NAME
from castore.view.dataset import Dataset


def directory_dataset(path: str, beside: Dataset | None = None, order: Order | None = None) -> Dataset:
    """Open an output directory as a dataset.

    Args:
        path: The directory.
        beside: The dataset that it is compared with. If it is as long and shuffled, the directory is taken to be in its
            order, so that equal data have equal roots.
        order: The order to take it to be in, where there is no such dataset.

    Raises:
        SourceError: The directory is incomplete or contradicts itself.
    """
    folder = OlmoCoreFolder(path)
    check_statistics(folder)
    if beside is not None:
        order = beside.manifest.order
    order, documents = _order_beside(folder, order, beside)
    scan = FolderScan(folder, documents)
    sources = folder_sources(folder, scan, undone=documents is not None)
    objects = _Objects(scan)
    builder = SequenceBuilder(DATA_ARRAYS)
    for piece in scan.pieces(sources):
        objects.keep(builder, builder.add(piece))
    roots, rest = builder.finish()
    objects.keep(builder, rest)
    arrays = {array.name: (array, roots[array.name]) for array in DATA_ARRAYS}
    manifest = Manifest(len(folder.lengths), arrays, SplitRule(RULE_NAME, CHUNK_BYTES, FANOUT), order).encode()
    run = _run(folder, manifest, [dict(source) for source, _ in sources], beside)
    objects.add([manifest, run])
    if beside is not None and beside.run is not None and VOCABULARY_FILE in beside.run.files:
        objects.fall_back(beside)
    data = Dataset(objects.fetch, manifest.digest, run.digest)
    data.part_items = folder.part_items
    return data


def _order_beside(
    folder: OlmoCoreFolder, order: Order | None, beside: Dataset | None
) -> tuple[Order | None, NDArray[np.int64] | None]:
    """The order to take the directory to be in, and the document at each stored place."""
    if order is None or order.take != order.count or order.count != len(folder.lengths):
        return None, None
    documents = np.empty(order.count, np.int64)
    documents[order.positions(None if beside is None else beside.fetch)] = np.arange(order.count)
    return order, documents


def _run(folder: OlmoCoreFolder, manifest: Object, sources: list[dict[str, Value]], beside: Dataset | None) -> Object:
    """A run record that says what the directory tells of itself; its text is read with the other side's vocabulary."""
    files = {}
    if beside is not None and beside.run is not None and VOCABULARY_FILE in beside.run.files:
        files[VOCABULARY_FILE] = beside.run.files[VOCABULARY_FILE]
    configuration: dict[str, Value] = {"imported": text_of(folder.path), "vocab_size": folder.vocab_size}
    return Run(
        manifest.digest,
        len(folder.lengths),
        configuration=configuration,
        sources=sources,
        files=files,
    ).encode()


class _Objects:
    """Objects of a directory's trees by digest."""

    def __init__(self, scan: FolderScan) -> None:
        self._scan = scan
        self._kept: dict[Digest, bytes] = {}
        self._places: dict[Digest, tuple[int, int]] = {}  # token chunk to its samples
        self._beside: Dataset | None = None

    def keep(self, builder: SequenceBuilder, made: list[Object]) -> None:
        """Keep what a builder gave, token chunks by their place."""
        for cut in builder.take_cuts():
            self._places[cut.chunks[TOKEN_IDS.name]] = cut.start, cut.stop
        self.add([one for one in made if one.digest not in self._places])

    def add(self, made: list[Object]) -> None:
        """Keep objects as they are."""
        self._kept.update((one.digest, one.data) for one in made)

    def fall_back(self, beside: Dataset) -> None:
        """Look for what is not here in another dataset."""
        self._beside = beside

    def fetch(self, digest: Digest) -> bytes:
        """The bytes of an object."""
        if digest in self._kept:
            return self._kept[digest]
        if digest in self._places:
            return self._scan.samples(*self._places[digest]).encode(TOKEN_IDS).data
        if self._beside is not None:
            return self._beside.fetch(digest)
        raise NotFoundError(f"there is no object {digest_hex(digest)} in the directory")
