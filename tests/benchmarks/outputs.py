"""Output directories of any size made of real text, and the seven ways in which a second run differs from a first.

    python tests/benchmarks/outputs.py REAL_OUTPUT FOLDER --tokens 285000000

REAL_OUTPUT is any output directory (of ``castore export``, say). A document is some of its documents joined, so that
text and labels are real and hardly two documents are equal. Written to FOLDER:

====  ======================================================
v1    the first run, shuffled with seed 42
v2    one token changed
v3    one document grown by three tokens
v4    the labels of 500 documents changed
v5    one document removed
v6    the same documents in another order: shuffled with seed 43
v7    a re-run: timestamp, folder and time stamps in gzip headers differ
====  ======================================================
"""

from __future__ import annotations

import argparse
import gzip
import json
from pathlib import Path

import numpy as np

MEAN_TOKENS = 783
"""Mean length of a document: 364,000 of them in 1.4 GB, as in a large mix."""

PART_TOKENS = (1 << 30) // 4


def write(folder: Path, ids: np.ndarray, labels: np.ndarray, lengths: np.ndarray, *, stamp: int = 1) -> None:
    """Write an output directory as open-instruct lays it out."""
    folder.mkdir(parents=True)
    edges = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    for part, base in enumerate(range(0, len(ids), PART_TOKENS)):
        stop = min(base + PART_TOKENS, len(ids))
        ids[base:stop].astype("<u4").tofile(folder / f"token_ids_part_{part:04d}.npy")
        labels[base:stop].tofile(folder / f"labels_mask_part_{part:04d}.npy")
        starts, stops = np.maximum(edges[:-1], base) - base, np.minimum(edges[1:], stop) - base
        inside = starts < stops
        pairs = zip(starts[inside].tolist(), stops[inside].tolist(), strict=True)
        text = "".join(f"{a},{b}\n" for a, b in pairs).encode()
        path = folder / f"token_ids_part_{part:04d}.csv.gz"
        with path.open("wb") as raw, gzip.GzipFile("boundaries", "wb", fileobj=raw, mtime=stamp) as file:
            file.write(text)
    trainable = int(labels.sum(dtype=np.int64))
    dataset = {
        "dataset_name": "generated.jsonl",
        "dataset_split": "train",
        "initial_instances": len(lengths),
        "instances_after_transformation": len(lengths),
        "instances_filtered_during_transformation": 0,
        "frac_or_num_samples": 1.0,
        "original_dataset_size": len(lengths),
        "final_instances_in_output": len(lengths),
        "final_tokens_in_output": len(ids),
        "final_trainable_tokens_in_output": trainable,
    }
    statistics = {
        "timestamp": f"2026-01-01 00:00:{stamp:02d}",
        "output_directory": str(folder),
        "configuration": {"tokenizer": "real", "max_sequence_length": None, "chat_template": "real"},
        "per_dataset_statistics": [dataset],
        "overall_statistics": {
            "total_datasets": 1,
            "total_instances": len(lengths),
            "total_tokens": len(ids),
            "trainable_tokens": trainable,
        },
    }
    (folder / "dataset_statistics.json").write_text(json.dumps(statistics, indent=2))


def read(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens, labels and lengths of an output directory of one part."""
    ids = np.fromfile(folder / "token_ids_part_0000.npy", "<u4")
    labels = np.fromfile(folder / "labels_mask_part_0000.npy", np.uint8)
    with gzip.open(folder / "token_ids_part_0000.csv.gz", "rt") as file:
        bounds = np.loadtxt(file, delimiter=",", dtype=np.int64, ndmin=2)
    return ids, labels, bounds[:, 1] - bounds[:, 0]


def generate(
    folder: Path, tokens: int, seed: int, *, last_only: bool = False, mean_tokens: int = MEAN_TOKENS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Documents in source order, each some whole real ones joined in an order that no other has.

    A document has about ``mean_tokens``. With ``last_only`` the labels of the last real one of each count, and those of
    the others are 0.
    """
    ids, labels, lengths = read(folder)
    rng = np.random.default_rng(seed)
    edges = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    rounds = int(np.ceil(tokens / len(ids)))
    picked = np.concatenate([rng.permutation(len(lengths)) for _ in range(rounds)])
    picked = picked[: int(np.searchsorted(np.cumsum(lengths[picked]), tokens)) + 1]
    joined = 2 * mean_tokens / lengths.mean() - 1  # from one to so many, evenly
    sizes = rng.integers(1, max(round(joined), 1) + 1, len(picked))
    starts = np.concatenate([[0], np.cumsum(sizes)])
    starts = starts[starts < len(picked)]
    bounds = [(int(edges[i]), int(edges[i + 1])) for i in picked]
    made = np.add.reduceat(lengths[picked], starts)
    joined_ids, joined_labels = (np.concatenate([column[a:b] for a, b in bounds]) for column in (ids, labels))
    if last_only:
        is_last = np.zeros(len(picked), bool)
        is_last[np.append(starts[1:], len(picked)) - 1] = True
        joined_labels[~np.repeat(is_last, lengths[picked])] = 0
    return joined_ids, joined_labels, made


def shuffled(ids: np.ndarray, labels: np.ndarray, lengths: np.ndarray, seed: int) -> tuple[np.ndarray, ...]:
    """The documents in the order of a seed."""
    order = np.random.default_rng(seed).permutation(len(lengths))
    edges = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    bounds = [(int(edges[i]), int(edges[i + 1])) for i in order]
    return (
        np.concatenate([ids[a:b] for a, b in bounds]),
        np.concatenate([labels[a:b] for a, b in bounds]),
        lengths[order],
    )


def write_variants(folder: Path, ids: np.ndarray, labels: np.ndarray, lengths: np.ndarray, only: str) -> None:
    """Write v1 to v7; ``ids`` and so on are in source order."""
    base = shuffled(ids, labels, lengths, 42)
    edges = np.concatenate([[0], np.cumsum(base[2], dtype=np.int64)])
    middle = len(base[2]) // 2
    at = int(edges[middle]) + 3
    if "1" in only:
        write(folder / "v1", *base)
    if "2" in only:
        changed = base[0].copy()
        changed[at] = (int(changed[at]) + 1) % 50_000
        write(folder / "v2", changed, base[1], base[2])
    if "3" in only:
        grown = base[2].copy()
        grown[middle] += 3
        write(folder / "v3", np.insert(base[0], at, [1, 2, 3]), np.insert(base[1], at, [0, 0, 0]), grown)
    if "4" in only:
        mask = base[1].copy()
        chosen = np.random.default_rng(4).choice(len(base[2]), min(500, len(base[2])), replace=False)
        for document in chosen.tolist():
            mask[edges[document] : edges[document + 1]] ^= 1
        write(folder / "v4", base[0], mask, base[2])
    if "5" in only:
        gone = slice(int(edges[middle]), int(edges[middle + 1]))
        write(folder / "v5", np.delete(base[0], gone), np.delete(base[1], gone), np.delete(base[2], middle))
    if "6" in only:
        write(folder / "v6", *shuffled(ids, labels, lengths, 43))
    if "7" in only:
        write(folder / "v7", *base, stamp=7)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("real", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tokens", type=int, default=285_000_000)
    parser.add_argument("--only", default="1234567", help="variants to write")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--last-only", action="store_true", help="train on the last real document of each alone")
    arguments = parser.parse_args()
    made = generate(arguments.real, arguments.tokens, arguments.seed, last_only=arguments.last_only)
    write_variants(arguments.folder, *made, arguments.only)


if __name__ == "__main__":
    main()
