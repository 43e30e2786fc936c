"""Vectors of objects that are whole, and do not hold what is said of them above or beside them."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from castore.format.chunk import decode_values, encode_values, uint32s
from castore.format.digest import Digest
from castore.format.manifest import Manifest, Root, SplitRule
from castore.format.node import Entry, decode_node, encode_node
from castore.format.object import Object
from castore.format.schema import DATA_ARRAYS, KEY, LABELS_MASK, LENGTH, TOKEN_IDS
from castore.tree.build import SequenceBuilder
from castore.tree.split import RULE_NAME
from tests.support.strategies import piece_of
from tests.vectors.generator import samples

SAMPLES = {"seed": 5, "count": 80, "mean": 6}
CHUNK_BYTES = 128


class Made:
    """A dataset with a level of nodes, which can be made again with other objects in it."""

    def __init__(self) -> None:
        builder = SequenceBuilder(DATA_ARRAYS, chunk_bytes=CHUNK_BYTES, fanout=4)
        made = builder.add(piece_of(samples(**SAMPLES)))
        self.roots, rest = builder.finish()
        self.objects: dict[Digest, bytes] = {one.digest: one.data for one in [*made, *rest]}
        self.manifest = self.with_roots(self.roots)
        self.objects[self.manifest.digest] = self.manifest.data

    def with_roots(self, roots: dict[str, Root]) -> Object:
        arrays = {array.name: (array, roots[array.name]) for array in DATA_ARRAYS}
        return Manifest(SAMPLES["count"], arrays, SplitRule(RULE_NAME, CHUNK_BYTES, 4), None).encode()

    def entry(self, name: str, *path: int) -> Entry:
        """What is named at a place: the number of the root's entry, then of the node's."""
        found = self.roots[name].entries[path[0]]
        return decode_node(self.objects[found.digest], 1)[path[1]] if len(path) > 1 else found

    def chunks_of_first_node(self) -> list[Entry]:
        """The first chunks of tokens."""
        return decode_node(self.objects[self.roots[TOKEN_IDS.name].entries[0].digest], 1)

    def node(self, name: str, at: int, change: Callable[[list[Entry]], list[Entry]], level: int = 1) -> Object:
        return encode_node(level, change(decode_node(self.objects[self.roots[name].entries[at].digest], 1)))

    def case(self, what: str, error: str | None, name: str, entries: list[Entry], *more: Object) -> dict[str, Any]:
        """A manifest with other entries of an array's root, and the objects that it has more."""
        made = self.with_roots({**self.roots, name: Root(self.roots[name].level, tuple(entries))})
        added = [[one.digest.hex(), one.data.hex()] for one in (*more, made)]
        return {"name": what, "root": made.digest.hex(), "more": added, **({} if error is None else {"error": error})}

    def replaced(self, what: str, error: str, name: str, at: int, made: Object) -> dict[str, Any]:
        """A case with another object in the place of the root's entry ``at``."""
        entries = list(self.roots[name].entries)
        entries[at] = entries[at]._replace(digest=made.digest)
        return self.case(what, error, name, entries, made)

    def below(self, what: str, error: str, name: str, made: Object) -> dict[str, Any]:
        """A case with another chunk as the first of the first node."""
        node = self.node(name, 0, lambda entries: [entries[0]._replace(digest=made.digest), *entries[1:]])
        entries = list(self.roots[name].entries)
        entries[0] = entries[0]._replace(digest=node.digest)
        return self.case(what, error, name, entries, made, node)


def more_samples(entries: list[Entry]) -> list[Entry]:
    """Entries of which one gives a sample to the next, or the last to the first."""
    at = next(i for i, entry in enumerate(entries) if entry.samples > 1)
    return moved(entries, at, 1, 0)


def more_items(entries: list[Entry]) -> list[Entry]:
    """Entries of which one gives an element to the next, or the last to the first."""
    at = next(i for i, entry in enumerate(entries) if entry.items > 0)
    return moved(entries, at, 0, 1)


def moved(entries: list[Entry], at: int, samples_less: int, items_less: int) -> list[Entry]:
    found, to = list(entries), (at + 1) % len(entries)
    found[at] = found[at]._replace(samples=found[at].samples - samples_less, items=found[at].items - items_less)
    found[to] = found[to]._replace(samples=found[to].samples + samples_less, items=found[to].items + items_less)
    return found


def links() -> dict[str, Any]:
    """One sound dataset, and unsound ones that share most of its objects."""
    made = Made()
    tokens, lengths = list(made.roots[TOKEN_IDS.name].entries), list(made.roots[LENGTH.name].entries)
    chunk = made.objects[made.entry(TOKEN_IDS.name, 0, 0).digest]
    words = list(uint32s(decode_values(made.objects[lengths[0].digest], LENGTH.dtype).items))
    # Of a chunk with two samples the first has a token of the second.
    at = next(i for i, one in enumerate(made.chunks_of_first_node()) if one.samples > 1)
    first = sum(one.samples for one in made.chunks_of_first_node()[:at])
    divided = [n + (i == first) - (i == first + 1) for i, n in enumerate(words)]
    assert min(divided) >= 0
    key_bytes = bytearray(decode_values(made.objects[made.entry(KEY.name, 0).digest], KEY.dtype).items)
    key_bytes[15] ^= 1
    keys = encode_values("bytes16", len(words), bytes(key_bytes))
    another = made.node(TOKEN_IDS.name, 1, list)._replace(digest=tokens[0].digest)
    invalid = [
        ("a chunk where a node must be", "format", TOKEN_IDS.name, Object.of(chunk)),
        ("a node where a chunk must be", "format", LENGTH.name, Object.of(made.objects[tokens[0].digest])),
        ("a node of another level", "format", TOKEN_IDS.name, made.node(TOKEN_IDS.name, 0, list, level=2)),
        ("other samples in chunks", "corruption", TOKEN_IDS.name, made.node(TOKEN_IDS.name, 0, more_samples)),
        ("other elements in chunks", "corruption", TOKEN_IDS.name, made.node(TOKEN_IDS.name, 0, more_items)),
        ("a chunk of another dtype", "format", LENGTH.name, encode_values("uint64", len(words), u64(words))),
        ("an object under the name of another", "corruption", TOKEN_IDS.name, another),
    ]
    beside = [
        ("lengths of other tokens", LENGTH.name, lengths_of([*words[:-1], words[-1] + 1])),
        ("tokens divided into other samples", LENGTH.name, lengths_of(divided)),
        ("a key of other tokens", KEY.name, keys),
    ]
    return {
        "about": "docs/format/errors.md. A dataset as a root and objects, [digest, hex]; the others have some more, or "
        "others in place. What is in beside is found by who compares arrays, as a check must.",
        "generator": SAMPLES,
        "objects": [[digest.hex(), data.hex()] for digest, data in made.objects.items()],
        "valid": [made.case("sound", None, TOKEN_IDS.name, tokens)],
        "invalid": [
            *(made.replaced(what, error, name, 0, one) for what, error, name, one in invalid),
            made.case("other samples in nodes", "corruption", TOKEN_IDS.name, more_samples(tokens)),
            made.case("other elements in nodes", "corruption", TOKEN_IDS.name, more_items(tokens)),
            made.case(
                "other samples in chunks of grain 1", "corruption", LENGTH.name, more_items(more_samples(lengths))
            ),
            made.below("a chunk of another kind", "format", LABELS_MASK.name, Object.of(chunk)),
        ],
        "beside": [
            *(made.replaced(what, "corruption", name, 0, one) for what, name, one in beside),
            made.below("a span past the end of its sample", "corruption", LABELS_MASK.name, _first_span_longer(made)),
        ],
    }


def u64(numbers: list[int]) -> bytes:
    return struct.pack(f"<{len(numbers)}Q", *numbers)


def lengths_of(numbers: list[int]) -> Object:
    return encode_values("uint32", len(numbers), struct.pack(f"<{len(numbers)}I", *numbers))


def _first_span_longer(made: Made) -> Object:
    """The first chunk of labels, whose last span is one element longer."""
    digest = made.entry(LABELS_MASK.name, 0, 0).digest
    data = bytearray(made.objects[digest])
    width = int.from_bytes(data[-4:], "little")
    assert width
    data[-4:] = (width + 1).to_bytes(4, "little")
    return Object.of(bytes(data))
