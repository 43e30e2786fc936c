"""The documentation is true: sessions run as shown, links lead somewhere, and the reference has every option."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import castore
from castore import errors
from castore.dataset import Dataset
from castore.ingest.sample_writer import SampleWriter
from castore.ingest.write_job import WriteResult
from castore.read.reader import Batch, Sample
from castore.read.views import ArrayView, SampleView
from castore.repository import Repository
from castore.train.instances import Instances
from castore_cli.main import COMMANDS
from castore_cli.main import castore as program
from castore_cli.parameters import RepositoryOption
from tests.docs import console

PROJECT = console.PROJECT
PAGES = console.pages()
SESSIONS = [page for page in PAGES if console.commands(page)]


NEEDS = {
    "docs/how-to/export-for-other-trainers.md": "pyarrow",
    "docs/how-to/look-at-data.md": "matplotlib",
    "docs/how-to/sign.md": "cryptography",
}
"""Libraries that a page asks its readers to install."""


def name_of(page: Path) -> str:
    return str(page.relative_to(PROJECT))


# ---- sessions


@pytest.mark.slow
@pytest.mark.parametrize("page", SESSIONS, ids=name_of)
def test_sessions_run_as_shown(page: Path, tmp_path: Path) -> None:
    if (library := NEEDS.get(name_of(page))) is not None:
        pytest.importorskip(library, reason=f"{library} is not installed")
    for outcome in console.run(page, tmp_path):
        assert outcome.agrees, f"{name_of(page)}, {outcome}"


def test_the_pages_that_promise_a_session_have_one() -> None:
    named = {name_of(page) for page in SESSIONS}
    assert {"docs/tutorial.md", "docs/reference/cli.md", "docs/reference/diff.md"} <= named
    assert len([name for name in named if name.startswith("docs/how-to/")]) >= 6
    for page in ("read-from-python", "write-from-python"):
        found = console.commands(PROJECT / "docs" / "how-to" / f"{page}.md")
        assert len([command for command in found if command.kind == "single"]) > 15


SESSION = """
```python
>>> x = 2
>>> for i in range(x):
...     print(i)
0
1
>>> 1 / 0 # exit 1
ZeroDivisionError: …
>>> x
3
```
```console
$ echo $PWD > here
```
```python
y = x

assert y == 2
```
```python no_such_library
1 / 0
```
```python
>>> open('here').read().strip() == __import__('os').getcwd()
True
```
"""


def test_a_session_of_python_keeps_its_names(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(SESSION)
    (tmp_path / "folder").mkdir()
    outcomes = list(console.run(page, tmp_path / "folder"))
    assert [outcome.command.text for outcome in outcomes if not outcome.agrees] == ["x"]
    assert len(outcomes) == 7


@pytest.mark.parametrize(
    ("expected", "actual", "same"),
    [
        (("a", "b"), ("a", "b"), True),
        (("a",), ("a", "b"), False),
        (("a", "…", "d"), ("a", "b", "c", "d"), True),
        (("a", "…"), ("a",), True),
        (("a … c",), ("a b b c",), True),
        (("a … c",), ("a b", "c"), False),
        (("read 1 object, 27.9 KiB",), ("read 1 object, 28.0 KiB",), True),
        (("read 1 object, 27.9 KiB",), ("read 2 objects, 27.9 KiB",), False),
        (("[a+]",), ("[a+]",), True),
    ],
)
def test_output_is_compared(expected: tuple[str, ...], actual: tuple[str, ...], same: bool) -> None:
    assert console.matches(expected, actual) is same


@pytest.mark.slow
def test_quickstart_finds_the_planted_word() -> None:
    script = PROJECT / "docs" / "examples" / "quickstart.py"
    done = subprocess.run([sys.executable, script], capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "different: 1 replaced of 294 samples" in done.stdout


def test_readme_begins_with_two_commands_and_shows_what_the_first_one_prints(tmp_path: Path) -> None:
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 2
    install, test = (block.strip() for block in blocks)
    assert "docs/examples/quickstart.py" in install
    assert "\n" not in install
    assert test == ".venv/bin/pip install -q '.[test]' && .venv/bin/pytest"
    assert "\n" not in test
    assert text.index(install) < 1500


# ---- links


def links(page: Path) -> Iterator[str]:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    yield from re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "`code`", text))


def anchors(page: Path) -> set[str]:
    """Anchors of the headings as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ +(.*?)\s*$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name_of(page)} links to {link}, which is not there"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), f"{name_of(page)} links to {link}, a heading that is not there"


def test_every_page_is_reached_from_the_readme() -> None:
    start = PROJECT / "README.md"
    reached, waiting = {start}, [start]
    while waiting:
        page = waiting.pop()
        for link in links(page):
            target = (page.parent / link.partition("#")[0]).resolve()
            if target.is_dir():
                target /= "README.md"
            if target.suffix == ".md" and target.exists() and target not in reached:
                reached.add(target)
                waiting.append(target)
    lost = [name_of(page) for page in PAGES if page not in reached and page.parent.name != "changes"]
    assert not lost, f"no link leads from README.md to {lost}"


# ---- reference


def test_every_command_and_option_is_in_the_reference_and_nothing_else() -> None:
    text = (PROJECT / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## `castore ([\w-]+)`\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    assert list(sections) == list(COMMANDS)
    for name, section in sections.items():
        command = program.get_command(click.Context(program), name)
        assert command is not None
        described = {found.replace("\\|", "|") for found in re.findall(r"^\| `(-[^`]*)`", section, re.MULTILINE)}
        options = [option for option in command.params if isinstance(option, click.Option)]
        spelled = {_spelling(option) for option in options if not isinstance(option, RepositoryOption)}
        assert described == spelled, name
        arguments = [p.human_readable_name.upper() for p in command.params if isinstance(p, click.Argument)]
        assert " ".join(["castore", name, *arguments]) in section
    for option in program.params:
        assert f"`{option.opts[-1]}" in text


def _spelling(option: click.Option) -> str:
    names = ", ".join(sorted(option.opts, key=len))
    return names if option.is_flag else f"{names} {_metavar(option)}"


def _metavar(option: click.Option) -> str:
    if option.metavar:
        return option.metavar
    assert isinstance(option.type, click.Choice), f"{option.name} needs a metavar"
    return "|".join(str(choice) for choice in option.type.choices)


def _assigned(kind: type) -> set[str]:
    """Names that a class and its bases give to ``self``."""
    sources = [inspect.getsource(each) for each in kind.__mro__ if each.__module__.startswith("castore")]
    return set(re.findall(r"self\.(\w+)", "".join(sources)))


def test_the_python_reference_has_what_there_is() -> None:
    text = (PROJECT / "docs" / "reference" / "python.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## `(\w+)`\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    kinds = [Repository, Dataset, Instances, Sample, Batch, SampleView, ArrayView, SampleWriter, WriteResult]
    assert list(sections) == ["castore", *(kind.__name__ for kind in kinds)]
    for name in set(castore.__all__) - {"__version__"}:
        assert re.search(rf"^\|.*`{name}[(`].*\|", sections["castore"], re.MULTILINE), name
    for kind in kinds:
        known = {*dir(kind), *inspect.get_annotations(kind), *_assigned(kind)}
        rows = re.findall(r"^\| ((?:`[^`]+`,? ?)+) \|", sections[kind.__name__].partition("| option")[0], re.MULTILINE)
        assert rows
        for name in (part for row in rows for part in re.findall(r"`(\w+)", row)):
            assert name in known or name in ("dataset", "repository", "instances", "len", "iter", "name"), (
                f"{kind.__name__} has no {name}"
            )
    rows = re.findall(r"^\| (`[^|]+) \|", sections["Repository"].partition("| option")[2], re.MULTILINE)
    options = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert options == set(inspect.signature(Repository.writer).parameters) - {"self", "name"}


def test_every_environment_variable_is_in_the_reference() -> None:
    text = (PROJECT / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
    sources = "".join(path.read_text(encoding="utf-8") for path in (PROJECT / "cli").glob("*.py"))
    for name in re.findall(r"environ\.get\(\"(\w+)\"|envvar=\"(\w+)\"", sources):
        assert f"`{''.join(name)}`" in text


def test_every_error_code_is_in_the_reference() -> None:
    text = (PROJECT / "docs" / "reference" / "errors.md").read_text(encoding="utf-8")
    described = re.findall(r"^\| `([a-z-]+)` \| `(\w+)`", text, re.MULTILINE)
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.CastoreError)]
    assert set(described) == {(kind.code, kind.__name__) for kind in kinds}


def test_every_field_of_the_diff_document_is_in_the_reference(tmp_path: Path) -> None:
    text = (PROJECT / "docs" / "reference" / "diff.md").read_text(encoding="utf-8")
    source = (PROJECT / "cli" / "diff.py").read_text(encoding="utf-8")
    for field in re.findall(r"^\s+f?\"([\w{}]+)\":", source, re.MULTILINE):
        spelled = field.replace("_{letter}", "_a")
        assert re.search(rf"`[^`]*\b{spelled}\b[^`]*`", text), f"diff.md does not tell of {spelled}"


# ---- terms


def test_terms_are_unique_and_sorted() -> None:
    text = (PROJECT / "docs" / "terms.md").read_text(encoding="utf-8")
    terms = re.findall(r"^\*\*(.+?)\*\*", text, re.MULTILINE)
    assert len(terms) > 40
    assert [term for term, count in Counter(terms).items() if count > 1] == []
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        of_section = re.findall(r"^\*\*(.+?)\*\*", section, re.MULTILINE)
        assert of_section == sorted(of_section)


def test_terms_that_name_code_exist_in_it() -> None:
    text = (PROJECT / "docs" / "terms.md").read_text(encoding="utf-8")
    for module, name in re.findall(r"\[`(castore[\w.]*)\.(\w+)`\]", text):
        path = PROJECT / (module.replace(".", "/") + ".py")
        assert path.exists(), module
        assert re.search(rf"^(class|def) {name}\b|^{name}\b", path.read_text(encoding="utf-8"), re.MULTILINE), name
