"""Every kind of record: one byte that its key covers gives another key, what it does not cover the same one."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers

from castore.format.digest import Digest, digest_hex, digest_of
from castore.format.files import encode_vocabulary
from castore.format.run import RunOrigin
from castore.ingest.import_folder import import_folder
from castore.ingest.sample_writer import SampleWriter
from castore.ingest.tokenizer_folder import TokenizerFolder
from castore.ingest.write_job import WriteJob
from castore.olmo.folder import OlmoCoreFolder
from castore.repository import Origin, Repository
from castore.store.backend import MemoryBackend
from castore.store.imports import ImportStore
from castore.store.marker import open_layout
from castore.store.signatures import Signature, signed_bytes
from castore.train.instances import PackingRule
from castore.train.stored import stored_packing
from tests.support.jobs import TOKENIZER, row, run_job, write_rows
from tests.support.olmo_core import documents, write_folder

HERE = RunOrigin("a tester", "0", "somewhere", "", 1_700_000_000)
ELSEWHERE = RunOrigin("another", "0", "elsewhere", "again", 1_800_000_000)
ROWS = [row("question", "answer"), row("more", "of it")]


def opened() -> Repository:
    backend = MemoryBackend()
    open_layout(backend, create=True)
    return Repository(backend)


# ---- units


def units(folder: Path, **options: Any) -> set[str]:
    """Keys of the units of a run over one file."""
    repository = opened()
    rows = options.pop("rows", ROWS)
    run_job(repository.backend, [(write_rows(folder / options.pop("file", "in.jsonl"), rows), "1.0")], **options)
    return set(repository.backend.list("units"))


def tokenizer_with(folder: Path, change: Callable[[Path], None] = lambda path: None) -> Path:
    shutil.copytree(TOKENIZER, folder)
    change(folder)
    return folder


def _edit(name: str, **entries: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | entries))

    return change


def _longer(name: str) -> Callable[[Path], None]:
    """One byte more, which means nothing."""
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes() + b"\n") and None


def _template(text: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = folder / "a.jinja"
        path.write_text(text)
        return path

    return write


PLAIN = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
DATED = "{{ strftime_now('%d') }}\n" + PLAIN
UNIT_CHANGES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "a byte of a row": lambda folder: {"rows": [ROWS[0], ROWS[1].replace(b"of it", b"of iT")]},
    "an added row": lambda folder: {"rows": [*ROWS, ROWS[0]]},
    "the template": lambda folder: {"chat_template": str(_template(PLAIN.replace(": ", ":"))(folder))},
    "tokenizer.json": lambda folder: {"tokenizer": tokenizer_with(folder / "t", _longer("tokenizer.json"))},
    "a special token": lambda folder: {
        "tokenizer": tokenizer_with(folder / "t", _edit("tokenizer_config.json", unk_token="<unk>"))
    },
    "the date": lambda folder: {"chat_template": str(_template(DATED)(folder)), "date": "2026-01-02"},
    "the longest sequence": lambda folder: {"max_seq_length": 9},
}


@pytest.mark.parametrize("change", UNIT_CHANGES)
def test_a_unit_covers(tmp_path: Path, change: str) -> None:
    template = str(_template(DATED if change == "the date" else PLAIN)(tmp_path))
    (tmp_path / "other").mkdir()
    usual = units(tmp_path, chat_template=template, **({"date": "2026-01-01"} if change == "the date" else {}))
    assert usual
    assert not usual & units(tmp_path, **{"chat_template": template} | UNIT_CHANGES[change](tmp_path / "other"))


def test_a_unit_covers_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = units(tmp_path)
    monkeypatch.setattr(tokenizers, "__version__", "0.1.0")
    assert not usual & units(tmp_path)


def test_a_unit_does_not_cover_what_cannot_change_tokens(tmp_path: Path) -> None:
    """Path, name, time, host, author, workers, seed, and what the tokenizer folder is called and holds besides."""
    usual = units(tmp_path)
    there = tmp_path / "there"
    there.mkdir()
    tokenizer = tokenizer_with(there / "tokenizer", lambda folder: folder.joinpath("README.md").write_text("more"))
    os.utime(write_rows(there / "in.jsonl", ROWS), (1, 1))
    other = Origin("another", "elsewhere", 1_800_000_000)
    assert units(there, file="b.jsonl", name="x", tokenizer=tokenizer, origin=other, shuffle_seed=7) == usual
    assert units(tmp_path, workers=2) == usual


# ---- imports


def imports(path: Path, origin: RunOrigin = HERE, **options: Any) -> set[str]:
    repository = opened()
    import_folder(OlmoCoreFolder(str(path)), repository.objects, ImportStore(repository.backend), origin, **options)
    return set(repository.backend.list("imports"))


def _flip(name: str, at: int) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        data = bytearray((path / name).read_bytes())
        data[at] ^= 1
        (path / name).write_bytes(data)

    return change


def _said(path: Path) -> None:
    file = path / "dataset_statistics.json"
    said = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(said | {"per_dataset_statistics": [{"dataset_name": "b"}]}))


@pytest.mark.parametrize("change", [_flip("token_ids_part_0000.npy", 4), _flip("labels_mask_part_0000.npy", 5), _said])
def test_an_import_covers(tmp_path: Path, change: Callable[[Path], None]) -> None:
    path = write_folder(tmp_path / "out", documents(20))
    usual = imports(path)
    assert len(usual) == 2
    seeded = imports(path, shuffle_seed=1)
    assert not usual & seeded
    assert not seeded & imports(path, shuffle_seed=2)
    change(path)
    assert imports(path) - usual  # one of the two names is that of the shape alone
    assert imports(path, shuffle_seed=1) - seeded


def test_an_import_covers_boundaries(tmp_path: Path) -> None:
    made = documents(20)
    joined = [(made[0][0] + made[1][0], made[0][1] + made[1][1]), *made[2:]]
    folders = [write_folder(tmp_path / name, some) for name, some in (("a", made), ("b", joined))]
    assert not imports(folders[0]) & imports(folders[1])


def test_an_import_does_not_cover_path_time_and_host(tmp_path: Path) -> None:
    path = write_folder(tmp_path / "out", documents(20))
    usual = imports(path)
    there = shutil.copytree(path, tmp_path / "there")
    os.utime(there / "token_ids_part_0000.npy", (1, 1))
    (there / "README.md").write_text("more")
    assert imports(there, ELSEWHERE) == usual


# ---- writes


@pytest.mark.parametrize(
    "fields",
    [
        {"resume_key": "minf"},
        {"recipe": {"a": 1}},
        {"arrays": {"loss": ("float32", "token")}},
        {"sources": ["b"]},
        {"chunk_bytes": 128},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_a_write_covers(fields: dict[str, Any]) -> None:
    names = [digest_hex(_write_name(more)) for more in ({}, fields)]
    assert names[0] != names[1]


def _write_name(fields: dict[str, Any], origin: RunOrigin = HERE) -> Digest:
    repository = opened()
    job = WriteJob(**{"name": "out", "resume_key": "mine"} | fields)
    writer = SampleWriter(job, repository.backend, repository.objects, origin, lambda run: None)
    return writer._write_name(str(job.resume_key))


def test_a_write_does_not_cover_name_order_and_host() -> None:
    usual = _write_name({})
    assert _write_name({"name": "other", "shuffle_seed": 3, "num_examples": 2}, ELSEWHERE) == usual


# ---- packings


def test_a_packing_covers_root_and_rule_and_no_name(tmp_path: Path) -> None:
    repository = opened()
    for name, rows in (("a", ROWS), ("b", ROWS), ("c", ROWS[:1])):
        run_job(repository.backend, [(write_rows(tmp_path / f"{name}.jsonl", rows), "1.0")], name=name)

    def packed(name: str, rule: PackingRule) -> set[str]:
        before = set(repository.backend.list("packings"))
        stored_packing(repository.dataset(name), rule, repository.backend, repository.objects)
        return set(repository.backend.list("packings")) - before

    assert len(packed("a", PackingRule(64))) == 1
    assert not packed("b", PackingRule(64))
    assert len(packed("c", PackingRule(64))) == 1
    assert len(packed("a", PackingRule(65))) == 1
    assert len(packed("a", PackingRule(64, "best-fit"))) == 1


# ---- what is named by its own bytes, signatures, entries of refs


def test_an_object_is_named_by_all_of_its_bytes() -> None:
    data = bytes(range(200))
    names = {digest_of(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]) for at in range(len(data))}
    assert len(names | {digest_of(data)}) == len(data) + 1


def test_an_entry_of_a_ref_is_named_by_name_and_number_alone(tmp_path: Path) -> None:
    keys = []
    for rows in (ROWS, ROWS[:1]):
        repository = opened()
        run_job(repository.backend, [(write_rows(tmp_path / "in.jsonl", rows), "1.0")], name="golden/a")
        keys.append(list(repository.backend.list("refs")))
    assert keys[0] == keys[1]
    assert [key.rpartition("/")[0] for key in keys[0]] == ["refs/golden/a"]


def test_a_vocabulary_is_named_by_its_bytes(tmp_path: Path) -> None:
    usual = TokenizerFolder.load(str(TOKENIZER)).vocabulary()
    copy = TokenizerFolder.load(str(tokenizer_with(tmp_path / "other"))).vocabulary()
    assert encode_vocabulary(usual).digest == encode_vocabulary(copy).digest
    assert encode_vocabulary([*usual[:-1], usual[-1] + b"x"]).digest != encode_vocabulary(usual).digest


def test_a_signature_covers_name_position_and_root() -> None:
    root, other = digest_of(b"one"), digest_of(b"two")
    usual = Signature("a", 3, root, bytes(32), bytes(64))
    signed = [signed_bytes(*parts) for parts in (("a", 3, root), ("b", 3, root), ("a", 4, root), ("a", 3, other))]
    assert len(set(signed)) == 4
    others = [
        ("b", 3, root, bytes(32)),
        ("a", 4, root, bytes(32)),
        ("a", 3, other, bytes(32)),
        ("a", 3, root, b"\1" * 32),
    ]
    assert usual.key not in {Signature(*parts, bytes(64)).key for parts in others}


# ---- files that are read once


def test_a_tokenizer_folder_is_told_from_bytes_that_were_read(tmp_path: Path) -> None:
    """Not from the same names read a second time, when they may hold something else."""
    folder = tokenizer_with(tmp_path / "tokenizer")
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    usual = TokenizerFolder.load(str(folder), files)
    _edit("tokenizer_config.json", unk_token="<other>")(folder)
    assert TokenizerFolder.load(str(folder), files).special_tokens == usual.special_tokens
    assert TokenizerFolder.load(str(folder)).special_tokens != usual.special_tokens
