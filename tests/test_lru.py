"""The cache in memory: what was used last stays, within its bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from castore.lru import LRU


def test_what_was_not_used_for_longest_goes_first() -> None:
    kept: LRU[str, bytes] = LRU(6, len)
    for key in "abc":
        assert kept.keep(key, b"12") == b"12"
    assert kept.get("a") == b"12"
    kept.keep("d", b"12")
    assert [key in kept for key in "abcd"] == [True, False, True, True]
    assert (len(kept), kept.bytes) == (3, 6)


def test_the_last_one_stays_however_large() -> None:
    kept: LRU[str, bytes] = LRU(3, len)
    kept.keep("a", b"1")
    kept.keep("b", b"12345")
    assert ("a" in kept, kept.get("b"), kept.bytes) == (False, b"12345", 5)


def test_an_empty_value_is_a_value() -> None:
    kept: LRU[str, bytes] = LRU(3, len)
    kept.keep("a", b"")
    assert kept.get("a") == b""
    assert kept.get("b") is None
    assert kept.pop("a") == b""
    assert "a" not in kept


KEYS = st.sampled_from("abcde")


@given(st.integers(0, 12), st.lists(st.tuples(st.sampled_from(["keep", "get", "pop"]), KEYS, st.integers(0, 6))))
def test_it_is_a_list_in_order_of_use(bytes_max: int, calls: list[tuple[str, str, int]]) -> None:
    kept: LRU[str, bytes] = LRU(bytes_max, len)
    model: list[tuple[str, bytes]] = []
    for call, key, size in calls:
        found = next((value for k, value in model if k == key), None)
        rest = [pair for pair in model if pair[0] != key]
        if call == "keep":
            value = bytes(size)
            assert kept.keep(key, value) is value
            model = [*rest, (key, value)]
            while sum(len(v) for _, v in model) > bytes_max and len(model) > 1:
                model.pop(0)
        elif call == "get":
            assert kept.get(key) == found
            model = model if found is None else [*rest, (key, found)]
        else:
            assert kept.pop(key) == found
            model = rest
        assert kept.bytes == sum(len(value) for _, value in model)
        assert [k for k in "abcde" if k in kept] == sorted(k for k, _ in model)
