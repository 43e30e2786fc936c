"""Stored frames: every round trip, and every frame that must be refused."""

from __future__ import annotations

import os
import random
import struct
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from castore.errors import CorruptionError, InvalidInputError, UnsupportedVersionError
from castore.store import compress
from castore.store.compress import FRAME_OVERHEAD_MAX, pack, unpack

LIMIT = 1 << 24


def u32(values: list[int]) -> bytes:
    return struct.pack(f"<{len(values)}I", *values)


def both(frame: bytes) -> bytes:
    """Unpack in both ways, which must agree."""
    data = unpack(frame, LIMIT)  # numpy is imported by the encoder, so this is its way
    assert "numpy" in sys.modules
    if frame[0] == 2:
        _, bits, prefix, count = struct.unpack_from("<BBII", frame)
        planes = zstandard.decompress(frame[10:])
        assert compress._join_plain(planes, prefix, count, bits) == data
    if frame[0] == 3:
        _, prefix, count = struct.unpack_from("<BII", frame)
        streams = zstandard.decompress(frame[9:])
        large = sum(byte >= 224 for byte in streams[prefix : prefix + count])
        assert compress._join_short_plain(streams, prefix, count, large) == data
    return data


@given(prefix=st.binary(max_size=40), values=st.lists(st.integers(0, 2**32 - 1)), level=st.sampled_from([1, 3]))
def test_any_integers(prefix: bytes, values: list[int], level: int) -> None:
    data = prefix + u32(values)
    frame = pack(data, u32_tail=len(prefix), level=level)
    assert both(frame) == data
    assert len(frame) <= len(data) + FRAME_OVERHEAD_MAX


@given(
    prefix=st.binary(max_size=9),
    values=st.lists(st.integers(0, 2**17 - 1), max_size=70),
    top=st.sampled_from([1, 2**16, 2**17, 2**32]),
    times=st.integers(1, 50),
)
def test_repeating_integers_of_each_width(prefix: bytes, values: list[int], top: int, times: int) -> None:
    data = prefix + u32([value % top for value in values] * times)
    assert both(pack(data, u32_tail=len(prefix))) == data


@given(data=st.binary(max_size=2000) | st.builds(lambda a, n: a * n, st.binary(max_size=30), st.integers(0, 1000)))
def test_any_bytes(data: bytes) -> None:
    frame = pack(data, u32_tail=None)
    assert unpack(frame, len(data)) == data
    assert len(frame) <= len(data) + FRAME_OVERHEAD_MAX


@given(
    prefix=st.binary(max_size=9),
    values=st.lists(
        st.integers(0, 300)
        | st.integers(7900, 8000)
        | st.integers(0, 2**32 - 1)
        | st.sampled_from([223, 224, 7935, 7936]),
        max_size=70,
    ),
    small=st.integers(0, 400),
)
def test_integers_of_which_most_are_small(prefix: bytes, values: list[int], small: int) -> None:
    data = prefix + u32([i % 224 for i in range(small)] + values)
    assert both(pack(data, u32_tail=len(prefix))) == data


def test_integers_that_are_small_are_short() -> None:
    """Lengths of turns, as labels have them: fewer bytes than in planes, and the same bytes back."""
    draw = random.Random(5)
    turns = [int(draw.lognormvariate(3.5, 1)) for _ in range(900)]
    frame = pack(b"head!" + u32(turns), u32_tail=5)
    assert frame[:9] == struct.pack("<BII", 3, 5, 900)
    assert both(frame) == b"head!" + u32(turns)
    assert len(frame) < 0.85 * len(compress._pack_split(b"head!", np.array(turns, np.uint32)))


@pytest.mark.parametrize("count", [1, 1023, 1024, 1025, 5000])
def test_some_integers_decide_for_all(count: int) -> None:
    """Those that were not looked at may be of any size."""
    values = [3] * count
    values[count // 2] = 2**32 - 1
    assert both(pack(b"p" + u32(values), u32_tail=1)) == b"p" + u32(values)
    assert both(pack(b"p" + u32([2**32 - 1 - value for value in values]), u32_tail=1))[0:1] == b"p"


@pytest.mark.parametrize(("top", "bits"), [(2**16, 0), (2**17, 1), (2**17 + 1, 16), (2**32, 16)])
@pytest.mark.parametrize("count", [1, 7, 8, 9, 64, 1000])
def test_the_bits_above_16(top: int, bits: int, count: int) -> None:
    values = [random.Random(i % 5).randrange(top // 2, top) for i in range(count - 1)] + [top - 1]
    data = b"head!" + u32(values * 20)
    frame = pack(data, u32_tail=5)
    assert (frame[0], frame[1]) == (2, bits)
    assert both(frame) == data


def test_the_bytes_of_the_format() -> None:
    assert pack(b"P" + u32([1, 300] * 100), u32_tail=1)[:9] == bytes([3, 1, 0, 0, 0, 200, 0, 0, 0])
    assert zstandard.decompress(pack(b"P" + u32([1, 300] * 100), u32_tail=1)[9:]) == b"P" + b"\1\xe1" * 100 + b"," * 100
    data = b"P" + u32([0x1_0203, 0x0_0405, 0x1_0607] * 100)
    frame = pack(data, u32_tail=1)
    assert frame[:10] == bytes([2, 1, 1, 0, 0, 0, 0x2C, 1, 0, 0])
    planes = zstandard.decompress(frame[10:])
    assert planes[:7] == b"P" + bytes([3, 2, 5, 4, 7, 6])
    assert planes[601:] == bytes([0b01101101, 0b11011011, 0b10110110] * 12 + [0b01101101, 0b1011])
    assert pack(b"", u32_tail=None) == b"\0"
    assert pack(b"ab", u32_tail=None) == b"\0ab"
    assert pack(b"a" * 100, u32_tail=None)[:5] == b"\x01\x28\xb5\x2f\xfd"


@pytest.mark.parametrize(("data", "tail"), [(b"12345", 0), (b"1234", 5), (b"1234", -4), (b"1234", 2)])
def test_a_tail_that_is_none(data: bytes, tail: int) -> None:
    with pytest.raises(InvalidInputError):
        pack(data, u32_tail=tail)


def test_an_empty_tail() -> None:
    data = b"prefix " * 50
    assert unpack(pack(data, u32_tail=len(data)), LIMIT) == data


DICTIONARY = zstandard.train_dictionary(1000, [b"some words of it %d" % (i * i) for i in range(1000)])


def zstd(data: bytes, **options: object) -> bytes:
    return zstandard.ZstdCompressor(**options).compress(data)  # type: ignore[arg-type]


SPLIT = pack(b"abc" + u32([8001, 2**16 + 5, 9003] * 333), u32_tail=3)
SHORT = pack(b"abc" + u32([1, 2, 3, 2**16 + 5, 4, 300, 5] * 143), u32_tail=3)
STREAMS = zstandard.decompress(SHORT[9:])
PLANES = zstandard.decompress(SPLIT[10:])
BOMB = zstd(bytes(1 << 26))

BAD_FRAMES = {
    "nothing": b"",
    "unknown codec": b"\x04abc",
    "codec of a later version": b"\xff" + zstd(b"abc"),
    "zstd without body": b"\x01",
    "zstd with half a magic": b"\x01\x28\xb5",
    "not zstd": b"\x01" + b"x" * 100,
    "header only": b"\x01" + zstd(b"a" * 100)[:5],
    "cut": b"\x01" + zstd(os.urandom(100))[:-1],
    "trailing byte": b"\x01" + zstd(b"a" * 100) + b"\0",
    "two frames": b"\x01" + zstd(b"a" * 100) + zstd(b"b"),
    "skippable frame": b"\x01" + struct.pack("<II", 0x184D2A50, 4) + b"skip",
    "skippable frame first": b"\x01" + struct.pack("<II", 0x184D2A50, 4) + b"skip" + zstd(b"a" * 100),
    "skippable frame of the size of the next": b"\x01" + struct.pack("<II", 0x184D2A50, 4) + b"skip" + zstd(b"abcd"),
    "dictionary": b"\x01" + zstd(b"some words of it" * 9, dict_data=DICTIONARY),
    "no content size": b"\x01" + zstd(b"a" * 100, write_content_size=False),
    "content size 0": b"\x01" + zstd(b""),
    "content size 0 and more": b"\x01" + zstd(b"") + b"more",
    "bomb": b"\x01" + BOMB,
    "split of nothing": b"\x02",
    "split cut in its header": SPLIT[:9],
    "split without frame": SPLIT[:10],
    "split of 2 bits": SPLIT[:1] + b"\x02" + SPLIT[2:],
    "split of other bits": SPLIT[:1] + b"\0" + SPLIT[2:],
    "split, longer prefix": SPLIT[:2] + b"\x04" + SPLIT[3:],
    "split, fewer integers": SPLIT[:6] + struct.pack("<I", 998) + SPLIT[10:],
    "split, more integers": SPLIT[:6] + struct.pack("<I", 1000) + SPLIT[10:],
    "split, bits behind the last": SPLIT[:10] + zstd(PLANES[:-1] + bytes([PLANES[-1] | 0x80])),
    "split bomb in its header": struct.pack("<BBII", 2, 0, 0, 2**32 - 1) + zstd(b"a"),
    "split bomb in its prefix": struct.pack("<BBII", 2, 0, 2**32 - 1, 1) + zstd(b"a"),
    "split bomb in its frame": struct.pack("<BBII", 2, 0, 0, 10) + BOMB,
    "split, trailing": SPLIT + b"\0",
    "short of nothing": b"\x03",
    "short cut in its header": SHORT[:8],
    "short without frame": SHORT[:9],
    "short, longer prefix": SHORT[:1] + b"\x04" + SHORT[2:],
    "short, shorter prefix": SHORT[:1] + b"\x02" + SHORT[2:],
    "short, fewer integers": SHORT[:5] + struct.pack("<I", 1000) + SHORT[9:],
    "short, more integers": SHORT[:5] + struct.pack("<I", 1002) + SHORT[9:],
    "short, a byte less": SHORT[:9] + zstd(STREAMS[:-1]),
    "short, a byte more": SHORT[:9] + zstd(STREAMS + b"\0"),
    "short, all five bytes": SHORT[:9] + zstd(b"abc" + b"\xff" * 1001),
    "short bomb in its header": struct.pack("<BII", 3, 0, 2**32 - 1) + zstd(b"a"),
    "short bomb in its prefix": struct.pack("<BII", 3, 2**32 - 1, 1) + zstd(b"a"),
    "short bomb in its frame": struct.pack("<BII", 3, 0, 10) + BOMB,
    "short, trailing": SHORT + b"\0",
}


@pytest.mark.parametrize("frame", BAD_FRAMES.values(), ids=BAD_FRAMES.keys())
def test_bad_frames(frame: bytes) -> None:
    later = frame[:1] > b"\x03"  # a codec that there is not yet
    with pytest.raises(UnsupportedVersionError if later else CorruptionError) as caught:
        unpack(frame, LIMIT)
    assert "\n" not in str(caught.value)


def test_a_wrong_content_size_is_refused_before_memory_is_taken() -> None:
    honest = zstd(b"a" * 300)  # descriptor 0x60: content size in 2 bytes, less 256
    assert honest[4] == 0x60
    assert honest[5:7] == struct.pack("<H", 300 - 256)
    for claimed in (0, 43, 45, 65535):
        with pytest.raises(CorruptionError):
            unpack(b"\x01" + honest[:5] + struct.pack("<H", claimed) + honest[7:], LIMIT)
    # 8 bytes of content size: one that no machine has.
    huge = honest[:4] + bytes([0xE0]) + struct.pack("<Q", 2**62) + honest[7:]
    with pytest.raises(CorruptionError, match="not of 1 to"):
        unpack(b"\x01" + huge, LIMIT)


@pytest.mark.parametrize("frame", [pack(b"a" * 1000, u32_tail=None), pack(b"random", u32_tail=None), SPLIT, SHORT])
def test_the_limit_is_exact(frame: bytes) -> None:
    size = len(unpack(frame, LIMIT))
    assert len(unpack(frame, size)) == size
    with pytest.raises(CorruptionError):
        unpack(frame, size - 1)


STARTS = [b"", b"\0", b"\x01", b"\x02", b"\x03", b"\x01\x28\xb5\x2f\xfd", SPLIT[:14], SHORT[:13]]


@given(st.binary(max_size=200), st.sampled_from(STARTS))
def test_any_garbage_is_refused_or_small(garbage: bytes, start: bytes) -> None:
    try:
        assert len(unpack(start + garbage, 1000)) <= 1000
    except (CorruptionError, UnsupportedVersionError):
        return


def test_reading_and_importing_do_without_numpy() -> None:
    program = f"""
import sys
sys.path[:0] = {sys.path!r}
from castore.store import compress, local, marker, objects, refs, urls
heavy = {{"numpy", "fsspec", "zarr", "zstandard", "pathlib", "uuid", "concurrent.futures"}}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
data = compress.unpack({SPLIT!r}, 1 << 20)
assert len(data) == 3 + 4 * 999
assert len(compress.unpack({SHORT!r}, 1 << 20)) == 3 + 4 * 1001
assert "numpy" not in sys.modules
"""
    subprocess.run([sys.executable, "-S", "-c", program], check=True)


@pytest.mark.parametrize("joined", [1, 3, 64])
def test_short_integers_are_joined_some_at_a_time(monkeypatch: pytest.MonkeyPatch, joined: int) -> None:
    draw = random.Random(joined)
    data = b"head" + u32([draw.getrandbits(draw.choice([3, 8, 12, 14, 32])) for _ in range(200)])
    frame = compress._pack_short(data[:4], np.frombuffer(data[4:], "<u4"), 3)
    monkeypatch.setattr(compress, "_JOINED", joined)
    assert both(frame) == data


def test_a_short_frame_of_long_integers_takes_little_memory() -> None:
    """The worst that a frame can hold: it was ten times its bytes."""
    count = 1 << 20
    frame = b"\x03" + struct.pack("<II", 0, count) + zstd(b"\xff" * count + bytes(4 * count))
    tracemalloc.start()
    try:
        assert unpack(frame, 4 * count) == bytes(4 * count)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4.5 * 4 * count
