"""Samples in two columns on a terminal: ``castore diff A B --side-by-side``."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby, islice, zip_longest
from typing import TYPE_CHECKING

import click
from rich.cells import cell_len, get_character_cell_size, set_cell_size

from castore_cli.context import use_colour
from castore_cli.diff_text import print_end, print_head
from castore_cli.formatting import number, plural, visible

if TYPE_CHECKING:
    from castore.diff.hunks import Hunk
    from castore.diff.side_by_side import ShownPair, ShownSample, Stretch
    from castore.read.columns import Columns
    from castore_cli.diff_options import DiffOptions, DiffOutcome

WIDTH, WIDTH_MIN = 100, 20
"""Columns where nobody says how many there are, and fewest that are used."""

Piece = tuple[str, str]
"""Text on one line, and how it is shown: some of the letters of ``_STYLES``."""

_STYLES: dict[str, dict[str, object]] = {
    "d": {"bg": "red", "fg": "bright_white"},
    "i": {"bg": "green", "fg": "black"},
    "l": {"reverse": True},
    "t": {"underline": True},
    "s": {"dim": True},
}
"""Deleted, inserted, label differs, trained on, passed over."""


def print_side_by_side(outcome: DiffOutcome, options: DiffOptions, reads: Callable[[], dict[str, int]]) -> None:
    """Print a comparison: one line that says it, the causes, and the samples, each as soon as it is read.

    Args:
        outcome: What was found.
        options: What was asked.
        reads: Gives what was read so far: showing samples reads more.
    """
    from castore.diff.side_by_side import shown_hunks

    print_head(outcome.result, outcome.title, groups=True)
    hunks = list(shown_hunks(outcome.result.hunks))
    total = sum(hunk.size for hunk in hunks)
    limit = 1 if options.first_only else options.listed
    width = max(shutil.get_terminal_size((WIDTH, 0)).columns, WIDTH_MIN)
    colour = use_colour()
    for pair in islice(_read(outcome.data, hunks, options.around), limit):
        for line in pair_lines(pair, outcome.names, width, colour=colour):
            click.echo(line)
    if total:
        click.echo()
    if total > limit:
        click.echo(f"… and {number(total - limit)} more samples (--limit N)")
    print_end(reads(), outcome.note)


def _read(data: tuple[Columns, Columns], hunks: Sequence[Hunk], context: int) -> Iterator[ShownPair]:
    from castore.diff.side_by_side import read_pair

    for hunk in hunks:
        for i in range(hunk.size):
            a = hunk.a[0] + (0 if hunk.op == "insert" else i)
            b = hunk.b[0] + (0 if hunk.op == "delete" else i)
            yield read_pair(*data, hunk.op, a, b, hunk.arrays, context)


def pair_lines(pair: ShownPair, names: tuple[str, str], width: int, *, colour: bool) -> Iterator[str]:
    """Two samples as lines of at most ``width`` cells.

    Args:
        pair: The samples.
        names: What the sides are called.
        width: Cells of a line; a wide character takes two.
        colour: Colours in place of 【 】 around what differs and « » around what is trained on.
    """
    column = (width - 3) // 2
    yield ""
    left, right = (_cut(_head(pair, side, names[side]), column) for side in (0, 1))
    yield _row(left, right, column, colour, bold=True)
    yield "─" * (column + 1) + "┼" + "─" * (width - column - 2)
    for part in _regions(pair.stretches):
        columns = [
            list(_wrapped(_pieces(part, sample, side, colour=colour), column))
            for side, sample in enumerate((pair.a, pair.b))
        ]
        for left, right in zip_longest(*columns, fillvalue=[]):
            yield _row(left, right, column, colour)


def _head(pair: ShownPair, side: int, name: str) -> list[Piece]:
    sample = (pair.a, pair.b)[side]
    if sample is None:
        return [(visible(f"{name}: no such sample"), "")]
    origin = "" if sample.origin is None else f", {sample.origin.source}"
    if sample.origin is not None and sample.origin.row is not None:
        origin += f" row {sample.origin.row + 1}"
    return [(visible(f"{_SIGNS[pair.op]} {name}: sample {sample.index}{origin}"), "")]


_SIGNS = {"replace": "~", "delete": "-", "insert": "+"}


def _regions(stretches: Sequence[Stretch]) -> Iterator[list[Stretch]]:
    """Stretches in parts that begin on one line in both columns: what is passed over stands by itself."""
    for _, part in groupby(stretches, key=lambda one: one.op == "skip"):
        yield list(part)


def _pieces(stretches: Sequence[Stretch], sample: ShownSample | None, side: int, *, colour: bool) -> Iterator[Piece]:
    """What one column shows of some stretches."""
    if sample is None:
        return
    for one in stretches:
        lo, hi = (one.a, one.b)[side]
        if lo == hi:
            continue
        if one.op == "skip":
            yield f"… {plural(hi - lo, 'token')} …", "s"
            continue
        style = {"equal": "", "label": "l"}.get(one.op, "i" if side else "d")
        if style and not colour:
            yield "【", ""
        trained = False
        for text, label, _ in sample.tokens(lo, hi):
            if not text:  # the rest of a character
                continue
            if label != trained and not colour:
                yield "«" if label else "»", ""
            trained = label
            yield visible(text), style + ("t" if label else "")
        if trained and not colour:
            yield "»", ""
        if style and not colour:
            yield "】", ""


def _wrapped(pieces: Iterable[Piece], width: int) -> Iterator[list[Piece]]:
    """Lines of at most ``width`` cells. One ends after ⏎, else after the last space in it, else where it is full."""
    line: list[Piece] = []
    used = space = 0  # cells of the line; characters up to its last space
    for character, style in ((character, style) for text, style in pieces for character in text):
        size = get_character_cell_size(character)
        if used + size > width and line:
            at = space or len(line)
            yield line[:at]
            line, space = line[at:], 0
            used = sum(get_character_cell_size(kept) for kept, _ in line)
        line.append((character, style))
        used += size
        if character == "⏎":
            yield line
            line, used, space = [], 0, 0
        elif character == " ":
            space = len(line)
    if line:
        yield line


def _cut(line: list[Piece], width: int) -> list[Piece]:
    """A line that is too long, without its middle."""
    text = "".join(piece for piece, _ in line)
    if cell_len(text) <= width:
        return line
    tail = text[-(width // 4) :]  # the row; of half the width even if every character is wide
    return [(f"{set_cell_size(text, width - cell_len(tail) - 1)}…{tail}", "")]


def _row(left: list[Piece], right: list[Piece], width: int, colour: bool, *, bold: bool = False) -> str:
    used = sum(cell_len(text) for text, _ in left)
    shown = [_line(side, colour, bold=bold) for side in (left, right)]
    return f"{shown[0]}{' ' * (width - used)} │ {shown[1]}".rstrip()


def _line(pieces: Sequence[Piece], colour: bool, *, bold: bool) -> str:
    if not colour:
        return "".join(text for text, _ in pieces)
    runs = groupby(pieces, key=lambda piece: piece[1])
    return "".join(_styled("".join(text for text, _ in run), style, bold) for style, run in runs)


def _styled(text: str, style: str, bold: bool) -> str:
    options = {name: value for letter in style for name, value in _STYLES[letter].items()}
    return click.style(text, bold=bold or None, **options) if style or bold else text  # type: ignore[arg-type]
