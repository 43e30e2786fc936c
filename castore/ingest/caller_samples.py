"""Samples as callers give them, checked and gathered into batches that the builder takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from castore.errors import FormatError, InvalidInputError
from castore.format.samples import TOKENS_MAX, Column, Samples, SpanColumn, offsets_of, sample_keys
from castore.format.schema import DATA_ARRAYS, ITEM_BYTES, LABELS_MASK, PROVENANCE_ARRAYS, SOURCE, TOKEN_IDS, Array

RESERVED = frozenset({*(array.name for array in (*DATA_ARRAYS, *PROVENANCE_ARRAYS)), "sample_offsets"})
"""Names that mean something already, in storage or where a dataset is read."""

ArraySpec = Mapping[str, "tuple[str, str] | str"]
"""Extra arrays by name: ``(dtype, axis)``, or the dtype of one element a token."""


def extra_arrays(spec: ArraySpec) -> tuple[Array, ...]:
    """The extra arrays that a caller asks for, sorted by name.

    Raises:
        InvalidInputError: A name that is taken or no name, an unknown dtype or axis.
    """
    arrays = []
    for name, wanted in sorted(spec.items()):
        dtype, axis = (wanted, "token") if isinstance(wanted, str) else wanted
        if name in RESERVED:
            raise InvalidInputError(f"array {name} is one that every dataset has: give it another name")
        if dtype not in ITEM_BYTES and dtype != "bool":
            raise InvalidInputError(f"array {name} has dtype {dtype!r}: give one of {', '.join(ITEM_BYTES)}, bool")
        if axis not in ("token", "sample") or (dtype == "bool" and axis == "sample"):
            raise InvalidInputError(
                f"array {name} of {dtype} has axis {axis!r}: give 'token', or 'sample' for what is not bool"
            )
        try:
            arrays.append(Array(name, dtype, axis, 0 if axis == "token" else 1))
        except FormatError as error:
            raise InvalidInputError(str(error)) from error
    return tuple(arrays)


@dataclass(frozen=True, slots=True)
class Checked:
    """Samples that lie one after the other, with all their arrays; copies of what was given.

    Attributes:
        ids: Their token ids, uint32[m].
        lengths: Tokens of each, uint32[n].
        mask: Their labels, bool[m].
        more: The extra arrays by name, [m] or [n].
    """

    ids: NDArray[np.uint32]
    lengths: NDArray[np.uint32]
    mask: NDArray[np.bool_]
    more: Mapping[str, NDArray[Any]]


def checked(
    extra: Sequence[Array],
    token_ids: ArrayLike,
    lengths: NDArray[np.int64],
    labels_mask: ArrayLike | None,
    more: Mapping[str, ArrayLike],
) -> Checked:
    """Check samples and copy them.

    Args:
        extra: The extra arrays that every sample must come with.
        token_ids: Integers [m].
        lengths: Tokens of each sample, int64[n] that add up to m.
        labels_mask: Booleans [m]; None for all true.
        more: The extra arrays: [m], or [n] for the axis ``sample``.

    Raises:
        InvalidInputError: What is wrong with which array.
    """
    if len(lengths) and int(lengths.max()) > TOKENS_MAX:
        raise InvalidInputError(f"a sample of {lengths.max()} tokens: at most {TOKENS_MAX} are possible")
    ids = _token_ids(token_ids)
    count = len(ids)
    mask = np.ones(count, np.bool_) if labels_mask is None else _mask("labels_mask", labels_mask, count)
    names = {array.name for array in extra}
    if more.keys() != names:
        name = sorted(more.keys() ^ names)[0]
        what = "not declared: name it in arrays, or leave it out of the samples" if name in more else "not given"
        raise InvalidInputError(f"array {name} was {what}")
    sizes = {"token": count, "sample": len(lengths)}
    values = {array.name: _elements(array, more[array.name], sizes[array.axis]) for array in extra}
    return Checked(ids, lengths.astype(np.uint32), mask, values)


class Gathered:
    """A batch that grows by samples.

    Args:
        extra: The extra arrays that every sample comes with.
    """

    def __init__(self, extra: Sequence[Array]) -> None:
        self._extra = extra
        self.tokens = self.count = 0
        self._ids: list[NDArray[np.uint32]] = []
        self._lengths: list[NDArray[np.uint32]] = []
        self._masks: list[NDArray[np.bool_]] = []
        self._sources: list[NDArray[np.uint32]] = []
        self._more: dict[str, list[NDArray[Any]]] = {array.name: [] for array in extra}

    def add(self, some: Checked, source: int) -> None:
        """Take samples of one source, by its number."""
        self._ids.append(some.ids)
        self._lengths.append(some.lengths)
        self._masks.append(some.mask)
        self._sources.append(np.full(len(some.lengths), source, np.uint32))
        for name, column in some.more.items():
            self._more[name].append(column)
        self.tokens += len(some.ids)
        self.count += len(some.lengths)

    def samples(self) -> tuple[Samples, NDArray[np.uint8], NDArray[np.int64]]:
        """All of them with all arrays but ``length`` and ``key``; their keys; trainable tokens of each, int64[n]."""
        lengths, ids = np.concatenate(self._lengths), np.concatenate(self._ids)
        spans = SpanColumn.of_mask(np.concatenate(self._masks), lengths)
        columns: dict[str, Column] = {
            TOKEN_IDS.name: ids,
            LABELS_MASK.name: spans,
            SOURCE.name: np.concatenate(self._sources),
        }
        for array in self._extra:
            joined = np.concatenate(self._more[array.name])
            columns[array.name] = SpanColumn.of_mask(joined, lengths) if array.is_spans else joined
        sums = offsets_of(spans.stops - spans.starts)
        return Samples(lengths, columns), sample_keys(ids, lengths), np.diff(sums[offsets_of(spans.counts)])


def as_numpy(name: str, given: ArrayLike) -> NDArray[Any]:
    """What was given as a numpy array, or ``InvalidInputError`` with its name."""
    try:
        return np.asarray(given)
    except (ValueError, TypeError, OverflowError) as error:
        raise InvalidInputError(f"{name} cannot be an array: {' '.join(str(error).split())[:200]}") from error


def _token_ids(given: ArrayLike) -> NDArray[np.uint32]:
    found = as_numpy("token_ids", given)
    if found.ndim != 1 or (found.dtype.kind not in "iu" and len(found)):
        raise InvalidInputError(f"token_ids are a list of integers, not {found.dtype} of shape {list(found.shape)}")
    if found.dtype != np.uint32 and len(found) and not (int(found.min()) >= 0 and int(found.max()) < 1 << 32):
        bad = found.min() if found.min() < 0 else found.max()
        raise InvalidInputError(f"token id {bad} is not within 0 to 2**32 - 1")
    return found.astype(np.uint32)


def _mask(name: str, given: ArrayLike, count: int) -> NDArray[np.bool_]:
    found = as_numpy(name, given)
    if found.shape != (count,):
        raise InvalidInputError(f"{name} is of shape {list(found.shape)}, token_ids are of shape [{count}]")
    if found.dtype != np.bool_ and count and (found.dtype.kind not in "iu" or np.any((found != 0) & (found != 1))):
        raise InvalidInputError(f"{name} holds other values than true and false, or 1 and 0")
    return found.astype(np.bool_)


def _elements(array: Array, given: ArrayLike, count: int) -> NDArray[Any]:
    """Elements of an extra array, as they are stored but for the byte order."""
    if array.is_spans:
        return _mask(array.name, given, count)
    if array.dtype == "bytes16":
        return _keys(array, given, count)
    found, dtype = as_numpy(f"array {array.name}", given), np.dtype(array.dtype)
    if found.shape != (count,):
        raise InvalidInputError(f"array {array.name} is of shape {list(found.shape)}, not [{count}]")
    if found.dtype.kind not in "iuf" or (found.dtype.kind == "f" and dtype.kind != "f" and count):
        raise InvalidInputError(f"array {array.name} is {found.dtype}, and was declared as {dtype}")
    if found.dtype != dtype and dtype.kind in "iu" and count:
        limits = np.iinfo(dtype)
        if int(found.min()) < limits.min or int(found.max()) > limits.max:
            raise InvalidInputError(f"array {array.name} holds a value outside {limits.min} to {limits.max}")
    return found.astype(dtype)


def _keys(array: Array, given: ArrayLike, count: int) -> NDArray[Any]:
    found = np.frombuffer(given, np.uint8) if isinstance(given, bytes) else as_numpy(f"array {array.name}", given)
    if found.dtype != np.uint8 or found.size != 16 * count:
        raise InvalidInputError(f"array {array.name} takes 16 bytes for each {array.axis}")
    return found.reshape(count, 16).copy()
