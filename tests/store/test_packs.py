"""Values in packs: the promises of a backend as far as they apply, order under crashes, and packs that come and go."""

from __future__ import annotations

import multiprocessing
import os
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from castore.errors import BackendError, CorruptionError, NotFoundError
from castore.format.digest import Digest, digest_of
from castore.format.pack import FOOTER, MAGIC
from castore.store import held_values, pack_catalog, pack_entries, packs
from castore.store.backend import Backend, MemoryBackend, Part, SweptError, is_key
from castore.store.conformance import CHECKS
from castore.store.conformance_means import Check
from castore.store.local import LocalBackend
from castore.store.object_keys import object_key
from castore.store.objects import ObjectStore
from castore.store.packs import LOOSE_MAX, PackedBackend, packed
from castore.store.trash import flush_restoring
from castore.store.units import unit_key
from tests.conformance.suite import BackendTests, StorePlace
from tests.conformance.test_backends import LocalPlace, MemoryPlace
from tests.support.faults import FaultyBackend
from tests.support.layouts import in_packs, loose
from tests.support.sweep import Fault, sweep

LIMIT = 1 << 20


def key(number: int, kind: str = "objects") -> str:
    digest = digest_of(b"%d" % number)
    return object_key(digest) if kind == "objects" else unit_key(digest)


def value(number: int, size: int = 100) -> bytes:
    return (b"%d:" % number * size)[:size]


def fill(backend: Backend, numbers: Iterable[int]) -> None:
    for number in numbers:
        backend.put(key(number), value(number))
    backend.flush()


# ---- the promises of a backend


class PackedPlace:
    """A place with packs in it; its other door is the place itself."""

    def __init__(self, place: StorePlace) -> None:
        self._place = place

    def open(self) -> Backend:
        return packed(self._place.open())

    def raw_get(self, key: str) -> bytes | None:
        return self._place.raw_get(key)

    def raw_put(self, key: str, data: bytes) -> None:
        self._place.raw_put(key, data)


class TestBesideMemory(BackendTests):
    """Of keys that no packs hold every promise is that of the place."""

    @pytest.fixture
    def place(self) -> PackedPlace:
        return PackedPlace(MemoryPlace())


class TestBesideLocal(BackendTests):
    @pytest.fixture
    def place(self, tmp_path: Path) -> PackedPlace:
        return PackedPlace(LocalPlace(tmp_path / "repo"))


class _Renaming:
    """A backend whose keys are those of values in packs; all instances share the names."""

    def __init__(self, inner: PackedBackend, names: dict[str, str]) -> None:
        self._inner, self._names = inner, names
        self.url = inner.url

    def _to(self, key: str) -> str:
        if not is_key(key):
            return key
        stored = object_key(digest_of(key.encode())) if len(key) % 2 else unit_key(digest_of(key.encode()))
        self._names[stored] = key
        return stored

    def get(self, key: str, max_bytes: int) -> bytes | None:
        return self._inner.get(self._to(key), max_bytes)

    def get_many(self, keys: Iterable[str], max_bytes: int) -> Iterator[tuple[str, bytes | None]]:
        found = self._inner.get_many(map(self._to, keys), max_bytes)
        return ((self._names.get(key, key), data) for key, data in found)

    def put(self, key: str, data: bytes) -> None:
        self._inner.put(self._to(key), data)

    def flush(self) -> None:
        self._inner.flush()

    def has(self, key: str) -> bool:
        return self._inner.has(self._to(key))

    def touch(self, key: str) -> bool:
        return self._inner.touch(self._to(key))

    def touch_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bool]]:
        return ((self._names.get(key, key), found) for key, found in self._inner.touch_many(map(self._to, keys)))

    def delete(self, key: str) -> bool:
        return self._inner.delete(self._to(key))

    def _below(self, prefix: str) -> Iterator[str]:
        stored = [*self._inner.list("objects"), *self._inner.list("units")]
        return (key for key in stored if not prefix or self._names[key].startswith(prefix + "/"))

    def list(self, prefix: str) -> Iterator[str]:
        self._inner.list(prefix)
        return iter(sorted(self._names[key] for key in self._below(prefix)))

    def entries(self, prefix: str) -> Iterator[object]:
        self._inner.entries(prefix)
        known = {*self._below(prefix)}
        found = [*self._inner.entries("objects"), *self._inner.entries("units")]
        named = (entry._replace(key=self._names[entry.key]) for entry in found if entry.key in known)
        return iter(sorted(named, key=lambda entry: entry.key))


class RenamedPlace:
    """As ``PackedPlace``, where every key is that of a value in a pack, and the other door another instance."""

    def __init__(self, place: StorePlace, wrap: Callable[[Backend], PackedBackend]) -> None:
        self._place, self._wrap = place, wrap
        self._names: dict[str, str] = {}

    def open(self) -> Backend:
        return _Renaming(self._wrap(self._place.open()), self._names)  # type: ignore[return-value]

    def raw_get(self, key: str) -> bytes | None:
        return self.open().get(key, LIMIT)

    def raw_put(self, key: str, data: bytes) -> None:
        other = self.open()
        other.put(key, data)
        other.flush()


DIFFERENT = {
    # One value of a pack is not removed, and the others have it still.
    "create_after_put", "delete_removes", "expire_spares_the_young",
    # A pack is as old as its youngest value, and what is renewed renews its neighbours.
    "ages",
    # An object has one content; of a record that was stored twice either counts, for it can be made again.
    "reads_what_is_there", "put_replaces",
    # They make values, parts of values or names that are none.
    "create_once", "create_race", "no_foreign_names", "bad_keys", "get_part", "get_part_from_the_end", "bad_parts",
    "get_parts", "get_parts_is_bounded", "value_where_a_folder_is",
}  # fmt: skip

SAME = [check for check in CHECKS if check.__name__ not in DIFFERENT]


@pytest.mark.parametrize("wrap", [in_packs, packed, loose], ids=["packs", "both", "loose"])
@pytest.mark.parametrize("place", ["memory", "local"])
@pytest.mark.parametrize("check", SAME, ids=[check.__name__ for check in SAME])
def test_promises_of_values_in_packs(
    check: Check, place: str, wrap: Callable[[Backend], PackedBackend], tmp_path: Path
) -> None:
    check(RenamedPlace(MemoryPlace() if place == "memory" else LocalPlace(tmp_path / "repo"), wrap))


def test_what_differs_are_checks() -> None:
    assert {check.__name__ for check in CHECKS} >= DIFFERENT


def test_a_value_in_a_pack_is_neither_deleted_nor_expires_alone() -> None:
    backend = in_packs(MemoryBackend())
    fill(backend, range(3))
    for remove in (backend.delete, lambda name: backend.expire(name, 2.0**31)):
        with pytest.raises(BackendError, match="is in a pack"):
            remove(key(1))
    assert backend.get(key(1), LIMIT) == value(1)


def test_a_value_that_is_in_no_pack_yet_is_deleted() -> None:
    backend = in_packs(MemoryBackend())
    backend.put(key(1), b"x")
    assert backend.delete(key(1))
    assert not backend.has(key(1))
    assert not backend.delete(key(1))
    backend.flush()
    assert [*backend.list("")] == []


# ---- where values go


@pytest.mark.parametrize("count", [1, LOOSE_MAX, LOOSE_MAX + 1, 100])
def test_a_few_are_stored_one_by_one(count: int) -> None:
    place = MemoryBackend()
    backend = packed(place)
    fill(backend, range(count))
    keys = [*place.other().list("")]
    assert len(keys) == (count if count <= LOOSE_MAX else 1)
    assert keys[0].startswith("objects/" if count <= LOOSE_MAX else "packs/")
    assert [*packed(place.other()).list("objects")] == sorted(map(key, range(count)))


def test_one_layer_is_enough() -> None:
    backend = packed(MemoryBackend())
    assert packed(backend) is backend


def test_a_full_pack_is_closed() -> None:
    place = MemoryBackend()
    backend = in_packs(place, 1000)
    for number in range(25):
        backend.put(key(number), value(number))
        assert backend.get(key(number), LIMIT) == value(number)
    assert len([*place.other().list("packs")]) == 2
    backend.flush()
    assert len([*place.other().list("packs")]) == 3
    assert [packed(place.other()).get(key(number), LIMIT) for number in range(25)] == [*map(value, range(25))]


def test_an_old_pack_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill costs little, however slowly values come."""
    now = 0.0
    for module in (packs, held_values):
        monkeypatch.setattr(module, "monotonic", lambda: now)
    place = MemoryBackend()
    backend = in_packs(place)
    for number in range(4):
        backend.put(key(number), value(number))
        now += packs.PACK_AGE_S / 2 - 1
    assert len([*place.other().list("packs")]) == 1


def test_a_value_larger_than_a_pack_is_stored() -> None:
    place = MemoryBackend()
    backend = in_packs(place, 1000)
    backend.put(key(1), value(1, 5000))
    backend.put(key(2), value(2, 5000))
    backend.flush()
    assert len([*place.other().list("packs")]) == 2
    assert packed(place.other()).get(key(1), LIMIT) == value(1, 5000)


def test_the_same_values_make_the_same_pack() -> None:
    place = MemoryBackend()
    for _ in range(2):
        fill(in_packs(place.other()), range(5))
    assert len([*place.other().list("packs")]) == 1


def test_a_failed_flush_may_be_repeated() -> None:
    place = MemoryBackend()
    for number in range(1, 4):
        backend = in_packs(FaultyBackend(place.other()).fail_at(number, BackendError("disk full")))
        with pytest.raises(BackendError, match="disk full"):
            fill(backend, range(20))
        fill(backend, range(20))
        assert len([*packed(place.other()).list("objects")]) == 20


# ---- order


def puts_with_barriers(wrap: Callable[[Backend], PackedBackend]) -> Callable[[Backend], int]:
    """Values in groups, each of which names those before it."""

    def job(raw: Backend) -> int:
        backend = wrap(raw)
        for number in range(60):
            backend.put(key(number, "units" if number % 7 == 6 else "objects"), value(number))
            if number % 7 >= 5:
                backend.barrier()
        backend.flush()
        raw.create("refs/done", b"")
        return len([*backend.list("objects")]) + len([*backend.list("units")])

    return job


def in_order(backend: Backend) -> None:
    """What stands after a barrier is not there without all that was put before it."""
    seen = packed(backend)
    there = [seen.has(key(number, "units" if number % 7 == 6 else "objects")) for number in range(60)]
    groups = [[*range(at, at + 6)] if inner else [at + 6] for at in range(0, 60, 7) for inner in (True, False)]
    whole = [all(there[number] for number in group if number < 60) for group in groups]
    some = [any(there[number] for number in group if number < 60) for group in groups]
    for later in range(1, len(groups)):
        assert not some[later] or all(whole[:later])
    assert not backend.has("refs/done") or all(there)


@pytest.mark.parametrize(
    "wrap", [loose, in_packs, lambda raw: in_packs(raw, 1000), lambda raw: PackedBackend(raw, pack_bytes=1500)],
    ids=["loose", "one pack", "packs", "both"],
)  # fmt: skip
def test_order_under_a_fault_at_every_write(
    wrap: Callable[[Backend], PackedBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.support.sweep.whole", in_order)
    # Of a flush that is torn, single values of one group may come in any order: groups keep theirs.
    swept = sweep(puts_with_barriers(wrap), check=in_order, faults=tuple(Fault))
    assert swept.runs > 10


# ---- packs that come and go


def test_what_another_has_stored_meanwhile_is_found() -> None:
    place = MemoryBackend()
    reader = packed(place.other())
    assert reader.get(key(1), LIMIT) is None
    fill(in_packs(place.other()), range(20))
    assert reader.get(key(1), LIMIT) == value(1)
    assert reader.has(key(2))
    fill(in_packs(place.other()), range(20, 40))
    assert reader.has(key(30))
    assert [*reader.get_many(map(key, range(40)), LIMIT)] == [(key(n), value(n)) for n in range(40)]


@pytest.mark.parametrize("wrap", [in_packs, loose], ids=["pack", "loose"])
def test_a_pack_that_goes_while_it_is_read(wrap: Callable[[Backend], PackedBackend]) -> None:
    """A collection stores elsewhere what it keeps of a pack, and removes it: whoever knew it looks again."""
    place = MemoryBackend()
    fill(in_packs(place.other()), range(20))
    (old,) = place.other().list("packs")
    reader = packed(place.other())
    answers = reader.get_many(map(key, range(20)), LIMIT)
    assert next(answers) == (key(0), value(0))
    fill(wrap(place.other()), range(10))
    place.other().delete(old)
    assert [data for _, data in answers] == [value(n) if n < 10 else None for n in range(1, 20)]
    assert not reader.touch(key(15))
    assert reader.touch(key(5))


def test_a_pack_in_the_trash_is_read() -> None:
    """By those who knew it, and by those who come later: a name may need what went a moment too soon."""
    place = MemoryBackend()
    fill(in_packs(place.other()), range(20))
    (old,) = place.other().list("packs")
    knew = packed(place.other())
    assert knew.get(key(1), LIMIT) == value(1)
    mover = place.other()
    mover.put(f"trash/{old}", mover.get(old, LIMIT) or b"")
    mover.flush()
    mover.delete(old)
    assert knew.get(key(2), LIMIT) == value(2)
    assert packed(place.other()).get(key(3), LIMIT) == value(3)
    assert not packed(place.other()).touch(key(3))


class _Forgetful(MemoryBackend):
    """Tells at the flush that packs which were renewed are gone."""

    def flush(self) -> None:
        super().flush()
        lost = [name for name in self.lost if not self.has(name)]
        self.lost = []
        if lost:
            raise SweptError(self.url, lost)

    lost: list[str] = []  # noqa: RUF012 - set by each test

    def touch(self, key: str) -> bool:
        self.lost = [*self.lost, key]
        return super().touch(key)


def test_a_pack_that_was_swept_while_it_was_renewed_is_taken_back() -> None:
    place = _Forgetful()
    fill(in_packs(place), range(20))
    (pack,) = place.list("packs")
    backend = in_packs(place)
    assert backend.touch(key(1))
    place.put(f"trash/{pack}", place.get(pack, LIMIT) or b"")
    place.delete(pack)
    flush_restoring(backend)
    assert packed(place).get(key(1), LIMIT) == value(1)
    assert [*place.list("packs")] == [pack]


def test_a_newer_pack_may_hold_what_is_missing() -> None:
    place = MemoryBackend()
    fill(in_packs(place), range(20))
    (pack,) = place.list("packs")
    place.put(pack, (place.get(pack, LIMIT) or b"")[:-2] + b"9\n")
    place.flush()
    backend = packed(place.other())
    with pytest.raises(BackendError) if False else pytest.raises(Exception, match="newer") as caught:
        backend.get(key(1), LIMIT)
    assert type(caught.value).__name__ == "UnsupportedVersionError"
    assert not backend.touch(key(1))
    fill(in_packs(place.other()), range(5))
    assert backend.get(key(1), LIMIT) == value(1)


def test_an_index_that_is_lost_is_made_again() -> None:
    place = MemoryBackend()
    fill(in_packs(place), range(20))
    (pack,) = place.list("packs")
    data = place.get(pack, LIMIT) or b""
    for damage in (data[:-1], data[:-19], data[:-400], data[:-30] + bytes(30), data[:-300] + b"x" + data[-299:]):
        place.put(pack, damage)
        place.flush()
        backend = packed(place.other())
        assert [backend.get(key(n), LIMIT) for n in range(20)] == [value(n) for n in range(20)]
        place.put(pack, data)
    place.put(pack, data[:1000])
    place.flush()
    backend = packed(place.other())
    assert backend.get(key(0), LIMIT) == value(0)
    with pytest.raises(CorruptionError, match=f"{pack} in .* is damaged"):
        backend.get(key(19), LIMIT)


def test_another_copy_of_a_damaged_object_is_read() -> None:
    """Whichever of them is met first."""
    for first in (0, 1):
        place = MemoryBackend()
        digests = []
        for wrap in (in_packs, loose):
            backend = wrap(place.other())
            objects = ObjectStore(backend)
            for number in range(20):
                data = value(number, 1000)
                digest = digest_of(data)
                digests.append(digest)
                if wrap is loose:
                    found = next(iter(ObjectStore(packed(place.other())).get_frames([digest])))
                    backend.put(object_key(digest), found[1])
                else:
                    objects.put(digest, data)
            objects.flush()
        for name in [*place.other().list("packs")] if first == 0 else [*place.other().list("objects")]:
            data = bytearray(place.other().get(name, LIMIT) or b"")
            for at in range(20, len(data) - 2500 if first == 0 else len(data)):
                data[at] ^= 0x10
            writer = place.other()
            writer.put(name, bytes(data))
            writer.flush()
        store = ObjectStore(packed(place.other()))
        assert [data for _, data in store.get_many(digests)] == [value(n, 1000) for n in range(20)] * 2


def test_what_is_in_no_place_is_missing() -> None:
    store = ObjectStore(packed(MemoryBackend()))
    with pytest.raises(NotFoundError):
        store.get(Digest(bytes(32)))


def test_a_listing_has_each_value_once() -> None:
    place = MemoryBackend()
    fill(in_packs(place.other()), range(20))
    fill(in_packs(place.other()), range(10, 30))
    fill(loose(place.other()), range(15, 35))
    backend = in_packs(place.other())
    backend.put(key(34), value(34))
    backend.put(key(35), value(35))
    backend.put(key(36, "units"), value(36))
    wanted = sorted(map(key, range(36)))
    assert [*backend.list("objects")] == wanted
    assert [(entry.key, entry.size_bytes) for entry in backend.entries("objects")] == [(name, 100) for name in wanted]
    assert [*backend.list("units")] == [key(36, "units")]
    folder = wanted[0][:10]
    assert [*backend.list(folder)] == [name for name in wanted if name.startswith(folder)]
    everything = [*backend.list("")]
    assert everything == sorted(everything)
    assert {*wanted, key(36, "units")} < {*everything}


# ---- processes


def test_a_fork_inherits_no_values(tmp_path: Path) -> None:
    """What the parent holds back is the parent's to store, once."""
    backend = in_packs(LocalBackend(str(tmp_path)))
    for number in range(20):
        backend.put(key(number), value(number))
    child = os.fork()
    if not child:
        code = 1
        try:
            assert [*backend.list("objects")] == []
            assert backend.get(key(1), LIMIT) is None
            assert [*backend.similar((1,))] == []
            fill(backend, range(20, 40))
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert len([*tmp_path.joinpath("packs").iterdir()]) == 1
    assert backend.get(key(30), LIMIT) == value(30)
    assert backend.get(key(1), LIMIT) == value(1)
    backend.flush()
    assert len([*tmp_path.joinpath("packs").iterdir()]) == 2
    assert len([*packed(LocalBackend(str(tmp_path))).list("objects")]) == 40


def _write_many(folder: str, number: int) -> None:
    backend = in_packs(LocalBackend(folder), 2000)
    for at in range(10 * number, 10 * number + 40):
        if not backend.touch(key(at)):
            backend.put(key(at), value(at))
    backend.flush()


def test_several_processes_write(tmp_path: Path) -> None:
    """Some values twice, none of them lost."""
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_write_many, args=(str(tmp_path), number)) for number in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    backend = packed(LocalBackend(str(tmp_path)))
    assert [backend.get(key(n), LIMIT) for n in range(70)] == [*map(value, range(70))]
    assert len([*backend.list("objects")]) == 70


# ---- requests


class _Far(FaultyBackend):
    """A place that is far away, as far as the layer can tell, and counts its requests."""

    is_far = True

    def get_parts(self, parts: Iterable[Part]) -> Iterator[tuple[Part, bytes | None]]:
        return ((part, self.get_part(*part)) for part in parts)

    def counted(self) -> dict[str, int]:
        done = [operation for operation, _ in self.calls]
        self.calls.clear()
        return {operation: done.count(operation) for operation in dict.fromkeys(done)}


def test_far_away_everything_is_in_packs() -> None:
    far = _Far(MemoryBackend())
    backend = packed(far)
    assert backend.is_far
    fill(backend, range(1))
    assert [name.partition("/")[0] for name in far.inner.list("")] == ["packs"]


def test_nothing_is_asked_for_what_is_absent_far_away() -> None:
    """One listing of the packs and of single values, whatever number of objects is new."""
    far = _Far(MemoryBackend())
    fill(packed(far), range(20))
    backend = packed(far)
    far.counted()
    assert not any(found for _, found in backend.touch_many(map(key, range(100, 400))))
    assert far.counted() == {"entries": 1, "get_part": 1, "list": 2}
    for number in range(100, 400):
        backend.put(key(number), value(number))
    backend.flush()
    assert far.counted() == {"flush": 2, "put": 1}


def test_neighbours_are_read_by_one_request_far_away() -> None:
    far = _Far(MemoryBackend())
    fill(packed(far), range(200))
    backend = packed(far)
    far.counted()
    assert [*backend.get_many(map(key, range(200)), LIMIT)] == [(key(n), value(n)) for n in range(200)]
    assert far.counted() == {"entries": 1, "get_part": 2}
    asked = [*range(199, 0, -7), 500, 3, 3]
    found = [data for _, data in backend.get_many(map(key, asked), LIMIT)]
    assert found == [value(n) if n < 200 else None for n in asked]


def test_those_far_apart_are_read_by_several(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack_entries, "_GAP_BYTES", 500)
    monkeypatch.setattr(pack_entries, "_REQUEST_BYTES", 2000)
    far = _Far(MemoryBackend())
    fill(packed(far), range(200))
    backend = packed(far)
    assert backend.has(key(0))
    far.counted()
    asked = [*range(30), *range(100, 103), 150]
    assert [data for _, data in backend.get_many(map(key, asked), LIMIT)] == [*map(value, asked)]
    assert far.counted() == {"get_part": 5}


def test_a_pack_is_renewed_once_for_many(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(pack_catalog, "monotonic", lambda: now)
    far = _Far(MemoryBackend())
    fill(packed(far), range(100))
    backend = packed(far)
    for _ in range(3):
        assert all(found for _, found in backend.touch_many(map(key, range(100))))
    assert far.counted()["touch"] == 1
    now += pack_catalog._RENEWED_S
    assert backend.touch(key(50))
    assert far.counted() == {"touch": 1}


def test_the_pack_that_was_read_last_is_asked_first() -> None:
    place = MemoryBackend()
    for at in range(0, 100, 20):
        fill(in_packs(place.other()), range(at, at + 20))
    backend = packed(place.other())
    for number in (0, 50, 99, 50):
        assert backend.has(key(number))
        first = next(iter(backend.catalog._single.values()))
        assert first.index.find(b"\0" + digest_of(b"%d" % number)) is not None


def test_many_packs_are_looked_up_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """As they come, and when one of them goes."""
    monkeypatch.setattr(pack_catalog, "SINGLE_MAX", 2)
    place = MemoryBackend()
    reader = packed(place.other())
    for at in range(0, 100, 10):
        fill(in_packs(place.other()), range(at, at + 10))
        assert reader.get(key(at), LIMIT) == value(at)
    assert [*reader.get_many(map(key, range(120)), LIMIT)] == [
        (key(n), value(n) if n < 100 else None) for n in range(120)
    ]
    gone = reader.catalog.find(b"\0" + digest_of(b"55"))
    assert gone is not None
    place.other().delete(gone.pack.key)
    found = [data for _, data in reader.get_many(map(key, range(100)), LIMIT)]
    assert found == [None if 50 <= n < 60 else value(n) for n in range(100)]
    fill(in_packs(place.other()), range(50, 60))
    assert reader.get(key(55), LIMIT) == value(55)


def test_a_pack_larger_than_any_takes_no_memory(tmp_path: Path) -> None:
    """Neither its index, as large as it says, nor all of it is read; and nothing is called absent beside it."""
    backend = packed(LocalBackend(str(tmp_path)))
    fill(backend, range(100))
    for name, said in (("0" * 64, 0), ("1" * 64, 2**32 - 100)):
        with open(tmp_path / "packs" / name, "wb") as file:
            file.truncate(2**32 - FOOTER.size)
            file.seek(0, 2)
            file.write(FOOTER.pack(said, MAGIC))
    tracemalloc.start()
    try:
        backend = packed(LocalBackend(str(tmp_path)))
        assert backend.get(key(3), LIMIT) == value(3)
        with pytest.raises(CorruptionError, match=r"packs/[01]{64}.* more than the 536870912 that can be right"):
            backend.get(key(1000), LIMIT)
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()
