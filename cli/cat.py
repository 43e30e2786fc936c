"""``castore cat``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

import click

from castore_cli.context import State, use_colour
from castore_cli.formatting import echo_json, plural, printable, visible
from castore_cli.parameters import SampleRange, dataset_argument

if TYPE_CHECKING:
    from castore.format.files import Vocabulary
    from castore.read.columns import Columns

Spans = list[tuple[int, int]]

_ROLE = re.compile(r"<\|(?:im_start\|>)?(system|user|assistant|tool|environment|function|developer)\b")
"""Where a template names who speaks: ``<|im_start|>user`` and ``<|user|>``."""


BAR = "│"
"""Stands between tokens; ``|`` would be taken for text."""


@click.command()
@dataset_argument("address")
@click.option(
    "--sample",
    "samples",
    type=SampleRange(),
    required=True,
    metavar="I",
    help="Sample in stored order, from 0; LO:HI for several.",
)
@click.option("--decode", is_flag=True, help="As text; what is trained on is coloured, or stands between « and ».")
@click.option("--tokens", is_flag=True, help="As text, with a bar between tokens.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document for each sample, on a line.")
@click.pass_obj
def cat(state: State, address: str, samples: range, decode: bool, tokens: bool, as_json: bool) -> None:
    """Show samples of the dataset at ADDRESS.

    As text on a terminal, what is trained on is green, special tokens are blue, and roles are bold.
    """
    _, data = state.dataset(address)
    data.check_index(samples[-1])
    vocabulary = data.vocabulary if decode or tokens else None
    if (decode or tokens) and vocabulary is None:
        raise click.UsageError("this dataset recorded no vocabulary, so its ids have no text")
    for sample in samples:
        _show(data, sample, vocabulary, bars=tokens, as_json=as_json)


def _show(data: Columns, sample: int, vocabulary: Vocabulary | None, *, bars: bool, as_json: bool) -> None:
    ids, _ = data.reader.tokens(sample, sample + 1)
    tokens = ids.tolist()
    spans = data.reader.spans("labels_mask", sample, sample + 1).by_sample()[0] if data.has("labels_mask") else []
    origin = data.origin(sample)
    if as_json:
        document: dict[str, object] = {
            "sample": sample,
            "source": origin.source if origin else None,
            "row": origin.row if origin else None,
            "token_ids": tokens,
            "trainable": spans,
        }
        if vocabulary is not None:
            document["text"] = vocabulary.decode(tokens)
        echo_json(document)
        return
    row = "" if origin is None or origin.row is None else f" row {origin.row + 1}"
    place = "" if origin is None else f", {visible(origin.source)}{row}"
    trained = sum(stop - start for start, stop in spans)
    head = f"sample {sample}{place}: {plural(len(tokens), 'token')}, {trained} trained on"
    click.echo(click.style(head, underline=True) if use_colour() else head)
    if vocabulary is None:
        click.echo("token_ids " + " ".join(map(str, tokens)))
        click.echo("trainable " + " ".join(f"{start}:{stop}" for start, stop in spans))
    elif use_colour():
        from castore.read.tokenizer import special_token_ids

        click.echo(_coloured(tokens, spans, vocabulary, special_token_ids(data), bars=bars))
    else:
        click.echo(_plain(tokens, spans, vocabulary, bars=bars))


def _plain(tokens: Sequence[int], spans: Spans, vocabulary: Vocabulary, *, bars: bool) -> str:
    """Text with the trained parts marked."""
    separator = BAR if bars else ""
    parts = []
    at = 0
    for start, stop in spans:
        parts.append(separator.join(_pieces(tokens[at:start], vocabulary, bars=bars)))
        parts.append(f"«{separator.join(_pieces(tokens[start:stop], vocabulary, bars=bars))}»")
        at = stop
    return "".join([*parts, separator.join(_pieces(tokens[at:], vocabulary, bars=bars))])


class _Style(NamedTuple):
    """How a character is shown."""

    trained: bool = False
    special: bool = False
    bar: bool = False
    role: bool = False


def _coloured(
    tokens: Sequence[int], spans: Spans, vocabulary: Vocabulary, special: frozenset[int], *, bars: bool
) -> str:
    """Text with the trained parts, special tokens and roles in colour."""
    trained = [False] * len(tokens)
    for start, stop in spans:
        trained[start:stop] = [True] * (stop - start)
    characters: list[tuple[str, _Style]] = []
    kinds = groupby(range(len(tokens)), key=lambda i: _Style(trained[i], tokens[i] in special))
    for style, run in kinds:
        for piece in _pieces([tokens[i] for i in run], vocabulary, bars=bars):
            if bars and characters:
                characters.append((BAR, _Style(bar=True)))
            characters += [(c, style) for c in piece]
    places = [i for i, (_, style) in enumerate(characters) if not style.bar]
    for match in _ROLE.finditer("".join(characters[i][0] for i in places)):
        for i in places[slice(*match.span(1))]:
            characters[i] = characters[i][0], characters[i][1]._replace(role=True)
    return "".join(
        _painted("".join(c for c, _ in run), style) for style, run in groupby(characters, key=lambda pair: pair[1])
    )


def _painted(text: str, style: _Style) -> str:
    if style == _Style():
        return text
    colour = "blue" if style.special else "green" if style.trained else None
    # A special token that is trained on is underlined, since its colour says another thing.
    underline = (style.special and style.trained) or None
    return click.style(text, fg=colour, bold=style.role or None, underline=underline, dim=style.bar or None)


def _pieces(tokens: Sequence[int], vocabulary: Vocabulary, *, bars: bool) -> Iterator[str]:
    """The text of all tokens; with bars of each, or where several share a character, of these together."""
    if not bars:
        yield printable(vocabulary.decode(tokens))
        return
    waiting = b""
    for i, token in enumerate(tokens):
        waiting += vocabulary.token(token)
        try:
            text = waiting.decode()
        except UnicodeDecodeError:
            if i + 1 < len(tokens) and len(waiting) < 64:
                continue
            text = waiting.decode("utf-8", "replace")
        waiting = b""
        yield printable(text)
