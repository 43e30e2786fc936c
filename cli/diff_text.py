"""A comparison as text for people."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import click

from castore_cli.context import use_colour
from castore_cli.text import number, plural, printable, size, visible

if TYPE_CHECKING:
    from castore.view.compare import Comparison, Divergence, Hunk, Side
    from castore.view.dataset import Dataset

SIGNS = {"replace": "~", "insert": "+", "delete": "-"}
COLOURS = {"~": "yellow", "+": "green", "-": "red"}


def print_comparison(
    result: Comparison,
    data: tuple[Dataset, Dataset],
    names: tuple[str, str],
    reads: dict[str, int],
    *,
    stat: bool,
    first_only: bool,
    limit: int,
    only: str | None,
    decode: bool,
) -> None:
    """Print a comparison: one line that says it, the causes, the first difference, the list of changes, the cost."""
    click.echo(headline(result, data, only))
    for line in cause_lines(result):
        click.echo(f"  {line}")
    if not stat and result.first is not None:
        _print_first(result.first, names, decode)
    if not stat and not first_only:
        for line in hunk_lines(result.hunks, limit):
            click.echo(_paint(line, COLOURS.get(line[0], "")))
    click.echo(_dim(f"read {plural(reads['objects'], 'object')}, {size(reads['bytes'])}"))


def headline(result: Comparison, data: tuple[Dataset, Dataset], only: str | None) -> str:
    """What is equal and what is not, in one line."""
    if result.equal:
        tokens = number(data[0].manifest.tokens)
        return f"equal: {plural(result.samples_a, 'sample')}, {tokens} tokens, root {data[0].root.hex()}"
    if result.same_samples:
        if only is not None:
            return f"equal in {only}: {plural(result.samples_a, 'sample')}"
        if not result.same_order:
            return _same_samples(data, plural(result.samples_a, "sample"))
        return "the same samples, stored otherwise"
    counts = [
        (result.count(op), word)
        for op, word in (("replace", "replaced"), ("insert", "inserted"), ("delete", "deleted"))
    ]
    said = ", ".join(f"{number(count)} {word}" for count, word in counts if count)
    totals = plural(result.samples_a, "sample")
    if result.samples_a != result.samples_b:
        totals = f"{number(result.samples_a)} and {plural(result.samples_b, 'sample')}"
    equal = [name for name, same in result.arrays.items() if same]
    also = f"; equal: {', '.join(equal)}" if equal else ""
    order = "" if result.same_order else f"; {_order(data)}"
    return f"different: {said} of {totals}{also}{order}"


def _same_samples(data: tuple[Dataset, Dataset], samples: str) -> str:
    """What is to say of equal samples in orders that are not equal."""
    a, b = (side.manifest.order for side in data)
    if a is not None and b is not None and replace(a, take=b.take) == b:
        return f"the same {samples} in the same order, of which the first {number(a.take)} or {number(b.take)} are used"
    return f"another order of the same {samples}"


def _order(data: tuple[Dataset, Dataset]) -> str:
    """What is to say of two orders that are not equal: a seed shuffles another number of samples in another way."""
    a, b = (side.manifest.order for side in data)
    same_seed = a is not None and b is not None and (a.algorithm, a.seed) == (b.algorithm, b.seed) and not a.chunks
    if a is not None and b is not None and same_seed and a.count != b.count:
        return f"seed {a.seed} shuffles {number(b.count)} otherwise than {number(a.count)}"
    return "another order"


def cause_lines(result: Comparison) -> list[str]:
    """What differs in how the two came to be, a line each."""
    return [f"{field}: {_short(x)} → {_short(y)}" for field, x, y in result.recipe]


def _short(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, list | tuple):
        return _short(", ".join(map(str, value)))
    text = value.hex() if isinstance(value, bytes) else str(value)
    if len(text) == 64 and not text.strip("0123456789abcdef"):
        return text[:12]
    return text if len(text) <= 60 else text[:57] + "..."


def _print_first(first: Divergence, names: tuple[str, str], decode: bool) -> None:
    of_tokens = first.a.context or first.b.context or first.index
    where = f"{first.array}[{first.index}]" if of_tokens else first.array
    click.echo(f"\nfirst difference: {where}")
    for side, name, colour in ((first.a, names[0], "red"), (first.b, names[1], "green")):
        _print_side(side, name, colour, decode)
    click.echo()


def _print_side(side: Side, name: str, colour: str, decode: bool) -> None:
    if side.sample is None:
        click.echo(f"  {name}: no such sample")
        return
    origin = ""
    if side.origin is not None:
        row = "" if side.origin.row is None else f" row {side.origin.row + 1}"
        origin = f", {side.origin.source}{row}"
    click.echo(f"  {name}: sample {side.sample}{origin}")
    if side.context is not None:
        before, at, after = ((printable if decode else visible)(text) for text in side.context)
        marked = _paint(f"【{at}】", colour)
        click.echo("".join(f"    {line}" for line in f"{before}{marked}{after}".splitlines(keepends=True)))
    value = "ends here" if side.value is None else str(side.value)
    place = "not exported" if side.place is None else f"{side.place.file} at byte {side.place.offset}"
    click.echo(_dim(f"    value {value}; {place}"))


def hunk_lines(hunks: list[Hunk], limit: int) -> list[str]:
    """The changes, a line each, at most ``limit`` and one that says how many more."""
    lines = [_hunk_line(hunk) for hunk in hunks[:limit]]
    if len(hunks) > limit:
        lines.append(f"… and {number(len(hunks) - limit)} more (--limit N, --json for all)")
    return lines


def _hunk_line(hunk: Hunk) -> str:
    ranges = f"{_range(hunk.a)} → {_range(hunk.b)}"
    if hunk.op != "replace":
        ranges = _range(hunk.b if hunk.op == "insert" else hunk.a)
        return f"{SIGNS[hunk.op]} {ranges}"
    return f"{SIGNS[hunk.op]} {ranges}  {', '.join(hunk.arrays)}"


def _range(bounds: tuple[int, int]) -> str:
    lo, hi = bounds
    return f"sample {lo}" if hi == lo + 1 else f"samples {lo} to {hi - 1}"


def _paint(text: str, colour: str) -> str:
    return click.style(text, fg=colour) if colour and use_colour() else text


def _dim(text: str) -> str:
    return click.style(text, dim=True) if use_colour() else text
