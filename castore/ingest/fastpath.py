"""Tokens and labels of many conversations at once, for byte-level BPE tokenizers.

Three facts make it cheap. Text between two added tokens is encoded independently of everything else, so each such
segment is encoded once per batch and prefix renderings reuse the segments of the whole. Every token stands for a
known number of bytes, so that offsets are cumulated lengths. And real text repeats its words (``words``). A row whose
tokens do not add up to exactly its bytes is handed back, for the exact path of ``labels``.
"""

from __future__ import annotations

import re
import sys
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from castore.ingest.labels import (
    NO_CUT,
    NOT_DERIVABLE,
    NOTHING_TRAINABLE,
    Cut,
    Message,
    Prefix,
    Rendered,
    Span,
    cut_of,
    is_stable,
    longer_header,
    merge_spans,
    verify_spans,
)
from castore.ingest.tokenizer_folder import byte_alphabet
from castore.ingest.word_encoder import WordEncoder, rule_of

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    Ints = np.ndarray[Any, np.dtype[np.int64]]

ID_BYTES = 4


class Row(NamedTuple):
    """One conversation on its way."""

    messages: Sequence[Message]
    rendered: Rendered


class Labelled(NamedTuple):
    """One conversation done: its ids as native uint32 bytes, cut; its spans, or why it is dropped; what was cut off."""

    ids: bytes
    spans: list[Span] | str
    cut: Cut = NO_CUT


class _Counted(NamedTuple):
    """A prefix rendering in segments: so many leading parts of the whole row, then these."""

    shared_parts: int
    tail_parts: list[str]


@dataclass(slots=True)
class _RowPlan:
    """What is known of a row before anything is encoded."""

    row: Row
    parts: list[str]
    counted: list[tuple[int, _Counted | None, _Counted]] | None  # None: stable, labels by offsets


class FastTokenizer:
    """Encoder and label deriver for a qualifying tokenizer; see :meth:`create`."""

    def __init__(
        self, tokenizer: Tokenizer, added: dict[str, int], byte_lengths: Ints, words: WordEncoder | None
    ) -> None:
        self._tokenizer = tokenizer
        self._words = words
        self._byte_lengths = byte_lengths
        self._added = {token: _pack([number]) for token, number in added.items()}
        self._longest = max(map(len, added), default=0)
        # Longest first: the library, too, prefers the longest of the added tokens that begin at a place.
        pattern = "|".join(map(re.escape, sorted(added, key=len, reverse=True)))
        self._split: Callable[[str], list[str]] = re.compile(f"({pattern})").split if added else lambda text: [text]
        self._nested = any(inner != outer and inner in outer for inner in added for outer in added)

    @classmethod
    def create(cls, tokenizer: Tokenizer, specification: dict[str, Any]) -> FastTokenizer | None:
        """Return a fast tokenizer, or None if this kind of tokenizer needs the exact path.

        Args:
            tokenizer: As built from the folder.
            specification: Its ``tokenizer.json``, parsed.
        """
        added = _plain_added_tokens(tokenizer)
        if added is None or not _qualifies(specification):
            return None
        vocabulary: dict[str, int] = specification["model"]["vocab"]
        if not byte_alphabet().keys() <= vocabulary.keys():
            return None  # Some bytes would be unknown tokens.
        byte_lengths = np.zeros(max([*vocabulary.values(), *added.values()]) + 1, dtype=np.int64)
        byte_lengths[[*vocabulary.values()]] = [*map(len, vocabulary)]
        byte_lengths[[*added.values()]] = [len(token.encode()) for token in added]
        rule = rule_of(specification["pre_tokenizer"])
        return cls(tokenizer, added, byte_lengths, None if rule is None else WordEncoder(tokenizer, rule))

    def run(self, rows: Sequence[Row], max_length: int | None) -> list[Labelled | None]:
        """Encode rows and derive their labels.

        Args:
            rows: A batch; memory grows with its text.
            max_length: Tokens kept per row; None keeps all.

        Returns:
            For each row its result, or None if it needs the exact path.
        """
        if not rows:
            return []
        plans = [self._plan(row) for row in rows]
        known = self._encode_segments(plans)
        ids = [b"".join(map(known.__getitem__, plan.parts)) for plan in plans]
        tokens = np.frombuffer(b"".join(ids), dtype=np.uint32)
        # ends[k]: bytes of the batch's text in front of token k.
        ends = np.concatenate(([0], np.cumsum(self._byte_lengths[tokens])))
        firsts = [*accumulate((len(row_ids) // ID_BYTES for row_ids in ids), initial=0)]
        byte_firsts: list[int] = ends[firsts].tolist()
        stable = _stable_spans([(plan, start) for plan, start in zip(plans, byte_firsts, strict=False)], ends)
        results: list[Labelled | None] = []
        for number, plan in enumerate(plans):
            text = plan.row.rendered.text
            size = byte_firsts[number + 1] - byte_firsts[number]
            raw = text if len(text) == size and text.isascii() else text.encode()
            if len(raw) != size:
                results.append(None)
                continue
            count = firsts[number + 1] - firsts[number]
            kept = count if max_length is None else min(count, max_length)
            if plan.counted is None:
                spans: list[Span] | str = [(lo - firsts[number], hi - firsts[number]) for lo, hi in stable[number]]
            else:
                row_ends = ends[firsts[number] : firsts[number + 1] + 1] - byte_firsts[number]
                spans = _unstable_spans(plan, known, raw, row_ends, kept, max_length)
            cut = NO_CUT
            if not isinstance(spans, str):
                merged = merge_spans(spans, kept)
                cut = cut_of(spans, merged, count, kept)
                spans = merged or NOTHING_TRAINABLE
            if plan.row.rendered.turns is None:
                spans = NOT_DERIVABLE
            results.append(Labelled(ids[number][: kept * ID_BYTES], spans, cut))
        return results

    def _plan(self, row: Row) -> _RowPlan:
        rendered = row.rendered
        parts = self._split(rendered.text)
        if is_stable(rendered):
            return _RowPlan(row, parts, None)
        ends = [*accumulate(map(len, parts))]
        barriers = ends[1::2]

        def segments(prefix: Prefix) -> _Counted:
            # The split of a prefix equals that of the whole up to the last added token which no longer one could
            # replace by reaching into the part that differs.
            if self._nested:
                shared = bisect_right(ends[0:-1:2], prefix.common - self._longest)
            else:
                shared = bisect_right(barriers, prefix.common)
            begin = barriers[shared - 1] if shared else 0
            return _Counted(2 * shared, self._split(rendered.text[begin : prefix.common] + prefix.tail))

        counted = [
            (index, segments(header) if index else None, segments(through))
            for index, header, through in rendered.turns or ()
        ]
        return _RowPlan(row, parts, counted)

    def _encode_segments(self, plans: Iterable[_RowPlan]) -> dict[str, bytes]:
        """Encode every distinct segment once; return text to ids (native uint32 bytes), added tokens included."""
        known = {"": b""} | self._added
        wanted: set[str] = set()
        for plan in plans:
            wanted.update(plan.parts)
            for _, header, through in plan.counted or ():
                if header is not None:
                    wanted.update(header.tail_parts)
                wanted.update(through.tail_parts)
        wanted.difference_update(known)
        declined = []
        for segment in wanted:
            ids = None if self._words is None else self._words.encode(segment)
            if ids is None:
                declined.append(segment)
            else:
                known[segment] = ids
        if declined:
            encodings = self._tokenizer.encode_batch_fast(declined, add_special_tokens=False)
            known.update(zip(declined, (_pack(encoding.ids) for encoding in encodings), strict=True))
        return known


def _stable_spans(rows: Sequence[tuple[_RowPlan, int]], ends: Ints) -> list[list[Span]]:
    """Find the tokens that overlap the turns of rows whose prefix renderings are prefixes.

    Args:
        rows: Plans with the byte at which each begins in the batch; others than stable ones get no spans.
        ends: int64[tokens + 1]  bytes in front of each token of the batch.

    Returns:
        Half-open token ranges of the batch, per row.
    """
    edges: list[int] = []
    counts = []
    for plan, begin in rows:
        before = len(edges)
        if plan.counted is None:
            text = plan.row.rendered.text
            bounds = [
                place
                for _, header, through in plan.row.rendered.turns or ()
                for place in (header.common + len(header.tail), through.common + len(through.tail))
            ]
            edges += [begin + place for place in (bounds if text.isascii() else _to_bytes(text, bounds))]
        counts.append((len(edges) - before) // 2)
    places = np.array(edges, dtype=np.int64).reshape(-1, 2)
    # A token overlaps a turn if it ends after the turn's start and starts before the turn's end.
    lows = (np.searchsorted(ends, places[:, 0], side="right") - 1).tolist()
    highs = np.searchsorted(ends[:-1], places[:, 1], side="left").tolist()
    spans = iter(zip(lows, highs, strict=True))
    return [[next(spans) for _ in range(count)] for count in counts]


def _to_bytes(text: str, places: Sequence[int]) -> list[int]:
    """Convert character positions to UTF-8 byte positions; cheapest if they ascend."""
    converted = []
    last, last_byte = 0, 0
    for place in places:
        if place < last:
            last, last_byte = 0, 0
        last_byte += len(text[last:place].encode())
        last = place
        converted.append(last_byte)
    return converted


def _unstable_spans(
    plan: _RowPlan, known: dict[str, bytes], raw: str | bytes, ends: Ints, kept: int, max_length: int | None
) -> list[Span] | str:
    """Derive spans from token counts of prefix renderings, and check them against the contents.

    Args:
        plan: Of an unstable row.
        known: Ids of every segment.
        raw: The rendering, as text if that is ASCII, else as UTF-8.
        ends: int64[tokens + 1]  bytes of the row in front of each of its tokens.
        kept: Tokens of the row after the cut.
        max_length: The cut.

    Returns:
        Spans of the whole row, not cut; or why the row has to be dropped.
    """
    totals = [*accumulate((len(known[part]) // ID_BYTES for part in plan.parts), initial=0)]

    def count(prefix: _Counted | None) -> int:
        if prefix is None:
            return 0
        return totals[prefix.shared_parts] + sum(len(known[part]) for part in prefix.tail_parts) // ID_BYTES

    def decoded(start: int, end: int) -> str:
        piece = raw[int(ends[start]) : int(ends[end])]
        return piece if isinstance(piece, str) else piece.decode("utf-8", "replace")

    uncut = [(index, count(header), count(through)) for index, header, through in plan.counted or ()]
    most = max_length or sys.maxsize
    spans = [(index, min(start, most), min(end, most)) for index, start, end in uncut]
    fault = verify_spans(plan.row.messages, plan.row.rendered.text, spans, kept, decoded) or longer_header(uncut)
    return [(start, end) for _, start, end in uncut] if fault is None else fault


def _pack(ids: Sequence[int]) -> bytes:
    return array("I", ids).tobytes()


def _plain_added_tokens(tokenizer: Tokenizer) -> dict[str, int] | None:
    """Return the added tokens by content, or None if they are not always found, or reach into the text around."""
    tokens = tokenizer.get_added_tokens_decoder()
    if tokenizer.encode_special_tokens:
        return None
    if any(token.single_word or token.lstrip or token.rstrip for token in tokens.values()):
        return None
    if len({token.normalized for token in tokens.values()}) > 1:
        return None  # The library then looks for them in two rounds.
    return {token.content: number for number, token in tokens.items() if token.content}


def _qualifies(specification: dict[str, Any]) -> bool:
    """Tell whether a ``tokenizer.json`` is a byte-level BPE whose offsets are cumulated byte lengths."""
    model = specification["model"]
    plain_model = model.get("type") == "BPE" and not any(
        model.get(name) for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback")
    )
    if not plain_model or specification.get("normalizer") is not None:
        return False
    pre_tokenizer = specification.get("pre_tokenizer") or {"type": None}
    steps = pre_tokenizer["pretokenizers"] if pre_tokenizer["type"] == "Sequence" else [pre_tokenizer]
    byte_level_last = bool(steps) and steps[-1]["type"] == "ByteLevel" and not steps[-1].get("add_prefix_space", True)
    others_cut_only = all(
        step["type"] == "Digits" or (step["type"] == "Split" and _cuts_only(step)) for step in steps[:-1]
    )
    return byte_level_last and others_cut_only and not _trims_offsets(specification.get("post_processor"))


def _cuts_only(split: dict[str, Any]) -> bool:
    # What a "Removed" split drops shows as missing bytes, and sends the row to the exact path.
    return "pattern" in split and "behavior" in split


def _trims_offsets(post_processor: dict[str, Any] | None) -> bool:
    """Tell whether offsets leave out the space in front of a word, which makes labels differ from byte lengths."""
    if post_processor is None:
        return False
    steps = post_processor.get("processors", [post_processor])
    return any(step["type"] in ("ByteLevel", "RobertaProcessing") and step.get("trim_offsets", True) for step in steps)
