"""Workers: results in order, errors as themselves, no process left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from castore.errors import BackendError, CastoreError, InvalidInputError
from castore.ingest import pool
from castore.ingest.chat import RowError
from castore.ingest.pool import WORKERS_BYTES_MIN, AdaptivePool, InlinePool, ProcessPool, open_pool
from castore.ingest.tokenizer import TokenizedRows
from tests.support.commands import environment


@dataclass
class FakeTokenizer:
    """Does what the first row of a batch says. Only as much of a ChatTokenizer as a pool uses."""

    made_in: int = field(default_factory=os.getpid)

    def load(self) -> None:
        """Nothing to load."""

    def tokenize(self, rows: Sequence[bytes], *, on_error: str = "stop") -> TokenizedRows:
        what, _, rest = rows[0].partition(b" ")
        if what == b"sleep":
            time.sleep(float(rest))
        elif what == b"bad":
            raise RowError("is bad", field="messages[2].role", index=7)
        elif what == b"broken":
            raise InvalidInputError("the tokenizer folder is broken")
        elif what == b"die":
            os._exit(1)
        elif what == b"kill":
            os.kill(os.getpid(), signal.SIGKILL)
        numbers = np.array([os.getpid(), self.made_in, len(rows), on_error == "skip"], np.uint32)
        environment = [os.environ["TOKENIZERS_PARALLELISM"], str(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)]
        return TokenizedRows(numbers, numbers, numbers, numbers, numbers, numbers, dropped=list(enumerate(environment)))


def make_pool(workers: int, on_error: str = "stop") -> Any:
    return open_pool(FakeTokenizer, on_error, workers)  # type: ignore[arg-type]


def process_pool() -> ProcessPool:
    return ProcessPool(FakeTokenizer, "stop", 2)  # type: ignore[arg-type]


@pytest.fixture
def two() -> Iterator[ProcessPool]:
    pool = process_pool()
    yield pool
    pool.close()


def test_one_worker_is_this_process() -> None:
    pool = make_pool(1, "skip")
    assert isinstance(pool, InlinePool)
    assert pool.depth == 1
    result = pool.submit([b"x", b"y"]).result()
    assert result.rows.tolist() == [os.getpid(), os.getpid(), 2, True]
    with pytest.raises(RowError):
        pool.submit([b"bad"]).result()
    pool.close()


def test_one_worker_tokenizes_when_asked() -> None:
    pool = make_pool(1)
    first, second = pool.submit([b"bad"]), pool.submit([b"x"])  # raises nothing yet
    assert second.result().lengths[2] == 1
    with pytest.raises(RowError):
        first.result()


@pytest.mark.slow
def test_results_come_in_the_order_of_submission(two: ProcessPool) -> None:
    assert two.depth == 4
    results = [two.submit([b"sleep %f" % s, *[b"x"] * i]) for i, s in enumerate([0.4, 0.0, 0.2, 0.0])]
    found = [result.result() for result in results]
    assert [int(r.lengths[2]) for r in found] == [1, 2, 3, 4]
    pids = {int(r.lengths[0]) for r in found}
    assert len(pids) == 2
    assert os.getpid() not in pids
    # Each worker has a tokenizer of its own, one thread, and leaves Ctrl-C to the parent.
    assert {int(r.lengths[1]) for r in found} <= pids
    assert {tuple(text for _, text in r.dropped) for r in found} == {("false", "True")}


@pytest.mark.slow
def test_errors_come_home_as_themselves(two: ProcessPool) -> None:
    bad, broken, good = two.submit([b"bad"]), two.submit([b"broken"]), two.submit([b"x"])
    with pytest.raises(RowError) as caught:
        bad.result()
    assert (caught.value.index, caught.value.field, caught.value.reason) == (7, "messages[2].role", "is bad")
    with pytest.raises(InvalidInputError, match="the tokenizer folder is broken"):
        broken.result()
    assert good.result().lengths[2] == 1


@pytest.mark.slow
@pytest.mark.parametrize("how", [b"die", b"kill"])
def test_a_worker_that_dies_is_one_clear_line(two: ProcessPool, how: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    dying = two.submit([how])
    monkeypatch.setattr(sys.modules["__main__"], "__file__", "/usr/bin/castore", raising=False)  # of the command line
    with pytest.raises(CastoreError, match=r"^a worker process died[^\n]*--workers$"):
        dying.result()
    # Whatever comes after it is refused in the same words.
    with pytest.raises(CastoreError, match="a worker process died"):
        two.submit([b"x"]).result()


@pytest.mark.slow
def test_closing_drops_what_has_not_begun() -> None:
    pool = process_pool()
    first = pool.submit([b"sleep 0"])
    first.result()
    waiting = [pool.submit([b"sleep 0.2"])._future for _ in range(40)]  # type: ignore[attr-defined]
    pool.close()
    assert sum(future.cancelled() for future in waiting) > 20
    assert all(future.done() for future in waiting)
    assert not [thread for thread in threading.enumerate() if "Executor" in type(thread).__name__]


def broken_make() -> Any:
    raise InvalidInputError("no tokenizer here")


@pytest.mark.slow
def test_a_worker_that_cannot_begin() -> None:
    pool = ProcessPool(partial(broken_make), "stop", 2)
    try:
        with pytest.raises(CastoreError):
            pool.submit([b"x"]).result()
    finally:
        pool.close()


@pytest.mark.slow
def test_an_interrupt_waits_until_a_worker_is_started(two: ProcessPool) -> None:
    """While a worker is started Ctrl-C is blocked, and after that it is not."""
    seen = []
    real = two._pool.submit

    def submit(*arguments: Any) -> Any:
        seen.append(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        return real(*arguments)

    two._pool.submit = submit  # type: ignore[method-assign, assignment]
    two.submit([b"x"]).result()
    assert seen == [True]
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_workers_are_not_started_for_little() -> None:
    pool = make_pool(2, "skip")
    assert isinstance(pool, AdaptivePool)
    assert pool.submit([b"x"], WORKERS_BYTES_MIN - 1).result().rows.tolist() == [os.getpid(), os.getpid(), 1, True]
    assert pool.depth == 1
    # Decided once: this process has its tokenizer now.
    assert pool.submit([b"x"], 10 * WORKERS_BYTES_MIN).result().rows[0] == os.getpid()
    pool.close()


@pytest.mark.slow
def test_workers_are_started_for_much() -> None:
    pool = make_pool(2)
    try:
        assert pool.submit([b"x"], WORKERS_BYTES_MIN).result().rows[0] != os.getpid()
        assert pool.depth == 4
        assert pool.submit([b"x"], 1).result().rows[0] != os.getpid()
    finally:
        pool.close()


def test_a_pool_that_had_nothing_to_do() -> None:
    make_pool(2).close()


def test_an_interrupt_that_another_thread_gets_waits_too() -> None:
    """Libraries have threads that do not block it, and Python hands it on to the main thread."""
    started, done, reached = threading.Event(), threading.Event(), []
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)

    def idle() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        started.set()
        done.wait()

    def work() -> None:
        with pool._interrupts_wait():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.05)  # the other thread gets it, and Python would interrupt here
            reached.append("the end of the block")
        reached.append("what follows")

    thread = threading.Thread(target=idle)
    thread.start()
    started.wait()
    try:
        with pytest.raises(KeyboardInterrupt):
            work()
        assert reached == ["the end of the block"]
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        done.set()
        thread.join()
        signal.signal(signal.SIGINT, handler)


def test_an_interrupt_while_handlers_are_put_back() -> None:
    """None is lost after that, whichever was put back already."""
    ours = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    came: list[int] = []

    def handle(number: int, frame: object) -> None:
        came.append(number)
        if len(came) == 1:
            raise KeyboardInterrupt

    def put_back(number: int, handler: Any) -> Any:
        before = real(number, handler)
        if handler is handle and number == signal.SIGINT:
            signal.raise_signal(number)
        return before

    before = [signal.signal(number, handle) for number in ours]
    real = signal.signal
    try:
        with pytest.raises(KeyboardInterrupt), pytest.MonkeyPatch.context() as patch, pool._interrupts_wait():
            patch.setattr(signal, "signal", put_back)
        for number in ours:
            signal.raise_signal(number)
        assert came == [signal.SIGINT, *ours]
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()).isdisjoint(ours)
    finally:
        for number, handler in zip(ours, before, strict=True):
            signal.signal(number, handler)


def test_what_workers_are_handed_has_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However a process ends, nothing of it stays, since there is never anything to be removed."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    two = process_pool()
    try:
        assert list(tmp_path.iterdir()) == []
        results = [two.submit([b"x"]).result() for _ in range(3)]
        assert os.getpid() not in {int(result.lengths[0]) for result in results}
        assert list(tmp_path.iterdir()) == []
    finally:
        two.close()


def test_no_room_for_what_workers_are_handed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with pytest.raises(BackendError, match=rf"^no temporary file in {tmp_path}/missing: No such file or directory$"):
        process_pool()


_SCRIPT = """
import sys
from functools import partial
from castore.errors import WorkerDiedError
from castore.ingest.pool import ProcessPool

pool = ProcessPool(partial(bytes, bytearray(1 << 20)), "stop", 2)  # more than a pipe holds
try:
    pool.submit([b"x"]).result()
except WorkerDiedError as error:
    sys.exit(f"said: {error}")
finally:
    pool.close()
"""


@pytest.mark.slow
def test_a_script_without_a_guard_ends(tmp_path: Path) -> None:
    """Each worker imports the script, which would start workers again: Python refuses, and nobody waits for it."""
    script = tmp_path / "script.py"
    script.write_text(_SCRIPT)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    env = environment(TMPDIR=str(temporary))
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, env=env)
    assert done.returncode == 1
    assert "said: a worker process died" in done.stderr.splitlines()[-1]
    assert "__name__ == '__main__'" in done.stderr.splitlines()[-1]
    assert not list(temporary.iterdir())
