"""Many requests under way at once, their answers in the order asked."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future

T = TypeVar("T")


def answers(keys: Iterable[str], submit: Callable[[str], Future[T]], ahead_max: int) -> Iterator[tuple[str, T]]:
    """Each key with its answer.

    When a caller stops, requests that have not begun are withdrawn and the others waited for: what is under way must
    not meet what comes next.

    Args:
        keys: Read as answers are taken, ``ahead_max`` ahead at most.
        submit: Begins a request.
        ahead_max: Requests under way at once.
    """
    waiting: deque[tuple[str, Future[T]]] = deque()
    try:
        for key in keys:
            waiting.append((key, submit(key)))
            if len(waiting) >= ahead_max:
                asked, answer = waiting.popleft()
                yield asked, answer.result()
        while waiting:
            asked, answer = waiting.popleft()
            yield asked, answer.result()
    finally:
        for _, answer in waiting:
            if not answer.cancel():
                answer.exception()
