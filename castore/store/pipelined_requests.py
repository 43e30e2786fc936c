"""Many requests under way at once, their answers in the order asked."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future

K = TypeVar("K")
T = TypeVar("T")


def answers(asked: Iterable[K], submit: Callable[[K], Future[T]], ahead_max: int) -> Iterator[tuple[K, T]]:
    """Each thing asked with its answer.

    When a caller stops, requests that have not begun are withdrawn and the others waited for: what is under way must
    not meet what comes next.

    Args:
        asked: Read as answers are taken, ``ahead_max`` ahead at most.
        submit: Begins a request.
        ahead_max: Requests under way at once.
    """
    waiting: deque[tuple[K, Future[T]]] = deque()
    try:
        for one in asked:
            waiting.append((one, submit(one)))
            if len(waiting) >= ahead_max:
                first, answer = waiting.popleft()
                yield first, answer.result()
        while waiting:
            first, answer = waiting.popleft()
            yield first, answer.result()
    finally:
        for _, answer in waiting:
            if not answer.cancel():
                answer.exception()
