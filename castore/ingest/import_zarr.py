"""A zarr group becomes a dataset, if it has tokens and tells where samples begin.

Two forms are known:

* ``token_ids`` [m] and ``sample_offsets`` [n + 1], as ``castore.zarr_store`` shows them;
* ``token_ids`` [n, t]: each row is a sample.

``labels_mask`` of the shape of ``token_ids`` and ``source`` [n] are taken too; without a mask every token is trained
on. Every other array of the shape of ``token_ids`` is an extra array with one element a token, every other of n
elements one with one element a sample. Types that castore does not store are widened where that loses nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from castore.errors import SourceError
from castore.format.order import PCG64_PERMUTATION
from castore.format.samples import TOKENS_MAX
from castore.format.schema import LABELS_MASK, SOURCE, TOKEN_IDS
from castore.ingest.caller_samples import RESERVED
from castore.ingest.sample_writer import SampleWriter
from castore.ingest.write_job import WriteJob, WriteResult

BATCH_TOKENS = 1 << 22
BATCH_SAMPLES = 1 << 16
"""Samples that are read from the group at once."""

OFFSETS = "sample_offsets"

_STORED_AS: Mapping[str, tuple[str, str]] = {
    "bool": ("bool", "uint8"),
    "int8": ("int64", "int64"),
    "int16": ("int64", "int64"),
    "int32": ("int64", "int64"),
    "int64": ("int64", "int64"),
    "uint8": ("uint8", "uint8"),
    "uint16": ("uint16", "uint16"),
    "uint32": ("uint32", "uint32"),
    "uint64": ("uint64", "uint64"),
    "float16": ("float32", "float32"),
    "float32": ("float32", "float32"),
    "float64": ("float64", "float64"),
}
"""The type that castore stores for a numpy type: with one element a token, and with one a sample."""


class GroupArray(Protocol):
    """An array of a group, as zarr and numpy have them."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> Any: ...

    def __getitem__(self, key: Any) -> Any: ...


@dataclass(frozen=True, slots=True)
class GroupImport:
    """What an import came to, and the arrays of the group that are no part of it, with the reason."""

    written: WriteResult
    left_out: Mapping[str, str]


class GroupSamples:
    """The samples of a group.

    Args:
        place: The group as the user spelled it, for messages.
        arrays: Its arrays by name.
        attributes: Its attributes.

    Raises:
        SourceError: It has no tokens, or arrays that contradict each other.
    """

    def __init__(self, place: str, arrays: Mapping[str, GroupArray], attributes: Mapping[str, Any]) -> None:
        self._place, self._arrays, self._attributes = place, arrays, attributes
        if TOKEN_IDS.name not in arrays:
            raise SourceError(place, "has no array token_ids, and so no samples")
        ids = arrays[TOKEN_IDS.name]
        self._rows = len(ids.shape) == 2
        if OFFSETS not in arrays and len(ids.shape) == 1:
            raise SourceError(place, "has no array sample_offsets, and token_ids of one axis: where do samples begin?")
        if len(ids.shape) not in (1, 2) or (self._rows and OFFSETS in arrays):
            raise SourceError(
                place, f"token_ids are of shape {list(ids.shape)}: give one axis and sample_offsets, or two"
            )
        self.count = ids.shape[0] if self._rows else arrays[OFFSETS].shape[0] - 1
        self.tokens = int(np.prod(ids.shape, dtype=np.int64))
        if self.count < 0 or (not self._rows and len(arrays[OFFSETS].shape) != 1):
            raise SourceError(place, "sample_offsets are one axis of n + 1 numbers")
        self._check_shape(LABELS_MASK.name, ids.shape)
        self._check_shape(SOURCE.name, (self.count,))
        self.left_out: dict[str, str] = {}
        self.extra = dict(self._extra_arrays())

    def _check_shape(self, name: str, shape: tuple[int, ...]) -> None:
        if name in self._arrays and self._arrays[name].shape != shape:
            found = list(self._arrays[name].shape)
            raise SourceError(self._place, f"{name} is of shape {found}, not {list(shape)}")

    def _extra_arrays(self) -> Iterator[tuple[str, tuple[str, str]]]:
        per_token = self._arrays[TOKEN_IDS.name].shape
        for name, array in sorted(self._arrays.items()):
            if name in RESERVED:
                continue
            stored = _STORED_AS.get(str(np.dtype(array.dtype).name))
            if stored is None:
                self.left_out[name] = f"its type {array.dtype} is none that is stored"
            elif array.shape == per_token:
                yield name, (stored[0], "token")
            elif array.shape == (self.count,):
                yield name, (stored[1], "sample")
            else:
                self.left_out[name] = f"its shape {list(array.shape)} is neither one a token nor one a sample"

    def job(self, name: str) -> WriteJob:
        """How the samples are written as a dataset."""
        seed, take = self.order
        return WriteJob(name, arrays=self.extra, sources=self.sources, shuffle_seed=seed, num_examples=take)

    @property
    def sources(self) -> Sequence[str]:
        """Names of the sources: the attribute ``sources``, or numbers after the place."""
        listed = self._attributes.get("sources")
        names = [name for name in listed if isinstance(name, str)] if isinstance(listed, list) else []
        if SOURCE.name not in self._arrays:
            return [*names[:1]] or [self._place]
        count = 0
        for lo in range(0, self.count, BATCH_SAMPLES):
            numbers = self._read(SOURCE.name, slice(lo, lo + BATCH_SAMPLES))
            if numbers.dtype.kind not in "iu" or numbers.min() < 0 or numbers.max() > self.count + len(names):
                raise SourceError(self._place, "source holds what is no number of a source")
            count = max(count, int(numbers.max()) + 1)
        return names if len(names) >= count else [*names, *(f"{self._place}#{i}" for i in range(len(names), count))]

    @property
    def order(self) -> tuple[int | None, int | None]:
        """Seed and samples of the recorded order, if the group is a copy of a castore dataset that tells them."""
        order = self._attributes.get("order")
        if not isinstance(order, dict) or order.get("algorithm") != PCG64_PERMUTATION:
            return None, None
        seed, take = order.get("seed"), order.get("take")
        if type(seed) is not int or type(take) is not int or not 1 <= take <= self.count or seed < 0:
            return None, None
        return seed, None if take == self.count else take

    def batches(self) -> Iterator[tuple[NDArray[Any], NDArray[np.int64], dict[str, NDArray[Any]], NDArray[Any]]]:
        """Token ids, offsets, the other arrays and the numbers of the sources, some samples at a time.

        Raises:
            SourceError: The offsets do not ascend from 0 to the tokens.
        """
        lo = 0
        while lo < self.count:
            edges = self._edges(lo)
            hi, part = lo + len(edges) - 1, slice(int(edges[0]), int(edges[-1]))
            per_sample = slice(lo, hi)
            per_token = per_sample if self._rows else part
            more = {}
            for name, (dtype, axis) in self.extra.items():
                more[name] = self._read(name, per_token if axis == "token" else per_sample).astype(dtype)
            if LABELS_MASK.name in self._arrays:
                more[LABELS_MASK.name] = self._read(LABELS_MASK.name, per_token)
            has_source = SOURCE.name in self._arrays
            numbers = self._read(SOURCE.name, per_sample) if has_source else np.zeros(hi - lo, np.int64)
            yield self._read(TOKEN_IDS.name, per_token), edges - edges[0], more, numbers
            lo = hi

    def _read(self, name: str, part: slice) -> NDArray[Any]:
        try:
            return np.asarray(self._arrays[name][part]).reshape(-1)
        except Exception as error:  # codecs and stores raise what they like
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise SourceError(self._place, f"array {name} cannot be read: {reason}") from error

    def _edges(self, lo: int) -> NDArray[np.int64]:
        """Offsets of the next samples from ``lo`` on: at least one sample, not many tokens."""
        if self._rows:
            width = self._arrays[TOKEN_IDS.name].shape[1]
            self._check_length(lo, width)
            step = min(max(BATCH_TOKENS // max(width, 1), 1), BATCH_SAMPLES, self.count - lo)
            return np.arange(lo, lo + step + 1, dtype=np.int64) * width
        raw = self._read(OFFSETS, slice(lo, lo + BATCH_SAMPLES + 1))
        if raw.dtype.kind not in "iu":
            raise SourceError(self._place, f"sample_offsets are {raw.dtype}, not integers")
        edges: NDArray[np.int64] = raw.astype(np.int64)
        last = lo + len(edges) - 1 == self.count
        bad = np.any(np.diff(edges) < 0) or edges[0] < 0 or edges[-1] > self.tokens
        if bad or (lo == 0 and edges[0] != 0) or (last and edges[-1] != self.tokens):
            raise SourceError(self._place, f"sample_offsets do not ascend from 0 to the {self.tokens} tokens")
        stop = max(int(np.searchsorted(edges, edges[0] + BATCH_TOKENS, side="right")) - 1, 1)
        self._check_length(lo, int(edges[1] - edges[0]))
        return edges[: stop + 1]

    def _check_length(self, sample: int, tokens: int) -> None:
        """Refuse a sample that is too long before it is read: shapes and offsets may say anything."""
        if tokens > TOKENS_MAX:
            raise SourceError(self._place, f"sample {sample} has {tokens} tokens: at most {TOKENS_MAX} are possible")


def write_group(
    writer: SampleWriter, samples: GroupSamples, report: Callable[[int, int], None] = lambda done, total: None
) -> GroupImport:
    """Write the samples of a group; ``report`` is called with tokens written and tokens in all.

    Raises:
        SourceError: A value that cannot be, or offsets that do not fit.
    """
    done = 0
    with writer:
        for ids, offsets, more, numbers in samples.batches():
            mask = more.pop(LABELS_MASK.name, None)
            edges = np.flatnonzero(np.diff(numbers)) + 1
            for lo, hi in zip([0, *edges.tolist()], [*edges.tolist(), len(numbers)], strict=True):
                first, last = int(offsets[lo]), int(offsets[hi])
                some = {
                    name: column[first:last] if samples.extra[name][1] == "token" else column[lo:hi]
                    for name, column in more.items()
                }
                part = None if mask is None else mask[first:last]
                writer.extend(ids[first:last], offsets[lo : hi + 1] - first, part, source=int(numbers[lo]), **some)
            done += len(ids)
            report(done, samples.tokens)
    assert writer.result is not None
    return GroupImport(writer.result, samples.left_out)
