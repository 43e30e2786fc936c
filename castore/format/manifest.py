"""The manifest: what a dataset is. Its digest is the root that users compare (``docs/format/manifest.md``).

Nothing that a user spells or a clock says is in it; that is in the run record beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from castore.errors import FormatError, UnsupportedVersionError
from castore.format.codec import Value, encode
from castore.format.digest import Digest
from castore.format.fields import decode_map, expect, expect_count, expect_entries
from castore.format.node import LEVEL_MAX, Entry, encode_node, node_entries, node_fields
from castore.format.object import Object
from castore.format.order import Order
from castore.format.schema import DATA_ARRAYS, TOKEN_IDS, Array
from castore.frozen import frozen

FORMAT_VERSION = 1
"""Version of every document that names one. A reader refuses what is newer (``docs/format/versions.md``)."""

MANIFEST_KIND = "castore/manifest"
HASH_NAME = "blake3-256"

_ENTRIES = frozenset({"arrays", "hash", "order", "samples", "split"})
_ARRAY_ENTRIES = frozenset({"axis", "digests", "dtype", "grain", "items", "level", "samples"})
_SPLIT_ENTRIES = frozenset({"chunk_bytes", "fanout", "rule"})

SAMPLES_MAX = 1 << 32
"""Most samples: as many as the 32 bits number that orders and packings have for one. Eighty times a large mix."""

CHUNK_BYTES_MIN, FANOUT_MIN = 64, 4
"""Smallest parameters of a split rule: below them a tree would not get lower towards its root."""

CHUNK_BYTES_MAX, FANOUT_MAX = 1 << 26, 1 << 11
"""Largest ones: a run of twice as much is a chunk that an object holds, or a node of ``CHILDREN_MAX``."""

ROOT_ENTRIES_MAX = 4096
"""Most entries of a root that a reader accepts; a builder makes at most twice the fan-out."""


class Root(NamedTuple):
    """Top of one array's tree, kept in the document itself: few entries, so that reading starts one level lower.

    Attributes:
        level: Level of the objects that the entries name.
        entries: At most ``ROOT_ENTRIES_MAX``, none for an array without samples.
    """

    level: int
    entries: tuple[Entry, ...]

    @property
    def samples(self) -> int:
        """Samples below the root."""
        return sum(entry.samples for entry in self.entries)

    @property
    def items(self) -> int:
        """Elements below the root."""
        return sum(entry.items for entry in self.entries)

    @property
    def digest(self) -> Digest | None:
        """Digest of the node that these entries would be, the array's own name; None without samples."""
        return encode_node(self.level + 1, self.entries).digest if self.entries else None


class SplitRule(NamedTuple):
    """How the skeleton was cut: name of the rule, wanted weight of a chunk, wanted children of a node."""

    name: str
    chunk_bytes: int
    fanout: int

    def value(self) -> dict[str, Value]:
        """The document's form."""
        return {"chunk_bytes": self.chunk_bytes, "fanout": self.fanout, "rule": self.name}

    @classmethod
    def of(cls, value: Value) -> SplitRule:
        """Read the document's form."""
        fields = expect(dict, value, "split rule")
        expect_entries(fields, _SPLIT_ENTRIES, "split rule")
        rule = cls(
            expect(str, fields["rule"], "name of the split rule"),
            expect_count(fields["chunk_bytes"], "chunk_bytes"),
            expect_count(fields["fanout"], "fanout"),
        )
        for what, value, least, most in (
            ("chunk_bytes", rule.chunk_bytes, CHUNK_BYTES_MIN, CHUNK_BYTES_MAX),
            ("fanout", rule.fanout, FANOUT_MIN, FANOUT_MAX),
        ):
            if not least <= value <= most:
                raise FormatError(f"{what} of the split rule is {value}, outside {least} to {most}")
        return rule


def trees_value(trees: Mapping[str, tuple[Array, Root]]) -> dict[str, Value]:
    """Arrays and their roots as a map by name."""
    value: dict[str, Value] = {}
    for name, (array, root) in trees.items():
        value[name] = {
            "axis": array.axis,
            "dtype": array.dtype,
            "grain": array.grain,
            "level": root.level,
            **node_fields(root.entries),
        }
    return value


def trees_of(value: Value, samples: int) -> dict[str, tuple[Array, Root]]:
    """Read arrays and their roots; ``samples`` is how many each must cover.

    Raises:
        FormatError: A field is missing or contradicts another.
    """
    if samples > SAMPLES_MAX:
        raise FormatError(f"{samples} samples are more than the {SAMPLES_MAX} that are possible")
    trees = {}
    for name, raw in expect(dict, value, "arrays").items():
        fields = expect(dict, raw, f"array {name}")
        expect_entries(fields, _ARRAY_ENTRIES, f"array {name}")
        array = Array(
            name,
            expect(str, fields.get("dtype"), f"dtype of {name}"),
            expect(str, fields.get("axis"), f"axis of {name}"),
            expect_count(fields.get("grain"), f"grain of {name}"),
        )
        level = expect_count(fields.get("level"), f"level of {name}")
        root = Root(level, tuple(node_entries(fields, f"root of {name}", ROOT_ENTRIES_MAX)))
        if root.samples != samples:
            raise FormatError(f"array {name} covers {root.samples} samples, not {samples}")
        # Without samples there is one form: no object would tell two levels apart, and the roots would differ.
        if level >= LEVEL_MAX or (level < array.grain if samples else level > 0):
            raise FormatError(f"array {name} has its root at level {level}")
        if array.axis == "sample" and any(entry.items != entry.samples for entry in root.entries):
            raise FormatError(f"array {name} has another number of elements than of samples")
        trees[name] = (array, root)
    return trees


def _check_data_arrays(trees: Mapping[str, tuple[Array, Root]]) -> None:
    """That the arrays are there which every dataset has, as every dataset has them, all over the same tokens."""
    for known in DATA_ARRAYS:
        if known.name not in trees:
            raise FormatError(f"manifest lacks the array {known.name}")
        if (found := trees[known.name][0]) != known:
            raise FormatError(f"array {known.name} is {found.dtype}, one a {found.axis}, of grain {found.grain}")
    tokens = trees[TOKEN_IDS.name][1].items
    for array, root in trees.values():
        if array.axis == "token" and root.items != tokens:
            raise FormatError(f"array {array.name} has {root.items} elements for {tokens} tokens")


@frozen
class Manifest:
    """What a dataset is.

    Attributes:
        samples: Number of samples.
        arrays: By name, the array and the root of its tree.
        split: How the trees were cut.
        order: The order in which samples are read and exported; None for the order they are stored in.
    """

    samples: int
    arrays: Mapping[str, tuple[Array, Root]]
    split: SplitRule
    order: Order | None

    def encode(self) -> Object:
        """The manifest as an object; its digest is the root."""
        return Object.of(
            encode(
                {
                    "arrays": trees_value(self.arrays),
                    "format": FORMAT_VERSION,
                    "hash": HASH_NAME,
                    "kind": MANIFEST_KIND,
                    "order": self.order.value() if self.order else None,
                    "samples": self.samples,
                    "split": self.split.value(),
                }
            )
        )

    @classmethod
    def decode(cls, data: bytes) -> Manifest:
        """Read a manifest.

        Raises:
            FormatError: Not a manifest, or one that contradicts itself.
            UnsupportedVersionError: Written by a newer castore.
        """
        fields = decode_map(data, MANIFEST_KIND, FORMAT_VERSION, _ENTRIES)
        if fields.get("hash") != HASH_NAME:
            raise UnsupportedVersionError.unknown(f"the hash {str(fields.get('hash'))[:80]!r} of a manifest")
        samples = expect_count(fields.get("samples"), "samples")
        trees = trees_of(fields.get("arrays"), samples)
        _check_data_arrays(trees)
        order = fields.get("order")
        return cls(
            samples,
            trees,
            SplitRule.of(fields.get("split")),
            None if order is None else Order.of(order, samples),
        )

    @property
    def tokens(self) -> int:
        """Number of tokens: elements of the arrays with axis ``token``."""
        for array, root in self.arrays.values():
            if array.axis == "token":
                return root.items
        return 0
