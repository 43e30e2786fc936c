"""Bounds for what a chat template may do, so that one from anywhere neither runs for ever nor fills the memory.

A template is a program: it loops, recurses, multiplies and joins. Every turn of a loop and every call of a macro is
counted (``Budget.step``), and what makes text or lists longer is looked at before it is done. The bounds are far beyond
what a conversation needs, and running into one always ends the run: a row that was left out for the time it took would
make the data depend on the machine.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import wraps
from itertools import count, islice
from typing import Any

STEPS_MAX = 1 << 25
"""Turns of loops and calls of macros while one conversation is rendered."""

SECONDS_MAX = 30
"""Processor time of one rendering. 20,000 turns take a tenth of a second."""

CHARACTERS_MAX = 1 << 27
"""Of any text that a template makes: twice the longest row."""

ITEMS_MAX = 1 << 22
"""Of any list that a template makes, and values within one that is printed."""

INTEGER_BITS_MAX = 1 << 16
INDENT_MAX = 1 << 10
_WIDTH_MAX = 10**6
_LONG_NUMBER = re.compile(r"\d{7,}")
_CHECK_EVERY = 256  # steps between two looks at the clock
_TOGETHER = 1024  # pieces that are added up at once


class TemplateLimitError(Exception):
    """A template went over a bound; the text says over which."""


class Budget:
    """What one rendering has used."""

    def __init__(self) -> None:
        self._steps = count(1)
        self._start_s = 0.0

    def start(self) -> None:
        """Begin a rendering."""
        self._steps = count(1)
        self._start_s = time.thread_time()

    def step(self, value: object) -> None:
        """Count a turn of a loop or a call of a macro.

        Raises:
            TemplateLimitError: There were too many, or they took too long.
        """
        steps = next(self._steps)
        if steps % _CHECK_EVERY:
            return
        if steps > STEPS_MAX:
            raise TemplateLimitError(f"it takes more than {STEPS_MAX:,} turns of loops for one conversation")
        if time.thread_time() - self._start_s > SECONDS_MAX:
            raise TemplateLimitError(f"it takes more than {SECONDS_MAX} s of processor time for one conversation")


def concat(pieces: Iterable[str]) -> str:
    """The pieces as one text."""
    return "".join(bounded_pieces(pieces))


def bounded_pieces(pieces: Iterable[str]) -> Iterator[str]:
    """The pieces, as long as they are of bounded length together."""
    waiting, size = iter(pieces), 0
    while some := [*islice(waiting, _TOGETHER)]:
        size += sum(map(len, some))
        if size > CHARACTERS_MAX:
            raise _too_long()
        yield from some


def joined(values: Sequence[Any]) -> str:
    """What ``a ~ b`` gives."""
    texts = [value if type(value) is str else str(printable(value)) for value in values]
    if sum(map(len, texts)) > CHARACTERS_MAX:
        raise _too_long()
    return "".join(texts)


# ---- values that are printed

_PLAIN = (str, int, float, bool, type(None))


def printable(value: Any) -> Any:
    """The value, if its text is the same in every process and of bounded length.

    Raises:
        TemplateLimitError: It holds more than ``ITEMS_MAX`` values, each counted as often as it is printed.
        TypeError: Its text is an address in memory.
    """
    if type(value) is str or type(value) in _PLAIN:
        return value
    if isinstance(value, (list, tuple, dict)):
        _count_values(value)
    elif " at 0x" in (text := str(value)):
        raise TypeError(f"the template prints {text[:80]}, which is another text in each process")
    return value


def _count_values(value: Any) -> None:
    waiting, values, size = [value], 0, 0
    while waiting:
        some = waiting.pop()
        if isinstance(some, dict):
            waiting.extend(some.keys())
            waiting.extend(some.values())
            values += len(some)
        elif isinstance(some, (list, tuple)):
            waiting.extend(some)
        elif isinstance(some, str):
            size += len(some)
        values += 1
        if values > ITEMS_MAX:
            raise TemplateLimitError(f"it prints more than {ITEMS_MAX:,} values at once")
        if size > CHARACTERS_MAX:
            raise _too_long()


# ---- operators

BINARY = frozenset(("+", "*", "**", "%"))
"""Operators that can make something much larger than what they are given."""


def check_binary(operator: str, left: Any, right: Any) -> None:
    """Refuse an operation before it is done.

    Raises:
        TemplateLimitError: The result would be over a bound.
    """
    if operator == "+":
        if not isinstance(left, int | float) and isinstance(right, (str, list, tuple)):
            _check_size(left, len(left) + len(right))
    elif operator == "%":
        if isinstance(left, str):
            _check_format(left, right if isinstance(right, (tuple, dict)) else (right,))
    elif operator == "**":
        if isinstance(left, int) and isinstance(right, int) and left.bit_length() * max(right, 0) > INTEGER_BITS_MAX:
            raise _too_large()
    elif isinstance(left, int) and isinstance(right, int):
        if left.bit_length() + right.bit_length() > INTEGER_BITS_MAX:
            raise _too_large()
    else:
        for sequence, times in ((left, right), (right, left)):
            if isinstance(sequence, (str, list, tuple)) and isinstance(times, int):
                _check_size(sequence, len(sequence) * max(times, 0))


# ---- methods of strings, and filters


def _check_width(text: Any, *given: Any) -> None:
    if any(isinstance(width, int) and width > CHARACTERS_MAX for width in given):
        raise _too_long()


def _check_tabs(text: Any, tabsize: Any = 8) -> None:
    if isinstance(text, str) and isinstance(tabsize, int):
        _check_size(text, len(text) + text.count("\t") * max(tabsize, 0))


def _check_replace(text: Any, old: Any = "", new: Any = "", *_: Any) -> None:
    text, old, new = str(text), str(old), str(new)
    _check_size(text, len(text) + (text.count(old) if old else len(text) + 1) * len(new))


def _check_join(text: Any, values: Any = ()) -> None:
    if isinstance(values, (list, tuple)):
        size = sum(len(value) for value in values if isinstance(value, str))
        _check_size("", size + len(values) * len(str(text)))


def _check_format(text: str, given: Any) -> None:
    values = [*given.values()] if isinstance(given, dict) else [*given]
    longest = max((len(value) for value in values if isinstance(value, str)), default=0)
    nested = "*" in text or re.search(r"\{[^{}]*\{", text)
    wide = nested and any(isinstance(value, int) and abs(value) > _WIDTH_MAX for value in values)
    if _LONG_NUMBER.search(text) or wide or len(text) + (text.count("%") + text.count("{")) * longest > CHARACTERS_MAX:
        raise _too_long()


def _check_str_format(text: Any, *given: Any, **named: Any) -> None:
    _check_format(str(text), [*given, *named.values()])


def _check_format_map(text: Any, given: Any = ()) -> None:
    _check_format(str(text), given if isinstance(given, dict) else ())


STRING_METHODS: dict[str, Callable[..., None]] = {
    "center": _check_width,
    "expandtabs": _check_tabs,
    "format": _check_str_format,
    "format_map": _check_format_map,
    "join": _check_join,
    "ljust": _check_width,
    "replace": _check_replace,
    "rjust": _check_width,
    "zfill": _check_width,
}
"""Methods that can make a text much longer, each with what is asked before a call: (text, arguments of the method)."""


def _check_indent(text: Any, width: Any = 4, *_: Any, **__: Any) -> None:
    text = str(text)
    step = len(width) if isinstance(width, str) else width if isinstance(width, int) else 0
    _check_size(text, len(text) + (text.count("\n") + 1) * max(step, 0))


def _check_parts(values: Any, parts: Any = 1, *_: Any, **__: Any) -> None:
    if isinstance(parts, int) and parts > ITEMS_MAX:
        raise TemplateLimitError(f"it makes a list of more than {ITEMS_MAX:,} items")


def _check_printed(value: Any, *_: Any, **__: Any) -> None:
    printable(value)


FILTERS: dict[str, Callable[..., None]] = {
    "batch": _check_parts,
    "center": _check_width,
    "format": _check_str_format,
    "indent": _check_indent,
    "pprint": _check_printed,
    "replace": _check_replace,
    "slice": _check_parts,
    "string": _check_printed,
}
"""Filters that can make something much larger, each with what is asked before it: (value, arguments of the filter)."""


def bounded(function: Callable[..., Any], check: Callable[..., None]) -> Callable[..., Any]:
    """A filter of jinja2 that asks ``check`` before it works; what jinja2 passes in front stays in front."""
    skipped = 1 if hasattr(function, "jinja_pass_arg") else 0

    @wraps(function)
    def call(*given: Any, **named: Any) -> Any:
        check(*given[skipped:], **named)
        return function(*given, **named)

    return call


def joining(join: Callable[..., str]) -> Callable[..., str]:
    """jinja2's filter ``join``, in bounded memory also where one long text stands in a list many times."""
    from jinja2.filters import make_attrgetter

    @wraps(join)
    def call(context: Any, value: Any, d: str = "", attribute: str | int | None = None) -> str:
        items = [printable(item) for item in value]
        if attribute is not None:
            items = [*map(make_attrgetter(context.environment, attribute), items)]
        _check_join(d, items)
        return join(context, items, d)

    return call


def _check_size(like: Any, size: int) -> None:
    if isinstance(like, str):
        if size > CHARACTERS_MAX:
            raise _too_long()
    elif size > ITEMS_MAX:
        raise TemplateLimitError(f"it makes a list of more than {ITEMS_MAX:,} items")


def _too_long() -> TemplateLimitError:
    return TemplateLimitError(f"it makes a text of more than {CHARACTERS_MAX:,} characters")


def _too_large() -> TemplateLimitError:
    return TemplateLimitError(f"it makes a number of more than {INTEGER_BITS_MAX:,} bits")
