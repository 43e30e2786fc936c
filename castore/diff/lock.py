"""Lock files: what a dataset must be, as a small text that is committed beside code (``docs/reference/lock.md``).

TOML, in a fixed order of lines, so that a change of the data is a readable change of the file. The root alone decides;
the rest tells what differs where nothing but the lock file is at hand.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from castore.errors import InvalidInputError, UnsupportedVersionError
from castore.format.digest import DIGEST_BYTES, Digest, is_digest_hex
from castore.format.manifest import Manifest
from castore.format.order import PCG64_PERMUTATION, Order
from castore.format.unit import recipe_digest
from castore.read.columns import Columns

LOCK_VERSION = 1
"""Grows when a field changes its meaning or goes; fields may be added without."""

LOCK_BYTES = 1 << 20
"""Most bytes of a lock file that a reader takes; one of a hundred sources has 20 KB."""

_HEAD = "# A lock file of castore: 'castore diff NAME --expect FILE' compares a dataset with it.\n"


@dataclass(frozen=True, slots=True)
class Lock:
    """What a dataset was when it was locked.

    Attributes:
        name: The address that was locked, in the user's words.
        root: Digest of the manifest; equal roots are equal data.
        samples, tokens: Counts.
        order: Algorithm, seed, digest and take of the order, empty if samples are used as they are stored.
        arrays: Digest of every array in hexadecimal, empty text for one without samples.
        recipe: The recipe, empty if it was not recorded; digests are hexadecimal, entries without a value are absent.
        sources: ``amount`` and ``digest`` of every source in order, empty if they were not recorded.
    """

    name: str
    root: Digest
    samples: int
    tokens: int
    order: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, str] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    sources: Sequence[Mapping[str, str]] = ()
    recipe_digest: str | None = None

    @classmethod
    def of(cls, data: Columns, name: str) -> Lock:
        """The lock of a dataset."""
        manifest, run = data.manifest, data.run
        recipe = dict(run.recipe) if run is not None else {}
        sources = run.sources if run is not None else ()
        return cls(
            name,
            data.root,
            manifest.samples,
            manifest.tokens,
            _order(manifest.order),
            _arrays(manifest),
            _plain(recipe),
            [_source(source.amount, source.digest) for source in sources if source.digest is not None],
            recipe_digest(recipe).hex() if recipe else None,
        )

    def text(self) -> str:
        """The lock file."""
        head: dict[str, Any] = {
            "version": LOCK_VERSION,
            "name": self.name,
            "root": self.root.hex(),
            "samples": self.samples,
            "tokens": self.tokens,
        }
        if self.recipe_digest is not None:
            head["recipe_digest"] = self.recipe_digest
        parts = [_HEAD, *_lines(head)]
        for title, table in (("order", self.order), ("arrays", self.arrays), ("recipe", self.recipe)):
            parts += _table(title, table)
        for source in self.sources:
            parts += ["\n[[sources]]\n", *_lines(source)]
        return "".join(parts)

    @classmethod
    def parse(cls, text: str, place: str) -> Lock:
        """Read a lock file.

        Args:
            text: Its content.
            place: Its name as the user spelled it, for messages.

        Raises:
            InvalidInputError: It is no lock file; the message says where and why.
            UnsupportedVersionError: A newer castore wrote it.
        """
        try:
            fields = tomllib.loads(text)
        except ValueError as error:  # of TOML, or of Python for a number of thousands of digits
            raise InvalidInputError(f"{place}: no lock file: {error}") from None
        except RecursionError:
            raise InvalidInputError(f"{place}: no lock file: nested too deeply") from None
        if not fields:
            raise InvalidInputError(f"{place}: no lock file: it is empty ('castore lock NAME > {place}' writes one)")
        version = _expect(fields, "version", int, place)
        if version > LOCK_VERSION:
            raise UnsupportedVersionError(place, version, LOCK_VERSION)
        return cls(
            _expect(fields, "name", str, place),
            _digest(_expect(fields, "root", str, place), "root", place),
            _count(fields, "samples", place),
            _count(fields, "tokens", place),
            _expect(fields, "order", dict, place, {}),
            _expect(fields, "arrays", dict, place, {}),
            _expect(fields, "recipe", dict, place, {}),
            [source for source in _expect(fields, "sources", list, place, []) if isinstance(source, dict)],
            _expect(fields, "recipe_digest", str, place, None),
        )

    def seeded_order(self) -> Order | None:
        """The order of the locked samples, if a seed gives it: a directory can be compared in it."""
        found = self.order
        names = {"algorithm": str, "seed": int, "digest": str, "take": int}
        if found.get("algorithm") != PCG64_PERMUTATION or not _has(found, names) or found["seed"] < 0:
            return None
        digest = _digest(found["digest"], "order.digest", self.name)
        return Order(PCG64_PERMUTATION, found["seed"], self.samples, digest, found["take"])

    def same_arrays(self, data: Columns) -> dict[str, bool | None]:
        """By name, whether the arrays of a dataset are the locked ones; the tokens first.

        None where trees differ and the tokens do too: all arrays are cut where the tokens are, so that equal elements
        may have another tree, and nothing else is known of what was locked.
        """
        found = _arrays(data.manifest)
        lead = [name for name in ("token_ids", "labels_mask") if name in found or name in self.arrays]
        rest = sorted({*found, *self.arrays}.difference(lead))
        cuts = all(found.get(name) == self.arrays.get(name) for name in ("token_ids", "length"))
        unknown = None if not cuts and data.manifest.samples == self.samples else False
        known = {"token_ids", "key", *["length"] * (data.manifest.tokens != self.tokens)}
        return {
            name: found.get(name) == self.arrays.get(name)
            or (unknown if name in found and name in self.arrays and name not in known else False)
            for name in (*lead, *rest)
        }

    def same_order(self, data: Columns) -> bool:
        """Whether a dataset is read in the locked order."""
        return _order(data.manifest.order) == dict(self.order)

    def causes(self, data: Columns) -> list[tuple[str, object, object]]:
        """What differs in how the two came to be, as (name, locked, found); nothing where one side does not know."""
        other = Lock.of(data, "")
        found: list[tuple[str, object, object]] = []
        if self.recipe and other.recipe:
            x, y = dict(_flat("recipe", self.recipe)), dict(_flat("recipe", other.recipe))
            found += [(name, x.get(name), y.get(name)) for name in sorted({*x, *y}) if x.get(name) != y.get(name)]
        if self.sources and other.sources:
            pair = [
                [f"{s.get('amount')} of {str(s.get('digest'))[:12]}" for s in side.sources] for side in (self, other)
            ]
            if pair[0] != pair[1]:
                found.append(("sources", pair[0], pair[1]))
        return found


# ---- from a dataset


def _order(order: Order | None) -> dict[str, Any]:
    if order is None:
        return {}
    return {"algorithm": order.algorithm, "seed": order.seed, "digest": order.digest.hex(), "take": order.take}


def _arrays(manifest: Manifest) -> dict[str, str]:
    digests = {name: root.digest for name, (_, root) in sorted(manifest.arrays.items())}
    return {name: "" if digest is None else digest.hex() for name, digest in digests.items()}


def _source(amount: str | None, digest: Digest) -> dict[str, str]:
    return {**({} if amount is None else {"amount": amount}), "digest": digest.hex()}


def _plain(value: Any) -> Any:
    """A value as TOML can have it: bytes in hexadecimal, nothing in place of None."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in sorted(value.items()) if item is not None}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value if item is not None]
    return value


def _flat(path: str, value: Any) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _flat(f"{path}.{name}", item)
    else:
        yield path, value


# ---- TOML


def _table(title: str, table: Mapping[str, Any]) -> Iterator[str]:
    """A table: its own lines, then the tables in it."""
    if not table:
        return
    yield f"\n[{title}]\n"
    inner = {name: value for name, value in table.items() if isinstance(value, dict) and value}
    yield from _lines({name: value for name, value in table.items() if name not in inner})
    for name, value in inner.items():
        yield from _table(f"{title}.{_key(name)}", value)


def _lines(values: Mapping[str, Any]) -> Iterator[str]:
    for name, value in values.items():
        yield f"{_key(name)} = {_toml(value)}\n"


def _key(name: str) -> str:
    bare = name.isascii() and name.replace("_", "").replace("-", "").isalnum()
    return name if bare else _toml(name)


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(name)} = {_toml(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, str):  # a JSON text is a TOML text, but for lone surrogates; what a terminal obeys is escaped
        text = json.dumps(value.encode("utf-8", "backslashreplace").decode(), ensure_ascii=False)
        return text if text.isprintable() else "".join(c if c.isprintable() else _escaped(c) for c in text)
    return json.dumps(value)


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code < 1 << 16 else f"\\U{code:08x}"


# ---- reading


_REQUIRED = object()


def _expect(fields: Mapping[str, Any], name: str, kind: type, place: str, default: Any = _REQUIRED) -> Any:
    if name not in fields and default is not _REQUIRED:
        return default
    value = fields.get(name)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        what = {int: "an integer", str: "a text", dict: "a table", list: "a list"}[kind]
        raise InvalidInputError(f"{place}: no lock file: {name} is not {what}")
    return value


def _count(fields: Mapping[str, Any], name: str, place: str) -> int:
    value: int = _expect(fields, name, int, place)
    if not 0 <= value < 1 << 63:
        raise InvalidInputError(f"{place}: no lock file: {name} is {value}")
    return value


def _digest(text: str, name: str, place: str) -> Digest:
    if not is_digest_hex(text):
        raise InvalidInputError(f"{place}: no lock file: {name} is not a digest of {2 * DIGEST_BYTES} digits")
    return Digest(bytes.fromhex(text))


def _has(fields: Mapping[str, Any], kinds: Mapping[str, type]) -> bool:
    return all(isinstance(fields.get(name), kind) for name, kind in kinds.items())
