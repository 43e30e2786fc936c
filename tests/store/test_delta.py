"""Frames that need other objects: what they promise, what a wrong one may do, and where else a base is looked for."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import zstandard
from hypothesis import example, given
from hypothesis import strategies as st

from castore.care.fsck import check
from castore.errors import CastoreError, CorruptionError, MissingBaseError, NotFoundError
from castore.format.delta import BASES_DEPTH_MAX, delta_frame, delta_of
from castore.format.digest import Digest, digest_hex, digest_of
from castore.repository import Repository
from castore.store import frames as frames_module
from castore.store.backend import Backend, MemoryBackend
from castore.store.cache import ObjectCache
from castore.store.compress import pack, unpack
from castore.store.delta import DELTA_BYTES_MAX, pack_delta, unpack_delta
from castore.store.frames import Frames
from castore.store.object_keys import object_key
from castore.store.objects import ObjectStore
from castore.store.packs import PackedBackend, packed
from tests.support.complete import check_complete
from tests.support.faults import FaultyBackend
from tests.support.layouts import Layout, filled, flipped, forget, in_packs, loose
from tests.support.users import bases_of, edit, make_rows, put_frames, some_bytes, store

MIB = 1 << 20
LIMIT = 1 << 24


def plain(data: bytes) -> tuple[Digest, bytes]:
    return digest_of(data), pack(data, u32_tail=None)


def on(data: bytes, *bases: bytes) -> tuple[Digest, bytes]:
    return digest_of(data), pack_delta(data, [(digest_of(base), base) for base in bases], None)


def frames_of(*stored: tuple[Digest, bytes]) -> Frames:
    known = dict(stored)
    return Frames(lambda digests: [(digest, known.get(digest)) for digest in digests], 3, is_far=False)


def reader(place: MemoryBackend) -> ObjectStore:
    return ObjectStore(packed(place.other()))


BASE = some_bytes(3000)
NAME = digest_of(BASE)
CHILD = BASE[:1000] + b"edited" + BASE[1020:]

# ---- round trip


@given(
    st.lists(st.binary(max_size=400), min_size=1, max_size=4),
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 400), st.integers(0, 400), st.binary(max_size=20)), max_size=6
    ),
    st.none() | st.integers(0, 2**32 - 2),
)
def test_what_is_packed_is_unpacked(bases: list[bytes], edits: list[tuple[int, int, int, bytes]], tail: int) -> None:
    """Of whatever parts of its bases, and however little is shared."""
    data = b"".join(bases[which % len(bases)][lo:hi] + new for which, lo, hi, new in edits) or b"x"
    frame = pack_delta(data, [(digest_of(base), base) for base in bases], tail)
    delta = delta_of(frame)
    assert delta is not None
    assert delta.bases == tuple(map(digest_of, bases))
    assert delta.tail == tail
    assert unpack_delta(delta, bases, len(data)) == data
    with pytest.raises(CorruptionError, match="not of 1 to"):
        unpack_delta(delta, bases, len(data) - 1)


def test_a_relative_is_taken_only_if_it_saves_much() -> None:
    frames = frames_of(plain(BASE))
    made = frames.make_delta(CHILD, None, [digest_of(BASE)])
    assert made is not None
    assert len(made) < 100
    assert frames.open(made, len(CHILD)) == CHILD
    assert frames.make_delta(some_bytes(3000, 1), None, [digest_of(BASE)]) is None
    assert frames.make_delta(BASE[:200], None, [digest_of(BASE)]) is None, "too short"


@pytest.mark.parametrize("size", [1 << 18, 1 << 20, 1 << 22, DELTA_BYTES_MAX])
def test_what_is_shared_is_found_in_large_bases(size: int) -> None:
    base = some_bytes(size)
    data = base[: size // 3] + b"edited" + base[size // 3 :][:-6]
    assert len(pack_delta(data, [(digest_of(base), base)], None)) < size // 1000
    if 2 * size <= DELTA_BYTES_MAX:
        other = some_bytes(size, 1)
        two = [(digest_of(some), some) for some in (base, other)]
        assert len(pack_delta(data[: size // 2] + other[: size // 2], two, None)) < size // 1000


@pytest.mark.parametrize("size", [DELTA_BYTES_MAX, DELTA_BYTES_MAX + 1])
def test_large_objects_are_stored_by_themselves(size: int) -> None:
    base = bytes(size)
    frames = frames_of(plain(base))
    data = base[:-1] + b"x"
    assert frames.make_delta(data, None, [digest_of(base)]) is None or size == DELTA_BYTES_MAX


def test_nothing_is_stored_on_what_is_damaged() -> None:
    """A match with what is wrong would be wrong when that is mended."""
    wrong = pack(BASE[1:] + b"x", u32_tail=None)
    frames = frames_of((NAME, wrong))
    with pytest.raises(CorruptionError, match="damaged"):
        frames.make_delta(CHILD, None, [digest_of(BASE)])
    place = MemoryBackend()
    features = tuple(range(8))
    door = in_packs(place)
    door.put(object_key(digest_of(BASE)), wrong, features)
    door.flush()
    store = ObjectStore(in_packs(place.other()))
    store.put(digest_of(CHILD), CHILD, features=features)
    store.flush()
    assert bases_of(place)[digest_of(CHILD)] == [()]


# ---- hostile frames


def zstd_header(content_bytes: int | None, window_log: int | None = None) -> bytes:
    """The beginning of a zstd frame, and one last block of a byte a billion times."""
    if window_log is None:
        head = b"\x28\xb5\x2f\xfd" + bytes([0xE0]) + (content_bytes or 0).to_bytes(8, "little")
    else:
        flag = 0xC0 if content_bytes is not None else 0
        size = b"" if content_bytes is None else content_bytes.to_bytes(8, "little")
        head = b"\x28\xb5\x2f\xfd" + bytes([flag, (window_log - 10) << 3]) + size
    return head + ((128 * 1024 << 3) | 3).to_bytes(3, "little") + b"a"


BOMBS = {
    "nothing after the codec": b"\x04",
    "no base": delta_frame((), None, zstd_header(100)),
    "five bases": delta_frame((NAME,) * 5, None, zstd_header(100)),
    "255 bases": bytes([4, 255, 0, 0, 0, 0]),
    "bases that are cut off": delta_frame((NAME,), None, b"")[:-1],
    "no body": delta_frame((NAME,), None, b""),
    "no zstd": delta_frame((NAME,), None, b"x" * 50),
    "a skippable frame": delta_frame((NAME,), None, b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd"),
    "huge content": delta_frame((NAME,), None, zstd_header(1 << 62)),
    "a byte too much": delta_frame((NAME,), None, zstd_header(DELTA_BYTES_MAX + 1)),
    "no content": delta_frame((NAME,), None, zstd_header(0)),
    "content of unknown size": delta_frame((NAME,), None, zstd_header(None, 20)),
    "a huge window": delta_frame((NAME,), None, zstd_header(1000, 41)),
    "a window of 256 MiB": delta_frame((NAME,), None, zstd_header(1000, 28)),
    "more than it says": delta_frame((NAME,), None, zstd_header(1000)),
    "another dictionary": delta_frame(
        (NAME,), None, b"\x28\xb5\x2f\xfd" + bytes([0x23]) + (7).to_bytes(4, "little") + b"\x05" + b"\x29\x00\x00hello"
    ),
    "two frames": delta_frame((NAME,), None, 2 * on(CHILD, BASE)[1][38:]),
    "itself": delta_frame((digest_of(CHILD),), None, zstd_header(100)),
}


@pytest.mark.parametrize("frame", BOMBS.values(), ids=BOMBS)
def test_a_hostile_frame_is_refused_without_its_memory(frame: bytes) -> None:
    place = MemoryBackend()
    put_frames(place, plain(BASE))
    tracemalloc.start()
    try:
        frames = frames_of(plain(BASE), (digest_of(CHILD), frame))
        with pytest.raises(CorruptionError):
            frames.open(frame, LIMIT)
        place.put(object_key(digest_of(CHILD)), frame)  # by itself, where no writer would put it
        place.flush()
        store = reader(place)
        for read in (lambda: store.get(digest_of(CHILD)), lambda: [*store.get_many([digest_of(CHILD)])]):
            with pytest.raises(CorruptionError):
                read()
        assert "object-damaged" in {finding.name for finding in check(place.other()).findings.listed}
        assert tracemalloc.get_traced_memory()[1] < 4 * MIB
    finally:
        tracemalloc.stop()


def test_bases_together_are_bounded() -> None:
    """A reader holds them all at once."""
    bases = [some_bytes(DELTA_BYTES_MAX // 2 + 1, number) for number in range(4)]
    data = bases[0][:500] + bases[1][:500]
    place = MemoryBackend()
    two, four = on(data, *bases[:2]), on(data + b"x", *bases)
    put_frames(place, *map(plain, bases), two, four)
    for digest, _ in (two, four):
        with pytest.raises(CorruptionError, match="needs objects of more than 16777216 bytes"):
            reader(place).get(digest)
    writer = frames_of(*map(plain, bases))
    made = writer.make_delta(bases[0][:-1] + b"x", None, [*map(digest_of, bases[:2])])
    assert made is not None
    assert Frames.bases_of(made) == (digest_of(bases[0]),), "nor does anybody write it"


@given(st.binary(max_size=200), st.booleans())
@example(b"", False)
def test_any_bytes_are_a_frame_or_refused(body: bytes, is_headed: bool) -> None:
    frame = delta_frame((NAME,), None, body) if is_headed else b"\x04" + body
    frames = frames_of(plain(BASE))
    try:
        assert len(frames.open(frame, 5000)) <= 5000
    except CastoreError:
        return


def test_a_tail_that_is_none_is_a_hint_and_no_more() -> None:
    """It says how whoever stores the object anew might compress it, and nobody has verified it."""
    body = on(CHILD, BASE)[1][38:]
    for tail in (None, 0, 2, len(CHILD), len(CHILD) + 4, 2**32 - 2):
        place = MemoryBackend()
        frame = delta_frame((NAME,), tail, body)
        put_frames(place, plain(BASE), (digest_of(CHILD), frame))
        store = reader(place)
        assert store.get(digest_of(CHILD)) == CHILD
        assert unpack(store.own_frame(frame, CHILD), LIMIT) == CHILD
        other = ObjectStore(in_packs(MemoryBackend()))
        assert other.adopt(digest_of(CHILD), frame, CHILD, ())
        assert other.get(digest_of(CHILD)) == CHILD


def test_one_bit_changes_nothing_or_is_told() -> None:
    """Of a frame and of what it needs, wherever it is."""
    place = MemoryBackend()
    put_frames(place, plain(BASE), on(CHILD, BASE))
    key = {name: object_key(digest_of(data)) for name, data in (("base", BASE), ("child", CHILD))}
    frame = in_packs(place.other()).get(key["child"], LIMIT)
    assert frame is not None
    refused = 0
    for name, positions in (("child", range(len(frame))), ("base", range(0, len(BASE), 7))):
        for at in positions:
            flipped(place, key[name], at)
            for data in (CHILD, BASE):
                try:
                    assert reader(place).get(digest_of(data)) == data
                except CastoreError:
                    refused += 1
            flipped(place, key[name], at)
    assert refused > len(frame) // 2
    assert reader(place).get(digest_of(CHILD)) == CHILD


# ---- bases that are missing or damaged


@pytest.fixture
def users(tmp_path: Path) -> MemoryBackend:
    """Two who know of each other: the second is stored on the first."""
    place = MemoryBackend()
    rows = make_rows(400, 1)
    store(in_packs(place), "one", rows)
    store(in_packs(place.other()), "two", edit(rows, 2, 6))
    return place


def some_base(place: MemoryBackend) -> tuple[Digest, Digest]:
    """An object that another needs, of which no name means all; and that other."""
    for digest, copies in sorted(bases_of(place).items()):
        for bases in copies:
            if bases:
                return bases[0], digest
    raise AssertionError("nothing needs anything")


def test_a_missing_base_is_named_and_mended(users: MemoryBackend) -> None:
    copy = filled({key: users.get(key, LIMIT) or b"" for key in users.list("")}, packed)
    base, child = some_base(users)
    forget(users, object_key(base))
    with pytest.raises(MissingBaseError, match=f"needs object {digest_hex(base)}, which is missing"):
        reader(users).get(child)
    with pytest.raises(NotFoundError):
        reader(users).get(base)
    found = {(finding.name, finding.key) for finding in check(users.other()).findings.listed}
    assert ("base-missing", object_key(child)) in found
    assert ("object-missing", object_key(base)) in found
    done = check(users.other(), source=copy).findings
    assert {finding.repaired for finding in done.listed} == {True}, done.listed
    assert check(users.other()).findings.clean
    check_complete(Repository(packed(users.other())))


def test_a_missing_base_without_a_copy_stays_named(users: MemoryBackend) -> None:
    base, child = some_base(users)
    forget(users, object_key(base))
    empty = MemoryBackend()
    store(in_packs(empty), "other", make_rows(10, 9))
    check(users.other(), source=empty)
    names = {(finding.name, finding.key) for finding in check(users.other()).findings.listed}
    assert ("base-missing", object_key(child)) in names


@pytest.mark.parametrize("layout", [loose, in_packs], ids=["loose", "in another pack"])
def test_a_damaged_base_that_is_whole_elsewhere(users: MemoryBackend, layout: Layout) -> None:
    base, child = some_base(users)
    wanted, whole = reader(users).get(child), reader(users).get(base)
    flipped(users, object_key(base), 200)
    with pytest.raises(CorruptionError):
        reader(users).get(child)
    put_frames(users, plain(whole), layout=layout)
    for first, second in ((child, base), (base, child)):
        store = reader(users)
        assert {first: store.get(first), second: store.get(second)} == {child: wanted, base: whole}
    assert dict(reader(users).get_many([child, base])) == {child: wanted, base: whole}
    check_complete(Repository(packed(users.other())))


def test_a_damaged_child_that_is_whole_elsewhere() -> None:
    place = MemoryBackend()
    put_frames(place, plain(BASE), on(CHILD, BASE))
    flipped(place, object_key(digest_of(CHILD)), 50)
    with pytest.raises(CorruptionError):
        reader(place).get(digest_of(CHILD))
    put_frames(place, plain(BASE + b"2"), on(CHILD, BASE + b"2"))
    assert reader(place).get(digest_of(CHILD)) == CHILD


def test_storing_again_mends_a_damaged_base(users: MemoryBackend) -> None:
    base, child = some_base(users)
    wanted, whole = reader(users).get(child), reader(users).get(base)
    flipped(users, object_key(base), 200)
    store = ObjectStore(in_packs(users.other()))
    store.put(base, whole, features=store.features(base))
    store.flush()
    assert bases_of(users)[base] == [(), ()], "others need it"
    assert reader(users).get(child) == wanted


# ---- frames that need each other


def cycle(length: int) -> list[tuple[bytes, tuple[Digest, bytes]]]:
    """Objects of which each is stored on the next, and the last on the first."""
    data = [some_bytes(600, 5) + number.to_bytes(2, "little") for number in range(length)]
    return [(data[at], on(data[at], data[(at + 1) % length])) for at in range(length)]


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 300])
def test_frames_that_need_each_other_are_refused(length: int) -> None:
    place = MemoryBackend()
    put_frames(place, *(frame for _, frame in cycle(length)))
    store = reader(place)
    for data, _ in cycle(length)[:5]:
        with pytest.raises(CorruptionError):
            store.get(digest_of(data))
    with pytest.raises(CorruptionError):
        [*store.get_many(digest_of(data) for data, _ in cycle(length))]


@pytest.mark.parametrize("layout", [loose, in_packs], ids=["loose", "in a pack"])
@pytest.mark.parametrize("length", [1, 2, 3])
def test_frames_that_need_each_other_are_read_if_one_is_there_by_itself(length: int, layout: Layout) -> None:
    for which in range(length):
        place = MemoryBackend()
        put_frames(place, *(frame for _, frame in cycle(length)))
        put_frames(place, plain(cycle(length)[which][0]), layout=layout)
        for data, _ in cycle(length):
            assert reader(place).get(digest_of(data)) == data
        store = reader(place)
        assert [data for _, data in store.get_many(digest_of(data) for data, _ in cycle(length))] == [
            data for data, _ in cycle(length)
        ]


def chain(links: int) -> tuple[MemoryBackend, list[bytes]]:
    """Objects of which each is stored on the one before; the first by itself."""
    data = [some_bytes(600, 6) + bytes([number % 256]) * 8 for number in range(links + 1)]
    place = MemoryBackend()
    put_frames(place, plain(data[0]), *(on(data[at], data[at - 1]) for at in range(1, links + 1)))
    return place, data


def test_three_links_are_followed_and_no_more() -> None:
    assert BASES_DEPTH_MAX == 3
    place, data = chain(3)
    for some in data[::-1]:
        assert reader(place).get(digest_of(some)) == some
    for links in (4, 5, 250):
        place, data = chain(links)
        with pytest.raises(CorruptionError):
            reader(place).get(digest_of(data[-1]))
        assert reader(place).get(digest_of(data[3])) == data[3]


def test_many_bases_of_bases_are_opened_once() -> None:
    """However often they are named: what is opened is bounded."""
    data = [some_bytes(600, 7) + bytes([number]) for number in range(4)]
    middle = [some_bytes(600, 7) + b"m" + bytes([number]) for number in range(4)]
    place = MemoryBackend()
    put_frames(place, *map(plain, data), *(on(each, *data) for each in middle), on(CHILD, *middle))
    asked: list[Digest] = []
    store = reader(place)
    real = store._frames._fetch

    def fetch(digests: Iterable[Digest]) -> Iterable[tuple[Digest, bytes | None]]:
        asked.extend(wanted := [*digests])
        return real(wanted)

    store._frames._fetch = fetch
    assert store.get(digest_of(CHILD)) == CHILD
    assert len(asked) == len(set(asked)) == 8


# ---- what is kept, and what is asked for


def test_bases_at_hand_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames_module, "_BASES_BYTES", 10_000)
    place = MemoryBackend()
    bases = [some_bytes(3000, 100 + number) for number in range(20)]
    put_frames(place, *map(plain, bases), *(on(base[:-5] + b"child", base) for base in bases))
    store = reader(place)
    for _ in range(2):
        for base in bases:
            assert store.get(digest_of(base[:-5] + b"child")) == base[:-5] + b"child"
            assert store._frames._bases.bytes <= 10_000


class Far(FaultyBackend):
    """A place of which every request costs a round trip, and several are answered together."""

    is_far = True

    def __init__(self, inner: Backend) -> None:
        super().__init__(inner)
        self.rounds: list[list[object]] = []

    def get_parts(self, parts):  # type: ignore[no-untyped-def]
        wanted = [*parts]
        if wanted:
            self.rounds.append(wanted)
        return super().get_parts(wanted)


def far_reads(far: Far) -> int:
    return sum(operation in ("get", "get_part") for operation, _ in far.calls)


def test_bases_of_a_window_are_fetched_together() -> None:
    place = MemoryBackend()
    bases = [some_bytes(3000, 200 + number) for number in range(40)]
    children = [base[:-5] + b"child" for base in bases]
    put_frames(place, *map(plain, bases))
    put_frames(place, *(on(child, base) for child, base in zip(children, bases, strict=True)))
    far = Far(place.other())
    store = ObjectStore(packed(far))
    store.has(digest_of(children[0]))  # the indexes are read
    before = far_reads(far)
    assert [data for _, data in store.get_many(map(digest_of, children))] == children
    assert far_reads(far) - before <= 3, "one request for neighbours in a pack, and one for what 32 of them need"


def test_frames_that_wait_for_bases_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """In bytes, and not only by how many they are."""
    monkeypatch.setattr(frames_module, "_TOGETHER_BYTES", 10_000)
    taken = 0

    def read() -> Iterator[tuple[int, bytes]]:
        nonlocal taken
        for taken in range(1, 21):
            yield taken, pack(some_bytes(3000, taken), u32_tail=None)

    assert next(iter(frames_of().with_bases(read())))[0] == 1
    assert taken == 4
    assert [number for number, _ in frames_of().with_bases(read())] == [*range(1, 21)]


def test_the_cache_holds_frames_and_what_they_need(tmp_path: Path) -> None:
    place = MemoryBackend()
    bases = [some_bytes(3000, 300 + number) for number in range(10)]
    children = [base[:-5] + b"child" for base in bases]
    put_frames(place, *map(plain, bases))
    put_frames(place, *(on(child, base) for child, base in zip(children, bases, strict=True)))
    reads = []
    for together in (True, True, False):
        far = Far(place.other())
        cache = ObjectCache(tmp_path / "cache", 10 * MIB)
        store = ObjectStore(PackedBackend(far, cache=cache), cache=cache)
        store.has(digest_of(children[0]))
        before = far_reads(far)
        if together:
            assert [data for _, data in store.get_many(map(digest_of, children))] == children
        else:
            assert [store.get(digest_of(child)) for child in children] == children
        reads.append(far_reads(far) - before)
    assert reads[0] > 0
    assert reads[1:] == [0, 0], "a second reader asks for nothing"


def test_a_wrong_base_in_the_cache_is_read_again(tmp_path: Path) -> None:
    place = MemoryBackend()
    put_frames(place, plain(BASE), on(CHILD, BASE))
    for wrong in (pack(BASE[1:] + b"x", u32_tail=None), b"", b"\x09", on(BASE, CHILD)[1]):
        cache = ObjectCache(tmp_path / "cache", 10 * MIB)
        cache.put(object_key(NAME), wrong)
        cache.put(object_key(digest_of(CHILD)), on(CHILD, BASE)[1])
        store = ObjectStore(PackedBackend(Far(place.other()), cache=cache), cache=cache)
        assert store.get(digest_of(CHILD)) == CHILD
        assert store.get(NAME) == BASE


def test_zstandard_takes_no_more_than_a_frame_says() -> None:
    """What the limits above rest on: content is allocated as the header says, and no more is decoded."""
    body = zstandard.ZstdCompressor().compress(bytes(MIB))
    lying = body[:4] + body[4:5] + body[5:].replace(MIB.to_bytes(4, "little"), (1000).to_bytes(4, "little"), 1)
    delta = delta_of(delta_frame((NAME,), None, lying))
    assert delta is not None
    with pytest.raises(CorruptionError):
        unpack_delta(delta, [BASE], LIMIT)
