"""Any single thing in a repository is replaced by what cannot be read: no older value, no loss, no hang, no trace."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from castore.care.fsck import check
from castore.care.gc import DAY_S, Policy, collect
from castore.errors import BackendError, CastoreError
from castore.format.digest import Digest
from castore.repository import Repository
from castore.store.backend import MemoryBackend
from castore.store.local import LocalBackend
from castore.store.object_keys import object_key
from castore.store.refs import RefStore
from tests.support.as_nobody import NOBODY
from tests.support.complete import check_complete
from tests.support.effort import NIGHTLY
from tests.support.faults import FaultyBackend
from tests.support.jobs import CONVERSATIONS, ORIGIN, example_rows, run_job, tokenize, write_rows
from tests.support.layouts import loose

NOW = Policy(1, 3650 * DAY_S, 3650 * DAY_S)
"""All that no name means or has meant, and no record holds, is old enough to go."""

LIMIT_S = 30


@pytest.fixture(scope="module")
def made() -> Iterator[Path]:
    """One of everything that a repository holds, all of it old, in a folder that everybody may use."""
    folder = Path(tempfile.mkdtemp(prefix="castore-hidden-"))
    folder.chmod(0o777)
    rows = example_rows()[:12]
    backend = LocalBackend(str(folder / "repository"))
    for name, chosen in (("golden/m", rows), ("golden/m", rows[:8]), ("golden/m", rows[3:]), ("other", rows[:5])):
        mix = write_rows(folder / "rows.jsonl", chosen)
        run_job(loose(backend), [(mix, "1.0")], name=name, force=True, message="made")
    repository = Repository(loose(backend))
    repository.tag("other", "a/b/c", ORIGIN)
    repository.remove("other", ORIGIN)
    repository["golden/m"].pack(64)
    repository.export("golden/m", folder / "exported", layout="olmo-core")
    repository.import_folder(folder / "exported", "imported", ORIGIN)
    root = repository.dataset("golden/m").root
    for key in (
        f"signatures/golden/m/{root.hex()}/{'0' * 32}",
        f"writes/{'1' * 64}/{0:020d}",
        f"trash/{object_key(root)}",
    ):
        backend.put(key, b"something")
    backend.put("protected", b"golden/*\n")
    backend.flush()
    shutil.rmtree(folder / "exported")
    (folder / "repository/tmp").mkdir(exist_ok=True)
    age(folder / "repository")
    with quickly():
        operations(folder, {})
    garbage = Repository.open(str(folder / "repository")).objects
    garbage.put_bytes(b"nothing names it")
    garbage.flush()
    age(folder / "repository")
    yield folder
    shutil.rmtree(folder)


def age(folder: Path) -> None:
    """Let everything be a year old."""
    long_ago = time.time() - 365 * 24 * 3600
    for path in (folder, *folder.rglob("*")):
        os.utime(path, (long_ago, long_ago), follow_symlinks=False)


def targets(repository: Repository) -> dict[str, Digest | None]:
    """What each name means and has meant."""
    return {
        f"{name}@{{{n}}}": entry.target
        for name in repository.refs.all_names()
        for n, entry in enumerate(repository.refs.log(name))
    }


@contextmanager
def quickly() -> Iterator[None]:
    """Fail what waits for ever."""

    def late(number: int, frame: object) -> None:
        raise TimeoutError("it hangs")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(LIMIT_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def as_nobody(*, really: bool) -> Iterator[None]:
    """With the rights of a user who owns nothing but what was given to nobody, where this is root."""
    if not really or os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


SHAPES = ["dangling", "self", "dot", "folder", "full", "pipe", "unreadable"]


def put_in_place(victim: Path, shape: str) -> None:
    """Put something else where a file or folder was."""
    if shape in ("dangling", "self", "dot"):
        victim.symlink_to({"dangling": "/nonexistent/annex/object", "self": victim.name, "dot": "."}[shape])
    elif shape == "pipe":
        os.mkfifo(victim)
    elif shape in ("folder", "full"):
        victim.mkdir()
        if shape == "full":
            (victim / "x").write_bytes(b"x")
    else:
        victim.write_bytes(b"x")
        victim.chmod(0)


@contextmanager
def replaced(victim: Path, shape: str) -> Iterator[None]:
    """Something else where a file or folder was, which comes back."""
    kept = victim.with_name(".kept")
    victim.rename(kept)
    put_in_place(victim, shape)
    try:
        yield
    finally:
        if victim.is_dir() and not victim.is_symlink():
            shutil.rmtree(victim)
        else:
            victim.unlink(missing_ok=True)
        kept.rename(victim)


def operations(folder: Path, right: dict[str, Digest | None]) -> dict[str, str]:
    """Do everything that a user would; what each said that did not work."""
    place = str(folder / "repository")
    out = Path(tempfile.mkdtemp(dir=folder))
    said: dict[str, str] = {}

    def attempt(name: str, action: Callable[[Repository], Any]) -> Any:
        try:
            return action(Repository.open(place))
        except CastoreError as error:
            said[name] = str(error)
            assert "\n" not in said[name]
            return None

    def names(repository: Repository) -> None:
        for name in repository.refs.names():
            target = repository.refs.current(name)
            assert f"{name}@{{0}}" not in right or target == right[f"{name}@{{0}}"], "a name means something else"

    mix = [(CONVERSATIONS, "8")]
    try:
        attempt("fsck", lambda repository: said.update({f.key: f.text for f in repository.fsck().findings.listed}))
        attempt("gc", lambda repository: collect(repository.backend, NOW, force=True))
        attempt("ls", names)
        attempt("log", lambda repository: repository.log("golden/m"))
        attempt("read", lambda repository: [sample.token_ids for sample in repository["golden/m"]])
        attempt("diff", lambda repository: repository["golden/m"].diff(repository["a/b/c"]))
        attempt("export", lambda repository: repository.export("golden/m", out / "export"))
        attempt("copy", lambda repository: repository.copy("golden/m", out / "copy", "m", ORIGIN, create=True))
        attempt("tokenize", lambda repository: tokenize(repository, mix, "again"))
        attempt("repair", lambda repository: repository.fsck(repair_from=repository))
    finally:
        shutil.rmtree(out)
    return said


QUICK = [
    "format", "protected", "refs", "refs/golden/m", "refs/golden/m/00000000000000000002", "objects", "tmp",
    "refs/golden/m/00000000000000000001", "*units/*/*", "*objects/*", "*objects/*/*",
]  # fmt: skip


def victims(repository: Path, *, all_of_them: bool) -> list[Path]:
    if not all_of_them:
        return [sorted(repository.glob(name[1:]))[0] if name[0] == "*" else repository / name for name in QUICK]
    return sorted(path for path in repository.rglob("*") if ".castore" not in str(path))


def check_one(repository: Path, victim: Path, shape: str, right: dict[str, Digest | None]) -> None:
    """Replace one thing, do everything, bring it back, and see that nothing that a name needs is gone."""
    is_file = victim.is_file()
    if shape in ("folder", "full") and not is_file:
        return
    key = str(victim.relative_to(repository))
    with replaced(victim, shape):
        with quickly(), as_nobody(really=shape == "unreadable"):
            said = operations(repository.parent, right)
        there = stat.S_IFMT(victim.lstat().st_mode)
        wanted = {"pipe": stat.S_IFIFO, "folder": stat.S_IFDIR, "full": stat.S_IFDIR, "unreadable": stat.S_IFREG}
        assert there == wanted.get(shape, stat.S_IFLNK), "what is not castore's was replaced"
    if not key.startswith(("tmp", "clock", "trash")) and (is_file or shape != "unreadable"):
        assert any(key in text for text in (*said, *said.values())), f"nothing tells of {key}"
        assert "gc" in said or shape == "unreadable" or key == "protected", said
    if key.startswith("refs/golden/m/"):
        assert "log" in said
        assert "gc" in said
        newest = key.endswith("2")
        assert ("read" in said) == ("export" in said) == ("copy" in said) == newest
    found = Repository.open(str(repository))
    now = targets(found)
    assert {name: now.get(name) for name in right} == right
    check_complete(found)
    shutil.rmtree(repository / "refs/again", ignore_errors=True)  # which else would mean more every time


@pytest.fixture(scope="module")
def repository(made: Path) -> Iterator[Path]:
    """A copy, which belongs to nobody where this is root. Each test leaves it as it was, but for its age."""
    folder = Path(tempfile.mkdtemp(prefix="castore-hidden-"))
    folder.chmod(0o777)
    shutil.copytree(made / "repository", folder / "repository", symlinks=True)
    if os.geteuid() == 0:
        for path in (folder / "repository", *folder.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
    yield folder / "repository"
    shutil.rmtree(folder)


def _some() -> Iterator[Any]:
    """All shapes of what is worst, the two commonest ones of the others; the rest is slow."""
    for which, name in enumerate(QUICK):
        for shape in SHAPES:
            is_quick = shape in ("dangling", "unreadable") or name in ("refs", "refs/golden/m/00000000000000000002")
            yield pytest.param(which, shape, id=f"{name}-{shape}", marks=() if is_quick else pytest.mark.slow)


@pytest.mark.parametrize(("which", "shape"), [*_some()])
def test_what_cannot_be_read_is_told_and_loses_nothing(repository: Path, which: int, shape: str) -> None:
    right = targets(Repository.open(str(repository)))
    check_one(repository, victims(repository, all_of_them=False)[which], shape, right)


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_whatever_cannot_be_read_is_told_and_loses_nothing(repository: Path, shape: str) -> None:
    """Every single file and folder. Each meets two of the shapes in turn, and all in the profile ``nightly``."""
    right = targets(Repository.open(str(repository)))
    for number, victim in enumerate(victims(repository, all_of_them=True)):
        if os.path.lexists(victim) and (NIGHTLY or (number - SHAPES.index(shape)) % len(SHAPES) < 2):
            try:
                check_one(repository, victim, shape, right)
            except AssertionError as error:
                raise AssertionError(f"{victim}: {error}") from error


class Denying(FaultyBackend):
    """A store that lists a key and refuses to give its value: 403."""

    denied = ""

    def _note(self, operation: str, key: str) -> None:
        super()._note(operation, key)
        if key == self.denied and operation in ("get", "get_part"):
            raise BackendError(f"cannot read {self.url}: {key}: AccessDenied")


@pytest.fixture
def remote(made: Path) -> Denying:
    backend = MemoryBackend(clock=lambda: time.time() - 3e7)
    local = LocalBackend(str(made / "repository"))
    for key in local.list(""):
        backend.put(key, local.get(key, 1 << 20) or b"")
    backend.flush()
    backend.clock = time.time
    return Denying(backend)


@pytest.mark.parametrize(
    "kind", ["refs", "objects", "units", "imports", "packings", "signatures", "format", "protected"]
)
def test_a_store_that_denies_one_value(remote: Denying, kind: str) -> None:
    backend = remote.inner
    assert isinstance(backend, MemoryBackend)
    manifests = {object_key(Repository(backend).dataset(name).root) for name in ("golden/m", "imported")}
    for key in [*backend.list(kind)] or [kind]:
        before, remote.denied = backend.snapshot(), key
        found = {(finding.name, finding.key) for finding in check(remote).findings.listed}
        assert ("object-unreadable", key) in found
        assert not any(what.endswith(("-missing", "-gap", "-damaged")) and at == key for what, at in found)
        if kind in ("refs", "units", "imports", "packings") or key in manifests:
            with pytest.raises(BackendError, match="AccessDenied; nothing was removed"):
                collect(remote, NOW, force=True)
            assert {k: v for k, v in backend.snapshot().items() if k[:5] != "clock"} == before
        if kind == "refs":
            name, sequence = key.removeprefix("refs/").rsplit("/", 1)
            refs = RefStore(remote)
            assert name in refs.names() or name == "other"
            if refs.current_sequence(name) == int(sequence):
                with pytest.raises(BackendError, match="AccessDenied"):
                    refs.current(name)
