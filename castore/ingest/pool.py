"""Tokenizing in several processes, results in the order of submission."""

from __future__ import annotations

import contextlib
import mmap
import os
import pickle
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection, get_context, parent_process, reduction, resource_tracker
from types import FrameType
from typing import IO, Any, Protocol, TypeAlias

from castore.errors import BackendError, WorkerDiedError
from castore.ingest.defaults import MESSAGES_FORMAT
from castore.ingest.tokenizer import ChatTokenizer, TokenizedRows
from castore.store.files import is_full

WORKERS_BYTES_MIN = 6 * 1024 * 1024
"""Bytes of rows from which on workers are started: two of them save about a third of a second there."""


_TOLD_WAIT_S = 5.0
"""Seconds that a worker goes on when it is asked to end and cannot tell by whom."""


class Result(Protocol):
    """What a submitted batch will become."""

    def result(self) -> TokenizedRows:
        """Wait for it; raises what tokenizing raised."""


class InlinePool:
    """One worker: this process. A batch is tokenized when its result is asked for."""

    def __init__(self, make: Callable[[], ChatTokenizer], on_error: str) -> None:
        _limit_threads()
        self._make, self._on_error = make, on_error
        self._tokenizer: ChatTokenizer | None = None

    @property
    def depth(self) -> int:
        """Batches that should be under way at once."""
        return 1

    def submit(self, rows: Sequence[bytes], bytes_left: int = 0, format_name: str = MESSAGES_FORMAT) -> Result:
        """Tokenize a batch of raw rows of a shape."""
        return _Deferred(lambda: self._tokenize(rows, format_name))

    def close(self) -> None:
        """Nothing to end."""

    def load(self) -> ChatTokenizer:
        """The tokenizer, made and ready if it was not yet."""
        if self._tokenizer is None:
            self._tokenizer = self._make()
        self._tokenizer.load()
        return self._tokenizer

    def _tokenize(self, rows: Sequence[bytes], format_name: str) -> TokenizedRows:
        return _reading(self.load(), format_name).tokenize(rows, on_error=self._on_error)


class _Deferred:
    def __init__(self, call: Callable[[], TokenizedRows]) -> None:
        self._call = call

    def result(self) -> TokenizedRows:
        return self._call()


class ProcessPool:
    """Several worker processes, each with a tokenizer of its own and one thread.

    Processes scale better than the tokenizer's threads, since a seventh of the work holds the interpreter lock. They
    are spawned, not forked: a fork of a process with threads may deadlock. They end with their parent however it ends.
    """

    def __init__(self, make: Callable[[], ChatTokenizer], on_error: str, workers: int) -> None:
        _limit_threads()
        self._workers = workers
        with _interrupts_wait():
            self._made = _hand_over((make, on_error))
            resource_tracker.ensure_running()  # multiprocessing would start it with the first worker, unblocking SIGINT
            self._pool = ProcessPoolExecutor(self._workers, get_context("spawn"), _start_worker, (self._made,))

    @property
    def depth(self) -> int:
        """Batches that should be under way at once: one in work and one waiting for each worker."""
        return 2 * self._workers

    def submit(self, rows: Sequence[bytes], bytes_left: int = 0, format_name: str = MESSAGES_FORMAT) -> Result:
        """Tokenize a batch of raw rows of a shape."""
        try:
            # May start a worker, which inherits what is blocked: Ctrl-C must not reach it while it still imports.
            with _interrupts_wait():
                return _Remote(self._pool.submit(_tokenize, rows, format_name))
        except BrokenProcessPool as error:
            raise _worker_died() from error

    def close(self) -> None:
        """End the workers; batches that have not begun are dropped."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._made.close()


class AdaptivePool:
    """Workers if there is enough to do for them, this process otherwise; decided at the first batch.

    A worker spends more than half a second of processor time before its first batch. For what a run that was
    interrupted near its end has left to do, that would cost more than it saves.

    Args:
        make: Makes a tokenizer.
        on_error: ``stop`` or ``skip``.
        workers: Processes, at least 2.
    """

    def __init__(self, make: Callable[[], ChatTokenizer], on_error: str, workers: int) -> None:
        self._make, self._on_error, self._workers = make, on_error, workers
        self._pool: InlinePool | ProcessPool | None = None

    @property
    def depth(self) -> int:
        """Batches that should be under way at once."""
        return self._pool.depth if self._pool is not None else 1

    def submit(self, rows: Sequence[bytes], bytes_left: int, format_name: str = MESSAGES_FORMAT) -> Result:
        """Tokenize a batch; ``bytes_left`` is about how many bytes of rows there are from here on, itself included."""
        if self._pool is None:
            if bytes_left < WORKERS_BYTES_MIN:
                self._pool = InlinePool(self._make, self._on_error)
            else:
                self._pool = ProcessPool(self._make, self._on_error, self._workers)
        return self._pool.submit(rows, bytes_left, format_name)

    def close(self) -> None:
        """End the workers, if there are any."""
        if self._pool is not None:
            self._pool.close()


class _Remote:
    def __init__(self, future: Future[TokenizedRows]) -> None:
        self._future = future

    def result(self) -> TokenizedRows:
        try:
            return self._future.result()
        except BrokenProcessPool as error:
            raise _worker_died() from error


class _HandedOver:
    """Something for the workers, in a file that has no name and is gone with the last process that has it open.

    Not among the arguments of a process: they go through a pipe that holds 64 KiB, and the standard library waits for
    ever to write more to a process that died before it read. Not in a file with a name: nobody would remove it where
    this process is killed, or interrupted before anything is bound to close it.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def __reduce__(self) -> tuple[Callable[[Any], _HandedOver], tuple[Any]]:
        """To a process that is started, which inherits the file."""
        return _inherited, (reduction.DupFd(self._file.fileno()),)

    def load(self) -> Any:
        """What was handed over."""
        # A map, since all processes that inherit a file have one position in it.
        with mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return pickle.loads(content)

    def close(self) -> None:
        """For this process."""
        self._file.close()


def _hand_over(what: object) -> _HandedOver:
    try:
        file = tempfile.TemporaryFile(prefix="castore-")  # noqa: SIM115
        pickle.dump(what, file)
        file.flush()
    except OSError as error:
        message = f"no temporary file in {tempfile.tempdir or 'any folder'}: {error.strerror or error}"
        raise BackendError(message, full=is_full(error)) from error
    return _HandedOver(file)


def _inherited(descriptor: Any) -> _HandedOver:
    return _HandedOver(open(descriptor.detach(), "rb"))


def _worker_died() -> WorkerDiedError:
    main = sys.modules["__main__"]
    if getattr(main, "__spec__", None) is None and not str(getattr(main, "__file__", "castore")).endswith("castore"):
        return WorkerDiedError(
            "a worker process died, for want of memory or because this script does not begin below "
            "if __name__ == '__main__': run the same again to go on from here, with fewer workers"
        )
    return WorkerDiedError(
        "a worker process died, most likely for want of memory: run the same command again to go on from here, "
        "with fewer --workers"
    )


_INTERRUPTS = [number for name in ("SIGINT", "SIGTERM", "SIGHUP") if (number := getattr(signal, name, None))]
"""What asks this process to end: Ctrl-C, a scheduler, a terminal that closes."""


@contextlib.contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Block what asks to end in this thread; what comes meanwhile is delivered at the end.

    Libraries have threads of their own, which do not block it and so get it; Python then would interrupt this thread
    all the same, with a worker half started. So it is kept here meanwhile.
    """
    waiting = True
    came: list[tuple[int, FrameType | None]] = []
    handlers: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():  # only it may have handlers, or is interrupted
        handlers = {number: handler for number in _INTERRUPTS if callable(handler := signal.getsignal(number))}

    def handle(number: int, frame: FrameType | None) -> None:
        # Where one comes while handlers are put back, some are not: this then does as they would.
        if waiting:
            came.append((number, frame))
        else:
            handlers[number](number, frame)

    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        for number in handlers:
            signal.signal(number, handle)
        signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPTS)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        waiting = False
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for number, frame in came[:1]:
            handlers[number](number, frame)


_worker: tuple[ChatTokenizer, str] | None = None


def _start_worker(handed_over: _HandedOver) -> None:
    global _worker
    # What asks to end may reach the whole group, and the parent decides what it means. It was blocked from the start.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPTS)
    for work in (_end_with_parent, _end_if_told_by_parent):
        threading.Thread(target=work, daemon=True).start()
    _limit_threads()
    make, on_error = handed_over.load()
    handed_over.close()
    _worker = make(), on_error


def _tokenize(rows: Sequence[bytes], format_name: str) -> TokenizedRows:
    assert _worker is not None
    tokenizer, on_error = _worker
    return _reading(tokenizer, format_name).tokenize(rows, on_error=on_error)


def _reading(tokenizer: ChatTokenizer, format_name: str) -> ChatTokenizer:
    return tokenizer if format_name == MESSAGES_FORMAT else tokenizer.reading(format_name)


def _end_with_parent() -> None:
    """A parent that was killed cannot tell its workers, which would wait for work for ever."""
    parent = parent_process()
    if parent is not None:
        with contextlib.suppress(OSError):
            connection.wait([parent.sentinel])
        os._exit(1)


def _end_if_told_by_parent() -> None:
    """Obey a SIGTERM of the parent, by which the standard library ends what is left of a pool, and no other."""
    if hasattr(signal, "sigwaitinfo"):
        while signal.sigwaitinfo([signal.SIGTERM]).si_pid != os.getppid():
            pass
    else:  # macOS does not tell who sent it
        signal.sigwait([signal.SIGTERM])
        time.sleep(_TOLD_WAIT_S)
    os._exit(1)


def _limit_threads() -> None:
    """One thread a process in the tokenizer library; read by it when it first encodes."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["RAYON_NUM_THREADS"] = "1"


Pool: TypeAlias = InlinePool | ProcessPool | AdaptivePool


def processors() -> int:
    """Processors that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # only Linux tells which processors a process may use
        return os.cpu_count() or 1


def open_pool(make: Callable[[], ChatTokenizer], on_error: str, workers: int | None) -> Pool:
    """A pool of at most ``workers`` processes; with one, this process does the work itself.

    Args:
        make: Makes a tokenizer; must survive pickling.
        on_error: ``stop`` or ``skip``, as ``ChatTokenizer.tokenize`` takes it.
        workers: At least 1; None for one for each processor.
    """
    workers = workers or processors()
    return InlinePool(make, on_error) if workers == 1 else AdaptivePool(make, on_error, workers)
