"""What every backend promises, as tests. A new backend gives a ``Place`` and inherits ``BackendTests``.

The suite looks behind the store through ``Place`` wherever it can, so that a backend which agrees with itself and with
nobody else does not pass.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Protocol

import pytest

from castore.errors import BackendError, CorruptionError, InvalidInputError
from castore.store.backend import Backend

LIMIT = 1 << 20

BAD_KEYS = [
    "", "/", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "a/./b", ".a", "a/.b", "a\\b", "a\nb", "a\0", "a\x7f", "ä",
    "a" * 256, "/".join(["a" * 100] * 11),
]  # fmt: skip
GOOD_KEYS = ["a", "b/c", "b-c", "b/c.d/e", "A+B_c@{}", "0" * 255, "/".join(["d" * 93] * 10)]


class Place(Protocol):
    """A place for bytes with two doors: backends, and one of its own that goes around them."""

    def open(self) -> Backend:
        """A new instance, as another process would have it."""
        ...

    def raw_get(self, key: str) -> bytes | None: ...

    def raw_put(self, key: str, data: bytes) -> None:
        """Store under any name, valid as a key or not."""
        ...


class BackendTests:
    def test_absent(self, place: Place) -> None:
        backend = place.open()
        assert backend.get("a/b", LIMIT) is None
        assert not backend.has("a/b")
        assert not backend.touch("a/b")
        assert not backend.delete("a/b")
        assert list(backend.list("")) == []
        assert list(backend.list("a")) == []
        backend.flush()

    @pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)) * 1000], ids=["empty", "one", "large"])
    def test_put_flush_get(self, place: Place, data: bytes) -> None:
        backend = place.open()
        backend.put("a/b", data)
        assert backend.get("a/b", LIMIT) == data
        assert backend.has("a/b")
        assert list(backend.list("")) == ["a/b"]
        backend.flush()
        assert backend.get("a/b", LIMIT) == data
        assert place.raw_get("a/b") == data
        assert place.open().get("a/b", LIMIT) == data

    def test_get_reads_what_is_there_and_not_what_was_put(self, place: Place) -> None:
        backend = place.open()
        backend.put("a", b"old")
        backend.flush()
        place.raw_put("a", b"newer")
        assert backend.get("a", LIMIT) == b"newer"
        assert list(backend.list("")) == ["a"]

    def test_put_replaces(self, place: Place) -> None:
        backend = place.open()
        for data in (b"first, longer", b"second", b"third"):
            backend.put("a", data)
            assert backend.get("a", LIMIT) == data
        backend.flush()
        assert place.raw_get("a") == b"third"
        backend.put("a", b"fourth")
        backend.flush()
        assert place.raw_get("a") == b"fourth"

    def test_put_copies_what_the_caller_may_change(self, place: Place) -> None:
        backend = place.open()
        data = bytearray(b"abc")
        backend.put("a", data)  # type: ignore[arg-type]
        data[:] = b"xyz"
        backend.flush()
        assert place.raw_get("a") == b"abc"

    def test_many_puts_one_flush(self, place: Place) -> None:
        backend = place.open()
        data = {f"o/{i % 7}/{i}": b"%d" % i for i in range(100)}
        for key, value in data.items():
            backend.put(key, value)
        backend.flush()
        assert {key: place.raw_get(key) for key in data} == data
        assert list(place.open().list("")) == sorted(data)

    def test_size_limit(self, place: Place) -> None:
        backend = place.open()
        backend.put("a", b"12345")
        for _ in range(2):
            assert backend.get("a", 5) == b"12345"
            with pytest.raises(CorruptionError, match="5 bytes"):
                backend.get("a", 4)
            backend.flush()

    def test_create_once(self, place: Place) -> None:
        backend, other = place.open(), place.open()
        assert backend.create("r/1", b"first")
        assert place.raw_get("r/1") == b"first"
        assert not other.create("r/1", b"second")
        assert not backend.create("r/1", b"first")
        assert place.raw_get("r/1") == b"first"
        assert other.create("r/2", b"")
        assert backend.get("r/2", LIMIT) == b""
        assert list(backend.list("")) == ["r/1", "r/2"]

    def test_create_after_own_put_and_after_delete(self, place: Place) -> None:
        backend = place.open()
        backend.put("a", b"put")
        assert not backend.create("a", b"created")
        backend.flush()
        assert not place.open().create("a", b"created")
        assert backend.delete("a")
        assert place.open().create("a", b"created")

    def test_create_race_of_threads(self, place: Place) -> None:
        for round_ in range(10):
            won: list[bytes] = []
            barrier = threading.Barrier(8)

            def run(data: bytes, key: str, barrier: threading.Barrier = barrier, won: list[bytes] = won) -> None:
                backend = place.open()
                barrier.wait()
                if backend.create(key, data):
                    won.append(data)

            threads = [threading.Thread(target=run, args=(b"%d" % i, f"r/{round_}")) for i in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert [place.raw_get(f"r/{round_}")] == won

    def test_touch(self, place: Place) -> None:
        backend = place.open()
        backend.put("a", b"x")
        assert backend.touch("a")
        backend.flush()
        assert backend.touch("a")
        backend.flush()
        assert place.raw_get("a") == b"x"

    def test_delete(self, place: Place) -> None:
        backend = place.open()
        backend.put("a/b", b"x")
        assert backend.delete("a/b")
        assert not backend.has("a/b")
        backend.flush()
        assert place.raw_get("a/b") is None
        backend.put("a/b", b"x")
        backend.flush()
        backend.put("a/b", b"y")
        assert backend.delete("a/b")
        assert not backend.delete("a/b")
        assert place.raw_get("a/b") is None
        backend.flush()
        assert place.raw_get("a/b") is None
        assert list(backend.list("")) == []

    def test_list_order_and_prefix(self, place: Place) -> None:
        backend = place.open()
        keys = ["a-b", "a/b-c", "a/b/z", "a0", "a/c/d/e", "ab/c", "b"]
        for key in keys[:4]:
            backend.put(key, b"")
        backend.flush()
        for key in keys[4:]:
            backend.put(key, b"")
        assert list(backend.list("")) == sorted(keys)
        assert list(backend.list("a")) == sorted(key for key in keys if key.startswith("a/"))
        assert list(backend.list("a/b")) == ["a/b/z"]
        assert list(backend.list("a0")) == []
        assert list(backend.list("z/z")) == []
        backend.put(keys[0], b"again")
        assert list(backend.list("")) == sorted(keys)

    def test_list_shows_no_foreign_names(self, place: Place) -> None:
        place.raw_put("a/b", b"x")
        for name in (".hidden", "a/.nfs0001", "a/b\\c", "ä/b", "a/.d/e"):
            place.raw_put(name, b"foreign")
        assert list(place.open().list("")) == ["a/b"]
        assert list(place.open().list("a")) == ["a/b"]

    @pytest.mark.parametrize("key", BAD_KEYS)
    def test_bad_keys(self, place: Place, key: str) -> None:
        backend = place.open()
        with pytest.raises(InvalidInputError):
            backend.get(key, LIMIT)
        with pytest.raises(InvalidInputError):
            backend.put(key, b"")
        with pytest.raises(InvalidInputError):
            backend.create(key, b"")
        with pytest.raises(InvalidInputError):
            backend.has(key)
        with pytest.raises(InvalidInputError):
            backend.touch(key)
        with pytest.raises(InvalidInputError):
            backend.delete(key)
        if key:
            with pytest.raises(InvalidInputError):
                backend.list(key)

    def test_good_keys(self, place: Place) -> None:
        backend = place.open()
        for key in GOOD_KEYS:
            backend.put(key, key.encode())
        backend.flush()
        assert {key: place.raw_get(key) for key in GOOD_KEYS} == {key: key.encode() for key in GOOD_KEYS}
        assert list(place.open().list("")) == sorted(GOOD_KEYS)

    def test_a_value_where_a_folder_is(self, place: Place) -> None:
        # Castore's own keys never do this; the answer may differ, the kind of error may not.
        backend = place.open()
        backend.put("a/b", b"x")
        backend.flush()
        assert backend.get("a", LIMIT) is None
        assert not backend.has("a")
        with contextlib.suppress(BackendError):
            backend.put("a", b"y")
            backend.flush()
        assert place.raw_get("a/b") == b"x"

    def test_get_many(self, place: Place) -> None:
        backend = place.open()
        data = {f"o/{i:03d}": b"%d" % i * i for i in range(50)}
        for key, value in data.items():
            backend.put(key, value)
        asked = [*reversed(data), "o/none", "o/007", "o/007"]
        for _ in range(2):
            assert list(backend.get_many(iter(asked), LIMIT)) == [(key, data.get(key)) for key in asked]
            backend.flush()
        assert list(backend.get_many([], LIMIT)) == []
        with pytest.raises(CorruptionError, match="98 bytes"):
            list(place.open().get_many(["o/001", "o/049"], 97))
        with pytest.raises(InvalidInputError):
            list(backend.get_many(["../a"], LIMIT))
        # A caller may stop in the middle.
        assert next(iter(place.open().get_many(data, LIMIT))) == ("o/000", b"")

    def test_get_many_asks_no_further_ahead_than_it_must(self, place: Place) -> None:
        backend = place.open()
        backend.put("a", b"x")
        backend.flush()
        asked = 0

        def keys() -> Iterator[str]:
            nonlocal asked
            for _ in range(10_000):
                asked += 1
                yield "a"

        assert next(iter(backend.get_many(keys(), LIMIT))) == ("a", b"x")
        assert asked <= 256

    def test_entries(self, place: Place) -> None:
        backend = place.open()
        data = {"a/b": b"12", "a/c/d": b"", "a-b": b"345"}
        for key, value in data.items():
            backend.put(key, value)
        for _ in range(2):
            found = list(backend.entries(""))
            assert [entry.key for entry in found] == sorted(data)
            assert {entry.key: entry.size_bytes for entry in found} == {key: len(value) for key, value in data.items()}
            assert [entry.key for entry in backend.entries("a")] == ["a/b", "a/c/d"]
            backend.flush()
        assert list(backend.entries("z")) == []
        with pytest.raises(InvalidInputError):
            list(backend.entries("../a"))

    def test_ages(self, place: Place) -> None:
        backend = place.open()
        backend.put("a", b"x")
        backend.put("b", b"x")
        backend.flush()
        before = {entry.key: entry.modified_s for entry in backend.entries("")}
        time.sleep(1.1)  # some stores tell whole seconds
        assert place.open().touch("a")
        other = place.open()
        assert other.touch("a")
        other.flush()
        after = {entry.key: entry.modified_s for entry in backend.entries("")}
        assert after["b"] == before["b"] is not None
        assert after["a"] is not None
        assert before["a"] is not None
        assert before["a"] < after["a"] < before["a"] + 60

    def test_expire(self, place: Place) -> None:
        backend = place.open()
        assert not backend.expire("o/a", 2.0**40)
        for key in ("o/a", "o/b"):
            backend.put(key, key.encode())
        backend.flush()
        stored = min(entry.modified_s or 0 for entry in backend.entries(""))
        assert not backend.expire("o/a", stored)
        assert not backend.expire("o/a", stored - 1000)
        assert place.open().get("o/a", LIMIT) == b"o/a"
        assert place.open().expire("o/a", stored + 1000)
        assert not place.open().expire("o/a", stored + 1000)
        assert place.raw_get("o/a") is None
        assert place.open().get("o/a", LIMIT) is None
        assert not backend.touch("o/a")
        assert list(backend.list("")) == ["o/b"]

    def test_url(self, place: Place) -> None:
        assert place.open().url
