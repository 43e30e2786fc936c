"""A dataset for Hugging Face's trainers: the only module here that knows ``datasets`` and Arrow.

Columns are those that trainers of ``transformers`` and TRL take as they are: ``input_ids``, ``labels`` (the ids, and
−100 where the loss does not count), ``attention_mask`` (ones). Labels are not shifted: models do that themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from castore.errors import BackendError, InvalidInputError, MissingExtraError
from castore.format.codec import Value, encode
from castore.format.digest import digest_hex, digest_of
from castore.format.samples import SpanColumn, offsets_of
from castore.format.schema import IGNORED_LABEL
from castore.read.columns import ids_end_of
from castore.read.reader import Batch, Reader
from castore.read.stream import in_order
from castore.store.files import WholeFile, is_full, open_regular, sweep, write_whole

if TYPE_CHECKING:
    import datasets
    import pyarrow

    from castore.read.columns import Columns

STREAM_SAMPLES = 2048
"""Samples that a stream reads at once: those of one chunk among them are decoded together."""

SHARDS_MAX = 256
"""Most parts of a stream; workers and nodes take them in turn."""

_VERSION = 1  # of the files in the cache of ``datasets``


def _library() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise MissingExtraError("datasets", "datasets") from error
    return datasets


def _features(data: Columns) -> Any:
    library = _library()
    width = "int32" if ids_end_of(data) <= 1 << 31 else "int64"
    types = {"input_ids": width, "labels": width, "attention_mask": "int8"}
    return library.Features({name: library.Sequence(library.Value(dtype)) for name, dtype in types.items()})


def _columns(ids: NDArray[np.uint32], mask: NDArray[np.bool_], dtype: str) -> dict[str, NDArray[Any]]:
    """The columns of consecutive samples as flat arrays."""
    input_ids = ids.astype(dtype)
    if dtype == "int32" and len(ids) and input_ids.min() < 0:
        raise InvalidInputError(
            f"token id {ids.max()} is outside the vocabulary that was recorded, and does not fit {dtype}"
        )
    labels = np.where(mask, input_ids, np.array(IGNORED_LABEL, dtype))
    return {"input_ids": input_ids, "labels": labels, "attention_mask": np.ones(len(ids), np.int8)}


# ---- map-style: a file in the cache of ``datasets``


def load_dataset(data: Columns, *, ordered: bool, cache_dir: str | None) -> datasets.Dataset:
    """The dataset as ``datasets.Dataset``, from an Arrow file that is made once and verified at every load.

    Args:
        data: The dataset.
        ordered: In the recorded order; else in the stored one.
        cache_dir: Where the file is kept; the cache of ``datasets`` by default.

    Raises:
        MissingExtraError: ``datasets`` is not installed.
        CorruptionError: An object of the repository is damaged.
        BackendError: The file cannot be written.
    """
    library = _library()
    features = _features(data)
    folder = Path(cache_dir or library.config.HF_DATASETS_CACHE) / "castore"
    what: list[Value] = [_VERSION, data.root, ordered, str(features["input_ids"])]
    path = folder / f"{digest_hex(digest_of(encode(what)))[:32]}.arrow"
    try:
        if not _is_whole(path):
            folder.mkdir(parents=True, exist_ok=True)
            sweep(str(folder))
            _write(data, path, features, ordered)
    except OSError as error:
        raise BackendError(f"{folder}: {error.strerror or error}", full=is_full(error)) from error
    found: datasets.Dataset = library.Dataset.from_file(str(path))
    return found


def _is_whole(path: Path) -> bool:
    """Whether a file is there with the digest that it was written with."""
    try:
        with open_regular(_seal(path)) as seal, open_regular(path):
            return seal.read() == _digest_of(path).encode()
    except FileNotFoundError:
        return False


def _seal(path: Path) -> Path:
    return path.with_suffix(".blake3")


def _digest_of(path: Path) -> str:
    hasher = blake3()
    hasher.update_mmap(path)
    return hasher.hexdigest()


def _write(data: Columns, path: Path, features: Any, ordered: bool) -> None:
    import pyarrow

    schema = features.arrow_schema
    whole = WholeFile(path, durable=False)
    with whole as file:
        with pyarrow.ipc.new_stream(file, schema) as stream:
            for batch in _batches(data, schema, ordered):
                stream.write_batch(batch)
        file.flush()
        digest = _digest_of(Path(whole.temp))
        # Without its seal a file counts as absent, and is written anew.
        _seal(path).unlink(missing_ok=True)
    write_whole(_seal(path), digest.encode(), durable=False)


def _batches(data: Columns, schema: pyarrow.Schema, ordered: bool) -> Iterator[pyarrow.RecordBatch]:
    import pyarrow

    dtype = str(schema.field("input_ids").type.value_type)
    for samples in in_order(data, None, stored=not ordered):
        ids, spans = samples.columns["token_ids"], samples.columns["labels_mask"]
        assert isinstance(ids, np.ndarray)
        assert isinstance(spans, SpanColumn)
        flat = _columns(ids, spans.mask(samples.lengths).view(np.bool_), dtype)
        offsets = pyarrow.array(offsets_of(samples.lengths).astype(np.int32))
        columns = [pyarrow.ListArray.from_arrays(offsets, pyarrow.array(flat[name])) for name in schema.names]
        yield pyarrow.RecordBatch.from_arrays(columns, schema=schema)


# ---- a stream


def stream_dataset(data: Columns, *, ordered: bool) -> datasets.IterableDataset:
    """The dataset as ``datasets.IterableDataset``: nothing is written, chunks are read and verified as they are used.

    Raises:
        MissingExtraError: ``datasets`` is not installed.
    """
    library = _library()
    count = len(data.positions) if ordered else len(data)
    edges = np.linspace(0, count, min(SHARDS_MAX, max(count, 1)) + 1).astype(int).tolist()
    shards = list(pairwise(edges))
    found: datasets.IterableDataset = library.IterableDataset.from_generator(
        _examples, features=_features(data), gen_kwargs={"data": data, "ordered": ordered, "shards": shards}
    )
    return found


def _examples(data: Columns, ordered: bool, shards: Sequence[tuple[int, int]]) -> Iterator[Mapping[str, Any]]:
    dtype = _features(data)["input_ids"].feature.dtype
    reader, positions = Reader(data), data.positions if ordered else None
    for start, stop in shards:
        for lo in range(start, stop, STREAM_SAMPLES):
            hi = min(lo + STREAM_SAMPLES, stop)
            yield from _of_batch(reader.read(lo, hi) if positions is None else reader.take(positions[lo:hi]), dtype)


def _of_batch(batch: Batch, dtype: str) -> Iterator[Mapping[str, Any]]:
    flat = _columns(batch.token_ids, batch.labels_mask, dtype)
    edges = batch.offsets.tolist()
    for lo, hi in pairwise(edges):
        yield {name: column[lo:hi] for name, column in flat.items()}
