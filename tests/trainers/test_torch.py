"""Training from a repository: what PyTorch's loaders get, in which order, and after a kill.

Needs ``torch``; the tests of ``StatefulDataLoader`` also ``torchdata``, those against OLMo-core ``ai2-olmo-core``.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import castore
from castore.dataset import Dataset
from castore.errors import CorruptionError, FormatError, InvalidInputError
from castore.export.olmo_core import export_olmo_core
from castore.store.local import LocalBackend
from castore.store.object_keys import object_key
from castore.store.processes import this_process
from castore.train.token_cache import TokenCache
from castore.tree.walk import leaves
from tests.support.commands import castore as run
from tests.support.commands import environment
from tests.support.layouts import flipped

torch = pytest.importorskip("torch", reason="torch is not installed")

from castore.torch import (  # noqa: E402 - needs torch
    DataLoader,
    IterableDataset,
    PackedDataset,
    SampleDataset,
    ShardedSampler,
    collate,
)

# Warnings of torch are its own.
pytestmark = pytest.mark.filterwarnings("ignore")

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
PAD = 3
"""Of the tokenizer of the examples."""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("torch") / "repository"
    options = ("--tokenizer", EXAMPLES / "tokenizer", "--workers", "1", "-q", "--max-seq-length", "150")
    mix = ("--mix", EXAMPLES / "conversations.jsonl", "2.0")
    run("--repo", folder, "tokenize", *mix, *options, "--num-examples", "500", "--as", "x")
    return folder


@pytest.fixture(scope="module")
def data(repository: Path) -> Dataset:
    return castore.open(str(repository))["x"]


def plain(item: dict[str, Any]) -> dict[str, Any]:
    return {key: value.tolist() if isinstance(value, torch.Tensor) else value for key, value in item.items()}


def indices(batches: Any) -> list[int]:
    return [index for batch in batches for index in batch["index"].tolist()]


# ---- items


@pytest.mark.parametrize("order", ["recorded", "source"])
@pytest.mark.parametrize("cache_bytes", [None, 0, 50_000])
def test_items_are_the_samples(data: Dataset, order: str, cache_bytes: int | None) -> None:
    items = SampleDataset(data, order=order, cache_bytes=cache_bytes)
    samples = list(data.ordered if order == "recorded" else data)
    assert len(items) == len(samples)
    for at in [*range(0, len(items), 7), -1]:
        item, sample = items[at], samples[at]
        assert item["input_ids"].dtype == torch.int64
        assert item["label_mask"].dtype == torch.bool
        assert plain(item) == {
            "input_ids": sample.token_ids.tolist(),
            "label_mask": sample.labels_mask.tolist(),
            "index": sample.index,
        }
    with pytest.raises(IndexError):
        items[len(items)]


@pytest.mark.parametrize("mode", ["documents", "olmo-core"])
def test_items_are_the_instances(data: Dataset, mode: str) -> None:
    items = PackedDataset(data, 128, mode=mode)
    packing = items.instances
    assert len(items) == len(packing)
    tokens = trained = documents = 0
    for at in range(len(items)):
        item = items[at]
        assert item["input_ids"].shape == item["label_mask"].shape == (128,)
        lens = item["doc_lens"].tolist()
        assert sum(lens) == 128
        count = int(packing.instance_documents[at])
        filled = sum(lens[:count])
        assert len(lens) == count + (filled < 128)
        assert (item["input_ids"][filled:] == PAD).all()
        assert not item["label_mask"][filled:].any()
        tokens, trained, documents = tokens + filled, trained + int(item["label_mask"].sum()), documents + count
    assert tokens == packing.tokens
    assert documents == len(packing.document_segments)
    if mode == "documents":
        assert tokens == sum(len(sample) for sample in data.ordered)
        assert trained == sum(int(sample.labels_mask.sum()) for sample in data.ordered)


def test_batches_have_the_keys_of_olmo_core(data: Dataset) -> None:
    collator = pytest.importorskip("olmo_core.data.collator", reason="ai2-olmo-core is not installed")
    for items in (PackedDataset(data, 128), SampleDataset(data)):
        some = [items[at] for at in (0, 1, len(items) - 1)]
        theirs = collator.DataCollator(pad_token_id=PAD)(some)
        ours = collate(some, PAD)
        assert ours.keys() == theirs.keys()
        assert plain(ours) == plain(theirs)


def test_every_instance_is_olmo_cores(data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stable sort in OLMo-core, all of its instances and ours are equal, in their order."""
    module = pytest.importorskip("olmo_core.data.numpy_dataset", reason="ai2-olmo-core is not installed")
    from olmo_core.data import utils

    stable = SimpleNamespace(**vars(np))
    stable.argsort = lambda values: np.argsort(values, kind="stable")
    monkeypatch.setattr(utils, "np", stable)
    monkeypatch.setattr("concurrent.futures.ProcessPoolExecutor", InThisProcess)
    export_olmo_core(data, str(tmp_path / "export"), part_bytes=1 << 15)
    theirs = module.NumpyPackedFSLDataset(
        *sorted((tmp_path / "export").glob("token_ids_part_*.npy")),
        sequence_length=128,
        pad_token_id=PAD,
        eos_token_id=0,
        vocab_size=3000,
        dtype=np.uint16,
        generate_doc_lengths=True,
        label_mask_paths=sorted((tmp_path / "export").glob("labels_mask_part_*.npy")),
    )
    theirs.work_dir = tmp_path / "work"
    ours = PackedDataset(data, 128, mode="olmo-core", part_bytes=1 << 15)
    theirs.prepare()
    assert len(ours) == len(theirs)
    for at in range(len(ours)):
        for key in ("input_ids", "label_mask", "doc_lens"):
            assert ours[at][key].tolist() == theirs[at][key].tolist(), (at, key)


class InThisProcess:
    """An executor that does all work at once, here."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        pass

    def __enter__(self) -> InThisProcess:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def submit(self, function: Any, *arguments: Any, **options: Any) -> Any:
        from concurrent.futures import Future

        future: Any = Future()
        future.set_result(function(*arguments, **options))
        return future


# ---- the cache


def test_workers_share_what_was_decoded(data: Dataset) -> None:
    items = SampleDataset(data)
    cache = items._cache
    assert not any(cache._filled)
    list(DataLoader(items, 16, num_workers=2))
    assert all(cache._filled)


def test_a_spawned_worker_opens_the_repository_itself(data: Dataset) -> None:
    items = PackedDataset(data, 128)
    loader = DataLoader(items, 4, shuffle=True, num_workers=1, multiprocessing_context="spawn")
    assert sorted(indices(loader)) == list(range(len(items)))


def test_datasets_say_what_they_are(data: Dataset) -> None:
    assert (
        repr(SampleDataset(data))
        == f"<SampleDataset: {len(data.positions)} samples of {data.root.hex()}, recorded order>"
    )
    assert repr(PackedDataset(data, 256)).startswith("<PackedDataset: <Instances: ")


def test_files_go_with_the_process(repository: Path, tmp_path: Path) -> None:
    script = (
        "import os, sys, castore; from castore.torch import SampleDataset\n"
        "items = SampleDataset(castore.open(sys.argv[1])['x'], cache_folder=sys.argv[2])\n"
        "items[0]; assert os.listdir(sys.argv[2])\n"
        "if len(sys.argv) > 3: os.kill(os.getpid(), 9)\n"
    )
    start = [sys.executable, "-W", "ignore", "-c", script, str(repository), str(tmp_path)]
    assert subprocess.run([*start, "killed"], env=environment(), check=False).returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 1
    subprocess.run(start, env=environment(), check=True)
    assert list(tmp_path.iterdir()) == []


def test_files_of_others_are_left_alone(data: Dataset, tmp_path: Path) -> None:
    (tmp_path / "castore-cache-0123456789ab-999999999-1-x").mkdir()  # a process of another machine or container
    lives = this_process()
    (tmp_path / f"castore-cache-{lives}-x").mkdir()
    killed = f"{lives.partition('-')[0]}-999999999-1"
    (tmp_path / f"castore-cache-{killed}-x").mkdir()
    TokenCache(data, folder=str(tmp_path))
    left = {path.name for path in tmp_path.iterdir() if path.name.endswith("-x")}
    assert len(left) == 2
    assert not any("999999999" in name and "0123456789ab" not in name for name in left)


def test_damage_is_told_by_the_worker_that_meets_it(data: Dataset, repository: Path) -> None:
    items = SampleDataset(data)
    key = object_key(list(leaves(data.fetch, data.tree("token_ids")))[-1].entry.digest)
    flipped(LocalBackend(str(repository)), key)
    try:
        with pytest.raises(CorruptionError, match="damaged"):
            list(DataLoader(items, 16, num_workers=2))
    finally:
        flipped(LocalBackend(str(repository)), key)


def test_a_full_disk_costs_time_and_nothing_else(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = TokenCache(data)

    def refuse(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("castore.train.token_cache.write_at", refuse)
    for sample in (0, 3, len(data) - 1):
        assert cache.read(sample)[0].tolist() == data[sample].token_ids.tolist()
        assert cache.read(sample, 2, 5)[1].tolist() == data[sample].labels_mask[2:5].tolist()
    assert not any(cache._filled)


# ---- orders and shards


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_the_order_does_not_depend_on_workers(data: Dataset, workers: int) -> None:
    items = SampleDataset(data)
    loader = DataLoader(items, 7, shuffle=True, seed=3, num_workers=workers)
    epochs = [indices(loader) for _ in range(2)]
    expected = [
        [items[at]["index"] for at in np.random.default_rng((3 << 32) + epoch).permutation(len(items))]
        for epoch in range(2)
    ]
    assert epochs == expected


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
@pytest.mark.parametrize("shuffle", [False, True])
def test_ranks_share_an_epoch(world_size: int, shuffle: bool) -> None:
    samplers = [ShardedSampler(101, shuffle=shuffle, rank=r, world_size=world_size) for r in range(world_size)]
    parts = [list(sampler) for sampler in samplers]
    assert len({len(part) for part in parts}) == 1
    assert [len(sampler) for sampler in samplers] == [len(part) for part in parts]
    assert {index for part in parts for index in part} == set(range(101))
    assert sum(map(len, parts)) < 101 + world_size

    short = [
        list(ShardedSampler(101, shuffle=shuffle, rank=r, world_size=world_size, drop_last=True))
        for r in range(world_size)
    ]
    assert len({len(part) for part in short}) == 1
    seen = [index for part in short for index in part]
    assert len(seen) == len(set(seen)) == 101 // world_size * world_size


def test_a_stream_is_cut_among_ranks_and_workers(data: Dataset) -> None:
    items = SampleDataset(data)
    for shuffle in (False, True):
        seen = []
        for rank in range(2):
            stream = IterableDataset(items, shuffle=shuffle, seed=1, rank=rank, world_size=2)
            seen += indices(torch.utils.data.DataLoader(stream, 8, num_workers=2, collate_fn=collate))
        assert sorted(seen) == sorted(items[at]["index"] for at in range(len(items)))


# ---- going on


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("taken", [0, 1, 30, 71, 72, 100])
def test_a_loader_goes_on_at_the_item(data: Dataset, taken: int, workers: int, shuffle: bool) -> None:
    """72 batches are an epoch."""
    items = SampleDataset(data)
    assert len(DataLoader(items, 7)) == 72
    options = {"shuffle": shuffle, "seed": 5, "num_workers": workers}
    whole = DataLoader(items, 7, **options)
    expected = [plain(batch) for _ in range(2) for batch in whole]
    first = DataLoader(items, 7, **options)
    done, state = [], first.state_dict()
    while len(done) < taken:
        for batch in first:
            done.append(plain(batch))
            if len(done) == taken:
                break
    state = json.loads(json.dumps(first.state_dict()))
    second = DataLoader(SampleDataset(data), 7, **(options | {"num_workers": 2 - workers}))
    second.load_state_dict(state)
    assert second.state_dict() == state
    while len(done) < len(expected):
        done += [plain(batch) for batch in second]
    assert done == expected


def stream_of(items: SampleDataset) -> IterableDataset:
    return IterableDataset(items, shuffle=True, seed=3)


def loader_of(items: SampleDataset) -> DataLoader:
    return DataLoader(items, None, shuffle=True, seed=3)


@pytest.mark.parametrize("make", [loader_of, stream_of])
def test_set_epoch_and_a_state_agree(
    data: Dataset, make: Callable[[SampleDataset], DataLoader | IterableDataset]
) -> None:
    """A loop sets the epoch before each pass, as with a ``DistributedSampler``, also the one that goes on."""
    items = SampleDataset(data)
    whole = make(items)
    epochs = [[item["index"] for item in whole] for _ in range(3)]
    first = make(items)
    first.set_epoch(1)
    got = [item["index"] for _, item in zip(range(10), first, strict=False)]
    assert got == epochs[1][:10]
    state = json.loads(json.dumps(first.state_dict()))

    goes_on = make(items)
    goes_on.load_state_dict(state)
    for epoch, expected in ((1, epochs[1][len(got) :]), (2, epochs[2])):
        goes_on.set_epoch(epoch)
        assert [item["index"] for item in goes_on] == expected

    elsewhere = make(items)
    elsewhere.load_state_dict(state)
    elsewhere.set_epoch(2)
    assert elsewhere.state_dict()["position"] == 0
    elsewhere.set_epoch(1)
    assert [item["index"] for item in elsewhere] == epochs[1], "what was left for another epoch is forgotten"

    next(iter(first))
    first.set_epoch(first.state_dict()["epoch"])
    assert first.state_dict()["position"] == 0, "an epoch that was broken off begins anew"


def test_ranks_may_be_more_after_a_restart(data: Dataset) -> None:
    items = PackedDataset(data, 128)
    seen = []
    for rank in range(2):
        loader = DataLoader(items, 3, shuffle=True, rank=rank, world_size=2)
        batches = iter(loader)
        seen += indices([next(batches) for _ in range(10)])
        state = loader.state_dict()
    for rank in range(3):
        loader = DataLoader(items, 3, shuffle=True, rank=rank, world_size=3)
        loader.load_state_dict(state)
        seen += indices(loader)
    assert set(seen) == set(range(len(items)))
    assert len(seen) < len(items) + 3


def test_the_last_batch_may_be_left_out(data: Dataset) -> None:
    items = SampleDataset(data)
    loader = DataLoader(items, 7, drop_last=True)
    assert len(indices(loader)) == 71 * 7
    assert loader.state_dict()["epoch"] == 1
    assert len(indices(loader)) == 71 * 7


def test_a_state_of_other_data_is_refused(data: Dataset) -> None:
    loader = DataLoader(SampleDataset(data), 7, shuffle=True)
    next(iter(loader))
    state = loader.state_dict()
    others = [
        DataLoader(PackedDataset(data, 128), shuffle=True),
        DataLoader(SampleDataset(data, order="source"), shuffle=True),
        DataLoader(SampleDataset(data)),
        DataLoader(SampleDataset(data), shuffle=True, seed=1),
    ]
    for other in others:
        with pytest.raises(InvalidInputError, match="the state was taken with"):
            other.load_state_dict(state)
    with pytest.raises(CorruptionError, match="numpy shuffles otherwise"):
        loader.load_state_dict(state | {"order": "0" * 32})


TRAIN = """
import json, os, signal, sys, castore
from castore.torch import DataLoader, PackedDataset
url, checkpoint, log, kill_at = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
loader = DataLoader(PackedDataset(castore.open(url)["x"], 128), 3, shuffle=True, seed=9, num_workers=2)
if os.path.exists(checkpoint):
    loader.load_state_dict(json.load(open(checkpoint)))
for step, batch in enumerate(loader):
    with open(log, "a") as file:
        file.write(json.dumps([batch["index"].tolist(), batch["input_ids"].sum().item()]) + "\\n")
    with open(checkpoint + ".new", "w") as file:
        json.dump(loader.state_dict(), file)
    os.replace(checkpoint + ".new", checkpoint)
    if step == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def temporary() -> Iterator[str]:
    """A folder for what a killed process leaves. PyTorch's workers have sockets there: if the name of one has more than
    107 bytes, it cannot be made, and no batch ever comes."""
    with tempfile.TemporaryDirectory(prefix="castore-torch-", dir="/tmp") as folder:
        yield folder


def test_a_killed_run_goes_on_with_exactly_the_rest(repository: Path, tmp_path: Path, temporary: str) -> None:
    def train(name: str, kill_at: int) -> int:
        log, checkpoint = tmp_path / f"{name}.log", tmp_path / f"{name}.json"
        arguments = [str(repository), str(checkpoint), str(log), str(kill_at)]
        command = [sys.executable, "-W", "ignore", "-c", TRAIN, *arguments]
        return subprocess.run(command, env=environment(TMPDIR=temporary), check=False, timeout=120).returncode

    assert train("whole", -1) == 0
    assert [train("killed", step) for step in (4, 0, 30)] == [-signal.SIGKILL] * 3
    assert train("killed", -1) == 0
    expected = (tmp_path / "whole.log").read_text().splitlines()
    assert len(expected) > 60
    assert (tmp_path / "killed.log").read_text().splitlines() == expected


@pytest.mark.parametrize("workers", [0, 2])
def test_torchdatas_loader_goes_on_where_the_loop_sets_the_epoch(data: Dataset, workers: int) -> None:
    module = pytest.importorskip("torchdata.stateful_dataloader", reason="torchdata is not installed")
    items = SampleDataset(data)
    options = {"batch_size": 7, "num_workers": workers, "collate_fn": collate}
    stream = stream_of(items)
    stream.set_epoch(1)
    expected = [plain(batch) for batch in module.StatefulDataLoader(stream, **options)]
    stream.set_epoch(1)
    first = module.StatefulDataLoader(stream, **options)
    done = [plain(batch) for _, batch in zip(range(5), first, strict=False)]
    again = stream_of(items)
    second = module.StatefulDataLoader(again, **options)
    second.load_state_dict(first.state_dict())
    again.set_epoch(1)
    assert done + [plain(batch) for batch in second] == expected


@pytest.mark.parametrize("taken", [1, 11, 40])
def test_torchdatas_loader_goes_on_with_a_stream(data: Dataset, taken: int) -> None:
    module = pytest.importorskip("torchdata.stateful_dataloader", reason="torchdata is not installed")

    def loader() -> Any:
        stream = IterableDataset(SampleDataset(data), shuffle=True, seed=2)
        return module.StatefulDataLoader(stream, batch_size=7, num_workers=2, collate_fn=collate)

    expected = [plain(batch) for batch in loader()]
    first = loader()
    batches = iter(first)
    done = [plain(next(batches)) for _ in range(taken)]
    state = first.state_dict()
    second = loader()
    second.load_state_dict(state)
    assert done + [plain(batch) for batch in second] == expected


def test_one_process_is_one_rank_unless_told(data: Dataset, tmp_path: Path) -> None:
    if not torch.distributed.is_available() or os.name != "posix":
        pytest.skip("no torch.distributed")
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        assert list(ShardedSampler(5)) == [0, 1, 2, 3, 4]
        assert list(ShardedSampler(5, rank=1, world_size=2)) == [1, 3, 0]
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize(
    "changes",
    [
        {"segment_sample": 10**6},
        {"segment_start": 149},
        {"segment_length": 0},
        {"document_segments": 0},
        {"instance_documents": 0},
    ],
)
def test_a_packing_that_does_not_fit_is_refused(
    data: Dataset, monkeypatch: pytest.MonkeyPatch, changes: dict[str, int]
) -> None:
    packing = data.pack(128)
    wrong = {name: np.full_like(getattr(packing, name), value) for name, value in changes.items()}
    monkeypatch.setattr(Dataset, "pack", lambda *_, **__: dataclasses.replace(packing, **wrong))
    with pytest.raises(FormatError, match=r"packing [0-9a-f]{64}"):
        PackedDataset(data, 128)
