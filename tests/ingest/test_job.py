"""Jobs: what is checked before any work, what the run record says, and in which order things are written."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from castore.errors import InvalidInputError
from castore.format.files import TEMPLATE_FILE, VOCABULARY_FILE, decode_file, decode_vocabulary
from castore.format.order import Order
from castore.format.pack_writer import entries_of
from castore.format.run import RunConfiguration
from castore.ingest.tokenizer_folder import TokenizerFolder
from castore.repository import Repository
from castore.store.backend import MemoryBackend
from tests.support.complete import check_complete
from tests.support.faults import FaultyBackend
from tests.support.jobs import TOKENIZER, counted_tokenizing, example_rows, row, run_job, write_rows
from tests.support.layouts import in_packs, loose


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "rows.jsonl", example_rows()[:40])


def dataset(backend: MemoryBackend) -> Any:
    return Repository(backend).dataset("out")


# ---- the result


def test_the_run_record_tells_everything_that_decided_the_data(path: Path) -> None:
    backend = MemoryBackend()
    result = run_job(backend, [(path, "1.5")], max_seq_length=200, num_examples=20, shuffle_seed=7, mix_seed=3)
    data = dataset(backend)
    run, manifest = data.run, data.manifest
    assert data.root == result.root == run.manifest
    assert run.configuration == RunConfiguration(
        max_seq_length=200, mix_seed=3, num_examples=20, shuffle_seed=7, tokenizer=str(TOKENIZER), vocab_size=3000
    )
    assert run.recipe["max_seq_length"] == 200
    assert run.recipe["tokenizer"] == blake3((TOKENIZER / "tokenizer.json").read_bytes()).hexdigest()
    assert run.sources[0].digest == blake3(path.read_bytes()).digest()
    assert run.sources[0].name == str(path)
    assert run.sources[0].amount == "1.5"
    assert manifest.order == Order.shuffled(7, result.samples, 20)
    assert run.origin is not None
    assert (run.origin.author, run.origin.host, run.origin.time) == ("a tester", "somewhere", 1_700_000_000)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert decode_file(data.fetch(run.files[f"tokenizer/{name}"])) == (TOKENIZER / name).read_bytes()
    assert decode_file(data.fetch(run.files[TEMPLATE_FILE])) == (TOKENIZER / "chat_template.jinja").read_bytes()
    vocabulary = decode_vocabulary(data.fetch(run.files[VOCABULARY_FILE]))
    assert len(vocabulary.ends) == 3000
    assert vocabulary.decode(data[0].token_ids.tolist()).startswith("<|im_start|>system\nYou help the readers")


def test_nothing_that_a_user_spells_is_in_the_root(path: Path, tmp_path: Path) -> None:
    roots = {run_job(MemoryBackend(), [(path, "1.0")]).root}
    elsewhere = tmp_path / "folder" / "tok"
    elsewhere.parent.mkdir()
    elsewhere.symlink_to(TOKENIZER)
    copy = write_rows(tmp_path / "folder" / "other name.jsonl", example_rows()[:40])
    roots.add(run_job(MemoryBackend(), [(copy, "1.00")], tokenizer=str(elsewhere)).root)
    roots.add(run_job(MemoryBackend(), [(copy, "40")], chat_template=str(TOKENIZER / "chat_template.jinja")).root)
    assert len(roots) == 1


def test_what_decides_the_data_is_in_the_root(path: Path) -> None:
    variants: list[dict[str, Any]] = [
        {},
        {"max_seq_length": 100},
        {"chat_template": "olmo"},
        {"shuffle_seed": 1},
        {"shuffle_seed": None},
        {"num_examples": 10},
    ]
    roots = [run_job(MemoryBackend(), [(path, "1.0")], **options).root for options in variants]
    assert len(set(roots)) == len(roots)


def test_a_label_may_differ_where_no_token_does(tmp_path: Path) -> None:
    texts = "one", "two", "three", "four"
    whole = write_rows(tmp_path / "a.jsonl", [row(*texts)])
    backend = MemoryBackend()
    run_job(backend, [(whole, "1.0")])
    data = dataset(backend)
    assert data.manifest.arrays["token_ids"][1].items == data.manifest.tokens
    assert len(data.reader.spans("labels_mask", 0, 1).starts) == 2


def test_names_that_are_no_text_are_spelled_out(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"r\xff\xfews.jsonl")
    write_rows(path, example_rows()[:10])
    backend = MemoryBackend()
    run_job(backend, [(path, "1.0")])
    assert dataset(backend).run.sources[0].name.endswith("r\\udcff\\udcfews.jsonl")


# ---- the order of writes


def test_a_pack_then_ref(path: Path) -> None:
    """In a pack everything stands behind what it names."""
    backend = FaultyBackend(MemoryBackend())
    result = run_job(in_packs(backend), [(path, "1.0")])
    (pack,) = backend.list("packs")
    keys = [(what, key) for what, key in backend.calls if what in ("put", "flush", "create")]
    assert [*dict.fromkeys(keys[-4:])] == [("put", pack), ("flush", ""), ("create", "refs/out/" + "0" * 20)]
    names = [entry.name for entry in entries_of(backend.get(pack, 1 << 30) or b"")]
    assert names[-2:] == [result.root, result.run]


def test_objects_then_manifest_then_run_then_ref(path: Path) -> None:
    backend = FaultyBackend(MemoryBackend())
    result = run_job(loose(backend), [(path, "1.0")])
    every = [(what, key) for what, key in backend.calls if what in ("put", "flush", "create")]
    keys = [call for before, call in pairwise([("", ""), *every]) if call != before]
    run, root = (f"objects/{d.hex()[:2]}/{d.hex()}" for d in (result.run, result.root))
    tail = [(what, key) for what, key in keys if key in (run, root) or what == "flush" or key.startswith("refs/")][-6:]
    assert tail == [
        ("flush", ""),
        ("put", root),
        ("flush", ""),
        ("put", run),
        ("flush", ""),
        ("create", "refs/out/" + "0" * 20),
    ]
    assert keys[-1][0] == "create"


# ---- before any work


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_seq_length": 0}, "max_seq_length is 0: give a whole number of at least 1"),
        ({"max_seq_length": 1.5}, "max_seq_length is 1.5: give a whole number of at least 1"),
        ({"workers": 0}, "workers is 0: give a whole number of at least 1"),
        ({"mix_seed": 1 << 32}, "mix_seed is 4294967296: give a whole number from 0 to 4294967295"),
        ({"shuffle_seed": -1}, "shuffle_seed is -1: give a whole number from 0 to"),
        ({"on_error": "ignore"}, "on_error is 'ignore': give one of stop, skip"),
        ({"num_examples": 3, "shuffle_seed": None}, "--num-examples takes the first samples of a shuffle"),
        ({"tokenizer": "no/such/folder"}, "tokenizer no/such/folder is not a folder"),
        ({"name": "bad name"}, "cannot name a ref"),
        ({"name": "a..b"}, "cannot name a ref"),
    ],
)
def test_a_job_that_cannot_end_well_does_not_begin(path: Path, options: dict[str, Any], said: str) -> None:
    with counted_tokenizing() as calls, pytest.raises(InvalidInputError) as caught:
        run_job(MemoryBackend(), [(path, "1.0")], **options)
    assert said in str(caught.value)
    assert not calls


@pytest.mark.parametrize(
    ("amount", "said"),
    [
        ("0", "takes no row"),
        ("0.0", "takes no row"),
        ("-1.0", "is not an amount"),
        ("1e2", "is not an amount"),
        ("0.001", "is no row: take a larger share"),
    ],
)
def test_an_amount_that_takes_nothing_is_refused(path: Path, amount: str, said: str) -> None:
    with counted_tokenizing() as calls, pytest.raises(InvalidInputError, match=said):
        run_job(MemoryBackend(), [(path, "1.0"), (path, amount)])
    assert not calls


def test_an_empty_mix_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="nothing to tokenize"):
        run_job(MemoryBackend(), [])


def test_a_message_that_cannot_be_logged_is_refused(path: Path) -> None:
    from castore.repository import Origin
    from tests.support.jobs import tokenize

    repository = Repository(MemoryBackend())
    for author, message in [("x", "bell \x07"), ("two\nlines", ""), ("x", "m" * 70_000), ("\udcff", "")]:
        with counted_tokenizing() as calls, pytest.raises(InvalidInputError):
            tokenize(repository, [(path, "1.0")], origin=Origin(author, "host", 0, message))
        assert not calls


# ---- after the work


def test_rows_of_which_none_is_trained_on_are_no_dataset(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", [row("only a question"), row("and another")])
    backend = MemoryBackend()
    with pytest.raises(InvalidInputError, match="no row became a sample"):
        run_job(backend, [(path, "1.0")])
    assert Repository(backend).refs.names() == []


@pytest.mark.parametrize("take", [41, 1000])
def test_more_examples_than_there_are_rows(path: Path, take: int) -> None:
    """What cannot be is refused before the work."""
    with (
        pytest.raises(
            InvalidInputError, match=f"--num-examples {take} of at most 40 samples: the mix has no more rows"
        ),
        counted_tokenizing() as calls,
    ):
        run_job(MemoryBackend(), [(path, "1.0")], num_examples=take)
    assert not calls


def test_more_examples_than_there_are(tmp_path: Path, path: Path) -> None:
    """Rows that are dropped are known after the work only, none of which is lost."""
    backend = MemoryBackend()
    nobody = write_rows(tmp_path / "nobody.jsonl", [row("nobody answers")] * 3)
    mix = [(path, "1.0"), (nobody, "1.0")]
    with pytest.raises(InvalidInputError, match="--num-examples 41 of 40 samples: ask for 1 to 40"):
        run_job(backend, mix, num_examples=41)
    with counted_tokenizing() as calls:
        assert run_job(backend, mix, num_examples=40).samples == 40
    assert not calls


@pytest.mark.parametrize(("take", "shuffle"), [(1, 42), (40, 42), (None, 0), (None, None)])
def test_every_order_is_whole(path: Path, take: int | None, shuffle: int | None) -> None:
    backend = MemoryBackend()
    run_job(backend, [(path, "1.0")], num_examples=take, shuffle_seed=shuffle)
    check_complete(Repository(backend))


# ---- warnings


def test_a_source_of_which_nothing_is_left_is_told(tmp_path: Path, path: Path) -> None:
    """open-instruct's script stops there; to lose a source of several unnoticed would be worse."""
    nobody = write_rows(tmp_path / "nobody.jsonl", [row("nobody answers"), row("nor here")])
    said: list[str] = []
    result = run_job(MemoryBackend(), [(nobody, "1.5"), (path, "1.0")], warn=said.append)
    assert result.dropped["nothing-trainable"] >= 3
    assert len(said) == 1
    assert said[0].startswith(
        f"{nobody}: none of the 3 rows taken became a sample: 3 nothing-trainable (roles: 'user' 2); "
    )


def test_what_the_user_should_know(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", example_rows()[:120])
    said: list[str] = []
    run_job(
        MemoryBackend(),
        [(path, "1"), (path, "1.0")],
        chat_template="no-such-template",
        template_fallback=True,
        warn=said.append,
    )
    assert len(said) == 2
    assert said[0].startswith("chat template 'no-such-template' is not a registered name: the template of the token")
    assert said[1] == f"{path}: amount 1 takes 1 row of 120: did you mean 1.0?"


def test_an_unknown_template_without_one_of_its_own(path: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "tokenizer.json").write_bytes((TOKENIZER / "tokenizer.json").read_bytes())
    assert TokenizerFolder.load(str(bare)).chat_template is None
    with pytest.raises(InvalidInputError, match="'nothing-like-it' is neither a registered name nor a file"):
        run_job(MemoryBackend(), [(path, "1.0")], tokenizer=str(bare), chat_template="nothing-like-it")
    with pytest.raises(InvalidInputError, match="has no chat template of its own: give --chat-template"):
        run_job(MemoryBackend(), [(path, "1.0")], tokenizer=str(bare))
