"""Values that wait for their pack."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from time import monotonic

from castore.format.delta import DELTA_CODEC
from castore.format.digest import Digest
from castore.format.pack import OBJECT_KIND
from castore.format.pack_writer import Entry, PackBuilder


class HeldValues:
    """Values by key, in the order in which they were put.

    Attributes:
        size: Bytes of the values.
        since: When the first was put, by the monotonic clock.
    """

    def __init__(self) -> None:
        self._values: dict[str, tuple[int, Entry]] = {}  # with the barriers before them
        self._barriers = 0
        self._features: dict[int, list[bytes]] = {}
        self._deltas: set[bytes] = set()
        self.size = 0
        self.since = monotonic()

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def add(self, key: str, entry: Entry) -> None:
        """Put a value in place of any earlier one."""
        self.take_back(key)
        self._values[key] = self._barriers, entry
        self.size += len(entry.value)
        if entry.kind == OBJECT_KIND and entry.value[:1] == bytes([DELTA_CODEC]):
            self._deltas.add(entry.name)
        for feature in entry.features:
            self._features.setdefault(feature, []).append(entry.name)

    def take_back(self, key: str) -> bool:
        """Let go of a value; False if there is none."""
        found = self._values.pop(key, None)
        if found is None:
            return False
        entry = found[1]
        self.size -= len(entry.value)
        self._deltas.discard(entry.name)
        for feature in entry.features:
            self._features[feature].remove(entry.name)
        return True

    def barrier(self) -> None:
        """What is put from here on must not be seen without what was put before."""
        self._barriers += 1

    def get(self, key: str) -> Entry | None:
        """The value of a key."""
        found = self._values.get(key)
        return None if found is None else found[1]

    def similar(self, features: tuple[int, ...]) -> dict[bytes, int]:
        """Objects that share features: by name, which, a bit for each."""
        shared: dict[bytes, int] = {}
        for number, feature in enumerate(features):
            for name in self._features.get(feature, ()):
                shared[name] = shared.get(name, 0) | 1 << number
        return shared

    @property
    def may_be_loose(self) -> bool:
        """Whether they may be stored one by one: which objects a frame needs is known of those in packs alone."""
        return not self._deltas

    def needing(self, names: set[bytes]) -> set[bytes]:
        """Those of some objects whose frames need others."""
        return names & self._deltas

    def groups(self) -> Iterator[list[tuple[str, bytes]]]:
        """Keys and values, those between two barriers together."""
        for _, group in groupby(self._values.items(), key=lambda item: item[1][0]):
            yield [(key, entry.value) for key, (_, entry) in group]

    def pack(self) -> tuple[Digest, bytes]:
        """The pack of all of them, and its name."""
        builder = PackBuilder()
        for _, entry in self._values.values():
            builder.add(entry)
        return builder.finish()
