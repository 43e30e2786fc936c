"""``castore check-backend``: does a store do what a repository needs?"""

from __future__ import annotations

import click

from castore_cli.context import State
from castore_cli.formatting import echo_json
from castore_cli.parameters import json_option


@click.command("check-backend")
@click.argument("url", required=False)
@json_option
@click.pass_obj
def check_backend(state: State, url: str | None, as_json: bool) -> None:
    """Try at a live URL what every store of a repository must do.

    URL is a folder or bucket that you may write to; without it, the place of the repository. All is done in a fresh
    folder below it, which is removed afterwards. One line for each promise; exit code 1 if one is broken.
    """
    from castore.store.live_conformance import check_url
    from castore.store.urls import open_backend

    place = url or state.url
    results = []
    for result in check_url(place, open_backend):
        results.append(result)
        if not as_json:
            verdict = "ok    " if result.broken is None else "BROKEN"
            click.echo(f"{verdict}  {result.name:<24}  {result.promise}")
            if result.broken is not None:
                click.echo(f"        {result.broken}")
    broken = [result.name for result in results if result.broken is not None]
    refs = not any(name.startswith("create") for name in broken)
    if as_json:
        checks = [{"name": r.name, "promise": r.promise, "broken": r.broken, "seconds": r.seconds} for r in results]
        echo_json({"url": place, "ok": not broken, "refs": refs, "checks": checks})
    elif broken:
        click.echo(f"{place}: {len(broken)} of {len(results)} promises broken")
        if not refs:
            click.echo("names cannot be written here safely: castore refuses to, unless CASTORE_SINGLE_WRITER=1 is set")
    else:
        click.echo(f"{place}: all {len(results)} promises kept")
    if broken:
        raise click.exceptions.Exit(1)
