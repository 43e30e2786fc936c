"""Arrays and samples of a dataset by index, slice, list or mask, as numpy has them; read when they are asked for."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from castore.format.schema import Array
from castore.read.reader import Batch, Reader, Sample


class ArrayView:
    """One array of a dataset, read when it is indexed, by element.

    ``labels_mask`` is bool here whatever its form in storage; keys are rows of 16 uint8.

    Args:
        reader: Of the dataset.
        array: Which array.
        items: Number of its elements.
    """

    def __init__(self, reader: Reader, array: Array, items: int) -> None:
        self._reader = reader
        self.name = array.name
        self.axis = array.axis
        self.dtype = reader.dtype(array)
        self.shape: tuple[int, ...] = (items, 16) if array.dtype == "bytes16" else (items,)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of values."""
        return int(np.prod(self.shape, dtype=np.int64))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Any:
        """Elements as numpy gives them: an integer, a slice, or an array of indices, and more of it behind a comma."""
        first, rest = (key[0], key[1:]) if isinstance(key, tuple) and key else (key, ())
        if first is Ellipsis or (isinstance(first, tuple) and not first):
            return self._reader.elements(self.name, 0, len(self))[key]
        if isinstance(first, slice):
            chosen = range(len(self))[first]
            if len(chosen) == 0:
                return self._reader.elements(self.name, 0, 0)[(slice(None), *rest)]
            low, high = min(chosen[0], chosen[-1]), max(chosen[0], chosen[-1])
            found = self._reader.elements(self.name, low, high + 1)[:: chosen.step]
            return found[(slice(None), *rest)] if rest else found
        if isinstance(first, (int, np.integer)) and not isinstance(first, bool):
            at = int(first) + (len(self) if first < 0 else 0)
            if not 0 <= at < len(self):
                raise IndexError(f"element {first} of {len(self)}")
            return self._reader.elements(self.name, at, at + 1)[(0, *rest)]
        places = self._places(first)
        if places is None:
            return self[:][key]
        return self._reader.chosen(self.name, places)[(np.arange(len(places)), *rest) if rest else slice(None)]

    def _places(self, key: Any) -> NDArray[np.int64] | None:
        """The elements that a list of integers or a mask means; None for all else, which numpy answers or refuses."""
        chosen = np.asarray(key) if isinstance(key, (list, np.ndarray)) else np.zeros(())
        if chosen.ndim != 1 or (len(chosen) and chosen.dtype.kind not in "iub"):
            return None
        if chosen.dtype.kind == "b":
            return np.flatnonzero(chosen) if len(chosen) == len(self) else None
        if len(chosen) and not -len(self) <= int(chosen.min()) <= int(chosen.max()) < len(self):
            return None
        places = chosen.astype(np.int64)
        return np.where(places < 0, places + len(self), places)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        found = self._reader.elements(self.name, 0, len(self))
        return found if dtype is None else found.astype(dtype, copy=False)

    def __repr__(self) -> str:
        return f"<array {self.name}: {self.dtype}{list(self.shape)}, one a {self.axis}>"


class SampleView(Sequence[Sample]):
    """Some samples of a dataset in some order; nothing is read before it is asked for.

    Args:
        reader: Of the dataset.
        indices: Their numbers in stored order: a range, or int64[n].
    """

    def __init__(self, reader: Reader, indices: range | NDArray[np.int64]) -> None:
        self._reader = reader
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, key: Any) -> Any:
        """A ``Sample`` for an integer; a ``SampleView`` for a slice, a list of integers, or a mask of bool[n].

        Raises:
            IndexError: There is no such sample.
        """
        if isinstance(key, slice):
            return SampleView(self._reader, self.indices[key])
        if isinstance(key, (list, np.ndarray)):
            return SampleView(self._reader, self._chosen(np.asarray(key)))
        try:
            at = operator.index(key)
        except TypeError:
            raise TypeError(
                f"samples are asked for by number, slice, list of numbers or mask, not by {type(key).__name__}"
            ) from None
        return self._reader.sample(int(self.indices[self._inside(at)]))

    def _inside(self, at: int) -> int:
        if not -len(self) <= at < len(self):
            raise IndexError(f"sample {at} of {len(self)}")
        return at

    def _chosen(self, key: NDArray[Any]) -> NDArray[np.int64]:
        """The numbers of the samples at places, or where a mask is true."""
        if key.ndim != 1 or (key.dtype.kind not in "iub" and len(key)):
            raise TypeError(f"samples are asked for by integers or a mask, not by {key.dtype}{list(key.shape)}")
        if key.dtype.kind == "b":
            if len(key) != len(self):
                raise IndexError(f"a mask of {len(key)} for {len(self)} samples")
            key = np.flatnonzero(key)
        elif len(key):
            self._inside(int(key.min()))
            self._inside(int(key.max()))
        places = key.astype(np.int64)
        places[places < 0] += len(self)
        if isinstance(self.indices, range):
            return places * self.indices.step + self.indices.start
        return self.indices[places]

    def __repr__(self) -> str:
        return f"<SampleView: {len(self)} samples>"

    def __iter__(self) -> Iterator[Sample]:
        if isinstance(self.indices, range) and self.indices.step == 1:
            return self._reader.samples(self.indices.start, self.indices.stop)
        return (self._reader.sample(int(i)) for i in self.indices)

    def read(self) -> Batch:
        """All of them at once."""
        if isinstance(self.indices, range) and self.indices.step == 1:
            return self._reader.read(self.indices.start, self.indices.stop)
        return self._reader.take(np.asarray(self.indices, np.int64))
