"""Run files: read as they are meant, refused by file and key, and written so that the same root comes out again."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import castore
from castore.errors import InvalidInputError
from castore.format.run import SourceRecord
from castore.ingest.defaults import TokenizeOptions
from castore.ingest.run_file import parse_run_file, read_config, read_partial_config, run_file_of
from castore.ingest.templates import registered_text
from castore.repository import Repository
from tests.support.jobs import EXAMPLES, TOKENIZER, example_rows, row, tokenize, write_rows

EVERYTHING = """
tokenizer = "t"
chat_template = "tulu"
template_fallback = true
date = 2026-12-01T09:30:00
max_seq_length = 4096
add_bos = true
last_turn = true
num_examples = 10
shuffle_seed = 7
mix_seed = 8
split = "validation"
revision = "v2"
workers = 3
on_error = "skip"
format = "sharegpt"
strict = true

[[mix]]
path = "a.jsonl"
amount = 0.370

[[mix]]
path = "owner/data"
amount = 5000
split = "test[:10%]"

[[mix]]
path = "/abs/b.parquet"
amount = "1."
"""


def parsed(text: str, folder: str = "") -> tuple[list[tuple[str, str]], dict[str, Any]]:
    return parse_run_file(text.encode(), "mix.toml", folder)


def test_a_run_file_says_all_that_the_command_line_does() -> None:
    mix, options = parsed(EVERYTHING, "runs")
    assert mix == [("runs/a.jsonl", "0.370"), ("owner/data", "5000"), ("/abs/b.parquet", "1.")]
    assert list(options) == list(TokenizeOptions.__annotations__)
    assert options == {
        "tokenizer": "runs/t",
        "chat_template": "tulu",
        "template_fallback": True,
        "date": "2026-12-01T09:30:00",
        "max_seq_length": 4096,
        "add_bos": True,
        "last_turn": True,
        "num_examples": 10,
        "shuffle_seed": 7,
        "mix_seed": 8,
        "split": ["validation", "test[:10%]", "validation"],
        "revision": "v2",
        "workers": 3,
        "on_error": "skip",
        "format": "sharegpt",
        "strict": True,
    }
    assert parsed("shuffle_seed = false\ndate = 2026-12-01") == ([], {"shuffle_seed": None, "date": "2026-12-01"})


def test_relative_paths_count_from_the_folder_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "runs"
    (folder / "owner" / "data").mkdir(parents=True)
    for home, name in ((tmp_path, "~/c.jsonl"), (folder, "./c.jsonl"), (folder, "../c.jsonl"), (folder, "owner/data")):
        monkeypatch.setenv("HOME", str(home))
        (path, _), *_ = parsed(f'[[mix]]\npath = "{name}"\namount = 1', str(folder))[0]
        assert path == (f"{home}/c.jsonl" if name[0] == "~" else f"{folder}/{name}")
    names = {
        "s3://bucket/x.jsonl": None,
        "-": None,
        "owner/other": None,
        "owner/other.jsonl": f"{folder}/owner/other.jsonl",
    }
    for name, placed in names.items():
        assert parsed(f'[[mix]]\npath = "{name}"\namount = 1', str(folder))[0] == [(placed or name, "1")]
    for template, placed in (("tulu", None), ("chat.jinja", f"{folder}/chat.jinja"), ("unknown", None)):
        assert parsed(f'chat_template = "{template}"', str(folder))[1] == {"chat_template": placed or template}
    assert parsed('tokenizer = "owner/data"', str(folder))[1] == {"tokenizer": f"{folder}/owner/data"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("max_seq_lenght = 3", "mix.toml: unknown key 'max_seq_lenght': did you mean 'max_seq_length'?"),
        ("max-seq-length = 3", "mix.toml: unknown key 'max-seq-length': did you mean 'max_seq_length'?"),
        ("xyzzy = 3", "mix.toml: unknown key 'xyzzy'"),
        ("[mixes]\na = 3", "mix.toml: unknown key 'mixes': did you mean 'mix'?"),
        ("tokenizer = 3", "mix.toml: tokenizer is 3: give a text in quotes"),
        ("tokenizer = 1.5", "mix.toml: tokenizer is 1.5: give a text in quotes"),
        ("mix_seed = 3.0", "mix.toml: mix_seed is 3.0: give a whole number"),
        ("mix_seed = true", "mix.toml: mix_seed is True: give a whole number"),
        ('add_bos = "yes"', "mix.toml: add_bos is 'yes': give true or false"),
        ("add_bos = 1", "mix.toml: add_bos is 1: give true or false"),
        ("shuffle_seed = true", "mix.toml: shuffle_seed is True: give a whole number"),
        ("split = [1]", "mix.toml: split is [1]: give a text in quotes or a list of texts"),
        ("date = 09:30:00", "mix.toml: date is 09:30:00: give a text in quotes"),
        ("[mix]\npath = 3", "mix.toml: mix is no list of sources: begin each with [[mix]]"),
        ("mix = [3]", "mix.toml, mix[0] is 3: give a table with path and amount"),
        ('[[mix]]\npath = "x"\namuont = 3', "mix.toml, mix[0]: unknown key 'amuont': did you mean 'amount'?"),
        ('[[mix]]\npath = "x"', "mix.toml, mix[0] has no amount"),
        ("[[mix]]\namount = 3", "mix.toml, mix[0] has no path"),
        ("[[mix]]\npath = 3\namount = 3", "mix.toml, mix[0]: path is 3: give a text in quotes"),
        ('[[mix]]\npath = "x"\namount = true', "mix.toml, mix[0]: True is not an amount: give a share"),
        ('[[mix]]\npath = "x"\namount = -1', "mix.toml, mix[0]: '-1' is not an amount"),
        ('[[mix]]\npath = "x"\namount = inf', "mix.toml, mix[0]: 'inf' is not an amount"),
        ('[[mix]]\npath = "x"\namount = 0.0', "mix.toml, mix[0]: amount 0.0 takes no row"),
        (
            'split = ["a"]\n[[mix]]\npath = "x"\namount = 1\nsplit = "b"',
            "mix.toml: split is a list, and a source has a split of its own: give only one",
        ),
        ('tokenizer = "x', "mix.toml is no TOML: "),
        ("a = " + "[" * 100_000, "mix.toml is no TOML: "),
        ("tokenizer = 'x'\ntokenizer = 'y'", "mix.toml is no TOML: Cannot overwrite a value"),
    ],
)
def test_what_cannot_be_is_refused_by_file_and_key(text: str, said: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        parsed(text)
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "latin.toml").write_bytes(b'tokenizer = "\xe9"')
    (tmp_path / "mix.toml").write_text("[[mix]]\npath = 'x.jsonl'\namount = 1")
    (tmp_path / "empty.toml").write_text("")
    for name, said in (
        ("latin.toml", r"latin.toml is not UTF-8 \(byte 13\)"),
        ("none.toml", "none.toml cannot be read: No such file"),
        (".", "cannot be read: is a directory"),
        ("nul\0.toml", "cannot be read: embedded null byte"),
        ("mix.toml", 'mix.toml names no tokenizer: add tokenizer = "FOLDER"'),
        ("empty.toml", r"empty.toml has no source: begin each with \[\[mix\]\]"),
    ):
        with pytest.raises(InvalidInputError, match=said):
            read_config(f"{tmp_path}/{name}")
    with pytest.raises(InvalidInputError, match="standard input is larger than"):
        read_partial_config("-", io.BytesIO(b"#" * (16 * 1024 * 1024 + 1)))


# ---- written from a run record


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository.open(tmp_path / "repository", create=True)


def written(repository: Repository, name: str) -> str:
    data = repository[name]
    assert data.run is not None
    return run_file_of(data.run, data.root, data.fetch, name)


BOS = "{{ bos_token }}"
PLAIN = "{% for m in messages %}{{ m['content'] }}{{ eos_token }}{% endfor %}"


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"max_seq_length": 100, "num_examples": 5, "shuffle_seed": 7, "mix_seed": 9},
        {"shuffle_seed": None, "last_turn": True},
        {"chat_template": "tulu", "add_bos": True, "on_error": "skip"},
        {"chat_template": "nothing-like-it", "template_fallback": True, "add_bos": True},
        {"chat_template": "plain.jinja"},
        {"chat_template": "plain.jinja", "add_bos": True},
        {"chat_template": "begins.jinja"},
        {"chat_template": "dated.jinja", "date": "2026-12-01T09:30:00"},
        {"on_error": "skip"},
    ],
    ids=str,
)
def test_what_is_shown_makes_the_same_again(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in (("plain", PLAIN), ("begins", BOS + PLAIN), ("dated", "{{ strftime_now('%c') }}" + PLAIN)):
        Path(f"{name}.jinja").write_text(text)
    bad = [b'{"messages": 3}'] if options.get("on_error") else []
    write_rows(Path("a.jsonl"), [*example_rows()[:30], *bad])
    write_rows(Path('b "ü\t.jsonl'), [row("Hello", "there"), row("And", "you?")])
    mix = [("a.jsonl", "0.50"), ('b "ü\t.jsonl', "2."), ("a.jsonl", "3"), ("a.jsonl", ".1")]
    first = tokenize(repository, mix, "first", **options)
    Path("again.toml").write_text(written(repository, "first"), encoding="utf-8")
    found = castore.read_config("again.toml")
    assert found.mix == mix
    again = repository.tokenize(found.mix, name="again", **found.options)
    assert again.root == first.root
    runs = [repository[name].run for name in ("first", "again")]
    assert [replace(run, origin=None) for run in runs if run is not None] == [replace(runs[0], origin=None)] * 2  # type: ignore[type-var]
    assert written(repository, "again") == written(repository, "first")


def test_a_tokenizer_whose_own_template_begins_with_bos_is_not_told_to_add_it(
    repository: Repository, tmp_path: Path
) -> None:
    for name, template in (("one", BOS + PLAIN), ("two", PLAIN)):
        folder = tmp_path / name
        folder.mkdir()
        for file in ("tokenizer.json", "tokenizer_config.json"):
            (folder / file).write_bytes((TOKENIZER / file).read_bytes())
        (folder / "chat_template.jinja").write_text(template)
    path = write_rows(tmp_path / "a.jsonl", example_rows()[:5])
    tokenize(repository, [(path, "1.0")], "own", tokenizer=tmp_path / "one")
    tokenize(repository, [(path, "1.0")], "added", tokenizer=tmp_path / "two", add_bos=True)
    assert repository["own"].root == repository["added"].root
    assert "add_bos" not in written(repository, "own")
    assert "add_bos = true" in written(repository, "added")


def test_a_template_that_is_gone_is_never_another_one_without_a_word(repository: Repository, tmp_path: Path) -> None:
    template = tmp_path / "begins.jinja"
    template.write_text(BOS + PLAIN)
    path = write_rows(tmp_path / "a.jsonl", example_rows()[:5])
    tokenize(repository, [(path, "1.0")], "x", chat_template=template)
    template.unlink()
    text = written(repository, "x")
    template.write_text(BOS + PLAIN)
    mix, options = parsed(text)
    with pytest.raises(InvalidInputError, match="add_bos was asked for, but the chat template already begins"):
        repository.tokenize(mix, name="y", **options)
    assert "add_bos" not in written(repository, "x")


def test_what_tokenize_did_not_make_has_no_run_file(repository: Repository, tmp_path: Path) -> None:
    repository.write([[1, 2]], "mine", tokenizer=TOKENIZER)
    with pytest.raises(InvalidInputError, match="mine was not made by castore tokenize: there is no run file of it"):
        written(repository, "mine")
    tokenize(repository, [(EXAMPLES / "conversations.jsonl", "3")], "three")
    repository.export("three", tmp_path / "out")
    repository.import_folder(tmp_path / "out", "taken")
    with pytest.raises(InvalidInputError, match=r"taken was imported from .*: there is no run file of it"):
        written(repository, "taken")


def test_a_registered_template_is_told_from_the_same_with_bos(repository: Repository, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", [row("Hello", "there")])
    assert not registered_text("tulu").startswith(BOS)
    for add_bos in (False, True):
        tokenize(repository, [(path, "1.0")], "x", chat_template="tulu", add_bos=add_bos)
        assert ("add_bos = true" in written(repository, "x")) is add_bos


@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    st.from_regex(r"[0-9]{1,15}(\.[0-9]{0,30})?", fullmatch=True),
)
def test_any_name_and_amount_is_read_as_it_was_written(name: str, amount: str) -> None:
    from castore.ingest.run_file import _entry_lines

    if not float(amount):
        return
    lines = "\n".join(["[[mix]]", *_entry_lines(SourceRecord(f"/{name}", amount=amount))])
    assert all(line.isprintable() for line in lines.splitlines())
    assert parsed(lines)[0] == [(f"/{name}", amount)]
