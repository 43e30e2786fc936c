"""Blocks of rows to units in order, each found or tokenized, a bounded number ahead."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from castore.errors import SourceError
from castore.format.codec import Value
from castore.format.digest import Digest
from castore.format.samples import Column
from castore.format.schema import KEY_BYTES
from castore.format.unit import recipe_digest, unit_name
from castore.ingest.pool import Pool, Result
from castore.ingest.source import Block, Source
from castore.ingest.tokenizer import RowError
from castore.ingest.unit_samples import UnitSamples, tokenized_unit
from castore.ingest.units import RunUnits

BAD_ROW = "bad-row"
"""Reason code of rows that were skipped because they could not be read; followed by a colon and what is wrong."""

_ROW_ERROR = re.compile(r"(?:((?:messages|tools)\S*): )?(.*)", re.DOTALL)
"""What is wrong with a row, as ``RowError`` and records of units spell it: the field if it is in one, and the fault."""


@dataclass(frozen=True, slots=True)
class UnitPlace:
    """Where a unit stands in the mix: its name, the number of its source, and its rows.

    Attributes:
        numbers: 0-based numbers of the rows, int64[n], ascending.
        lines: Their lines for messages, int64[n].
        raw_keys: Their keys, uint8[n, 16].
    """

    name: Digest
    source: int
    numbers: NDArray[np.int64]
    lines: NDArray[np.int64]
    raw_keys: NDArray[np.uint8]

    def scalars(self, samples: UnitSamples) -> dict[str, Column]:
        """The arrays that tell where the samples of the unit came from."""
        return provenance(self.source, self.numbers[samples.kept], self.raw_keys[samples.kept])


class UnitFeed:
    """Gives the units of sources.

    Args:
        units: Finds those that have been tokenized.
        pool: Tokenizes the others.
        recipe: All that can change tokens.
        stop: Whether a bad row is an error, also one that another run has skipped.
        sources: Of the mix, in order.
    """

    def __init__(
        self, units: RunUnits, pool: Pool, recipe: Mapping[str, Value], sources: Sequence[Source], *, stop: bool
    ) -> None:
        self._units, self._pool, self._stop = units, pool, stop
        self._recipe = recipe_digest(recipe)
        self._sources = sources
        # Of rows that are not known to be tokenized; about, since files may be compressed.
        self._bytes_left = sum(source.byte_count for source in sources)

    def units(self, index: int) -> Iterator[tuple[UnitPlace, UnitSamples]]:
        """All units of a source.

        Raises:
            SourceError: The file or a row of it is wrong.
        """
        return self._units_of(index, self._sources[index].blocks())

    def units_with(self, index: int, numbers: NDArray[np.int64]) -> Iterator[tuple[UnitPlace, UnitSamples]]:
        """Units that hold the rows ``numbers`` (ascending): of a whole block where it is a unit, else of them alone."""
        return self._units_of(index, blocks_with(self._sources[index], numbers, self._is_known))

    def again(self, place: UnitPlace) -> UnitSamples:
        """A unit that was given before."""
        samples = self._units.find(place.name)
        if samples is None:  # its record was removed under our feet: the rows are still there
            blocks = self._sources[place.source].blocks_of(place.numbers)
            rows = [row for block in blocks for row in block.rows]
            samples = self._settled(place, self._pool.submit(rows, self._bytes_left))
        return samples

    def _units_of(self, index: int, blocks: Iterator[Block]) -> Iterator[tuple[UnitPlace, UnitSamples]]:
        ahead: deque[tuple[UnitPlace, UnitSamples | Result]] = deque()
        for block in blocks:
            name = unit_name(self._recipe, block.keys)
            raw_keys = np.frombuffer(block.keys, np.uint8).reshape(-1, KEY_BYTES)
            place = UnitPlace(name, index, block.numbers, block.lines, raw_keys)
            known = self._units.find(name)
            self._bytes_left -= 0 if known is None else block.byte_count
            ahead.append((place, self._pool.submit(block.rows, self._bytes_left) if known is None else known))
            # Units that are known cost nothing while they wait, so only the depth of the pool limits the queue.
            while len(ahead) > self._pool.depth:
                place, found = ahead.popleft()
                yield place, self._settled(place, found)
        while ahead:
            place, found = ahead.popleft()
            yield place, self._settled(place, found)

    def _is_known(self, keys: bytes) -> bool:
        return self._units.find(unit_name(self._recipe, keys)) is not None

    def _settled(self, place: UnitPlace, found: UnitSamples | Result) -> UnitSamples:
        """A unit that was found or is tokenized by now; refused for a bad row where the run stops at these."""
        if not isinstance(found, UnitSamples):
            try:
                return tokenized_unit(found.result(), len(place.numbers))
            except RowError as error:
                raise self._bad_row(place, error.index, str(error)) from error
        if self._stop:
            # The record may be of a run that was told to skip bad rows; this one was not.
            for position, reason in found.dropped:
                if reason.startswith(BAD_ROW):
                    raise self._bad_row(place, position, reason.partition(": ")[2])
        return found

    def _bad_row(self, place: UnitPlace, position: int, text: str) -> SourceError:
        found = _ROW_ERROR.fullmatch(text)
        assert found is not None
        name, line = self._sources[place.source].name, int(place.lines[position])
        return SourceError(name, found[2], row=line, field=found[1])


def provenance(source: int, numbers: NDArray[np.int64], raw_keys: NDArray[np.uint8]) -> dict[str, Column]:
    """The arrays that tell where samples came from: rows ``numbers`` of one source, with these keys."""
    return {
        "source": np.full(len(numbers), source, np.uint32),
        "row": numbers.astype(np.uint64),
        "raw_key": raw_keys,
    }


def blocks_with(source: Source, numbers: NDArray[np.int64], is_known: Callable[[bytes], bool]) -> Iterator[Block]:
    """What the rows ``numbers`` (ascending) of a source are taken from: a whole block where it is a unit, else they.

    Args:
        source: The source.
        numbers: 0-based numbers of rows.
        is_known: Whether the rows with these keys are a unit that is there.
    """
    for block in source.blocks():
        wanted = np.isin(block.numbers, numbers, assume_unique=True)
        if wanted.all() or (wanted.any() and is_known(block.keys)):
            yield block
        elif wanted.any():
            yield block.take(np.flatnonzero(wanted))
