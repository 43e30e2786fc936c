"""``castore show``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from castore_cli.context import State, local_time, use_colour
from castore_cli.formatting import echo_json, lost_lines, number, plural, share, visible
from castore_cli.parameters import dataset_argument, json_option

if TYPE_CHECKING:
    from castore.format.run import Run, SourceRecord
    from castore.read.columns import Columns


@click.command()
@dataset_argument("address")
@click.option("--dropped", is_flag=True, help="List the rows that became no sample, and why.")
@json_option
@click.pass_obj
def show(state: State, address: str, dropped: bool, as_json: bool) -> None:
    """Show what the dataset at ADDRESS is and how it came to be."""
    _, data = state.dataset(address)
    document = _document(data)
    if dropped:
        document["dropped_rows"] = _dropped(data)
    if as_json:
        echo_json(document)
    elif dropped:
        for row in document["dropped_rows"]:
            click.echo(visible(f"{row['source']}, row {row['line']}: {row['reason']}"))
    else:
        for name, value in _fields(data):
            _print(name, value)


def _document(data: Columns) -> dict[str, Any]:
    manifest, run = data.manifest, data.run
    document: dict[str, Any] = {
        "root": data.root,
        "run": data.run_digest,
        "samples": manifest.samples,
        "tokens": manifest.tokens,
        "arrays": {
            name: {"dtype": array.dtype, "axis": array.axis, "items": root.items, "root": root.digest}
            for name, (array, root) in manifest.arrays.items()
        },
        "order": manifest.order.value() if manifest.order else None,
        "split": manifest.split.value(),
        "recipe": dict(run.recipe) if run else None,
    }
    if run is not None:
        document.update(
            configuration=run.configuration.value(),
            sources=[source.value() for source in run.sources],
            statistics=run.statistics.value() if run.statistics else None,
            files=dict(run.files),
            origin=run.origin.value() if run.origin else None,
        )
    return document


def _dropped(data: Columns) -> list[dict[str, Any]]:
    from castore.errors import FormatError
    from castore.format.files import DROPPED_FILE, decode_dropped

    run = data.run
    if run is None or DROPPED_FILE not in run.files:
        return []
    names = data.sources
    rows = decode_dropped(data.fetch(run.files[DROPPED_FILE]))
    for row in rows:
        if row.source >= len(names):  # the record may be anybody's
            raise FormatError(f"a dropped row names source {row.source} of {len(names)} in the run record")
    return [{"source": names[row.source], "row": row.row, "line": row.line, "reason": row.reason} for row in rows]


def _fields(data: Columns) -> Iterator[tuple[str, str]]:
    manifest, order = data.manifest, data.order
    yield "root", data.root.hex()
    if data.run_digest is not None:
        yield "run", data.run_digest.hex()
    yield "samples", f"{number(manifest.samples)}, {number(manifest.tokens)} tokens"
    if order is None:
        yield "order", "as stored"
    else:
        taken = "" if order.take == order.count else f", first {number(order.take)}"
        explicit = order.algorithm == "explicit"
        how = "a permutation of its own" if explicit else f"shuffled with seed {order.seed} ({order.algorithm})"
        yield "order", f"{how}{taken}"
    if data.run is not None:
        yield from _run_fields(data.run, manifest.tokens)


def _run_fields(run: Run, tokens: int) -> Iterator[tuple[str, str]]:
    statistics, origin, configuration = run.statistics, run.origin, run.configuration
    if statistics is not None:
        yield "trained", f"{number(statistics.trainable)} tokens, {share(statistics.trainable, tokens)}"
        for line in lost_lines(statistics.lost):
            yield "lost", line
    if configuration.tokenizer is not None:  # of what a program wrote nothing of this is known
        yield "tokenizer", configuration.tokenizer
        yield "template", configuration.chat_template or "the tokenizer's own"
        yield "max length", str(configuration.max_seq_length or "none")
    if origin is not None:
        yield "made", f"{local_time(origin.time)} by {origin.author} on {origin.host}"
        if origin.message:
            yield "message", origin.message
    for source in run.sources:
        yield "source", f"{source.name}{f' {source.amount}' if source.amount else ''}: {_counts(source)}"


def _counts(source: SourceRecord) -> str:
    if source.samples is None:  # of an imported folder
        return plural(source.rows or 0, "row")
    dropped = sum(source.dropped.values())
    lost = f", {plural(dropped, 'row')} dropped" if dropped else ""
    return f"{plural(source.samples, 'sample')}, {number(source.tokens or 0)} tokens{lost}"


def _print(name: str, value: str) -> None:
    label = f"{name:<10}"
    click.echo(f"{click.style(label, dim=True) if use_colour() else label} {visible(value)}")
