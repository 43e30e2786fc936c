"""``import``: an output directory of open-instruct becomes a run, in one pass over its files.

What is remembered of an import is named by a digest of the very bytes that were stored: they are hashed in the buffers
that they are cut from. Whatever is read twice, to undo a shuffle or to follow another dataset, must agree.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from castore.errors import CorruptionError, FormatError, InvalidInputError, NotFoundError, SourceError
from castore.format.digest import Digest
from castore.format.files import TEMPLATE_FILE, VOCABULARY_FILE, encode_file, encode_vocabulary
from castore.format.manifest import Manifest
from castore.format.object import Object
from castore.format.order import Order, explicit_order
from castore.format.run import RunConfiguration, RunOrigin, RunStatistics
from castore.format.schema import DATA_ARRAYS
from castore.ingest.assembly import Assembly, Growth, store_run
from castore.ingest.tokenizer_folder import TokenizerFolder
from castore.olmo.folder import OlmoCoreFolder, check_statistics
from castore.olmo.parts import ContentHash
from castore.olmo.scan import FolderScan, Reading, folder_sources, supposed_sources
from castore.olmo.sources import integer_of, text_of
from castore.read.columns import Columns
from castore.read.whole import whole, whole_keys
from castore.store.imports import Imported, ImportStore, import_name
from castore.store.objects import ObjectStore
from castore.tree.dataset_builder import RunFields
from castore.tree.walk import Tree, reachable

FLUSH_TOKENS = 1 << 26
"""Tokens after which what was stored is made durable, so that an import that is killed need not store it again."""


@dataclass(frozen=True, slots=True)
class ImportResult:
    """What an import came to: digests of run record and manifest, counts, and what the repository grew by."""

    run: Digest
    root: Digest
    samples: int
    tokens: int
    known: int
    objects_new: int
    bytes_new: int


@dataclass(frozen=True, slots=True)
class Like:
    """Another dataset, whose order is taken.

    Attributes:
        keys: Of its samples in stored order, uint8[n, 16].
        source: Number of the source of each sample, uint32[n].
        names: Of the sources; empty if they were not recorded.
    """

    keys: NDArray[np.uint8]
    source: NDArray[np.uint32]
    names: tuple[str, ...]

    @classmethod
    def of(cls, data: Columns) -> Like:
        """The order of a dataset."""
        source = whole(data, "source") if data.has("source") else np.zeros(data.samples, np.uint32)
        return cls(whole_keys(data), source, tuple(data.sources))


@dataclass(frozen=True, slots=True)
class _StoredOrder:
    """Documents in the order in which they are stored, None for their own; and how the directory's order is kept.

    ``before`` is what was read to find it. ``source`` are the sources, called ``names``, that the documents in stored
    order are supposed to be of.
    """

    documents: NDArray[np.int64] | None
    order: Order | None
    order_objects: tuple[Object, ...] = ()
    known: int = 0
    before: Reading | None = None
    source: NDArray[np.uint32] | None = None
    names: tuple[str, ...] = ()


def import_folder(
    folder: OlmoCoreFolder,
    objects: ObjectStore,
    imports: ImportStore,
    origin: RunOrigin,
    *,
    shuffle_seed: int | None = None,
    like: Like | None = None,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> ImportResult:
    """Store an output directory as a run; everything the result names is durable on return.

    Args:
        folder: The directory.
        objects: The repository's objects.
        imports: The repository's import records.
        origin: Who, where and when, for the run record.
        shuffle_seed: Undo the shuffle of this seed, so that samples are stored in the order of the mix.
        like: Another dataset: documents that it holds are stored in its order, and the directory's order is kept as a
            permutation.
        report: Called with tokens stored and tokens in all.

    Raises:
        SourceError: The directory contradicts itself, changed meanwhile, or was cut by ``--num_examples``, so that no
            shuffle can be undone. Nothing is remembered of the import then.
    """
    check_statistics(folder)
    growth = Growth(objects)
    plan = _plan(folder, shuffle_seed, like)
    done = None if like is not None else _found(imports, objects, folder, shuffle_seed)
    if done is None:
        done, content = _store(folder, objects, plan, undone=shuffle_seed is not None, report=report)
        folder.check_unchanged()
        if like is None:
            for told in (content, folder.shape):
                imports.put(_name(told, folder, shuffle_seed), done)
    else:
        folder.check_unchanged()
    run = _store_run(folder, done, origin, objects)
    return ImportResult(
        run,
        done.manifest,
        len(folder.lengths),
        folder.tokens,
        plan.known,
        growth.objects_new,
        growth.bytes_new,
    )


def _name(content: str, folder: OlmoCoreFolder, shuffle_seed: int | None) -> Digest:
    listed = json.dumps(folder.statistics.datasets, sort_keys=True)
    return import_name(content, shuffle_seed, listed)


def _found(
    imports: ImportStore, objects: ObjectStore, folder: OlmoCoreFolder, shuffle_seed: int | None
) -> Imported | None:
    """What an earlier import of the same files made, if all of it is still there.

    It is renewed object by object, for no name may hold it and a collection may be about to take it.
    """
    # Files are read to be recognised only if some of their shape came before.
    if imports.get(_name(folder.shape, folder, shuffle_seed)) is None:
        return None
    done = imports.get(_name(folder.digest(), folder, shuffle_seed))
    if done is None or not objects.renew(done.manifest):
        return None
    try:
        manifest = Manifest.decode(objects.get(done.manifest))
        trees = (Tree(*pair) for pair in manifest.arrays.values())
        below = (digest for tree in trees for digest, _ in reachable(objects.get, tree))
        chunks = () if manifest.order is None else manifest.order.chunks
        return done if objects.renew_whole((*chunks, *below)) else None
    except (NotFoundError, CorruptionError, FormatError):
        return None


def _store(
    folder: OlmoCoreFolder,
    objects: ObjectStore,
    plan: _StoredOrder,
    *,
    undone: bool,
    report: Callable[[int, int], None],
) -> tuple[Imported, str]:
    """Build and store the trees and the manifest; also the digest of the content that they were built from."""
    before, seen = plan.before, None
    if plan.documents is None:
        seen = ContentHash()
    elif before is None:
        # Documents that are read here and there have no digest that a reading from front to back would have.
        before = Reading.of(folder)
    scan = FolderScan(folder, plan.documents, before, seen)
    numbers = plan.source
    sources = None if numbers is None else supposed_sources(folder, scan, plan.names, numbers, by_name=True)
    if sources is None:
        sources, numbers = folder_sources(folder, scan, undone=undone), None
    assembly = Assembly(objects, DATA_ARRAYS)
    flushed = 0
    for piece in scan.pieces(sources, numbers):
        assembly.add(piece)
        report(assembly.tokens, folder.tokens)
        if assembly.tokens - flushed > FLUSH_TOKENS:
            assembly.flush()
            flushed = assembly.tokens
    root = assembly.finish_manifest(plan.order, plan.order_objects)
    done = Imported(root, [source for source, _ in sources], scan.trainable_total)
    if seen is not None:
        return done, seen.digest(folder.shape)
    assert before is not None
    return done, before.content


# ---- in which order documents are stored


def _plan(folder: OlmoCoreFolder, shuffle_seed: int | None, like: Like | None) -> _StoredOrder:
    if shuffle_seed is not None and like is not None:
        raise InvalidInputError("--shuffle-seed and --like both say in which order to store: give one of them")
    if shuffle_seed is not None:
        return _undo_shuffle(folder, shuffle_seed)
    if like is not None:
        return _follow(folder, like)
    return _StoredOrder(None, None)


def _undo_shuffle(folder: OlmoCoreFolder, seed: int) -> _StoredOrder:
    count = len(folder.lengths)
    shuffled = folder.shuffled_count()
    if shuffled > count:
        raise SourceError(
            folder.path,
            f"holds {count} of the {shuffled} documents that were shuffled: what --num_examples cut off cannot be "
            "shuffled back, so import it without --shuffle-seed",
        )
    order = Order.shuffled(seed, count)
    documents = np.empty(count, np.int64)
    documents[order.positions()] = np.arange(count)
    return _StoredOrder(documents, order)


def _follow(folder: OlmoCoreFolder, like: Like) -> _StoredOrder:
    """Give every document the place that its key has in the other dataset; unknown ones take the places left over.

    Of equal keys the first document takes the first place. An unknown document is most likely a changed one, whose old
    version has left a place; what remains goes to the end. A document is supposed to be of the source whose place it
    takes, and at the end of the last one.
    """
    before = Reading.of(folder)
    keys = before.keys
    places: dict[bytes, list[int]] = {}
    for place, key in enumerate(_as_bytes(like.keys)):
        places.setdefault(key, []).append(place)
    for spots in places.values():
        spots.reverse()
    place_of = np.full(len(keys), -1, np.int64)
    for document, key in enumerate(_as_bytes(keys)):
        left = places.get(key)
        if left:
            place_of[document] = left.pop()
    unknown = np.flatnonzero(place_of < 0)
    free = np.setdiff1d(np.arange(len(like.keys)), place_of[place_of >= 0], assume_unique=True)[: len(unknown)]
    place_of[unknown[: len(free)]] = free
    place_of[unknown[len(free) :]] = len(like.keys) + np.arange(len(unknown) - len(free))
    documents = np.argsort(place_of, kind="stable")
    positions = np.empty(len(documents), np.int64)
    positions[documents] = np.arange(len(documents))
    order, order_objects = explicit_order(positions)
    source = None
    if len(like.source):
        source = like.source[np.minimum(place_of[documents], len(like.source) - 1)]
    known = len(keys) - len(unknown)
    return _StoredOrder(documents, order, tuple(order_objects), known, before, source, like.names)


def _as_bytes(keys: NDArray[np.uint8]) -> list[bytes]:
    spelled: list[bytes] = np.ascontiguousarray(keys).view("V16").ravel().tolist()
    return spelled


# ---- what the directory says of itself


def _store_run(folder: OlmoCoreFolder, done: Imported, origin: RunOrigin, objects: ObjectStore) -> Digest:
    files = {f"tokenizer/{name}": encode_file(content) for name, content in folder.files.items()}
    vocab_size = folder.vocab_size
    if "tokenizer.json" in folder.files:
        tokenizer = TokenizerFolder.load(f"{folder.path}/tokenizer", folder.files)
        if folder.fits(tokenizer.vocab_size):
            vocab_size = tokenizer.vocab_size
        files[VOCABULARY_FILE] = encode_vocabulary(tokenizer.vocabulary())
        if tokenizer.chat_template is not None:
            files[TEMPLATE_FILE] = encode_file(tokenizer.chat_template.encode())
    configuration, samples = folder.statistics.configuration, len(folder.lengths)
    said: RunFields = {
        "configuration": RunConfiguration(
            chat_template=_text(configuration, "chat_template"),
            imported=text_of(folder.path),
            max_seq_length=integer_of(configuration.get("max_sequence_length"), None),
            tokenizer=_text(configuration, "tokenizer"),
            vocab_size=vocab_size,
        ),
        "sources": done.sources,
        "statistics": RunStatistics(samples, folder.tokens, done.trainable),
        "origin": origin,
    }
    return store_run(objects, done.manifest, samples, said, files)


def _text(configuration: Mapping[str, Any], name: str) -> str | None:
    value = configuration.get(name)
    return text_of(value) if isinstance(value, str) else None
