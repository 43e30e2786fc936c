"""Writing a dataset out in the OLMo-core layout, streaming and whole or not at all."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from castore.errors import InvalidInputError
from castore.export.statistics import Counts, as_text, olmo_core_statistics
from castore.export.whole_folder import write_folder
from castore.format.files import TEMPLATE_FILE, decode_file
from castore.format.run import RunConfiguration, SourceRecord
from castore.format.samples import Samples, SpanColumn, offsets_of
from castore.olmo.layout import PART_BYTES, boundaries_file, id_bytes, id_width, ids_file, labels_file
from castore.read.columns import Columns, vocab_size_of
from castore.read.stream import in_order
from castore.store.files import WholeFile, sync, write_whole
from castore.store.large_file import LargeFile

TOKENIZER_PREFIX = "tokenizer/"


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export came to.

    Attributes:
        samples: In the files.
        tokens: In the files.
        parts: Files of token ids.
        folder: Where they are.
        left_out: Samples without tokens, where files have no way to hold them.
        widened: Empty, or the type of ids and that which open-instruct takes for the vocabulary's size, where an added
            token outside it does not fit.
    """

    samples: int
    tokens: int
    parts: int
    folder: str
    left_out: int = 0
    widened: str = ""


def export_olmo_core(
    data: Columns,
    folder: str,
    *,
    replace: bool = False,
    time_text: str = "",
    part_bytes: int = PART_BYTES,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Exported:
    """Write a dataset to ``folder`` in its recorded order.

    Everything is written beside the folder first and renamed at the end, so the folder is complete or absent. Memory is
    bounded by a few windows of ``castore.store.bucket_sort``, whatever the size of the data.

    Args:
        data: The dataset.
        folder: Must not exist or be empty, unless ``replace`` allows to replace what it holds.
        replace: Replace a folder that holds an earlier export, and nothing else.
        time_text: The timestamp in the statistics, ``YYYY-MM-DD HH:MM:SS``.
        part_bytes: Bytes of ids in a full part.
        report: Called with tokens written and tokens in all.

    Raises:
        InvalidInputError: The folder holds something, or cannot be written; or no sample has a token.
        CorruptionError: An object is damaged; the folder stays as it was.
    """
    shown = str(Path(folder))
    return write_folder(folder, lambda part: _write(data, part, shown, time_text, part_bytes, report), replace=replace)


def _write(
    data: Columns, part: Path, shown: str, time_text: str, part_bytes: int, report: Callable[[int, int], None]
) -> Exported:
    counts = _Counts()
    width = id_width(data)
    with _Parts(part, width, part_bytes // width) as parts:
        for samples in in_order(data, str(part)):
            parts.write(samples)
            counts.add(samples)
            report(counts.tokens, data.manifest.tokens)
    if counts.samples == 0:
        raise InvalidInputError("no sample has a token: there is nothing to export")
    _write_statistics(data, part, shown, time_text, counts.by_source(data))
    _write_tokenizer(data, part)
    sync(part)
    said = vocab_size_of(data)
    widened = f"uint{8 * width} in place of uint{8 * id_bytes(said)}" if width > id_bytes(said) else ""
    return Exported(counts.samples, counts.tokens, parts.count, shown, counts.left_out, widened)


# ---- files


class _Parts:
    """The files of the ids, labels and boundaries, cut at ``items`` tokens."""

    def __init__(self, folder: Path, width: int, items: int) -> None:
        self._folder, self._items = folder, items
        self._dtype = np.dtype(f"<u{width}")
        self._files: list[LargeFile] = []  # of the open part: ids, labels
        self._boundaries: _Boundaries | None = None
        self._at = 0  # tokens written
        self.count = 0

    def __enter__(self) -> _Parts:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            if error is None:
                self._finish()
        finally:
            for file in self._files:
                file.close()
            if self._boundaries is not None:
                self._boundaries.close()

    def write(self, samples: Samples) -> None:
        """Append samples; a document is cut wherever a part ends."""
        token_ids, spans = samples.columns["token_ids"], samples.columns["labels_mask"]
        assert isinstance(token_ids, np.ndarray)
        assert isinstance(spans, SpanColumn)
        ids = token_ids.astype(self._dtype, copy=False)
        if ids.itemsize < token_ids.itemsize and np.any(ids != token_ids):
            raise InvalidInputError(f"a token id does not fit {self._dtype.name}, the width of the vocabulary")
        mask = spans.mask(samples.lengths)
        edges = offsets_of(samples.lengths) + self._at
        done = 0
        while done < len(ids):
            room = self._items - self._at % self._items
            if room == self._items:
                self._next()
            count = min(room, len(ids) - done)
            self._put(ids[done : done + count], mask[done : done + count], edges)
            done += count
            self._at += count

    def _put(self, ids: NDArray[Any], mask: NDArray[np.uint8], edges: NDArray[np.int64]) -> None:
        assert self._boundaries is not None
        self._files[0].write(np.ascontiguousarray(ids).data)
        self._files[1].write(mask.data)
        base = self._at // self._items * self._items
        lo, hi = self._at, self._at + len(ids)
        starts, stops = np.maximum(edges[:-1], lo), np.minimum(edges[1:], hi)
        inside = starts < stops
        # Documents are written whole, so each is listed once in every part that it touches.
        pairs = np.column_stack((starts[inside], stops[inside])) - base
        self._boundaries.write(b"%d,%d\n" * len(pairs) % tuple(pairs.ravel().tolist()))

    def _next(self) -> None:
        self._finish()
        self._files, self._boundaries = [], None
        for name in (ids_file(self.count), labels_file(self.count)):
            self._files.append(LargeFile(self._folder / name))  # one by one: what is open is closed if the next fails
        self._boundaries = _Boundaries(self._folder / boundaries_file(self.count))
        self.count += 1

    def _finish(self) -> None:
        """Make the open part durable."""
        for file in self._files:
            file.finish()
        if self._boundaries is not None:
            self._boundaries.finish()


class _Boundaries:
    """The compressed boundaries of a part, without time and name in the header, so that equal data are equal files."""

    def __init__(self, path: Path) -> None:
        self._whole = WholeFile(path)
        self._gzip = gzip.GzipFile(filename="", mode="wb", fileobj=self._whole.file, mtime=0, compresslevel=1)

    def write(self, lines: bytes) -> None:
        """Append lines."""
        self._gzip.write(lines)

    def finish(self) -> None:
        """Make the file durable and close it."""
        self._gzip.close()
        self._whole.finish()

    def close(self) -> None:
        """Close the file after an error: there is nothing to save, and what closing says is not news."""
        with suppress(OSError, ValueError):
            self._gzip.close()
        self._whole.close()


class _Counts:
    """What goes into the statistics: samples, tokens and trainable tokens by source, in order of first appearance.

    Of samples that have tokens: the others are in no file, since a boundary lies between tokens.
    """

    def __init__(self) -> None:
        self.samples = self.tokens = self.left_out = 0
        self._by_source: dict[int, tuple[int, int, int]] = {}

    def add(self, samples: Samples) -> None:
        source, spans = samples.columns["source"], samples.columns["labels_mask"]
        assert isinstance(source, np.ndarray)
        assert isinstance(spans, SpanColumn)
        lengths, some = samples.lengths, samples.lengths > 0
        kept, tokens = int(np.count_nonzero(some)), int(lengths.sum(dtype=np.int64))
        self.samples += kept
        self.left_out += len(lengths) - kept
        self.tokens += tokens
        if kept and not np.any(source != source[0]):  # as in nearly every chunk
            trainable = spans.stops.sum(dtype=np.int64) - spans.starts.sum(dtype=np.int64)
            self._count(int(source[0]), kept, tokens, int(trainable))
            return
        widths = (
            np.add.reduceat(  # trainable tokens of each sample
                np.append(spans.stops - spans.starts, 0).astype(np.int64),
                np.minimum(offsets_of(spans.counts)[:-1], len(spans.stops)),
            )
            * (spans.counts > 0)
        )
        distinct, first = np.unique(source[some], return_index=True)
        for index in distinct[np.argsort(first)].tolist():
            chosen = source == index
            self._count(
                index,
                int((chosen & some).sum()),
                int(lengths[chosen].sum(dtype=np.int64)),
                int(widths[chosen].sum()),
            )

    def _count(self, index: int, samples: int, tokens: int, trainable: int) -> None:
        before = self._by_source.get(index, (0, 0, 0))
        self._by_source[index] = before[0] + samples, before[1] + tokens, before[2] + trainable

    def by_source(self, data: Columns) -> list[Counts]:
        """(source of the run record, samples, tokens, trainable) in order of first appearance.

        Of a name that is twice in the mix the last source counts, even if none of its samples is in the output.
        """
        last = {source.name: source for source in (data.run.sources if data.run else ())}
        named = [(data.source_name(number), row) for number, row in self._by_source.items()]
        return [(last.get(name) or SourceRecord(name), *row) for name, row in named]


def _write_statistics(data: Columns, part: Path, shown: str, time_text: str, counts: list[Counts]) -> None:
    configuration = data.run.configuration if data.run else RunConfiguration()
    statistics = olmo_core_statistics(configuration, counts, time_text, shown)
    texts = {"dataset_statistics.json": json.dumps(statistics, indent=2), "dataset_statistics.txt": as_text(statistics)}
    for name, text in texts.items():
        write_whole(part / name, text.encode())


def _write_tokenizer(data: Columns, part: Path) -> None:
    """The tokenizer folder as it was used, with the template written into its configuration."""
    files = data.run.files if data.run else {}
    names = [name for name in files if name.startswith(TOKENIZER_PREFIX)]
    if not names:
        return
    folder = part / "tokenizer"
    folder.mkdir()
    template = (
        decode_file(data.fetch(files[TEMPLATE_FILE])).decode("utf-8", "replace") if TEMPLATE_FILE in files else None
    )
    for name in names:
        content = decode_file(data.fetch(files[name]))
        path = folder / Path(name.removeprefix(TOKENIZER_PREFIX)).name
        if path.name == "tokenizer_config.json" and template is not None:
            content = _with_template(content, template)
        write_whole(path, content)
    if template is not None:
        write_whole(folder / "chat_template.jinja", template.encode())
    sync(folder)


def _with_template(content: bytes, template: str) -> bytes:
    """A tokenizer's configuration with the template in it; what is no JSON object is left as it is."""
    try:
        config = json.loads(content)
    except (ValueError, RecursionError):
        return content
    if not isinstance(config, dict):
        return content
    text = json.dumps(config | {"chat_template": template}, indent=2, ensure_ascii=False)
    return text.encode("utf-8", "replace")
