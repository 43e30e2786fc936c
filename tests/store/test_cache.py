"""The cache of objects: bounded, whole, and safe with many processes."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from castore.errors import InvalidInputError
from castore.store.cache import ObjectCache, cache_folder, cache_size, open_cache

LIMIT = 1 << 20


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _key(number: int) -> str:
    return f"objects/{number % 256:02x}/{number:064x}"


def test_what_was_kept_is_read(tmp_path: Path) -> None:
    cache = ObjectCache(str(tmp_path), LIMIT)
    assert cache.get(_key(1), 100) is None
    cache.put(_key(1), b"frame")
    assert cache.has(_key(1))
    assert ObjectCache(str(tmp_path), LIMIT).get(_key(1), 100) == b"frame"
    assert cache.get(_key(1), 4) is None
    cache.drop(_key(1))
    assert cache.get(_key(1), 100) is None


def test_the_limit_holds_and_what_was_read_last_stays(tmp_path: Path) -> None:
    cache = ObjectCache(str(tmp_path), LIMIT)
    for number in range(100):
        cache.put(_key(number), bytes(10_000))
        os.utime(tmp_path / _key(number), (1_000_000 + number, 1_000_000 + number))
    cache.get(_key(0), LIMIT)  # read now, so the youngest of all
    for number in range(100, 300):
        cache.put(_key(number), bytes(10_000))
        os.utime(tmp_path / _key(number), (2_000_000 + number, 2_000_000 + number))
        assert _size(tmp_path) <= LIMIT * 1.06
    assert cache.has(_key(0))
    assert cache.has(_key(299))
    assert not cache.has(_key(1))


def test_what_would_fill_it_alone_is_not_kept(tmp_path: Path) -> None:
    cache = ObjectCache(str(tmp_path), LIMIT)
    cache.put(_key(1), bytes(LIMIT))
    assert not cache.has(_key(1))


def test_many_instances_at_once(tmp_path: Path) -> None:
    wrong: list[object] = []

    def run(seed: int) -> None:
        cache = ObjectCache(str(tmp_path), LIMIT)
        for step in range(200):
            number = (seed * 7 + step) % 150
            frame = bytes([number]) * 10_000
            found = cache.get(_key(number), LIMIT)
            if found not in (None, frame):
                wrong.append(found)
            cache.put(_key(number), frame)

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert _size(tmp_path) <= LIMIT * 1.25


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    cache = ObjectCache(str(tmp_path / "file"), LIMIT)
    cache.put(_key(1), b"x")
    assert cache.get(_key(1), 10) is None


@pytest.mark.parametrize(
    ("text", "size"),
    [("", 10 << 30), ("0", 0), ("1000", 1000), ("500M", 500 << 20), ("2GiB", 2 << 30), ("1tb", 1 << 40)],
)
def test_sizes(text: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CASTORE_CACHE_SIZE", text)
    assert cache_size() == size
    assert (cache_folder() is None) == (open_cache() is None) == (size == 0)


@pytest.mark.parametrize("text", ["much", "-1", "1.5G", "G", "1GG"])
def test_no_sizes(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CASTORE_CACHE_SIZE", text)
    with pytest.raises(InvalidInputError, match="CASTORE_CACHE_SIZE"):
        cache_size()
