"""Frames that need other objects, beside collections, copies, writers and crashes: what is needed is always there."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from itertools import permutations
from unittest import mock

import pytest

from castore.care import repack
from castore.care.fsck import check
from castore.care.gc import Policy, collect
from castore.care.usage import usage
from castore.errors import CorruptionError
from castore.format.digest import Digest, digest_of
from castore.repository import Repository
from castore.store.backend import Backend, MemoryBackend
from castore.store.compress import pack
from castore.store.delta import pack_delta
from castore.store.object_keys import object_key
from castore.store.objects import ObjectStore
from castore.store.packs import PackedBackend, packed
from castore.store.trash import flush_restoring
from tests.care.test_copy import opened
from tests.care.test_gc import Clock, Disturbed, TwoSteps, aged
from tests.support.complete import check_complete
from tests.support.faults import FaultyBackend
from tests.support.jobs import ORIGIN
from tests.support.layouts import Layout, filled, flipped, forget, in_packs, loose, objects_of
from tests.support.sweep import Fault, sweep
from tests.support.users import (
    Rows,
    bases_of,
    check_bases,
    edit,
    make_rows,
    put_frames,
    some_bytes,
    store,
    store_at_once,
    stored_bytes,
)

NOW = Policy(0, 0, 0)
ROWS = make_rows(1200, 1)
LIMIT = 1 << 24


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pack is worth its place only if all of it is in use, and as small as it can be."""
    monkeypatch.setattr(repack, "UNUSED_SHARE", 1e-9)


def roots(place: Backend) -> dict[str, Digest]:
    repository = Repository(packed(place))
    return {name: repository.dataset(name).root for name in repository.refs.names()}


def healthy(place: MemoryBackend) -> int:
    """All names can be read in full, nothing is wrong, and no frame needs one that needs others; how many need some."""
    check_complete(Repository(packed(place.other())))
    found = check(place.other()).findings
    assert found.clean, found.listed
    return check_bases(place.other())


def gc(place: MemoryBackend, policy: Policy = NOW) -> None:
    collect(place.other(), policy, force=True)


def two_who_know(edits: int = 12) -> tuple[MemoryBackend, MemoryBackend]:
    """A place in which "two" is stored on "one", and one where "two" is alone."""
    place, alone = MemoryBackend(), MemoryBackend()
    store(in_packs(place), "one", ROWS)
    store(in_packs(place.other()), "two", edit(ROWS, 2, edits))
    store(in_packs(alone), "two", edit(ROWS, 2, edits))
    return place, alone


# ---- what nobody uses and something needs


@pytest.mark.usefixtures("eager")
def test_a_base_stays_as_long_as_it_is_needed() -> None:
    place, alone = two_who_know()
    assert healthy(place) > 10
    Repository(packed(place)).remove("one", ORIGIN)
    for _ in range(3):
        gc(place)
        assert healthy(place) > 10
    assert roots(place) == roots(alone)
    needed = {base for copies in bases_of(place).values() for bases in copies for base in bases}
    assert {object_key(base) for base in needed} - objects_of(alone), "only frames need them, and no name"
    Repository(packed(place)).remove("two", ORIGIN)
    gc(place)
    assert {object_key(base) for base in needed} >= objects_of(place), "what needed them was there until now"
    gc(place)
    assert objects_of(place) == set()


@pytest.mark.usefixtures("eager")
def test_a_base_that_is_stored_by_itself_stays_as_long_as_it_is_needed() -> None:
    """It is old, and what needs it was stored a moment ago: whoever did that looked at it, and may have died since."""
    clock = Clock()
    place = MemoryBackend(clock=clock)
    store(in_packs(place), "one", make_rows(50, 3))
    base = some_bytes(3000)
    child = base[:100] + b"x" + base[100:]
    put_frames(place, (digest_of(base), pack(base, u32_tail=None)), layout=loose)
    clock.offset_s = -7200.0
    put_frames(place, (digest_of(child), pack_delta(child, [(digest_of(base), base)], None)))
    clock.offset_s = 0.0
    for _ in range(2):
        gc(place, Policy(3 * 3600, 0, 0))
        assert ObjectStore(packed(place.other())).get(digest_of(child)) == child
    gc(place)
    gc(place)
    assert not {object_key(digest_of(data)) for data in (base, child)} & objects_of(place)
    healthy(place)


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("order", [*permutations(["one", "two", "three"])], ids="-".join)
def test_names_are_removed_in_any_order(order: tuple[str, ...]) -> None:
    place, _ = two_who_know()
    store(in_packs(place.other()), "three", edit(ROWS, 3, 12))
    for name in order:
        Repository(packed(place)).remove(name, ORIGIN)
        gc(place)
        healthy(place)
    gc(place)
    assert objects_of(place) == set()


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("name", ["one", "two", "three"])
def test_figures_add_up_and_are_kept(name: str) -> None:
    """What would be free without a name is free when all that needed it is gone: after two collections."""
    place, _ = two_who_know()
    store(in_packs(place.other()), "three", edit(ROWS, 3, 12))
    gc(place)
    done = usage(place.other(), [])
    rows = {row.name: row for row in done.names}
    stored = sum(entry.size_bytes for entry in packed(place.other()).entries("objects"))
    assert done.stored == done.in_use == done.freed == stored
    assert all(row.unique <= row.stored <= stored for row in done.names)
    assert rows["two"].unique < rows["one"].stored / 4, "it is stored on what one has"
    told = usage(place.other(), [name]).freed
    assert told == rows[name].freed
    Repository(packed(place)).remove(name, ORIGIN)
    for _ in range(2):
        gc(place)
    left = sum(entry.size_bytes for entry in packed(place.other()).entries("objects"))
    assert stored - left == told
    healthy(place)


def test_an_index_that_conceals_what_frames_need_is_told_and_mended() -> None:
    """A collection believes it, and would remove what they need."""
    place = MemoryBackend()
    store(in_packs(place), "one", ROWS)
    with mock.patch("castore.format.pack_writer.delta_of", return_value=None):
        store(in_packs(place.other()), "two", edit(ROWS, 2, 12))
    assert [finding.name for finding in check(place.other()).findings.listed] == ["pack-damaged"]
    assert check(place.other(), repair=True).findings.listed[0].repaired
    assert healthy(place) > 10
    Repository(packed(place.other())).remove("one", ORIGIN)
    for _ in range(2):
        gc(place)
        assert healthy(place) > 10


# ---- those who stored at once


@pytest.mark.parametrize(("users", "most"), [(2, 1.25), (3, 1.25), (5, 1.4)])
def test_users_who_stored_at_once(users: int, most: float) -> None:
    """The collection finds what no writer could; what it has left it leaves as it is."""
    one, place = MemoryBackend(), MemoryBackend()
    store(in_packs(one), "one", ROWS)
    variants = [edit(ROWS, 10 + number, 12) for number in range(users)]
    made = store_at_once([in_packs(place.other()) for _ in range(users)], variants)
    assert check_bases(place) == 0
    assert stored_bytes(place) > (1 + 0.5 * (users - 1)) * stored_bytes(one)
    gc(place)
    assert [*roots(place).values()] == made
    assert healthy(place) > 10
    assert stored_bytes(place) <= most * stored_bytes(one)
    before = place.snapshot()
    for _ in range(2):
        gc(place)
        assert {key: value for key, value in place.snapshot().items() if not key.startswith("clock")} == before


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7])
def test_a_collection_does_not_write_what_saves_nothing(share: float) -> None:
    """Relatives that share little are found, and then it is seen that they do not do: packs stay as they are."""
    rng = random.Random(5)
    other = make_rows(len(ROWS), 9)
    mixed = [mine if rng.random() < share else yours for mine, yours in zip(ROWS, other, strict=True)]
    place = MemoryBackend()
    store_at_once([in_packs(place.other()) for _ in range(2)], [ROWS, mixed])
    sizes = []
    seen = []
    for _ in range(4):
        gc(place)
        sizes.append(stored_bytes(place))
        seen.append({*place.list("packs")})
        healthy(place)
    assert seen[1] == seen[2] == seen[3]
    assert sizes == sorted(sizes, reverse=True)


def test_the_older_stays_by_itself() -> None:
    """So that collections at once agree about which is stored on which, and all are stored on one."""
    place = MemoryBackend()
    old = {}
    variants = [edit(ROWS, 20 + number, 12) for number in range(4)]
    for number, rows in enumerate(variants):
        store_at_once([in_packs(place.other())], [rows])
        repository = Repository(packed(place.other()))
        repository.tag("user-0", f"kept-{number}", ORIGIN)
        repository.remove("user-0", ORIGIN)
        old[number] = objects_of(place)
    gc(place)
    needed = {base for copies in bases_of(place).values() for bases in copies for base in bases}
    assert needed
    first = len([base for base in needed if object_key(base) in old[0]])
    assert first > 0.7 * len(needed)
    healthy(place)


def test_two_collections_at_once_lose_nothing() -> None:
    """One begins, ends, or both, at any moment of the other."""
    place = MemoryBackend()
    store_at_once([in_packs(place.other()) for _ in range(3)], [edit(ROWS[:500], 30 + n, 8) for n in range(3)])
    wanted, snapshot = roots(place), place.snapshot()
    rehearsal = FaultyBackend(aged(snapshot))
    collect(rehearsal, NOW, force=True)
    for n in range(1, len(rehearsal.calls) + 1, 3):
        inner = aged(snapshot)
        collect(Disturbed(inner, n, lambda inner=inner: gc(inner)), NOW, force=True)
        assert roots(inner) == wanted
        healthy(inner)


# ---- crashes


@pytest.mark.slow
@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("gone", ["", "user-0", "user-1"])
def test_a_fault_at_every_write_of_a_collection(gone: str) -> None:
    _sweep(gone, tuple(Fault), 1)


@pytest.mark.usefixtures("eager")
def test_a_death_at_every_write_of_a_collection() -> None:
    _sweep("user-1", (Fault.DIES,), 1)


def _sweep(gone: str, faults: tuple[Fault, ...], every: int) -> None:
    place = MemoryBackend()
    store_at_once([in_packs(place.other(), 30_000) for _ in range(3)], [edit(ROWS[:500], 40 + n, 8) for n in range(3)])
    if gone:
        Repository(packed(place)).remove(gone, ORIGIN)
    snapshot = place.snapshot()

    def job(backend: Backend) -> tuple[dict[str, Digest], bool]:
        collect(backend, NOW, force=True)
        collect(backend, NOW, force=True)
        return roots(backend), check_bases(backend) > 5

    done = sweep(job, lambda: aged(snapshot), faults=faults, every=every)
    assert done.operations.count("expire") >= 2


# ---- writers beside a collection


def _beside(act: Callable[[MemoryBackend], None], prepared: MemoryBackend, name: str, step: int) -> int:
    """Let a writer act at every so manieth call of a collection; how often what it named was then on relatives."""
    snapshot, policy = prepared.snapshot(), Policy(3600, 0, 0)
    rehearsal = FaultyBackend(aged(snapshot))
    collect(rehearsal, policy, force=True)
    on_relatives = 0
    for n in range(1, len(rehearsal.calls) + 2, step):
        inner = aged(snapshot)
        collect(Disturbed(inner, n, lambda inner=inner: act(inner.other())), policy, force=True)
        if n > len(rehearsal.calls):
            act(inner.other())
        assert Repository(packed(inner.other())).refs.current(name) is not None
        on_relatives += healthy(inner) > 0
        collect(inner.other(), policy, force=True)
        healthy(inner)
    return on_relatives


@pytest.mark.usefixtures("eager")
def test_a_writer_stores_on_what_a_collection_removes() -> None:
    """All that is stored is unused and old; somebody stores nearly the same while it goes."""
    place = MemoryBackend()
    store(in_packs(place, 60_000), "one", ROWS[:500])
    Repository(packed(place)).remove("one", ORIGIN)
    assert _beside(lambda inner: _store(inner, edit(ROWS[:500], 50, 5)), place, "mine", 1) > 3


@pytest.mark.usefixtures("eager")
def test_a_writer_stores_on_what_a_collection_writes_anew() -> None:
    place = MemoryBackend()
    store_at_once([in_packs(place.other(), 60_000) for _ in range(2)], [edit(ROWS[:500], 60 + n, 8) for n in range(2)])
    Repository(packed(place)).remove("user-1", ORIGIN)
    assert _beside(lambda inner: _store(inner, edit(ROWS[:500], 62, 5)), place, "mine", 2) > 3


@pytest.mark.usefixtures("eager")
def test_a_writer_takes_up_what_is_stored_on_what_nobody_uses() -> None:
    """What it takes up it renews; what that is stored on it does not, and the collection keeps it all the same."""
    place = MemoryBackend()
    store(in_packs(place), "one", ROWS[:500])
    store(in_packs(place.other()), "two", edit(ROWS[:500], 70, 8))
    for name in ("one", "two"):
        Repository(packed(place)).remove(name, ORIGIN)
    place = filled({key: value for key, value in place.snapshot().items() if not key.startswith("refs/")}, packed)
    assert _beside(lambda inner: _store(inner, edit(ROWS[:500], 70, 8)), place, "mine", 1) > 3


def _store(place: MemoryBackend, rows: Rows) -> None:
    store(in_packs(place), "mine", rows)


class PacksInTwoSteps(TwoSteps):
    """As ``TwoSteps``, of packs."""

    def expire(self, key: str, before_s: float) -> bool:
        return super().expire(key, before_s) if not key.startswith("packs/") else self._expire_pack(key, before_s)

    def _expire_pack(self, key: str, before_s: float) -> bool:
        old = any(entry.key == key and (entry.modified_s or 0) < before_s for entry in self.inner.entries("packs"))
        self._n -= 1
        if self._n == 0:
            self._act()  # type: ignore[operator]
        return old and self.inner.delete(key)


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_base_that_is_removed_while_something_is_stored_on_it(n: int) -> None:
    """Where age and removal are two steps: the pack is in the trash, readers find it, and it is given back."""
    place = MemoryBackend()
    store(in_packs(place, 20_000), "one", ROWS[:500])
    Repository(packed(place)).remove("one", ORIGIN)
    inner = aged(place.snapshot())
    policy = Policy(3600, 0, 0)
    collect(PacksInTwoSteps(inner, n, lambda: _store(inner.other(), edit(ROWS[:500], 50, 5))), policy, force=True)
    if Repository(packed(inner.other())).refs.current("mine") is None:
        pytest.skip("fewer packs")
    check_complete(Repository(packed(inner.other())))
    for _ in range(2):
        collect(PacksInTwoSteps(inner, 0, None), policy, force=True)
        check_complete(Repository(packed(inner.other())))
    flush_restoring(inner)


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("layout", [loose, in_packs], ids=["by itself", "in a pack"])
def test_a_base_in_the_trash_is_given_back(layout: Layout) -> None:
    """It was removed as something was stored on it, and no name reaches it: what needs it is all that tells of it."""
    place, alone = two_who_know()
    Repository(packed(place)).remove("one", ORIGIN)
    gc(place)
    needed = {base for copies in bases_of(place).values() for bases in copies for base in bases}
    base = next(base for base in sorted(needed) if object_key(base) not in objects_of(alone))
    removed = MemoryBackend()
    put_frames(removed, (base, pack(ObjectStore(packed(place.other())).get(base), u32_tail=None)), layout=layout)
    forget(place, object_key(base))
    for key, value in removed.snapshot().items():
        place.put(f"trash/{key}", value)
    place.flush()
    check_complete(Repository(packed(place.other())))
    clock = Clock()
    place.clock = clock
    for days in range(3):
        clock.offset_s = days * 24 * 3600.0
        gc(place, Policy(3600, 0, 0))
        assert healthy(place) > 10
    assert not [*place.list("trash")]


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("lost", [True, False], ids=["missing", "damaged"])
def test_a_frame_by_itself_stays_if_the_other_cannot_be_read(lost: bool) -> None:
    """A collection that was killed left both, and what the younger needs is not what it was."""
    place = MemoryBackend()
    made = store_at_once([in_packs(place.other()) for _ in range(2)], [ROWS, edit(ROWS, 2, 12)])
    old = {key: value for key, value in place.snapshot().items() if key.startswith("packs/")}
    gc(place)
    bases = sorted({base for copies in bases_of(place).values() for some in copies for base in some})
    kept = aged(old | place.snapshot())
    for base in bases:
        if lost:
            forget(kept, object_key(base))
        else:
            flipped(kept, object_key(base), 300)
    before = readable(kept)
    gc(kept)
    assert readable(kept) >= before
    assert made


def readable(place: MemoryBackend) -> set[str]:
    """The objects that can be had."""
    objects, found = ObjectStore(packed(place.other())), set()
    for key in objects_of(place):
        with suppress(CorruptionError):
            objects.get(Digest(bytes.fromhex(key[-64:])))
            found.add(key)
    return found


# ---- copies


@pytest.mark.parametrize("source_layout", [loose, in_packs], ids=["from loose", "from packs"])
@pytest.mark.parametrize("target_layout", [loose, in_packs], ids=["to loose", "to packs"])
@pytest.mark.parametrize("relatives", [False, True], ids=["empty", "with relatives"])
def test_a_copy_is_on_what_the_target_has(
    source_layout: Callable[[Backend], Backend], target_layout: Callable[[Backend], Backend], relatives: bool
) -> None:
    source, target = MemoryBackend(), MemoryBackend()
    store(source_layout(source), "one", ROWS)
    store(source_layout(source.other()), "two", edit(ROWS, 2, 12))
    store(target_layout(target), "theirs", edit(ROWS, 4, 12) if relatives else make_rows(20, 9))
    before = sum(entry.size_bytes for entry in packed(target.other()).entries("objects"))
    door = opened(target_layout(target.other()))
    copied = Repository(packed(source)).copy("two", door, "mine", ORIGIN)
    after = sum(entry.size_bytes for entry in packed(target.other()).entries("objects"))
    assert copied.sent_bytes == after - before
    assert roots(target)["mine"] == roots(source)["two"]
    on_relatives = healthy(target)
    if target_layout is in_packs and source_layout is in_packs:  # of what is stored by itself no features are known
        assert (on_relatives > 10) == relatives
    again = Repository(packed(target.other())).copy("mine", opened(in_packs(source.other())), "back", ORIGIN)
    assert roots(source)["back"] == roots(source)["two"]
    assert again.sent_bytes == 0, "all of it was there"
    healthy(source)


# ---- anything in any order


class Life:
    """Two repositories and what is done with them, drawn from a seed."""

    def __init__(self, seed: int, rows: int) -> None:
        self.rng = random.Random(seed)
        self.places = [MemoryBackend(), MemoryBackend()]
        self.base = make_rows(rows, seed)
        self.wanted: list[dict[str, tuple[Digest, Rows]]] = [{}, {}]
        self.deltas = 0
        self.done: list[str] = []
        for number, place in enumerate(self.places):
            self.write(place, self.wanted[number], f"start-{number}", self.base)

    def write(self, place: MemoryBackend, wanted: dict[str, tuple[Digest, Rows]], name: str, rows: Rows) -> None:
        layout = self.rng.choice([in_packs, in_packs, packed, lambda backend: in_packs(backend, 20_000)])
        real = PackedBackend.similar
        sees = self.rng.random() < 0.7  # what others store
        with mock.patch.object(PackedBackend, "similar", lambda door, some: real(door, some) if sees else []):
            wanted[name] = store(layout(place.other()), name, rows), rows

    def step(self, number: int) -> None:
        at = self.rng.randrange(2)
        place, wanted = self.places[at], self.wanted[at]
        what = self.rng.choice(["write", "write", "write", "remove", "gc", "gc", "copy"])
        self.done.append(what)
        if what == "write":
            rows = self.rng.choice([self.base, *(rows for _, rows in wanted.values())])
            cut = self.rng.randrange(len(rows) // 2)
            rows = self.rng.choice([rows, rows[cut:], rows + make_rows(20, number)])
            self.write(place, wanted, f"n{number}", edit(rows, number, self.rng.randrange(1, 12)))
        elif what == "remove" and wanted:
            name = self.rng.choice(sorted(wanted))
            Repository(packed(place.other())).remove(name, ORIGIN)
            del wanted[name]
        elif what == "gc":
            gc(place)
        elif what == "copy" and wanted:
            name = self.rng.choice(sorted(wanted))
            other = Repository(in_packs(self.places[1 - at].other()))
            Repository(packed(place.other())).copy(name, other, f"c{number}", ORIGIN)
            self.wanted[1 - at][f"c{number}"] = wanted[name]
        self.check()

    def check(self) -> None:
        for place, wanted in zip(self.places, self.wanted, strict=True):
            self.deltas += healthy(place)
            assert roots(place) == {name: root for name, (root, _) in wanted.items()}, self.done


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("seed", [0, 2, 3])
def test_anything_in_any_order(seed: int) -> None:
    """Names read as they were written, and nothing is stored on what is itself stored on something."""
    life = Life(seed, 200)
    for number in range(8):
        life.step(number)
    assert life.deltas


@pytest.mark.slow
@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("seed", range(100, 120))
def test_anything_in_any_order_for_long(seed: int) -> None:
    life = Life(seed, 400)
    for number in range(25):
        life.step(number)
    assert life.deltas


def test_features_travel_with_what_is_written_anew() -> None:
    """A later user finds relatives also after a collection, and what a repair stored does no harm."""
    place, _ = two_who_know()
    gc(place)
    before = stored_bytes(place)
    store(in_packs(place.other()), "three", edit(ROWS, 5, 12))
    assert stored_bytes(place) - before < 0.3 * before
    objects = ObjectStore(packed(place.other()))
    assert all(objects.features(digest) for digest in bases_of(place) if len(objects.get(digest)) > 3000)
