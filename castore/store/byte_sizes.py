"""Sizes as people spell them."""

from __future__ import annotations

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def bytes_in(text: str) -> int | None:
    """The bytes of ``4096``, ``500M``, ``4MiB`` or ``20G``, in powers of 1024 with or without the ``iB``; None if the
    text is something else."""
    short = text.strip().upper().removesuffix("B").removesuffix("I")
    number = short.rstrip("KMGT")
    unit = short[len(number) :]
    number = number.strip()
    if unit not in _UNITS or not (number.isascii() and number.isdecimal()) or len(number) > 15:
        return None
    return int(number) * _UNITS[unit]
