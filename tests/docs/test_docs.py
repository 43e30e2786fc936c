"""The documentation is true: sessions run as shown, links lead somewhere, and the reference has every option."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import castore
from castore import Batch, Comparison, Dataset, Origin, Repository, Sample, errors
from castore.care.copy import Copied
from castore.care.fsck import FsckResult
from castore.care.gc import Collected
from castore.care.usage import Usage
from castore.export.olmo_core import Exported
from castore.ingest.defaults import TokenizeOptions
from castore.ingest.estimate import Estimate
from castore.ingest.import_folder import ImportResult
from castore.ingest.import_zarr import GroupImport
from castore.ingest.job import TokenizeResult
from castore.ingest.run_file import parse_run_file
from castore.ingest.sample_writer import SampleWriter
from castore.ingest.write_job import WriteOptions, WriteResult
from castore.read.columns import Columns
from castore.read.views import ArrayView, SampleView
from castore.store.move import Why
from castore.store.refs import RefEntry
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
    install, test, _ = (block.strip() for block in blocks)
    assert "docs/examples/quickstart.py" in install
    assert "\n" not in install
    assert test == ".venv/bin/pip install -q '.[test]' && .venv/bin/pytest"
    assert "\n" not in test
    assert text.index(install) < 1500


def pasted() -> str:
    """The block of README.md that a reader pastes after its first command."""
    return re.findall(r"^```sh\n(.*?)^```", (PROJECT / "README.md").read_text(encoding="utf-8"), re.M | re.S)[2]


def test_readme_pastes_what_its_session_shows() -> None:
    shown = [each.text for each in console.commands(PROJECT / "README.md") if each.kind == "shell"]
    assert pasted().splitlines()[1:] == shown


@pytest.mark.slow
def test_what_readme_lets_paste_runs_in_a_clone_and_leaves_it_alone(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    shutil.copytree(PROJECT / "docs" / "examples", clone / "docs" / "examples")
    programs = clone / ".venv" / "bin"
    programs.mkdir(parents=True)
    (programs / "activate").write_text(f'PATH="{programs}:$PATH"\n')
    (programs / "castore").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m castore_cli.main "$@"\n')
    (programs / "castore").chmod(0o755)
    before = sorted(clone.rglob("*"))
    environment = {**os.environ, "TMPDIR": str(tmp_path), "LC_ALL": "C.UTF-8"}
    environment.pop("CASTORE_REPO", None)
    done = subprocess.run(
        ["bash", "-c", pasted()], cwd=clone, env=environment, capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 1, done.stderr
    session = [each.output for each in console.commands(PROJECT / "README.md") if each.kind == "shell"]
    shown = tuple(line for output in session for line in output if not line.startswith("castore: new repository"))
    assert console.matches(shown, tuple(line.rstrip() for line in done.stdout.splitlines())), done.stdout
    assert sorted(clone.rglob("*")) == before


def test_readme_has_every_extra_and_nothing_else() -> None:
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    section = text.partition("## Extras\n")[2].partition("\n## ")[0]
    told = [
        name for cell in re.findall(r"^\| (`[^|]*`) \|", section, re.MULTILINE) for name in re.findall(r"`(.+?)`", cell)
    ]
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert sorted(told) == sorted(project["optional-dependencies"])


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


# ---- the map for those who change the code


def test_the_map_of_rooms_leads_somewhere_and_to_every_room() -> None:
    text = (PROJECT / "docs" / "contributing.md").read_text(encoding="utf-8")
    folders, questions = text.partition("## Where things are")[2].split("## What to change where")
    questions = questions.partition("\n## ")[0]
    rows = re.findall(r"^\| (.+\?) \| (.+) \|$", questions, re.MULTILINE)
    assert len(rows) >= 16
    named = [path for _, cell in rows for path in re.findall(r"`([\w./]+/[\w./]+)`", cell)]
    for path in [*named, *re.findall(r"^\| `([\w./]+)` \|", folders, re.MULTILINE)]:
        assert (PROJECT / path).exists(), f"contributing.md leads to {path}, which is not there"
    assert all(re.search(r"`cli|`castore/|where it is raised", cell) for _, cell in rows)
    rooms = {path.parent.name for path in (PROJECT / "castore").glob("*/__init__.py")}
    for room in rooms:
        assert f"| `castore/{room}` |" in folders, f"the room {room} is not on the map"
        assert any(path.startswith(f"castore/{room}/") for path in named), f"no question leads to the room {room}"


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


REFERENCE = PROJECT / "docs" / "reference" / "python.md"
CLASSES = (
    Repository, Dataset, Comparison, Instances, Sample, Batch, SampleView, ArrayView, Origin, SampleWriter,
)  # fmt: skip
RESULTS = (
    TokenizeResult, Estimate, WriteResult, ImportResult, GroupImport, Exported, Copied, RefEntry, Collected, FsckResult,
    Usage,
)  # fmt: skip


def reference_sections() -> dict[str, str]:
    """The sections of the reference of Python by their headings, without their examples."""
    text = re.sub(r"^```.*?^```\n", "", REFERENCE.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return dict(re.findall(r"^## `?([\w.]+)`?\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))


def names_told(section: str) -> set[str]:
    """What the first cells of a section's tables name: ``name``, ``name(…)``; but not ``data[i]`` or ``len(data)``."""
    cells = re.findall(r"^\| (`[^|]*`) \|", section, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`(\w+)(?:\([^`]*)?`", cell)} - {"len", "iter"}


def public_names(kind: type, without: type | None = None) -> set[str]:
    """Public names of a class and its bases in castore."""
    told = without.__mro__ if without else ()
    kinds = [each for each in kind.__mro__ if each.__module__.startswith("castore") and each not in told]
    sources = "".join(inspect.getsource(each) for each in kinds)
    names = {name for each in kinds for name in (*vars(each), *inspect.get_annotations(each))}
    return {name for name in names | set(re.findall(r"self\.(\w+)\b[^(\n]* = ", sources)) if name[0] != "_"}


def test_the_python_reference_has_what_there_is_and_nothing_else() -> None:
    sections = reference_sections()
    assert list(sections) == ["castore", *(kind.__name__ for kind in CLASSES), "Results", "castore.torch"]
    assert names_told(sections["castore"]) == set(castore.__all__) - {"__version__"}
    for kind in CLASSES:
        told = names_told(sections[kind.__name__].partition("| option")[0])
        # What a dataset has of ``Columns`` is for the other rooms, where the page does not tell of it.
        assert public_names(kind, without=Columns) - told == set(), f"{kind.__name__}: not in the reference"
        assert told - public_names(kind) == set(), f"{kind.__name__} has no such"


def test_the_python_reference_has_every_option_and_nothing_else() -> None:
    parts = reference_sections()["Repository"].split("| option of ")[1:]
    found = {part[1:].partition("`")[0]: part for part in parts}
    assert found.keys() == {"tokenize", "writer"}
    for name, part in found.items():
        told = names_told(part) - set(Why.__annotations__)
        taken = set(inspect.signature(getattr(Repository, name)).parameters) | (
            set(TokenizeOptions.__annotations__) if name == "tokenize" else set()
        )
        assert told == taken - {"self", "why", "options", *Why.__annotations__} - ({"name"} - told), name
    assert set(WriteOptions.__annotations__) == {
        *inspect.signature(Repository.writer).parameters, *Why.__annotations__
    } - {"self", "name", "why"}  # fmt: skip


def test_the_reference_of_run_files_has_every_key_and_nothing_else() -> None:
    text = (PROJECT / "docs" / "reference" / "run-file.md").read_text(encoding="utf-8")
    top, entry = text.split("| key of a `[[mix]]` |")
    assert re.findall(r"^\| `(\w+)` \|", top, re.MULTILINE) == ["mix", *TokenizeOptions.__annotations__]
    assert re.findall(r"^\| `(\w+)` \|", entry, re.MULTILINE) == ["path", "amount", "split"]
    (example,) = re.findall(r"^```toml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    mix, options = parse_run_file(example.encode(), "run-file.md", "")
    assert [amount for _, amount in mix] == ["1.0", "5000"]
    assert options["shuffle_seed"] == 42


def test_the_python_reference_has_what_calls_come_to() -> None:
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| (.*) \|$", reference_sections()["Results"], re.MULTILINE)
    assert [name for name, _ in rows] == [kind.__name__ for kind in RESULTS]
    for kind, (_, cell) in zip(RESULTS, rows, strict=True):
        told = set(re.findall(r"`(\w+)`", cell))
        fields = {field.name for field in dataclasses.fields(kind) if not field.name.startswith("_")}
        assert fields <= told, f"{kind.__name__}: not in the reference"


def test_the_python_reference_has_all_of_the_torch_module() -> None:
    tree = ast.parse((PROJECT / "castore" / "torch.py").read_text(encoding="utf-8"))
    names = next(
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    )
    assert names_told(reference_sections()["castore.torch"]) == set(names)


@pytest.mark.slow
def test_the_python_reference_is_typed(tmp_path: Path) -> None:
    """A user's program of all that the page shows passes ``mypy --strict``."""
    shown = [command for command in console.commands(REFERENCE) if command.kind != "shell"]
    script = tmp_path / "script.py"
    script.write_text("\n".join([*(command.text for command in shown), TYPES]), encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--cache-dir", str(tmp_path / "c")]
    missing = [f"--config-file={os.devnull}", "--no-error-summary", script.name]
    done = subprocess.run(
        [*command, *missing],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(PROJECT)},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (PROJECT / "castore" / "py.typed").exists()  # without it, type checkers pass over an installed package


TYPES = """
from collections.abc import Iterator
from typing import assert_type

from castore.read.views import ArrayView, SampleView

assert_type(castore.open(), castore.Repository)
assert_type(repository["x"], castore.Dataset)
assert_type([name for name in repository], list[str])
assert_type(dataset[0], castore.Sample)
assert_type(dataset[1:3], SampleView)
assert_type(dataset["token_ids"], ArrayView)
assert_type(dataset.read(), castore.Batch)
assert_type(dataset.diff(dataset), castore.Comparison)
assert_type(dataset.column_names, list[str])
assert_type(iter(dataset), Iterator[castore.Sample])
repository.write([[1]], "x", recipe={"a": 1}, resume_key="k", message="m", author="a", force=True)
repository.tag("x", "y", castore.Origin.here(), author="a", force=True)
sources, options = castore.read_config("mix.toml")
assert_type(repository.estimate(sources, **options).tokens, int)
repository.tokenize([("x.jsonl", 1.0)], tokenizer=Path("t"), name="x", split=["a", "b"], date=None, author="a")
dataset.export(Path("out"), layout="mds", replace=True)
repository.export(dataset, Path("out"), layout="mds", part_bytes=None)
"""


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
