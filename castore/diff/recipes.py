"""What differs in how two datasets came to be: usually why the data differ, and told before them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from castore.diff.left_out import tokenizer_differences
from castore.diff.sources import shown, sources_text
from castore.format.files import TEMPLATE_FILE, decode_file
from castore.format.run import Run, SourceRecord
from castore.read.columns import Columns

_TOKENIZER = "tokenizer/"
"""What names of tokenizer files begin with."""

TEMPLATE_LINES_MAX = 12
"""Lines of a template's changes that are told."""


class LikelyCause(NamedTuple):
    """One thing that differs between two runs.

    Attributes:
        id: A word for programs; it keeps its meaning: ``tokenizer``, ``template``, ``length``, ``library``, ``code``,
            ``special-tokens``, ``transform``, ``sources``, ``selection``, ``order``, ``not-recorded``, ``other``.
        text: One sentence for people.
        a, b: The two values, as the run records have them; None where there is none.
        lines: More for people, such as the lines of a template that changed.
    """

    id: str
    text: str
    a: object = None
    b: object = None
    lines: tuple[str, ...] = ()


def recipe_differences(a: Columns, b: Columns) -> Iterator[tuple[str, object, object]]:
    """Entries of recipes and sources that differ, apart from names, times and places: (entry, a, b).

    Of directories the files of the tokenizer; of equal data the rows that they came from.
    """
    yield from tokenizer_differences(a, b)
    if a.run_digest == b.run_digest or a.run is None or b.run is None:
        return
    if not a.run.recipe or not b.run.recipe:
        if a.run.recipe or b.run.recipe:
            said = ["recorded" if side.recipe else "not recorded" for side in (a.run, b.run)]
            yield "recipe", said[0], said[1]
        return
    yield from _differences("recipe", dict(a.run.recipe), dict(b.run.recipe))
    for name in ("mix_seed", "num_examples", "shuffle_seed"):
        pair = getattr(a.run.configuration, name), getattr(b.run.configuration, name)
        if pair[0] != pair[1]:
            yield name, pair[0], pair[1]
    digests = [_digests(side.run.sources) for side in (a, b) if side.run]
    if digests[0] != digests[1]:
        yield "sources", digests[0], digests[1]
    if a.root == b.root:  # else their trees are cut in other places
        yield from _other_rows(a.run, b.run)


def _other_rows(a: Run, b: Run) -> Iterator[tuple[str, object, object]]:
    for name in sorted(a.provenance.keys() & b.provenance.keys()):
        pair = tuple(run.provenance[name][1].digest for run in (a, b))
        if pair[0] != pair[1]:
            yield f"provenance.{name}", pair[0], pair[1]


def _digests(sources: Iterable[SourceRecord]) -> list[str]:
    digests = [source.digest.hex()[:12] if source.digest else None for source in sources]
    return [f"{source.amount} of {digest}" for source, digest in zip(sources, digests, strict=True)]


def _differences(path: str, x: object, y: object) -> Iterator[tuple[str, object, object]]:
    if isinstance(x, dict) and isinstance(y, dict):
        for key in sorted({*x, *y}):
            yield from _differences(f"{path}.{key}", x.get(key), y.get(key))
    elif x != y:
        yield path, x, y


# ---- for people


def causes_of(a: Columns, b: Columns, differences: Iterable[tuple[str, object, object]]) -> list[LikelyCause]:
    """What differs, the likeliest explanation of differing data first.

    Args:
        a, b: The datasets.
        differences: From ``recipe_differences``.
    """
    if a.run is None or b.run is None:
        return [LikelyCause("other", f"{entry}: {shown(x)} → {shown(y)}", x, y) for entry, x, y in differences]
    found = [_change(a, b, entry, x, y) for entry, x, y in differences]
    version_a, version_b = (run.origin.castore if run.origin else None for run in (a.run, b.run))
    if found and version_a and version_b and version_a != version_b:
        found.append(LikelyCause("code", f"castore {shown(version_a)} → {shown(version_b)}", version_a, version_b))
    return sorted(found, key=lambda change: _RANKS.index(change.id))


_WORDS = {
    "tokenizer": "tokenizer",
    "added_tokens": "special-tokens",
    "special_tokens": "special-tokens",
    "split_special_tokens": "special-tokens",
    "template": "template",
    "date": "template",
    "max_seq_length": "length",
    "tokenizers": "library",
    "transform": "transform",
    "transform_version": "transform",
    "trained_turns": "transform",
}
"""Entry of the recipe to id."""

_RANKS = [
    "tokenizer",
    "special-tokens",
    "template",
    "length",
    "transform",
    "library",
    "sources",
    "selection",
    "order",
    "other",
    "not-recorded",
    "code",
]


def _change(a: Columns, b: Columns, entry: str, x: object, y: object) -> LikelyCause:
    assert a.run is not None
    assert b.run is not None
    if entry == "sources":
        return LikelyCause("sources", sources_text(a.run.sources, b.run.sources), x, y)
    if entry in ("mix_seed", "num_examples"):
        return LikelyCause("selection", f"{entry}: {shown(x)} → {shown(y)}", x, y)
    if entry == "shuffle_seed":
        return LikelyCause("order", f"{entry}: {shown(x)} → {shown(y)}", x, y)
    if entry == "recipe":
        side = "the first" if x == "not recorded" else "the second"
        return LikelyCause("not-recorded", f"the recipe of {side} was not recorded", x, y)
    if entry.startswith(_TOKENIZER):
        return LikelyCause("tokenizer", f"{entry}: {shown(x)} → {shown(y)}", x, y)
    if entry.startswith("provenance."):
        return LikelyCause("sources", f"another {entry.partition('.')[2]} of the same samples", x, y)
    name = entry.split(".")[1]
    word = _WORDS.get(name, "other")
    if word == "tokenizer":
        return LikelyCause(word, f"another tokenizer.json: {shown(x)} → {shown(y)}{_vocabularies(a, b)}", x, y)
    if name == "template":
        lines = _template_lines(a, b)
        return LikelyCause(word, f"another chat template: {shown(x)} → {shown(y)}", x, y, lines)
    if name == "tokenizers":
        return LikelyCause(word, f"library tokenizers: {shown(x)} → {shown(y)}", x, y)
    return LikelyCause(word, f"{entry.removeprefix('recipe.')}: {shown(x)} → {shown(y)}", x, y)


def _vocabularies(a: Columns, b: Columns) -> str:
    files_a, files_b = (side.run.files if side.run else {} for side in (a, b))
    pair = files_a.get("vocabulary"), files_b.get("vocabulary")
    if None in pair:
        return ""
    return ", with the same vocabulary" if pair[0] == pair[1] else ", with another vocabulary"


def _template_lines(a: Columns, b: Columns) -> tuple[str, ...]:
    """The lines of two templates that differ, as ``- …`` and ``+ …``."""
    text_a, text_b = _template(a), _template(b)
    if text_a is None or text_b is None:
        return ()
    from difflib import unified_diff  # only here: it costs start-up

    lines = [line for line in unified_diff(text_a, text_b, lineterm="", n=0) if line[:2] not in ("--", "++", "@@")]
    shown = [f"{line[0]} {line[1:]}" for line in lines[:TEMPLATE_LINES_MAX]]
    rest = len(lines) - len(shown)
    return (*shown, f"… and {rest:,} more lines") if rest else tuple(shown)


def _template(data: Columns) -> list[str] | None:
    files = data.run.files if data.run else {}
    if TEMPLATE_FILE not in files:
        return None
    return decode_file(data.fetch(files[TEMPLATE_FILE])).decode("utf-8", "replace").splitlines()
