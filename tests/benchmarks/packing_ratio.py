"""CPU of packing a million documents, as a share of what OLMo-core's ``prepare()`` takes for the same export.

::

    python -m tests.benchmarks.packing_ratio [DOCUMENTS]

Needs ``ai2-olmo-core`` and ``torch``. Lengths are drawn log-normally; every document ends with EOS. User seconds of
this process and of its children, both in one run.
"""

from __future__ import annotations

import gzip
import resource
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from castore.repository import Origin, Repository
from castore.train.instances import packing_rule

SEQUENCE_LENGTH = 4096
EOS, PAD, VOCABULARY = 0, 1, 50_000


def make(folder: Path, documents: int) -> None:
    """One part in the OLMo-core layout, as open-instruct writes it."""
    rng = np.random.default_rng(1)
    lengths = np.clip(rng.lognormal(4.6, 0.9, documents).astype(np.int64), 2, 8192)
    stops = np.cumsum(lengths)
    ids = rng.integers(2, VOCABULARY, int(stops[-1]), np.uint16)
    ids[stops - 1] = EOS
    folder.mkdir()
    ids.tofile(folder / "token_ids_part_0000.npy")
    np.ones(len(ids), np.uint8).tofile(folder / "labels_mask_part_0000.npy")
    with gzip.open(folder / "token_ids_part_0000.csv.gz", "wt", compresslevel=1) as file:
        starts = stops - lengths
        file.write("".join(f"{a},{b}\n" for a, b in zip(starts.tolist(), stops.tolist(), strict=True)))


def seconds(what: Callable[[], Any]) -> tuple[float, Any]:
    """User seconds that a call takes, with those of its children."""
    before = _used()
    found = what()
    return _used() - before, found


def _used() -> float:
    return sum(resource.getrusage(who).ru_utime for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def main() -> None:
    documents = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder / "export", documents)
        repository = Repository.open(str(folder / "repository"), create=True)
        repository.import_folder(str(folder / "export"), "x", Origin("benchmark", "here", 0))
        data = Repository.open(str(folder / "repository"))["x"]
        found = {}
        for mode in ("documents", "olmo-core"):
            rule = packing_rule(data, SEQUENCE_LENGTH, mode, eos=EOS)
            found[mode] = seconds(lambda rule=rule: repository.pack(data, rule))
        theirs = seconds(lambda: prepared(folder))
    count = len(theirs[1])
    print(f"{documents:,} documents, {data.manifest.tokens:,} tokens, instances of {SEQUENCE_LENGTH}")
    print(f"OLMo-core prepare()       {theirs[0]:7.2f} s  {count} instances")
    for mode, (cost, packing) in found.items():
        print(f"castore {mode:<12}      {cost:7.2f} s  {len(packing)} instances  ratio {cost / theirs[0]:.3f}")


def prepared(folder: Path) -> Any:
    """OLMo-core's dataset over the export, packed."""
    from olmo_core.data.numpy_dataset import NumpyPackedFSLDataset

    dataset = NumpyPackedFSLDataset(
        folder / "export" / "token_ids_part_0000.npy",
        sequence_length=SEQUENCE_LENGTH,
        pad_token_id=PAD,
        eos_token_id=EOS,
        vocab_size=VOCABULARY,
        dtype=np.uint16,
        label_mask_paths=[folder / "export" / "labels_mask_part_0000.npy"],
    )
    dataset.work_dir = folder / "work"
    dataset.prepare()
    return dataset


if __name__ == "__main__":
    main()
