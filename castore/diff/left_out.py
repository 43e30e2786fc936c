"""What lies beside the data of two sides, compared as far as it can be; and what no comparison has looked at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from castore.format.digest import Digest
from castore.format.files import TEMPLATE_FILE
from castore.read.columns import Columns

_TEMPLATE, _TOKENIZER = "tokenizer/chat_template.jinja", "tokenizer/tokenizer.json"


def stray_arrays(a: Columns, b: Columns) -> dict[str, bool]:
    """Files of two directories that hold arrays and are none of their parts: by name, whether both have them alike."""
    if a.companions is None or b.companions is None:
        return {}
    x, y = a.companions.arrays, b.companions.arrays
    return {name: x.get(name) == y.get(name) for name in sorted({*x, *y})}


def tokenizer_differences(a: Columns, b: Columns) -> Iterator[tuple[str, object, object]]:
    """Tokenizer files that differ where a side is a directory: (name, a, b). Recipes tell of those of datasets."""
    if a.companions is None and b.companions is None:
        return
    x, y = _tokenizer(a), _tokenizer(b)
    for name in sorted({*x, *y} if None not in (a.companions, b.companions) else _shared(x, y)):
        if x.get(name) != y.get(name):
            yield name, x.get(name), y.get(name)


def left_out(a: Columns, b: Columns) -> list[str]:
    """What there is on a side and was not compared, in words or as names of files."""
    found: dict[str, None] = {}
    both = a.companions is not None and b.companions is not None
    shared = _shared(_tokenizer(a), _tokenizer(b))
    for side in (a.companions, b.companions):
        if side is None:
            continue
        if side.absent:
            found[_absent(side.absent)] = None
        if not both:
            found.update(dict.fromkeys([*side.arrays, *(name for name in side.tokenizer if name not in shared)]))
        found.update(dict.fromkeys(side.others))
    return list(found)


def all_beside(data: Columns) -> list[str]:
    """All that lies beside the data of a directory, in words or as names of files; nothing for a dataset."""
    side = data.companions
    if side is None:
        return []
    absent = [_absent(side.absent)] * (side.absent > 0)
    return [*absent, *side.arrays, *["tokenizer/"] * bool(side.tokenizer), *side.others]


def _absent(count: int) -> str:
    return f"{count:,} sample{'s' * (count > 1)} that the order leaves out"


def _shared(x: Mapping[str, Digest], y: Mapping[str, Digest]) -> set[str]:
    """Tokenizer files that a directory and a dataset have alike if the one was exported from the other."""
    return {name for name in (_TEMPLATE, _TOKENIZER) if name in x and name in y}


def _tokenizer(data: Columns) -> Mapping[str, Digest]:
    if data.companions is not None:
        return data.companions.tokenizer
    files = dict(data.run.files) if data.run is not None else {}
    if TEMPLATE_FILE in files:  # an export writes it in place of the tokenizer's own
        files[_TEMPLATE] = files[TEMPLATE_FILE]
    return files
