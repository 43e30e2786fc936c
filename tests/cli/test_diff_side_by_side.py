"""``castore diff --side-by-side``: two columns as wide as the terminal."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from rich.cells import cell_len

from castore.diff.edits import Change, label_flips, token_edits
from castore.diff.side_by_side import ShownPair, ShownSample, stretches
from castore.format.files import Vocabulary
from castore_cli.diff_side_by_side import pair_lines
from tests.cli.conftest import Run, tokenize
from tests.cli.test_diff import plain
from tests.support.jobs import row, write_rows


def pair(a: str, b: str, context: int = 8, spans: tuple[list[tuple[int, int]], ...] = ([], [])) -> ShownPair:
    """Two samples with a token for each character."""
    letters = "".join(sorted(set(a + b)))
    ends, text = [], b""
    for letter in letters:
        text += letter.encode()
        ends.append(len(text))
    vocabulary = Vocabulary(ends, text)
    ids = [[letters.index(letter) for letter in side] for side in (a, b)]
    edits, coarse = token_edits(*ids)
    change = Change(0, 0, edits, label_flips(*spans, edits), coarse)
    sides = [ShownSample(7, own, labels, vocabulary, None) for own, labels in zip(ids, spans, strict=True)]
    return ShownPair("replace", ("token_ids",), *sides, tuple(stretches(change, len(a), context)), coarse)


def lines(found: ShownPair, width: int, *, colour: bool = False) -> list[str]:
    return list(pair_lines(found, ("a", "b"), width, colour=colour))


def test_one_word(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    said = run("diff", "base", "word", "--side-by-side", status=1)
    assert plain(said.out) == (
        "different: 1 replaced of 59 samples; equal: source\n"
        "  source 1 (word.jsonl): digest DIG → DIG\n"
        "changes in 1 replaced sample:\n"
        "  1  ‹ they› replaced by ‹ tehy› after ‹ also when› (sample 10)\n"
        "\n"
        "@\n"
        "───────────────────────────────────────┼────────────────────────────────────────\n"
        "… 15 tokens …                          │ … 15 tokens …\n"
        "⏎                                      │ ⏎\n"
        "«Mostly from contentment, but also     │ «Mostly from contentment, but also\n"
        "when»【« they»】« are hurt or afraid.  │ when»【« tehy»】« are hurt or afraid.\n"
        "The vibration seems»                   │ The vibration seems»\n"
        "… 14 tokens …                          │ … 14 tokens …\n"
        "\n"
        "read N objects\n"
    ).replace("@", plain(said.out).splitlines()[5])
    head = plain(said.out).splitlines()[5]
    assert re.fullmatch(r"~ base: sample 10, .* row 12 +│ ~ word: sample 10, .* row 12", head)
    assert cell_len(head) <= 80


@pytest.mark.parametrize("width", [20, 33, 80, 211])
def test_no_line_is_wider_than_the_terminal(run: Run, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    for other in ("odd", "removed", "inserted"):
        out = run("diff", "base", other, "--side-by-side", "--context", "50", status=1).out
        shown = out.partition("\n\n")[2].rpartition("\n\n")[0].splitlines()
        assert shown
        assert max(map(cell_len, shown)) <= width
        assert all(character.isprintable() or character == "\n" for character in out)


def test_wide_and_combining_characters_keep_the_columns() -> None:
    text = "日本語のテキスト, é́ 한국어 👍🏽 "
    for width in (21, 40, 63):
        found = lines(pair(text * 3, text * 3 + "!"), width)
        column = (width - 3) // 2
        for line in found[3:]:
            left, bar, _ = line.partition(" │")
            assert bar
            assert cell_len(left) == column


def test_golden_text() -> None:
    assert lines(pair("the quick brown fox", "the quick red fox", 4, ([(0, 3)], [(0, 9)])), 40) == [
        "",
        "~ a: sample 7      │ ~ b: sample 7",
        "───────────────────┼────────────────────",
        "«the»【 quick】    │ «the»【« quick»】",
        "【b】r【own】 fox  │ r【ed】 fox",
    ]


def test_what_is_equal_is_passed_over() -> None:
    found = lines(pair("x" * 50 + "a" + "y" * 50 + "b", "x" * 50 + "y" * 50 + "c", 2), 60)
    assert found[3:] == [
        "… 48 tokens …                │ … 48 tokens …",
        "xx【a】yy                    │ xxyy",
        "… 46 tokens …                │ … 46 tokens …",
        "yy【b】                      │ yy【c】",
    ]


def test_labels() -> None:
    found = lines(pair("abcdef", "abcdef", 1, ([(1, 3)], [(1, 5)])), 60)
    assert found[3:] == ["a«bc»【de】f                 │ a«bc»【«de»】f"]


def test_colour_is_for_terminals(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b" not in run("diff", "base", "word", "--side-by-side", status=1).out
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    coloured = run("diff", "base", "word", "--side-by-side", status=1).out
    assert "\x1b[" in coloured
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in run("diff", "base", "word", "--side-by-side", status=1).out


def test_colours_take_no_cells() -> None:
    found = pair("one two three", "one 2 three", 8, ([(0, 3)], [(0, 3)]))
    shown = [re.sub(r"\x1b\[[\d;]*m", "", line) for line in lines(found, 50, colour=True)]
    assert shown[3:] == ["one two three           │ one 2 three"]


def test_whole_samples_and_no_context(run: Run) -> None:
    whole = run("diff", "base", "word", "--side-by-side", "--decode", status=1).out
    assert "tokens …" not in whole
    assert "<|endoftext|>" in whole
    short = run("diff", "base", "word", "--side-by-side", "--context", "0", status=1).out
    assert "【« they»】" in short
    assert "when" not in short.partition("\n\n")[2]


def test_samples_of_one_side(run: Run) -> None:
    out = run("diff", "base", "removed", "--side-by-side", status=1).out
    assert re.search(r"^- base: sample 19, .* row 21 +│ removed: no such sample$", out, re.MULTILINE)
    out = run("diff", "base", "inserted", "--side-by-side", status=1).out
    assert re.search(r"^base: no such sample +│ \+ inserted: sample 29, ", out, re.MULTILINE)


def test_limit_and_streaming(run: Run, tmp_path: Path) -> None:
    repo = tmp_path / "repo"
    for name, word in (("x", "spam"), ("y", "eggs")):
        path = write_rows(tmp_path / f"{name}.jsonl", [row(f"{i}", f"{i} {word}") for i in range(30)])
        run("--repo", repo, *tokenize("--mix", path, "1.0", "--as", name))
    out = run("--repo", repo, "diff", "x", "y", "--side-by-side", "--limit", "5", status=1).out
    assert out.count("~ x: sample ") == 5
    assert "\n… and 25 more samples (--limit N)\n" in out
    out = run("--repo", repo, "diff", "x", "y", "--side-by-side", "--limit", "5000", status=1).out
    assert out.count("~ x: sample ") == 30
    assert "more samples" not in out
    out = run("--repo", repo, "diff", "x", "y", "--side-by-side", "--first", status=1).out
    assert out.count("~ x: sample ") == 1


def test_equal_data_have_no_columns(run: Run) -> None:
    assert "│" not in run("diff", "base", "again", "--side-by-side").out
