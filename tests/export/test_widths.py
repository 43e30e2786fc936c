"""Ids outside the model's vocabulary: exports hold them, and all that asks for the width of an id agrees."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from castore.errors import InvalidInputError
from castore.export.layouts import export_layout
from castore.export.olmo_core import export_olmo_core
from castore.ingest.tokenizer_folder import TokenizerFolder
from castore.olmo.folder import OlmoCoreFolder
from castore.olmo.layout import id_width, place_of
from castore.read.columns import ids_end_of, vocab_size_of
from castore.repository import Repository
from castore.store.backend import MemoryBackend
from tests.support.jobs import row, run_job, with_vocab_size, write_rows

ADDED = ("<|eos|>", "<|user|>", "<|assistant|>")
PLAIN = "{% for m in messages %}{{ m.content }}{% if m.role == 'assistant' %}{{ eos }}{% endif %}{% endfor %}"


def tokenizer_folder(folder: Path, entries: int, *, added: tuple[str, ...] = ADDED, moved: int = 0) -> Path:
    """A tokenizer of single bytes: ``entries`` in the model, added tokens above; ``moved`` ids are left out."""
    characters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {character: number + (moved if number > 100 else 0) for number, character in enumerate(characters)}
    longer = itertools.product(characters, repeat=3)
    while len(vocabulary) < entries:
        vocabulary.setdefault("".join(next(longer)), len(vocabulary) + moved)
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in added])
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|eos|>"}))
    return folder


def dataset(tmp_path: Path, folder: Path, text: str) -> tuple[Repository, list[int]]:
    """A dataset of two conversations with ``text``, and its ids in order."""
    template = tmp_path / "template.jinja"
    template.write_text(PLAIN.replace("{{ eos }}", "."))
    rows = write_rows(tmp_path / "rows.jsonl", [row("a", f"b {text}"), row("c", "d")])
    backend = MemoryBackend()
    job: dict[str, Any] = {"tokenizer": str(folder), "chat_template": str(template), "shuffle_seed": None}
    run_job(backend, [(rows, "1.0")], name="x", **job)
    repository = Repository(backend)
    return repository, [number for sample in repository["x"].ordered for number in sample.token_ids.tolist()]


@pytest.mark.parametrize(
    ("entries", "text", "width"),
    [
        (256, "plain", 1),
        (256, "<|eos|>", 2),
        (257, "plain", 2),
        (65_533, "<|assistant|>", 2),
        (65_534, "<|user|>", 2),
        (65_534, "<|assistant|>", 4),
        (65_536, "plain", 2),
        (65_536, "<|eos|>", 4),
        (65_537, "plain", 4),
    ],
)
def test_added_tokens_above(tmp_path: Path, entries: int, text: str, width: int) -> None:
    folder = tokenizer_folder(tmp_path / "tokenizer", entries)
    repository, ids = dataset(tmp_path, folder, text)
    data = repository["x"]
    assert TokenizerFolder.load(str(folder)).vocab_size == entries == vocab_size_of(data)
    assert ids_end_of(data) > entries + len(ADDED)  # a token for padding is added too
    assert id_width(data) == width
    done = export_olmo_core(data, str(tmp_path / "out"))
    assert (tmp_path / "out" / "token_ids_part_0000.npy").read_bytes() == np.array(ids, f"<u{width}").tobytes()
    said = 1 if entries <= 256 else 2 if entries <= 65_536 else 4  # what open-instruct takes
    assert done.widened == ("" if width == said else f"uint{8 * width} in place of uint{8 * said}")
    place = place_of(data, 1, 0, "token_ids")
    assert place is not None
    assert place.offset == width * len(data[0].token_ids)
    # What is made of the folder has the same data, and the same width.
    found = OlmoCoreFolder(str(tmp_path / "out"))
    assert found.id_bytes == width
    repository.import_folder(str(tmp_path / "out"), "again")
    again = repository["again"]
    assert id_width(again) == width
    assert [number for sample in again for number in sample.token_ids.tolist()] == ids
    export_olmo_core(again, str(tmp_path / "more"))
    name = "token_ids_part_0000.npy"
    assert (tmp_path / "more" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()


def test_gaps_in_the_vocabulary(tmp_path: Path) -> None:
    """Fewer entries than ids: the number of entries decides, where the ids fit what it says."""
    folder = tokenizer_folder(tmp_path / "tokenizer", 256, moved=300, added=())
    repository, ids = dataset(tmp_path, folder, "~")
    assert vocab_size_of(repository["x"]) == 256
    assert max(ids) > 300
    assert id_width(repository["x"]) == 2
    export_olmo_core(repository["x"], str(tmp_path / "out"))
    assert (tmp_path / "out" / "token_ids_part_0000.npy").read_bytes() == np.array(ids, "<u2").tobytes()


def test_ids_that_the_order_leaves_out(tmp_path: Path) -> None:
    """Of what is exported the ids count, not of what is stored."""
    folder = tokenizer_folder(tmp_path / "tokenizer", 256)
    template = tmp_path / "template.jinja"
    template.write_text(PLAIN.replace("{{ eos }}", "."))
    rows = write_rows(tmp_path / "rows.jsonl", [row("a", "b" if n else "<|eos|>") for n in range(9)])
    widths = set()
    for seed in range(9):
        backend = MemoryBackend()
        run_job(
            backend, [(rows, "1.0")], tokenizer=str(folder), chat_template=str(template), name="x",
            shuffle_seed=seed, num_examples=4,
        )  # fmt: skip
        data = Repository(backend)["x"]
        largest = max(int(sample.token_ids.max()) for sample in data.ordered)
        assert id_width(data) == (1 if largest < 256 else 2)
        widths.add(id_width(data))
    assert widths == {1, 2}


@pytest.mark.parametrize(("text", "dtype"), [("plain", "<u2"), ("<|assistant|>", "<i4")])
def test_megatron(tmp_path: Path, text: str, dtype: str) -> None:
    """Below 65,500 entries Megatron takes 16 bits, which hold ids to 65,535."""
    folder = tokenizer_folder(tmp_path / "tokenizer", 65_499, added=tuple(f"<|{n}|>" for n in range(37)) + ADDED)
    repository, ids = dataset(tmp_path, folder, text)
    assert (max(ids) > 65_535) == (dtype == "<i4")
    export_layout(repository["x"], str(tmp_path / "out"), "megatron")
    assert (tmp_path / "out" / "token_ids.bin").read_bytes() == np.array(ids, dtype).tobytes()


def test_ids_that_a_program_gives(tmp_path: Path) -> None:
    """They may be ones that the tokenizer does not have."""
    folder = tokenizer_folder(tmp_path / "tokenizer", 256)
    repository = Repository.open(str(tmp_path / "repo"), create=True)
    for name, largest, width in (("a", 255, 1), ("b", 70_000, 4)):
        with repository.writer(name, tokenizer=str(folder)) as writer:
            writer.append([1, largest], labels_mask=[True, True])
        assert id_width(repository[name]) == width
        export_olmo_core(repository[name], str(tmp_path / name))
        expected = np.array([1, largest], f"<u{width}").tobytes()
        assert (tmp_path / name / "token_ids_part_0000.npy").read_bytes() == expected


def test_beyond_31_bits(tmp_path: Path) -> None:
    """Columns of ``datasets`` are signed: an id that does not fit is told, and never another one."""
    pytest.importorskip("datasets", reason="datasets is not installed")
    repository = Repository.open(str(tmp_path / "repo"), create=True)
    folder = tokenizer_folder(tmp_path / "tokenizer", 256)
    for name, tokenizer in (("a", None), ("b", str(folder))):
        with repository.writer(name, tokenizer=tokenizer) as writer:
            writer.append([1, 1 << 31], labels_mask=[True, True])
    assert next(iter(repository["a"].to_hf(streaming=True)))["input_ids"] == [1, 1 << 31]
    with pytest.raises(InvalidInputError, match="token id 2147483648 is outside the vocabulary"):
        next(iter(repository["b"].to_hf(streaming=True)))


def test_an_id_that_no_record_tells_of_is_refused(tmp_path: Path) -> None:
    """A run record may say anything: the ids of an import are taken to fit."""
    folder = tokenizer_folder(tmp_path / "tokenizer", 256, moved=300, added=())
    repository, _ = dataset(tmp_path, folder, "~")
    export_olmo_core(repository["x"], str(tmp_path / "out"))
    (tmp_path / "out" / "tokenizer" / "tokenizer.json").unlink()
    repository.import_folder(str(tmp_path / "out"), "again")
    data = repository["again"]
    with_vocab_size(data, 16)
    with pytest.raises(InvalidInputError, match="a token id does not fit uint8"):
        export_olmo_core(data, str(tmp_path / "more"))
