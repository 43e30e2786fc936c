"""Numbers as a command line spells them."""

from __future__ import annotations

import re
from typing import Any

import click

_NUMBER = re.compile(r"[-+]?[0-9]+")


class Number(click.IntRange):
    """A whole number within bounds. Python would take the digits of every script, blanks and underscores too."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read what was written; a number, such as a default, is one already."""
        if isinstance(value, str) and not _NUMBER.fullmatch(value):
            self.fail(f"{value!r} is not a valid {self.name}.", param, ctx)
        return super().convert(value, param, ctx)
