"""Rules about the code itself: who imports whom, no floats where identity is made, documented names, quick imports."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import castore
from castore.version import __version__

PACKAGE = Path(castore.__file__).parent
ROOT = PACKAGE.parent
FILES = sorted(PACKAGE.rglob("*.py"))
EXACT = [path for path in FILES if path.parent.name in ("format", "tree")]
MODULES = sorted(module.name for module in pkgutil.walk_packages([str(PACKAGE)], "castore."))

QUICK = [
    "castore.diff.compare",
    "castore.store.local",
    "castore.store.objects",
    "castore.store.refs",
    "castore.repository",
]
NEEDS = {
    "castore.torch": "torch",
    **dict.fromkeys(
        (
            "castore.store.obstore",
            "castore.store.obstore_errors",
            "castore.store.obstore_places",
            "castore.store.obstore_requests",
        ),
        "obstore",
    ),
}
"""Modules that import an optional library, which may not be installed, when they are imported."""
HEAVY = ["numpy", "fsspec", "zarr", "tokenizers", "pyarrow", "jinja2"]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def test_imports_keep_their_direction() -> None:
    pytest.importorskip("importlinter", reason="import-linter is not installed")
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]
    done = subprocess.run([*command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_modules_import_one_another() -> None:
    """Not in a circle of any length, in the same room or not, in a function or for types alone."""
    grimp = pytest.importorskip("grimp", reason="import-linter, which brings grimp, is not installed")
    graph = grimp.build_graph("castore", "castore_cli", cache_dir=None)
    assert {"castore.repository", "castore_cli.main"} <= graph.modules
    below = TopologicalSorter({name: graph.find_modules_directly_imported_by(name) for name in graph.modules})
    try:
        below.prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_the_version_is_that_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == __version__ == castore.__version__


def test_there_is_something_to_check() -> None:
    assert len(EXACT) >= 15
    assert len(MODULES) >= 30


@pytest.mark.parametrize("path", EXACT, ids=name_of)
def test_no_floats_where_identity_is_made(path: Path) -> None:
    found = []
    for node in ast.walk(tree_of(path)):
        literal = isinstance(node, ast.Constant) and isinstance(node.value, float | complex)
        call = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("float", "round")
        division = isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Div)
        if literal or call or division:
            found.append(f"line {node.lineno}: {ast.unparse(node)}")
    assert not found


@pytest.mark.parametrize("path", EXACT, ids=name_of)
def test_identity_asks_no_clock_and_no_chance(path: Path) -> None:
    banned = {"time", "datetime", "random", "uuid", "os", "locale", "platform", "getpass", "socket", "hash", "id"}
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            assert not {name.split(".")[0] for name in names} & banned
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("hash", "id"), f"line {node.lineno}: differs from process to process"


BACKENDS = ("LocalBackend", "FsspecBackend", "MemoryBackend", "ObstoreBackend")
CONTRACT = {
    "url", "get", "get_many", "get_part", "get_parts", "put", "flush", "create", "has", "touch", "touch_many", "list",
    "entries", "delete", "expire",
}  # fmt: skip


def undocumented(body: list[ast.stmt], where: str, *, protocol: bool = False) -> Iterator[str]:
    """Public classes and functions without a docstring.

    A contract is written down once: properties of a protocol are told of in its text, backends implement ``Backend``.
    """
    for node in body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef) or node.name.startswith("_"):
            continue
        name = f"{where}.{node.name}"
        is_property = any(ast.unparse(decorator) == "property" for decorator in node.decorator_list)
        elsewhere = (protocol and is_property) or (where.endswith(BACKENDS) and node.name in CONTRACT)
        if not ast.get_docstring(node) and not elsewhere:
            yield name
        if isinstance(node, ast.ClassDef):
            is_protocol = any(ast.unparse(base) == "Protocol" for base in node.bases)
            yield from undocumented(node.body, name, protocol=is_protocol)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_public_names_are_documented(path: Path) -> None:
    tree = tree_of(path)
    assert ast.get_docstring(tree), "the module says what it is"
    assert not list(undocumented(tree.body, path.stem))


@pytest.mark.parametrize("name", MODULES)
def test_every_module_imports(name: str) -> None:
    if (library := NEEDS.get(name)) is not None:
        pytest.importorskip(library, reason=f"{library} is not installed")
    importlib.import_module(name)


@pytest.mark.parametrize("name", QUICK)
def test_what_every_command_imports_is_quick(name: str) -> None:
    code = f"import sys, {name}; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
