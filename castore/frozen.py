"""``frozen``: dataclasses that do not change, whose methods are written once and not for each class anew.

``dataclass`` writes the methods of a class as text and compiles it when the class is made. That takes half a
millisecond, and a command that is to start in a tenth of a second makes dozens of classes.
"""

from __future__ import annotations

from dataclasses import MISSING, FrozenInstanceError, dataclass, field, fields
from typing import Any, NoReturn, TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(cls: type[T]) -> type[T]:
    """Make of a class what ``dataclass(frozen=True)`` makes of it; ``fields`` and ``replace`` of that library take it.

    What the class or a base of it defines itself is kept. It is for classes that are made when a command starts: one
    value takes some microseconds longer to make, so it is not for values that there are very many of.
    """
    for name, method in _METHODS.items():
        if name not in vars(cls) and getattr(cls, name) is getattr(object, name):
            setattr(cls, name, method)
    return dataclass(init=False, repr=False, eq=False)(cls)


def _init(self: Any, *values: Any, **named: Any) -> None:
    names: tuple[str, ...] = self.__match_args__
    given = dict(zip(names, values, strict=False))
    if len(values) > len(names) or not given.keys().isdisjoint(named):
        raise TypeError(f"{type(self).__name__} takes each of {', '.join(names)} once")
    given.update(named)
    every = {each.name: each for each in fields(self)}
    if len(given) < len(every):
        for each in every.values():
            if each.name not in given and each.default is not MISSING:
                given[each.name] = each.default
            elif each.name not in given and each.default_factory is not MISSING:
                given[each.name] = each.default_factory()
    if given.keys() != every.keys():
        raise TypeError(f"{type(self).__name__} takes {', '.join(every)}, and was given {', '.join(given)}")
    vars(self).update(given)
    if hasattr(self, "__post_init__"):
        self.__post_init__()


def _repr(self: Any) -> str:
    shown = (f"{each.name}={getattr(self, each.name)!r}" for each in fields(self) if each.repr)
    return f"{type(self).__name__}({', '.join(shown)})"


def _eq(self: Any, other: object) -> bool:
    return _compared(self) == _compared(other) if type(other) is type(self) else NotImplemented


def _hash(self: Any) -> int:
    return hash(_compared(self))


def _compared(self: Any) -> tuple[Any, ...]:
    return tuple(getattr(self, each.name) for each in fields(self) if each.compare)


def _setattr(self: Any, name: str, value: object) -> NoReturn:
    raise FrozenInstanceError(f"cannot assign to {name!r} of a {type(self).__name__}: it does not change")


def _delattr(self: Any, name: str) -> NoReturn:
    raise FrozenInstanceError(f"cannot delete {name!r} of a {type(self).__name__}: it does not change")


_METHODS = {
    "__init__": _init,
    "__repr__": _repr,
    "__eq__": _eq,
    "__hash__": _hash,
    "__setattr__": _setattr,
    "__delattr__": _delattr,
}
