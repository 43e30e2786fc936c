"""What ``castore diff`` was asked, and what it found: the two values that every form of its output is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from castore.frozen import frozen

if TYPE_CHECKING:
    from castore.diff.compare import Comparison
    from castore.read.columns import Columns
    from castore_cli.diff_against_lock import Expected

CONTEXT, LIMIT, PAGE_CONTEXT, PAGE_LIMIT = 8, 20, 24, 100
"""Tokens around a difference, and changes listed, where the user does not say; and the same of a page."""

WHOLE = 1 << 40
"""Tokens around a difference that are all of a sample."""


@frozen
class DiffOptions:
    """The parameters of the command line, by the names that click gives them; its help says what they mean."""

    a: str
    b: str | None
    expect: str | None
    strict: bool
    stat: bool
    first_only: bool
    only: str | None
    context: int | None
    limit: int | None
    decode: bool
    side_by_side: bool
    places: bool
    as_markdown: bool
    html_file: str | None
    require_signature: str | None
    unsigned: tuple[str, ...]
    quiet: bool
    as_json: bool

    def __post_init__(self) -> None:
        """Refuse what makes no sense together.

        Raises:
            click.UsageError: There is not exactly one other side, or something is excepted from no rule.
        """
        if (self.b is None) == (self.expect is None):
            raise click.UsageError("give B, or --expect FILE in its place")
        if self.unsigned and self.require_signature is None:
            raise click.UsageError("--unsigned goes with --require-signature")
        for address in self.unsigned:
            if address not in (self.a, self.b):
                raise click.UsageError(f"--unsigned {address}: that is neither A nor B as they are written here")

    @property
    def around(self) -> int:
        """Tokens shown before and after a difference."""
        return WHOLE if self.decode else CONTEXT if self.context is None else self.context

    @property
    def listed(self) -> int:
        """Changes listed at most."""
        return self.limit or LIMIT

    @property
    def page_around(self) -> int:
        """Tokens shown before and after a difference in a page."""
        return PAGE_CONTEXT if self.context is None else self.context

    @property
    def page_samples(self) -> int:
        """Samples of a page at most."""
        return self.limit or PAGE_LIMIT

    @property
    def exit_code_only(self) -> bool:
        """Whether nothing is to be printed or written."""
        return self.quiet and not self.as_json and self.html_file is None

    @property
    def detailed(self) -> bool:
        """Whether kinds of change are to be told."""
        return not self.stat or self.as_json or self.html_file is not None


@frozen
class DiffOutcome:
    """What was found.

    Attributes:
        result: The comparison.
        title: What it says in one line.
        names: Both sides as the user spelled them.
        data: Both datasets; the found one twice where the other is known by its lock file alone.
        expected: The lock file, if it is compared with one.
        different: Whether that is a difference by the options.
        reads: Objects and bytes that were read.
    """

    result: Comparison
    title: str
    names: tuple[str, str]
    data: tuple[Columns, Columns]
    expected: Expected | None
    different: bool
    reads: dict[str, int]

    @property
    def readable(self) -> bool:
        """Whether samples of both sides can be read."""
        return self.expected is None or self.expected.data is not None

    @property
    def note(self) -> str:
        """Why no sample is shown, or nothing."""
        return "" if self.expected is None or self.readable else self.expected.missing()
