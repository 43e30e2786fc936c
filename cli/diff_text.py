"""A comparison as text for people."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import click

from castore.format.digest import is_digest_hex
from castore_cli.context import use_colour
from castore_cli.formatting import number, plural, printable, size, visible

if TYPE_CHECKING:
    from castore.diff.compare import Comparison
    from castore.diff.first_difference import FirstDifference, Side
    from castore.diff.hunks import Hunk
    from castore.read.columns import Columns
    from castore_cli.diff_options import DiffOptions, DiffOutcome

SIGNS = {"replace": "~", "insert": "+", "delete": "-"}
COLOURS = {"~": "yellow", "+": "green", "-": "red"}


def print_comparison(outcome: DiffOutcome, options: DiffOptions) -> None:
    """Print a comparison: one line that says it, the causes, the first difference, the list of changes, the cost."""
    result, listed = outcome.result, not options.stat and not options.first_only
    print_head(result, outcome.title, groups=listed)
    if not options.stat and result.first is not None:
        _print_first(result.first, outcome.names, options.decode)
    if listed:
        for line in hunk_lines(result.hunks, options.listed):
            click.echo(_paint(line, COLOURS.get(line[0], "")))
    print_end(outcome.reads, outcome.note)


def print_head(result: Comparison, title: str, *, groups: bool) -> None:
    """Print what is said first: one line, the causes, and the kinds of change."""
    click.echo(title)
    for line in cause_lines(result):
        click.echo(f"  {line}")
    for line in group_lines(result) if groups else []:
        click.echo(line)


def print_end(reads: dict[str, int], note: str) -> None:
    """Print what is said last: what the comparison cost, and what it could not tell."""
    click.echo(_dim(f"read {plural(reads['objects'], 'object')}, {size(reads['bytes'])}"))
    if note:
        click.echo(note)


LEFT_OUT_MAX = 8
"""Names of what was not compared that are told in a line."""


def headline(result: Comparison, data: tuple[Columns, Columns], only: str | None) -> str:
    """What is equal, what is not, and what was not compared, in one line."""
    return f"{_verdict(result, data, only)}{left_out_words(result)}"


def left_out_words(result: Comparison) -> str:
    """What was not compared, as the end of a sentence; nothing if all was."""
    names = [visible(name) for name in result.not_compared]
    more = f" and {number(len(names) - LEFT_OUT_MAX)} more" if len(names) > LEFT_OUT_MAX else ""
    return f"; not compared: {', '.join(names[:LEFT_OUT_MAX])}{more}" if names else ""


def _verdict(result: Comparison, data: tuple[Columns, Columns], only: str | None) -> str:
    samples = plural(result.samples_a, "sample")
    if not result:
        tokens = number(data[0].manifest.tokens)
        if only is not None:
            return f"equal in {only}: {samples}"
        root = f", root {data[0].root.hex()}" if data[0].root else ""  # directories are compared without
        return f"equal: {samples}, {tokens} tokens{root}"
    equal = [name for name, same in result.arrays.items() if same]
    also = f"; equal: {', '.join(equal)}" if equal and only is None else ""
    if result.same_samples:
        differ = [visible(name) for name, same in result.arrays.items() if same is False]
        if only is None and not result.same_order:
            return _same_samples(data, samples)
        if result.moved:
            return f"another order of the same {samples}: {number(result.moved)} moved"
        return f"different in {', '.join(differ)}: {samples}{also}" if differ else "the same samples, stored otherwise"
    counts = [
        (result.count(op), word)
        for op, word in (("replace", "replaced"), ("insert", "inserted"), ("delete", "deleted"))
    ]
    counts.append((result.moved, "moved"))
    said = ", ".join(f"{number(count)} {word}" for count, word in counts if count)
    totals = samples
    if result.samples_a != result.samples_b:
        totals = f"{number(result.samples_a)} and {plural(result.samples_b, 'sample')}"
    where = "" if only is None else f" in {only}"
    order = "" if result.same_order or only is not None else f"; {_order(data)}"
    return f"different{where}: {said} of {totals}{also}{order}"


def _same_samples(data: tuple[Columns, Columns], samples: str) -> str:
    """What is to say of equal samples in orders that are not equal."""
    a, b = (side.manifest.order for side in data)
    if a is not None and b is not None and replace(a, take=b.take) == b:
        return f"the same {samples} in the same order, of which the first {number(a.take)} or {number(b.take)} are used"
    return f"another order of the same {samples}"


def _order(data: tuple[Columns, Columns]) -> str:
    """What is to say of two orders that are not equal: a seed shuffles another number of samples in another way."""
    a, b = (side.manifest.order for side in data)
    same_seed = a is not None and b is not None and (a.algorithm, a.seed) == (b.algorithm, b.seed) and not a.chunks
    if a is not None and b is not None and same_seed and a.count != b.count:
        return f"seed {a.seed} shuffles {number(b.count)} otherwise than {number(a.count)}"
    return "another order"


def cause_lines(result: Comparison) -> list[str]:
    """What differs in how the two came to be, a line each; lines below one are indented."""
    if not result.causes:
        return [visible(f"{field}: {_short(x)} → {_short(y)}") for field, x, y in result.recipe]
    return [visible(line) for cause in result.causes for line in (cause.text, *(f"  {line}" for line in cause.lines))]


def group_lines(result: Comparison) -> list[str]:
    """What changed in the replaced samples, a line for each kind of change."""
    changes = result.aligned
    if changes is None or not changes.groups:
        return []
    looked = "" if changes.looked_at == changes.replaced else f", of which {number(changes.looked_at)} were looked at"
    width = len(number(max(group.samples for group in changes.groups)))
    lines = [f"changes in {plural(changes.replaced, 'replaced sample')}{looked}:"]
    for group in changes.groups:
        examples = ", ".join(str(change.sample_a) for change in group.examples)
        which = plural(len(group.examples), "sample").partition(" ")[2]
        more = ", …" if group.samples > len(group.examples) else ""
        lines.append(f"  {number(group.samples):>{width}}  {visible(group.text)} ({which} {examples}{more})")
    if changes.other:
        lines.append(f"  {number(changes.other):>{width}}  otherwise")
    return lines


def _short(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, list | tuple):
        return _short(", ".join(map(str, value)))
    text = value.hex() if isinstance(value, bytes) else str(value)
    if is_digest_hex(text):
        return text[:12]
    return text if len(text) <= 60 else text[:57] + "..."


def _print_first(first: FirstDifference, names: tuple[str, str], decode: bool) -> None:
    of_tokens = first.a.context or first.b.context or first.index
    where = f"{first.array}[{first.index}]" if of_tokens else first.array
    click.echo(f"\nfirst difference: {where}")
    for side, name, colour in ((first.a, names[0], "red"), (first.b, names[1], "green")):
        _print_side(side, name, colour, decode, first.placed)
    click.echo()


def _print_side(side: Side, name: str, colour: str, decode: bool, placed: bool) -> None:
    if side.sample is None:
        click.echo(f"  {visible(name)}: no such sample")
        return
    origin = ""
    if side.origin is not None:
        row = "" if side.origin.row is None else f" row {side.origin.row + 1}"
        origin = f", {visible(side.origin.source)}{row}"
    click.echo(f"  {visible(name)}: sample {side.sample}{origin}")
    if side.context is not None:
        before, at, after = ((printable if decode else visible)(text) for text in side.context)
        marked = _paint(f"【{at}】", colour)
        click.echo("".join(f"    {line}" for line in f"{before}{marked}{after}".splitlines(keepends=True)))
    value = "ends here" if side.value is None else str(side.value)
    click.echo(_dim(f"    value {value}; {_place(side, placed)}"))


def _place(side: Side, placed: bool) -> str:
    if side.place is not None:
        return f"{side.place.file} at byte {side.place.offset}"
    return "not exported" if placed else "--place says where in an export"


def hunk_lines(hunks: list[Hunk], limit: int) -> list[str]:
    """The hunks, a line each, at most ``limit`` and one that says how many more."""
    lines = [_hunk_line(hunk) for hunk in hunks[:limit]]
    if len(hunks) > limit:
        lines.append(f"… and {number(len(hunks) - limit)} more (--limit N, --json for all)")
    return lines


def _hunk_line(hunk: Hunk) -> str:
    ranges = f"{_range(hunk.a)} → {_range(hunk.b)}"
    if hunk.moved:
        if hunk.op == "delete":
            return f"- {_range(hunk.a)}  moved to {_range(hunk.moved)}{_also(hunk)}"
        return f"+ {_range(hunk.b)}  moved from {_range(hunk.moved)}{_also(hunk)}"
    if hunk.op != "replace":
        ranges = _range(hunk.b if hunk.op == "insert" else hunk.a)
        return f"{SIGNS[hunk.op]} {ranges}"
    return f"{SIGNS[hunk.op]} {ranges}  {', '.join(hunk.arrays)}"


def _also(hunk: Hunk) -> str:
    return f", other {', '.join(hunk.arrays)}" if hunk.arrays else ""


def _range(bounds: tuple[int, int]) -> str:
    lo, hi = bounds
    return f"sample {lo}" if hi == lo + 1 else f"samples {lo} to {hi - 1}"


def _paint(text: str, colour: str) -> str:
    return click.style(text, fg=colour) if colour and use_colour() else text


def _dim(text: str) -> str:
    return click.style(text, dim=True) if use_colour() else text
