"""``castore fsck``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from castore_cli.context import State
from castore_cli.formatting import echo_json, number, plural, size, visible
from castore_cli.parameters import Share, ShareType, json_option, quiet_option

if TYPE_CHECKING:
    from castore.care.findings import Finding


@click.command()
@click.option(
    "--sample",
    type=ShareType(zero=False),
    default="100%",
    metavar="SHARE",
    help="Read a random part of the chunks, as 1%.",
)
@click.option("--repair", is_flag=True, help="Put right what can be without another repository.")
@click.option("--repair-from", metavar="URL", help="Take what is damaged or missing from this repository, verified.")
@json_option
@quiet_option
@click.pass_obj
def fsck(state: State, sample: Share, repair: bool, repair_from: str | None, as_json: bool, quiet: bool) -> None:
    """Read and hash everything, and check that it fits together; exit 1 if something is found.

    Nothing is deleted, and nothing is changed but what --repair and --repair-from put in place of what is damaged or
    missing.
    """
    from castore.repository import Repository
    from castore.store.urls import open_backend
    from castore_cli.progress import ProgressDisplay

    repository = Repository(open_backend(state.url))  # it need not be healthy enough to be opened
    with ProgressDisplay("checking", "bytes", as_json=as_json, quiet=quiet) as progress:
        done = repository.fsck(
            share=float(sample.value), repair=repair, repair_from=repair_from, report=progress.update
        )
    findings = done.findings
    if as_json:
        echo_json(
            {
                "clean": findings.clean,
                "findings": [_plain(finding) for finding in findings.listed],
                "counts": findings.counts,
                "repaired": findings.repaired,
                "names": done.names,
                "objects": {"stored": done.objects, "read": done.objects_read, "unreferenced": done.unreferenced},
                "bytes": {"stored": done.bytes_stored, "read": done.bytes_read, "content": done.bytes_content},
            }
        )
    else:
        for finding in findings.listed:
            _show(finding)
        for name, count in findings.counts.items():
            listed = sum(finding.name == name and not finding.repaired for finding in findings.listed)
            if count > listed:
                click.echo(f"… and {number(count - listed)} more {name}")
        unlisted = findings.repaired - sum(finding.repaired for finding in findings.listed)
        if unlisted:
            click.echo(f"… and {number(unlisted)} more repaired")
        share = "" if sample.value == 1 else f", {number(done.objects_read)} of them read"
        click.echo(
            f"{'clean' if findings.clean else 'not clean'}: {plural(done.names, 'name')}, "
            f"{plural(done.objects, 'object')} ({size(done.bytes_stored)}){share}"
        )
    if not findings.clean:
        raise click.exceptions.Exit(1)


def _plain(finding: Finding) -> dict[str, object]:
    return {
        "id": finding.name,
        "severity": finding.severity,
        "key": finding.key,
        "text": finding.text,
        "advice": finding.advice,
        "repaired": finding.repaired,
    }


def _show(finding: Finding) -> None:
    state = "repaired" if finding.repaired else finding.severity
    click.echo(f"{state:<8}  {finding.name}  {visible(finding.key)}: {visible(finding.text)}")
    if not finding.repaired:
        click.echo(f"{'':<8}  {finding.advice}")
