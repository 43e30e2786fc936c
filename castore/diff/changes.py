"""Which replaced samples are aligned token by token, and what changed in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from castore.diff.change_groups import Changes, Grouping
from castore.diff.edits import Change, change_of, label_flips, labels_of, token_edits, token_lists
from castore.diff.hunks import Hunk
from castore.read.columns import Columns

LOOKED_AT_MAX = 2048
"""Replaced pairs that are aligned token by token; of more, some from places that are evenly spaced."""

LOOKED_AT_ONCE = 32
"""Neighbouring pairs that are read together."""

READ_AHEAD = 16
"""Stretches whose chunks are asked for together."""

_READ = ("length", "token_ids", "labels_mask")


def first_change(a: Columns, b: Columns, hunk: Hunk) -> Change | None:
    """How the two samples of the first hunk differ, None if one side has none there."""
    return change_of(a, hunk.a[0], b, hunk.b[0]) if hunk.op == "replace" else None


def changes_of(a: Columns, b: Columns, hunks: Sequence[Hunk]) -> Changes:
    """Align replaced samples, all or some of every region, and group what changed in them."""
    replaced = [(hunk.a[0], hunk.b[0], hunk.a[1] - hunk.a[0]) for hunk in hunks if hunk.op == "replace"]
    total = sum(count for _, _, count in replaced)
    grouping = Grouping(a.vocabulary, b.vocabulary) if replaced else Grouping()
    labels = a.has("labels_mask") and b.has("labels_mask")
    stretches = list(_looked_at(replaced, total))
    for number, (a_lo, b_lo, count) in enumerate(stretches):
        if number % READ_AHEAD == 0:
            coming = stretches[number : number + READ_AHEAD]
            a.read_ahead(_READ, [(lo, lo + n) for lo, _, n in coming])
            b.read_ahead(_READ, [(lo, lo + n) for _, lo, n in coming])
        tokens_a, tokens_b = token_lists(a, a_lo, a_lo + count), token_lists(b, b_lo, b_lo + count)
        spans_a = labels_of(a, a_lo, tokens_a) if labels else [[]] * count
        spans_b = labels_of(b, b_lo, tokens_b) if labels else [[]] * count
        for i in range(count):
            edits, coarse = token_edits(tokens_a[i], tokens_b[i])
            flips = label_flips(spans_a[i], spans_b[i], edits)
            grouping.add(Change(a_lo + i, b_lo + i, edits, flips, coarse), tokens_a[i], tokens_b[i])
    return grouping.changes(total)


def _looked_at(replaced: Sequence[tuple[int, int, int]], total: int) -> Iterator[tuple[int, int, int]]:
    """Which pairs to align, as stretches: all if they are few, else some from places that are evenly spaced."""
    if total <= LOOKED_AT_MAX:
        for a_lo, b_lo, count in replaced:
            for at in range(0, count, LOOKED_AT_ONCE):
                yield a_lo + at, b_lo + at, min(LOOKED_AT_ONCE, count - at)
        return
    places = LOOKED_AT_MAX // LOOKED_AT_ONCE
    wanted = [total * place // places for place in range(places)]
    before = 0
    for a_lo, b_lo, count in replaced:
        while wanted and wanted[0] < before + count:
            at = wanted.pop(0) - before
            yield a_lo + at, b_lo + at, min(LOOKED_AT_ONCE, count - at)
        before += count
