"""Packing a dataset: which documents it has, which instance each goes to, and what that takes to read an instance.

Two ways to find documents. ``documents`` takes the true boundaries, one document a sample; what is longer than an
instance is split, and nothing is lost. ``olmo-core`` looks for EOS part by part as OLMo-core does (``olmo_core``), to
compare with it: documents may hold several samples, and tokens are dropped where OLMo-core drops them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import index
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from castore.errors import FormatError, InvalidInputError
from castore.format.chunk import decode_values, encode_values
from castore.format.codec import Value
from castore.format.digest import Digest
from castore.format.object import Object
from castore.format.packing import COLUMNS, PACKING_CHUNK, Packing
from castore.format.samples import TOKENS_MAX, offsets_of
from castore.olmo.layout import PART_BYTES, id_width
from castore.read.blocks import Ints, blocks_of, with_next
from castore.read.columns import Columns
from castore.read.stream import in_order
from castore.read.tokenizer import special_token_id
from castore.read.whole import whole_lengths
from castore.train.best_fit import best_fit, tight_fit
from castore.train.check import BLOCK_TOKENS, document_ends
from castore.train.report import Rule
from castore.tree.walk import Fetch

MODES = ("documents", "olmo-core")

Column: TypeAlias = NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class Instances:
    """A packing in memory. Attributes are the columns of ``castore.format.packing``, uint32, and:

    Attributes:
        sequence_length: Tokens of an instance.
        tokens: Tokens in instances; the other places are padding.
        digest: Of the packing's document: equal for equal data packed under an equal rule.
    """

    sequence_length: int
    tokens: int
    instance_documents: Column
    document_segments: Column
    segment_sample: Column
    segment_start: Column
    segment_length: Column
    digest: Digest

    def __len__(self) -> int:
        return len(self.instance_documents)

    def __repr__(self) -> str:
        return f"<Instances: {len(self)} of {self.sequence_length} tokens, {100 * self.efficiency:.2f} % full>"

    @property
    def efficiency(self) -> float:
        """Share of the places in instances that hold a token, for people to read; 0 without instances."""
        places = len(self) * self.sequence_length
        return self.tokens / places if places else 0.0

    def check_fit(self, offsets: NDArray[np.int64]) -> None:
        """Refuse a packing that does not fit the samples: it is stored, and what is stored may be anybody's.

        Args:
            offsets: Where samples begin and end among all tokens, int64[samples + 1].

        Raises:
            FormatError: It names other samples or tokens than there are, or an instance holds too many or none.
        """
        name = f"packing {self.digest.hex()}"
        samples = self.segment_sample
        if len(samples) and int(samples.max()) >= len(offsets) - 1:
            raise FormatError(f"{name} names sample {samples.max()} of {len(offsets) - 1}")
        stops = self.segment_start.astype(np.int64) + self.segment_length
        segments = offsets_of(self.document_segments)[offsets_of(self.instance_documents)]
        full = np.diff(offsets_of(self.segment_length)[segments])
        if np.any(stops > np.diff(offsets)[samples]) or np.any(full > self.sequence_length):
            raise FormatError(f"{name} has documents over the end of a sample or of an instance")
        if not (self.instance_documents.all() and self.document_segments.all() and self.segment_length.all()):
            raise FormatError(f"{name} has an instance or a document without tokens")


@dataclass(frozen=True, slots=True)
class PackingRule:
    """How to pack.

    Attributes:
        sequence_length: Tokens of an instance.
        mode: One of ``MODES``.
        olmo_core: The trainer's configuration in mode ``olmo-core``, with the tokens of a part.
    """

    sequence_length: int
    mode: str = "documents"
    olmo_core: tuple[Rule, int] | None = None

    def value(self) -> dict[str, Value]:
        """As a packing's document names it."""
        value: dict[str, Value] = {"mode": self.mode, "sequence_length": self.sequence_length}
        if self.olmo_core is not None:
            rule, part_items = self.olmo_core
            value |= {"bos": rule.bos, "eos": rule.eos, "fragment": rule.fragment, "part_items": part_items}
        return value


def packing_rule(
    data: Columns,
    sequence_length: int,
    mode: str = "documents",
    *,
    eos: int | None = None,
    bos: int | None = None,
    fragment: bool = False,
    part_bytes: int = PART_BYTES,
) -> PackingRule:
    """The rule for a dataset.

    Args:
        data: The dataset.
        sequence_length: Tokens of an instance; for ``olmo-core`` a power of two.
        mode: One of ``MODES``.
        eos, bos, fragment, part_bytes: Of mode ``olmo-core``, as in ``castore check``; EOS is the recorded tokenizer's
            by default.

    Raises:
        InvalidInputError: No such mode or length, an option of the other mode, or EOS was not recorded.
    """
    if mode not in MODES:
        raise InvalidInputError(f"packing mode {mode!r}: give one of {', '.join(MODES)}")
    sequence_length = _integer(sequence_length, "sequence length")
    if not 1 <= sequence_length <= TOKENS_MAX:
        raise InvalidInputError(f"sequence length {sequence_length}: give 1 to {TOKENS_MAX}")
    if mode == "documents":
        if eos is not None or bos is not None or fragment:
            raise InvalidInputError("eos, bos and fragment are for mode 'olmo-core': true boundaries need none of them")
        return PackingRule(sequence_length)
    eos = special_token_id(data, "eos_token") if eos is None else _integer(eos, "EOS")
    bos = None if bos is None else _integer(bos, "BOS")
    if eos is None:
        raise InvalidInputError("no tokenizer with an EOS token was recorded: give the id of EOS")
    part_items = part_bytes // id_width(data)
    if part_items < 1:
        raise InvalidInputError(f"part_bytes {part_bytes}: no id is so small")
    return PackingRule(sequence_length, mode, (Rule(sequence_length, eos, bos, fragment), part_items))


def _integer(value: object, what: str) -> int:
    """A number of Python's or numpy's as the format has it."""
    try:
        return index(value)  # type: ignore[arg-type]
    except TypeError:
        raise InvalidInputError(f"{what} {value!r:.80} is no integer") from None


def pack_dataset(
    data: Columns, rule: PackingRule, *, report: Callable[[int, int], None] = lambda done, total: None
) -> tuple[Packing, list[Object]]:
    """Pack a dataset in its recorded order.

    In mode ``documents`` the lengths of the samples are all that is read. Memory: some tens of bytes a document.

    Returns:
        The document, and the objects of its columns.
    """
    order = data.manifest.order
    samples = np.arange(data.manifest.samples) if order is None else order.positions(data.fetch)
    lengths = whole_lengths(data).astype(np.int64)[samples]
    if rule.olmo_core is None:
        found = _of_samples(samples, lengths, rule.sequence_length)
    else:
        found = _of_stream(data, samples, offsets_of(lengths), *rule.olmo_core, report)
    chunks: dict[str, list[Object]] = {name: _chunks(getattr(found, name)) for name in COLUMNS}
    packing = Packing(
        data.root,
        rule.value(),
        len(found.instance_documents),
        len(found.document_segments),
        len(found.segment_sample),
        int(found.segment_length.sum()),
        {name: tuple(chunk.digest for chunk in chunks[name]) for name in COLUMNS},
    )
    return packing, [chunk for name in COLUMNS for chunk in chunks[name]]


def computed(data: Columns, rule: PackingRule) -> Instances:
    """The packing of a dataset, stored nowhere."""
    packing, chunks = pack_dataset(data, rule)
    document = packing.encode()
    objects = {item.digest: item.data for item in [*chunks, document]}
    return read_instances(objects.__getitem__, document.digest, data.root, rule)


def read_instances(fetch: Fetch, digest: Digest, root: Digest, rule: PackingRule) -> Instances:
    """The packing of the dataset with that root under that rule, from its stored form.

    Raises:
        NotFoundError: A part of it is gone.
        FormatError: It contradicts itself, or is of other data.
    """
    packing = Packing.decode(fetch(digest))
    if packing.root != root or packing.rule != rule.value():
        raise FormatError(f"packing {digest.hex()} is of other data or another rule than its record says")
    columns = {name: _joined(fetch, packing, name) for name in COLUMNS}
    documents, segments = columns["instance_documents"], columns["document_segments"]
    if documents.sum() != packing.documents or segments.sum() != packing.segments:
        raise FormatError(f"packing {digest.hex()} holds other counts than it says")
    if columns["segment_length"].sum() != packing.tokens:
        raise FormatError(f"packing {digest.hex()} holds other tokens than it says")
    return Instances(rule.sequence_length, packing.tokens, digest=digest, **columns)


# ---- finding documents


@dataclass(frozen=True, slots=True)
class _Found:
    """The columns of a packing."""

    instance_documents: Ints
    document_segments: Ints
    segment_sample: Ints
    segment_start: Ints
    segment_length: Ints


def count_instances(lengths: Ints, capacity: int) -> int:
    """Instances that mode ``documents`` makes of samples of these lengths."""
    return len(tight_fit(split_long(lengths, capacity)[2], capacity).counts)


def split_long(lengths: Ints, capacity: int) -> tuple[Ints, Ints, Ints]:
    """Samples in pieces of at most ``capacity``: the sample of each piece, where it begins in it, its tokens."""
    pieces = -(-lengths // capacity)
    owners = np.repeat(np.arange(len(lengths)), pieces)
    starts = (np.arange(len(owners)) - np.repeat(offsets_of(pieces)[:-1], pieces)) * capacity
    return owners, starts, np.minimum(lengths[owners] - starts, capacity)


def _of_samples(samples: Ints, lengths: Ints, capacity: int) -> _Found:
    """True boundaries: every sample is a document, or several where it is longer than an instance."""
    owners, starts, counts = split_long(lengths, capacity)
    packed = tight_fit(counts, capacity)
    chosen = packed.documents
    ones = np.ones(len(chosen), np.int64)
    return _Found(packed.counts, ones, samples[owners[chosen]], starts[chosen], counts[chosen])


def _of_stream(
    data: Columns, samples: Ints, edges: Ints, rule: Rule, part_items: int, report: Callable[[int, int], None]
) -> _Found:
    """OLMo-core's boundaries: documents between EOS ids, packed part by part."""
    ends = _ends(data, rule, part_items, report)
    instance_documents, starts, lengths = [], [], []
    for base in range(0, int(edges[-1]), part_items):
        inside = ends[np.searchsorted(ends, base, "right") : np.searchsorted(ends, base + part_items, "right")]
        begins = np.concatenate([[base], inside[:-1]])[: len(inside)]
        begins, counts = _pieces(begins, inside - begins, rule)
        packed = best_fit(counts, rule.sequence_length)
        instance_documents.append(packed.counts)
        starts.append(begins[packed.documents])
        lengths.append(counts[packed.documents])
    return _segmented(samples, edges, *(_joined_ints(parts) for parts in (instance_documents, starts, lengths)))


def _pieces(begins: Ints, lengths: Ints, rule: Rule) -> tuple[Ints, Ints]:
    """Documents over the sequence length cut to it, or in pieces."""
    limit = rule.sequence_length
    if not rule.fragment:
        return begins, np.minimum(lengths, limit)
    pieces = -(-lengths // limit)
    inside = np.arange(pieces.sum()) - np.repeat(offsets_of(pieces)[:-1], pieces)
    return np.repeat(begins, pieces) + inside * limit, np.minimum(np.repeat(lengths, pieces) - inside * limit, limit)


def _ends(data: Columns, rule: Rule, part_items: int, report: Callable[[int, int], None]) -> Ints:
    """Where documents end in the export: ascending positions, one behind their last token."""
    ends, position = [], 0
    for block, following in with_next(blocks_of(in_order(data, None), BLOCK_TOKENS)):
        if len(block.ids):
            ends.append(document_ends(block, following, rule, position, part_items) + position)
            position += len(block.ids)
            report(position, data.manifest.tokens)
    return _joined_ints(ends)


def _segmented(samples: Ints, edges: Ints, instance_documents: Ints, starts: Ints, lengths: Ints) -> _Found:
    """Runs of the stream as segments of samples; ``edges`` are where the samples begin and end in it."""
    some = np.flatnonzero(np.diff(edges))  # samples without tokens are in no document
    firsts = edges[some]
    first = np.searchsorted(firsts, starts, side="right") - 1
    counts = np.searchsorted(firsts, starts + lengths, side="left") - first
    owners = np.repeat(np.arange(len(starts)), counts)
    sample = some[np.repeat(first - offsets_of(counts)[:-1], counts) + np.arange(len(owners))]
    begins = np.maximum(edges[sample], starts[owners])
    stops = np.minimum(edges[sample + 1], (starts + lengths)[owners])
    return _Found(instance_documents, counts, samples[sample], begins - edges[sample], stops - begins)


# ---- columns


def _chunks(numbers: Ints) -> list[Object]:
    if len(numbers) and int(numbers.max()) >> 32:
        raise InvalidInputError(f"a packing of {int(numbers.max())} samples: 2**32 is the most")
    raw = numbers.astype("<u4").tobytes()
    step = 4 * PACKING_CHUNK
    parts = [raw[at : at + step] for at in range(0, len(raw), step)]
    return [encode_values("uint32", len(part) // 4, part) for part in parts]


def _joined(fetch: Fetch, packing: Packing, name: str) -> Column:
    parts = [np.frombuffer(decode_values(fetch(digest), "uint32").items, "<u4") for digest in packing.columns[name]]
    column = np.concatenate([np.zeros(0, np.uint32), *parts]).astype(np.uint32, copy=False)
    if len(column) != packing.rows(name):
        raise FormatError(f"column {name} of a packing has {len(column)} numbers, not {packing.rows(name)}")
    return column


def _joined_ints(parts: list[Ints]) -> Ints:
    return np.concatenate([np.zeros(0, np.int64), *parts])
