"""Two samples side by side: stretches of tokens that are equal, differ, or are passed over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from castore.diff.edits import Change, Range, change_of, labels_of, token_lists
from castore.diff.hunks import Hunk
from castore.format.files import Vocabulary
from castore.format.schema import LABELS_MASK
from castore.read.columns import Columns, SampleOrigin

EQUAL, SKIP, LABEL = "equal", "skip", "label"
"""Kinds of stretches beside ``replace``, ``insert`` and ``delete``; of ``label`` only the labels differ."""


_CHARACTER_TOKENS = 6
"""Most tokens that are read as one piece of text; a character has at most four bytes."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Tokens ``[a.0, a.1)`` of one sample across from ``[b.0, b.1)`` of the other.

    Attributes:
        op: ``equal``, ``skip`` (equal, and too far from any difference to be shown), ``label``, ``replace``, ``insert``
            or ``delete``.
    """

    op: str
    a: Range
    b: Range


@dataclass(frozen=True, slots=True)
class ShownSample:
    """One sample as it is shown.

    Attributes:
        index: In stored order.
        token_ids: Token ids.
        spans: Trainable tokens, half-open ranges, ascending.
        vocabulary: To tell tokens as text, None if it was not recorded.
        origin: Where it came from, None if that was not recorded.
    """

    index: int
    token_ids: Sequence[int]
    spans: Sequence[Range]
    vocabulary: Vocabulary | None
    origin: SampleOrigin | None

    @classmethod
    def of(cls, data: Columns, index: int) -> ShownSample:
        """Read a sample."""
        tokens = token_lists(data, index, index + 1)
        spans = labels_of(data, index, tokens)[0] if data.has(LABELS_MASK.name) else []
        return cls(index, tokens[0], spans, data.vocabulary, data.origin(index))

    def tokens(self, lo: int, hi: int) -> list[tuple[str, bool, int]]:
        """Text, label and id of tokens ``lo`` to ``hi``.

        Of tokens that are one character together the first has its text and the others none; bytes that are no text
        read ``\\x9f``. Without a vocabulary the text is the id and a space; of an id that it does not have, the id in
        brackets.
        """
        ids = self.token_ids[lo:hi]
        return list(zip(self._texts(ids), _labels(self.spans, lo, hi), ids, strict=True))

    def _texts(self, ids: Sequence[int]) -> list[str]:
        if self.vocabulary is None:
            return [f"{token} " for token in ids]
        parts = [self.vocabulary.token(token) for token in ids]
        texts: list[str] = []
        while len(texts) < len(ids):
            at = len(texts)
            if parts[at]:
                texts += _together(parts[at : at + _CHARACTER_TOKENS])
            else:
                texts.append(f"⟨{ids[at]}⟩")
        return texts


@dataclass(frozen=True, slots=True)
class ShownPair:
    """Two samples that stand across from each other; one of them may be absent.

    Attributes:
        op: ``replace``, ``insert`` or ``delete``.
        arrays: Arrays that differ.
        stretches: What is to be shown, in order; together all tokens of both.
        coarse: The tokens were too many to align.
    """

    op: str
    arrays: tuple[str, ...]
    a: ShownSample | None
    b: ShownSample | None
    stretches: tuple[Stretch, ...]
    coarse: bool = False


def shown_hunks(hunks: Iterable[Hunk]) -> Iterator[Hunk]:
    """The hunks whose samples are worth showing: what has only moved is not, and what has moved and changed is shown
    once, across from where it is now."""
    for hunk in hunks:
        if hunk.moved is None:
            yield hunk
        elif hunk.arrays and hunk.op == "delete":
            yield Hunk("replace", hunk.a, hunk.moved, hunk.arrays)


def read_pair(
    a: Columns, b: Columns, op: str, sample_a: int, sample_b: int, arrays: tuple[str, ...], context: int
) -> ShownPair:
    """Read and align one pair of a hunk.

    Args:
        a, b: The datasets.
        op: Of the hunk; for ``insert`` and ``delete`` the sample of the other side is not looked at.
        sample_a, sample_b: The samples.
        arrays: Of the hunk.
        context: Equal tokens kept before and after what differs; of a sample that stands alone, four times as many.
    """
    if op == "delete":
        alone = ShownSample.of(a, sample_a)
        return ShownPair(op, arrays, alone, None, _alone(op, len(alone.token_ids), 4 * context))
    if op == "insert":
        alone = ShownSample.of(b, sample_b)
        return ShownPair(op, arrays, None, alone, _alone(op, len(alone.token_ids), 4 * context))
    change = change_of(a, sample_a, b, sample_b)
    pair = ShownSample.of(a, sample_a), ShownSample.of(b, sample_b)
    found = stretches(change, len(pair[0].token_ids), context)
    if change.flips and "labels_mask" not in arrays:
        arrays = (*arrays, "labels_mask")
    return ShownPair(op, arrays, *pair, tuple(found), change.coarse)


def stretches(change: Change, length_a: int, context: int) -> Iterator[Stretch]:
    """The whole of two samples as stretches.

    Args:
        change: How they differ.
        length_a: Tokens of the first.
        context: Equal tokens kept before and after what differs. A pass over fewer than four tokens is not worth it.
    """
    marked = sorted(
        [Stretch(edit.op, edit.a, edit.b) for edit in change.edits]
        + [Stretch(LABEL, flip.a, flip.b) for flip in change.flips],
        key=lambda stretch: (stretch.a, stretch.b),
    )
    a_at = b_at = 0
    for one in [*marked, None]:
        stop = one.a[0] if one else length_a
        yield from _equal(a_at, b_at, stop - a_at, context if a_at or b_at else 0, context if one else 0)
        if one:
            yield one
            a_at, b_at = one.a[1], one.b[1]


def _equal(a_at: int, b_at: int, count: int, before: int, after: int) -> Iterator[Stretch]:
    """Equal tokens: some behind the difference before them, some ahead of the one after, and a pass between."""
    if count <= 0:
        return
    skipped = count - before - after
    parts = [(EQUAL, count)] if skipped < 4 else [(EQUAL, before), (SKIP, skipped), (EQUAL, after)]
    for op, length in parts:
        if length:
            yield Stretch(op, (a_at, a_at + length), (b_at, b_at + length))
            a_at, b_at = a_at + length, b_at + length


def _alone(op: str, length: int, most: int) -> tuple[Stretch, ...]:
    """A sample that the other side does not have: its beginning, and a pass over the rest."""
    shown = length if length - most < 4 else most
    found = []
    for kind, lo, hi in ((op, 0, shown), (SKIP, shown, length)):
        if lo < hi:
            here, there = (lo, hi), (0, 0)
            found.append(Stretch(kind, *((here, there) if op == "delete" else (there, here))))
    return tuple(found)


def _together(parts: Sequence[bytes]) -> list[str]:
    """Texts of the first tokens of some: as few as are whole characters together, else the first alone."""
    for count in range(1, len(parts) + 1):
        try:
            return [b"".join(parts[:count]).decode(), *[""] * (count - 1)]
        except UnicodeDecodeError as error:
            if error.reason != "unexpected end of data":
                break
    return [parts[0].decode("utf-8", "backslashreplace")]


def _labels(spans: Sequence[Range], lo: int, hi: int) -> list[bool]:
    """Label of each of the tokens ``lo`` to ``hi``."""
    labels = [False] * (hi - lo)
    for start, stop in spans:
        for at in range(max(start, lo), min(stop, hi)):
            labels[at - lo] = True
    return labels
