"""``castore diff --html``: the file; what a browser makes of it is in ``test_diff_browser.py``."""

from __future__ import annotations

import re
import stat
from html.parser import HTMLParser
from pathlib import Path

import pytest
from jinja2 import UndefinedError

from castore_cli.diff_page import MARK, PAGE_BYTES_MAX
from castore_cli.diff_page_map import BINS, _spread
from castore_cli.pages import environment, token_text
from tests.cli.conftest import Run, tokenize
from tests.support.jobs import row, write_rows

EVIL = (
    "</script><script>alert(1)</script><img src=x onerror=alert(2)> \"quote\" 'single' & &amp; <!-- --> ]]> "
    "bell \x07 escape \x1b[31m \u202e reversed \u2066 \u200f \u0000 שלום مرحبا 😀 \u2028 end"
)


class Outline(HTMLParser):
    """Elements and text of a page; refuses what is not well formed."""

    VOID = ("meta", "input", "br")

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def outline(path: Path) -> Outline:
    raw = path.read_bytes()
    assert raw.startswith(MARK)
    assert len(raw) < PAGE_BYTES_MAX
    found = Outline()
    found.feed(raw.decode())
    found.close()
    assert found.open == []
    return found


def of(found: Outline, tag: str, kind: str) -> list[dict[str, str | None]]:
    return [attrs for name, attrs in found.elements if name == tag and kind in (attrs.get("class") or "").split()]


def test_the_page_tells_all_parts(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    said = run("diff", "base", "word", "--html", path, status=1)
    assert said.out == run("diff", "base", "word", status=1).out
    assert said.err == ""
    found = outline(path)
    assert [attrs["id"] for attrs in of(found, "article", "card")] == ["s10-10"]
    (card,) = of(found, "article", "card")
    assert (card["data-op"], card["data-arrays"]) == ("replace", "token_ids")
    for text in (
        "1 replaced of 59 samples",
        "Likely causes",
        "Kinds of change",
        "Where",
        "First difference",
        "Samples",
    ):
        assert text in found.text
    assert "token_ids_part_0000.npy at byte 9,110" in found.text
    assert "word.jsonl row 12" in found.text
    texts = re.findall(r"<(del|ins)>(.*?)</\1>", path.read_text()[path.read_text().index('id="s10-10"') :])
    gone, come = ("".join(text for tag, text in texts if tag == kind) for kind in ("del", "ins"))
    assert '<span class="t" data-id="602"> they</span>' in gone
    assert '<span class="t" data-id="261"> t</span>' in come


def test_nothing_comes_from_elsewhere(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    run("diff", "base", "removed", "--html", path, "-q", status=1)
    found = outline(path)
    for tag, attrs in found.elements:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base")
        assert not {"src", "style", "srcset", "action"} & set(attrs)
        assert not [name for name in attrs if name.startswith("on")]
        assert (attrs.get("href") or "#").startswith("#")
    policy = next(attrs["content"] for _, attrs in found.elements if attrs.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert "url(" not in path.read_text()


def test_every_link_leads_to_a_sample_of_the_page(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    run("diff", "base", "few", "--html", path, "-q", status=1)
    run("diff", "roles", "base", "--html", path, "-q", status=1)
    found = outline(path)
    ids = [attrs["id"] for _, attrs in found.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    targets = [attrs["href"] for tag, attrs in found.elements if tag == "a"]
    assert targets
    assert {str(target).removeprefix("#") for target in targets} <= set(ids)


def test_text_is_text_whatever_it_is(run: Run, tmp_path: Path) -> None:
    """Markup, marks of direction, control characters and bytes that are no characters, in tokens and in names."""
    rows = [row(f"word {i}", "yes") for i in range(8)]
    paths = [write_rows(tmp_path / "a<b>&.jsonl", rows), write_rows(tmp_path / "b.jsonl", [*rows[:3], row("x", EVIL)])]
    repo = tmp_path / "repo"
    for name, path in zip(("x", "y"), paths, strict=True):
        run("--repo", repo, *tokenize("--mix", path, "1.0", "--as", name))
    page = tmp_path / "page.html"
    for sides in (("x", "y"), ("y", "x")):
        run("--repo", repo, "diff", *sides, "--html", page, "--context", "1000", "-q", status=1)
        found = outline(page)
        assert [tag for tag, _ in found.elements].count("script") == 1
        assert "</script><script>alert(1)</script><img src=x onerror=alert(2)>" in found.text
        assert "\\x07" in found.text
        assert "\\u202e" in found.text
        assert "a<b>&.jsonl" in found.text
        raw = page.read_text()
        assert not {"\u202e", "\u2066", "\u200f", "\x07", "\x1b", "\x00", "\u2028"} & set(raw)
        assert "שלום" in found.text


@pytest.mark.parametrize("text", ["<b>", "&lt;", "'", "\ud800", "\u202e", "a\nb", "\x85", "\U000e0001"])
def test_what_a_template_puts_out_is_visible_and_escaped(text: str) -> None:
    for template in ("<p>{{ text }}</p>", "<p title='{{ text }}'></p>", '{{ "%s"|format(text) }}', "{{ [text][0] }}"):
        shown = environment().from_string(template).render(text=text)
        inner = shown.removeprefix("<p>").removesuffix("</p>").removeprefix("<p title='").removesuffix("'>")
        inner.encode()
        assert "<" not in inner
        assert "'" not in inner
        assert all(character.isprintable() or character == "\n" for character in inner)


def test_a_line_end_of_a_token_shows() -> None:
    assert environment().from_string("{{ text|token }}").render(text="a\n<") == "a⏎\n&lt;"
    assert token_text("a") == "a"


def test_a_template_that_names_what_is_not_there_is_an_error() -> None:
    for template in ("{{ nothing }}", "{% if nothing %}{% endif %}", "{{ page.nothing }}"):
        with pytest.raises(UndefinedError):
            environment().from_string(template).render(page={})


def test_a_character_of_several_tokens_is_shown_whole(run: Run, tmp_path: Path) -> None:
    rows = [row("a", "plain"), row("b", "晚安 😀 done")]
    repo = tmp_path / "repo"
    for name, chosen in (("x", rows[:1]), ("y", rows)):
        path = write_rows(tmp_path / f"{name}.jsonl", chosen)
        run("--repo", repo, *tokenize("--mix", path, "1.0", "--as", name))
    page = tmp_path / "page.html"
    run("--repo", repo, "diff", "x", "y", "--html", page, "-q", status=1)
    for character in "晚安😀":
        assert character in page.read_text()
    assert "\\x" not in page.read_text().partition("<body>")[2].partition("<script>")[0]


def test_the_page_is_the_same_every_time(run: Run, tmp_path: Path) -> None:
    for name in ("1", "2"):
        run("diff", "base", "word", "--html", tmp_path / name, "-q", status=1)
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_equal_data_have_a_page_that_says_so(run: Run, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    run("diff", "base", "again", "--html", page, "-q")
    found = outline(page)
    assert "59 samples, 6,968 tokens, root " in found.text
    assert of(found, "article", "card") == []


def test_what_a_lock_file_alone_can_tell(run: Run, tmp_path: Path) -> None:
    lock = tmp_path / "castore.lock"
    lock.write_text(run("lock", "base").out)
    path = write_rows(tmp_path / "rows.jsonl", [row("a", "b")])
    run("--repo", tmp_path / "repo", *tokenize("--mix", path, "1.0", "--as", "x"))
    page = tmp_path / "page.html"
    run("--repo", tmp_path / "repo", "diff", "x", "--expect", lock, "--html", page, "-q", status=1)
    found = outline(page)
    assert "its samples cannot be compared" in found.text
    assert of(found, "article", "card") == []


# ---- size


def test_limit_says_what_is_left_out(run: Run, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    run("diff", "base", "roles", "--html", page, "--limit", "7", "-q", status=1)
    found = outline(page)
    assert len(of(found, "article", "card")) == 7
    assert re.search(r"7 of \d+ that differ; the others are left out of this page", found.text)


def test_no_page_is_larger_than_five_megabytes(run: Run, tmp_path: Path) -> None:
    """120 samples of 4,000 tokens that are all different, and all asked for."""
    repo = tmp_path / "repo"
    for name, word in (("x", "spam "), ("y", "eggs ")):
        path = write_rows(tmp_path / f"{name}.jsonl", [row(f"{i}", f"{i} " + word * 4000) for i in range(120)])
        run("--repo", repo, *tokenize("--mix", path, "1.0", "--as", name))
    page = tmp_path / "page.html"
    run("--repo", repo, "diff", "x", "y", "--html", page, "--limit", "100000", "--context", "1000", "-q", status=1)
    found = outline(page)
    cards = len(of(found, "article", "card"))
    assert 10 <= cards < 120
    assert page.stat().st_size > 2_000_000
    assert f"{cards} of 120 that differ" in found.text
    assert "more tokens" in found.text


@pytest.mark.parametrize(
    ("start", "count", "total"), [(0, 1, 1), (0, 10**9, 10**9), (5, 7, 59), (58, 1, 59), (0, 59, 59)]
)
def test_bins_hold_every_sample_once(start: int, count: int, total: int) -> None:
    found = list(_spread(start, count, total))
    assert sum(inside for _, inside in found) == count
    assert [at for at, _ in found] == sorted({at for at, _ in found})
    assert all(0 <= at < BINS for at, _ in found)


# ---- the file


def test_the_file_is_whole_or_not_there(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.html"
    run("diff", "base", "word", "--html", page, "-q", status=1)
    before = page.read_bytes()
    assert stat.S_IMODE(page.stat().st_mode) & 0o400
    monkeypatch.setattr("os.replace", _full)
    assert "No space left" in run("diff", "base", "removed", "--html", page, "-q", status=2).trouble
    assert page.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def _full(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_what_is_no_page_is_not_overwritten(run: Run, tmp_path: Path) -> None:
    data = tmp_path / "conversations.jsonl"
    data.write_text("{}\n")
    said = run("diff", "base", "word", "--html", data, status=2)
    assert said.trouble == f"{data} exists and is no page of castore diff: it is not overwritten"
    assert data.read_text() == "{}\n"
    assert run("diff", "base", "word", "--html", tmp_path, status=2).trouble.endswith("no page is written there")
    assert "there is no folder" in run("diff", "base", "word", "--html", tmp_path / "no/page", status=2).trouble
    page = tmp_path / "page.html"
    for other in ("word", "removed"):  # a page of before is replaced
        run("diff", "base", other, "--html", page, "-q", status=1)


# ---- other kinds of difference


def test_moved_samples_are_on_the_map_and_not_among_the_samples(run: Run, tmp_path: Path) -> None:
    rows = [row(f"question {i}", f"answer {i}") for i in range(40)]
    repo = tmp_path / "repo"
    for name, chosen in (("x", rows), ("y", [*rows[:5], *rows[8:30], *rows[5:8], *rows[30:]])):
        path = write_rows(tmp_path / f"{name}.jsonl", chosen)
        run("--repo", repo, *tokenize("--mix", path, "1.0", "--as", name))
    page = tmp_path / "page.html"
    out = run("--repo", repo, "diff", "x", "y", "--html", page, "--side-by-side", status=1).out
    assert "│" not in out
    found = outline(page)
    assert of(found, "article", "card") == []
    assert of(found, "div", "moved")
    assert "along 40 samples of x in stored order, and 3 places of the other side between them" in found.text
    assert "no text here" not in found.text
    assert "3 samplesmoved: the same samples in another place" in found.text


def test_two_folders(run: Run, tmp_path: Path) -> None:
    """Without a vocabulary tokens are shown by their ids."""
    for name in ("base", "word"):
        run("export", name, tmp_path / name, "-q")
    page = tmp_path / "page.html"
    out = run("diff", tmp_path / "base", tmp_path / "word", "--html", page, "--side-by-side", status=1).out
    assert "602 " in out
    found = outline(page)
    assert len(of(found, "article", "card")) == 1
    assert "602 " in found.text
