"""``castore ls``, ``log``, ``tag`` and ``rm``: names and what they mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from castore.errors import CastoreError
from castore_cli.context import State, local_time, origin
from castore_cli.text import echo_json, plural

if TYPE_CHECKING:
    from castore.format.digest import Digest
    from castore.repository import Repository


@click.command()
@click.argument("patterns", metavar="[PATTERN]...", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
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
        entry = repository.refs.read(name)
        row: dict[str, object] = {"name": name}
        try:
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
        return [str(row["name"]), str(row["error"])]
    root, samples, tokens, time_s = row["root"], row["samples"], row["tokens"], row.get("time", 0)
    assert isinstance(root, bytes)
    assert isinstance(samples, int)
    assert isinstance(tokens, int)
    assert isinstance(time_s, int)
    counts = [plural(n, word) + room * (n == 1) for n, word in ((samples, "sample"), (tokens, "token"))]
    return [str(row["name"]), root.hex()[:12], *counts, local_time(time_s), str(row.get("author", ""))]


@click.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.pass_obj
def log(state: State, name: str, as_json: bool) -> None:
    """Show what NAME has meant, newest first: the root, when, who and why."""
    repository = state.open()
    entries = repository.log(name)
    if as_json:
        fields = ("sequence", "target", "time_s", "author", "message")
        echo_json(
            [{**{f: getattr(entry, f) for f in fields}, "root": _root(repository, entry.target)} for entry in entries]
        )
        return
    for back, entry in enumerate(entries):
        root = _root(repository, entry.target)
        shown = "removed" if entry.target is None else "unreadable" if root is None else root.hex()[:12]
        first_line = entry.message.partition("\n")[0]
        click.echo(f"{name}@{{{back}}}  {shown:<12}  {local_time(entry.time_s)}  {entry.author}  {first_line}")


def _root(repository: Repository, target: Digest | None) -> Digest | None:
    """The root that a ref's entry leads to, None if it was removed or cannot be read."""
    try:
        return None if target is None else repository.dataset(target.hex()).root
    except CastoreError:  # one damaged run must not hide the others
        return None


@click.command()
@click.argument("address")
@click.argument("name")
@click.option("-m", "--message", metavar="TEXT", default="", help="A line for the log.")
@click.option("--force", is_flag=True, help="Move a protected name; wants the reason with --message.")
@click.pass_obj
def tag(state: State, address: str, name: str, message: str, force: bool) -> None:
    """Let NAME mean what ADDRESS means."""
    repository = state.open()
    repository.tag(address, name, origin(message), force=force)
    click.echo(f"{name}  {repository.dataset(name).root.hex()}")


@click.command()
@click.argument("name")
@click.option("-m", "--message", metavar="TEXT", default="", help="A line for the log.")
@click.option("--force", is_flag=True, help="Move a protected name; wants the reason with --message.")
@click.pass_obj
def rm(state: State, name: str, message: str, force: bool) -> None:
    """Remove NAME. Its log and the data stay: name@{1} is what it meant, and tag brings it back."""
    state.open().remove(name, origin(message), force=force)
    click.echo(f"{name} removed; 'castore tag {name}@{{1}} {name}' brings it back")
