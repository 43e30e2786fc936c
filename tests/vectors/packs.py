"""Vectors of packs, and of frames that need other objects."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from castore.format.delta import delta_frame
from castore.format.digest import digest_hex, digest_of
from castore.format.pack import BASE_BYTES, FEATURE_BYTES, HEAD, MAGIC, OBJECT_KIND, ROW_BYTES, UNIT_KIND
from castore.format.pack_writer import Entry, entry_head, rebuilt
from castore.format.unit import Unit
from castore.store.pack_catalog import pack_key
from castore.store.records import seal
from tests.vectors.by_hand import in_one_block, match_block, raw_block, sized, windowed

Case = dict[str, Any]

ABC = b"the quick brown fox jumps over the lazy dog, "
DEF = b"while the small cat sleeps below the old tree"
LIKE_A_DICTIONARY = bytes.fromhex("37a430ec") + ABC
"""Bytes that begin as a dictionary of RFC 8878 with tables does, and are none."""


# ---- frames that need other objects


def on(bases: Iterable[bytes], body: bytes, tail: int | None = None) -> bytes:
    """A frame that needs objects of these bytes."""
    return delta_frame(tuple(map(digest_of, bases)), tail, body)


def stored(*objects: tuple[bytes, bytes]) -> list[list[str]]:
    """Objects with their frames, as a case names them."""
    return [[digest_of(data).hex(), frame.hex()] for data, frame in objects]


def raw(*objects: bytes) -> list[list[str]]:
    return stored(*((data, b"\x00" + data) for data in objects))


FOX = ABC[4:19] + b"!"
ON_ABC = on([ABC], sized(27) + match_block(len(ABC) - 4, 26, b"!"))
"""All of ``ABC`` from byte 4 to byte 29, and one more byte."""


def chain(length: int) -> tuple[bytes, bytes, list[list[str]]]:
    """A frame, what is in it, and its bases: as many as told need one another, the last of them none."""
    contents = [bytes([48 + i]) + ABC for i in range(length + 1)]
    frames = [b"\x00" + contents[0]]
    for below, content in pairwise(contents):
        body = sized(len(content)) + match_block(len(below), len(ABC), b"", content[:1])
        frames.append(on([below], body))
    return frames[-1], contents[-1], stored(*zip(contents[:-1], frames[:-1], strict=True))


def valid_deltas() -> list[Case]:
    small = struct.pack("<2I", 70_000, 5)
    split = struct.pack("<BBII", 2, 1, 0, 2) + in_one_block(struct.pack("<2H", 70_000 & 65535, 5) + b"\x01")
    across = (ABC + DEF)[30:64]
    cases = [
        ("delta, one raw block", on([ABC], in_one_block(b"xyz")), b"xyz", raw(ABC)),
        ("delta, bytes of its base", ON_ABC, ABC[4:30] + b"!", raw(ABC)),
        (
            "delta, bytes from the end of one base to the beginning of the next",
            on([ABC, DEF], sized(len(across) + 1) + match_block(len(ABC + DEF) - 30, len(across), b".")),
            across + b".",
            raw(DEF, ABC),
        ),
        (
            "delta, four bases",
            on([ABC, b"2", b"3", DEF], sized(30) + match_block(len(ABC + DEF) + 2, 30, b"")),
            ABC[:30],
            raw(ABC, b"2", b"3", DEF),
        ),
        (
            "delta, a base that begins as a dictionary with tables does",
            on([LIKE_A_DICTIONARY], sized(34) + match_block(len(LIKE_A_DICTIONARY), 33, b"!")),
            LIKE_A_DICTIONARY[:33] + b"!",
            raw(LIKE_A_DICTIONARY),
        ),
        (
            "delta, a base in a split frame, and a run of integers",
            on([small], in_one_block(small[4:] + small[:4]), 0),
            small[4:] + small[:4],
            stored((small, split)),
        ),
        ("delta, a hint that leads nowhere", on([ABC], in_one_block(b"x"), 4_000_000_001), b"x", raw(ABC)),
        ("delta, the largest window", on([ABC], windowed(3, 17 << 3) + raw_block(b"abc")), b"abc", raw(ABC)),
        ("delta, two bases one after the other", *chain(2)),
        ("delta, three bases one after the other", *chain(3)),
    ]
    return [
        {"name": name, "frame": frame.hex(), "data": data.hex(), "bases": bases} for name, frame, data, bases in cases
    ]


def invalid_deltas() -> list[Case]:
    body = in_one_block(b"xyz")
    good = on([ABC], body)
    deep, _, deep_bases = chain(4)
    with_dictionary = bytes.fromhex("28b52ffd21" + "07" + "03" + "190000") + b"abc"  # RFC 8878: one byte of its id
    no_size = b"\x28\xb5\x2f\xfd\x00\x58" + body[6:]
    too_large = struct.pack("<I", 2**24 + 1)
    itself = digest_of(b"xyz")
    cases: list[tuple[Any, ...]] = [
        ("delta without its header", b"\x04"),
        ("delta cut in its header", good[:5]),
        ("delta cut in its bases", good[:37]),
        ("delta without a zstd frame", good[:38]),
        ("delta on no base", delta_frame((), None, body)),
        ("delta on five bases", on([ABC, DEF, b"3", b"4", b"5"], body), raw(ABC, DEF, b"3", b"4", b"5")),
        ("delta on 255 bases", good[:1] + b"\xff" + good[2:]),
        ("delta on a base that is missing", good, raw(DEF)),
        ("delta on two bases of which one is missing", on([ABC, DEF], body), raw(ABC)),
        ("delta on a base without a byte", good, [[digest_of(ABC).hex(), ""]]),
        ("delta on a base that is cut short", good, stored((ABC, b"\x01" + body[:-1]))),
        ("delta on a base of an unknown codec", good, stored((ABC, b"\x05abc")), "unsupported-version"),
        ("delta on a base whose base is missing", on([FOX], body), stored((FOX, ON_ABC))),
        ("delta on four bases one after the other", deep, deep_bases),
        ("delta on itself", delta_frame((itself,), None, body), stored((b"xyz", delta_frame((itself,), None, body)))),
        ("delta that needs another dictionary", on([ABC], with_dictionary)),
        ("delta of bytes before its base", on([ABC], sized(27) + match_block(len(ABC) + 1, 26, b"!"))),
        ("delta of no content", on([ABC], in_one_block(b""))),
        ("delta of unknown content size", on([ABC], no_size)),
        ("delta that says less than it holds", on([ABC], sized(2) + body[6:])),
        ("delta that says more than it holds", on([ABC], sized(4) + body[6:])),
        ("delta that claims 16777217 bytes", on([ABC], sized(2**24 + 1, "I") + body[6:])),
        ("delta that claims 2**32 - 1 bytes", on([ABC], sized(2**32 - 1, "I") + body[6:])),
        ("delta on a base that claims 16777217 bytes", good, stored((ABC, b"\x02\x00" + too_large + bytes(4) + body))),
        ("delta with a window of 144 MiB", on([ABC], windowed(3, 17 << 3 | 1) + body[6:])),
        ("delta cut short", good[:-1]),
        ("delta with a byte behind it", good + b"\x00"),
        ("delta in two zstd frames", good + body),
        ("delta with a skippable frame first", on([ABC], bytes.fromhex("502a4d1800000000") + body)),
        ("zstd of bytes before it", b"\x01" + sized(27) + match_block(1, 26, b"!"), []),
    ]
    found = []
    for name, frame, *more in cases:
        bases = more[0] if more else raw(ABC)
        error = more[1] if len(more) > 1 else "corruption"
        found.append({"name": name, "frame": frame.hex(), "error": error, **({"bases": bases} if bases else {})})
    return found


# ---- packs


UNIT = Entry(UNIT_KIND, digest_of(b"a unit"), seal(Unit(1, b"", b"", b"", 0, [(0, "empty")], []).encode()))


def entry(data: bytes, frame: bytes | None = None, *features: int) -> Entry:
    """An object in a pack, in a frame of codec 0 unless another is given."""
    return Entry(OBJECT_KIND, digest_of(data), b"\x00" + data if frame is None else frame, features)


ONE, TWO = entry(ABC, None, 7, 1 << 31, 2**32 - 1), entry(DEF, b"\x01" + in_one_block(DEF), 0, 7)
DELTA = entry(ABC[4:30] + b"!", ON_ABC, 7)
LIKE_AN_INDEX = UNIT._replace(name=bytes(32))
"""The only row of an index that begins with this name reads as the head of an entry."""

MANY = (ONE, TWO, DELTA, UNIT)


def told(some: Iterable[Entry]) -> list[list[Any]]:
    """Entries as a case has them."""
    return [[kind, name.hex(), value.hex(), list(features)] for kind, name, value, features in some]


def parts(pack: bytes) -> tuple[bytes, bytes]:
    """The entries of a whole pack, and its index."""
    end = len(pack) - len(MAGIC) - 4
    size = int.from_bytes(pack[end : end + 4], "little")
    return pack[len(MAGIC) : end - size], pack[end - size : end]


def pack_of(entries: bytes, index: bytes, size: int | None = None, last: bytes = MAGIC, first: bytes = MAGIC) -> bytes:
    size = len(index) if size is None else size
    return first + entries + index + struct.pack("<I", size) + last


def in_a_pack(name: str, pack: bytes, sealed_by: bytes, **fields: Any) -> Case:
    """A pack under the name that its index gave it."""
    return {"name": name, "hex": pack.hex(), "key": pack_key(digest_hex(digest_of(sealed_by))), **fields}


def valid_packs() -> list[Case]:
    later = entry(ABC, b"\x01" + in_one_block(ABC), 9)
    both = Entry(UNIT_KIND, ONE.name, UNIT.value)
    most = entry(ABC, None, *range(1, 17))
    cases: list[tuple[str, list[Entry]]] = [
        ("nothing", []),
        ("an object", [entry(ABC)]),
        ("an object of no bytes", [entry(b"")]),
        ("an object with features", [ONE]),
        ("an object with 16 features", [most]),
        ("two objects that share a feature", [ONE, TWO]),
        ("a unit record", [UNIT]),
        ("an object and a unit record of one name", [both, ONE]),
        ("a delta frame and its base", [ONE, DELTA]),
        ("a delta frame before its base", [DELTA, ONE]),
        ("a delta frame on objects that are not in it", [entry(b"xyz", on([DEF, ABC], in_one_block(b"xyz")))]),
        ("a unit record and objects", list(MANY)),
        ("two entries of one name", [ONE, TWO, later]),
        ("an index that begins as an entry does", [LIKE_AN_INDEX]),
    ]
    return [valid_pack(name, entries) for name, entries in cases]


def valid_pack(name: str, entries: list[Entry]) -> Case:
    _, pack = rebuilt(entries)
    _, data = parts(pack)
    rows, features, bases, _ = HEAD.unpack_from(data)
    features_at = HEAD.size + rows * ROW_BYTES
    bases_at = features_at + features * FEATURE_BYTES
    sections = {
        "head": [data[: HEAD.size]],
        "rows": [data[HEAD.size + i * ROW_BYTES :][:ROW_BYTES] for i in range(rows)],
        "features": [data[features_at + i * FEATURE_BYTES :][:FEATURE_BYTES] for i in range(features)],
        "bases": [data[bases_at + i * BASE_BYTES :][:BASE_BYTES] for i in range(bases)],
    }
    found = {(one.kind, one.name): one.value for one in entries}
    return in_a_pack(
        name,
        pack,
        data,
        entries=told(entries),
        index={part: [row.hex() for row in some] for part, some in sections.items()},
        values=[[kind, name.hex(), value.hex()] for (kind, name), value in sorted(found.items())],
    )


def changed_row(index: bytes, row: int, at: int, value: bytes) -> bytes:
    at += HEAD.size + row * ROW_BYTES
    return index[:at] + value + index[at + len(value) :]


def invalid_packs() -> list[Case]:
    _, pack = rebuilt(MANY)
    entries, index = parts(pack)
    end = len(MAGIC + entries)

    def sealed(name: str, wrong: bytes) -> Case:
        return in_a_pack(name, pack_of(entries, wrong), wrong, error="corruption")

    def bad(name: str, data: bytes, error: str = "corruption") -> Case:
        return in_a_pack(name, data, index, error=error)

    row = HEAD.unpack_from(index)
    two = b"castore pack 2\n"
    return [
        bad("version 2", pack_of(entries, index, None, two, two), "unsupported-version"),
        bad("version 2 at the end", pack_of(entries, index, None, two), "unsupported-version"),
        bad("version 0 at the end", pack_of(entries, index, None, b"castore pack 0\n"), "unsupported-version"),
        bad("another end", pack_of(entries, index, None, b"castore pack 1 ")),
        bad("another end, and no digit", pack_of(entries, index, None, b"castore pack x\n")),
        bad("nothing", b""),
        bad("the magic alone", MAGIC),
        bad("cut in the first magic", pack[:7]),
        bad("cut in an entry", pack[: len(MAGIC) + 100]),
        bad("cut behind the entries", pack[:end]),
        bad("cut in the head of the index", pack[: end + 7]),
        bad("cut in the rows", pack[: end + HEAD.size + 30]),
        bad("cut in the tables behind them", pack[: end + len(index) - 3]),
        bad("cut behind the index", pack[: end + len(index)]),
        bad("cut in the size of the index", pack[: end + len(index) + 2]),
        bad("cut in the last magic", pack[:-1]),
        bad("a byte behind it", pack + b"\x00"),
        bad("a size of 0", pack_of(entries, index, 0)),
        bad("a size one too small", pack_of(entries, index, len(index) - 1)),
        bad("a size one too large", pack_of(entries, index, len(index) + 1)),
        bad("a size of more than there is", pack_of(entries, index, len(pack))),
        bad("a size of 2**32 - 1", pack_of(entries, index, 2**32 - 1)),
        bad("another row", pack_of(entries, changed_row(index, 1, 40, b"\xff"))),
        bad("another feature", pack_of(entries, index[: -BASE_BYTES - 1] + b"\x09" + index[-BASE_BYTES:])),
        bad("another base", pack_of(entries, index[:-1] + bytes([index[-1] ^ 1]))),
        bad("the index of another pack", pack_of(entries, parts(rebuilt([ONE])[1])[1])),
        sealed("an index of no bytes", b""),
        sealed("an index of 15 bytes", index[:15]),
        sealed("a row more than there is", HEAD.pack(row[0] + 1, *row[1:]) + index[HEAD.size :]),
        sealed("a feature fewer than there is", HEAD.pack(row[0], row[1] - 1, *row[2:]) + index[HEAD.size :]),
        sealed("2**32 - 1 rows", HEAD.pack(2**32 - 1, *row[1:]) + index[HEAD.size :]),
        sealed("2**32 - 1 bases", HEAD.pack(*row[:2], 2**32 - 1, row[3]) + index[HEAD.size :]),
        sealed("a value that begins in the magic", changed_row(index, 0, 33, struct.pack("<I", len(MAGIC) - 1))),
        sealed("a value that ends behind the entries", changed_row(index, 0, 33, struct.pack("<I", end - 3))),
        sealed("a value that begins behind them", changed_row(index, 0, 33, struct.pack("<I", end + 1))),
        sealed("a value of 2**32 - 1 bytes", changed_row(index, 0, 37, b"\xff" * 4)),
    ]


def lost_packs() -> list[Case]:
    """Packs whose index is damaged, and what is found in their entries."""
    _, pack = rebuilt(MANY)
    entries, index = parts(pack)
    end = len(MAGIC + entries)
    _, alike = rebuilt([LIKE_AN_INDEX])
    second = len(MAGIC) + len(entry_head(*ONE[:2], len(ONE.value), ONE.features)) + len(ONE.value)
    last = end - len(UNIT.value) - 38

    def put(at: int, value: bytes) -> bytes:
        return pack[:at] + value + pack[at + len(value) :]

    def lost(name: str, data: bytes, some: Iterable[Entry] = MANY, *, is_whole: bool = True) -> Case:
        return in_a_pack(name, data, index, entries=told(some), whole=is_whole)

    broken = changed_row(index, 1, 40, b"\xff")
    return [
        lost("another row", pack_of(entries, broken)),
        lost("no last magic", pack[: -len(MAGIC)]),
        lost("a size that is a lie", pack_of(entries, index, 3)),
        lost("no index", pack[:end]),
        lost("half an index", pack[: end + len(index) // 2]),
        in_a_pack(
            "an index that begins as an entry does",
            alike[:-1],
            parts(alike)[1],
            entries=told([LIKE_AN_INDEX]),
            whole=True,
        ),
        lost("a last entry cut short", pack[: end - 1], MANY[:3], is_whole=False),
        lost("a last entry cut in its head", pack[: last + 20], MANY[:3], is_whole=False),
        lost("an entry of an unknown kind", put(second, b"\x02")[:-1], MANY[:1], is_whole=False),
        lost("an entry of 17 features", put(second + 37, b"\x11")[:-1], MANY[:1], is_whole=False),
        lost("an entry of 2**32 - 1 bytes", put(second + 33, b"\xff" * 4)[:-1], MANY[:1], is_whole=False),
        lost("another first magic", put(13, b"2")[:-1], [], is_whole=False),
        lost("nothing", b"", [], is_whole=False),
    ]


def wrongly_sealed() -> list[Case]:
    """Packs whose index is the one with their name, and not the one that their entries make."""
    _, pack = rebuilt(MANY)
    entries, index = parts(pack)
    head = HEAD.unpack_from(index)
    rows_end = HEAD.size + head[0] * ROW_BYTES
    features_end = rows_end + head[1] * FEATURE_BYTES
    rows = [index[at : at + ROW_BYTES] for at in range(HEAD.size, rows_end, ROW_BYTES)]
    features = [index[at : at + FEATURE_BYTES] for at in range(rows_end, features_end, FEATURE_BYTES)]
    bases = [index[features_end:]]

    def sealed(name: str, rows: list[bytes], features: list[bytes], bases: list[bytes]) -> Case:
        data = HEAD.pack(len(rows), len(features), len(bases), head[3]) + b"".join((*rows, *features, *bases))
        return in_a_pack(name, pack_of(entries, data), data, made=pack_key(digest_hex(digest_of(index))))

    unknown = struct.pack(">II", 2**32 - 1, 9)
    return [
        sealed("rows that descend", rows[::-1], features, bases),
        sealed("a row twice", [rows[0], *rows], features, bases),
        sealed("an entry without a row", rows[:-1], features, bases),
        sealed("another check of a value", [rows[0][:-1] + bytes([rows[0][-1] ^ 1]), *rows[1:]], features, bases),
        sealed("features that descend", rows, features[::-1], bases),
        sealed("a feature of no row", rows, [*features, unknown], bases),
        sealed("features left out", rows, [], bases),
        sealed("a base left out", rows, features, []),
        sealed("a base of no row", rows, features, [*bases, struct.pack(">I", 9) + digest_of(b"no base")]),
    ]


def packs() -> dict[str, Any]:
    return {
        "about": "docs/format/packs.md. hex is a pack, stored under key. entries are [kind, name, value, features] in "
        "the order of the pack, values what is found by the index, index its bytes line by line. Of lost the index is "
        "damaged: entries are what is found without it, and whole says whether the index made of them has the name of "
        "the pack. wrongly_sealed have the index that they are named by, and their entries make that of made.",
        "valid": valid_packs(),
        "invalid": invalid_packs(),
        "lost": lost_packs(),
        "wrongly_sealed": wrongly_sealed(),
    }
