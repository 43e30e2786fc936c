"""The page of ``castore diff --html`` as a browser shows it: Chromium without a window, if this machine has one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Run, tokenize
from tests.cli.test_diff_page import EVIL
from tests.support.browser import Browser, browser, find_browser
from tests.support.jobs import example_rows, row, write_rows

PROGRAM = find_browser()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PROGRAM is None, reason="no Chromium or Chrome on the path (CASTORE_TEST_BROWSER)"),
]


@pytest.fixture(scope="module")
def tab() -> Iterator[Browser]:
    """One browser for all tests."""
    assert PROGRAM is not None
    with browser(PROGRAM) as found:
        yield found


@pytest.fixture
def page(run: Run, tmp_path: Path) -> Path:
    """A page with replaced, inserted and deleted samples, changed labels, and text that would like to be markup."""
    rows = list(example_rows()[:40])
    other = [*rows[:5], *rows[7:20], row("x", EVIL), *[line.replace(b"the", b"teh", 1) for line in rows[20:30]]]
    repo = tmp_path / "repo"
    for name, chosen, options in (("x", rows, ()), ("y", [*other, *rows[30:]], ("--last-turn",))):
        path = write_rows(tmp_path / f"{name}.jsonl", chosen)
        run("--repo", repo, *tokenize("--mix", path, "1.0", *options, "--as", name))
    run("--repo", repo, "diff", "x", "y", "--html", tmp_path / "page.html", "-q", status=1)
    return tmp_path / "page.html"


def test_it_opens_without_a_complaint_and_asks_for_nothing(tab: Browser, page: Path) -> None:
    tab.open(page)
    assert tab.requests == [page.as_uri()]
    assert tab.complaints == []
    assert tab.run("document.title") == "castore diff: " + tab.run("document.querySelector('.verdict').textContent")[
        2:
    ] + ": " + tab.run("document.querySelector('h1').textContent")


def test_the_policy_stops_what_is_not_the_page_s_own(tab: Browser, page: Path) -> None:
    """That nothing ran in the other tests means something only if what should not run is stopped."""
    text = page.read_text()
    page.write_text(
        text.replace("</main>", "<script>document.title = 'run'</script><img src='https://x.invalid/'></main>")
    )
    tab.open(page)
    assert tab.run("document.title") != "run"
    assert len([said for said in tab.complaints if "Content Security Policy" in said]) == 2


def test_tokens_are_seen_side_by_side(tab: Browser, page: Path) -> None:
    tab.open(page)
    tab.call("Emulation.setDeviceMetricsOverride", width=1240, height=900, deviceScaleFactor=1, mobile=False)
    seen = tab.run(
        "[...document.querySelectorAll('.card[data-op=replace] .pair')].map((pair) => "
        "[...pair.children].map((side) => side.getBoundingClientRect()).map((box) => [box.left, box.top, box.width]))"
    )
    assert seen
    for (left, top, width), (right, other_top, other_width) in seen:
        assert top == other_top
        assert right >= left + width > left
        assert width > 300
        assert abs(width - other_width) < 2
    tab.call("Emulation.setDeviceMetricsOverride", width=500, height=900, deviceScaleFactor=1, mobile=False)
    assert tab.run("document.documentElement.scrollWidth") <= 500
    tab.call("Emulation.clearDeviceMetricsOverride")
    assert " the" in tab.run("[...document.querySelectorAll('del')].map((e) => e.innerText).join('|')")
    assert tab.run("getComputedStyle(document.querySelector('.card .y')).backgroundColor") != "rgba(0, 0, 0, 0)"
    assert tab.run("document.querySelectorAll('.card mark').length") > 0


def test_markup_in_tokens_is_text(tab: Browser, page: Path) -> None:
    tab.open(page)
    assert tab.run("document.images.length") == 0
    assert tab.run("document.scripts.length") == 1
    shown = tab.run("document.querySelector('main').innerText")
    assert "</script><script>alert(1)</script><img src=x onerror=alert(2)>" in shown


def visible_ops(tab: Browser) -> set[str]:
    ops: list[str] = tab.run(
        "[...document.querySelectorAll('.card')].filter((e) => e.offsetHeight > 0).map((e) => e.dataset.op)"
    )
    return set(ops)


def test_filters(tab: Browser, page: Path) -> None:
    tab.open(page)
    assert visible_ops(tab) == {"replace", "insert", "delete"}
    assert tab.run("document.getElementById('filters').offsetHeight") > 0
    total = tab.run("document.querySelectorAll('.card').length")
    assert tab.run("document.getElementById('shown').textContent") == f"{total} of {total} shown"

    def toggle(value: str) -> None:
        tab.run(f"document.querySelector('#filters [value={value}]').click()")

    toggle("replace")
    assert visible_ops(tab) == {"insert", "delete"}
    assert tab.run("getComputedStyle(document.querySelector('.lane.tokens')).opacity") < "1"
    assert tab.run("getComputedStyle(document.querySelector('.lane.inserted')).opacity") == "1"
    toggle("insert")
    assert visible_ops(tab) == {"delete"}
    toggle("replace")
    toggle("labels_mask")
    arrays = tab.run(
        "[...document.querySelectorAll('.card[data-op=replace]')].filter((e) => e.offsetHeight > 0)"
        ".map((e) => e.dataset.arrays)"
    )
    assert arrays
    assert all(names != "labels_mask" for names in arrays)
    hidden = tab.run("document.querySelector('.card[hidden]').id")
    tab.run(f"location.hash = '#{hidden}'; new Promise((done) => setTimeout(done, 100))")
    assert tab.run(f"document.getElementById('{hidden}').offsetHeight") > 0, "a link shows what was filtered away"
    assert tab.complaints == []


def test_keys_and_buttons_go_from_sample_to_sample(tab: Browser, page: Path) -> None:
    tab.open(page)
    ids = tab.run("[...document.querySelectorAll('.card')].map((e) => e.id)")

    def press(key: str) -> str:
        tab.run(f"dispatchEvent(new KeyboardEvent('keydown', {{key: '{key}'}}))")
        at: str = tab.run("[...document.querySelectorAll('.card.current')].map((e) => e.id).join()")
        assert tab.run(f"Math.abs(document.getElementById('{at}').getBoundingClientRect().top)") < 2000
        return at

    assert [press(key) for key in ("j", "n", "ArrowRight", "k", "ArrowLeft", "p", "p")] == [
        ids[at] for at in (0, 1, 2, 1, 0, 0, 0)
    ]
    tab.run("document.querySelector('#filters [value=replace]').click()")
    rest = tab.run("[...document.querySelectorAll('.card:not([hidden])')].map((e) => e.id)")
    tab.run("document.getElementById('next').click()")
    assert press("x") in rest
    assert [press("j") for _ in ids][-1] == rest[-1]
    assert tab.complaints == []


def test_search_finds_text_across_tokens(tab: Browser, page: Path) -> None:
    tab.open(page)

    def search(text: str) -> tuple[int, str]:
        tab.run(
            f"document.getElementById('search').value = {text!r};"
            "document.getElementById('search').dispatchEvent(new Event('input'))"
        )
        return (
            tab.run("document.querySelectorAll('.card:not([hidden])').length"),
            tab.run("document.getElementById('shown').textContent"),
        )

    total = tab.run("document.querySelectorAll('.card').length")
    assert search("ALERT(1)") == (1, f"1 of {total} shown")
    assert search("no such words") == (0, f"0 of {total} shown")
    assert search("") == (total, f"{total} of {total} shown")
    search("no such words")
    first = tab.run("document.querySelector('.card').id")
    tab.run(f"location.hash = '#{first}'; new Promise((done) => setTimeout(done, 100))")
    assert tab.run(f"document.getElementById('{first}').offsetHeight") > 0, "a link shows what was not found"


@pytest.mark.parametrize("width", [400, 1240])
def test_the_map_is_read_at_any_width(tab: Browser, page: Path, width: int) -> None:
    tab.open(page)
    tab.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
    try:
        assert tab.run("document.documentElement.scrollWidth") <= width
        lanes = tab.run(
            "[...document.querySelectorAll('.lane')].map((lane) => [lane.firstElementChild, lane.querySelector('svg')]"
            ".map((e) => [e.getBoundingClientRect(), e.scrollWidth - e.clientWidth])"
            ".map(([box, over]) => [box.left, box.right, box.top, box.bottom, over]))"
        )
        assert len(lanes) >= 3
        for title, track in lanes:
            assert title[4] <= 0, "a title is not cut"
            assert title[1] <= track[0] or title[3] <= track[2], "and not covered"
            assert track[1] - track[0] > 0.6 * (width - 80) - 100
        sizes = tab.run(
            "[...document.querySelectorAll('.lane span, .scale span')]"
            ".map((e) => parseFloat(getComputedStyle(e).fontSize))"
        )
        assert min(sizes) >= 12
        assert tab.run("document.querySelector('.scale div').lastElementChild.textContent") == "40"
    finally:
        tab.call("Emulation.clearDeviceMetricsOverride")


def test_no_box_is_empty(tab: Browser, run: Run, tmp_path: Path) -> None:
    """Where one side has no text at the first difference, it says so."""
    repo = tmp_path / "repo"
    for name, answer in (("x", "a b c d"), ("y", "a b d"), ("z", "")):
        path = write_rows(tmp_path / f"{name}.jsonl", [row("hello", answer)])
        run("--repo", repo, *tokenize("--mix", path, "1.0", "--as", name))
    for a, b in itertools.permutations("xyz", 2):
        run("--repo", repo, "diff", a, b, "--html", tmp_path / "page.html", "-q", status=1)
        tab.open(tmp_path / "page.html")
        boxes = tab.run("[...document.querySelectorAll('ins, del, mark')].map((e) => e.innerText.trim())")
        assert boxes
        assert "" not in boxes


def test_it_reads_without_a_script(tab: Browser, page: Path) -> None:
    tab.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        tab.open(page)
        assert tab.run("document.getElementById('filters').hidden") is True
        assert visible_ops(tab) == {"replace", "insert", "delete"}
    finally:
        tab.call("Emulation.setScriptExecutionDisabled", value=False)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_light_and_dark(tab: Browser, page: Path, scheme: str) -> None:
    """Contrast of at least 4.5 (WCAG 2.1, 1.4.3) wherever the page has text."""
    tab.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    tab.open(page)
    low = tab.run(
        """(() => {
          const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
          const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
            .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
            .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
          const behind = (e) => {
            for (; e; e = e.parentElement) {
              const found = channels(getComputedStyle(e).backgroundColor);
              if (found.length === 3 || found[3] === 1) return found;
            }
            return [255, 255, 255];
          };
          const low = [];
          for (const e of document.querySelectorAll("body *")) {
            const text = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
            if (!text || e.closest("svg") || !e.offsetHeight) continue;
            const [x, y] = [light(channels(getComputedStyle(e).color)), light(behind(e))];
            const ratio = (Math.max(x, y) + 0.05) / (Math.min(x, y) + 0.05);
            if (ratio < 4.5) low.push([e.tagName, e.className, ratio]);
          }
          return low;
        })()"""
    )
    assert low == []
    dark = tab.run("getComputedStyle(document.body).backgroundColor") == "rgb(18, 22, 28)"
    assert dark is (scheme == "dark")


def test_it_prints(tab: Browser, page: Path) -> None:
    tab.open(page)
    tab.call("Emulation.setEmulatedMedia", media="print")
    try:
        assert tab.run("document.getElementById('filters').offsetHeight") == 0
        assert tab.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert visible_ops(tab) == {"replace", "insert", "delete"}
    finally:
        tab.call("Emulation.setEmulatedMedia", media="")


def test_controls_have_names_and_headings_are_in_order(tab: Browser, page: Path) -> None:
    tab.open(page)
    assert tab.run("[...document.querySelectorAll('input')].every((box) => box.labels.length === 1)") is True
    assert tab.run("document.documentElement.lang") == "en"
    levels = tab.run("[...document.querySelectorAll('h1, h2, h3')].map((e) => Number(e.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
