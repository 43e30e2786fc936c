"""Which tokens of a conversation are trained on: the exact rules, as open-instruct applies them.

Everything here works on whole renderings and on the offsets that the tokenizer reports. That is right for every
tokenizer and template, and slow: the number of encoded tokens grows with the square of the turns. ``fastpath`` does
the same with less work where it can be sure of the same answer, and is tested against this module.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

NOTHING_TRAINABLE = "nothing-trainable"
NOT_DERIVABLE = "labels-not-derivable"
CUT_INSIDE_CHARACTER = "cut-inside-character"

REPLACEMENT = "\ufffd"

Message = dict[str, Any]
Span = tuple[int, int]
Cut = tuple[int, int]
"""Tokens of a row behind the cut, and those of them that would have been trained on."""

NO_CUT: Cut = (0, 0)


class Prefix(NamedTuple):
    """A rendering of the first messages of a row, written as ``text[:common] + tail`` of the row's whole rendering."""

    common: int
    tail: str

    def of(self, text: str) -> str:
        """Return the prefix rendering itself."""
        return text[: self.common] + self.tail


class Rendered(NamedTuple):
    """One conversation as text.

    Attributes:
        text: The whole conversation.
        turns: Per trainable assistant message: its index, the rendering up to its header (generation prompt
            included), and the rendering up to its end. None if a template raised on one of these prefixes.
        missing: Names of the special tokens that the template wrote for nothing, since the tokenizer lacks them.
    """

    text: str
    turns: list[tuple[int, Prefix, Prefix]] | None
    missing: tuple[str, ...] = ()


class Encoding(Protocol):
    """What is asked of a ``tokenizers.Encoding``: ids, and half-open offsets in characters."""

    @property
    def ids(self) -> list[int]: ...
    @property
    def offsets(self) -> list[tuple[int, int]]: ...


def trainable_indices(messages: Sequence[Message], last_turn_only: bool) -> list[int]:
    """Return the positions of the assistant messages, or of the last one alone."""
    indices = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
    return indices[-1:] if last_turn_only else indices


def is_stable(rendered: Rendered) -> bool:
    """Tell whether every prefix rendering is literally a prefix of the whole, header not longer than turn."""
    text = rendered.text
    for _, header, through in rendered.turns or ():
        shorter = header.common + len(header.tail) <= through.common + len(through.tail)
        if not (
            shorter and text.startswith(header.tail, header.common) and text.startswith(through.tail, through.common)
        ):
            return False
    return True


def exact_labels(
    messages: Sequence[Message],
    rendered: Rendered,
    encode: Callable[[str], Encoding],
    decode: Callable[[list[int]], str],
    max_length: int | None,
) -> tuple[list[int], list[Span] | str, Cut]:
    """Encode a conversation and derive its trainable spans.

    Args:
        messages: The conversation.
        rendered: Its renderings.
        encode: Text to ids and offsets, uncut.
        decode: Ids to text, special tokens included, U+FFFD for broken characters.
        max_length: Tokens that are kept, from the front; None keeps all.

    Returns:
        The token ids; either the spans (half-open in tokens, ascending, apart, not empty) or the reason why the row
        has to be dropped; and what the cut took.
    """
    encoding = encode(rendered.text)
    ids = encoding.ids if max_length is None else encoding.ids[:max_length]
    total = len(encoding.ids)
    if rendered.turns is None:
        return ids, NOT_DERIVABLE, NO_CUT
    if is_stable(rendered):
        spans = spans_from_offsets(encoding.offsets, rendered)
    else:
        uncut = _counted_spans(rendered, encode)
        most = max_length or sys.maxsize
        counted = [(index, min(start, most), min(end, most)) for index, start, end in uncut]
        fault = verify_spans(messages, rendered.text, counted, len(ids), lambda a, b: decode(ids[a:b]))
        fault = fault or longer_header(uncut)
        if fault is not None:
            return ids, fault, NO_CUT
        spans = [(start, end) for _, start, end in uncut]
    merged = merge_spans(spans, len(ids))
    return ids, merged or NOTHING_TRAINABLE, cut_of(spans, merged, total, len(ids))


def spans_from_offsets(offsets: Sequence[Span], rendered: Rendered) -> list[Span]:
    """Return one-token spans for the tokens that overlap a turn; tokens without extent are never trained on."""
    turns = [
        (header.common + len(header.tail), through.common + len(through.tail))
        for _, header, through in rendered.turns or ()
    ]
    return [
        (token, token + 1)
        for token, (start, end) in enumerate(offsets)
        if start != end and any(start < turn_end and turn_start < end for turn_start, turn_end in turns)
    ]


def cut_of(spans: Sequence[Span], merged: Sequence[Span], total: int, kept: int) -> Cut:
    """What a cut took of a row.

    Args:
        spans: Of the whole row, as ``merge_spans`` takes them.
        merged: What it made of them for the tokens that are kept.
        total: Tokens of the whole row.
        kept: Those that are kept.
    """
    if kept == total:
        return NO_CUT
    trained = sum(end - start for start, end in merge_spans(spans, total))
    return total - kept, trained - sum(end - start for start, end in merged)


def _counted_spans(rendered: Rendered, encode: Callable[[str], Encoding]) -> list[tuple[int, int, int]]:
    def count(prefix: Prefix) -> int:
        return len(encode(prefix.of(rendered.text)).ids)

    return [(index, count(header) if index else 0, count(through)) for index, header, through in rendered.turns or ()]


def verify_spans(
    messages: Sequence[Message],
    text: str,
    spans: Sequence[tuple[int, int, int]],
    token_count: int,
    decoded: Callable[[int, int], str],
) -> str | None:
    """Check counted spans against the contents they should cover; return why the row must go, or None.

    Args:
        messages: The conversation.
        text: Its whole rendering.
        spans: Per assistant message: its index, first token, end token.
        token_count: Tokens of the row after the cut.
        decoded: The text of the tokens from the first argument up to the second.
    """
    for index, start, end in spans:
        content = messages[index].get("content")
        if not content or content not in text:
            continue  # The template rewrote it: nothing to compare with.
        cut = end >= token_count
        end = min(end, token_count)
        if start >= end:
            continue
        found = decoded(start, end)
        stripped = found.lstrip()
        if cut and stripped and content.startswith(stripped):
            continue
        if not stripped.startswith(content) or content not in found:
            whole = stripped.rstrip(REPLACEMENT)
            inside = cut and whole != stripped and content.startswith(whole)
            return CUT_INSIDE_CHARACTER if inside else NOT_DERIVABLE
        tail = found[found.index(content) + len(content) :]
        if tail and _says_later_content(messages, index, tail):
            return NOT_DERIVABLE
    return None


def longer_header(spans: Sequence[tuple[int, int, int]]) -> str | None:
    """Why nothing of a row can be trained on if no turn has more tokens than its header, else None.

    Args:
        spans: As ``verify_spans`` takes them, of the whole row.
    """
    return NOT_DERIVABLE if spans and all(start >= end for _, start, end in spans) else None


def _says_later_content(messages: Sequence[Message], index: int, tail: str) -> bool:
    for later in messages[index + 1 :]:
        content = later.get("content")
        if content and content in tail:
            return True
    return False


def merge_spans(spans: Sequence[Span], token_count: int) -> list[Span]:
    """Clip spans to the row and join those that touch or overlap.

    Args:
        spans: Half-open; their starts need not ascend, and empty ones are left out.
        token_count: Tokens of the row.
    """
    merged: list[Span] = []
    for start, end in sorted(spans):
        end = min(end, token_count)
        if start >= end:
            continue
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
