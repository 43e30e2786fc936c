"""The units of one run: found in the repository, or recorded once the samples that enter the sequence are stored."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from castore.format.digest import Digest
from castore.format.unit import Slice
from castore.ingest.unit_samples import FINE_ARRAYS, UnitSamples, stored_unit
from castore.store.objects import ObjectStore
from castore.store.units import UnitStore
from castore.tree.build import Cut, SequenceBuilder


@dataclass(slots=True)
class _OpenUnit:
    """A unit in the sequence whose samples are not all stored yet: where it begins, in samples and tokens."""

    name: Digest
    samples: UnitSamples
    start: int
    item_start: int

    @property
    def stop(self) -> int:
        return self.start + len(self.samples.lengths)


class RunUnits:
    """Finds units, and records those that enter a sequence.

    Args:
        objects: Where chunks are.
        units: Where records are found and go.
        chunk_bytes, fanout: As ``SequenceBuilder`` takes them.
    """

    def __init__(self, objects: ObjectStore, units: UnitStore, chunk_bytes: int, fanout: int) -> None:
        self._objects, self._units = objects, units
        self._sizes = {"chunk_bytes": chunk_bytes, "fanout": fanout}
        self._open: deque[_OpenUnit] = deque()
        self._open_by_name: dict[Digest, UnitSamples] = {}
        self._cuts: deque[Cut] = deque()  # over units that are open, or that will be

    def find(self, name: Digest) -> UnitSamples | None:
        """The samples of a unit that this run or an earlier one has met, if all of them are still there."""
        if name in self._open_by_name:
            return self._open_by_name[name]
        unit = self._units.get(name)
        if unit is None:
            return None
        # Whatever a ref will name must be there and right, and stay: what is not is tokenized again, which mends it.
        chunks = (chunk for part in unit.slices for chunk in part.chunks.values())
        return stored_unit(unit, self._objects) if self._objects.renew_whole(chunks) else None

    def is_new(self, name: Digest, samples: UnitSamples) -> bool:
        """Whether a unit has neither a record nor will get one."""
        return not samples.stored and name not in self._open_by_name

    def begin(self, name: Digest, samples: UnitSamples, start: int, item_start: int) -> None:
        """A new unit enters the sequence behind ``start`` samples of ``item_start`` tokens."""
        self._open.append(_OpenUnit(name, samples, start, item_start))
        self._open_by_name[name] = samples

    def settle(self, cuts: Iterable[Cut], cut_at: int) -> None:
        """Record the units whose samples have all been stored.

        Args:
            cuts: The next level-0 runs of the sequence, whose chunks have been stored.
            cut_at: Samples of the sequence in all of them so far.
        """
        self._cuts.extend(cuts)
        done = []
        while self._open and self._open[0].stop <= cut_at:
            unit = self._open.popleft()
            del self._open_by_name[unit.name]
            done.append((unit.name, unit.samples, self._slices(unit)))
        if done:
            self._record(done)
        first_needed = self._open[0].start if self._open else cut_at
        while self._cuts and self._cuts[0].stop <= first_needed:
            self._cuts.popleft()

    def park(self, name: Digest, samples: UnitSamples) -> None:
        """Store and record a new unit by itself, one that is only picked from, so that it is found again."""
        builder = SequenceBuilder(FINE_ARRAYS, **self._sizes)
        objects = [made for piece in samples.pieces({}) for made in builder.add(piece)]
        objects += builder.finish()[1]
        self._objects.put_all(objects)
        slices = [Slice(cut.chunks, cut.stop - cut.start, 0, cut.stop - cut.start, 0) for cut in builder.take_cuts()]
        self._record([(name, samples, slices)])

    def _slices(self, unit: _OpenUnit) -> list[Slice]:
        """Where the samples of a unit lie in the chunks that were cut over it."""
        slices = []
        for cut in self._cuts:
            lo, hi = max(cut.start, unit.start), min(cut.stop, unit.stop)
            if lo < hi:
                item_lo = unit.item_start - cut.item_start if lo > cut.start else 0
                slices.append(Slice(cut.chunks, cut.stop - cut.start, lo - cut.start, hi - cut.start, item_lo))
        return slices

    def _record(self, done: list[tuple[Digest, UnitSamples, list[Slice]]]) -> None:
        """Objects first, then the records that name them."""
        self._objects.barrier()
        for name, samples, slices in done:
            self._units.put(name, samples.record(slices))
        self._objects.barrier()
