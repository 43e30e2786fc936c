"""Encoding text word by word, for the byte-level tokenizers whose word rule is known.

A byte-level BPE cuts text into words by a regular expression and merges inside each word alone. Real text repeats its
words, so a dictionary from word to ids does most of the work, and Python's ``re`` can do the cutting if it is told the
classes of characters that the tokenizer's own engine uses. Those are asked of that engine, once, when a tokenizer is
loaded: no table of Unicode versions is trusted. Text with characters that were not asked about is declined.
"""

from __future__ import annotations

import re
from array import array
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokenizers import Tokenizer

# The rule of tiktoken's cl100k, which dolma2 and Llama 3 share.
CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# The rule that ByteLevel has built in.
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

_IN_PYTHON = {
    CL100K: "'(?:[sStTmMdD]|[lL][lL]|[rR][eE]|[vV][eE])|[^\r\n{L}{N}]?[{L}]+|[{N}]{{1,3}}| ?[^{S}{L}{N}]+[\r\n]*"
    "|[{S}]*[\r\n]+|[{S}]+(?![^{S}])|[{S}]+",
    GPT2: "'(?:[stmd]|ll|re|ve)| ?[{L}]+| ?[{N}]+| ?[^{S}{L}{N}]+|[{S}]+(?![^{S}])|[{S}]+",
}

# Two letters that other engines may take for "s" and "'n" when case does not count.
_AMBIGUOUS = "\u017f\u0149"
# Pictographs: one stretch outside the basic plane that chat data is full of. Neither letters, numbers nor space.
_PICTOGRAPHS = (0x1F300, 0x1FAFF)

WORD_CHARS_MAX = 48
# About 60 MB when full; t0's 68 MB of text have 190,000 distinct words.
WORDS_MAX = 1 << 18


class WordEncoder(dict[str, bytes]):
    """A dictionary from word to the ids of its tokens (native uint32 bytes) that fills itself.

    Args:
        tokenizer: A byte-level BPE; its model is shared, not copied.
        rule: :data:`CL100K` or :data:`GPT2`.
    """

    def __init__(self, tokenizer: Tokenizer, rule: str) -> None:
        from tokenizers import Tokenizer as New
        from tokenizers.pre_tokenizers import ByteLevel

        super().__init__()
        bare = New(tokenizer.model)
        bare.pre_tokenizer = ByteLevel(add_prefix_space=False, use_regex=False)
        self._encode_word: Callable[..., Any] = bare.encode
        ascii_classes, plane_classes, pictographs = _classes()
        self._ascii_words = re.compile(_IN_PYTHON[rule].format(**ascii_classes)).findall
        self._words = re.compile(_IN_PYTHON[rule].format(**plane_classes)).findall
        beyond = f"\\U{_PICTOGRAPHS[0]:08x}-\\U{_PICTOGRAPHS[1]:08x}" if pictographs else ""
        self._unknown = re.compile(f"[^\\0-\uffff{beyond}]|[{_AMBIGUOUS}]").search

    def __missing__(self, word: str) -> bytes:
        ids = array("I", self._encode_word(word, add_special_tokens=False).ids).tobytes()
        if len(word) <= WORD_CHARS_MAX:
            if len(self) >= WORDS_MAX:
                self.clear()
            self[word] = ids
        return ids

    def encode(self, text: str) -> bytes | None:
        """Return the ids of a text without added tokens as native uint32 bytes, or None if that is not certain."""
        if text.isascii():
            return b"".join(map(self.__getitem__, self._ascii_words(text)))
        if self._unknown(text):
            return None
        return b"".join(map(self.__getitem__, self._words(text)))


def rule_of(pre_tokenizer: dict[str, Any]) -> str | None:
    """Return the word rule of a pre-tokenizer as ``tokenizer.json`` writes it, or None if it is not a known one."""
    steps = pre_tokenizer["pretokenizers"] if pre_tokenizer["type"] == "Sequence" else [pre_tokenizer]
    if len(steps) == 1:
        return GPT2 if steps[0]["type"] == "ByteLevel" and steps[0].get("use_regex", True) else None
    split, byte_level = steps[0], steps[-1]
    if len(steps) != 2 or split["type"] != "Split" or byte_level.get("use_regex", True):
        return None
    # The rules match every character, so that keeping matches and isolating them are the same.
    keeps_matches = split["behavior"] == "Isolated" or (split["behavior"] == "Removed" and split["invert"])
    pattern = split["pattern"].get("Regex")
    return pattern if keeps_matches and pattern in _IN_PYTHON else None


@cache
def _classes() -> tuple[dict[str, str], dict[str, str], bool]:
    """Ask the tokenizer's regex engine for its letters, numbers and spaces.

    Returns:
        Character class contents by name for ASCII and for the basic plane, and whether pictographs are none of them.
    """
    patterns = {"L": r"\p{L}+", "N": r"\p{N}+", "S": r"\s+"}
    ranges = {name: _ranges(pattern, 0, 0xFFFF) for name, pattern in patterns.items()}
    pictographs = not any(_ranges(pattern, *_PICTOGRAPHS) for pattern in patterns.values())
    ascii_only = {name: [pair for pair in pairs if pair[1] < 128] for name, pairs in ranges.items()}
    return (
        {name: _spell(pairs) for name, pairs in ascii_only.items()},
        {name: _spell(pairs) for name, pairs in ranges.items()},
        pictographs,
    )


def _ranges(pattern: str, low: int, high: int) -> list[tuple[int, int]]:
    """Return the closed ranges of code points from ``low`` to ``high`` that the engine matches, ascending."""
    from tokenizers import Regex
    from tokenizers.pre_tokenizers import Split

    points = [point for point in range(low, high + 1) if not 0xD800 <= point < 0xE000]
    text = "".join(map(chr, points))
    keep_matches = Split(Regex(pattern), "removed", invert=True)
    found = []
    for piece, (start, _) in keep_matches.pre_tokenize_str(text):
        # A run may step over the surrogates, which no text contains: the range between is harmless.
        found.append((points[start], ord(piece[-1])))
    return found


def _spell(ranges: list[tuple[int, int]]) -> str:
    return "".join(f"\\u{low:04x}-\\u{high:04x}" for low, high in ranges)
