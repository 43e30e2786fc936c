"""What commands may cost: objects read and modules imported, counted and not timed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from castore.repository import Repository
from tests.cli.conftest import Run, tokenize
from tests.support.commands import CASTORE, castore, environment
from tests.support.jobs import example_rows, write_rows
from tests.support.olmo_core import documents, write_folder

HEAVY = ("numpy", "fsspec", "zarr", "tokenizers", "jinja2", "minijinja", "pyarrow", "rich", "asyncio")
REPORTER = """
import atexit, sys
before = set(sys.modules)
atexit.register(lambda: print("modules", *(each for each in sys.modules if each not in before), file=sys.stderr))
from castore_cli.start import main; main()
"""
COMPILED = """
import atexit, dataclasses, sys
def show():
    names = [each for name, module in sys.modules.items() if "castore" in name for each in vars(module).values()]
    made = {each for each in names if isinstance(each, type) and dataclasses.is_dataclass(each)}
    slow = (each.__name__ for each in made if each.__init__.__code__.co_filename == "<string>")
    print("dataclasses", len(made), "compiled", *slow, file=sys.stderr)
atexit.register(show)
from castore_cli.start import main; main()
"""


def all_modules(*arguments: str | Path, check: int = 0) -> list[str]:
    """Modules that a command imported, with their whole names."""
    done = castore(*arguments, command=(sys.executable, "-c", REPORTER), check=check)
    last = done.stderr.splitlines()[-1].split()
    assert last[0] == "modules"
    return last[1:]


def modules(*arguments: str | Path, check: int = 0) -> set[str]:
    """Top-level modules that a command imported."""
    return {name.partition(".")[0] for name in all_modules(*arguments, check=check)}


@pytest.mark.parametrize(
    "command",
    [
        ["--help"],
        ["diff", "--help"],
        ["tokenize", "--help"],
        ["diff", "base", "again"],
        ["diff", "base", "again", "--json"],
        ["diff", "base", "again", "--markdown"],
        ["diff", "base", "again", "--quiet"],
        ["ls"],
        ["show", "base"],
        ["log", "base"],
    ],
    ids=" ".join,
)
def test_light_commands_import_nothing_heavy(repo: Path, command: list[str]) -> None:
    found = modules("--repo", repo, *command)
    assert not found.intersection(HEAVY)
    assert {"castore", "click"} <= found


def test_equal_datasets_are_compared_by_few_modules(repo: Path) -> None:
    """Each takes from a tenth of a millisecond to one; those that tell of a difference are for where there is one."""
    for option in ([], ["--json"], ["--markdown"], ["--quiet"]):
        found = [name for name in all_modules("--repo", repo, "diff", "base", "again", *option) if "castore" in name]
        of_diff = {name.rpartition(".")[2] for name in found if name.startswith("castore.diff.")}
        assert of_diff <= {"compare", "document", "left_out", "recipes", "sources"}
        assert not {"castore_cli.verify", "castore.tree.align", "castore.tree.diff", "castore.olmo"} & {*found}
        assert len(found) <= 74, sorted(found)  # it is 73


def test_equal_datasets_are_compared_without_compiling_classes(repo: Path) -> None:
    """What ``castore.frozen`` is for: each takes half a millisecond."""
    done = castore("--repo", repo, "diff", "base", "again", command=(sys.executable, "-c", COMPILED))
    _, made, _, *compiled = done.stderr.split()
    assert int(made) > 10
    assert compiled == []


def test_the_version_is_told_without_the_command_line(repo: Path) -> None:
    """By what Python has loaded when it starts; the command line says the same where more is asked."""
    assert {*all_modules("--version")} <= {
        "__future__",
        "castore",
        "castore.version",
        "castore_cli",
        "castore_cli.start",
    }
    assert castore("--version").stdout == castore("--repo", repo, "--version").stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("command", ["--version", "--repo x --version", "--help", "templates", "ls"])
def test_what_cannot_be_printed(repo: Path, command: str, unbuffered: str) -> None:
    """One line, and the exit code of trouble, also where Python would find out at its end alone."""
    env = {**environment(), "PYTHONUNBUFFERED": unbuffered, "CASTORE_REPO": str(repo)}
    with open("/dev/full", "wb") as full:
        done = subprocess.run([*CASTORE, *command.split()], stdout=full, stderr=subprocess.PIPE, env=env, check=False)
    assert done.returncode == 2
    assert done.stderr == b"castore: No space left on device\n"


@pytest.mark.parametrize("b", ["order", "word", "few"])
def test_quiet_stops_at_the_roots(repo: Path, b: str) -> None:
    assert not modules("--repo", repo, "diff", "base", b, "--quiet", check=1).intersection(HEAVY)
    if b == "order":  # its arrays are equal
        assert not modules("--repo", repo, "diff", "base", b, "-q", "--only", "token_ids").intersection(HEAVY)


def test_equal_directories_are_compared_without_numpy(tmp_path: Path) -> None:
    folders = [write_folder(tmp_path / name, documents(50, 1)) for name in "ab"]
    for option in ([], ["--json"], ["--quiet"], ["--markdown"]):
        assert not modules("diff", *folders, *option).intersection(HEAVY)


def test_help_imports_no_command(repo: Path) -> None:
    names = {*all_modules("--help")}
    assert not {"castore_cli.diff", "castore_cli.tokenize", "castore.repository", "blake3"} & names


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Four thousand rows, no two alike."""
    rows = []
    for i in range(4000):
        text = example_rows()[i % len(example_rows())]
        rows.append(text.replace(b'"content": "', b'"content": "No. %d. ' % i, 1))
    return rows


@pytest.mark.slow
def test_one_edited_row_in_thousands(run: Run, large: list[bytes], tmp_path: Path) -> None:
    """At most 32 objects are read, and at most four new chunks and a few nodes are stored."""
    repo = tmp_path / "repo"
    path = write_rows(tmp_path / "rows.jsonl", large)
    first = run("--repo", repo, *tokenize("--mix", path, "1.0", "--as", "a", "--json")).json
    again = run("--repo", repo, *tokenize("--mix", path, "1.0", "--as", "b", "--json")).json
    assert again["root"] == first["root"]
    assert again["stored"]["objects"] <= 1
    edited = list(large)
    edited[2500] = edited[2500].replace(b"No. 2500.", b"No. 2501.", 1)
    write_rows(path, edited)
    second = run("--repo", repo, *tokenize("--mix", path, "1.0", "--as", "c", "--json")).json
    assert second["rows"]["reused"] > 3000 or second["units"]["total"] - second["units"]["reused"] <= 2
    # At most two chunks of tokens and of labels, two of each of the coarse arrays, manifest, run record.
    assert second["stored"]["objects"] <= 2 * 2 + 2 * 5 + 2
    for a, b in (("a", "c"), ("c", "a")):
        # A process of its own, so that nothing is in any cache.
        found = json.loads(castore("--repo", repo, "diff", a, b, "--json", check=1).stdout)
        assert found["samples"]["replaced"] == 1
        assert found["first"]["origin_a"]["row"] == 2500
        assert found["reads"]["objects"] <= 32
    equal = json.loads(castore("--repo", repo, "diff", "a", "b", "--json").stdout)
    assert equal["reads"]["objects"] <= 4
    chunks = Repository.open(str(repo)).dataset("a").manifest.arrays["token_ids"][1]
    assert sum(1 for _ in chunks.entries) > 4


@pytest.mark.slow
def test_reading_one_sample_reads_its_chunks_alone(large: list[bytes], tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", large)
    castore("--repo", tmp_path / "repo", *tokenize("--mix", path, "1.0", "--as", "a"))
    repository = Repository.open(str(tmp_path / "repo"))
    data = repository.dataset("a")
    data.reader.tokens(2000, 2001)
    data.reader.spans("labels_mask", 2000, 2001)
    data.origin(2000)
    assert repository.objects.reads <= 10
