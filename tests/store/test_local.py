"""The promises of the local backend that only a file system can break: races, crashes, permissions, leftovers."""

from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from castore.errors import BackendError, ConflictError, CorruptionError
from castore.format.digest import Digest
from castore.store.backend import NotAValueError
from castore.store.local import LocalBackend
from castore.store.processes import this_process
from castore.store.refs import RefStore

LIMIT = 1 << 20


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def _create(root: str, barrier: Any, rounds: int, me: int, results: Any) -> None:
    backend = LocalBackend(root)
    for round_ in range(rounds):
        barrier.wait()
        results.put((round_, me, backend.create(f"refs/r/{round_}", b"%d" % me)))


def test_of_racing_processes_exactly_one_creates(tmp_path: Path) -> None:
    context, processes, rounds = multiprocessing.get_context("spawn"), 8, 8
    barrier, results = context.Barrier(processes), context.Queue()
    workers = [
        context.Process(target=_create, args=(str(tmp_path / "r"), barrier, rounds, me, results))
        for me in range(processes)
    ]
    for worker in workers:
        worker.start()
    answers = [results.get(timeout=60) for _ in range(processes * rounds)]
    for worker in workers:
        worker.join()
    for round_ in range(rounds):
        winners = [me for r, me, won in answers if r == round_ and won]
        assert [(tmp_path / "r/refs/r" / str(round_)).read_bytes()] == [b"%d" % me for me in winners]
    assert files(tmp_path / "r") == sorted(f"refs/r/{i}" for i in range(rounds))


def _count(root: str, times: int) -> None:
    refs = RefStore(LocalBackend(root))
    for _ in range(times):
        while True:
            old = refs.current("counter")
            new = Digest((0 if old is None else int.from_bytes(old, "big") + 1).to_bytes(32, "big"))
            try:
                # All processes write equal entries, so that nothing but the create can tell winners from losers.
                refs.compare_and_set("counter", old, new, time_s=0, author="a", message="m")
                break
            except ConflictError:
                continue


def test_a_counter_of_four_processes_loses_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_count, args=(str(tmp_path), 15)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    log = RefStore(LocalBackend(str(tmp_path))).log("counter")
    assert [entry.sequence for entry in log] == list(range(59, -1, -1))
    assert [int.from_bytes(entry.target or b"", "big") for entry in log] == list(range(59, -1, -1))


@pytest.mark.parametrize("where", ["put", "create"])
def test_a_killed_process_leaves_nothing_visible(tmp_path: Path, where: str) -> None:
    program = f"""
import os, signal
from castore.store.local import LocalBackend
def kill(*args, **kwargs): os.kill(os.getpid(), signal.SIGKILL)
backend = LocalBackend({str(tmp_path)!r})
backend.put("a/flushed", b"x"); backend.flush()
if {where!r} == "put":
    backend.put("a/lost", b"x" * 100000); assert backend.has("a/lost"); kill()
os.link = kill
backend.create("a/lost", b"x")
"""
    result = subprocess.run([sys.executable, "-c", program], env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})
    assert result.returncode == -signal.SIGKILL
    backend = LocalBackend(str(tmp_path))
    assert list(backend.list("")) == ["a/flushed"]
    assert backend.get("a/lost", LIMIT) is None
    assert backend.create("a/lost", b"y")
    backend.put("a/more", b"z")
    backend.flush()
    assert files(tmp_path) == ["a/flushed", "a/lost", "a/more"], "the next process removes what the dead one left"


def test_temporary_files_of_the_dead_go_and_others_stay(tmp_path: Path) -> None:
    machine, number, start = this_process().split("-")
    names = {
        "dead": f".castore-tmp-{machine}-{number}-{int(start) + 1}-0a",
        "alive": f".castore-tmp-{machine}-{number}-{start}-0a",
        "elsewhere": f".castore-tmp-0123456789ab-{number}-1-0a",
        "odd": ".castore-tmp---",
    }
    (tmp_path / "tmp").mkdir()
    for name in names.values():
        (tmp_path / "tmp" / name).write_bytes(b"")
    backend = LocalBackend(str(tmp_path))
    backend.put("o/1", b"")
    backend.flush()
    left = {path.name for path in (tmp_path / "tmp").iterdir()}
    assert left == {names["alive"], names["elsewhere"], names["odd"]}


def test_old_temporary_files_are_removed_and_young_ones_stay(tmp_path: Path) -> None:
    young, old = ".castore-tmp-1-a", ".castore-tmp-1-b"
    for folder in (tmp_path / "tmp", tmp_path / "refs/r"):
        folder.mkdir(parents=True)
        for name, age_s in ((young, 3600), (old, 2 * 24 * 3600), (".mine", 2 * 24 * 3600)):
            (folder / name).write_bytes(b"")
            os.utime(folder / name, (time.time() - age_s,) * 2)
    backend = LocalBackend(str(tmp_path))
    backend.get("refs/r/1", LIMIT)
    assert len(files(tmp_path)) == 6, "reading removes nothing"
    backend.put("o/1", b"")
    backend.create("refs/r/1", b"")
    backend.flush()
    assert files(tmp_path) == sorted(
        ["o/1", "refs/r/1", *(f"{folder}/{name}" for folder in ("tmp", "refs/r") for name in (young, ".mine"))]
    )


def test_folders_that_somebody_removed_are_made_again(tmp_path: Path) -> None:
    backend = LocalBackend(str(tmp_path / "place"))
    for _ in range(2):
        backend.put("objects/a/b", b"value")
        backend.flush()
        assert LocalBackend(str(tmp_path / "place")).get("objects/a/b", 10) == b"value"
        shutil.rmtree(tmp_path / "place")


def test_others_see_a_put_only_after_the_flush(tmp_path: Path) -> None:
    backend, other = LocalBackend(str(tmp_path)), LocalBackend(str(tmp_path))
    backend.put("a/b", b"x")
    assert not other.has("a/b")
    assert list(other.list("")) == []
    backend.flush()
    assert other.has("a/b")
    assert files(tmp_path) == ["a/b"]


class Journal:
    """The order of the calls that decide what survives a loss of power."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
        self.events: list[tuple[str, str]] = []
        opened: dict[int, str] = {}
        real_open, real_fsync = os.open, os.fsync
        real_replace, real_link = os.replace, os.link

        def name(path: Any) -> str:
            text = os.path.relpath(path, root)
            return "temp" if ".castore-tmp-" in text else text

        def spy_open(path: Any, *args: Any) -> int:
            fd = real_open(path, *args)
            opened[fd] = name(path)
            return fd

        def spy_fsync(fd: int) -> None:
            self.events.append(("sync", opened[fd]))
            real_fsync(fd)

        def spy(what: str, real: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
            def call(source: Any, target: Any) -> None:
                self.events.append((what, name(target)))
                real(source, target)

            return call

        monkeypatch.setattr(os, "open", spy_open)
        monkeypatch.setattr(os, "fsync", spy_fsync)
        monkeypatch.setattr(os, "replace", spy("name", real_replace))
        monkeypatch.setattr(os, "link", spy("name", real_link))

    def take(self) -> list[tuple[str, str]]:
        events, self.events[:] = list(self.events), []
        return events


def test_bytes_are_durable_before_their_name_and_the_name_on_return(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(monkeypatch, tmp_path / "new")
    backend = LocalBackend(str(tmp_path / "new"))
    backend.put("o/a/1", b"x")
    assert journal.take() == [("sync", "..")], "the entry of the root itself"
    backend.put("o/b/2", b"y")
    assert journal.take() == [], "a put does not wait for the disk"
    backend.flush()
    events = journal.take()
    assert events[:2] == [("sync", "temp")] * 2
    assert events[2:4] == [("name", "o/a/1"), ("name", "o/b/2")]
    assert sorted(events[4:]) == [("sync", "."), ("sync", "o"), ("sync", "o/a"), ("sync", "o/b")]
    backend.put("o/b/3", b"y")
    backend.flush()
    assert journal.take() == [("sync", "temp"), ("name", "o/b/3"), ("sync", "o/b")], "the folders above are known"
    assert backend.create("r/1", b"z")
    events = journal.take()
    assert events[:2] == [("sync", "temp"), ("name", "r/1")]
    assert sorted(events[2:]) == [("sync", "."), ("sync", "r")]
    backend.flush()
    assert journal.take() == []


def test_a_flush_vouches_for_what_another_process_has_just_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "o/a").mkdir(parents=True)
    (tmp_path / "o/a/1").write_bytes(b"renamed into place, folder not synced yet")
    journal = Journal(monkeypatch, tmp_path)
    backend = LocalBackend(str(tmp_path))
    assert backend.touch("o/a/1")
    backend.flush()
    assert ("sync", "o/a") in journal.take()


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failed_flush_leaves_nothing_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    backend = LocalBackend(str(tmp_path))
    for i in range(20):
        backend.put(f"o/{i:02}", b"x" * 100)
    real, calls = getattr(os, call), []

    def fail(*args: Any) -> None:
        calls.append(args)
        if len(calls) == 10:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(*args)

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(BackendError, match="disk full"):
        backend.flush()
    assert files(tmp_path / "tmp") == []
    there = list(backend.list(""))
    assert len(there) == (9 if call == "replace" else 0)
    assert all((tmp_path / key).read_bytes() == b"x" * 100 for key in there)
    for i in range(20):
        backend.put(f"o/{i:02}", b"y")
    backend.flush()
    assert len(files(tmp_path)) == 20


def test_a_failed_put_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, data: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    backend = LocalBackend(str(tmp_path))
    for write in (backend.put, backend.create):
        with pytest.raises(BackendError, match=rf"cannot write {tmp_path}.*: disk full$") as caught:
            write("a", b"x")
        assert isinstance(caught.value.__cause__, OSError)
    assert files(tmp_path) == []
    assert not backend.has("a")


def test_short_reads_and_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_read, real_write = os.read, os.write
    monkeypatch.setattr(os, "read", lambda fd, n: real_read(fd, min(n, 7)))
    monkeypatch.setattr(os, "write", lambda fd, data: real_write(fd, data[:5]))
    backend = LocalBackend(str(tmp_path))
    data = bytes(range(100))
    backend.put("a", data)
    assert backend.get("a", LIMIT) == data


def test_the_size_is_judged_before_anything_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open(tmp_path / "a", "wb") as file:
        file.truncate(1 << 40)
    monkeypatch.setattr(os, "read", lambda fd, n: pytest.fail("read"))
    with pytest.raises(CorruptionError, match="1099511627776 bytes"):
        LocalBackend(str(tmp_path)).get("a", LIMIT)


@pytest.mark.parametrize(
    ("number", "says", "transient"),
    [
        (errno.EACCES, "no permission", False),
        (errno.EROFS, "read-only", False),
        (errno.EDQUOT, "quota", False),
        (errno.EIO, os.strerror(errno.EIO), True),
        (errno.ESTALE, os.strerror(errno.ESTALE), True),
    ],
)
def test_errors_are_one_line_with_path_and_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, says: str, transient: bool
) -> None:
    backend = LocalBackend(str(tmp_path))
    backend.put("a", b"x")
    backend.flush()

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(os, "unlink", refuse)
    monkeypatch.setattr(os, "scandir", refuse)
    for act in (
        lambda: backend.get("a", LIMIT),
        lambda: backend.create("b", b""),
        lambda: backend.delete("a"),
        lambda: list(backend.list("")),
    ):
        with pytest.raises(BackendError) as caught:
            act()
        assert str(tmp_path) in str(caught.value)
        assert says in str(caught.value)
        assert "\n" not in str(caught.value)
        assert caught.value.transient is transient


def test_the_root_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"")
    backend = LocalBackend(str(tmp_path / "f"))
    for ask in (lambda: backend.get("a", LIMIT), lambda: list(backend.list("")), lambda: backend.put("a", b"")):
        with pytest.raises(BackendError, match="f is a file, not a folder"):
            ask()


def test_a_lost_answer_of_link_is_looked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.link
    lost: list[OSError] = [FileExistsError(errno.EEXIST, "File exists"), OSError(errno.ETIMEDOUT, "timed out")]

    def link(source: Any, target: Any) -> None:
        real(source, target)
        raise lost[0]

    monkeypatch.setattr(os, "link", link)
    backend = LocalBackend(str(tmp_path))
    assert backend.create("a", b"x")
    lost.pop(0)
    assert backend.create("b", b"x")

    def refuse(source: Any, target: Any) -> None:
        raise lost[0]

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(BackendError, match="timed out"):
        backend.create("c", b"x")
    lost[0] = OSError(errno.ENOTSUP, "not supported")
    with pytest.raises(BackendError, match="hard links"):
        backend.create("c", b"x")
    assert files(tmp_path) == ["a", "b"]


@pytest.mark.parametrize(
    ("umask", "file", "folder"), [(0o002, 0o664, 0o775), (0o022, 0o644, 0o755), (0o077, 0o600, 0o700)]
)
def test_the_umask_decides_who_may_read(tmp_path: Path, umask: int, file: int, folder: int) -> None:
    old = os.umask(umask)
    try:
        backend = LocalBackend(str(tmp_path / "r"))
        backend.put("a/b", b"")
        backend.create("c/d", b"")
        backend.flush()
    finally:
        os.umask(old)
    modes = {p.relative_to(tmp_path).as_posix(): stat.S_IMODE(p.stat().st_mode) for p in tmp_path.rglob("*")}
    assert modes.pop("r/a/b") == modes.pop("r/c/d") == file
    assert set(modes) == {"r", "r/a", "r/c", "r/tmp"}
    assert set(modes.values()) == {folder}


def test_touch_renews_the_age(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = LocalBackend(str(tmp_path))
    backend.put("a", b"x")
    backend.flush()
    os.utime(tmp_path / "a", (1, 1))
    assert backend.touch("a")
    assert time.time() - (tmp_path / "a").stat().st_mtime < 60

    def refuse(path: Any) -> None:
        raise PermissionError(errno.EPERM, "not the owner")

    os.utime(tmp_path / "a", (1, 1))
    monkeypatch.setattr(os, "utime", refuse)
    assert backend.touch("a"), "another user's file is replaced by its copy"
    backend.flush()
    assert time.time() - (tmp_path / "a").stat().st_mtime < 60
    assert (tmp_path / "a").read_bytes() == b"x"


def test_a_forked_child_leaves_the_parents_puts_alone(tmp_path: Path) -> None:
    backend = LocalBackend(str(tmp_path))
    backend.put("a", b"parent")
    pid = os.fork()
    if pid == 0:
        good = False
        try:
            backend.put("b", b"child")
            backend.flush()
            good = not backend.has("a")
        finally:
            os._exit(0 if good else 1)  # nothing of pytest may run twice
    assert os.waitpid(pid, 0)[1] == 0
    assert LocalBackend(str(tmp_path)).get("b", LIMIT) == b"child"
    backend.flush()
    assert (tmp_path / "a").read_bytes() == b"parent"


def test_a_relative_root_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    backend = LocalBackend("r")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    backend.create("a", b"")
    assert files(tmp_path) == ["r/a"]


def test_links_in_the_folder_are_followed(tmp_path: Path) -> None:
    # Whoever moved refs/ elsewhere and left a link must not find that a listing without refs made gc remove everything.
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/file").write_bytes(b"x")
    root = tmp_path / "r"
    root.mkdir()
    (root / "a").symlink_to(tmp_path / "elsewhere")
    backend = LocalBackend(str(root))
    assert list(backend.list("")) == ["a/file"]
    assert backend.create("a/new", b"")
    assert list(backend.list("a")) == ["a/file", "a/new"]
    (root / "a/loop").symlink_to(root / "a")
    for prefix in ("", "a"):
        with pytest.raises(NotAValueError, match="loop is a link into the repository itself, not a folder"):
            list(backend.list(prefix))


def _in_place(path: Path, what: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if what == "a pipe":
        os.mkfifo(path)
    elif what == "a folder":
        path.mkdir()
    elif what == "a device":
        path.symlink_to("/dev/zero")
    elif what == "a socket":
        with socket.socket(socket.AF_UNIX) as bound:
            path.parent.mkdir(exist_ok=True)
            here = Path.cwd()
            os.chdir(path.parent)  # names of sockets are short
            bound.bind(path.name)
            os.chdir(here)
    else:
        path.symlink_to("nowhere" if what == "a link that leads nowhere" else path.name)


NO_VALUES = [
    "a pipe", "a folder", "a device", "a socket", "a link that leads nowhere", "a link that leads in a circle",
]  # fmt: skip


@pytest.mark.parametrize("what", NO_VALUES)
def test_what_is_no_value_is_neither_absent_nor_replaced_nor_removed(tmp_path: Path, what: str) -> None:
    _in_place(tmp_path / "o/1", what)
    before = (tmp_path / "o/1").lstat()
    backend = LocalBackend(str(tmp_path))
    backend.put("o/2", b"good")
    asks: dict[str, Callable[[], object]] = {
        "get": lambda: backend.get("o/1", LIMIT),
        "has": lambda: backend.has("o/1"),
        "touch": lambda: backend.touch("o/1"),
        "delete": lambda: backend.delete("o/1"),
        "expire": lambda: backend.expire("o/1", 2.0**33),
        "put": lambda: (backend.put("o/1", b"x"), backend.flush()),
    }
    for name, ask in asks.items():
        with pytest.raises(NotAValueError, match=f"^{tmp_path}/o/1 is {what}, not a file of the repository$"):
            ask()
        assert (tmp_path / "o/1").lstat().st_ino == before.st_ino, name
    assert not backend.create("o/1", b"x")
    (found,) = (entry for entry in backend.everything("", details=True) if entry.key == "o/1")
    assert (
        found.is_folder
        if what == "a folder"
        else found.fault == f"{tmp_path}/o/1 is {what}, not a file of the repository"
    )
    assert ("o/1" in backend.list("")) == (what != "a folder")
    assert not [*(tmp_path / "tmp").iterdir()], "nothing is left of what could not be put"


@pytest.mark.parametrize("what", [*NO_VALUES[2:], "a pipe", "a file", "a link into the repository itself"])
def test_what_is_no_folder_hides_nothing_silently(tmp_path: Path, what: str) -> None:
    if what == "a file":
        (tmp_path / "o").write_bytes(b"")
    elif what == "a link into the repository itself":
        (tmp_path / "o").symlink_to(".")
    else:
        _in_place(tmp_path / "o", what)
    backend = LocalBackend(str(tmp_path))
    asks: list[Callable[[], object]] = [
        lambda: backend.get("o/1/2", LIMIT),
        lambda: backend.has("o/1"),
        lambda: backend.touch("o/1"),
        lambda: [*backend.list("o")],
        lambda: [*backend.entries("o/1")],
        lambda: backend.create("o/1/2", b"x"),
        lambda: (backend.put("o/1", b"x"), backend.flush()),
    ]
    for ask in asks:
        with pytest.raises(NotAValueError, match=f"^{tmp_path}/o is {what}, not a folder of the repository$"):
            ask()


def test_links_never_make_paths_endless(tmp_path: Path) -> None:
    root, disk = tmp_path / "r", tmp_path / "disk"
    (disk / "inner").mkdir(parents=True)
    (disk / "value").write_bytes(b"x")
    (disk / "inner/up").symlink_to(disk)
    for number in range(30):  # two ways at each of thirty steps
        (tmp_path / f"step{number}").mkdir()
        for name in "ab":
            (tmp_path / f"step{number}" / name).symlink_to(tmp_path / f"step{number + 1}")
    (tmp_path / "step30").mkdir()
    root.mkdir()
    (root / "disk").symlink_to(disk)
    (root / "many").symlink_to(tmp_path / "step0")
    (root / "top").symlink_to("/")
    (root / "above").symlink_to(tmp_path)
    backend = LocalBackend(str(root))
    found = [*backend.everything("", details=True)]
    assert [entry.key for entry in found if not entry.is_folder] == ["disk/value"]
    faults = {entry.key for entry in found if entry.fault}
    assert {"top", "above", "disk/inner/up", "many/b"} <= faults
    assert len(found) < 100
    with pytest.raises(NotAValueError):
        list(backend.list(""))


def test_a_link_to_a_file_is_read_and_never_removed_for_its_age(tmp_path: Path) -> None:
    (tmp_path / "annex").write_bytes(b"value")
    (tmp_path / "r/o").mkdir(parents=True)
    (tmp_path / "r/o/1").symlink_to("../../annex")
    backend = LocalBackend(str(tmp_path / "r"))
    assert backend.get("o/1", LIMIT) == b"value"
    assert [(entry.key, entry.size_bytes) for entry in backend.entries("")] == [("o/1", 5)]
    assert backend.touch("o/1")
    assert not backend.expire("o/1", 2.0**33)
    assert backend.get("o/1", LIMIT) == b"value"
    backend.put("o/1", b"other")
    backend.flush()
    assert (tmp_path / "annex").read_bytes() == b"value"
    assert backend.get("o/1", LIMIT) == b"other"


def test_what_is_aside_and_no_file_gets_no_name(tmp_path: Path) -> None:
    backend = LocalBackend(str(tmp_path))
    backend.put("o/1", b"old")
    backend.flush()
    _in_place(tmp_path / "tmp/.castore-expired/o/2.1-a", "a pipe")
    _in_place(tmp_path / "tmp/.castore-expired/o/3.1-a", "a link that leads nowhere")
    _in_place(tmp_path / "tmp/.castore-tmp-1-a", "a pipe")
    assert backend.expire("o/1", 2.0**33)
    assert list(LocalBackend(str(tmp_path)).list("o")) == []
    assert stat.S_ISFIFO((tmp_path / "tmp/.castore-expired/o/2.1-a").lstat().st_mode)


class _Gate:
    """Stops a thread inside one call of ``os`` until the test lets it go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        self.reached, self.go_on = threading.Event(), threading.Event()
        real = getattr(os, name)

        def gated(*args: Any) -> Any:
            monkeypatch.setattr(os, name, real)
            self.reached.set()
            assert self.go_on.wait(30)
            return real(*args)

        monkeypatch.setattr(os, name, gated)


@pytest.mark.parametrize("step", ["rename", "unlink", "link"])
def test_expiring_against_a_writer_that_reuses_the_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    writer = LocalBackend(str(tmp_path))
    writer.put("o/a", b"x")
    writer.flush()
    os.utime(tmp_path / "o/a", (1000, 1000))
    if step == "link":  # it must have been renewed before, or nothing is linked back
        rename = _Gate(monkeypatch, "rename")
    gate = _Gate(monkeypatch, step)
    results: list[bool] = []
    thread = threading.Thread(target=lambda: results.append(LocalBackend(str(tmp_path)).expire("o/a", 2000.0)))
    thread.start()
    if step == "link":
        assert rename.reached.wait(30)
        assert writer.touch("o/a")
        rename.go_on.set()
    assert gate.reached.wait(30)
    # Whatever the writer is told must be true for ever after.
    if not writer.touch("o/a"):
        writer.put("o/a", b"x")
    assert LocalBackend(str(tmp_path)).get("o/a", LIMIT) == b"x", "a reader finds it at every moment"
    assert LocalBackend(str(tmp_path)).get_part("o/a", -1, 1) == b"x", "and a part of it"
    writer.flush()
    gate.go_on.set()
    thread.join()
    assert LocalBackend(str(tmp_path)).get("o/a", LIMIT) == b"x"
    assert results == [step == "unlink"]
    assert files(tmp_path) == ["o/a"]


def test_what_a_dead_sweep_left_aside_is_read_and_settled(tmp_path: Path) -> None:
    aside = tmp_path / "tmp/.castore-expired/o"
    aside.mkdir(parents=True)
    (aside / "young.1-ab").write_bytes(b"young")
    (aside / "old.1-ab").write_bytes(b"old")
    os.utime(aside / "old.1-ab", (1000, 1000))
    backend = LocalBackend(str(tmp_path))
    assert list(backend.list("")) == []
    assert backend.get("o/young", LIMIT) == b"young"
    assert not backend.expire("o/other", 2000.0)
    assert files(tmp_path) == ["o/old", "o/young"], "who knows what is in use decides, at the next collection"
    assert backend.expire("o/old", 2000.0)
    assert files(tmp_path) == ["o/young"]


def test_two_sweeps_settle_what_lies_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that finds a value young is about to give it its name when the other, which finds it old, removes it."""
    root = tmp_path / "r"
    backend = LocalBackend(str(root))
    backend.put("a/other", b"x")
    backend.flush()
    aside = root / "tmp" / ".castore-expired" / "a" / "b.1-1"
    aside.parent.mkdir(parents=True)
    aside.write_bytes(b"x")
    real = os.link

    def link(source: str, target: str) -> None:
        if source == str(aside):
            aside.unlink()
        real(source, target)

    monkeypatch.setattr(os, "link", link)
    assert not backend.expire("a/other", 1.0)
    assert list(backend.list("")) == ["a/other"]


@pytest.mark.parametrize("jump_s", [3601, -3601])
def test_a_put_is_not_held_back_for_hours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump_s: int) -> None:
    """Temporary files of a day count as left behind, and some writers take days."""
    backend, other = LocalBackend(str(tmp_path / "r")), LocalBackend(str(tmp_path / "r"))
    backend.put("a", b"1")
    backend.put("b", b"2")
    assert list(other.list("")) == []
    now = time.time()
    monkeypatch.setattr("castore.store.local.time", lambda: now + jump_s)
    backend.put("c", b"3")
    assert list(other.list("")) == ["a", "b"]
    backend.put("d", b"4")
    assert list(other.list("")) == ["a", "b"]
    monkeypatch.setattr("castore.store.local._HELD_BACK_FILES", 2)
    backend.put("e", b"5")
    assert list(other.list("")) == ["a", "b", "c", "d"]
