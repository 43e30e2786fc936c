"""A comparison as Markdown, for a pull request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from castore_cli.diff_text import cause_lines, hunk_lines
from castore_cli.formatting import number, plural, visible

if TYPE_CHECKING:
    from castore.diff.change_groups import Changes
    from castore.diff.first_difference import FirstDifference, Side
    from castore_cli.diff_options import DiffOptions, DiffOutcome


COMMENT_BYTES_MAX = 65_536
"""What GitHub takes as a comment or the text of a pull request."""

_REST = "… the rest is more than a comment holds: `castore diff --html FILE` shows it."
_CELL_CHARACTERS_MAX = 8_000


def markdown(outcome: DiffOutcome, options: DiffOptions) -> str:
    """The comparison: what it says, the causes, a table of the first difference, and the list of changes."""
    result, note = outcome.result, outcome.note
    parts = [f"**{outcome.title}**"]
    causes = cause_lines(result)
    if causes:
        parts.append("\n".join(_cause(line) for line in causes))
    if note:
        parts.append(_cell(note))
    if result.aligned is not None and result.aligned.groups:
        parts.append(_groups(result.aligned))
    if result.first is not None:
        parts.append(_first(result.first, outcome.names))
    if result.hunks:
        lines = "\n".join(hunk_lines(result.hunks, options.listed))
        parts.append(f"```diff\n{lines}\n```")
    return _fitting(parts)


def _fitting(parts: list[str]) -> str:
    """As many parts as a comment of GitHub holds, and a word on the rest."""
    room = COMMENT_BYTES_MAX - len(_REST.encode())
    kept: list[str] = []
    for part in parts:
        room -= len(part.encode()) + 2
        if room < 0:
            return "\n\n".join([*kept, _REST])
        kept.append(part)
    return "\n\n".join(kept)


def _cause(line: str) -> str:
    return f"  {_cell(line.strip())}  " if line.startswith("  ") else f"- {_cell(line)}"


def _groups(changes: Changes) -> str:
    looked = f", {number(changes.looked_at)} looked at" if changes.looked_at < changes.replaced else ""
    rows = [
        (number(group.samples), _cell(group.text), ", ".join(str(change.sample_a) for change in group.examples))
        for group in changes.groups
    ]
    if changes.other:
        rows.append((number(changes.other), "otherwise", ""))
    table = [("samples", "change", "for example"), ("---:", "---", "---"), *rows]
    lines = "\n".join(f"| {' | '.join(row)} |" for row in table)
    return f"Changes in {plural(changes.replaced, 'replaced sample')}{looked}:\n\n{lines}"


def _first(first: FirstDifference, names: tuple[str, str]) -> str:
    rows = [("", *map(_code, names)), ("---", "---", "---")]
    sides = [_side(first.a, first.placed), _side(first.b, first.placed)]
    rows += [(title, *(side[i] for side in sides)) for i, title in enumerate(("sample", "from", "value", "text", "at"))]
    table = "\n".join(f"| {title} | {a} | {b} |" for title, a, b in rows)
    return f"First difference: `{first.array}[{first.index}]`\n\n{table}"


def _side(side: Side, placed: bool) -> tuple[str, str, str, str, str]:
    if side.sample is None:
        return ("none", "", "", "", "")
    origin, place = side.origin, side.place
    row = "" if origin is None or origin.row is None else f" row {origin.row + 1}"
    before, at, after = side.context or ("", "", "")
    return (
        str(side.sample),
        "" if origin is None else _cell(origin.source + row),
        "ends here" if side.value is None else str(side.value),
        "" if side.context is None else f"{_cell(before)}【{_cell(at)}】{_cell(after)}",
        f"{place.file}, byte {place.offset}" if place else "not exported" if placed else "`--place`",
    )


def _code(text: str) -> str:
    """Text as code in a cell: a bar would end the cell, and a backtick the code."""
    shown = visible(text).replace("`", "'").replace("|", "\\|")
    return f"`{shown}`"


def _cell(text: str) -> str:
    """Text that Markdown shows as it is, on one line of a table."""
    if len(text) > _CELL_CHARACTERS_MAX:
        text = f"{text[: _CELL_CHARACTERS_MAX // 2]} … {text[-_CELL_CHARACTERS_MAX // 2 :]}"
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>()#+!|~" else c for c in visible(text))
