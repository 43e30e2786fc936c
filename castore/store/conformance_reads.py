"""The checks of reading many values, and parts of values; see ``conformance_means``."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from castore.errors import CorruptionError, InvalidInputError
from castore.store.backend import Backend, Part
from castore.store.conformance_means import LIMIT, BrokenPromiseError, StorePlace, refuses, same


def get_many(place: StorePlace) -> None:
    """Many values are read in the order asked."""
    backend = place.open()
    data = {f"o/{i:03d}": b"%d" % i * i for i in range(50)}
    for key, value in data.items():
        backend.put(key, value)
    asked = [*reversed(data), "o/none", "o/007", "o/007"]
    for _ in range(2):
        same([*backend.get_many(iter(asked), LIMIT)], [(key, data.get(key)) for key in asked], "the values")
        backend.flush()
    same([*backend.get_many([], LIMIT)], [], "the values of no keys")
    refuses(CorruptionError, lambda: [*place.open().get_many(["o/001", "o/049"], 97)], "to read more than permitted")
    # A caller may stop in the middle.
    same(next(iter(place.open().get_many(data, LIMIT))), ("o/000", b""), "the first value")


def get_many_is_bounded(place: StorePlace) -> None:
    """Many reads ask no further ahead than they must."""
    _is_bounded(place, lambda backend, asked: backend.get_many((key for key, _, _ in asked), LIMIT), "a")


def get_part(place: StorePlace) -> None:
    """A part of a value is read, as far as the value reaches."""
    backend = place.open()
    data = bytes(range(256)) * 100
    size = len(data)
    backend.put("a/b", data)
    backend.put("a/empty", b"")
    for _ in range(2):  # before a flush and after it
        for start, length in (
            (0, 1), (1000, 500), (0, size), (size - 1, 1), (size - 10, 11), (0, LIMIT), (1000, 1 << 40), (size, 1),
            (size + 1, 9), (1 << 40, 1 << 40), (0, 0), (1000, 0), (size + 1, 0),
        ):  # fmt: skip
            part = f"bytes {start} to {start + length} of {size}"
            same(backend.get_part("a/b", start, length), data[start : start + length], part)
        for start in (0, 5, -5):
            for length in (0, 3, 8):
                same(backend.get_part("a/empty", start, length), b"", "a part of an empty value")
                same(backend.get_part("a/none", start, length), None, "a part of a value that was never stored")
        backend.flush()
    same(place.open().get_part("a/b", 300, 20), data[300:320], "a part as another reads it")
    place.raw_put("a/b", b"newer")
    same(backend.get_part("a/b", 2, 2), b"we", "a part of the value that another stored")
    backend.delete("a/b")
    same(backend.get_part("a/b", 2, 2), None, "a part of a deleted value")


def get_part_from_the_end(place: StorePlace) -> None:
    """A part of a value may be counted from its end."""
    backend = place.open()
    backend.put("a", b"0123456789")
    for _ in range(2):
        for start, length, expected in (
            (-3, 3, b"789"), (-3, 100, b"789"), (-3, 2, b"78"), (-10, 10, b"0123456789"), (-10, 4, b"0123"),
            (-99, 99, b"0123456789"), (-99, 20, b"0123456789"), (-99, 4, b"0123"), (-(1 << 40), 1 << 40, b"0123456789"),
            (-3, 0, b""),
        ):  # fmt: skip
            same(backend.get_part("a", start, length), expected, f"{length} bytes from {-start} before the end of ten")
        backend.flush()


def bad_parts(place: StorePlace) -> None:
    """A part of fewer bytes than none is refused."""
    backend = place.open()
    backend.put("a", b"x")
    for key, start, length in (("a", 0, -1), ("a", -1, -1), ("a", 5, -5), ("none", 0, -1)):
        refuses(InvalidInputError, lambda part=(key, start, length): backend.get_part(*part), "a negative length")  # type: ignore[misc]
        refuses(InvalidInputError, lambda part=(key, start, length): [*backend.get_parts([part])], "a negative length")  # type: ignore[misc]


def get_parts(place: StorePlace) -> None:
    """Many parts are read in the order asked."""
    backend = place.open()
    data = {f"o/{i}": bytes(range(i, i + 60)) for i in range(3)}
    for key, value in data.items():
        backend.put(key, value)
    asked = [(f"o/{i % 4}", i * 7 % 61, i % 9) for i in range(60)]  # o/3 was never stored
    asked += [asked[-1], ("o/0", -5, 5), ("o/1", 999, 1), ("o/0", 0, 60)]
    expected = [data[key][start:][:length] if key in data else None for key, start, length in asked]
    for _ in range(2):
        same([*backend.get_parts(iter(asked))], [*zip(asked, expected, strict=True)], "the parts")
        backend.flush()
    same([*backend.get_parts([])], [], "no parts")
    same(next(iter(place.open().get_parts(asked))), (asked[0], expected[0]), "the first part")  # one may stop there


def get_parts_is_bounded(place: StorePlace) -> None:
    """Many reads of parts ask no further ahead than they must."""
    _is_bounded(place, lambda backend, asked: backend.get_parts(asked), ("a", 0, 1))


def _is_bounded(
    place: StorePlace, read: Callable[[Backend, Iterator[Part]], Iterator[tuple[object, object]]], first: object
) -> None:
    backend = place.open()
    backend.put("a", b"x")
    backend.flush()
    count = 0

    def asked() -> Iterator[Part]:
        nonlocal count
        for _ in range(10_000):
            count += 1
            yield "a", 0, 1

    same(next(iter(read(backend, asked()))), (first, b"x"), "the first answer")
    if count > 256:
        raise BrokenPromiseError(f"{count} were asked for before the first answer")
