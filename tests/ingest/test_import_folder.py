"""Importing: the run that was exported, the same files again, and few new objects beside a dataset that is known."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from castore.dataset import Dataset
from castore.diff.compare import compare
from castore.diff.edits import token_lists
from castore.diff.open_folders import open_folders
from castore.errors import InvalidInputError, SourceError
from castore.export.mark import MARK_FILE
from castore.export.olmo_core import export_olmo_core
from castore.ingest.import_folder import ImportResult
from castore.ingest.job import Sizes
from castore.olmo.directory import directory_dataset
from castore.repository import Repository
from castore.store.backend import Backend, MemoryBackend
from castore.store.marker import open_layout
from tests.export.test_olmo_core import contents
from tests.support.complete import check_complete
from tests.support.jobs import ORIGIN, TOKENIZER, example_rows, run_job, write_rows
from tests.support.olmo_core import Document, damaged_folder, documents, set_byte, write_folder

PART_BYTES = 3000
"""Of the ids of the examples, in several parts."""


@pytest.fixture
def repository() -> Repository:
    backend = MemoryBackend()
    open_layout(backend, create=True)
    return Repository(backend)


def import_(repository: Repository, path: Path, name: str = "imported", **options: Any) -> ImportResult:
    return repository.import_folder(str(path), name, ORIGIN, **options)


def exported(
    backend: Backend, folder: Path, mix: Sequence[tuple[Path, str]], *, part_bytes: int = PART_BYTES, **options: Any
) -> Dataset:
    """A run called ``native`` and its export."""
    run_job(backend, mix, name="native", sizes=Sizes(), **options)
    data = Repository(backend).dataset("native")
    export_olmo_core(data, str(folder), time_text="2026-01-01 00:00:00", part_bytes=part_bytes)
    return data


def statistics(folder: Path) -> Any:
    return json.loads((folder / "dataset_statistics.json").read_bytes())


def without_places(folder: Path) -> dict[str, bytes]:
    """Contents of a folder; of the statistics without what says where and when."""
    found = contents(folder)
    found.pop(MARK_FILE, None)  # which has their digests
    document = json.loads(found["dataset_statistics.json"])
    del document["output_directory"], document["timestamp"]
    found["dataset_statistics.json"] = json.dumps(document).encode()
    lines = found["dataset_statistics.txt"].splitlines()
    said = [line for line in lines if not line.startswith((b"Generated:", b"Output Directory:"))]
    found["dataset_statistics.txt"] = b"\n".join(said)
    return found


def parts(folder: Path) -> dict[str, bytes]:
    """Contents of a folder without the statistics, and without the mark that has their digests."""
    without = ("dataset_statistics", MARK_FILE)
    return {name: data for name, data in contents(folder).items() if not name.startswith(without)}


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Three sources, of which the second drops a row."""
    rows = example_rows()
    nobody = b'{"messages": [{"role": "user", "content": "nobody answers"}]}'
    groups = (rows[:40], [*rows[40:60], nobody], rows[60:70])
    return [write_rows(tmp_path / f"{at}.jsonl", chosen) for at, chosen in enumerate(groups)]


# ---- the shuffle undone


@pytest.mark.parametrize("seed", [42, 7])
@pytest.mark.parametrize("amounts", [("1.0",), ("1.0", "1.0", "1.0"), ("0.5", "2.0", "4"), ("3.0", "13")])
@pytest.mark.parametrize("part_bytes", [PART_BYTES, 1 << 30])
def test_the_import_of_an_export_is_the_run(
    tmp_path: Path, files: list[Path], amounts: tuple[str, ...], seed: int, part_bytes: int
) -> None:
    backend = MemoryBackend()
    mix = list(zip(files, amounts, strict=False))
    native = exported(backend, tmp_path / "out", mix, shuffle_seed=seed, part_bytes=part_bytes)
    assert (tmp_path / "out" / "labels_mask_part_0001.npy").exists() == (part_bytes == PART_BYTES)
    result = import_(Repository(backend), tmp_path / "out", shuffle_seed=seed)
    assert result.root == native.root
    # The run record, and the tokenizer's configuration, into which the export wrote the template.
    assert result.objects_new == 2
    imported = Repository(backend).dataset("imported")
    assert imported.run is not None
    assert native.run is not None
    for source, made in zip(native.run.sources, imported.run.sources, strict=True):
        for field in ("name", "rows", "samples", "selected", "split", "tokens", "trainable"):
            assert getattr(made, field) == getattr(source, field), field
        assert float(str(made.amount)) == float(str(source.amount))
    assert imported.run.files.items() >= {n: d for n, d in native.run.files.items() if n == "vocabulary"}.items()


def test_it_holds_everything_it_names(tmp_path: Path, files: list[Path], repository: Repository) -> None:
    exported(MemoryBackend(), tmp_path / "out", [(files[0], "1.0"), (files[1], "1.0")])
    result = import_(repository, tmp_path / "out", shuffle_seed=42)
    assert result.objects_new > 5
    assert len(check_complete(repository)["imported"].rows) == result.samples == 60


def test_the_same_file_twice_is_one_source_and_the_samples_are_equal(tmp_path: Path, files: list[Path]) -> None:
    """The statistics count a name once, so which documents are of which entry cannot be told."""
    backend = MemoryBackend()
    mix = [(files[0], "1.0"), (files[1], "1.0"), (files[0], "0.5")]
    native = exported(backend, tmp_path / "out", mix)
    import_(Repository(backend), tmp_path / "out", shuffle_seed=42)
    imported = Repository(backend).dataset("imported")
    found = compare(native, imported)
    assert found.same_order
    assert {name for name, equal in found.arrays.items() if not equal} == {"source"}


def test_another_seed_gives_other_samples_first(tmp_path: Path, files: list[Path]) -> None:
    backend = MemoryBackend()
    native = exported(backend, tmp_path / "out", [(files[0], "1.0")])
    assert import_(Repository(backend), tmp_path / "out", shuffle_seed=1).root != native.root


def test_what_num_examples_cut_cannot_be_shuffled_back(tmp_path: Path, files: list[Path]) -> None:
    backend = MemoryBackend()
    exported(backend, tmp_path / "out", [(files[0], "1.0")], num_examples=30)
    with pytest.raises(SourceError, match="holds 30 of the 40 documents that were shuffled"):
        import_(Repository(backend), tmp_path / "out", shuffle_seed=42)
    assert Repository(backend).refs.current("imported") is None
    assert import_(Repository(backend), tmp_path / "out").samples == 30


def test_both_orders_at_once(tmp_path: Path, repository: Repository) -> None:
    path = write_folder(tmp_path / "out", documents(5))
    import_(repository, path, "one")
    with pytest.raises(InvalidInputError, match="give one of them"):
        import_(repository, path, shuffle_seed=1, like="one")


# ---- out again


@pytest.mark.parametrize("options", [{}, {"shuffle_seed": 42}])
@pytest.mark.parametrize("part_bytes", [PART_BYTES, 1 << 30])
def test_an_import_is_exported_as_it_came(
    tmp_path: Path, files: list[Path], repository: Repository, options: dict[str, Any], part_bytes: int
) -> None:
    exported(MemoryBackend(), tmp_path / "out", [(files[0], "2.0"), (files[1], "0.5")], part_bytes=part_bytes)
    import_(repository, tmp_path / "out", **options)
    again = tmp_path / "again"
    export_olmo_core(repository.dataset("imported"), str(again), part_bytes=part_bytes)
    # Without the seed sources cannot be told apart, so that the statistics are of all.
    look = without_places if options else parts
    assert look(again) == look(tmp_path / "out")


@pytest.mark.parametrize("dtype", ["<u1", "<u2", "<u4", "<u8"])
@pytest.mark.parametrize("known", [True, False])
def test_the_width_stays(tmp_path: Path, repository: Repository, dtype: str, known: bool) -> None:
    """Without statistics, without a tokenizer folder, and in every width."""
    path = write_folder(tmp_path / "out", documents(40), dtype=dtype, part_items=128, statistics=known)
    import_(repository, path)
    width = np.dtype(dtype).itemsize
    export_olmo_core(repository.dataset("imported"), str(tmp_path / "again"), part_bytes=128 * width)
    assert parts(tmp_path / "again") == parts(path)


def test_a_tokenizer_folder_of_another_width_does_not_decide(tmp_path: Path, repository: Repository) -> None:
    """The shipped tokenizer has a vocabulary of two bytes; these ids were written with four."""
    import shutil

    path = write_folder(tmp_path / "out", documents(10), dtype="<u4")
    shutil.copytree(TOKENIZER, path / "tokenizer")
    import_(repository, path)
    export_olmo_core(repository.dataset("imported"), str(tmp_path / "again"))
    assert contents(tmp_path / "again")["token_ids_part_0000.npy"] == contents(path)["token_ids_part_0000.npy"]
    assert repository.dataset("imported").vocabulary is not None


def test_a_broken_tokenizer_folder_is_refused(tmp_path: Path, repository: Repository) -> None:
    path = write_folder(tmp_path / "out", documents(10))
    (path / "tokenizer").mkdir()
    (path / "tokenizer" / "tokenizer.json").write_bytes(b"{")
    with pytest.raises(InvalidInputError, match=r"tokenizer.json is not valid JSON"):
        import_(repository, path)


# ---- again, and beside what is known


def test_a_second_import_stores_a_run_record_alone(tmp_path: Path, files: list[Path], repository: Repository) -> None:
    exported(MemoryBackend(), tmp_path / "out", [(files[0], "1.0")])
    first = import_(repository, tmp_path / "out")
    again = import_(repository, tmp_path / "out", "again")
    assert again.root == first.root
    assert again.objects_new <= 1
    assert len(check_complete(repository)["again"].rows) == first.samples


def test_a_second_import_after_an_edit_is_another(tmp_path: Path, repository: Repository) -> None:
    """Same sizes, one token changed: nothing of the first import is taken for it."""
    path = write_folder(tmp_path / "out", documents(50))
    first = import_(repository, path)
    set_byte(path / "token_ids_part_0000.npy", 0, 251)
    assert import_(repository, path).root != first.root
    tokens = repository.dataset("imported")[0].token_ids
    assert tokens[0] == 251


MANY: list[Document] = [made for made in documents(4000, seed=1, longest=60) if len(made[0]) > 5]
"""Long enough that no two are alike: documents are recognised by their tokens alone."""


def like(tmp_path: Path, repository: Repository, made: Sequence[Document], seed: int = 3) -> ImportResult:
    """Import ``MANY``, then these documents reshuffled with ``--like``."""
    import_(repository, write_folder(tmp_path / "golden", MANY), "golden")
    shuffled = [made[i] for i in np.random.default_rng(seed).permutation(len(made))]
    path = write_folder(tmp_path / "other", shuffled)
    result = import_(repository, path, like="golden")
    export_olmo_core(repository.dataset("imported"), str(tmp_path / "again"))
    assert parts(tmp_path / "again") == parts(path)
    assert len(check_complete(repository)["imported"].rows) == len(made)
    return result


def test_like_of_another_order_costs_a_permutation(tmp_path: Path, repository: Repository) -> None:
    result = like(tmp_path, repository, MANY)
    assert result.known == len(MANY)
    assert result.objects_new <= 5  # the permutation and what names it
    assert result.bytes_new < 4 * len(MANY)
    golden, other = (repository.dataset(name) for name in ("golden", "imported"))
    assert golden.manifest.arrays == other.manifest.arrays
    found = compare(golden, other)
    assert found.same_samples
    assert not found.same_order


@pytest.mark.parametrize("change", ["changed", "removed", "added", "doubled", "labels"])
def test_like_with_one_other_document(tmp_path: Path, repository: Repository, change: str) -> None:
    made = list(MANY)
    tokens, labels = made[2000]
    if change == "changed":
        made[2000] = [77, *tokens[1:]], labels
    elif change == "labels":
        made[2000] = tokens, [1 - label for label in labels]
    elif change == "removed":
        del made[2000]
    else:
        made.append(made[5] if change == "doubled" else ([78, 79, *tokens], [0, 0, *labels]))
    result = like(tmp_path, repository, made)
    assert result.known == len(MANY) - (change in ("changed", "removed"))
    assert result.objects_new <= 30
    hunks = compare(repository.dataset("golden"), repository.dataset("imported")).hunks
    assert sum(max(h.a[1] - h.a[0], h.b[1] - h.b[0]) for h in hunks) == 1


def test_like_something_unrelated(tmp_path: Path, repository: Repository) -> None:
    result = like(tmp_path, repository, documents(100, seed=9, longest=60))
    assert result.known == 0


def test_like_something_empty_handed(tmp_path: Path, repository: Repository) -> None:
    """More documents than the other has, and all of them unknown."""
    import_(repository, write_folder(tmp_path / "golden", documents(3, seed=5)), "golden")
    made: list[Document] = [([*range(100, 110 + i), 9], [0] * (10 + i) + [1]) for i in range(20)]
    assert import_(repository, write_folder(tmp_path / "other", made), like="golden").known == 0
    assert len(check_complete(repository)["imported"].rows) == 20


def reshuffled(tmp_path: Path, mix: Sequence[tuple[Path, str]], seed: int = 7) -> tuple[Backend, Dataset, Path]:
    """A run called ``native``, and the export of the same mix in another order."""
    backend = MemoryBackend()
    native = exported(backend, tmp_path / "out", mix)
    exported(MemoryBackend(), tmp_path / "other", mix, shuffle_seed=seed)
    return backend, native, tmp_path / "other"


@pytest.mark.parametrize("amounts", [("1.0", "1.0", "1.0"), ("0.5", "2.0", "4")])
def test_like_a_dataset_of_several_sources_tells_them_apart(
    tmp_path: Path, files: list[Path], amounts: tuple[str, ...]
) -> None:
    backend, native, other = reshuffled(tmp_path, list(zip(files, amounts, strict=True)))
    import_(Repository(backend), other, like="native")
    imported = Repository(backend).dataset("imported")
    assert imported.manifest.arrays == native.manifest.arrays
    found = compare(native, imported)
    assert found.same_samples
    assert not found.same_order
    assert imported.sources == native.sources
    export_olmo_core(imported, str(tmp_path / "again"), part_bytes=PART_BYTES)
    assert without_places(tmp_path / "again") == without_places(other)


def test_like_a_dataset_with_a_file_twice(tmp_path: Path, files: list[Path]) -> None:
    backend, native, other = reshuffled(tmp_path, [(files[0], "1.0"), (files[1], "1.0"), (files[0], "0.5")])
    import_(Repository(backend), other, like="native")
    imported = Repository(backend).dataset("imported")
    assert imported.manifest.arrays == native.manifest.arrays
    export_olmo_core(imported, str(tmp_path / "again"), part_bytes=PART_BYTES)
    assert without_places(tmp_path / "again") == without_places(other)


def test_like_several_sources_whose_statistics_are_others(tmp_path: Path, files: list[Path]) -> None:
    """Documents of one source that the other dataset has of another: they are not told apart."""
    backend = MemoryBackend()
    exported(backend, tmp_path / "out", [(files[0], "1.0"), (files[1], "1.0")])
    both = write_rows(tmp_path / "both.jsonl", [*example_rows()[:20], *example_rows()[40:50]])
    rest = write_rows(tmp_path / "rest.jsonl", [*example_rows()[20:40], *example_rows()[50:60]])
    exported(MemoryBackend(), tmp_path / "other", [(both, "1.0"), (rest, "1.0")], shuffle_seed=7)
    assert import_(Repository(backend), tmp_path / "other", like="native").known == 60
    imported = Repository(backend).dataset("imported")
    assert list(imported.sources) == [str(tmp_path / "other")]
    export_olmo_core(imported, str(tmp_path / "again"), part_bytes=PART_BYTES)
    assert parts(tmp_path / "again") == parts(tmp_path / "other")


# ---- what is wrong


def test_a_refused_folder_leaves_the_name_alone(tmp_path: Path, repository: Repository) -> None:
    damaged_folder(tmp_path / "out", "gap")
    import_(repository, write_folder(tmp_path / "good", documents(5)), "name")
    before = repository.refs.current("name")
    with pytest.raises(SourceError):
        import_(repository, tmp_path / "out", "name")
    assert repository.refs.current("name") == before


@pytest.mark.parametrize("options", [{}, {"shuffle_seed": 42}])
def test_a_label_that_is_none(tmp_path: Path, repository: Repository, options: dict[str, Any]) -> None:
    path = write_folder(tmp_path / "out", documents(50))
    set_byte(path / "labels_mask_part_0000.npy", 100, 2)
    with pytest.raises(SourceError, match="a label is 2, not 0 or 1"):
        import_(repository, path, **options)


def test_odd_statistics_are_no_trouble(tmp_path: Path, repository: Repository) -> None:
    entry = {"dataset_name": "\ud800", "original_dataset_size": 1 << 80, "frac_or_num_samples": float("inf")}
    odd = {"overall_statistics": [], "configuration": {"tokenizer": "\udfff", "max_sequence_length": 1 << 90}}
    for name, listed in (("one", [entry]), ("two", [entry, 5]), ("three", "none")):
        path = write_folder(tmp_path / name, documents(9), statistics={**odd, "per_dataset_statistics": listed})
        import_(repository, path, shuffle_seed=1)
        export_olmo_core(repository.dataset("imported"), str(tmp_path / f"{name} again"))


# ---- a directory beside a run


def test_a_directory_is_equal_to_its_run(tmp_path: Path, files: list[Path]) -> None:
    native = exported(MemoryBackend(), tmp_path / "out", [(files[0], "1.0"), (files[1], "0.5"), (files[2], "3.0")])
    assert compare(native, directory_dataset(str(tmp_path / "out"), native)).equal
    assert compare(directory_dataset(str(tmp_path / "out"), native), native).equal


def test_a_directory_of_a_run_that_keeps_the_order_of_the_mix(tmp_path: Path, files: list[Path]) -> None:
    mix = [(files[0], "1.0"), (files[1], "1.0")]
    native = exported(MemoryBackend(), tmp_path / "out", mix, shuffle_seed=None)
    assert compare(native, directory_dataset(str(tmp_path / "out"), native)).equal


@pytest.mark.parametrize("options", [{}, {"num_examples": 40}])
def test_a_directory_is_equal_to_its_run_of_a_file_twice(
    tmp_path: Path, files: list[Path], options: dict[str, Any]
) -> None:
    mix = [(files[0], "1.0"), (files[1], "1.0"), (files[0], "0.5")]
    native = exported(MemoryBackend(), tmp_path / "out", mix, **options)
    assert compare(native, directory_dataset(str(tmp_path / "out"), native)).equal


@pytest.mark.parametrize("listed", ["as it was", "other names", "none"])
@pytest.mark.parametrize("change", ["grown", "removed", "reordered"])
def test_sources_that_a_directory_does_not_tell_are_no_difference(
    tmp_path: Path, files: list[Path], change: str, listed: str
) -> None:
    """Documents edited behind the back of the statistics, which then fit no order of the sources.

    The two files have no conversation in common: of one that both have, another order does not tell which is whose.
    """
    backend = MemoryBackend()
    native = exported(backend, tmp_path / "out", [(files[0], "1.0"), (files[2], "1.0")])
    read = directory_dataset(str(tmp_path / "out"))
    made: list[Document] = []
    for tokens, spans in zip(
        token_lists(read, 0, read.samples), read.reader.spans("labels_mask", 0, read.samples).by_sample(), strict=True
    ):
        made.append((list(tokens), [int(any(lo <= at < hi for lo, hi in spans)) for at in range(len(tokens))]))
    if change == "grown":
        made[30] = [*made[30][0], 5, 6, 7], [*made[30][1], 0, 0, 0]
    elif change == "removed":
        del made[30]
    else:
        made = made[::-1]
    document = statistics(tmp_path / "out")
    document["overall_statistics"] = {}
    for entry in document["per_dataset_statistics"] if listed == "other names" else ():
        entry["dataset_name"] += ".gz"
        entry["final_tokens_in_output"] += 1
    written = write_folder(tmp_path / "edited", made, dtype="<u2", statistics=False if listed == "none" else document)
    found = compare(native, directory_dataset(str(written), native))
    assert found.arrays["source"] == (change == "grown")
    counts = {op: found.count(op) for op in ("replace", "insert", "delete")}
    assert counts == {"replace": int(change == "grown"), "insert": 0, "delete": int(change == "removed")}
    assert found.same_samples == (change == "reordered")
    if listed != "other names":
        import_(Repository(backend), written, like="native")
        found = compare(native, Repository(backend).dataset("imported"))
        assert {op: found.count(op) for op in counts} == counts


def test_a_directory_that_num_examples_cut_has_nothing_of_a_source(tmp_path: Path, files: list[Path]) -> None:
    few = write_rows(tmp_path / "few.jsonl", example_rows()[70:71])
    native = exported(MemoryBackend(), tmp_path / "out", [(few, "1.0"), (files[0], "1.0")], num_examples=5)
    assert len(statistics(tmp_path / "out")["per_dataset_statistics"]) == 1
    assert compare(native, directory_dataset(str(tmp_path / "out"), native)).equal
    backend = MemoryBackend()
    three = [(few, "1.0"), (files[0], "1.0"), (files[1], "1.0")]
    seed = next(seed for seed in range(99) if 0 not in np.random.default_rng(seed).permutation(61)[:20])
    exported(backend, tmp_path / "three", three, num_examples=20, shuffle_seed=seed)
    assert len(statistics(tmp_path / "three")["per_dataset_statistics"]) == 2
    import_(Repository(backend), tmp_path / "three", like="native")
    imported = Repository(backend).dataset("imported")
    assert compare(imported, directory_dataset(str(tmp_path / "three"), imported)).equal


@pytest.mark.parametrize("amounts", [("1.0",), ("1.0", "0.5", "3.0")])
def test_a_directory_that_num_examples_cut_is_equal_to_its_run(
    tmp_path: Path, files: list[Path], amounts: tuple[str, ...]
) -> None:
    out = tmp_path / "out"
    native = exported(MemoryBackend(), out, list(zip(files, amounts, strict=False)), num_examples=31)
    for pair in ((native, directory_dataset(str(out), native)), (directory_dataset(str(out), native), native)):
        assert compare(*pair).equal
    ids = out / "token_ids_part_0001.npy"
    set_byte(ids, 100, ids.read_bytes()[100] ^ 1)
    found = compare(native, directory_dataset(str(out), native))
    assert [hunk.op for hunk in found.hunks] == ["replace"]
    assert found.first is not None
    assert found.first.b.place == (ids.name, 100)
    assert native.positions[:31].tolist().count(found.first.a.sample) == 1


def test_a_directory_that_num_examples_cut_from_another_mix_is_another(tmp_path: Path, files: list[Path]) -> None:
    """As many samples, but of other files: nothing is taken to be equal."""
    native = exported(MemoryBackend(), tmp_path / "out", [(files[0], "1.0"), (files[1], "1.0")], num_examples=15)
    for name, mix in (("fewer", [(files[0], "1.0")]), ("swapped", [(files[1], "1.0"), (files[0], "1.0")])):
        exported(MemoryBackend(), tmp_path / name, mix, num_examples=15)
        directory = directory_dataset(str(tmp_path / name), native)
        assert directory.samples == 15
        assert not compare(native, directory).equal


def test_every_token_and_label_of_a_directory_is_compared(tmp_path: Path, files: list[Path]) -> None:
    """Change one byte: the comparison names the sample, the index, both values and the byte itself."""
    native = exported(MemoryBackend(), tmp_path / "out", [(files[0], "1.0")], part_bytes=1 << 30)
    size = (tmp_path / "out" / "token_ids_part_0000.npy").stat().st_size
    for at in np.random.default_rng(0).integers(0, size // 2, 8).tolist():
        ids = tmp_path / "out" / "token_ids_part_0000.npy"
        before = ids.read_bytes()
        set_byte(ids, 2 * at, before[2 * at] ^ 1)
        found = compare(native, directory_dataset(str(tmp_path / "out"), native))
        ids.write_bytes(before)
        assert found.count("replace") == 1
        assert found.first is not None
        assert (found.first.array, found.first.b.place) == ("token_ids", found.first.a.place)
        assert found.first.b.place is not None
        assert found.first.b.place.offset == 2 * at
        value = int.from_bytes(before[2 * at : 2 * at + 2], "little")
        assert (found.first.a.value, found.first.b.value) == (value, value ^ 1)
        assert found.first.b.text is not None  # read with the run's vocabulary
    labels = tmp_path / "out" / "labels_mask_part_0000.npy"
    before = labels.read_bytes()
    set_byte(labels, 1234, before[1234] ^ 1)
    found = compare(native, directory_dataset(str(tmp_path / "out"), native))
    assert found.first is not None
    assert found.first.array == "labels_mask"
    assert found.first.b.place is not None
    assert (found.first.b.place.file, found.first.b.place.offset) == (labels.name, 1234)


@pytest.mark.parametrize("beside_a_run", [True, False])
def test_the_byte_is_named_in_the_parts_that_the_directory_has(
    tmp_path: Path, files: list[Path], beside_a_run: bool
) -> None:
    out, changed = tmp_path / "out", tmp_path / "changed"
    native = exported(MemoryBackend(), out, [(files[0], "1.0"), (files[1], "1.0")])
    exported(MemoryBackend(), changed, [(files[0], "1.0"), (files[1], "1.0")])
    size = PART_BYTES // 2
    for part, item in ((0, 3), (2, 0), (2, size - 1), (3, 77)):
        ids, labels = changed / f"token_ids_part_{part:04d}.npy", changed / f"labels_mask_part_{part:04d}.npy"
        for path, at in ((ids, 2 * item), (labels, item)):
            before = path.read_bytes()
            set_byte(path, at, before[at] ^ 1)
            if beside_a_run:
                found = compare(native, directory_dataset(str(changed), native))
                place, total = (2 * (part * size + item), ids) if path is ids else (part * size + item, labels)
                expected = total.name.replace(f"_{part:04d}", "_0000"), place  # an export has parts of 1 GiB
            else:
                found = compare(*open_folders(str(out), str(changed)))
                expected = path.name, at
            path.write_bytes(before)
            assert found.first is not None
            assert found.first.a.place == expected
            assert found.first.b.place == (path.name, at)


def test_directories_against_each_other(tmp_path: Path) -> None:
    made = documents(300)
    for name, chosen in (("a", made), ("b", made), ("c", [*made[:100], *made[101:]])):
        write_folder(tmp_path / name, chosen, part_items=1000)
    a, b, c = (directory_dataset(str(tmp_path / name)) for name in "abc")
    assert [len(a.reader.tokens(i, i + 1)[0]) for i in range(300)] == [len(tokens) for tokens, _ in made]
    assert compare(a, b).arrays == dict.fromkeys(compare(a, b).arrays, True)
    found = compare(a, c)
    assert [(h.op, h.a) for h in found.hunks] == [("delete", (100, 101))]
