"""Exports against a naive writer, and what is left when one goes wrong."""

from __future__ import annotations

import gzip
import json
import os
import resource
import signal
import stat
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from castore.errors import BackendError, CorruptionError, InvalidInputError
from castore.export.olmo_core import _with_template, export_olmo_core
from castore.export.receipt import RECEIPT_FILE
from castore.olmo.layout import id_bytes
from castore.read import stream
from castore.repository import Repository
from castore.store.backend import MemoryBackend
from castore.store.bucket_sort import BucketSort
from tests.care.stored import opened
from tests.export.earlier import earlier_export
from tests.support.commands import REPOSITORY_ROOT, castore, start, trouble, wait_until
from tests.support.complete import Row, check_complete
from tests.support.jobs import ORIGIN, TOKENIZER, example_rows, row, run_job, with_vocab_size, write_rows
from tests.support.layouts import loose

Files = dict[str, bytes]


def contents(folder: Path) -> Files:
    """Every file of a folder; boundaries decompressed."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            data = path.read_bytes()
            found[str(path.relative_to(folder))] = gzip.decompress(data) if path.suffix == ".gz" else data
    return found


def naive_parts(rows: list[Row], order: list[int], dtype: str, part_bytes: int) -> Files:
    """The parts of an export, a document at a time."""
    items = part_bytes // np.dtype(dtype).itemsize
    ids: list[int] = []
    mask: list[int] = []
    documents = []
    for index in order:
        tokens, spans, _ = rows[index]
        documents.append((len(ids), len(ids) + len(tokens)))
        ids += tokens
        mask += [int(any(lo <= i < hi for lo, hi in spans)) for i in range(len(tokens))]
    files: Files = {}
    for part, lo in enumerate(range(0, len(ids), items)):
        hi = min(lo + items, len(ids))
        files[f"token_ids_part_{part:04d}.npy"] = np.array(ids[lo:hi], dtype).tobytes()
        files[f"labels_mask_part_{part:04d}.npy"] = bytes(mask[lo:hi])
        touching = [(max(a, lo) - lo, min(b, hi) - lo) for a, b in documents if a < hi and b > lo]
        files[f"token_ids_part_{part:04d}.csv.gz"] = "".join(f"{a},{b}\n" for a, b in touching).encode()
    return files


def order_of(count: int, seed: int | None, take: int | None) -> list[int]:
    order = list(range(count)) if seed is None else np.random.default_rng(seed).permutation(count).tolist()
    return order[:take]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = list(example_rows()[:60])
    rows[5] = row("nobody answers")
    return write_rows(tmp_path_factory.mktemp("rows") / "rows.jsonl", rows)


def job(path: Path, **options: Any) -> tuple[Repository, list[Row]]:
    backend = MemoryBackend()
    mix = options.pop("mix", [(path, "1.5")])
    run_job(backend, mix, **options)
    repository = Repository(backend)
    return repository, check_complete(repository)["out"].rows


@pytest.fixture(scope="module")
def shuffled(path: Path) -> tuple[Repository, list[Row]]:
    return job(path)


# ---- the files


@pytest.mark.parametrize(
    ("seed", "take"), [(42, None), (None, None), (7, 40), (42, 1)], ids=["shuffled", "as stored", "first 40", "one"]
)
@pytest.mark.parametrize("part_bytes", [1 << 30, 6000, 999])
def test_the_files_are_those_of_a_naive_writer(
    path: Path, tmp_path: Path, seed: int | None, take: int | None, part_bytes: int
) -> None:
    repository, rows = job(path, shuffle_seed=seed, num_examples=take)
    done = export_olmo_core(repository.dataset("out"), str(tmp_path / "out"), part_bytes=part_bytes)
    order = order_of(len(rows), seed, take)
    expected = naive_parts(rows, order, "<u2", part_bytes)
    found = contents(tmp_path / "out")
    statistics = json.loads(found.pop("dataset_statistics.json"))
    assert {name: data for name, data in found.items() if "_part_" in name} == expected
    assert done.parts == len(expected) // 3
    assert done.samples == len(order) == statistics["overall_statistics"]["total_instances"]
    assert done.tokens == sum(len(rows[i][0]) for i in order) == statistics["overall_statistics"]["total_tokens"]


def test_documents_do_cross_the_parts(path: Path, tmp_path: Path, shuffled: tuple[Repository, list[Row]]) -> None:
    """Documents of three parts and more, and parts that end with a document."""
    repository, rows = shuffled
    export_olmo_core(repository.dataset("out"), str(tmp_path / "out"), part_bytes=64)
    boundaries = [data for name, data in contents(tmp_path / "out").items() if name.endswith(".csv.gz")]
    assert boundaries.count(b"0,32\n") > 20
    first = len(rows[order_of(len(rows), 42, None)[0]][0])
    export_olmo_core(repository.dataset("out"), str(tmp_path / "even"), part_bytes=2 * first)
    found = contents(tmp_path / "even")
    assert found["token_ids_part_0000.csv.gz"] == b"0,%d\n" % first
    expected = naive_parts(rows, order_of(len(rows), 42, None), "<u2", 2 * first)
    assert {name: found[name] for name in expected} == expected


def test_small_windows_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shuffled: tuple[Repository, list[Row]]
) -> None:
    repository, rows = shuffled
    monkeypatch.setattr(stream, "BucketSort", lambda lengths, folder: BucketSort(lengths, folder, window_bytes=3000))
    export_olmo_core(repository.dataset("out"), str(tmp_path / "out"), part_bytes=999)
    found = contents(tmp_path / "out")
    expected = naive_parts(rows, order_of(len(rows), 42, None), "<u2", 999)
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize(("vocab_size", "dtype"), [(65_536, "<u2"), (65_537, "<u4"), (1 << 32, "<u4"), (None, "<u4")])
def test_the_width_follows_the_vocabulary(
    tmp_path: Path, shuffled: tuple[Repository, list[Row]], vocab_size: int | None, dtype: str
) -> None:
    repository, rows = shuffled
    data = repository.dataset("out")
    with_vocab_size(data, vocab_size)
    export_olmo_core(data, str(tmp_path / "out"), part_bytes=4000)
    expected = naive_parts(rows, order_of(len(rows), 42, None), dtype, 4000)
    found = contents(tmp_path / "out")
    assert {name: found[name] for name in expected} == expected


def test_widths() -> None:
    """The first type whose largest value is not below the vocabulary's largest id."""
    assert [id_bytes(n) for n in (1, 255, 256, 257, 65_536, 65_537, 1 << 32, (1 << 32) + 1)] == [
        1, 1, 1, 2, 2, 4, 4, 8,
    ]  # fmt: skip


def test_a_root_without_a_run_record(tmp_path: Path, shuffled: tuple[Repository, list[Row]]) -> None:
    repository, rows = shuffled
    root = repository.dataset("out").root.hex()
    export_olmo_core(repository.dataset(root), str(tmp_path / "out"))
    expected = naive_parts(rows, order_of(len(rows), 42, None), "<u4", 1 << 30)
    found = contents(tmp_path / "out")
    assert {name for name in found if "_part_" in name} == set(expected)
    assert not any(name.startswith("tokenizer/") for name in found)
    assert {name: found[name] for name in expected} == expected


def test_the_same_data_are_the_same_files(tmp_path: Path, shuffled: tuple[Repository, list[Row]]) -> None:
    """Byte for byte, compressed files included: no time and no name in them."""
    repository, _ = shuffled
    for name in ("a", "b"):
        export_olmo_core(repository.dataset("out"), str(tmp_path / name), time_text="2026-01-01 00:00:00")
    raw = [{p.name: p.read_bytes() for p in (tmp_path / name).rglob("*") if p.is_file()} for name in ("a", "b")]
    for files in raw:  # which name their folder
        for name in [name for name in files if name.startswith("dataset_statistics")]:
            del files[name]
        del files[RECEIPT_FILE]  # which has their digests
    assert len(raw[0]) == 6
    assert raw[0] == raw[1]


def test_the_tokenizer_goes_along(tmp_path: Path, path: Path) -> None:
    template = tmp_path / "mine.jinja"
    template.write_text((TOKENIZER / "chat_template.jinja").read_text() + "{# mine #}")
    repository, _ = job(path, chat_template=str(template))
    export_olmo_core(repository.dataset("out"), str(tmp_path / "out"))
    folder = tmp_path / "out" / "tokenizer"
    assert (folder / "tokenizer.json").read_bytes() == (TOKENIZER / "tokenizer.json").read_bytes()
    assert (folder / "chat_template.jinja").read_text() == template.read_text()
    config = json.loads((folder / "tokenizer_config.json").read_text())
    assert config.pop("chat_template") == template.read_text()
    assert config == json.loads((TOKENIZER / "tokenizer_config.json").read_text())


# ---- statistics


def naive_statistics(
    mix: list[tuple[str, str, int]], rows: list[Row], order: list[int], **configuration: Any
) -> dict[str, Any]:
    """dataset_statistics.json; ``mix`` is name, amount and number of rows of each source."""
    by_name: dict[str, list[Row]] = {}
    for index in order:
        by_name.setdefault(mix[rows[index][2]][0], []).append(rows[index])
    tokens = sum(len(rows[i][0]) for i in order)
    trainable = sum(hi - lo for i in order for lo, hi in rows[i][1])
    datasets = []
    for name, chosen in by_name.items():
        at = max(i for i, entry in enumerate(mix) if entry[0] == name)
        _, amount, size = mix[at]
        value = float(amount) if "." in amount else int(amount)
        target = int(value * size) if isinstance(value, float) else value
        kept = sum(source == at for _, _, source in rows)
        count = sum(len(ids) for ids, _, _ in chosen)
        datasets.append(
            {
                "dataset_name": name,
                "dataset_split": "train",
                "initial_instances": target,
                "instances_after_transformation": kept,
                "instances_filtered_during_transformation": target - kept,
                "frac_or_num_samples": value,
                "original_dataset_size": size,
                "is_upsampled": target > size,
                "upsampling_factor": target / size,
                "final_instances_in_output": len(chosen),
                "final_tokens_in_output": count,
                "final_trainable_tokens_in_output": sum(hi - lo for _, spans, _ in chosen for lo, hi in spans),
                "instances_filtered_after_tokenization": 0,
                "avg_tokens_per_instance": count / len(chosen),
                "percentage_of_total_tokens": count / tokens * 100,
                "percentage_of_total_instances": len(chosen) / len(order) * 100,
            }
        )
    return {
        "timestamp": "2026-02-03 04:05:06",
        "output_directory": configuration["folder"],
        "configuration": {
            "tokenizer": str(TOKENIZER),
            "max_sequence_length": configuration["length"],
            "chat_template": configuration["template"],
        },
        "per_dataset_statistics": datasets,
        "overall_statistics": {
            "total_datasets": len(datasets),
            "total_instances": len(order),
            "total_tokens": tokens,
            "trainable_tokens": trainable,
            "trainable_percentage": trainable / tokens * 100,
            "instances_filtered": 0,
            "average_sequence_length": tokens / len(order),
        },
    }


@pytest.mark.parametrize(
    ("amounts", "options"),
    [
        (("1.5", "0.37", "5"), {"max_seq_length": 90}),
        (("1.0", "1", "3.0"), {"num_examples": 20, "chat_template": "olmo"}),
        (("30", "0.5", "0.5"), {"shuffle_seed": None}),
        (("0.9", "40", "1.0"), {"num_examples": 1, "shuffle_seed": 3}),
    ],
)
def test_statistics(path: Path, tmp_path: Path, amounts: tuple[str, ...], options: dict[str, Any]) -> None:
    """The third source is the first one again: one entry, with the sums and the rest of the last."""
    other = write_rows(tmp_path / "other.jsonl", example_rows()[100:133])
    mix = list(zip((path, other, path), amounts, strict=True))
    repository, rows = job(path, mix=mix, **options)
    folder = str(tmp_path / "out")
    export_olmo_core(repository.dataset("out"), folder, time_text="2026-02-03 04:05:06")
    order = order_of(len(rows), options.get("shuffle_seed", 42), options.get("num_examples"))
    sizes = [(str(p), amount, 33 if p == other else 60) for p, amount in mix]
    expected = naive_statistics(
        sizes, rows, order, folder=folder, length=options.get("max_seq_length"), template=options.get("chat_template")
    )
    assert (tmp_path / "out" / "dataset_statistics.json").read_text() == json.dumps(expected, indent=2)


# ---- whole or absent


@pytest.fixture
def data(shuffled: tuple[Repository, list[Row]]) -> Any:
    return shuffled[0].dataset("out")


def test_a_folder_that_holds_something_is_refused(data: Any, tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    (target / "token_ids_part_0007.npy").write_bytes(b"old")
    with pytest.raises(InvalidInputError, match="already holds files: give another folder, or --replace"):
        export_olmo_core(data, str(target))
    assert contents(tmp_path) == {"out/token_ids_part_0007.npy": b"old"}


def test_replacing_leaves_nothing_of_the_old(data: Any, tmp_path: Path) -> None:
    target = tmp_path / "out"
    earlier_export(target, "token_ids_part_0007.npy")
    export_olmo_core(data, str(target), replace=True)
    assert "token_ids_part_0007.npy" not in contents(target)
    assert "token_ids_part_0000.npy" in contents(target)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("name", ["repo", "castore.lock", ".git", "token_ids_part_0000.npy.bak"])
def test_what_is_no_export_is_never_replaced(data: Any, tmp_path: Path, name: str) -> None:
    export_olmo_core(data, str(tmp_path / "out"))
    (tmp_path / "out" / name).mkdir()
    (tmp_path / "out" / name / "mine").write_text("precious")
    before = contents(tmp_path)
    with pytest.raises(InvalidInputError, match=f"out holds '{name}', which is a folder of somebody else's"):
        export_olmo_core(data, str(tmp_path / "out"), replace=True)
    assert contents(tmp_path) == before


def test_what_enters_an_export_that_is_being_replaced_stays(data: Any, tmp_path: Path) -> None:
    export_olmo_core(data, str(tmp_path / "out"))
    before = contents(tmp_path)

    def report(done: int, total: int) -> None:
        (tmp_path / "out" / "mine").write_text("precious")

    with pytest.raises(InvalidInputError, match="out holds 'mine'"):
        export_olmo_core(data, str(tmp_path / "out"), replace=True, report=report)
    assert contents(tmp_path) == {**before, "out/mine": b"precious"}


def test_no_folder_at_all(data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``castore export NAME "$UNSET" --replace``."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInputError, match="'' is no folder"):
        export_olmo_core(data, "", replace=True)


@pytest.mark.parametrize("replace", [False, True])
def test_an_empty_folder_and_missing_parents(data: Any, tmp_path: Path, replace: bool) -> None:
    (tmp_path / "empty").mkdir()
    for target in (tmp_path / "empty", tmp_path / "a" / "b" / "c"):
        export_olmo_core(data, str(target), replace=replace)
        assert "dataset_statistics.json" in contents(target)
        assert [p.name for p in target.parent.iterdir() if p.name.startswith(".")] == []


def test_a_file_in_the_way(data: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InvalidInputError, match="is not a folder"):
        export_olmo_core(data, str(tmp_path / "file"), replace=True)
    with pytest.raises(BackendError, match="nothing was left half-written"):
        export_olmo_core(data, str(tmp_path / "file" / "out"))
    assert contents(tmp_path) == {"file": b"x"}


@pytest.mark.parametrize("replace", [False, True])
def test_a_link_to_a_folder_is_followed(data: Any, tmp_path: Path, replace: bool) -> None:
    if replace:
        earlier_export(tmp_path / "disk", "part-00007.parquet")
    else:
        (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk")
    export_olmo_core(data, str(tmp_path / "out"), replace=replace)
    assert (tmp_path / "out").is_symlink()
    assert "part-00007.parquet" not in contents(tmp_path / "disk")
    assert "dataset_statistics.json" in contents(tmp_path / "disk")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["disk", "out"]


def test_places_without_a_name(data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x").write_text("x")
    with pytest.raises(InvalidInputError, match="already holds files"):
        export_olmo_core(data, ".")
    with pytest.raises(InvalidInputError, match="/ cannot be replaced"):
        export_olmo_core(data, "/", replace=True)
    export_olmo_core(data, "./y/../z")
    assert "dataset_statistics.json" in contents(tmp_path / "z")


def test_a_folder_that_fills_meanwhile_is_not_replaced(data: Any, tmp_path: Path) -> None:
    target = tmp_path / "out"

    def report(done: int, total: int) -> None:
        target.mkdir(exist_ok=True)
        (target / "of somebody else").write_text("precious")

    with pytest.raises(InvalidInputError, match="already holds files"):
        export_olmo_core(data, str(target), report=report)
    assert contents(tmp_path) == {"out/of somebody else": b"precious"}


@pytest.mark.parametrize("how", ["missing", "cut", "flipped"])
def test_a_damaged_object_leaves_the_folder_as_it_was(path: Path, tmp_path: Path, how: str) -> None:
    made, _ = job(path)
    repository = opened(loose(MemoryBackend()))
    made.copy("out", repository, "out", ORIGIN)
    data = repository.dataset("out")
    from castore.errors import NotFoundError
    from castore.tree.walk import leaves

    victim = list(leaves(data.fetch, data.tree("token_ids")))[-1].entry.digest.hex()
    key = f"objects/{victim[:2]}/{victim}"
    raw = repository.backend.get(key, 1 << 30)
    assert raw is not None
    repository.backend.delete(key)
    if how != "missing":
        repository.backend.put(key, raw[:-5] if how == "cut" else raw[:-5] + bytes([raw[-5] ^ 4]) + raw[-4:])
    target = tmp_path / "out"
    earlier_export(target, "shard.00007.mds")
    before = contents(tmp_path)
    with pytest.raises((CorruptionError, NotFoundError), match=victim):
        export_olmo_core(Repository(repository.backend).dataset("out"), str(target), replace=True)
    assert contents(tmp_path) == before


def test_an_interrupt_leaves_nothing(data: Any, tmp_path: Path) -> None:
    def report(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_olmo_core(data, str(tmp_path / "out"), report=report)
    assert list(tmp_path.iterdir()) == []


def test_everything_is_durable_before_it_has_its_name(data: Any, tmp_path: Path) -> None:
    durable = set()
    real = os.fsync

    def fsync(handle: int) -> None:
        real(handle)
        durable.add(os.fstat(handle).st_ino)

    with mock.patch.object(os, "fsync", fsync):
        export_olmo_core(data, str(tmp_path / "out"))
    files = [tmp_path / "out", *(tmp_path / "out").rglob("*")]
    assert any(path.parent.name == "tokenizer" for path in files)
    assert [path.name for path in files if path.stat().st_ino not in durable] == []


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_an_error_of_the_disk_at_any_moment(data: Any, tmp_path: Path, call: str) -> None:
    """Each sync and rename fails once; the old folder stays, or is back."""
    target = tmp_path / "out"
    earlier_export(target, "shard.00007.mds")
    before = contents(tmp_path)
    for n in range(1, 30):
        calls: list[int] = []
        real = os.fsync if call == "fsync" else Path.rename

        def fail(*arguments: Any, n: int = n, calls: list[int] = calls, real: Any = real) -> Any:
            calls.append(1)
            if len(calls) == n:
                raise OSError(28, "No space left on device")
            return real(*arguments)

        owner: Any = os if call == "fsync" else Path
        with mock.patch.object(owner, call, fail):
            try:
                export_olmo_core(data, str(target), replace=True, part_bytes=9000)
                break
            except BackendError as error:
                said = str(error)
        assert said == f"{target}: No space left on device; nothing was left half-written"
        assert contents(tmp_path) == before
    assert n > (5 if call == "fsync" else 2)
    assert "shard.00007.mds" not in contents(target)


# ---- in processes


def descriptors() -> list[int]:
    """What is open, but for what the listing of it takes: every other is open afterwards too."""
    found = sorted(int(path.name) for path in Path("/proc/self/fd").iterdir())
    return [fd for fd in found if Path(f"/proc/self/fd/{fd}").exists()]


@pytest.mark.parametrize("more", range(1, 10))
def test_no_descriptor_is_left_open(data: Any, tmp_path: Path, more: int) -> None:
    """However few the system gives: none is lost, and what was begun is removed, which takes two."""
    open_now = descriptors()
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = [fd for fd in range(open_now[-1] + 99) if fd not in open_now]
    resource.setrlimit(resource.RLIMIT_NOFILE, (free[more] + 1, before[1]))
    try:
        export_olmo_core(data, str(tmp_path / "out"), part_bytes=4096)
    except (BackendError, CorruptionError):
        left = []
    else:
        left = ["out"]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert descriptors() == open_now
    assert [path.name for path in tmp_path.iterdir()] == left


@pytest.fixture(scope="module")
def repo(path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repo") / "repo"
    castore("--repo", folder, "tokenize", "--mix", path, "9.0", "--tokenizer", TOKENIZER, "--as", "out", "-q")
    return folder


@pytest.mark.slow
def test_killed_in_the_middle(repo: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    script = (
        "import time; from castore.export import olmo_core as export; real = export._Parts.write\n"
        "def slow(*a):\n    real(*a); open('started', 'w').close(); time.sleep(60)\n"
        "export._Parts.write = slow\nfrom castore_cli.main import main; main()"
    )
    import sys

    marker = REPOSITORY_ROOT / "started"
    process = start(
        "--repo", repo, "export", "out", target,
        command=(sys.executable, "-c", script.replace("'started'", repr(str(tmp_path / "started")))),
    )  # fmt: skip
    wait_until((tmp_path / "started").exists)
    assert not marker.exists()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not target.exists()
    left = [p for p in tmp_path.iterdir() if p.name.startswith(".out.castore-new-")]
    assert len(left) == 1
    # What the dead one left is not in the way of the next, which removes it.
    castore("--repo", repo, "export", "out", target, "-q")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "started"]
    whole = contents(target)
    assert "dataset_statistics.json" in whole
    castore("--repo", repo, "export", "out", tmp_path / "again", "-q")
    assert set(contents(tmp_path / "again")) == set(whole)


@pytest.mark.slow
@pytest.mark.parametrize("limit", [0, 1, 20_000, 100_000])
def test_no_more_room_for_a_file(repo: Path, tmp_path: Path, limit: int) -> None:
    """RLIMIT_FSIZE stands in for a full disk: writes fail in the middle of a file."""
    target = tmp_path / "out"
    import resource

    done = castore(
        "--repo", repo, "export", "out", target, "-q",
        check=None, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )  # fmt: skip
    said = trouble(done)
    assert str(target) in said
    assert "nothing was left half-written" in said
    assert list(tmp_path.iterdir()) == []


def test_files_follow_the_umask(repo: Path, tmp_path: Path) -> None:
    castore("--repo", repo, "export", "out", tmp_path / "out", "-q", umask=0o027)
    modes = {stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert modes == {0o640}
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o750


@pytest.mark.parametrize("content", [b"no JSON", b"[1]", b"[" * 100_000, b'{"a": "\xff"}'])
def test_a_tokenizer_configuration_that_is_none_is_left_as_it_is(content: bytes) -> None:
    assert _with_template(content, "template") == content


def test_the_template_is_written_into_the_configuration() -> None:
    assert json.loads(_with_template(b'{"a": 1, "chat_template": "old"}', "new")) == {"a": 1, "chat_template": "new"}
