"""What OLMo-core's packed dataset makes of an export: documents found, tokens packed and dropped, and whose they are.

Facts about ``NumpyPackedFSLDataset`` of OLMo-core (https://github.com/allenai/OLMo-core, ``data/numpy_dataset.py`` and
``data/utils.py``). Each part is read alone. In a local file a document ends at every EOS id, or, where a BOS id is
configured, at every EOS that a BOS follows and at an EOS that ends the part; ids after the last end are no document. A
document over the sequence length is cut, or with the other strategy split into pieces; then they are packed best fit,
longest first. For URLs, and since 3.0 with ``use_array_if_local=False``, documents are the lines of the ``.csv.gz``.

The scan takes one pass over the samples in order. A token is looked at once, to find EOS; everything else is computed
on segments, the runs of tokens between two neighbouring ends of samples, documents and parts. A document that is still
open at the end of a block is carried as a few sums, so memory depends on the block alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from castore.format.samples import Samples
from castore.olmo.layout import PART_BYTES, id_width
from castore.read.blocks import Ints, SampleBlock, blocks_of, with_next
from castore.read.columns import Columns
from castore.read.stream import in_order
from castore.train.best_fit import best_fit_instances
from castore.train.report import COUNTS, PackingCounts, Part, Report, Rule, Tally

BLOCK_TOKENS = 1 << 20
"""Most tokens looked at together by default, unless one sample has more."""


def check_olmo_core(
    data: Columns,
    rule: Rule,
    *,
    part_bytes: int = PART_BYTES,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Report:
    """What the trainer will make of an export of ``data``, without making one.

    Args:
        data: The dataset; read once, in its recorded order.
        rule: The trainer's configuration.
        part_bytes: Bytes of ids in a full part.
        report: Called with tokens read and tokens in all.
    """
    return analyse(
        in_order(data, None),
        rule,
        part_bytes // id_width(data),
        cut_length=data.run.configuration.max_seq_length if data.run else None,
        report=lambda done: report(done, data.manifest.tokens),
    )


def analyse(
    batches: Iterable[Samples],
    rule: Rule,
    part_items: int,
    *,
    cut_length: int | None = None,
    block_tokens: int = BLOCK_TOKENS,
    report: Callable[[int], None] = lambda done: None,
) -> Report:
    """What the trainer will make of samples in the order of the export.

    Args:
        batches: Samples with token_ids, labels_mask and source.
        rule: The trainer's configuration.
        part_items: Tokens of a full part.
        cut_length: Length at which tokenizing cut conversations, None if it did not.
        block_tokens: Most tokens looked at together, unless one sample has more; touches no result.
        report: Called with tokens read.
    """
    scan = Scan(rule, part_items, cut_length)
    for block, following in with_next(blocks_of(batches, block_tokens)):
        scan.add(block, following)
        report(scan.position)
    return scan.finish()


# ---- the scan


class _Table:
    """The counts of ``Tally`` by source: an int64 array a count, with a place for each source met."""

    def __init__(self) -> None:
        self._places: dict[int, int] = {}
        self._columns = {name: np.zeros(0, np.int64) for name in COUNTS}

    def places(self, sources: Ints) -> Ints:
        """Where each source is counted; sources that are new get a place."""
        distinct = np.unique(sources)
        for source in distinct.tolist():
            self._places.setdefault(source, len(self._places))
        missing = np.zeros(len(self._places) - len(self._columns["tokens"]), np.int64)
        if len(missing):
            self._columns = {name: np.concatenate([column, missing]) for name, column in self._columns.items()}
        places: Ints = np.array([self._places[source] for source in distinct.tolist()], np.int64)
        return places[np.searchsorted(distinct, sources)]

    def add(self, name: str, places: Ints, amounts: Ints | NDArray[np.bool_] | int = 1) -> None:
        """Add amounts, one for each of ``places``."""
        np.add.at(self._columns[name], places, amounts)

    def tallies(self) -> dict[int, Tally]:
        """Counts by source, in the order of their numbers."""
        rows = [Tally(*row) for row in zip(*(column.tolist() for column in self._columns.values()), strict=True)]
        return {source: rows[self._places[source]] for source in sorted(self._places)}


@dataclass(frozen=True, slots=True)
class _Segments:
    """Runs of tokens of one sample in one document: int64 arrays of equal length.

    ``document`` counts from the document that was open before the block; ``head`` are the tokens in front of the
    sequence length of the document, ``over`` those behind it, each with the trainable ones among them.
    """

    document: Ints
    source: Ints
    head: Ints
    head_trainable: Ints
    over: Ints
    over_trainable: Ints

    def take(self, chosen: NDArray[np.bool_]) -> _Segments:
        """Those that are chosen."""
        return _Segments(*(getattr(self, field.name)[chosen] for field in fields(self)))


class Scan:
    """One pass over samples in the order of the export.

    Args:
        rule: The trainer's configuration.
        part_items: Tokens of a full part.
        cut_length: Length at which tokenizing cut conversations, None if it did not.
    """

    def __init__(self, rule: Rule, part_items: int, cut_length: int | None = None) -> None:
        self._rule, self._part_items, self._cut_length = rule, part_items, cut_length
        self._table = _Table()
        self._parts: list[Part] = []
        self._lengths: Counter[int] = Counter()
        self._documents = 0  # of the open part
        self.position = 0
        """Tokens seen."""
        self._open_start = 0  # where the open document begins
        self._open_samples = 0  # conversations in it so far
        self._open: list[_Segments] = []  # its segments so far, summed by source

    def add(self, block: SampleBlock, following: int | None) -> None:
        """Take the next samples; ``following`` is the id behind them, None at the end of all."""
        block = replace(block, sources=self._table.places(block.sources))
        borders = part_borders(block, self.position, self._part_items)
        ends = document_ends(block, following, self._rule, self.position, self._part_items)
        closes = np.union1d(ends, borders)
        begins = np.concatenate([[self._open_start - self.position], closes])
        self._count_samples(block, ends, borders, begins)
        if len(block.ids):
            self._count_documents(block, ends, borders, begins)
            self._settle(self._segments(block, closes, begins), np.isin(closes, ends))
            self._open_start = self.position + int(begins[-1])
            self.position += len(block.ids)

    def finish(self) -> Report:
        """The report; nothing can be added any more."""
        self._settle_open(found=False)
        if self.position % self._part_items:
            self._end_part()
        return Report(self._rule, self._cut_length, self._table.tallies(), self._parts)

    def _count_samples(self, block: SampleBlock, ends: Ints, borders: Ints, begins: Ints) -> None:
        """Count conversations by what becomes of them."""
        starts, stops, sources = block.edges[:-1], block.edges[1:], block.sources
        lengths = stops - starts
        some = lengths > 0
        splits, crossings = _between(ends, starts, stops), _between(borders, starts, stops)
        ended = some & (_up_to(ends, stops) > _up_to(ends, stops - 1))
        fresh = begins[_up_to(begins[1:], starts)] == starts
        long = lengths > self._rule.sequence_length
        trainable = np.diff(block.trainable_before(block.edges))
        alone = fresh & ended & (splits == 0) & (crossings == 0)
        counts: dict[str, Ints | NDArray[np.bool_] | int] = {
            "conversations": 1,
            "empty": ~some,
            "tokens": lengths,
            "trainable": trainable,
            "intact": alone & ~long,
            "split": splits > 0,
            "splits": splits,
            "unended": some & ~ended,
            "cut": some & ~ended & (lengths == (self._cut_length or -1)),
            "crossing": crossings > 0,
            "crossings": crossings,
            "long": long,
        }
        for name, amounts in counts.items():
            self._table.add(name, sources, amounts)

    def _count_documents(self, block: SampleBlock, ends: Ints, borders: Ints, begins: Ints) -> None:
        """Count documents by source, and their lengths by part."""
        owners = np.searchsorted(block.edges, ends - 1, side="right") - 1
        self._table.add("documents", block.sources[owners])
        lengths = ends - begins[_up_to(begins[1:], ends - 1)]
        done = 0
        for stop in _up_to(ends, borders).tolist():
            self._add_lengths(lengths[done:stop])
            self._end_part()
            done = stop
        self._add_lengths(lengths[done:])

    def _add_lengths(self, lengths: Ints) -> None:
        limit = self._rule.sequence_length
        self._documents += len(lengths)
        if self._rule.fragment:
            self._lengths[limit] += int((lengths // limit).sum())
            lengths = lengths % limit
        values, counts = np.unique(np.minimum(lengths, limit), return_counts=True)
        self._lengths.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))

    def _end_part(self) -> None:
        """Pack what was found in the part that ends here."""
        counts = {length: count for length, count in self._lengths.items() if length and count}
        instances = best_fit_instances(counts, self._rule.sequence_length)
        packing = PackingCounts(instances, sum(length * count for length, count in counts.items()))
        self._parts.append(Part(self._documents, sum(counts.values()), packing))
        self._lengths.clear()
        self._documents = 0

    def _segments(self, block: SampleBlock, closes: Ints, begins: Ints) -> _Segments:
        """The segments of a block that holds a token."""
        cuts = np.union1d(block.edges, closes)
        starts, stops = cuts[:-1], cuts[1:]
        document = _up_to(closes, starts)
        source = block.sources[_up_to(block.edges, starts) - 1]
        middles = stops
        if not self._rule.fragment:
            middles = np.clip(begins[document] + self._rule.sequence_length, starts, stops)
        before, middle, after = (block.trainable_before(at) for at in (starts, middles, stops))
        return _Segments(document, source, middles - starts, middle - before, stops - middles, after - middle)

    def _settle(self, segments: _Segments, found: NDArray[np.bool_]) -> None:
        """Count the segments of documents that closed, and keep those of the one that is open."""
        samples = np.bincount(segments.document, minlength=len(found) + 1)
        samples[0] += self._open_samples
        if len(found):
            self._open_samples = int(samples[0])
            self._settle_open(found=bool(found[0]))
            closed = segments.document < len(found)
            self._count_closed(segments.take(closed), found, samples > 1)
            segments = segments.take(~closed)
        self._open_samples = int(samples[-1])
        self._open = [_summed([*self._open, segments])]

    def _settle_open(self, *, found: bool) -> None:
        """Count the kept segments of the document that was open, which is found or is none."""
        for segments in self._open:
            self._count_closed(segments, np.array([found]), np.array([self._open_samples > 1]))
        self._open = []

    def _count_closed(self, segments: _Segments, found: NDArray[np.bool_], merged: NDArray[np.bool_]) -> None:
        """Count segments whose document is known to its end; ``found`` and ``merged`` are by document."""
        is_found, is_merged = found[segments.document], merged[segments.document]
        for kind in ("tokens", "trainable"):
            suffix = "" if kind == "tokens" else "_trainable"
            head, over = getattr(segments, "head" + suffix), getattr(segments, "over" + suffix)
            for name, amounts in (
                ("packed", head * is_found),
                ("mixed", head * (is_found & is_merged)),
                ("tail", (head + over) * ~is_found),
                ("merged", over * (is_found & is_merged)),
                ("long", over * (is_found & ~is_merged)),
            ):
                self._table.add(f"{name}_{kind}", segments.source, amounts)


def document_ends(block: SampleBlock, following: int | None, rule: Rule, position: int, part_items: int) -> Ints:
    """Where the trainer finds that documents end in a block: ascending positions in it, one behind their last token.

    Args:
        block: Samples with at least one token, or none.
        following: The id behind them, None at the end of all.
        rule: The trainer's configuration.
        position: Tokens of the export in front of the block.
        part_items: Tokens of a full part.
    """
    size = len(block.ids)
    if rule.metadata:
        edges = block.edges[1:][np.diff(block.edges) > 0]
        closes: Ints = np.union1d(edges, part_borders(block, position, part_items))
        return closes
    ends = np.flatnonzero(block.ids == rule.eos) + 1
    if rule.bos is None or not len(ends):
        return ends
    behind = block.ids[np.minimum(ends, size - 1)] == rule.bos
    if ends[-1] == size:
        behind[-1] = following in (None, rule.bos)
    at_part_end = (position + ends) % part_items == 0
    kept: Ints = ends[behind | at_part_end]
    return kept


def part_borders(block: SampleBlock, position: int, part_items: int) -> Ints:
    """Where parts end in a block, ascending positions in it; arguments as of ``document_ends``."""
    first = part_items - position % part_items
    return np.arange(first, len(block.ids) + 1, part_items, dtype=np.int64)


def _up_to(positions: Ints, limits: Ints) -> Ints:
    """How many of the ascending ``positions`` are at most each limit."""
    return np.searchsorted(positions, limits, side="right")


def _between(positions: Ints, starts: Ints, stops: Ints) -> Ints:
    """How many of the ascending ``positions`` lie strictly between each start and stop."""
    inside: Ints = np.maximum(_up_to(positions, stops - 1) - _up_to(positions, starts), 0)
    return inside


def _summed(parts: list[_Segments]) -> _Segments:
    """Segments of one document summed by source, as segments of document 0."""
    source, inverse = np.unique(np.concatenate([part.source for part in parts]), return_inverse=True)
    sums = []
    for name in ("head", "head_trainable", "over", "over_trainable"):
        total = np.zeros(len(source), np.int64)
        np.add.at(total, inverse, np.concatenate([getattr(part, name) for part in parts]))
        sums.append(total)
    return _Segments(np.zeros(len(source), np.int64), source, *sums)
