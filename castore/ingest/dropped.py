"""What is said when all or most rows of a source are dropped: how many for which reason, and what helps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice

from castore.ingest.chat import RowError, json_parser, parse_row
from castore.ingest.labels import CUT_INSIDE_CHARACTER, NOT_DERIVABLE, NOTHING_TRAINABLE
from castore.ingest.run_writer import MixItem, SourceCounts
from castore.ingest.unit_feed import BAD_ROW

ROWS_LOOKED_AT = 1000
"""Rows of a source whose roles are counted for a message."""

_ROLES_SHOWN = 6

FIXES = {
    NOT_DERIVABLE: "the chat template opens an answer with text that is not in front of it in the conversation (as "
    "'<think>' is), changes an assistant text, or raises for a part of a conversation, so that the tokens of the "
    "answer cannot be told: give a --chat-template that writes each turn alike wherever it stands, 'content' unchanged",
    NOTHING_TRAINABLE: "only messages of role 'assistant' are trained on: rename the roles if the answers have "
    "another, see that the answers are not empty, and raise --max-seq-length if they lie behind the cut",
    CUT_INSIDE_CHARACTER: "the cut falls inside a character: give another --max-seq-length",
    BAD_ROW: "these rows cannot be read: --on-error stop says what is wrong with the first",
}
"""What helps against each reason."""


def why_none(mix: Sequence[MixItem], counts: Sequence[SourceCounts]) -> str:
    """Why no row of a mix became a sample, in one line."""
    dropped: Counter[str] = Counter()
    for count in counts:
        dropped.update(count.dropped)
    if not dropped:
        return "no row became a sample: the amounts take no rows"
    return f"no row became a sample: {_told(dropped, mix)}"


def warnings_of_dropped(mix: Sequence[MixItem], counts: Sequence[SourceCounts]) -> Iterator[str]:
    """One line for each source of which more than half of the rows were dropped."""
    for item, count in zip(mix, counts, strict=True):
        dropped = sum(count.dropped.values())
        if 2 * dropped > count.selected:
            what = "none" if count.samples == 0 else f"only {count.samples}"
            yield (
                f"{item.source.name}: {what} of the {count.selected} rows taken became "
                f"{'a sample' if count.samples < 2 else 'samples'}: {_told(count.dropped, [item])}"
            )


def _told(dropped: Counter[str], mix: Sequence[MixItem]) -> str:
    reasons = sorted(dropped.items(), key=lambda item: (-item[1], item[0]))
    listed = ", ".join(f"{count} {reason}" for reason, count in reasons)
    fixes = "; ".join(f"{reason}: {FIXES[reason]}" for reason, _ in reasons if reason in FIXES)
    roles = _roles(mix)
    return f"{listed} (roles: {roles}); {fixes}" if roles else f"{listed}; {fixes}"


def _roles(mix: Sequence[MixItem]) -> str:
    """The roles in the first rows of each source, the most frequent first; a text, empty if no row can be read."""
    loads, json_error = json_parser()
    roles: Counter[str] = Counter()
    for item in mix:
        rows = (row for block in item.source.blocks() for row in block.rows)
        for raw in islice(rows, ROWS_LOOKED_AT):
            try:
                roles.update(message["role"] for message in parse_row(raw, loads, json_error).messages)
            except RowError:
                continue
    known = sorted(roles.items(), key=lambda item: (-item[1], item[0]))
    shown = ", ".join(f"{role[:40]!r} {count}" for role, count in known[:_ROLES_SHOWN])
    return shown + (", …" if len(known) > _ROLES_SHOWN else "")
