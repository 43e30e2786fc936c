"""A comparison as Markdown, for a pull request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from castore_cli.diff_text import cause_lines, headline, hunk_lines
from castore_cli.text import visible

if TYPE_CHECKING:
    from castore.view.compare import Comparison
    from castore.view.dataset import Dataset
    from castore.view.divergence import Divergence, Side


def markdown(
    result: Comparison, data: tuple[Dataset, Dataset], names: tuple[str, str], *, limit: int, only: str | None
) -> str:
    """The comparison: what it says, the causes, a table of the first difference, and the list of changes."""
    parts = [f"**{headline(result, data, only)}**"]
    causes = cause_lines(result)
    if causes:
        parts.append("\n".join(f"- {_cell(line)}" for line in causes))
    if result.first is not None:
        parts.append(_first(result.first, names))
    if result.hunks:
        lines = "\n".join(hunk_lines(result.hunks, limit))
        parts.append(f"```diff\n{lines}\n```")
    return "\n\n".join(parts)


def _first(first: Divergence, names: tuple[str, str]) -> str:
    rows = [("", *(f"`{name}`" for name in names)), ("---", "---", "---")]
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


def _cell(text: str) -> str:
    """Text that Markdown shows as it is, on one line of a table."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>()#+!|~" else c for c in visible(text))
