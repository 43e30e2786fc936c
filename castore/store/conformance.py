"""What every backend promises, as checks on a live place: for the tests, and for ``castore check-backend``.

The means of a check, and what it must do, are in ``conformance_means``; the checks of reading many values or parts of
values are in ``conformance_reads``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

from castore.errors import BackendError, CorruptionError, InvalidInputError
from castore.store.atomic_create import RACERS, race
from castore.store.conformance_means import LIMIT, BrokenPromiseError, Check, StorePlace, refuses, same
from castore.store.conformance_reads import (
    bad_parts,
    get_many,
    get_many_is_bounded,
    get_part,
    get_part_from_the_end,
    get_parts,
    get_parts_is_bounded,
)

RACES = 10

BAD_KEYS = [
    "", "/", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "a/./b", ".a", "a/.b", "a\\b", "a\nb", "a\0", "a\x7f", "ä",
    "a" * 256, "/".join(["a" * 100] * 11),
]  # fmt: skip
# With the folder before it the longest is near S3's limit of 1024 bytes.
GOOD_KEYS = ["a", "b/c", "b-c", "b/c.d/e", "A+B_c@{}", "0" * 255, "/".join(["d" * 79] * 10)]


def absent(place: StorePlace) -> None:
    """What was not stored is not there."""
    backend = place.open()
    same(backend.get("a/b", LIMIT), None, "the value that was never stored")
    for name, ask in (("has", backend.has), ("touch", backend.touch), ("delete", backend.delete)):
        same(ask("a/b"), False, f"{name} of a value that was never stored")
    same([*backend.list("")], [], "the listing of nothing")
    same([*backend.list("a")], [], "the listing of a folder of nothing")
    backend.flush()


def put_flush_get(place: StorePlace) -> None:
    """A value that was put is read as it was, by its writer at once and by others after a flush."""
    for name, data in {"a/empty": b"", "a/one": b"x", "a/large": bytes(range(256)) * 1000}.items():
        backend = place.open()
        backend.put(name, data)
        same(backend.get(name, LIMIT), data, "the value just put")
        same(backend.has(name), True, "whether the value just put is there")
        same([key for key in backend.list("") if key == name], [name], "the listing after a put")
        backend.flush()
        same(backend.get(name, LIMIT), data, "the value after a flush")
        same(place.raw_get(name), data, "the stored bytes")
        same(place.open().get(name, LIMIT), data, "the value as another reads it")


def reads_what_is_there(place: StorePlace) -> None:
    """What another has stored meanwhile is read, not what was put before."""
    backend = place.open()
    backend.put("a", b"old")
    backend.flush()
    place.raw_put("a", b"newer")
    same(backend.get("a", LIMIT), b"newer", "the value that another stored")
    same([*backend.list("")], ["a"], "the listing")


def put_replaces(place: StorePlace) -> None:
    """The last put of a key counts."""
    backend = place.open()
    for data in (b"first, longer", b"second", b"third"):
        backend.put("a", data)
        same(backend.get("a", LIMIT), data, "the value just put")
    backend.flush()
    same(place.raw_get("a"), b"third", "the stored bytes")
    backend.put("a", b"fourth")
    backend.flush()
    same(place.raw_get("a"), b"fourth", "the stored bytes after another flush")


def put_copies(place: StorePlace) -> None:
    """A caller may change a buffer after it was put."""
    backend = place.open()
    data = bytearray(b"abc")
    backend.put("a", data)  # type: ignore[arg-type]
    data[:] = b"xyz"
    backend.flush()
    same(place.raw_get("a"), b"abc", "the stored bytes")


def many_puts(place: StorePlace) -> None:
    """A hundred puts and one flush store a hundred values."""
    backend = place.open()
    data = {f"o/{i % 7}/{i}": b"%d" % i for i in range(100)}
    for key, value in data.items():
        backend.put(key, value)
    backend.flush()
    same({key: place.raw_get(key) for key in data}, data, "the stored values")
    same([*place.open().list("")], sorted(data), "the listing")


def size_limit(place: StorePlace) -> None:
    """A value larger than its reader permits is refused."""
    backend = place.open()
    backend.put("a", b"12345")
    for _ in range(2):
        same(backend.get("a", 5), b"12345", "the value within the limit")
        refuses(CorruptionError, lambda: backend.get("a", 4), "to read more than permitted")
        backend.flush()


def create_once(place: StorePlace) -> None:
    """A second create of a key is refused and changes nothing."""
    backend, other = place.open(), place.open()
    same(backend.create("r/1", b"first"), True, "the answer to the first create")
    same(place.raw_get("r/1"), b"first", "the created value")
    same(other.create("r/1", b"second"), False, "the answer to the second create: the condition is ignored")
    same(backend.create("r/1", b"first"), False, "the answer to a create of the same bytes")
    same(place.raw_get("r/1"), b"first", "the value after creates that were refused")
    same(other.create("r/2", b""), True, "the answer to the create of an empty value")
    same(backend.get("r/2", LIMIT), b"", "the empty value")
    same([*backend.list("")], ["r/1", "r/2"], "the listing")


def create_after_put(place: StorePlace) -> None:
    """A create is refused after a put, and accepted after a delete."""
    backend = place.open()
    backend.put("a", b"put")
    same(backend.create("a", b"created"), False, "the answer to a create after an own put")
    backend.flush()
    same(place.open().create("a", b"created"), False, "the answer to a create after a put by another")
    same(backend.delete("a"), True, "the answer to a delete")
    same(place.open().create("a", b"created"), True, "the answer to a create after a delete")


def create_race(place: StorePlace) -> None:
    """Of sixteen creates of one key at the same time exactly one is accepted."""
    backends = [place.open() for _ in range(RACERS)]
    for round_ in range(RACES):
        won = race(backends, f"r/{round_}")
        same(len(won), 1, f"the number of creates that were accepted in round {round_ + 1}")
        same(place.raw_get(f"r/{round_}"), won[0], "the value after a race")


def touch_keeps(place: StorePlace) -> None:
    """A touch changes no value."""
    backend = place.open()
    backend.put("a", b"x")
    for _ in range(2):
        same(backend.touch("a"), True, "the answer to a touch")
        backend.flush()
    same(place.raw_get("a"), b"x", "the value after a touch")


def touch_many(place: StorePlace) -> None:
    """Many values are touched in the order asked, and each is told to be there or not."""
    backend = place.open()
    data = {f"o/{i:03d}": b"%d" % i for i in range(50)}
    for key, value in data.items():
        backend.put(key, value)
    asked = [*reversed(data), "o/none", "o/007"]
    for _ in range(2):
        same([*backend.touch_many(iter(asked))], [(key, key in data) for key in asked], "the answers")
        backend.flush()
    same([*place.open().get_many(data, LIMIT)], [*data.items()], "the values after a touch")
    same(next(iter(backend.touch_many(asked))), ("o/049", True), "the first answer")  # a caller may stop there
    same(backend.touch("o/049"), True, "the answer to a touch after many")
    backend.flush()


def ages(place: StorePlace) -> None:
    """A touch makes a value younger, and no other."""
    backend = place.open()
    for key in ("a", "b"):
        backend.put(key, b"x")
    backend.flush()
    before = {entry.key: entry.modified_s or 0 for entry in backend.entries("")}
    time.sleep(1.1)  # some stores tell whole seconds
    other = place.open()
    same(other.touch("a"), True, "the answer to a touch")
    other.flush()
    after = {entry.key: entry.modified_s or 0 for entry in backend.entries("")}
    same(after["b"], before["b"], "the time of a value that was not touched")
    if not 0 < before["a"] < after["a"] < before["a"] + 60:
        raise BrokenPromiseError(f"the time of a value was {before['a']} and is {after['a']} after a touch")


def delete_removes(place: StorePlace) -> None:
    """What is deleted is gone for everybody."""
    backend = place.open()
    backend.put("a/b", b"x")
    same(backend.delete("a/b"), True, "the answer to a delete before a flush")
    same(backend.has("a/b"), False, "whether a deleted value is there")
    backend.flush()
    same(place.raw_get("a/b"), None, "the stored bytes after a delete")
    backend.put("a/b", b"x")
    backend.flush()
    backend.put("a/b", b"y")
    same(backend.delete("a/b"), True, "the answer to a delete of a value that was put twice")
    same(backend.delete("a/b"), False, "the answer to a second delete")
    backend.flush()
    same(place.raw_get("a/b"), None, "the stored bytes after a delete")
    same([*backend.list("")], [], "the listing after a delete")


def expire_spares_the_young(place: StorePlace) -> None:
    """Only a value older than a given time is expired."""
    backend = place.open()
    same(backend.expire("o/a", 2.0**31), False, "the answer to expiring what is not there")
    for key in ("o/a", "o/b"):
        backend.put(key, key.encode())
    backend.flush()
    stored = min(entry.modified_s or 0 for entry in backend.entries(""))
    same(backend.expire("o/a", stored), False, "the answer to expiring a value of that moment")
    same(backend.expire("o/a", stored - 1000), False, "the answer to expiring a younger value")
    same(place.open().get("o/a", LIMIT), b"o/a", "the spared value")
    same(place.open().expire("o/a", stored + 1000), True, "the answer to expiring an older value")
    same(place.open().expire("o/a", stored + 1000), False, "the answer to expiring it again")
    same(place.raw_get("o/a"), None, "the stored bytes of an expired value")
    same(place.open().get("o/a", LIMIT), None, "an expired value")
    same(backend.touch("o/a"), False, "the answer to a touch of an expired value")
    same([*backend.list("")], ["o/b"], "the listing")


def list_order(place: StorePlace) -> None:
    """A listing has what is below a prefix, each key once, in ascending order."""
    backend = place.open()
    keys = ["a-b", "a/b-c", "a/b/z", "a0", "a/c/d/e", "ab/c", "b"]
    for key in keys[:4]:
        backend.put(key, b"")
    backend.flush()
    for key in keys[4:]:
        backend.put(key, b"")
    same([*backend.list("")], sorted(keys), "the listing of everything")
    same([*backend.list("a")], sorted(key for key in keys if key.startswith("a/")), "the listing of a folder")
    same([*backend.list("a/b")], ["a/b/z"], "the listing of an inner folder")
    with suppress(BackendError):  # a folder is wanted, and this is none
        same([*backend.list("a0")], [], "the listing below a value")
    same([*backend.list("z/z")], [], "the listing of an absent folder")
    backend.put(keys[0], b"again")
    same([*backend.list("")], sorted(keys), "the listing after a value was replaced")


def list_details(place: StorePlace) -> None:
    """A detailed listing has the sizes."""
    backend = place.open()
    data = {"a/b": b"12", "a/c/d": b"", "a-b": b"345"}
    for key, value in data.items():
        backend.put(key, value)
    for _ in range(2):
        found = {entry.key: entry.size_bytes for entry in backend.entries("")}
        same([*found], sorted(data), "the keys")
        same(found, {key: len(value) for key, value in data.items()}, "the sizes")
        same([entry.key for entry in backend.entries("a")], ["a/b", "a/c/d"], "the keys of a folder")
        backend.flush()
    same([*backend.entries("z")], [], "the listing of an absent folder")
    refuses(InvalidInputError, lambda: [*backend.entries("../a")], "a prefix that is no key")


def no_foreign_names(place: StorePlace) -> None:
    """A listing shows no name that is not a key."""
    place.raw_put("a/b", b"x")
    for name in (".hidden", "a/.nfs0001", "a/b\\c", "ä/b", "a/.d/e"):
        place.raw_put(name, b"foreign")
    same([*place.open().list("")], ["a/b"], "the listing")
    same([*place.open().list("a")], ["a/b"], "the listing of a folder")


def bad_keys(place: StorePlace) -> None:
    """What is not a key is refused by every operation."""
    backend = place.open()
    for key in BAD_KEYS:
        operations: dict[str, Callable[[str], object]] = {
            "get": lambda key: backend.get(key, LIMIT),
            "put": lambda key: backend.put(key, b""),
            "create": lambda key: backend.create(key, b""),
            "has": backend.has,
            "touch": backend.touch,
            "delete": backend.delete,
            "expire": lambda key: backend.expire(key, 0),
            "get_many": lambda key: [*backend.get_many([key], LIMIT)],
            "get_part": lambda key: backend.get_part(key, 0, 1),
            "get_parts": lambda key: [*backend.get_parts([(key, 0, 1)])],
            "touch_many": lambda key: [*backend.touch_many([key])],
        }
        if key:  # everything is listed by an empty prefix
            operations["list"] = backend.list
        for name, operation in operations.items():
            refuses(InvalidInputError, lambda operation=operation, key=key: operation(key), f"to {name} {key[:20]!r}")  # type: ignore[misc]


def good_keys(place: StorePlace) -> None:
    """Every key is stored under its own name."""
    backend = place.open()
    for key in GOOD_KEYS:
        backend.put(key, key.encode())
    backend.flush()
    same({key: place.raw_get(key) for key in GOOD_KEYS}, {key: key.encode() for key in GOOD_KEYS}, "the values")
    same([*place.open().list("")], sorted(GOOD_KEYS), "the listing")


def value_where_a_folder_is(place: StorePlace) -> None:
    """A value whose key begins other keys does them no harm."""
    # Castore's own keys never do this; the answer may differ, the kind of error may not.
    backend = place.open()
    backend.put("a/b", b"x")
    backend.flush()
    with suppress(BackendError):
        same(backend.get("a", LIMIT), None, "the value of what is a folder")
    with suppress(BackendError):
        same(backend.has("a"), False, "whether a folder is a value")
    with suppress(BackendError):
        backend.put("a", b"y")
        backend.flush()
    same(place.raw_get("a/b"), b"x", "the value in the folder")


def url(place: StorePlace) -> None:
    """A backend says where it is."""
    if not place.open().url:
        raise BrokenPromiseError("the backend has no URL")


CHECKS: tuple[Check, ...] = (
    absent, put_flush_get, reads_what_is_there, put_replaces, put_copies, many_puts, size_limit, create_once,
    create_after_put, create_race, touch_keeps, touch_many, ages, delete_removes, expire_spares_the_young, list_order,
    list_details, no_foreign_names, bad_keys, good_keys, value_where_a_folder_is, get_many, get_many_is_bounded,
    get_part, get_part_from_the_end, get_parts, get_parts_is_bounded, bad_parts, url,
)  # fmt: skip
