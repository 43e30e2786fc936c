"""``castore ls``."""

from __future__ import annotations

import click

from castore.errors import CastoreError
from castore_cli.context import State, local_time
from castore_cli.formatting import echo_json, plural, visible
from castore_cli.parameters import dataset_argument, json_option


@click.command()
@dataset_argument("patterns", metavar="[PATTERN]...", nargs=-1)
@json_option
@click.pass_obj
def ls(state: State, patterns: tuple[str, ...], as_json: bool) -> None:
    """List names, with the root, size, date and author of what they mean.

    A PATTERN, such as 'golden/*', lists the names that it fits.
    """
    from fnmatch import fnmatchcase

    repository = state.open()
    rows = []
    for name in repository.refs.names():
        if patterns and not any(fnmatchcase(name, pattern) for pattern in patterns):
            continue
        entry = None
        row: dict[str, object] = {"name": name}
        try:
            entry = repository.refs.read(name)
            data = repository.dataset(name)
            row.update(root=data.root, samples=data.manifest.samples, tokens=data.manifest.tokens)
        except CastoreError as error:  # one damaged run must not hide the others
            row["error"] = str(error)
        if entry is not None:
            row.update(time=entry.time_s, author=entry.author)
        rows.append(row)
    if as_json:
        echo_json(rows)
    else:
        lines = [_columns(row, " " * (len(rows) > 1)) for row in rows]
        widths = [max(map(len, column)) for column in zip(*(line for line in lines if len(line) > 2), strict=True)]
        width = max((len(line[0]) for line in lines), default=0)
        for name, *rest in lines:
            click.echo("  ".join([f"{name:<{width}}", *map(_padded, rest, widths[1:] or [0], _RIGHT)]).rstrip())
    if any("error" in row for row in rows):
        raise click.exceptions.Exit(2)


_RIGHT = (False, True, True, False, False)
"""Columns behind the name that stand at the right: counts."""


def _padded(text: str, width: int, right: bool) -> str:
    return text.rjust(width) if right else text.ljust(width)


def _columns(row: dict[str, object], room: str) -> list[str]:
    """What a line has; ``room`` behind one sample or token keeps numbers below each other."""
    if "error" in row:
        return [str(row["name"]), visible(str(row["error"]))]
    root, samples, tokens, time_s = row["root"], row["samples"], row["tokens"], row.get("time", 0)
    assert isinstance(root, bytes)
    assert isinstance(samples, int)
    assert isinstance(tokens, int)
    assert isinstance(time_s, int)
    counts = [plural(n, word) + room * (n == 1) for n, word in ((samples, "sample"), (tokens, "token"))]
    return [str(row["name"]), root.hex()[:12], *counts, local_time(time_s), visible(str(row.get("author", "")))]
