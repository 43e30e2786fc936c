"""``--replace`` removes what an export wrote and nothing else, whatever stands in its folder."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from castore.errors import BackendError, InvalidInputError
from castore.export import receipt, whole_folder
from castore.export.receipt import END_BYTES, RECEIPT_FILE
from castore.export.whole_folder import LEFT_AGE_S, write_folder
from castore.store.processes import is_dead, this_process
from tests.export.earlier import earlier_export

NAMES = ("token_ids_part_0000.npy", "dataset_statistics.json", "tokenizer/tokenizer.json", "tokenizer/a/b.json")


def _one_file(folder: Path) -> None:
    (folder / "new").write_text("new")


def _replace(folder: Path) -> None:
    write_folder(str(folder), _one_file, replace=True)


def _state(folder: Path) -> dict[str, tuple[int, str | bytes | None]]:
    """Every entry below a folder: its kind, and the content or the aim of it."""
    found: dict[str, tuple[int, str | bytes | None]] = {}
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        content = str(path.readlink()) if path.is_symlink() else path.read_bytes() if stat.S_ISREG(mode) else None
        found[str(path.relative_to(folder))] = stat.S_IFMT(mode), content
    return found


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "mine").write_text("precious")
    earlier_export(tmp_path / "out", *NAMES)
    return tmp_path / "out"


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def _link(path: Path) -> None:
    path.symlink_to(path.parents[path.parts[::-1].index("out")].parent / "precious")


def _folder(path: Path) -> None:
    path.mkdir()
    (path / "mine").write_text("precious")


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _same_size(path: Path) -> None:
    path.write_text("OLD")


def _longer(path: Path) -> None:
    path.write_text("longer")


def _dangling(path: Path) -> None:
    path.symlink_to("nowhere")


MAKE: dict[str, Callable[[Path], None]] = {
    "link": _link, "dangling": _dangling, "folder": _folder, "pipe": _pipe, "same size": _same_size, "longer": _longer,
}  # fmt: skip


@pytest.mark.parametrize("make", MAKE)
@pytest.mark.parametrize("name", [*NAMES, "tokenizer", "tokenizer/a", RECEIPT_FILE])
def test_any_entry_in_place_of_another(out: Path, name: str, make: str) -> None:
    _remove(out / name)
    MAKE[make](out / name)
    before = _state(out.parent)
    with pytest.raises(InvalidInputError, match="is not replaced") as caught:
        _replace(out)
    assert Path(name).parts[0] in str(caught.value)
    assert str(out) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert _state(out.parent) == before


@pytest.mark.parametrize("make", MAKE)
@pytest.mark.parametrize("name", ["more", ".git", "tokenizer/more", "tokenizer/a/more", "token_ids_part_0001.npy"])
def test_any_entry_more(out: Path, name: str, make: str) -> None:
    MAKE[make](out / name)
    before = _state(out.parent)
    with pytest.raises(InvalidInputError, match=f"out holds '{name}', which .* is not replaced; move that away"):
        _replace(out)
    assert _state(out.parent) == before


@pytest.mark.parametrize("name", [*NAMES, "tokenizer", RECEIPT_FILE])
def test_what_cannot_be_read(out: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is refused anything as root, so the refusal is made."""
    owner, call = (os, "scandir") if name == "tokenizer" else (receipt, "open_regular")
    real = getattr(owner, call)

    def refused(path: os.PathLike[str]) -> object:
        if Path(path) == out / name:
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return real(path)

    before = _state(out.parent)
    with monkeypatch.context() as patch:
        patch.setattr(owner, call, refused)
        with pytest.raises(
            InvalidInputError, match=r"cannot be read \(Permission denied\).* is not replaced"
        ) as caught:
            _replace(out)
    assert name in str(caught.value)
    assert _state(out.parent) == before


def test_a_folder_without_a_receipt(out: Path) -> None:
    """Of another tool, or of a castore that left none."""
    (out / RECEIPT_FILE).unlink()
    with pytest.raises(InvalidInputError, match=r"out has no \.castore-export\.json.* remove it yourself"):
        _replace(out)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff", b'{"written_by": "castore export", "version": 2}'])
def test_a_receipt_that_is_none(out: Path, content: bytes) -> None:
    (out / RECEIPT_FILE).write_bytes(content)
    with pytest.raises(InvalidInputError, match="is not what an export writes"):
        _replace(out)


def test_a_receipt_of_another_folder(out: Path, tmp_path: Path) -> None:
    """Its names are looked for in the folder; they never lead out of it."""
    document = json.loads((out / RECEIPT_FILE).read_text())
    document["files"]["../precious/mine"] = {"bytes": 8, "ends_blake3": ""}
    (out / RECEIPT_FILE).write_text(json.dumps(document))
    _replace(out)
    assert (tmp_path / "precious" / "mine").read_text() == "precious"


def test_a_long_file_that_was_written_to_in_its_middle(tmp_path: Path) -> None:
    out = tmp_path / "out"

    def long(folder: Path) -> None:
        (folder / "long").write_bytes(bytes(4 * END_BYTES))

    write_folder(str(out), long)
    with (out / "long").open("r+b") as file:
        file.seek(2 * END_BYTES)
        file.write(b"labels of mine")
    later = time.time_ns() + 10**9
    os.utime(out / "long", ns=(later, later))  # the clock of files may stand still for milliseconds
    with pytest.raises(InvalidInputError, match="out holds 'long', which was changed since"):
        _replace(out)


def test_what_was_taken_away_is_no_loss(out: Path) -> None:
    (out / NAMES[0]).unlink()
    shutil.rmtree(out / "tokenizer" / "a")
    _replace(out)
    assert sorted(path.name for path in out.iterdir()) == [RECEIPT_FILE, "new"]


def test_what_comes_into_a_folder_that_is_being_removed(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a handle that somebody holds."""
    real = whole_folder.remove_own

    def remove_own(folder: Path, names: list[str]) -> None:
        (folder / "mine").write_text("precious")
        real(folder, names)

    monkeypatch.setattr(whole_folder, "remove_own", remove_own)
    with pytest.raises(BackendError, match=r"out is replaced, but what it held .*'mine' came into it"):
        _replace(out)
    left = next(out.parent.glob(".out.castore-old-*"))
    assert sorted(path.name for path in left.iterdir()) == [RECEIPT_FILE, "mine"]


@pytest.mark.parametrize("at", ["rename", "sync"])
def test_an_interrupt_while_folders_change_places(out: Path, at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C right before and right after each of the steps."""
    before = _state(out.parent)
    owner: object = Path if at == "rename" else whole_folder
    real = getattr(owner, at)
    for n in range(1, 9):
        calls: list[int] = []

        def interrupted(*arguments: object, n: int = n, calls: list[int] = calls) -> object:
            calls.append(1)
            if 2 * len(calls) - 1 == n:
                raise KeyboardInterrupt
            done = real(*arguments)
            if 2 * len(calls) == n:
                raise KeyboardInterrupt
            return done

        with monkeypatch.context() as patch:
            patch.setattr(owner, at, interrupted)
            try:
                _replace(out)
                break
            except KeyboardInterrupt:
                assert _state(out.parent) == before
    assert n > 2
    assert sorted(path.name for path in out.iterdir()) == [RECEIPT_FILE, "new"]
    assert sorted(path.name for path in out.parent.iterdir()) == ["out", "precious"]


# ---- what killed processes leave


@pytest.fixture(scope="module")
def dead() -> str:
    """A process of this machine that is gone, as it named itself."""
    script = "from castore.store.processes import this_process; print(this_process())"
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip()


def test_who_is_gone(dead: str) -> None:
    machine, number, start = this_process().split("-")
    assert is_dead(dead)
    assert not is_dead(this_process())
    assert is_dead(f"{machine}-{number}-{int(start) + 1}")  # another process has its number
    assert not is_dead(f"{machine}-{number}-0")
    assert not is_dead(f"{machine}-1-0")
    assert not is_dead("0123456789ab" + dead[12:])  # of another machine
    assert is_dead(f"{machine}-99999999999999999999-1")


def test_what_the_dead_left_goes(tmp_path: Path, dead: str) -> None:
    for name in (f".out.castore-new-{dead}-0a1b2c3d", f".other.castore-new-{dead}-0a1b2c3d"):
        earlier_export(tmp_path / name, "token_ids_part_0000.npy")
    earlier_export(tmp_path / f".out.castore-old-{dead}-0a1b2c3d", "token_ids_part_0000.npy")
    earlier_export(tmp_path / "out", "token_ids_part_0000.npy")
    _replace(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_that_was_moved_aside_comes_back(tmp_path: Path, dead: str) -> None:
    for name in ("out", "other"):
        earlier_export(tmp_path / f".{name}.castore-old-{dead}-0a1b2c3d", "token_ids_part_0000.npy")
        earlier_export(tmp_path / f".{name}.castore-new-{dead}-0a1b2c3d", "token_ids_part_0000.npy")
    with pytest.raises(InvalidInputError, match="already holds files"):
        write_folder(str(tmp_path / "out"), _one_file)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "out"]


def test_what_is_not_known_to_be_left_stays(tmp_path: Path, dead: str) -> None:
    elsewhere = "0123456789ab" + dead[12:]
    names = [
        f".out.castore-new-{this_process()}-0a1b2c3d",  # it lives
        f".out.castore-new-{elsewhere}-0a1b2c3d",
        f".out.castore-old-{elsewhere}-0a1b2c3d",
        f".out.castore-new-{dead}-0a1b2c3d.mine",
        f"out.castore-new-{dead}-0a1b2c3d",
        ".out.castore-new",
    ]
    for name in names:
        _folder(tmp_path / name)
    (tmp_path / f".link.castore-new-{dead}-0a1b2c3d").symlink_to(tmp_path / names[0])
    (tmp_path / f".file.castore-new-{dead}-0a1b2c3d").write_text("mine")
    earlier_export(tmp_path / "old", "token_ids_part_0000.npy")
    changed = tmp_path / f".old.castore-old-{dead}-0a1b2c3d"  # somebody wrote into what was moved aside
    earlier_export(changed, "token_ids_part_0000.npy")
    (changed / "mine").write_text("precious")
    before = _state(tmp_path)
    write_folder(str(tmp_path / "out"), _one_file)
    after = {name: entry for name, entry in _state(tmp_path).items() if name.partition("/")[0] != "out"}
    assert after == before


def test_what_another_machine_left_goes_when_it_is_old(tmp_path: Path, dead: str) -> None:
    left = tmp_path / f".out.castore-new-0123456789ab{dead[12:]}-0a1b2c3d"
    earlier_export(left, "tokenizer/tokenizer.json")
    long_ago = time.time() - LEFT_AGE_S - 60
    for path in (*left.rglob("*"), left):
        os.utime(path, (long_ago, long_ago))
    os.utime(left / "tokenizer" / "tokenizer.json")
    write_folder(str(tmp_path / "out"), _one_file)
    assert left.exists()  # it is written to
    os.utime(left / "tokenizer" / "tokenizer.json", (long_ago, long_ago))
    write_folder(str(tmp_path / "more"), _one_file)
    assert not left.exists()
