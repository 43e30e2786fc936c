"""Types of parameters, and the parameters that several commands have.

What a user spells is read here and nowhere else: numbers, sizes, shares, periods, samples. Python would take the digits
of every script, blanks and underscores for numbers; a command line is in ASCII digits.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from castore_cli.context import State

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from fractions import Fraction

    from click.shell_completion import CompletionItem

    _Type = click.ParamType[Any]
else:
    _Type = click.ParamType  # older versions of click do not let it be subscripted

# Patterns, compiled when they are used.
_NUMBER = r"[-+]?[0-9]+"
_SHARE = r"[0-9./]+(?:[eE][-+]?[0-9]{1,3})?%?"
_SAMPLES = r"([0-9]{1,18})(?::([0-9]{1,18}))?"
_PERIOD = r"([0-9]{1,9})([smhd])"
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 24 * 3600}

_REPO = "castore_cli.repo"
"""Where a context keeps what ``--repo`` behind the command says."""

SPELLED_MAX = 40
"""Characters of a number: the exact value of 1e-999999999 has a billion digits."""


class Number(click.IntRange):
    """A whole number within bounds."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read what was written; a number, such as a default, is one already."""
        if isinstance(value, str) and not re.fullmatch(_NUMBER, value):
            self.fail(f"{value!r} is not a valid {self.name}.", param, ctx)
        return super().convert(value, param, ctx)


class Size(_Type):
    """Bytes: ``4096``, ``4MiB``, ``1G``."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The bytes."""
        from castore.store.byte_sizes import bytes_in

        found = bytes_in(value)
        if found is None:
            self.fail(f"{value[:SPELLED_MAX]!r} is no size: write bytes, or 4MiB, or 1G", param, ctx)
        return found


class Share(NamedTuple):
    """A part of a whole.

    Attributes:
        text: As it was spelled.
        value: The exact number, from 0 to 1.
    """

    text: str
    value: Fraction


class ShareType(_Type):
    """A part of a whole: ``0.01``, ``1%``, ``1/3``.

    Args:
        zero: Whether nothing is a share too.
    """

    name = "share"

    def __init__(self, *, zero: bool) -> None:
        self._zero = zero

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Share:
        """The share."""
        found = _fraction(value)
        if found is None or not (0 <= found <= 1) or (found == 0 and not self._zero):
            self.fail(f"{value[:SPELLED_MAX]!r} is no share: write 1% or 0.01", param, ctx)
        return Share(value, found)


def _fraction(text: str) -> Fraction | None:
    from fractions import Fraction

    if len(text) > SPELLED_MAX or not re.fullmatch(_SHARE, text):
        return None
    try:
        return Fraction(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except (ValueError, ZeroDivisionError):
        return None


class Period(_Type):
    """Seconds: ``14d``, ``12h``, ``30m``, ``90s``."""

    name = "period"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The seconds."""
        match = re.fullmatch(_PERIOD, value)
        if match is None:
            self.fail(f"{value!r} is no period: write 14d, 12h, 30m or 90s", param, ctx)
        return int(match[1]) * _SECONDS[match[2]]


class SampleRange(_Type):
    """Samples as a range: ``I`` or ``LO:HI``."""

    name = "sample"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> range:
        """The range, which is not empty."""
        match = re.fullmatch(_SAMPLES, value)
        if match is None:
            self.fail(f"{value!r} is no sample: give a number from 0, or LO:HI for LO to HI - 1", param, ctx)
        lo = int(match[1])
        hi = lo + 1 if match[2] is None else int(match[2])
        if lo >= hi:
            self.fail(f"{value!r} is no sample at all", param, ctx)
        return range(lo, hi)


def _complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of the repository for a shell that completes; also files, where what is written begins as one does."""
    from click.shell_completion import CompletionItem

    from castore.errors import CastoreError

    if incomplete[:1] in ("/", ".", "~") and param.name in ("a", "b"):
        return [CompletionItem(incomplete, type="file")]
    repo = ctx.meta.get(_REPO) or ctx.find_root().params.get("repo")
    try:
        names = State(repo).open().refs.names()
    except (CastoreError, OSError):  # a shell shows what goes wrong in the midst of a line
        return []
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def dataset_argument(name: str, **options: Any) -> Callable[[Any], Any]:
    """An argument that is a name of the repository or another address."""
    return click.argument(name, shell_complete=_complete, **options)


def choice_option(name: str, choices: Sequence[str], default: str, text: str) -> Callable[[Any], Any]:
    """An option that takes one of some words, and whose help ``text`` is followed by the one taken without it."""
    return click.option(name, type=click.Choice(choices), default=default, show_default=True, help=text)


class RepositoryOption(click.Option):
    """``--repo`` behind the command, where it means what it means before it, and wins."""

    def __init__(self) -> None:
        super().__init__(
            ["--repo"],
            metavar="URL",
            expose_value=False,
            callback=self._chosen,
            help="The repository, as before the command.",
        )

    @staticmethod
    def _chosen(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
        if value is None:
            return
        ctx.meta[_REPO] = value
        if isinstance(ctx.obj, State):  # a shell that completes has made none
            ctx.obj.repo = value


part_size_option = click.option(
    "--part-size",
    "part_bytes",
    type=Size(),
    metavar="SIZE",
    help="Bytes of ids in a full part, such as 4MiB. Default: 1GiB, as open-instruct writes.",
)
message_option = click.option("-m", "--message", metavar="TEXT", default="", help="A line for the log.")
force_option = click.option("--force", is_flag=True, help="Move a protected name; wants the reason with --message.")
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document.")
json_summary_option = click.option("--json", "as_json", is_flag=True, help="Summary as JSON.")
quiet_option = click.option("-q", "--quiet", is_flag=True, help="No progress; the result is printed.")
silent_option = click.option("-q", "--quiet", is_flag=True, help="Say nothing but warnings and errors.")
require_option = click.option(
    "--require-signature", metavar="FILE", help="Stop unless a key in FILE vouches for what is read."
)
