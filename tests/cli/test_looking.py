"""Looking at data: ``cat`` in colour, ``stats`` as text, JSON and a page, exports in other layouts."""

from __future__ import annotations

import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import castore
from castore_cli.cat import BAR
from tests.cli.conftest import Run
from tests.cli.test_commands import on_a_terminal

STYLED = re.compile(r"\x1b\[[0-9;]*m")


def runs_of(text: str, code: str) -> list[str]:
    """What is shown with an SGR code, each up to the reset."""
    return re.findall(rf"(?:\x1b\[[0-9]+m)*\x1b\[{code}m(?:\x1b\[[0-9]+m)*([^\x1b]*)\x1b\[0m", text)


# ---- cat


@pytest.mark.slow
def test_text_on_a_terminal_is_coloured(run: Run, repo: Path) -> None:
    arguments = ("--repo", repo, "cat", "base", "--sample", "2", "--decode")
    out = on_a_terminal(*arguments, TERM="xterm").replace("\r\n", "\n")
    plain = run(*arguments).out
    assert STYLED.sub("", out) == plain.replace("«", "").replace("»", "")
    trained = "".join(re.findall(r"«([^»]*)»", plain))
    specials = {"<|im_start|>", "<|im_end|>", "<|endoftext|>"} & set(re.findall(r"<\|\w+\|>", plain))
    assert set(runs_of(out, "34")) == specials
    # What is trained on is green, or is a special token and underlined.
    assert "".join(re.findall(r"\x1b\[(?:32m|34m\x1b\[4m)([^\x1b]*)", out)) == trained
    assert {"user", "assistant"} <= set(runs_of(out, "1"))


@pytest.mark.slow
@pytest.mark.parametrize("variables", [{"TERM": "xterm", "NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_nobody_gets_colour_who_does_not_want_it(run: Run, repo: Path, variables: dict[str, str]) -> None:
    for command in (("cat", "base", "--sample", "2", "--decode"), ("show", "base"), ("stats", "base")):
        arguments = ("--repo", repo, *command)
        assert on_a_terminal(*arguments, **variables).replace("\r\n", "\n") == run(*arguments).out


def test_bars_stand_between_tokens(run: Run) -> None:
    found = run("cat", "base", "--sample", "2", "--json").json
    out = run("cat", "base", "--sample", "2", "--tokens").out.partition("\n")[2]
    assert (
        out.replace(BAR, "").replace("«", "").replace("»", "")
        == run("cat", "base", "--sample", "2", "--decode", "--json").json["text"] + "\n"
    )
    # A bar or the mark of a span is between any two tokens, unless they share a character.
    assert len(re.split(rf"{BAR}|(?<=.)«|»(?=.)", out.rstrip("\n"), flags=re.DOTALL)) == len(found["token_ids"])


def test_several_samples(run: Run) -> None:
    one = [run("cat", "base", "--sample", str(i), "--json").out for i in (3, 4, 5)]
    assert run("cat", "base", "--sample", "3:6", "--json").out == "".join(one)
    assert run("cat", "base", "--sample", "3:6").out.count("sample ") == 3
    assert "LO:HI" in run("cat", "base", "--sample", "x", status=2).trouble
    assert "no sample at all" in run("cat", "base", "--sample", "3:3", status=2).trouble
    assert run("cat", "base", "--sample", "58:60", status=2).trouble == "sample 59 of 59: ask for 0 to 58"


# ---- stats


def test_stats_are_those_of_the_samples(run: Run, repo: Path) -> None:
    found = run("stats", "few", "--json", "--sequence-length", "100", "--sequence-length", "512").json
    samples = list(castore.open(str(repo))["few"].ordered)
    lengths = sorted(map(len, samples))
    assert (found["samples"], found["tokens"]) == (len(lengths), sum(lengths))
    assert found["trainable"] == sum(int(sample.labels_mask.sum()) for sample in samples)
    told = found["lengths"]
    assert (told["min"], told["max"], told["p50"]) == (lengths[0], lengths[-1], lengths[len(lengths) // 2])
    assert told["mean"] == sum(lengths) / len(lengths)
    for bin_ in told["bins"]:
        inside = [n for n in lengths if bin_["lo"] <= n < bin_["hi"]]
        assert (bin_["samples"], bin_["tokens"]) == (len(inside), sum(inside))
    assert sum(bin_["samples"] for bin_ in told["bins"]) == len(lengths)
    (source,) = found["sources"]
    assert source["trainable_share"] == found["trainable"] / found["tokens"]
    data = castore.open(str(repo))["few"]
    for packing in found["packing"]:
        expected = data.pack(packing["sequence_length"])
        assert (packing["instances"], packing["efficiency"]) == (len(expected), expected.efficiency)
        assert packing["samples_split"] == sum(n > packing["sequence_length"] for n in lengths)
    assert [packing["sequence_length"] for packing in found["packing"]] == [100, 512]


def test_stats_by_source(run: Run, tmp_path: Path, repo: Path) -> None:
    from tests.cli.conftest import tokenize
    from tests.support.jobs import example_rows, write_rows

    a, b = (write_rows(tmp_path / f"{n}.jsonl", example_rows()[lo : lo + 20]) for n, lo in (("a", 0), ("b", 50)))
    there = ("--repo", tmp_path / "repo")
    run(*there, *tokenize("--mix", a, "1.0", "--mix", b, "2.0", "--num-examples", "45", "--as", "x"))
    found = run(*there, "stats", "x", "--json").json
    data = castore.open(str(tmp_path / "repo"))["x"]
    for number, source in enumerate(found["sources"]):
        mine = [sample for sample in data.ordered if sample.source == number]
        trained = sum(int(sample.labels_mask.sum()) for sample in mine)
        assert (source["samples"], source["tokens"], source["trainable"]) == (len(mine), sum(map(len, mine)), trained)
        assert source["name"] == data.sources[number]
    out = run(*there, "stats", "x").out
    assert str(a) in out
    assert "packing, true boundaries" in out


class Page(HTMLParser):
    """What a page is made of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]


def test_a_page_is_one_file(run: Run, repo: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    said = run("stats", "base", "--html", tmp_path / "a.html").out
    assert re.fullmatch(r"\S+/a\.html: 59 samples, [\d,]+ tokens\n", said)
    text = (tmp_path / "a.html").read_text()
    page = Page(text)
    assert page.tags.count("svg") == 3
    assert page.tags.count("table") == 3
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    assert all(link.startswith("#") for link in page.links)
    assert castore.open(str(repo))["base"].root.hex() in text
    assert len(text) < 200_000
    run("stats", "base", "--html", tmp_path / "b.html")
    assert (tmp_path / "b.html").read_text() == text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "b.html"]


def test_names_are_escaped_in_a_page(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    from tests.cli.conftest import tokenize
    from tests.support.jobs import example_rows, write_rows

    path = write_rows(tmp_path / "<script>$x^2$&.jsonl", example_rows()[:5])
    there = ("--repo", tmp_path / "repo")
    run(*there, *tokenize("--mix", path, "1.0", "--as", "x"))
    run(*there, "stats", "x", "--html", tmp_path / "x.html")
    page = Page((tmp_path / "x.html").read_text())
    assert "script" not in page.tags


def test_a_page_without_matplotlib(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    trouble = run("stats", "base", "--html", tmp_path / "x.html", status=2).trouble
    assert trouble == "matplotlib is not installed: pip install 'castore[stats]'"
    assert list(tmp_path.iterdir()) == []


def test_a_page_that_cannot_be_written(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    assert "there is no folder" in run("stats", "base", "--html", tmp_path / "no" / "x.html", status=2).trouble


def test_a_page_replaces_a_page_and_nothing_else(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    (tmp_path / "mine.txt").write_text("mine")
    for command in (("stats", "base"), ("diff", "base", "again")):
        assert f"no page of castore {command[0]}" in run(*command, "--html", tmp_path / "mine.txt", status=2).trouble
        said = run(*command, "--html", tmp_path / "nowhere" / "x.html", status=2).trouble
        assert said == f"{tmp_path}/nowhere/x.html: there is no folder to write the page in"
    run("stats", "base", "--html", tmp_path / "page.html")
    assert "no page of castore diff" in run("diff", "base", "again", "--html", tmp_path / "page.html", status=2).trouble
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_a_page_where_nobody_may_write(run: Run) -> None:
    said = run("diff", "base", "again", "--html", "/proc/x.html", status=2)
    assert said.err == "castore: /proc/x.html: No such file or directory\n"


# ---- export


@pytest.mark.parametrize("layout", ["megatron", "mds"])
def test_other_layouts(run: Run, tmp_path: Path, layout: str) -> None:
    said = run("export", "base", tmp_path / "out", "--layout", layout, "--json").json
    assert said["samples"] == 59
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names >= ({"token_ids.bin", "token_ids.idx"} if layout == "megatron" else {"index.json", "shard.00000.mds"})
    again = run("export", "base", tmp_path / "out", "--layout", layout, status=2).trouble
    assert "already holds files" in again
    assert json.loads(run("export", "base", tmp_path / "out", "--layout", layout, "--replace", "--json").out) == said
