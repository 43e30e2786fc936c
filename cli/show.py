"""``castore show``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from castore_cli.context import State, local_time, use_colour
from castore_cli.formatting import echo_json, number, plural, share, visible
from castore_cli.parameters import dataset_argument, json_option

if TYPE_CHECKING:
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
        for name, value in list(_fields(document)):  # all or nothing: the record may be anybody's
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
            configuration=dict(run.configuration),
            sources=[dict(source) for source in run.sources],
            statistics=dict(run.statistics),
            files=dict(run.files),
            origin=dict(run.origin),
        )
    return document


def _dropped(data: Columns) -> list[dict[str, Any]]:
    from castore.errors import FormatError
    from castore.format.files import DROPPED_FILE, decode_dropped

    run = data.run
    if run is None or DROPPED_FILE not in run.files:
        return []
    names = [str(source.get("name")) for source in run.sources]
    rows = decode_dropped(data.fetch(run.files[DROPPED_FILE]))
    for row in rows:
        if row.source >= len(names):  # the record may be anybody's
            raise FormatError(f"a dropped row names source {row.source} of {len(names)} in the run record")
    return [{"source": names[row.source], "row": row.row, "line": row.line, "reason": row.reason} for row in rows]


def _fields(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "root", document["root"].hex()
    if document["run"] is not None:
        yield "run", document["run"].hex()
    yield "samples", f"{number(document['samples'])}, {number(document['tokens'])} tokens"
    order = document["order"]
    if order is None:
        yield "order", "as stored"
    else:
        taken = "" if order["take"] == order["count"] else f", first {number(order['take'])}"
        explicit = order["algorithm"] == "explicit"
        how = "a permutation of its own" if explicit else f"shuffled with seed {order['seed']} ({order['algorithm']})"
        yield "order", f"{how}{taken}"
    if document["recipe"] is not None:
        yield from _run_fields(document)


def _run_fields(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    from castore.format.fields import expect

    statistics, origin, configuration = document["statistics"], document["origin"], document["configuration"]
    trained = _count(statistics, "trainable")
    yield "trained", f"{number(trained)} tokens, {share(trained, document['tokens'])}"
    if configuration.get("tokenizer") is not None:  # of what a program wrote nothing of this is known
        yield "tokenizer", str(configuration["tokenizer"])
        yield "template", str(configuration.get("chat_template") or "the tokenizer's own")
        yield "max length", str(configuration.get("max_seq_length") or "none")
    time_s = expect(int, origin.get("time", 0), "time of the run record")
    yield "made", f"{local_time(time_s)} by {origin.get('author')} on {origin.get('host')}"
    if origin.get("message"):
        yield "message", str(origin["message"])
    for source in document["sources"]:
        by_reason = expect(dict, source.get("dropped", {}), "dropped of a source of the run record")
        dropped = sum(_count(by_reason, reason) for reason in by_reason)
        lost = f", {plural(dropped, 'row')} dropped" if dropped else ""
        counts = f"{plural(_count(source, 'samples'), 'sample')}, {number(_count(source, 'tokens'))} tokens{lost}"
        if "samples" not in source:  # of an imported folder
            counts = plural(_count(source, "rows"), "row")
        name = " ".join(str(source[key]) for key in ("name", "amount") if source.get(key))
        yield "source", f"{name}: {counts}"


def _count(entries: dict[str, Any], name: str) -> int:
    from castore.format.fields import expect_count

    return expect_count(entries.get(name, 0), f"{name} in the run record")


def _print(name: str, value: str) -> None:
    label = f"{name:<10}"
    click.echo(f"{click.style(label, dim=True) if use_colour() else label} {visible(value)}")
