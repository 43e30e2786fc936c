"""What ``castore diff`` says, in text and in JSON, and its exit codes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cli.conftest import Run, tokenize
from tests.support.jobs import example_rows, row, write_rows


def plain(text: str) -> str:
    """Text without what differs from run to run: digests and sizes."""
    text = re.sub(r"\b[0-9a-f]{64}\b", "DIGEST", text)
    text = re.sub(r"\b[0-9a-f]{12}\b", "DIG", text)
    text = re.sub(r"/\S*/(?=\w+\.jsonl)", "", text)
    return re.sub(r"read \d+ objects, .*", "read N objects", text)


def test_equal(run: Run) -> None:
    said = run("diff", "base", "again")
    assert plain(said.out) == "equal: 59 samples, 6,968 tokens, root DIGEST\nread N objects\n"
    assert said.err == ""
    assert "read 3 objects" in said.out


def test_a_recipe_that_was_not_recorded(run: Run, tmp_path: Path) -> None:
    """Whatever the two are called: a dataset may be called b too."""
    run("export", "base", tmp_path / "b")
    run("import", tmp_path / "b", "--as", "imported", "--shuffle-seed", "42")
    assert "  the recipe of the second was not recorded\n" in run("diff", "base", "imported").out
    assert "  the recipe of the first was not recorded\n" in run("diff", "imported", "base").out
    run("rm", "imported")


def test_one_word(run: Run) -> None:
    said = run("diff", "base", "word", status=1)
    assert plain(said.out) == (
        "different: 1 replaced of 59 samples; equal: source\n"
        "  source 1 (word.jsonl): digest DIG → DIG\n"
        "changes in 1 replaced sample:\n"
        "  1  ‹ they› replaced by ‹ tehy› after ‹ also when› (sample 10)\n"
        "\n"
        "first difference: token_ids[23]\n"
        "  base: sample 10, base.jsonl row 12\n"
        "    ⏎Mostly from contentment, but also when【 they】 are hurt or afraid. The vibration seems\n"
        "    value 602; token_ids_part_0000.npy at byte 9110\n"
        "  word: sample 10, word.jsonl row 12\n"
        "    ⏎Mostly from contentment, but also when【 t】ehy are hurt or afraid. The\n"
        "    value 261; token_ids_part_0000.npy at byte 9110\n"
        "\n"
        "~ sample 10 → sample 10  token_ids\n"
        "read N objects\n"
    )


def test_a_row_removed(run: Run) -> None:
    said = run("diff", "base", "removed", status=1)
    lines = plain(said.out).splitlines()
    assert lines[0] == "different: 1 deleted of 59 and 58 samples; seed 42 shuffles 58 otherwise than 59"
    assert lines[3:6] == ["first difference: token_ids[0]", "  base: sample 19, base.jsonl row 21", lines[5]]
    assert "  removed: no such sample" in lines
    assert lines[-2] == "- sample 19"


def test_a_row_inserted(run: Run) -> None:
    lines = plain(run("diff", "base", "inserted", status=1).out).splitlines()
    assert lines[0] == "different: 1 inserted of 59 and 60 samples; seed 42 shuffles 60 otherwise than 59"
    assert "  base: no such sample" in lines
    assert "  inserted: sample 29, inserted.jsonl row 31" in lines
    assert lines[-2] == "+ sample 29"


def test_labels_alone(run: Run) -> None:
    said = run("diff", "roles", "swapped", status=1)
    lines = plain(said.out).splitlines()
    assert lines[0] == "different: 1 replaced of 2 samples; equal: token_ids, key, length, source"
    assert "first difference: labels_mask[0]" in lines
    assert [line.split(";")[0] for line in lines if "value" in line] == ["    value 0", "    value 1"]
    assert lines[-2] == "~ sample 1 → sample 1  labels_mask"
    assert run("diff", "roles", "swapped", "--only", "token_ids").out.startswith(
        "equal in token_ids: 2 samples; not compared: labels_mask, key, length, source, order\n"
    )
    run("diff", "roles", "swapped", "--only", "labels_mask", status=1)


def test_another_order(run: Run) -> None:
    said = run("diff", "base", "order", status=1)
    assert plain(said.out) == "another order of the same 59 samples\n  shuffle_seed: 42 → 1\nread N objects\n"
    said = run("diff", "base", "few", status=1)
    assert said.out.startswith(
        "the same 59 samples in the same order, of which the first 59 or 10 are used\n  num_examples: none → 10\n"
    )


def test_only_one_array(run: Run) -> None:
    assert run("diff", "base", "word", "--only", "source").out.startswith(
        "equal in source: 59 samples; not compared: token_ids, labels_mask, key, length, order\n"
    )
    for array in ("token_ids", "labels_mask", "length", "key", "source"):
        run("diff", "base", "removed", "--only", array, status=1)
        run("diff", "base", "again", "--only", array)
    for unknown in ("nope", "row", "raw_key", ""):
        assert "on both sides" in run("diff", "base", "again", "--only", unknown, status=2).trouble


def test_strict(run: Run) -> None:
    """The same data by another recipe are equal, and with --strict they are not."""
    repo_files = {name: run("show", name, "--json").json for name in ("base", "again")}
    assert repo_files["base"]["root"] == repo_files["again"]["root"]
    run("diff", "base", "again", "--strict")


def test_strict_counts_recipe_and_sources(run: Run, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", example_rows()[:10])
    longer = write_rows(tmp_path / "longer.jsonl", example_rows()[:10])
    repo = tmp_path / "repo"
    for name, options in (("x", ("--mix", path, "1.0")), ("y", ("--mix", longer, "10", "--max-seq-length", "9999"))):
        run("--repo", repo, *tokenize(*options, "--as", name))
    said = run("--repo", repo, "diff", "x", "y")
    assert said.out.startswith("equal: ")
    assert "  max_seq_length: none → 9999\n" in said.out
    assert "  source 1 (longer.jsonl): amount 1.0 → 10\n" in said.out
    run("--repo", repo, "diff", "x", "y", "--strict", status=1)
    assert run("--repo", repo, "diff", "x", "y", "--strict", "--json", status=1).json["equal"] is True


def test_counts_alone(run: Run) -> None:
    lines = run("diff", "base", "word", "--stat", status=1).out.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("different: 1 replaced of 59 samples")


def test_the_first_alone(run: Run) -> None:
    out = run("diff", "base", "word", "--first", status=1).out
    assert "first difference: token_ids[23]" in out
    assert "~ sample" not in out


def test_quiet(run: Run) -> None:
    for form in ((), ("--markdown",), ("--stat",), ("--side-by-side",), ("--decode",), ("--first",)):
        said = run("diff", "base", "word", "-q", *form, status=1), run("diff", "base", "again", "-q", *form)
        assert [(each.out, each.err) for each in said] == [("", ""), ("", "")], form


@pytest.mark.parametrize("b", ["base", "again", "word", "removed", "order", "few", "swapped"])
@pytest.mark.parametrize("options", ["", "--strict", "--only token_ids", "--only labels_mask"])
def test_quiet_says_what_is_said_aloud(run: Run, b: str, options: str, tmp_path: Path) -> None:
    lock = tmp_path / "base.lock"
    lock.write_text(run("lock", "base").out)
    for sides in (("base", b), (b, "base"), (b, "--expect", lock)):
        aloud = run("diff", *sides, *options.split(), status=None)
        assert run("diff", *sides, *options.split(), "-q", status=aloud.status).out == ""


def test_quiet_of_directories(run: Run, tmp_path: Path) -> None:
    for name in ("base", "again", "word"):
        run("export", name, tmp_path / name, "-q")
    for a, b, status in (("base", "again", 0), ("base", "word", 1)):
        for sides in ((tmp_path / a, tmp_path / b), (a, tmp_path / b), (tmp_path / a, b)):
            run("diff", *sides, "-q", status=status)
    stray = tmp_path / "again" / "positions_part_0000.npy"
    stray.write_bytes(b"one thing")
    assert run("diff", tmp_path / "base", tmp_path / "again", status=None).status == 1
    run("diff", tmp_path / "base", tmp_path / "again", "-q", status=1)


def test_quiet_refuses_what_is_refused_aloud(run: Run) -> None:
    assert "no array nothing" in run("diff", "base", "word", "--only", "nothing", "-q", status=2).trouble


def test_limit(run: Run, tmp_path: Path) -> None:
    rows = [row.replace(b"the", b"teh") if i % 2 else row for i, row in enumerate(example_rows()[:60])]
    path = write_rows(tmp_path / "rows.jsonl", rows)
    repo = tmp_path / "repo"
    run("--repo", repo, *tokenize("--mix", path, "1.0", "--as", "x"))
    lines = run("--repo", repo, "diff", "x", _address(run, "base"), "--limit", "3", status=1).out.splitlines()
    assert sum(line.startswith("~") for line in lines) <= 3
    assert any(re.fullmatch(r"… and \d+ more \(--limit N, --json for all\)", line) for line in lines)


def _address(run: Run, name: str) -> str:
    import os

    return f"{os.environ['CASTORE_REPO']}#{name}"


@pytest.mark.parametrize("context", [0, 1, 3, 1000])
def test_context(run: Run, context: int) -> None:
    first = run("diff", "base", "word", "--context", str(context), "--json", status=1).json["first"]
    before, at, after = first["context_a"]
    assert at == " they"
    if context == 0:
        assert (before, after) == ("", "")
    elif context < 1000:
        assert 0 < len(before.split()) <= context + 1
    else:
        assert before.startswith("<|im_start|>user")
        assert after.endswith("<|endoftext|>")


def test_nothing_in_the_text_commands_the_terminal(run: Run) -> None:
    out = run("diff", "base", "odd", "--context", "50", status=1).out
    assert all(character.isprintable() or character == "\n" for character in out)
    text = "bell \\x07 escape \\x1b[31m red \\x85 \\u2028 \\u202e end⇥new⏎line"
    assert text in out.replace("【", "").replace("】", "")


def test_json(run: Run) -> None:
    found = run("diff", "base", "word", "--json", status=1).json
    assert set(found) >= {"equal", "a", "b", "arrays", "samples", "hunks", "first", "reads"}
    assert found["equal"] is False
    assert len(found["a"]["root"]) == len(found["b"]["root"]) == 64
    assert found["arrays"] == {
        "token_ids": {"equal": False},
        "labels_mask": {"equal": False},
        "key": {"equal": False},
        "length": {"equal": False},
        "source": {"equal": True},
    }
    assert found["samples"] == {"a": 59, "b": 59, "replaced": 1, "inserted": 0, "deleted": 0, "moved": 0}
    assert found["hunks"] == [{"op": "replace", "a": [10, 11], "b": [10, 11], "arrays": ["token_ids"]}]
    first = found["first"]
    assert {k: first[k] for k in ("sample_a", "sample_b", "array", "index", "a", "b", "text_a", "text_b")} == {
        "sample_a": 10,
        "sample_b": 10,
        "array": "token_ids",
        "index": 23,
        "a": 602,
        "b": 261,
        "text_a": " they",
        "text_b": " t",
    }
    assert first["place_a"] == {"file": "token_ids_part_0000.npy", "offset": 9110}
    assert first["origin_a"]["row"] == 11
    assert set(found["reads"]) == {"objects", "bytes"}
    assert found["recipe"][0]["field"] == "sources"


def test_json_of_equal_data(run: Run) -> None:
    found = run("diff", "base", "again", "--json").json
    assert found["equal"] is True
    assert found["hunks"] == []
    assert found["first"] is None
    assert all(array == {"equal": True} for array in found["arrays"].values())
    assert found["reads"]["objects"] <= 4


def test_json_of_one_side_only(run: Run) -> None:
    first = run("diff", "base", "removed", "--json", status=1).json["first"]
    assert first["sample_b"] is None
    assert first["b"] is None
    assert first["text_b"] is None
    assert first["place_b"] is None
    assert first["text_a"] == "<|im_start|>"


def test_two_repositories(run: Run, tmp_path: Path) -> None:
    """Equal data of two repositories cost two manifests and two run records."""
    path = write_rows(tmp_path / "rows.jsonl", example_rows()[:60])
    other = tmp_path / "other"
    run("--repo", other, *tokenize("--mix", path, "1.0", "--as", "x"))
    different = run("diff", "base", f"{other}#x", "--json", status=1).json
    assert different["samples"]["inserted"] + different["samples"]["replaced"] >= 1
    assert run("--repo", other, "diff", "x", f"{other}#x", "--json").json["reads"]["objects"] <= 4
    swapped = run("diff", f"{other}#x", "base", "--json", status=1).json
    assert swapped["a"] == different["b"]
    assert run("diff", "base", f"file://{other}#x", "--json", status=1).json["a"] == different["a"]


def test_the_named_byte_is_where_the_export_differs(run: Run, tmp_path: Path) -> None:
    first = run("diff", "base", "word", "--json", status=1).json["first"]
    for side, name in (("a", "base"), ("b", "word")):
        run("export", name, tmp_path / name, "-q")
        place = first[f"place_{side}"]
        raw = (tmp_path / name / place["file"]).read_bytes()[place["offset"] : place["offset"] + 2]
        assert int.from_bytes(raw, "little") == first[side]


def test_markdown(run: Run) -> None:
    lines = run("diff", "base", "word", "--markdown", status=1).out.splitlines()
    assert lines[0].startswith("**different: 1 replaced of ")
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    assert cells[:3] == [
        ["samples", "change", "for example"],
        ["---:", "---", "---"],
        ["1", "‹ they› replaced by ‹ tehy› after ‹ also when›", "10"],
    ]
    assert [row[0] for row in cells[3:]] == ["", "---", "sample", "from", "value", "text", "at"]
    assert [row[1] for row in cells[5:8]] == ["10", cells[6][1], "602"]
    assert "【 they】" in cells[8][1]
    assert lines[-3:] == ["```diff", "~ sample 10 → sample 10  token_ids", "```"]


def test_markdown_fits_into_a_comment(run: Run, tmp_path: Path) -> None:
    """GitHub takes 65,536 characters."""
    repo = tmp_path / "repo"
    for name, word in (("x", "spam "), ("y", "eggs ")):
        path = write_rows(tmp_path / f"{name}.jsonl", [row(f"{i}", "<|🙂" * 3000 + word * (i + 1)) for i in range(12)])
        run("--repo", repo, *tokenize("--mix", path, "1.0", "--as", name))
    out = run("--repo", repo, "diff", "x", "y", "--markdown", "--limit", "9999", "--decode", status=1).out
    assert 10_000 < len(out.encode()) <= 65_536 + 1
    assert out.startswith("**different: ")


def test_markdown_of_equal_data_is_one_line(run: Run) -> None:
    assert re.fullmatch(r"\*\*equal: .*\*\*\n", run("diff", "base", "again", "--markdown").out)


def test_whole_samples_as_text(run: Run) -> None:
    shown = run("diff", "base", "word", "--decode", "--first", status=1).out
    text = run("cat", "base", "--sample", "10", "--decode").out.partition("\n")[2]
    plain_text = text.replace("«", "").replace("»", "").strip("\n")
    side = shown.partition("  base: sample 10")[2].partition("    value")[0].partition("\n")[2]
    assert (
        "".join(line[4:] for line in side.splitlines(keepends=True)).replace("【", "").replace("】", "").strip("\n")
        == plain_text
    )
