"""``castore du``."""

from __future__ import annotations

import click

from castore_cli.context import State
from castore_cli.formatting import echo_json, plural, size, visible
from castore_cli.parameters import dataset_argument, json_option, quiet_option


@click.command()
@dataset_argument("names", metavar="[NAME]...", nargs=-1)
@json_option
@quiet_option
@click.pass_obj
def du(state: State, names: tuple[str, ...], as_json: bool, quiet: bool) -> None:
    """Tell what names take, what they share, and what would be free without them.

    With NAMEs, of these alone, and what removing all of them would free.
    """
    from castore_cli.progress import ProgressDisplay

    repository = state.open()
    with ProgressDisplay("counting", "objects", as_json=as_json, quiet=quiet) as progress:
        done = repository.du(*names, report=progress.update)
    if as_json:
        echo_json(
            {
                "names": [
                    {
                        "name": row.name,
                        "author": row.author,
                        "logical": row.logical,
                        "stored": row.stored,
                        "unique": row.unique,
                        "shared": row.shared,
                        "freed": row.freed,
                    }
                    for row in done.names
                ],
                "freed": done.freed,
                "authors": done.authors,
                "objects": {"stored": done.objects, "read": done.read},
                "bytes": {"stored": done.stored, "in_use": done.in_use, "in_logs": done.in_logs},
            }
        )
        return
    head = ("name", "logical", "stored", "unique", "shared", "would free", "author")
    table = [
        (r.name, size(r.logical), size(r.stored), size(r.unique), size(r.shared), size(r.freed), visible(r.author))
        for r in done.names
    ]
    widths = [max(len(line[i]) for line in (head, *table)) for i in range(len(head))]
    for line in (head, *table):
        cells = [line[0].ljust(widths[0]), *(line[i].rjust(widths[i]) for i in range(1, 6)), line[6]]
        click.echo("  ".join(cells))
    if names and len(table) > 1:
        click.echo(f"all of these would free {size(done.freed)}")
    if not names:
        for author, taken in done.authors.items():
            click.echo(f"{author}: {size(taken)}")
        click.echo(
            f"in all {size(done.stored)} in {plural(done.objects, 'object')}: {size(done.in_use)} in use, "
            f"{size(done.in_logs)} held by logs alone"
        )
