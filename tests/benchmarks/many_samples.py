"""Datasets of very many short samples, and what comparing them costs.

    python tests/benchmarks/many_samples.py FOLDER [--samples 10000000]

Made in FOLDER/repository, if it is not there: ``base`` and from it ``one`` (one token of one sample changed),
``scattered`` (1,000 samples changed, one token each), ``moved`` (a tenth of the samples moved as a block), ``all`` (a
token inserted into every sample). Then each is compared with ``base`` in a process of its own: objects read, CPU
seconds with start-up, peak memory, and the line that says what was found, which is checked.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from castore.format.manifest import Manifest, SplitRule
from castore.format.order import Order
from castore.format.run import Run, RunConfiguration
from castore.format.samples import Piece, Samples, SpanColumn, sample_keys
from castore.format.schema import DATA_ARRAYS
from castore.repository import Repository
from castore.store.objects import ObjectStore
from castore.tree.build import SequenceBuilder
from castore.tree.split import CHUNK_BYTES, FANOUT, RULE_NAME

BATCH = 50_000
CHANGES = 1000
SEED = 42

Batch = tuple[np.ndarray, np.ndarray]
"""Token ids uint32[m] and lengths uint32[n]."""


def batch(number: int, count: int) -> Batch:
    """Samples of 4 to 12 tokens, the same for the same number."""
    rng = np.random.default_rng([7, number])
    lengths = rng.integers(4, 13, count).astype(np.uint32)
    return rng.integers(0, 100_000, int(lengths.sum())).astype(np.uint32), lengths


def piece(ids: np.ndarray, lengths: np.ndarray, keys: np.ndarray | None = None) -> Piece:
    """A piece for a builder: the second half of every sample is trained on."""
    half = lengths // 2
    samples = Samples(
        lengths, {"token_ids": ids, "labels_mask": SpanColumn(np.ones(len(lengths), np.uint32), half, lengths)}
    )
    keys = sample_keys(ids, lengths) if keys is None else keys
    return Piece(lengths, keys, {"source": np.zeros(len(lengths), np.uint32)}, lambda: samples)


def changed(ids: np.ndarray, lengths: np.ndarray, keys: np.ndarray, samples: np.ndarray) -> Piece:
    """A batch with another second token in the given samples."""
    if len(samples) == 0:
        return piece(ids, lengths, keys)
    ids, keys = ids.copy(), keys.copy()
    starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    for sample in samples.tolist():
        lo, hi = int(starts[sample]), int(starts[sample + 1])
        ids[lo + 1] ^= 1
        keys[sample] = sample_keys(ids[lo:hi], lengths[sample : sample + 1])[0]
    return piece(ids, lengths, keys)


def grown(ids: np.ndarray, lengths: np.ndarray) -> Piece:
    """A batch with a token inserted after the first of every sample."""
    starts = np.concatenate([[0], np.cumsum(lengths[:-1], dtype=np.int64)])
    return piece(np.insert(ids, starts + 1, 100_001), (lengths + 1).astype(np.uint32))


class Target:
    """A dataset that grows piece by piece."""

    def __init__(self, store: ObjectStore) -> None:
        self._store, self._builder, self._count = store, SequenceBuilder(DATA_ARRAYS), 0

    def add(self, one: Piece) -> None:
        self._count += len(one.lengths)
        for made in self._builder.add(one):
            self._store.put(made.digest, made.data)

    def finish(self) -> bytes:
        roots, rest = self._builder.finish()
        order = Order.shuffled(SEED, self._count)
        arrays = {array.name: (array, roots[array.name]) for array in DATA_ARRAYS}
        manifest = Manifest(self._count, arrays, SplitRule(RULE_NAME, CHUNK_BYTES, FANOUT), order).encode()
        run = Run(manifest.digest, self._count, configuration=RunConfiguration(vocab_size=100_278)).encode()
        for made in (*rest, manifest, run):
            self._store.put(made.digest, made.data)
        return run.digest


def within(samples: np.ndarray, lo: int, count: int) -> np.ndarray:
    """The samples that are in a batch, counted in it."""
    return samples[(samples >= lo) & (samples < lo + count)] - lo


def chosen(total: int) -> np.ndarray:
    """Samples that are changed in ``scattered``, ascending."""
    return np.sort(np.random.default_rng(3).choice(total, min(CHANGES, total // 10), replace=False))


def make(store: ObjectStore, total: int) -> Iterator[tuple[str, bytes]]:
    """Build all datasets; gives name and run record of each."""
    batches = [(number, min(BATCH, total - number * BATCH)) for number in range(-(-total // BATCH))]
    targets = {name: Target(store) for name in ("base", "one", "scattered", "all")}
    picked, middle = chosen(total), total // 2
    for number, count in batches:
        ids, lengths = batch(number, count)
        keys = sample_keys(ids, lengths)
        lo = number * BATCH
        targets["base"].add(piece(ids, lengths, keys))
        targets["one"].add(changed(ids, lengths, keys, within(np.array([middle]), lo, count)))
        targets["scattered"].add(changed(ids, lengths, keys, within(picked, lo, count)))
        targets["all"].add(grown(ids, lengths))
    yield from ((name, target.finish()) for name, target in targets.items())
    moved = Target(store)
    fifth = len(batches) // 5
    block = batches[fifth : fifth + max(len(batches) // 10, 1)]
    rest = [one for one in batches if one not in block]
    for number, count in [*rest[: len(rest) // 2], *block, *rest[len(rest) // 2 :]]:
        moved.add(piece(*batch(number, count)))
    yield "moved", moved.finish()


def prepare(folder: Path, total: int) -> None:
    """Make the repository."""
    repository = Repository.open(str(folder / "repository"), create=True)
    for name, digest in make(repository.objects, total):
        repository.objects.flush()
        repository.refs.compare_and_set(name, None, digest, time_s=0, author="benchmark", message="")


def measure(repository: Path, a: str, b: str, *options: str) -> tuple[float, int, str]:
    """CPU seconds, peak memory in bytes, and the output of a comparison in a process of its own."""
    castore = str(Path(sys.executable).with_name("castore"))
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(write_end, 1)
        os.close(read_end)
        os.execv(castore, [castore, "--repo", str(repository), "diff", a, b, *options])
    os.close(write_end)
    with os.fdopen(read_end) as file:
        text = file.read()
    _, status, used = os.wait4(child, 0)
    if os.waitstatus_to_exitcode(status) not in (0, 1):
        sys.exit(f"diff {a} {b} failed")
    return used.ru_utime + used.ru_stime, used.ru_maxrss * 1024, text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--samples", type=int, default=10_000_000)
    arguments = parser.parse_args()
    repository = arguments.folder / "repository"
    if not repository.exists():
        start = time.monotonic()
        prepare(arguments.folder, arguments.samples)
        usage = resource.getrusage(resource.RUSAGE_SELF)
        print(f"made in {time.monotonic() - start:.0f} s, {usage.ru_utime + usage.ru_stime:.0f} CPU s", flush=True)
    for name in ("base", "one", "scattered", "moved", "all"):
        cpu, memory, text = measure(repository, "base", name)
        found = json.loads(measure(repository, "base", name, "--json")[2])
        reads = found["reads"]
        print(f"{name:10} {cpu:6.2f} CPU s {memory / 2**20:6.0f} MiB {reads['objects']:6,} objects read", flush=True)
        print(f"{'':10} {text.splitlines()[0]}", flush=True)
        if name == "one":
            middle = arguments.samples // 2
            assert [h["a"] for h in found["hunks"]] == [[middle, middle + 1]], "not the sample that was changed"
            assert reads["objects"] <= 48, "reads too many objects"
        if name == "scattered":
            at = [i for h in found["hunks"] for i in range(*h["a"])]
            assert at == chosen(arguments.samples).tolist(), "not the samples that were changed"
            assert all(h["op"] == "replace" and h["a"] == h["b"] for h in found["hunks"])


if __name__ == "__main__":
    main()
