"""Writing a dataset out for others than OLMo-core: Megatron, MosaicML Streaming, and whatever reads parquet.

All write the samples in the recorded order, one document a sample, streaming, into a folder that is complete or absent.

Megatron: facts are those of Megatron-Core's ``core/datasets/indexed_dataset.py``. ``.idx``: the magic bytes
``MMIDIDX\\0\\0``, version 1 as u64, a code for the type of the elements as u8, the numbers of sequences and of document
ends as u64 each, then int32 lengths, int64 byte offsets into ``.bin``, int64 document ends. ``.bin``: the elements.

MDS: facts are those of ``streaming/base/format/mds``. A shard: u32 count, u32 offset of every sample and of the end,
the shard's configuration as JSON, the samples. A sample: u32 size of every column without a fixed one, then the columns
in the order of their names. An array of known type: a byte ``ndim << 2 | log2(bytes of a dimension)``, the dimensions,
the elements.
"""

from __future__ import annotations

import json
import os
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeAlias, TypedDict

import numpy as np
from numpy.typing import NDArray

from castore.errors import InvalidInputError, MissingExtraError
from castore.export.olmo_core import Exported, export_olmo_core
from castore.export.whole_folder import write_folder
from castore.format.samples import SpanColumn, offsets_of
from castore.olmo.layout import id_width, part_size
from castore.read.columns import Columns, vocab_size_of
from castore.read.stream import in_order
from castore.store.files import WholeFile, sync, write_whole
from castore.store.run_origin import Origin

LAYOUTS = ("olmo-core", "megatron", "mds", "parquet")

_Batch: TypeAlias = tuple[NDArray[np.uint32], NDArray[np.uint8], NDArray[np.int64], NDArray[np.uint32]]

MEGATRON_UINT16_MAX = 65_500
"""Megatron keeps ids of vocabularies below this in 16 bits."""

MDS_SHARD_BYTES = 1 << 26
"""Bytes of samples in a shard; the default of MosaicML's own writer."""

PARQUET_PART_TOKENS, PARQUET_GROUP_TOKENS = 1 << 28, 1 << 23
"""Tokens in a full parquet file, and in a row group of one."""


class ExportOptions(TypedDict, total=False):
    """What ``export_dataset`` takes as keywords."""

    layout: str
    replace: bool
    part_bytes: int | None
    time_text: str | None
    report: Callable[[int, int], None]


def export_dataset(
    data: Columns,
    folder: str | os.PathLike[str],
    *,
    layout: str = LAYOUTS[0],
    replace: bool = False,
    part_bytes: int | None = None,
    time_text: str | None = None,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Exported:
    """Write a dataset to ``folder``, in its recorded order and any of ``LAYOUTS``.

    Args:
        data: The dataset.
        folder: Complete or absent afterwards.
        layout: One of ``LAYOUTS``.
        replace: Replace an earlier export, as a whole; a folder that holds anything else is refused.
        part_bytes: Bytes of ids in a full part of OLMo-core's layout; 1 GiB by default, as open-instruct writes.
        time_text: The timestamp in OLMo-core's statistics, ``YYYY-MM-DD HH:MM:SS``; now, by default.
        report: Called with tokens written and tokens in all.

    Raises:
        InvalidInputError: No such layout; ``part_bytes`` for another than OLMo-core's, or too few; or the folder cannot
            be written, or its files cannot hold the data.
        MissingExtraError: pyarrow is needed and not installed.
        CorruptionError: An object is damaged; the folder stays as it was.
    """
    if layout != "olmo-core":
        if part_bytes is not None:
            raise InvalidInputError(f"the size of parts is OLMo-core's: layout {layout} has its own")
        return export_layout(data, os.fspath(folder), layout, replace=replace, report=report)
    said = time_text or time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(Origin.here().time_s))
    size = part_size(part_bytes)
    return export_olmo_core(data, os.fspath(folder), replace=replace, time_text=said, part_bytes=size, report=report)


def export_layout(
    data: Columns,
    folder: str,
    layout: str,
    *,
    replace: bool = False,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Exported:
    """Write a dataset to ``folder`` in one of ``LAYOUTS`` but the first.

    Args:
        data: The dataset.
        folder: Must not exist or be empty, unless ``replace`` allows to replace what it holds.
        layout: ``megatron``: ``token_ids.bin`` and ``.idx``, and ``labels_mask`` likewise, a byte a label; ``mds``:
            shards with token_ids uint32, labels_mask uint8 and source; ``parquet``: files with these columns, source by
            name.
        replace: Replace a folder that holds an earlier export, and nothing else.
        report: Called with tokens written and tokens in all.

    Raises:
        InvalidInputError: The folder holds something or cannot be written, the layout cannot hold the data, or there is
            no such layout.
        MissingExtraError: pyarrow is needed and not installed.
    """
    write = {"megatron": _megatron, "mds": _mds, "parquet": _parquet}.get(layout)
    if write is None:
        raise InvalidInputError(f"layout {layout!r:.80} is unknown: give one of {', '.join(LAYOUTS)}")
    if layout == "parquet":
        _pyarrow()  # before anything is written
    exported = write_folder(folder, lambda part: write(data, part, report), replace=replace)
    return Exported(exported.samples, exported.tokens, exported.parts, str(Path(folder)))


def _batches(data: Columns, folder: Path, report: Callable[[int, int], None]) -> Iterator[_Batch]:
    """Samples in the recorded order: ids, labels as 0 and 1, edges int64[n + 1] in them, number of the source."""
    done = 0
    for samples in in_order(data, str(folder)):
        ids, spans, sources = (samples.columns[name] for name in ("token_ids", "labels_mask", "source"))
        assert isinstance(ids, np.ndarray)
        assert isinstance(spans, SpanColumn)
        assert isinstance(sources, np.ndarray)
        yield ids, spans.mask(samples.lengths), offsets_of(samples.lengths), sources
        done += len(ids)
        report(done, data.manifest.tokens)


# ---- Megatron


def _megatron(data: Columns, folder: Path, report: Callable[[int, int], None]) -> Exported:
    small = vocab_size_of(data) < MEGATRON_UINT16_MAX and id_width(data) <= 2
    dtype, code = (np.dtype("<u2"), 8) if small else (np.dtype("<i4"), 4)
    lengths = [np.zeros(0, np.int64)]
    with ExitStack() as files:
        ids_file, mask_file = (
            files.enter_context(WholeFile(folder / f"{name}.bin")) for name in ("token_ids", "labels_mask")
        )
        for ids, mask, edges, _ in _batches(data, folder, report):
            if len(ids) and ids.max() > np.iinfo(dtype).max:
                raise InvalidInputError(f"token id {ids.max()} does not fit {dtype.name}, which Megatron reads here")
            ids_file.write(ids.astype(dtype).data)
            mask_file.write(mask.data)
            lengths.append(np.diff(edges))
    every = np.concatenate(lengths)
    _write_idx(folder / "token_ids.idx", every, dtype.itemsize, code)
    _write_idx(folder / "labels_mask.idx", every, 1, 1)
    sync(folder)
    return Exported(len(every), int(every.sum()), 1, str(folder))


def _write_idx(path: Path, lengths: NDArray[np.int64], width: int, code: int) -> None:
    count = len(lengths)
    with WholeFile(path) as file:
        file.write(b"MMIDIDX\x00\x00" + struct.pack("<QBQQ", 1, code, count, count + 1))
        file.write(lengths.astype("<i4").tobytes())
        file.write((offsets_of(lengths)[:-1] * width).astype("<i8").tobytes())
        file.write(np.arange(count + 1, dtype="<i8").tobytes())


# ---- MDS


_MDS_COLUMNS = {"labels_mask": ("ndarray:uint8", None), "source": ("int", 8), "token_ids": ("ndarray:uint32", None)}


def _mds(data: Columns, folder: Path, report: Callable[[int, int], None]) -> Exported:
    config: dict[str, Any] = {
        "version": 2,
        "format": "mds",
        "compression": None,
        "hashes": [],
        "size_limit": MDS_SHARD_BYTES,
        "column_names": list(_MDS_COLUMNS),
        "column_encodings": [encoding for encoding, _ in _MDS_COLUMNS.values()],
        "column_sizes": [size for _, size in _MDS_COLUMNS.values()],
    }
    shards: list[dict[str, Any]] = []
    waiting: list[bytes] = []
    size = samples = tokens = 0
    for ids, mask, edges, sources in _batches(data, folder, report):
        bounds = edges.tolist()
        for i, source in enumerate(sources.tolist()):
            lo, hi = bounds[i], bounds[i + 1]
            if lo == hi:
                raise InvalidInputError(f"sample {samples + i} of the order has no token, which MDS cannot hold")
            sample = _mds_sample(ids[lo:hi], mask[lo:hi], source)
            if waiting and size + len(sample) + 4 > MDS_SHARD_BYTES:
                shards.append(_mds_shard(folder, len(shards), waiting, config))
                waiting, size = [], 0
            waiting.append(sample)
            size += len(sample) + 4
        samples += len(sources)
        tokens += len(ids)
    if waiting:
        shards.append(_mds_shard(folder, len(shards), waiting, config))
    write_whole(folder / "index.json", json.dumps({"version": 2, "shards": shards}, sort_keys=True).encode())
    sync(folder)
    return Exported(samples, tokens, len(shards), str(folder))


def _mds_sample(ids: NDArray[np.uint32], mask: NDArray[np.uint8], source: int) -> bytes:
    count = len(ids)
    power = 0 if count < 1 << 8 else 1 if count < 1 << 16 else 2
    head = bytes([1 << 2 | power]) + count.to_bytes(1 << power, "little")
    labels, tokens = head + mask.tobytes(), head + ids.astype("<u4", copy=False).tobytes()
    return struct.pack("<II", len(labels), len(tokens)) + labels + struct.pack("<q", source) + tokens


def _mds_shard(folder: Path, number: int, samples: list[bytes], config: dict[str, Any]) -> dict[str, Any]:
    """Write a shard; its entry in the index."""
    name = f"shard.{number:05d}.mds"
    text = json.dumps(config, sort_keys=True).encode()
    first = 4 + 4 * (len(samples) + 1) + len(text)
    offsets = offsets_of(np.array([len(sample) for sample in samples])) + first
    with WholeFile(folder / name) as file:
        file.write(struct.pack("<I", len(samples)) + offsets.astype("<u4").tobytes() + text)
        file.writelines(samples)
    raw = {"basename": name, "bytes": int(offsets[-1]), "hashes": {}}
    return {**config, "samples": len(samples), "raw_data": raw, "zip_data": None}


# ---- parquet


def _parquet(data: Columns, folder: Path, report: Callable[[int, int], None]) -> Exported:
    pyarrow = _pyarrow()
    fields = [("token_ids", pyarrow.list_(pyarrow.uint32())), ("labels_mask", pyarrow.list_(pyarrow.bool_()))]
    schema = pyarrow.schema([*fields, ("source", pyarrow.string())], metadata={"castore.root": data.root.hex()})
    samples = tokens = parts = in_part = in_group = 0
    waiting: list[Any] = []
    with ExitStack() as open_part:
        writer: Any = None
        whole: Any = None
        for ids, mask, edges, sources in _batches(data, folder, report):
            if writer is None:
                whole = WholeFile(folder / f"part-{parts:05d}.parquet")
                open_part.callback(whole.close)
                writer = open_part.enter_context(pyarrow.parquet.ParquetWriter(whole.file, schema, compression="zstd"))
                parts, in_part = parts + 1, 0
            offsets = pyarrow.array(edges.astype(np.int32))
            distinct, which = np.unique(sources, return_inverse=True)
            names = pyarrow.array([data.source_name(number) for number in distinct.tolist()], pyarrow.string())
            columns = [
                pyarrow.ListArray.from_arrays(offsets, pyarrow.array(ids)),
                pyarrow.ListArray.from_arrays(offsets, pyarrow.array(mask.view(np.bool_))),
                names.take(pyarrow.array(which)),
            ]
            waiting.append(pyarrow.table(columns, schema=schema))
            samples, tokens = samples + len(sources), tokens + len(ids)
            in_part, in_group = in_part + len(ids), in_group + len(ids)
            if in_group >= PARQUET_GROUP_TOKENS:
                _write_group(writer, waiting)
                in_group = 0
            if in_part >= PARQUET_PART_TOKENS:
                _finish_part(writer, whole, waiting)
                writer = None
        if writer is not None:
            _finish_part(writer, whole, waiting)
    sync(folder)
    return Exported(samples, tokens, parts, str(folder))


def _write_group(writer: Any, waiting: list[Any]) -> None:
    if waiting:
        writer.write_table(_pyarrow().concat_tables(waiting))
        waiting.clear()


def _finish_part(writer: Any, whole: WholeFile, waiting: list[Any]) -> None:
    _write_group(writer, waiting)
    writer.close()
    whole.finish()


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError("pyarrow", "parquet") from error
    return pyarrow
