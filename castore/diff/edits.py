"""How one sample differs from another in its place: tokens aligned, labels of the tokens that stayed."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from castore.errors import CorruptionError
from castore.format.schema import LABELS_MASK
from castore.read.columns import Columns
from castore.tree.align import Gap, align

ALIGNED_TOKENS_MAX = 1 << 18
"""Tokens of one side, past those that both sides begin and end with, up to which tokens are aligned."""

Range = tuple[int, int]
Spans = Sequence[Range]


class Edit(NamedTuple):
    """Tokens ``[a.0, a.1)`` of one sample stand where ``[b.0, b.1)`` of the other stand.

    Attributes:
        op: ``replace``, ``delete`` or ``insert``; for the last two one of the ranges is empty and says where.
        a, b: Half-open ranges of tokens, counted from the start of the sample.
    """

    op: str
    a: Range
    b: Range


class Flip(NamedTuple):
    """Equal tokens whose labels differ: ``[a.0, a.1)`` of one sample, ``[b.0, b.1)`` of the other, equally many.

    Attributes:
        trained: Whether these tokens are trained on in b; in a they are not, or the other way round.
    """

    a: Range
    b: Range
    trained: bool


class Change(NamedTuple):
    """How one sample differs from another that stands in its place.

    What is outside of all edits is equal token by token, and what is outside of all flips and edits has equal labels:
    the edits applied to a, with tokens and labels of b, and the flips after them, make b.

    Attributes:
        sample_a, sample_b: The samples, in stored order.
        edits: Tokens that differ, in order.
        flips: Labels that differ on tokens that do not, in order.
        coarse: The tokens were too many to align: ``edits`` is one edit from the first token that differs to the last.
    """

    sample_a: int
    sample_b: int
    edits: tuple[Edit, ...] = ()
    flips: tuple[Flip, ...] = ()
    coarse: bool = False


def change_of(a: Columns, sample_a: int, b: Columns, sample_b: int) -> Change:
    """Align two samples, whatever they are."""
    tokens_a, tokens_b = token_lists(a, sample_a, sample_a + 1), token_lists(b, sample_b, sample_b + 1)
    edits, coarse = token_edits(tokens_a[0], tokens_b[0])
    flips: tuple[Flip, ...] = ()
    if a.has(LABELS_MASK.name) and b.has(LABELS_MASK.name):
        flips = label_flips(labels_of(a, sample_a, tokens_a)[0], labels_of(b, sample_b, tokens_b)[0], edits)
    return Change(sample_a, sample_b, edits, flips, coarse)


def token_lists(data: Columns, lo: int, hi: int) -> list[Sequence[int]]:
    """Token ids of samples ``lo`` to ``hi``, as what is aligned item by item without a copy."""
    ids, offsets = data.reader.tokens(lo, hi)
    view = ids.data
    return [view[start:stop] for start, stop in pairwise(offsets.tolist())]


def labels_of(data: Columns, lo: int, tokens: Sequence[Sequence[int]]) -> list[list[Range]]:
    """Trainable tokens of the samples from ``lo`` on, half-open ranges, of each whose tokens are given.

    Raises:
        CorruptionError: They reach over the end of a sample.
    """
    spans = data.reader.spans(LABELS_MASK.name, lo, lo + len(tokens)).by_sample()
    for i, own in enumerate(spans):
        if own and own[-1][1] > len(tokens[i]):
            raise CorruptionError(f"labels of sample {lo + i} reach over its end")
    return spans


def token_edits(a: Sequence[int], b: Sequence[int]) -> tuple[tuple[Edit, ...], bool]:
    """The edits that make ``b`` of ``a``, and whether they are one coarse edit because there were too many tokens."""
    gaps = align(a, b, items_max=ALIGNED_TOKENS_MAX)
    coarse = any(max(gap.a_hi - gap.a_lo, gap.b_hi - gap.b_lo) > ALIGNED_TOKENS_MAX for gap in gaps)
    return tuple(_edit(gap) for gap in gaps), coarse


def _edit(gap: Gap) -> Edit:
    op = "insert" if gap.a_lo == gap.a_hi else "delete" if gap.b_lo == gap.b_hi else "replace"
    return Edit(op, (gap.a_lo, gap.a_hi), (gap.b_lo, gap.b_hi))


def label_flips(spans_a: Spans, spans_b: Spans, edits: Sequence[Edit] = ()) -> tuple[Flip, ...]:
    """Tokens between the edits whose labels differ.

    Args:
        spans_a, spans_b: Trainable tokens of either sample, ascending.
        edits: The edits between the samples, in order.
    """
    if not edits and spans_a == spans_b:
        return ()
    flips: list[Flip] = []
    stops = [stop for _, stop in spans_a], [stop for _, stop in spans_b]
    a_at = b_at = 0
    for edit in [*edits, None]:
        stop = edit.a[0] if edit else max([a_at, *(hi for _, hi in spans_a), *(hi + a_at - b_at for _, hi in spans_b)])
        inside_a = list(_clipped(spans_a, stops[0], a_at, stop))
        inside_b = list(_clipped(spans_b, stops[1], b_at, stop - a_at + b_at))
        for lo, hi, trained in _differences(inside_a, inside_b):
            flips.append(Flip((a_at + lo, a_at + hi), (b_at + lo, b_at + hi), trained))
        if edit:
            a_at, b_at = edit.a[1], edit.b[1]
    return tuple(flips)


def _clipped(spans: Spans, stops: Sequence[int], lo: int, hi: int) -> Iterator[Range]:
    """The parts of spans, whose ends are ``stops``, that lie in ``[lo, hi)``, counted from ``lo``."""
    for at in range(bisect_right(stops, lo), len(spans)):
        start, stop = spans[at]
        if start >= hi:
            return
        yield max(start, lo) - lo, min(stop, hi) - lo


def _differences(a: Sequence[Range], b: Sequence[Range]) -> Iterator[tuple[int, int, bool]]:
    """Stretches that only one of two lists of spans covers, and whether that is ``b``; neighbours are not joined."""
    edges = sorted([(edge, 1) for span in a for edge in span] + [(edge, 2) for span in b for edge in span])
    state = at = 0
    for edge, side in edges:
        if edge > at and state in (1, 2):
            yield at, edge, state == 2
        state ^= side
        at = edge
