"""What was used last, kept within a number of bytes: the one cache in memory that decoded and read things have."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class LRU(Generic[K, V]):
    """A map that forgets what was not asked for the longest, when all of it takes more than ``bytes_max``.

    One value always stays, whatever its size: who has just asked for it is about to use it. Not for several threads.

    Args:
        bytes_max: What the values may take together.
        bytes_of: What one takes; must not change while it is kept.
    """

    def __init__(self, bytes_max: int, bytes_of: Callable[[V], int]) -> None:
        self._bytes_max, self._bytes_of = bytes_max, bytes_of
        self._values: OrderedDict[K, V] = OrderedDict()
        self.bytes = 0
        """What the values take now."""

    def __contains__(self, key: K) -> bool:
        """Whether there is a value; asking does not count as use."""
        return key in self._values

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: K) -> V | None:
        """The value of a key, None if there is none."""
        value = self._values.get(key)
        if value is not None:
            self._values.move_to_end(key)
        return value

    def keep(self, key: K, value: V) -> V:
        """Keep a value, in place of any that the key had; returns it."""
        self.pop(key)
        self._values[key] = value
        self.bytes += self._bytes_of(value)
        while self.bytes > self._bytes_max and len(self._values) > 1:
            self.bytes -= self._bytes_of(self._values.popitem(last=False)[1])
        return value

    def pop(self, key: K) -> V | None:
        """Forget a value and return it, None if there is none."""
        value = self._values.pop(key, None)
        if value is not None:
            self.bytes -= self._bytes_of(value)
        return value
