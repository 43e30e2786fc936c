"""``castore show``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from castore_cli.context import State, local_time, use_colour
from castore_cli.text import echo_json, number, plural, share, visible

if TYPE_CHECKING:
    from castore.view.dataset import Dataset


@click.command()
@click.argument("address")
@click.option("--dropped", is_flag=True, help="List the rows that became no sample, and why.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
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
        _print(document)


def _document(data: Dataset) -> dict[str, Any]:
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


def _dropped(data: Dataset) -> list[dict[str, Any]]:
    from castore.format.files import DROPPED_FILE, decode_dropped

    run = data.run
    if run is None or DROPPED_FILE not in run.files:
        return []
    names = [str(source.get("name")) for source in run.sources]
    rows = decode_dropped(data.fetch(run.files[DROPPED_FILE]))
    return [{"source": names[row.source], "row": row.row, "line": row.line, "reason": row.reason} for row in rows]


def _print(document: dict[str, Any]) -> None:
    _field("root", document["root"].hex())
    if document["run"] is not None:
        _field("run", document["run"].hex())
    _field("samples", f"{number(document['samples'])}, {number(document['tokens'])} tokens")
    order = document["order"]
    if order is None:
        _field("order", "as stored")
    else:
        taken = "" if order["take"] == order["count"] else f", first {number(order['take'])}"
        explicit = order["algorithm"] == "explicit"
        how = "a permutation of its own" if explicit else f"shuffled with seed {order['seed']} ({order['algorithm']})"
        _field("order", f"{how}{taken}")
    if document["recipe"] is None:
        return
    _print_run(document)


def _print_run(document: dict[str, Any]) -> None:
    statistics, origin, configuration = document["statistics"], document["origin"], document["configuration"]
    trained = statistics.get("trainable", 0)
    _field("trained", f"{number(trained)} tokens, {share(trained, document['tokens'])}")
    if configuration.get("tokenizer") is not None:  # of what a program wrote nothing of this is known
        _field("tokenizer", str(configuration["tokenizer"]))
        _field("template", str(configuration.get("chat_template") or "the tokenizer's own"))
        _field("max length", str(configuration.get("max_seq_length") or "none"))
    _field("made", f"{local_time(origin.get('time', 0))} by {origin.get('author')} on {origin.get('host')}")
    if origin.get("message"):
        _field("message", str(origin["message"]))
    for source in document["sources"]:
        dropped = sum(source.get("dropped", {}).values())
        lost = f", {plural(dropped, 'row')} dropped" if dropped else ""
        counts = f"{plural(source.get('samples', 0), 'sample')}, {number(source.get('tokens', 0))} tokens{lost}"
        if "samples" not in source:  # of an imported folder
            counts = plural(source.get("rows", 0), "row")
        name = " ".join(str(source[key]) for key in ("name", "amount") if source.get(key))
        _field("source", f"{name}: {counts}")


def _field(name: str, value: str) -> None:
    label = f"{name:<10}"
    click.echo(f"{click.style(label, dim=True) if use_colour() else label} {visible(value)}")
