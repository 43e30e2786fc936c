"""``castore gc``."""

from __future__ import annotations

import click

from castore.care.policy import DAY_S, GRACE_S, KEEP_LOG_S, KEEP_RECORDS_S
from castore_cli.context import State
from castore_cli.formatting import echo_json, number, plural, size
from castore_cli.parameters import Period, json_summary_option, quiet_option


@click.command()
@click.option("--dry-run", is_flag=True, help="Say what would go, and remove nothing.")
@click.option(
    "--grace",
    type=Period(),
    default=f"{GRACE_S // DAY_S}d",
    metavar="PERIOD",
    help="Keep what was stored or reused within this time.",
)
@click.option(
    "--keep-log",
    type=Period(),
    default=f"{KEEP_LOG_S // DAY_S}d",
    metavar="PERIOD",
    help="Keep what a name meant for so long after.",
)
@click.option(
    "--keep-records",
    type=Period(),
    default=f"{KEEP_RECORDS_S // DAY_S}d",
    metavar="PERIOD",
    help="Keep what was tokenized or imported for reuse, for so long after the last use.",
)
@click.option("--force", is_flag=True, help="Accept periods that are unsafe while others write.")
@json_summary_option
@quiet_option
@click.pass_obj
def gc(
    state: State,
    dry_run: bool,
    grace: float,
    keep_log: float,
    keep_records: float,
    force: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Remove objects that nothing uses: no name, no log within its time, no record, no run under way.

    Others may go on working. An object goes only if it was neither stored nor reused within --grace, so this must be
    longer than the longest run.
    """
    from castore_cli.progress import ProgressDisplay

    repository = state.open()
    with ProgressDisplay("collecting", "objects", as_json=as_json, quiet=quiet) as progress:
        done = repository.gc(
            grace_s=grace,
            keep_log_s=keep_log,
            keep_records_s=keep_records,
            dry_run=dry_run,
            force=force,
            report=progress.update,
        )
    if as_json:
        echo_json(
            {
                "dry_run": dry_run,
                "objects": {
                    "listed": done.listed,
                    "read": done.read,
                    "in_use": done.marked,
                    "young": done.young,
                    "spared": done.spared,
                    "removed": done.removed,
                },
                "bytes": {"listed": done.listed_bytes, "removed": done.removed_bytes},
                "records_removed": done.records_removed,
            }
        )
        return
    would = "would remove" if dry_run else "removed"
    click.echo(f"{would} {plural(done.removed, 'object')}, {size(done.removed_bytes)}")
    click.echo(f"  in use   {number(done.marked)}")
    click.echo(f"  young    {number(done.young)}, not in use, stored or reused within the grace period")
    if done.spared:
        click.echo(f"  spared   {number(done.spared)}, reused meanwhile")
    click.echo(f"  records  {number(done.records_removed)} removed")
    click.echo(f"  cost     {number(done.listed)} objects listed, {number(done.read)} read")
