"""Numbers and texts as people read them, and values as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click


def number(count: int) -> str:
    """An integer with thousands set apart."""
    return f"{count:,}"


def plural(count: int, word: str) -> str:
    """``1 row``, ``2 rows``."""
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"


def size(count: int) -> str:
    """Bytes in the largest unit that leaves at least one."""
    for unit, power in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if count >= 1 << power:
            return f"{count / (1 << power):.1f} {unit}"
    return plural(count, "byte")


def duration(seconds: float) -> str:
    """A time in its two largest units: ``12 s``, ``3 min 20 s``, ``2 h 5 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60} min"


def share(part: int, whole: int) -> str:
    """A percentage with one decimal."""
    return f"{100 * part / whole:.1f} %" if whole else "0 %"


def lost_lines(lost: Mapping[str, Mapping[str, int]]) -> list[str]:
    """What kept rows lost, a line for each reason: ``role-not-written: tool 2``."""
    return [
        f"{reason}: {', '.join(f'{visible(subject)} {number(count)}' for subject, count in counts.items())}"
        for reason, counts in lost.items()
    ]


def plain(value: Any) -> Any:
    """A value for JSON: bytes as hexadecimal, everything else as it is."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def echo_json(value: Any) -> None:
    """One JSON document on stdout."""
    import json

    text = json.dumps(plain(value), ensure_ascii=False)
    if not text.isprintable():  # what a terminal would obey means the same when it is escaped
        text = "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)
    click.echo(text)


def visible(text: str) -> str:
    """Text on one line of a terminal: line ends and what a terminal would obey are spelled out."""
    shown = []
    for character in text:
        if character == "\n":
            shown.append("⏎")
        elif character == "\t":
            shown.append("⇥")
        elif character.isprintable():
            shown.append(character)
        else:
            shown.append(f"\\x{ord(character):02x}" if ord(character) < 256 else f"\\u{ord(character):04x}")
    return "".join(shown)


def printable(text: str) -> str:
    """Text of several lines without anything that a terminal would obey."""
    return "".join(c if c.isprintable() or c in "\n\t" else visible(c) for c in text)
