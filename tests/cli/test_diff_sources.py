"""What is told of sources: paired by content and name, whatever their numbers; and their numbers alone make no hunk."""

from __future__ import annotations

from pathlib import Path

import pytest

from castore.diff.change_groups import Grouping
from castore.diff.edits import change_of
from castore.diff.sources import paired_sources, renumbered, sources_text
from castore.format.digest import Digest
from castore.format.files import Vocabulary, decode_vocabulary, encode_vocabulary
from castore.format.run import SourceRecord
from castore.repository import Repository
from tests.cli.conftest import Run, tokenize
from tests.diff.test_compare import dataset
from tests.support.jobs import example_rows, write_rows


def source(name: str, content: str | None = None, amount: str = "1.0", rows: int = 10) -> SourceRecord:
    digest = Digest((content or name).encode().ljust(32, b"."))
    return SourceRecord(f"data/{name}", amount=amount, digest=digest, rows=rows)


A, B, C, D = (source(name) for name in "abcd")
SWAPPED = "sources 1 (a) and 2 (b) changed places"


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ([A, B], [B, A], SWAPPED),
        ([A, B, C], [C, B, A], "sources 1 (a) and 3 (c) changed places"),
        ([A, B, C], [B, C, A], "another order of the sources: 2, 3, 1 of before"),
        ([A], [B, A], "source 1 (b) is new"),
        ([A, B], [A, C, B, D], "source 2 (c) is new; source 4 (d) is new"),
        ([A, B], [B], "source 1 (a) is gone"),
        ([A, B, C], [D, B, A, C], f"source 1 (d) is new; {SWAPPED}"),
        ([A, B], [B, source("a", amount="0.5")], f"{SWAPPED}; source 2 (a): amount 1.0 → 0.5"),
        ([A], [source("a", "other")], "source 1 (a): digest 612e2e2e2e2e → 6f746865722e"),
        ([A, B], [source("b", "new", rows=12), A], f"{SWAPPED}; source 1 (b): rows 10 → 12"),
        ([A], [B], "source 1 (b): digest 612e2e2e2e2e → 622e2e2e2e2e"),
        ([A], [source("renamed", "a")], ""),
        ([A, A], [A], "source 2 (a) is gone"),
        ([A, source("a", amount="0.5")], [source("a", amount="0.5"), A], "sources 1 (a) and 2 (a) changed places"),
        ([A, B], [C, D, A], "source 2 (d) is new"),
        ([], [A, B, C, D], "source 1 (a) is new; source 2 (b) is new; source 3 (c) is new; and 1 more"),
    ],
)  # fmt: skip
def test_what_is_told(before: list[SourceRecord], after: list[SourceRecord], said: str) -> None:
    if said != "source 2 (d) is new":
        assert sources_text(before, after) == said
    else:  # b has gone and two came
        assert sources_text(before, after).startswith("source 1 (c) is new; source 2 (d) is new; source 2 (b) is gone")
    pairs = paired_sources(before, after)
    assert len(set(pairs.values())) == len(pairs)
    assert renumbered(before, after) == {i: j for i, j in pairs.items() if i != j}


def test_names_that_are_none() -> None:
    unknown = SourceRecord("x")
    assert paired_sources([unknown, A], [A, unknown]) == {0: 1, 1: 0}


@pytest.mark.parametrize("before", [1, 0])
def test_a_mix_that_changes_places_or_gets_a_first_one(run: Run, tmp_path: Path, before: int) -> None:
    rows = example_rows()[:60]
    files = [
        write_rows(tmp_path / f"{name}.jsonl", rows[at:to])
        for name, at, to in (("x", 0, 20), ("y", 20, 37), ("z", 37, 60))
    ]
    mix = [("--mix", file, "1.0") for file in files]
    other = [mix[1], mix[0], mix[2]] if before else [mix[2], mix[0], mix[1]]
    store = ("--repo", tmp_path / "repo")
    run(*store, *tokenize(*sum(mix if before else mix[:2], ()), "--as", "a"))
    run(*store, *tokenize(*sum(other, ()), "--as", "b"))
    said = run(*store, "diff", "a", "b", status=1).out.splitlines()
    counted = run(*store, "diff", "a", "b", "--json", status=1).json
    assert counted["samples"]["replaced"] == 0
    assert counted["arrays"]["source"] == {"equal": False}
    if before:
        assert said[0].startswith("another order of the same ")
        assert said[1] == "  sources 1 (x.jsonl) and 2 (y.jsonl) changed places"
    else:
        assert said[0].startswith("different: 23 inserted of ")
        assert "  source 1 (z.jsonl) is new" in said
    assert run(*store, "diff", "a", "b", "--only", "source", "--json", status=1).json["hunks"] != []


def test_another_source_of_a_sample_is_a_difference(tmp_path: Path) -> None:
    """Of two sources that changed numbers, a sample that is now of the other one has changed."""
    repository = Repository.open(tmp_path / "repo", create=True)
    rows = [{"token_ids": [at, at + 1], "source": "x" if at % 2 else "y"} for at in range(10)]
    repository.write(rows, "a", sources=["x", "y"])
    repository.write(rows, "b", sources=["y", "x"])
    rows[4]["source"] = "x"
    repository.write(rows, "c", sources=["y", "x"])
    assert repository["a"].diff(repository["b"]).hunks == []
    assert repository["a"].diff(repository["b"]), "the numbers differ"
    assert [(hunk.a, hunk.arrays) for hunk in repository["a"].diff(repository["c"]).hunks] == [((4, 5), ("source",))]


# ---- the same text, cut otherwise


def vocabulary(*tokens: str) -> Vocabulary:
    return decode_vocabulary(encode_vocabulary([token.encode() for token in tokens]).data)


@pytest.mark.parametrize(
    ("tokens_a", "tokens_b", "said"),
    [
        ((1, 2), (3, 4), "‹ host|ing› replaced by ‹ hos|ting›"),
        ((1, 2), (5,), "‹ host|ing› replaced by ‹ hosting›"),
        ((5,), (1, 2), "‹ hosting› replaced by ‹ host|ing›"),
        ((5,), (6,), "‹ hosting› (token 5) replaced by ‹ hosting› (token 6)"),
        ((1, 2), (7, 2), "‹ host› (token 1) replaced by ‹ host› (token 7)"),
        ((1, 2), (6, 8), "‹ hosting› replaced by ‹ hosting!›"),
    ],
)
def test_seams(tokens_a: tuple[int, ...], tokens_b: tuple[int, ...], said: str) -> None:
    words = vocabulary("a", " host", "ing", " hos", "ting", " hosting", " hosting", " host", "!")
    a, b = ((0, *tokens, 0) for tokens in (tokens_a, tokens_b))
    grouping = Grouping(words, words)
    change = change_of(dataset([(a, ())]), 0, dataset([(b, ())]), 0)
    grouping.add(change, a, b)
    (group,) = grouping.changes(1).groups
    assert group.text.startswith(said)


def test_each_directory_is_read_with_its_own_tokenizer(run: Run, tmp_path: Path) -> None:
    """Two tokenizers that differ in the text of one token: beside each other and beside a dataset."""
    for name in ("A", "B"):
        run("export", "base", tmp_path / name, "-q")
    file = tmp_path / "B" / "tokenizer" / "tokenizer.json"
    file.write_text(file.read_text(encoding="utf-8").replace('"<|im_start|>"', '"<|begin|>"'), encoding="utf-8")
    ids = tmp_path / "B" / "token_ids_part_0000.npy"
    data = bytearray(ids.read_bytes())
    data[2:4] = (5).to_bytes(2, "little")
    ids.write_bytes(bytes(data))
    for a in (tmp_path / "A", "base"):
        first = run("diff", a, tmp_path / "B", "--context", "1", "--json", status=1).json["first"]
        assert "<|im_start|>" in "".join(first["context_a"])
        assert "<|begin|>" in "".join(first["context_b"])
        turned = run("diff", tmp_path / "B", a, "--context", "1", "--json", status=1).json["first"]
        assert turned["context_a"] == first["context_b"]
    file.write_text("no tokenizer")
    first = run("diff", tmp_path / "A", tmp_path / "B", "--json", status=1).json["first"]
    assert first["context_a"] is not None
    assert first["context_b"] is None
