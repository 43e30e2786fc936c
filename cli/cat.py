"""``castore cat``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from castore_cli.context import State, use_colour
from castore_cli.text import echo_json, plural, printable

if TYPE_CHECKING:
    from castore.format.files import Vocabulary


@click.command()
@click.argument("address")
@click.option("--sample", type=click.IntRange(0), required=True, metavar="I", help="Sample in stored order, from 0.")
@click.option("--decode", is_flag=True, help="As text; what is trained on is coloured, or stands between « and ».")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.pass_obj
def cat(state: State, address: str, sample: int, decode: bool, as_json: bool) -> None:
    """Show one sample of the dataset at ADDRESS."""
    _, data = state.dataset(address)
    data.check_index(sample)
    tokens = data.token_ids(sample, sample + 1)[0]
    spans = data.spans(sample, sample + 1)[0] if data.has("labels_mask") else []
    origin = data.origin(sample)
    vocabulary = data.vocabulary
    if decode and vocabulary is None:
        raise click.UsageError("this dataset recorded no vocabulary, so its ids have no text")
    if as_json:
        document: dict[str, object] = {
            "sample": sample,
            "source": origin.source if origin else None,
            "row": origin.row if origin else None,
            "token_ids": list(tokens),
            "trainable": spans,
        }
        if decode and vocabulary is not None:
            document["text"] = vocabulary.decode(tokens)
        echo_json(document)
        return
    place = "" if origin is None else f", {origin.source}" + ("" if origin.row is None else f" row {origin.row + 1}")
    trained = sum(stop - start for start, stop in spans)
    click.echo(f"sample {sample}{place}: {plural(len(tokens), 'token')}, {trained} trained on")
    if decode and vocabulary is not None:
        click.echo(_text(tokens, spans, vocabulary))
    else:
        click.echo("token_ids " + " ".join(map(str, tokens)))
        click.echo("trainable " + " ".join(f"{start}:{stop}" for start, stop in spans))


def _text(tokens: Sequence[int], spans: list[tuple[int, int]], vocabulary: Vocabulary) -> str:
    """Text with the trained parts marked."""
    parts = []
    at = 0
    for start, stop in spans:
        parts.append(printable(vocabulary.decode(tokens[at:start])))
        text = printable(vocabulary.decode(tokens[start:stop]))
        parts.append(click.style(text, fg="green") if use_colour() else f"«{text}»")
        at = stop
    return "".join([*parts, printable(vocabulary.decode(tokens[at:]))])
