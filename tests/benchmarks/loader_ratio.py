"""Samples a second of a PyTorch loader over a repository, as a share of one over ``np.memmap`` of its export.

::

    python -m tests.benchmarks.loader_ratio REPOSITORY NAME [--sequence-length N]

Both: 2 workers, batches of 32, random order, the same collator; a few epochs in turn, so that a change of pace of the
machine hits both. The first epoch of castore decodes the chunks and is shown apart. With ``--sequence-length`` both
read packed instances, the memmap one by the packing of castore. Needs ``torch``.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import castore
from castore.export.olmo_core import export_olmo_core
from castore.format.samples import offsets_of
from castore.olmo.layout import id_bytes
from castore.read.columns import vocab_size_of
from castore.torch import DataLoader, PackedDataset, SampleDataset

EPOCHS = 4


class Memmap(torch.utils.data.Dataset[Any]):
    """An export of one part as people read it: slices of two mapped files."""

    def __init__(self, folder: Path, width: int, offsets: Any) -> None:
        self._ids = np.memmap(folder / "token_ids_part_0000.npy", f"<u{width}", mode="r")
        self._mask = np.memmap(folder / "labels_mask_part_0000.npy", np.bool_, mode="r")
        self._offsets = offsets
        self.name, self.pad_token_id = "memmap", 0

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, at: int) -> Any:
        lo, hi = self._offsets[at], self._offsets[at + 1]
        return {
            "input_ids": torch.from_numpy(self._ids[lo:hi].astype(np.int64)),
            "label_mask": torch.from_numpy(self._mask[lo:hi].copy()),
            "index": at,
        }


class PackedMemmap(Memmap):
    """Instances of an export that stands in stored order, by a packing."""

    def __init__(self, folder: Path, width: int, offsets: Any, packing: Any) -> None:
        super().__init__(folder, width, offsets)
        self._packing = packing
        self._segments = offsets_of(packing.instance_documents)

    def __len__(self) -> int:
        return len(self._packing)

    def __getitem__(self, at: int) -> Any:
        packing = self._packing
        ids, mask = np.zeros(packing.sequence_length, np.int64), np.zeros(packing.sequence_length, np.bool_)
        done, lens = 0, []
        for segment in range(self._segments[at], self._segments[at + 1]):
            length = int(packing.segment_length[segment])
            lo = self._offsets[packing.segment_sample[segment]] + packing.segment_start[segment]
            ids[done : done + length] = self._ids[lo : lo + length]
            mask[done : done + length] = self._mask[lo : lo + length]
            lens.append(length)
            done += length
        doc_lens = torch.tensor(lens, dtype=torch.int32)
        return {
            "input_ids": torch.from_numpy(ids),
            "label_mask": torch.from_numpy(mask),
            "doc_lens": doc_lens,
            "index": at,
        }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("repository")
    parser.add_argument("name")
    parser.add_argument("--sequence-length", type=int)
    options = parser.parse_args()
    data = castore.open(options.repository)[options.name]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        export_olmo_core(data, str(folder / "export"))
        width = id_bytes(vocab_size_of(data))
        lengths = data.reader.lengths()
        theirs: Any
        ours: Any
        if options.sequence_length:
            ours = PackedDataset(data, options.sequence_length)
            place = np.empty(len(data), np.int64)
            place[data.positions] = offsets_of(lengths[data.positions])[:-1]
            theirs = PackedMemmap(folder / "export", width, place, ours.instances)
        else:
            ours, theirs = SampleDataset(data), Memmap(folder / "export", width, offsets_of(lengths[data.positions]))
        batch = 4 if options.sequence_length else 32
        loaders = {
            kind: DataLoader(items, batch, shuffle=True, num_workers=2)
            for kind, items in {"castore": ours, "memmap": theirs}.items()
        }
        rates: dict[str, list[float]] = {kind: [] for kind in loaders}
        for _ in range(EPOCHS):
            for kind, loader in loaders.items():
                began = time.perf_counter()
                items = sum(len(found["index"]) for found in loader)
                rates[kind].append(items / (time.perf_counter() - began))
    print(f"first epoch: castore {rates['castore'][0]:,.0f}, memmap {rates['memmap'][0]:,.0f} items/s")
    best = {kind: max(found[1:]) for kind, found in rates.items()}
    ratio = best["castore"] / best["memmap"]
    print(f"after it:    castore {best['castore']:,.0f}, memmap {best['memmap']:,.0f} items/s, ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
