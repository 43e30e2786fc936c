"""An output directory of open-instruct as a dataset, without importing it: streamed once, nothing written.

The trees are built in memory. Of the token chunks, which are nearly all of the data, only their places are kept; one
that is asked for is read from the directory again.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from castore.errors import NotFoundError
from castore.format.digest import Digest, digest_hex
from castore.format.files import VOCABULARY_FILE
from castore.format.object import Object
from castore.format.order import Order
from castore.format.run import RunConfiguration, SourceRecord
from castore.format.samples import Samples, SpanColumn
from castore.format.schema import DATA_ARRAYS, LABELS_MASK, TOKEN_IDS
from castore.olmo.companions import companions
from castore.olmo.folder import OlmoCoreFolder, check_statistics, spans_of
from castore.olmo.scan import FolderScan, SourceCount, folder_sources, supposed_sources
from castore.olmo.sources import text_of
from castore.read.columns import Columns
from castore.read.reader import Reader
from castore.read.whole import whole, whole_keys
from castore.tree.dataset_builder import DatasetBuilder

_Found: TypeAlias = tuple[FolderScan, list[SourceCount], NDArray[np.uint32] | None]
"""Documents in stored order, sources, and the source of every document where they do not follow one another."""


def directory_dataset(path: str, beside: Columns | None = None, order: Order | None = None) -> Columns:
    """Open an output directory as a dataset.

    Args:
        path: The directory.
        beside: The dataset that it is compared with. If it is as long and shuffled, the directory is taken to be in its
            order, so that equal data have equal roots. If its order takes as many samples as the directory has, the
            others, which no directory could hold, are taken to be equal.
        order: The order to take it to be in, where there is no such dataset.

    Raises:
        SourceError: The directory is incomplete, contradicts itself, or changed meanwhile.
    """
    folder = OlmoCoreFolder(path)
    check_statistics(folder)
    if beside is not None:
        order = beside.manifest.order
    found = None if beside is None else _cut_beside(folder, beside)
    if found is None:
        order, documents = _order_beside(folder, order, beside)
        found = _sources_beside(folder, FolderScan(folder, documents), beside, undone=documents is not None)
    scan, sources, numbers = found
    objects = _Objects(scan)
    builder = DatasetBuilder(DATA_ARRAYS)
    for piece in scan.pieces(sources, numbers):
        objects.keep(builder, builder.add(piece))
    objects.keep(builder, builder.end())
    folder.check_unchanged()
    manifest = builder.manifest(order)
    run = _run(folder, builder, manifest.digest, [source for source, _ in sources], beside)
    objects.add([manifest, run])
    if beside is not None and beside.run is not None and VOCABULARY_FILE in beside.run.files:
        objects.fall_back(beside)
    data = Columns(objects.fetch, manifest.digest, run.digest)
    data.part_items = folder.part_items
    data.companions = companions(path, absent=data.samples - len(folder.lengths))
    return data


def _order_beside(
    folder: OlmoCoreFolder, order: Order | None, beside: Columns | None
) -> tuple[Order | None, NDArray[np.int64] | None]:
    """The order to take the directory to be in, and the document at each stored place."""
    if order is None or order.take != order.count or order.count != len(folder.lengths):
        return None, None
    documents = np.empty(order.count, np.int64)
    documents[order.positions(None if beside is None else beside.fetch)] = np.arange(order.count)
    return order, documents


def _sources_beside(folder: OlmoCoreFolder, scan: FolderScan, beside: Columns | None, *, undone: bool) -> _Found:
    """Documents as given, their sources, and the source of every one.

    The statistics do not tell everything: a file that is twice in a mix is one entry there, and one of which nothing is
    left is none. So the other side is asked first, if its sources fit the statistics.
    """
    if beside is None or len(beside.sources) < 2 or not beside.has("source"):
        return scan, folder_sources(folder, scan, undone=undone), None
    numbers = whole(beside, "source")
    if len(numbers) and int(numbers.max()) >= len(beside.sources):  # a run record may list fewer
        return scan, folder_sources(folder, scan, undone=undone), None
    if beside.samples == len(scan.lengths):
        sources = supposed_sources(folder, scan, list(beside.sources), numbers)
        if sources is not None:
            return scan, sources, numbers
    sources = folder_sources(folder, scan, undone=undone)
    if len(sources) > 1 or len(folder.statistics.datasets) == 1:
        return scan, sources, None
    # What the directory does not tell is no difference.
    numbers = _numbers_by_keys(scan, whole_keys(beside), numbers)
    counts = np.bincount(numbers, minlength=len(beside.sources)).tolist()
    return scan, [(SourceRecord(name), count) for name, count in zip(beside.sources, counts, strict=True)], numbers


def _numbers_by_keys(scan: FolderScan, keys: NDArray[np.uint8], numbers: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Source of every document: that of the sample with its key, else of the sample in its place.

    Args:
        scan: The documents.
        keys: Of the other side's samples, uint8[n, 16].
        numbers: Of their sources, uint32[n].
    """
    found = np.full(len(scan.lengths), numbers[-1] if len(numbers) else 0, np.uint32)
    shared = min(len(found), len(numbers))
    found[:shared] = numbers[:shared]
    spelled = [keys[at].tobytes() for at in range(len(keys))]
    own = [key.tobytes() for _, batch, _ in scan.batches() for key in batch]
    left: dict[bytes, list[int]] = {}
    for at in reversed(range(len(spelled))):
        if at >= shared or own[at] != spelled[at]:
            left.setdefault(spelled[at], []).append(at)
    for at, key in enumerate(own):
        if (at >= shared or key != spelled[at]) and left.get(key):
            found[at] = numbers[left[key].pop()]
    return found


def _cut_beside(folder: OlmoCoreFolder, beside: Columns) -> _Found | None:
    """A directory that ``--num-examples`` cut as its dataset, made whole: documents, sources, and source of every one.

    None if it is no such directory, or one of another mix, as far as its statistics tell.
    """
    order = beside.manifest.order
    if order is None or order.take == order.count or order.take != len(folder.lengths):
        return None
    if not beside.has("source"):
        return None
    positions, numbers, names = order.positions(beside.fetch), whole(beside, "source"), list(beside.sources)
    here = np.sort(positions)
    if len(set(names)) == len(names):  # else the statistics do not tell
        # Datasets of which nothing is left are not in the statistics.
        shuffled = int(np.isin(numbers, numbers[here]).sum())
        if folder.shuffled_count(otherwise=shuffled) != shuffled:
            return None
    scan = _Completed(folder, positions, beside)
    if len(names) < 2:
        return scan, folder_sources(folder, FolderScan(folder, None), undone=False), numbers
    left = FolderScan(folder, np.argsort(positions, kind="stable"))
    sources = supposed_sources(folder, left, names, numbers[here])
    return None if sources is None else (scan, sources, numbers)


class _Completed(FolderScan):
    """The documents of a folder at their places in a dataset, and the dataset's own samples in the places between.

    Args:
        folder: The folder.
        positions: The sample that each document stands for, int64[n].
        beside: The dataset.
    """

    def __init__(self, folder: OlmoCoreFolder, positions: NDArray[np.int64], beside: Columns) -> None:
        super().__init__(folder, None)
        self._document = np.full(beside.samples, -1, np.int64)
        self._document[positions] = np.arange(len(positions))
        self._reader = Reader(beside)
        self.lengths = whole(beside, "length")
        self.lengths[positions] = folder.lengths

    def samples(self, lo: int, hi: int) -> Samples:
        """Samples ``lo`` to ``hi`` of the dataset, as the folder has them where it does."""
        here, lengths = self._document[lo:hi] >= 0, self.lengths[lo:hi]
        given = self._folder.chosen(self._document[lo:hi][here])
        other = self._reader.take(np.flatnonzero(~here) + lo)
        given_ids, given_spans = given.columns[TOKEN_IDS.name], given.columns[LABELS_MASK.name]
        assert isinstance(given_ids, np.ndarray)
        assert isinstance(given_spans, SpanColumn)
        at = np.repeat(here, lengths)
        ids, labels = np.empty(len(at), np.uint32), np.empty(len(at), np.uint8)
        ids[at], ids[~at] = given_ids, other.token_ids
        labels[at], labels[~at] = given_spans.mask(given.lengths), other.labels_mask
        return Samples(lengths, {TOKEN_IDS.name: ids, LABELS_MASK.name: spans_of(labels, lengths)})


def _run(
    folder: OlmoCoreFolder,
    builder: DatasetBuilder,
    manifest: Digest,
    sources: list[SourceRecord],
    beside: Columns | None,
) -> Object:
    """A run record that says what the directory tells of itself; its text is read with the other side's vocabulary."""
    files = {}
    if beside is not None and beside.run is not None and VOCABULARY_FILE in beside.run.files:
        files[VOCABULARY_FILE] = beside.run.files[VOCABULARY_FILE]
    configuration = RunConfiguration(imported=text_of(folder.path), vocab_size=folder.vocab_size)
    return builder.run(manifest, {"configuration": configuration, "sources": sources}, files)


class _Objects:
    """Objects of a directory's trees by digest."""

    def __init__(self, scan: FolderScan) -> None:
        self._scan = scan
        self._kept: dict[Digest, bytes] = {}
        self._places: dict[Digest, tuple[int, int]] = {}  # token chunk to its samples
        self._beside: Columns | None = None

    def keep(self, builder: DatasetBuilder, made: list[Object]) -> None:
        """Keep what a builder gave, token chunks by their place."""
        for cut in builder.cuts():
            self._places[cut.chunks[TOKEN_IDS.name]] = cut.start, cut.stop
        self.add([one for one in made if one.digest not in self._places])

    def add(self, made: list[Object]) -> None:
        """Keep objects as they are."""
        self._kept.update((one.digest, one.data) for one in made)

    def fall_back(self, beside: Columns) -> None:
        """Look for what is not here in another dataset."""
        self._beside = beside

    def fetch(self, digest: Digest) -> bytes:
        """The bytes of an object.

        Raises:
            SourceError: The directory changed since its trees were built.
        """
        if digest in self._kept:
            return self._kept[digest]
        if digest in self._places:
            again = self._scan.samples(*self._places[digest]).encode(TOKEN_IDS)
            if again.digest != digest:
                raise self._scan.changed()
            return again.data
        if self._beside is not None:
            return self._beside.fetch(digest)
        raise NotFoundError(f"there is no object {digest_hex(digest)} in the directory")
