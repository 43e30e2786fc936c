"""A verdict is true of all that it names, and names what it left out: in text, JSON, the page and the exit code."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from castore.diff.compare import compare
from castore.repository import Repository
from tests.cli.conftest import Run, tokenize
from tests.diff.test_compare import dataset
from tests.support.jobs import example_rows, write_rows

STATISTICS = "dataset_statistics.json, dataset_statistics.txt"


@pytest.fixture
def pair(run: Run, tmp_path: Path) -> tuple[Path, Path]:
    """Two equal directories, of an export of ``base``."""
    run("export", "base", tmp_path / "A", "-q")
    shutil.copytree(tmp_path / "A", tmp_path / "B")
    return tmp_path / "A", tmp_path / "B"


def page_of(run: Run, path: Path, *arguments: str | Path, status: int) -> str:
    run("diff", *arguments, "--html", path, "-q", status=status)
    return path.read_text(encoding="utf-8")


def told(run: Run, page: Path, *arguments: str | Path, status: int) -> tuple[str, dict[str, object]]:
    """First line and document of a comparison, all forms of which agree with the exit code."""
    line = run("diff", *arguments, status=status).out.splitlines()[0]
    document = run("diff", *arguments, "--json", status=status).json
    assert run("diff", *arguments, "--markdown", status=status).out.startswith(f"**{line}**")
    for form in ("--stat", "--first", "--side-by-side"):
        assert run("diff", *arguments, form, status=status).out.splitlines()[0] == line
    verdict = re.search(r'class="verdict (\w+)"', page_of(run, page, *arguments, status=status))
    assert verdict is not None
    assert verdict[1] == ("different" if status else "equal")
    if "--strict" not in arguments:
        assert document["equal"] is (status == 0)
    return line, document


def test_equal_directories_name_what_was_not_compared(run: Run, pair: tuple[Path, Path], tmp_path: Path) -> None:
    a, b = pair
    (b / "notes").mkdir()
    (b / "README.md").write_text("hello")
    line, document = told(run, tmp_path / "page.html", a, b, "--strict", status=0)
    assert line == f"equal: 59 samples, 6,968 tokens; not compared: {STATISTICS}, README.md, notes"
    assert document["not_compared"] == ["dataset_statistics.json", "dataset_statistics.txt", "README.md", "notes"]
    assert set(document["arrays"]) == {"token_ids", "labels_mask", "key", "length"}  # type: ignore[call-overload]
    assert "no array source" in run("diff", a, b, "--only", "source", status=2).trouble
    for at in range(20):
        (b / f"more{at:02}").touch()
    assert "more04 and 16 more" in run("diff", a, b).out.splitlines()[0]


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "vocab.json"])
@pytest.mark.parametrize("how", ["changed", "missing"])
def test_the_tokenizers_of_directories(run: Run, pair: tuple[Path, Path], tmp_path: Path, name: str, how: str) -> None:
    a, b = pair
    for side in pair:
        (side / "tokenizer" / "vocab.json").write_text("{}")
    file = b / "tokenizer" / name
    if how == "missing":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes() + b" ")
    line, document = told(run, tmp_path / "page.html", a, b, "--strict", status=1)
    assert line == f"equal data, made otherwise: 59 samples, 6,968 tokens; not compared: {STATISTICS}"
    assert [entry["field"] for entry in document["recipe"]] == [f"tokenizer/{name}"]  # type: ignore[attr-defined]
    said = run("diff", a, b).out.splitlines()
    assert said[0].startswith("equal: ")
    assert said[1].startswith(f"  tokenizer/{name}: ")
    if name in ("tokenizer.json", "chat_template.jinja") and how == "changed":
        fields = run("diff", "base", b, "--json").json["recipe"]
        assert {"field": f"tokenizer/{name}"}.items() <= fields[0].items()
        assert [entry["field"] for entry in run("diff", "base", a, "--json").json["recipe"]] == ["recipe"]


@pytest.mark.parametrize("name", ["extra_part_0000.npy", "weights_part_a.bin", "position_ids.npy"])
def test_stray_arrays_of_directories(run: Run, pair: tuple[Path, Path], tmp_path: Path, name: str) -> None:
    a, b = pair
    np.save(b / name if name.endswith(".npy") else b / "x.npy", np.arange(3))
    if not name.endswith(".npy"):
        (b / "x.npy").rename(b / name)
    line, document = told(run, tmp_path / "page.html", a, b, status=1)
    equal = "equal: token_ids, labels_mask, key, length"
    assert line == f"different in {name}: 59 samples; {equal}; not compared: {STATISTICS}"
    assert document["arrays"][name] == {"equal": False}  # type: ignore[index]
    assert run("diff", a, b, "--only", "token_ids", "--json").json["arrays"]["token_ids"] == {"equal": True}
    assert name in run("diff", a, b, "--only", "token_ids").out.splitlines()[0]
    assert f"not compared: {name}" in run("diff", "base", b).out.splitlines()[0], "beside a dataset it cannot be"
    shutil.copy(b / name, a / name)
    line, document = told(run, tmp_path / "page.html", a, b, status=0)
    assert document["arrays"][name] == {"equal": True}  # type: ignore[index]


def test_a_directory_that_cannot_hold_the_rest_of_an_order(run: Run, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", example_rows()[:40])
    repo = tmp_path / "repo"
    run("--repo", repo, *tokenize("--mix", path, "1.0", "--num-examples", "10", "--as", "x"))
    run("--repo", repo, "export", "x", tmp_path / "out", "-q")
    said = run("--repo", repo, "diff", "x", tmp_path / "out").out
    assert "; not compared: 30 samples that the order leaves out, " in said


def test_one_array_of_other_samples(run: Run, tmp_path: Path) -> None:
    """Two parts of a mix change places: no array is equal, and it is called another order."""
    rows = example_rows()[:60]
    x, y = write_rows(tmp_path / "x.jsonl", rows[:31]), write_rows(tmp_path / "y.jsonl", rows[31:])
    repo = tmp_path / "repo"
    run("--repo", repo, *tokenize("--mix", x, "1.0", "--mix", y, "1.0", "--as", "ab"))
    run("--repo", repo, *tokenize("--mix", y, "1.0", "--mix", x, "1.0", "--as", "ba"))
    for only in ("token_ids", "labels_mask", "length", "key"):
        arguments = ("--repo", str(repo), "diff", "ab", "ba", "--only", only)
        line = run(*arguments, status=1).out.splitlines()[0]
        assert re.match(r"another order of the same \d+ samples: \d+ moved; not compared: ", line), line
        document = run(*arguments, "--json", status=1).json
        assert (document["equal"], document["only"], document["arrays"]) == (False, only, {only: {"equal": False}})


def test_one_array_that_is_equal_though_samples_moved(run: Run, tmp_path: Path) -> None:
    repository = Repository.open(tmp_path / "repo", create=True)
    rows = [np.arange(at, at + 8) for at in range(0, 80, 8)]
    repository.write(rows, "a")
    repository.write([*rows[5:], *rows[:5]], "b")
    repository.write([rows[0], *rows[:-1]], "c")
    for other in ("b", "c"):
        for only in ("length", "labels_mask", "source"):
            said = run("--repo", tmp_path / "repo", "diff", "a", other, "--only", only)
            assert said.out.startswith(f"equal in {only}: 10 samples; not compared: ")
        document = run("--repo", tmp_path / "repo", "diff", "a", other, "--json", status=1).json
        found = {name: array["equal"] for name, array in document["arrays"].items()}
        assert found == {"token_ids": False, "labels_mask": True, "key": False, "length": True, "source": True}


def test_an_order_is_named_where_one_array_is_compared(run: Run) -> None:
    line = run("diff", "base", "order", "--only", "token_ids").out.splitlines()[0]
    assert line.endswith("not compared: labels_mask, key, length, source, order")
    assert "another order" in run("diff", "base", "order", status=1).out


def test_an_array_of_one_side(run: Run, tmp_path: Path) -> None:
    repository = Repository.open(tmp_path / "repo", create=True)
    rows = [np.arange(8)] * 3
    repository.write(rows, "a")
    repository.write([{"token_ids": row, "weight": 1.0} for row in rows], "b", arrays={"weight": ("float32", "sample")})
    line = run("--repo", tmp_path / "repo", "diff", "a", "b", status=1).out.splitlines()[0]
    assert line == "different in weight: 3 samples; equal: token_ids, labels_mask, key, length, source"


@pytest.mark.parametrize("only", [None, "token_ids", "labels_mask", "length", "key", "source"])
def test_empty_datasets(only: str | None) -> None:
    none, some = dataset([]), dataset([((1, 2), ())])
    assert not compare(none, none, only=only)
    assert not compare(none, dataset([]), only=only)
    for result in (compare(none, some, only=only), compare(some, none, only=only)):
        assert result
        assert not any(result.arrays.values())


@pytest.mark.parametrize("change", [lambda row: row + 1, lambda row: np.append(row, 7)])
def test_what_a_lock_file_alone_cannot_tell(
    run: Run, tmp_path: Path, change: Callable[[np.ndarray], np.ndarray]
) -> None:
    """Other tokens may cut equal labels in other places: their trees alone do not say that they differ."""
    rng = np.random.default_rng(1)
    rows = [rng.integers(0, 3000, 4000) for _ in range(60)]
    here, there = tmp_path / "here", tmp_path / "there"
    Repository.open(here, create=True).write(rows, "a")
    Repository.open(there, create=True).write([change(row) for row in rows], "a")
    (tmp_path / "lock").write_text(run("--repo", here, "lock", "a").out)
    arguments = ("--repo", there, "diff", "a", "--expect", tmp_path / "lock")
    arrays = run(*arguments, "--json", status=1).json["arrays"]
    for name, array in arrays.items():
        really = name in ("labels_mask", "source") or (name == "length" and len(change(rows[0])) == 4000)
        assert array["equal"] in ((True, None) if really else (False, None)), name
    assert arrays["token_ids"] == {"equal": False}
    line = run(*arguments, status=1).out.splitlines()[0]
    unknown = [name for name, array in arrays.items() if array["equal"] is None]
    for name in unknown:
        assert name in line.partition("cannot be told without the locked samples: ")[2]
    assert run(*arguments, "--only", "token_ids", status=1).out.startswith("not as expected by ")
    assert run(*arguments, "--only", "source").out.startswith("as expected by ")


def test_the_rows_of_equal_data(run: Run, tmp_path: Path) -> None:
    """The same samples from other rows of a file: equal, and with --strict the rows count."""
    rows = example_rows()[:12]
    repo = tmp_path / "repo"
    path = write_rows(tmp_path / "x.jsonl", rows)
    run("--repo", repo, *tokenize("--mix", path, "1.0", "--as", "a"))
    dropped = json.dumps({"messages": [{"role": "user", "content": "nothing to train on"}]}).encode()
    write_rows(path, [dropped, *rows])
    run("--repo", repo, *tokenize("--mix", path, "1.0", "--as", "b"))
    assert run("--repo", repo, "diff", "a", "b").out.startswith("equal: ")
    said = run("--repo", repo, "diff", "a", "b", "--strict", status=1).out
    assert said.startswith("equal data, made otherwise: ")
    assert "another row of the same samples" in said


def test_an_import_names_the_arrays_that_it_leaves_out(run: Run, pair: tuple[Path, Path], tmp_path: Path) -> None:
    np.save(pair[0] / "extra_part_0000.npy", np.arange(3))
    said = run("--repo", tmp_path / "repo", "import", pair[0], "--as", "x", "-q")
    warning = "castore: warning: extra_part_0000.npy is left out: it is none of the parts of the layout\n"
    assert said.err.endswith(warning)


@pytest.mark.parametrize("held", [True, False])
def test_a_directory_beside_a_lock_file(run: Run, pair: tuple[Path, Path], tmp_path: Path, held: bool) -> None:
    """Nothing that lies beside its parts was looked at, whether the locked dataset is at hand or not."""
    (tmp_path / "lock").write_text(run("lock", "base").out)
    np.save(pair[0] / "extra.npy", np.arange(3))
    store = () if held else ("--repo", tmp_path / "none")
    aside = ["extra.npy", "tokenizer/", "dataset_statistics.json", "dataset_statistics.txt"]
    document = run(*store, "diff", pair[0], "--expect", tmp_path / "lock", "--json").json
    assert sorted(document["not_compared"]) == sorted(aside)
    assert "extra.npy" not in document["arrays"]
    ids = pair[0] / "token_ids_part_0000.npy"
    ids.write_bytes(ids.read_bytes()[:-2] + b"\5\0")
    document = run(*store, "diff", pair[0], "--expect", tmp_path / "lock", "--json", status=1).json
    assert "extra.npy" in document["not_compared"]
