"""Objects kept beside the data: whole files, the vocabulary, and the list of dropped rows.

* ``["castore/file", content]``
* ``["castore/vocabulary", ends, text]``: the text of token i is ``text[ends[i - 1]:ends[i]]``; ends are uint32,
  little-endian. With it token ids become text without the tokenizer's library.
* ``["castore/dropped", reasons, columns]``: rows that became no sample. ``columns`` is little-endian uint64, four runs
  of equal length: source, row (0-based), line (1-based), index into ``reasons``.
"""

from __future__ import annotations

import array
import sys
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from castore.errors import FormatError
from castore.format.chunk import uint32s
from castore.format.codec import encode
from castore.format.fields import decode_list, expect
from castore.format.object import Object
from castore.frozen import frozen

FILE_KIND = "castore/file"
VOCABULARY_KIND = "castore/vocabulary"
DROPPED_KIND = "castore/dropped"

VOCABULARY_FILE = "vocabulary"
DROPPED_FILE = "dropped"
TEMPLATE_FILE = "chat_template"
"""Names under which a run record lists these objects; files of the tokenizer folder are ``tokenizer/<name>``."""


def encode_file(content: bytes) -> Object:
    """A file as an object."""
    return Object.of(encode([FILE_KIND, content]))


def decode_file(data: bytes) -> bytes:
    """The content of a file object."""
    return expect(bytes, decode_list(data, FILE_KIND, 2)[1], "content of a file")


def encode_vocabulary(tokens: Sequence[bytes]) -> Object:
    """The bytes of every token by id."""
    ends = array.array("I")
    at = 0
    for token in tokens:
        at += len(token)
        ends.append(at)
    if sys.byteorder == "big":
        ends.byteswap()
    return Object.of(encode([VOCABULARY_KIND, ends.tobytes(), b"".join(tokens)]))


@frozen
class Vocabulary:
    """Token ids to text: ``ends`` as in the object, ``text`` all tokens one after another. As long as ``ends``."""

    ends: Sequence[int]
    text: bytes

    def __len__(self) -> int:
        return len(self.ends)

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"<Vocabulary: {len(self)} token ids>"

    def token(self, token_id: int) -> bytes:
        """The bytes of a token; empty for an id that the tokenizer does not have."""
        if not 0 <= token_id < len(self.ends):
            return b""
        return self.text[self.ends[token_id - 1] if token_id else 0 : self.ends[token_id]]

    def decode(self, token_ids: Iterable[int]) -> str:
        """Text of consecutive tokens; bytes that are not UTF-8, as at a cut inside a character, show as U+FFFD."""
        return b"".join(self.token(token_id) for token_id in token_ids).decode("utf-8", "replace")


def decode_vocabulary(data: bytes, *, whole: bool = True) -> Vocabulary:
    """Read a vocabulary object.

    Args:
        data: The object.
        whole: Look at the end of every token, which takes longer than reading them. Otherwise a token whose ends are
            in the wrong order has no text.
    """
    _, raw_ends, text = decode_list(data, VOCABULARY_KIND, 3)
    raw = expect(bytes, raw_ends, "ends of a vocabulary")
    if len(raw) % 4:
        raise FormatError("ends of a vocabulary are not whole uint32")
    ends, content = uint32s(raw), expect(bytes, text, "text of a vocabulary")
    numbers = list(ends) if whole else []
    # Sorting what is sorted takes one pass, many times quicker than a loop: vocabularies have 100,000 tokens and more.
    if sorted(numbers) != numbers or (ends[-1] if ends else 0) != len(content):
        raise FormatError("ends of a vocabulary do not ascend to its length")
    return Vocabulary(ends, content)


class DroppedRow(NamedTuple):
    """A row that became no sample: its source in the mix, row number (0-based), 1-based line, and why."""

    source: int
    row: int
    line: int
    reason: str


def encode_dropped(rows: Sequence[DroppedRow]) -> Object:
    """A list of dropped rows as an object."""
    reasons = sorted({row.reason for row in rows})
    index = {reason: i for i, reason in enumerate(reasons)}
    numbers = array.array("Q")
    for column in ("source", "row", "line"):
        numbers.extend(getattr(row, column) for row in rows)
    numbers.extend(index[row.reason] for row in rows)
    if sys.byteorder == "big":
        numbers.byteswap()
    return Object.of(encode([DROPPED_KIND, list(reasons), numbers.tobytes()]))


def decode_dropped(data: bytes) -> list[DroppedRow]:
    """Read a list of dropped rows."""
    _, reasons, columns = decode_list(data, DROPPED_KIND, 3)
    texts = [expect(str, reason, "reason") for reason in expect(list, reasons, "reasons")]
    raw = expect(bytes, columns, "columns of dropped rows")
    if len(raw) % 32:
        raise FormatError("columns of dropped rows differ in length")
    numbers = array.array("Q", raw)
    if sys.byteorder == "big":
        numbers.byteswap()
    count = len(numbers) // 4
    parts = [numbers[i * count : (i + 1) * count] for i in range(4)]
    if any(reason >= len(texts) for reason in parts[3]):
        raise FormatError("a dropped row has no reason")
    return [DroppedRow(s, row, line, texts[r]) for s, row, line, r in zip(*parts, strict=True)]
