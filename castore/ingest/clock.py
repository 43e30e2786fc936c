"""The date that a chat template may print: fixed once for a run, and written in English whatever the locale says."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable

from castore.errors import InvalidInputError

_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
_DIRECTIVE = re.compile(r"%([-_0^#]?)(?:[EO]?)([A-Za-z%])")

# Directives whose text the C library takes from the locale, in the words of the C locale.
_COMPOSED = {"c": "%a %b %e %H:%M:%S %Y", "x": "%m/%d/%y", "X": "%H:%M:%S", "r": "%I:%M:%S %p", "h": "%b"}


def parse_date(text: str) -> datetime.datetime:
    """The moment that a date means, midnight if no time of day is given.

    Args:
        text: ``YYYY-MM-DD``, or ``YYYY-MM-DDTHH:MM:SS``.

    Raises:
        InvalidInputError: It is neither.
    """
    if re.fullmatch(r"\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\d)?", text, re.ASCII):
        try:
            return datetime.datetime.fromisoformat(text)
        except ValueError:
            pass
    raise InvalidInputError(f"{text!r} is no date: give YYYY-MM-DD or YYYY-MM-DDTHH:MM:SS")


def date_text(moment: datetime.datetime) -> str:
    """The shortest text that ``parse_date`` takes for it: what a recipe holds."""
    text = moment.isoformat(timespec="seconds")
    return text.removesuffix("T00:00:00")


def written(moment: datetime.datetime, pattern: str) -> str:
    """``strftime`` as the C locale writes it: no locale, zone or C library has a say in training data.

    Raises:
        ValueError: A directive that depends on them (``%s``), or one that there is not.
    """

    def one(match: re.Match[str]) -> str:
        flag, letter = match[1], match[2]
        if letter in _COMPOSED:
            return written(moment, _COMPOSED[letter])
        text = _directive(moment, letter)
        if flag == "-":
            text = text.lstrip("0 ") or "0" if text.strip().isdigit() else text
        elif flag == "_":
            text = re.sub(r"^0+(?=\d)", lambda zeros: " " * len(zeros[0]), text)
        elif flag in ("^", "#"):
            text = text.upper()
        return text

    return _DIRECTIVE.sub(one, pattern)


def _directive(moment: datetime.datetime, letter: str) -> str:
    named: dict[str, Callable[[], str]] = {
        "A": lambda: _DAYS[moment.weekday()],
        "a": lambda: _DAYS[moment.weekday()][:3],
        "B": lambda: _MONTHS[moment.month - 1],
        "b": lambda: _MONTHS[moment.month - 1][:3],
        "p": lambda: "AM" if moment.hour < 12 else "PM",
        "P": lambda: "am" if moment.hour < 12 else "pm",
        "e": lambda: f"{moment.day:2}",
        "k": lambda: f"{moment.hour:2}",
        "l": lambda: f"{(moment.hour - 1) % 12 + 1:2}",
        "C": lambda: f"{moment.year // 100:02}",
        "D": lambda: moment.strftime("%m/%d/%y"),
        "F": lambda: moment.date().isoformat(),
        "R": lambda: moment.strftime("%H:%M"),
        "T": lambda: moment.strftime("%H:%M:%S"),
        "Y": lambda: f"{moment.year:04}",
        "n": lambda: "\n",
        "t": lambda: "\t",
    }
    if letter in named:
        return named[letter]()
    if letter in "%dHIjmMSfuUVwWGyzZ":
        return moment.strftime(f"%{letter}")  # numbers, and nothing for the zone of a moment without one
    raise ValueError(f"%{letter} is no directive of strftime_now here")
