"""Code points that are kept out of texts that people see: by number, since tables of Unicode grow."""

from __future__ import annotations

UNSAFE = (
    (0x00, 0x1F),  # controls
    (0x7F, 0x9F),
    (0x061C, 0x061C),  # marks, embeddings, overrides and isolates of writing from right to left
    (0x200E, 0x200F),
    (0x202A, 0x202E),
    (0x2066, 0x2069),
    (0x2028, 0x2029),  # ends of lines and paragraphs
    (0xD800, 0xDFFF),  # no characters
)
"""Code points that a writer keeps out of authors and messages, newlines and tabs of a message aside: first and last."""


def is_unsafe(code_point: int) -> bool:
    """Whether a code point is one of ``UNSAFE``."""
    return any(first <= code_point <= last for first, last in UNSAFE)
