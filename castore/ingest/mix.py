"""How many rows of a source a mix takes, and which: the same rows, in the same order, as open-instruct's mixer.

An amount with a point in it is a share of the rows (``"1.0"`` all, ``"3.0"`` three times, ``"0.37"``), one without is a
count (``"5000"``). Whole copies keep the order of the file; what is left over is picked at random, without replacement,
from a generator whose stream numpy has frozen.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from numbers import Integral, Real
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from castore.errors import InvalidInputError
from castore.ingest.defaults import MIX_SEED

__all__ = ["Amount", "MixEntry", "Selection", "select", "small_count_warning", "spelled_mix"]

MixEntry: TypeAlias = "tuple[str | os.PathLike[str], str | float]"
"""A source of a mix as programs give it: its path or name, and its amount."""

# 15 digits: a float holds such a number exactly, and a count stays far below 2**63.
_AMOUNT = re.compile(r"[0-9]{1,15}|[0-9]{0,15}\.[0-9]{1,30}|[0-9]{1,15}\.")

_SMALL_COUNT = 10
_LARGE_SET = 100


@dataclass(frozen=True, slots=True)
class Amount:
    """A share or a count of rows, kept as the user spelled it.

    Args:
        text: ``"0.37"``, ``".5"``, ``"3.0"`` are shares; ``"5000"`` is a count. Only the text takes part in comparisons
            and identities; the number is made from it where it is used.

    Raises:
        InvalidInputError: Anything else, among it exponents, signs, blanks and amounts of zero.
    """

    text: str

    def __post_init__(self) -> None:
        if not _AMOUNT.fullmatch(self.text):
            raise InvalidInputError(
                f"{_shown(self.text)} is not an amount: write a share with a point (1.0, 0.37) or a count (5000)"
            )
        if not self.value:
            raise InvalidInputError(f"amount {self.text} takes no row: leave the source out of the mix instead")

    @classmethod
    def parse(cls, text: str) -> Amount:
        """Read an amount; the errors are those of the class."""
        return cls(text)

    @classmethod
    def of(cls, given: object) -> Amount:
        """An amount as programs give it: a float is a share, an integer a count, a text is read.

        Raises:
            InvalidInputError: As for the class; or it is none of these.
        """
        if isinstance(given, str):
            return cls(given)
        if isinstance(given, bool) or not isinstance(given, Real):  # True would be a count of one
            raise InvalidInputError(f"{given!r:.80} is not an amount: give a share (1.0, 0.37) or a count (5000)")
        if isinstance(given, Integral):
            return cls(str(int(given)))
        # A float is spelled with a point and without an exponent: "0.37", "3.0", "0.00001".
        text = format(Decimal(repr(float(given))), "f")
        return cls(text if "." in text or not text.isdecimal() else f"{text}.0")

    @property
    def is_share(self) -> bool:
        """True for a share of the rows, False for a count."""
        return "." in self.text

    @property
    def value(self) -> float | int:
        """The number as open-instruct parses it: a float for a share, an int for a count."""
        return float(self.text) if self.is_share else int(self.text)

    def target(self, row_count: int) -> int:
        """How many rows to take from a source of ``row_count`` rows, copies counted.

        A share is the truncated *product of floats*, as in open-instruct: 0.29 of 100 rows are 28.
        """
        return int(self.value * row_count) if self.is_share else int(self.text)


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """Which rows of one source a mix takes, in order: all rows ``full_copies`` times, then the extra ones.

    Attributes:
        full_copies: How many times the whole source is taken, each time in file order.
        extra: int64[extra_count], distinct 0-based row numbers in the order in which they were picked.
    """

    full_copies: int
    extra: npt.NDArray[np.int64]


def select(row_count: int, amount: Amount, seed: int = MIX_SEED) -> Selection:
    """Choose the rows that ``amount`` takes from a source of ``row_count`` rows.

    The extra rows are ``numpy.random.RandomState(seed).choice(row_count, size, replace=False)``, which is the head of
    the legacy MT19937 permutation. numpy promises that this generator's stream never changes.

    Raises:
        InvalidInputError: The source is empty, or the share is so small that it takes no row.
    """
    if row_count <= 0:
        raise InvalidInputError(f"amount {amount.text} of a source without rows: leave it out of the mix")
    target = amount.target(row_count)
    if not target:
        raise InvalidInputError(f"amount {amount.text} of {row_count} rows is no row: take a larger share")
    full_copies, extra_count = divmod(target, row_count)
    if not extra_count:
        return Selection(full_copies, np.empty(0, np.int64))
    picked = np.random.RandomState(seed).choice(row_count, size=extra_count, replace=False)
    return Selection(full_copies, picked.astype(np.int64, copy=False))


def small_count_warning(amount: Amount, row_count: int) -> str | None:
    """One line if ``amount`` looks like a share that lost its point, else None.

    ``1`` takes one row; who writes it for a large source mostly means ``1.0``.
    """
    if amount.is_share or int(amount.text) > _SMALL_COUNT or row_count <= _LARGE_SET:
        return None
    rows = "row" if int(amount.text) == 1 else "rows"
    return f"amount {amount.text} takes {int(amount.text)} {rows} of {row_count}: did you mean {int(amount.text)}.0?"


def spelled_mix(mix: Iterable[MixEntry]) -> list[tuple[str, str]]:
    """A mix as programs give it, in the form in which a job has it: text alone.

    Raises:
        InvalidInputError: It is no pairs of a path and an amount; the message has the place in the mix.
    """
    if isinstance(mix, str | os.PathLike):
        raise InvalidInputError(f"a mix is pairs of a path and an amount: give [({os.fspath(mix)!r:.80}, 1.0)]")
    spelled = []
    for at, entry in enumerate(mix):
        try:
            path, amount = entry
            name = os.fspath(path)
        except (TypeError, ValueError):
            name = None
        if not isinstance(name, str) or isinstance(entry, str):
            raise InvalidInputError(f"mix[{at}] is {entry!r:.80}: give a pair of a path and an amount")
        try:
            # What is text was spelled by the user, and is read where all of it is.
            spelled.append((name, amount if isinstance(amount, str) else Amount.of(amount).text))
        except InvalidInputError as error:
            raise InvalidInputError(f"mix[{at}], {name}: {error}") from error
    return spelled


def _shown(text: str) -> str:
    """``text`` quoted for a one-line message, and cut if it is long."""
    return repr(text if len(text) <= 40 else text[:37] + "...")
