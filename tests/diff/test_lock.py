"""Lock files: what is written is read, what is broken is refused with one line."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from castore.diff.lock import Lock
from castore.errors import InvalidInputError, UnsupportedVersionError
from castore.format.digest import Digest

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES = st.recursive(
    st.integers(-(2**63), 2**63 - 1) | TEXTS | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


def lock(**fields: object) -> Lock:
    return Lock("golden/chat", Digest(bytes(32)), 3, 40, **fields)  # type: ignore[arg-type]


@given(recipe=st.dictionaries(TEXTS, VALUES, max_size=5), name=TEXTS)
def test_what_is_written_is_read(recipe: dict[str, object], name: str) -> None:
    there = Lock(name, Digest(b"\x7f" * 32), 1, 2, {"seed": 42}, {"a": "b"}, recipe, [{"amount": "1.0"}], "ab")
    back = Lock.parse(there.text(), "castore.lock")
    assert back == there
    assert back.text() == there.text()


def test_the_text_is_toml_that_ends_in_one_line_end() -> None:
    text = lock().text()
    assert text.endswith("tokens = 40\n")
    assert tomllib.loads(text) == {"version": 1, "name": "golden/chat", "root": "0" * 64, "samples": 3, "tokens": 40}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("version = 1", ""), "version is not an integer"),
        (("version = 1", "version = true"), "version is not an integer"),
        (('root = "0', 'root = "g'), "root is not a digest of 64 digits"),
        (('root = "0', 'root = "'), "root is not a digest of 64 digits"),
        (("samples = 3", "samples = -3"), "samples is -3"),
        (("samples = 3", "samples = '3'"), "samples is not an integer"),
        (("samples = 3", f"samples = {'3' * 5000}"), "limit"),
        (("tokens = 40", "tokens = 40\norder = 1"), "order is not a table"),
        (("version = 1", "<<<<<<< HEAD\nversion = 1"), "at line 2"),
        (("name", "tokens = 40\nname"), "at line"),
    ],
)
def test_what_is_broken_is_refused(change: tuple[str, str], said: str) -> None:
    text = lock().text().replace(*change, 1)
    with pytest.raises(InvalidInputError, match=said) as caught:
        Lock.parse(text, "castore.lock")
    assert str(caught.value).startswith("castore.lock: no lock file: ")
    assert "\n" not in str(caught.value)


def test_an_empty_file_says_how_it_is_written() -> None:
    with pytest.raises(InvalidInputError, match=r"it is empty \('castore lock NAME > x' writes one\)"):
        Lock.parse("# nothing\n", "x")


def test_nested_text_is_refused() -> None:
    with pytest.raises(InvalidInputError):
        Lock.parse("a = " + "[" * 100_000, "x")


def test_a_newer_version_is_refused() -> None:
    with pytest.raises(UnsupportedVersionError, match="format version 2"):
        Lock.parse(lock().text().replace("version = 1", "version = 2"), "x")


@pytest.mark.parametrize("order", [{}, {"algorithm": "explicit", "seed": 0, "digest": "00" * 32, "take": 3}])
def test_only_a_seed_gives_an_order(order: dict[str, object]) -> None:
    assert lock(order=order).seeded_order() is None
