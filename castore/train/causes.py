"""Why a trainer makes of an export what it makes of it, in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from castore.train.report import Report


@dataclass(frozen=True, slots=True)
class Cause:
    """One reason.

    Attributes:
        id: A word for programs; it keeps its meaning.
        conversations: How many it touches; 0 where it is about tokens.
        tokens, trainable: How many it touches; 0 where it is about conversations.
        text: One sentence for people.
    """

    id: str
    conversations: int
    tokens: int
    trainable: int
    text: str


def causes(report: Report) -> list[Cause]:
    """All reasons that apply: what is wrong with documents first, then what that does to tokens."""
    return [*_about_documents(report), *_about_tokens(report)]


def _about_documents(report: Report) -> Iterator[Cause]:
    total, rule = report.total, report.rule
    end = "EOS" if rule.bos is None else "EOS that a BOS follows"
    if total.cut:
        cut = f"cut at {report.cut_length:,} when tokenized"
        who = _conversations(total.cut, f"{cut} has", f"{cut} have")
        text = f"{who} no {end} and {_merge(total.cut)}"
        yield Cause("cut-without-end", total.cut, 0, 0, text)
    if other := total.unended - total.cut:
        who = _conversations(other, "does", "do")
        yield Cause("no-end", other, 0, 0, f"{who} not end in an {end} and {_merge(other)}")
    if total.split:
        who = _conversations(total.split, "is", "are")
        text = f"{who} split by an {end} before the last token, into {total.split + total.splits:,} documents"
        yield Cause("split", total.split, 0, 0, text)
    if total.crossing:
        who = _conversations(total.crossing, "is", "are")
        yield Cause("crossing", total.crossing, 0, 0, f"{who} cut in two by the end of a part")
    if total.long and rule.fragment:
        who = _conversations(total.long, "is", "are")
        text = f"{who} longer than {rule.sequence_length:,} tokens and split into pieces of that length"
        yield Cause("long", total.long, 0, 0, text)
    if total.empty:
        who = _conversations(total.empty, "has", "have")
        yield Cause("empty", total.empty, 0, 0, f"{who} no token and {'is' if total.empty == 1 else 'are'} not found")
    barren = sum(not part.documents for part in report.parts)
    if barren:
        who = f"{barren:,} {'part holds' if barren == 1 else 'parts hold'}"
        text = f"{who} no {end}: no document is found there, and OLMo-core before 3.0 stops with ZeroDivisionError"
        yield Cause("part-without-end", 0, 0, 0, text)


def _about_tokens(report: Report) -> Iterator[Cause]:
    total, limit = report.total, report.rule.sequence_length
    if total.mixed_tokens:
        text = (
            f"{_tokens(total.mixed_tokens, total.mixed_trainable)} reach the trainer in documents that hold tokens of "
            "more than one conversation"
        )
        yield Cause("mixed", 0, total.mixed_tokens, total.mixed_trainable, text)
    if total.merged_tokens:
        who = _tokens(total.merged_tokens, total.merged_trainable)
        text = f"{who} are dropped: they lie behind the first {limit:,} of merged documents"
        yield Cause("dropped-merged", 0, total.merged_tokens, total.merged_trainable, text)
    if total.long_tokens:
        who = _tokens(total.long_tokens, total.long_trainable)
        text = f"{who} are dropped: they lie behind the first {limit:,} of documents that are longer"
        yield Cause("dropped-long", total.long, total.long_tokens, total.long_trainable, text)
    if total.tail_tokens:
        who = _tokens(total.tail_tokens, total.tail_trainable)
        text = f"{who} are dropped: they lie behind the last end of a document in a part"
        yield Cause("dropped-tail", 0, total.tail_tokens, total.tail_trainable, text)


def _conversations(count: int, verb_one: str, verb_more: str) -> str:
    return f"{count:,} conversation {verb_one}" if count == 1 else f"{count:,} conversations {verb_more}"


def _merge(count: int) -> str:
    return "merges with the next" if count == 1 else "merge with the next"


def _tokens(count: int, trainable: int) -> str:
    return f"{count:,} token{'' if count == 1 else 's'} ({trainable:,} trainable)"
