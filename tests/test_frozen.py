"""Values that do not change: as ``dataclasses`` makes them, in all that castore uses of these."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError, dataclass, field, fields, replace
from typing import Any, ClassVar

import pytest

from castore.frozen import frozen


@frozen
class Ours:
    """A point."""

    unit: ClassVar[str] = "m"
    x: int
    y: int = 2
    tags: list[str] = field(default_factory=list)
    note: str = field(default="", repr=False, compare=False)
    named: int = field(default=0, kw_only=True)

    @property
    def area(self) -> int:
        """Of the rectangle up to it."""
        return self.x * self.y


@dataclass(frozen=True)
class Theirs:
    """The same."""

    unit: ClassVar[str] = "m"
    x: int
    y: int = 2
    tags: list[str] = field(default_factory=list)
    note: str = field(default="", repr=False, compare=False)
    named: int = field(default=0, kw_only=True)


MAKE: list[Callable[[Any], Any]] = [
    lambda kind: kind(1),
    lambda kind: kind(1, 3),
    lambda kind: kind(1, 3, ["a"], "b"),
    lambda kind: kind(x=1),
    lambda kind: kind(1, named=5),
    lambda kind: kind(y=3, x=1),
    lambda kind: kind(1, tags=["a"]),
    lambda kind: replace(kind(1, tags=["a"]), y=4),
    lambda kind: copy.deepcopy(kind(1, note="n")),
    lambda kind: pickle.loads(pickle.dumps(kind(1, note="n"))),
]
REFUSE: list[Callable[[Any], Any]] = [
    lambda kind: kind(),
    lambda kind: kind(y=1),
    lambda kind: kind(1, 2, [], "", 5),
    lambda kind: kind(1, 2, [], "", named=1, other=2),
    lambda kind: kind(1, x=1),
    lambda kind: kind(1, z=1),
    lambda kind: replace(kind(1), z=1),
    lambda kind: hash(kind(1)),
    lambda kind: kind(1) < kind(2),
]


@pytest.mark.parametrize("make", MAKE)
def test_a_value_is_made_as_a_dataclass_makes_it(make: Callable[[Any], Any]) -> None:
    ours, theirs = make(Ours), make(Theirs)
    assert vars(ours) == vars(theirs)
    assert repr(ours) == repr(theirs).replace("Theirs", "Ours")
    assert ours == make(Ours)
    assert ours != theirs
    assert ours.unit == "m"


@pytest.mark.parametrize("make", REFUSE)
def test_what_a_dataclass_refuses_is_refused(make: Callable[[Any], Any]) -> None:
    for kind in (Ours, Theirs):
        with pytest.raises(TypeError):
            make(kind)


def test_errors_name_the_class_and_its_fields() -> None:
    make: Any = Ours
    for arguments, named, said in (
        ((), {}, "Ours takes x, y, tags, note, named, and was given y, tags, note, named"),
        ((1,), {"x": 1}, "Ours takes each of x, y, tags, note once"),
        ((1,), {"z": 1}, "Ours takes x, y, tags, note, named, and was given x, z, y, tags, note, named"),
        ((1, 2, [], "", 5), {}, "Ours takes each of x, y, tags, note once"),
    ):
        with pytest.raises(TypeError) as caught:
            make(*arguments, **named)
        assert str(caught.value) == said


def test_it_does_not_change() -> None:
    value: Any = Ours(1)
    with pytest.raises(FrozenInstanceError, match="cannot assign to 'x' of a Ours"):
        value.x = 2
    with pytest.raises(FrozenInstanceError):
        value.z = 2
    with pytest.raises(FrozenInstanceError):
        del value.x
    assert value == Ours(1)


def test_defaults_are_not_shared() -> None:
    assert Ours(1).tags is not Ours(1).tags


def test_fields_and_properties() -> None:
    assert [each.name for each in fields(Ours)] == ["x", "y", "tags", "note", "named"]
    assert Ours(3).area == 6


def test_equality_is_of_values_and_of_one_class() -> None:
    @frozen
    class Pair:
        a: int
        b: str = ""

    @frozen
    class Derived(Pair):
        c: int = 0

    assert Pair(1) == Pair(1, "") != Pair(2)
    assert hash(Pair(1)) == hash(Pair(1, ""))
    assert len({Pair(1), Pair(1), Pair(2)}) == 2
    assert Derived(1) != Pair(1)
    assert Derived(1, "x", 3).c == 3
    assert Ours(1, note="a") == Ours(1, note="b")


def test_what_the_class_says_itself_is_kept() -> None:
    @frozen
    class Checked:
        name: str

        def __post_init__(self) -> None:
            if not self.name:
                raise ValueError("no name")

        def __repr__(self) -> str:
            return f"<{self.name}>"

    assert repr(Checked("a")) == "<a>"
    with pytest.raises(ValueError, match="no name"):
        replace(Checked("a"), name="")
