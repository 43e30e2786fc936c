"""Output directories of open-instruct, written the slow and obvious way, and ways to damage them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Document = tuple[Sequence[int], Sequence[int]]
"""Token ids and labels (0 or 1) of one document, equally many."""

EOS = 9


def documents(count: int, seed: int = 0, longest: int = 30) -> list[Document]:
    """Distinct-looking documents that end in ``EOS`` and have it nowhere else; some tokens are trained on."""
    rng = np.random.default_rng(seed)
    made: list[Document] = []
    for _ in range(count):
        length = int(rng.integers(1, longest))
        tokens = [*rng.integers(10, 250, length - 1).tolist(), EOS]
        made.append((tokens, (rng.random(length) < 0.4).astype(int).tolist()))
    return made


def write_folder(
    folder: Path,
    made: Sequence[Document],
    *,
    part_items: int = 1 << 28,
    dtype: str = "<u4",
    statistics: bool | dict[str, Any] = True,
) -> Path:
    """Write documents as ``convert_sft_data_for_olmocore.py`` lays them out.

    Args:
        folder: Is made.
        made: The documents in output order.
        part_items: Tokens of a full part.
        dtype: Of the ids.
        statistics: False for none, True for the counts, or the document itself.
    """
    folder.mkdir(parents=True)
    ids = [token for tokens, _ in made for token in tokens]
    mask = [label for _, labels in made for label in labels]
    stops = np.cumsum([len(tokens) for tokens, _ in made]).tolist()
    bounds = list(zip([0, *stops], stops, strict=False))
    for part, lo in enumerate(range(0, len(ids), part_items)):
        hi = min(lo + part_items, len(ids))
        (folder / f"token_ids_part_{part:04d}.npy").write_bytes(np.array(ids[lo:hi], dtype).tobytes())
        (folder / f"labels_mask_part_{part:04d}.npy").write_bytes(bytes(mask[lo:hi]))
        lines = [f"{max(a, lo) - lo},{min(b, hi) - lo}\n" for a, b in bounds if a < hi and b > lo]
        write_bounds(folder, part, "".join(lines).encode())
    if statistics is not False:
        counts = {"total_instances": len(made), "total_tokens": len(ids), "trainable_tokens": sum(mask)}
        document = {"overall_statistics": counts} if statistics is True else statistics
        (folder / "dataset_statistics.json").write_text(json.dumps(document), encoding="utf-8")
    return folder


def write_bounds(folder: Path, part: int, text: bytes) -> None:
    """Write the boundaries of a part."""
    (folder / f"token_ids_part_{part:04d}.csv.gz").write_bytes(gzip.compress(text))


def set_byte(path: Path, at: int, value: int) -> None:
    """Change one byte of a file."""
    data = bytearray(path.read_bytes())
    data[at] = value
    path.write_bytes(data)


Damage = Callable[[Path], object]


def _statistics(**counts: Any) -> Damage:
    def damage(folder: Path) -> None:
        path = folder / "dataset_statistics.json"
        document = json.loads(path.read_bytes())
        document["overall_statistics"].update(counts)
        path.write_text(json.dumps(document))

    return damage


def _sparse(name: str, size: int) -> Damage:
    def damage(folder: Path) -> None:
        with (folder / name).open("r+b") as file:
            file.truncate(size)

    return damage


def _cut(name: str, count: int) -> Damage:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-count])


def _text(name: str, content: bytes) -> Damage:
    return lambda folder: (folder / name).write_bytes(content)


IDS, LABELS, BOUNDS = "token_ids_part_0001.npy", "labels_mask_part_0001.npy", "token_ids_part_0001.csv.gz"
COVER = "token_ids_part_0001.csv.gz, line {}: documents do not cover the 40 tokens without a gap"
LINES = "token_ids_part_0001.csv.gz does not hold lines of start,end"

DAMAGES: dict[str, tuple[Damage, str]] = {
    "missing middle part": (
        lambda f: [(f / name).unlink() for name in (IDS, LABELS, BOUNDS)],
        "token_ids_part_0001.npy is missing",
    ),
    "missing ids": (lambda f: (f / IDS).unlink(), "token_ids_part_0001.npy is missing"),
    "missing labels": (lambda f: (f / LABELS).unlink(), "labels_mask_part_0001.npy is missing"),
    "missing boundaries": (lambda f: (f / BOUNDS).unlink(), "token_ids_part_0001.csv.gz is missing"),
    "missing last part": (
        lambda f: [(f / name.replace("0001", "0002")).unlink() for name in (IDS, LABELS, BOUNDS)],
        "counts 10 documents, the boundaries list 8 in 2 parts",
    ),
    "missing first part": (
        lambda f: [(f / name.replace("0001", "0000")).unlink() for name in (IDS, LABELS, BOUNDS)],
        "token_ids_part_0000.npy is missing",
    ),
    "a part far beyond": (
        lambda f: (f / "token_ids_part_99999999999.npy").touch(),
        "token_ids_part_0003.npy is missing",
    ),
    "nothing": (
        lambda f: [path.unlink() for path in f.iterdir()],
        "holds no token_ids_part_0000.npy: it is no output directory of open-instruct",
    ),
    "ids too short": (_cut(IDS, 2), "token_ids_part_0001.npy has 158 bytes for the 40 labels of labels_mask_part_0001"),
    "ids empty": (_text(IDS, b""), "token_ids_part_0001.npy has 0 bytes for the 40 labels"),
    "labels too short": (_cut(LABELS, 1), "token_ids_part_0001.npy has 160 bytes for the 39 labels"),
    "labels empty": (_text(LABELS, b""), "token_ids_part_0001.npy has 160 bytes for the 0 labels"),
    "part of no tokens": (
        lambda f: [_text(IDS, b"")(f), _text(LABELS, b"")(f), write_bounds(f, 1, b"")],
        "documents do not cover the 0 tokens",
    ),
    "other width": (
        lambda f: _text(IDS, bytes(80))(f),
        "parts have ids of [2, 4] bytes: they are of different runs",
    ),
    "cut part": (
        lambda f: [_cut(IDS, 4)(f), _cut(LABELS, 1)(f), write_bounds(f, 1, b"0,39\n")],
        "part 1 has 39 tokens where part 0 has 40: a part is cut short or left over",
    ),
    "left-over part": (
        lambda f: [
            (f / IDS.replace("1", "3")).write_bytes(bytes(160)),
            (f / LABELS.replace("1", "3")).write_bytes(bytes(40)),
            write_bounds(f, 3, b"0,40\n"),
        ],
        "part 2 has 10 tokens where part 0 has 40: a part is cut short or left over",
    ),
    "larger last part": (
        lambda f: [
            (f / IDS.replace("1", "2")).write_bytes(bytes(164)),
            (f / LABELS.replace("1", "2")).write_bytes(bytes(41)),
            write_bounds(f, 2, b"0,41\n"),
        ],
        "part 2 has 41 tokens where part 0 has 40",
    ),
    "gap": (lambda f: write_bounds(f, 1, b"0,10\n11,40\n"), COVER.format(1)),
    "overlap": (lambda f: write_bounds(f, 1, b"0,10\n10,20\n19,40\n"), COVER.format(2)),
    "not from the start": (lambda f: write_bounds(f, 1, b"1,40\n"), COVER.format(1)),
    "not to the end": (lambda f: write_bounds(f, 1, b"0,39\n"), COVER.format(1)),
    "beyond the end": (lambda f: write_bounds(f, 1, b"0,20\n20,41\n"), COVER.format(2)),
    "empty document": (lambda f: write_bounds(f, 1, b"0,20\n20,20\n20,40\n"), COVER.format(2)),
    "backwards": (lambda f: write_bounds(f, 1, b"0,20\n40,20\n20,40\n"), COVER.format(1)),
    "no documents": (lambda f: write_bounds(f, 1, b""), COVER.format(1)),
    "garbage": (lambda f: write_bounds(f, 1, b"start,end\n0,40\n"), LINES),
    "negative": (lambda f: write_bounds(f, 1, b"-1,40\n"), LINES),
    "three columns": (lambda f: write_bounds(f, 1, b"0,40,40\n0,40,40\n"), LINES),
    "one column": (lambda f: write_bounds(f, 1, b"0\n40\n"), LINES),
    "holes": (lambda f: write_bounds(f, 1, b"0,\n,40\n"), LINES),
    "no last line end": (lambda f: write_bounds(f, 1, b"0,40"), LINES),
    "number too long": (lambda f: write_bounds(f, 1, b"0," + b"9" * 30 + b"\n"), LINES),
    "too many lines": (
        lambda f: write_bounds(f, 1, b"0,1\n" * 1_000_000),
        "token_ids_part_0001.csv.gz lists more documents than the part has tokens",
    ),
    "not gzip": (_text(BOUNDS, b"0,40\n"), "token_ids_part_0001.csv.gz: Not a gzipped file"),
    "truncated gzip": (_cut(BOUNDS, 9), "token_ids_part_0001.csv.gz: Compressed file ended before"),
    "gzip with a wrong checksum": (
        lambda f: set_byte(f / BOUNDS, len((f / BOUNDS).read_bytes()) - 8, 0x77),
        "token_ids_part_0001.csv.gz: CRC check failed",
    ),
    "damaged gzip": (lambda f: set_byte(f / BOUNDS, 12, 0xFF), "token_ids_part_0001.csv.gz: "),
    "a folder in place of a part": (
        lambda f: [(f / LABELS).unlink(), (f / LABELS).mkdir()],
        "labels_mask_part_0001.npy: is a directory",
    ),
    "unfinished": (
        _text("_tokens.partial.bin", b""),
        "holds _tokens.partial.bin: the run that writes it is not finished",
    ),
    "statistics of more documents": (_statistics(total_instances=99), "counts 99 documents, the boundaries list 11 in"),
    "statistics of fewer documents": (_statistics(total_instances=5), "counts 5 documents, the boundaries list 11 in"),
    "statistics of more tokens": (_statistics(total_tokens=91), "says total_tokens 91, the files hold 90"),
    "statistics no JSON": (
        _text("dataset_statistics.json", b'{"a": '),
        "dataset_statistics.json is not JSON: Expecting value: line 1 column 7 (char 6)",
    ),
    "statistics no text": (_text("dataset_statistics.json", b"\xff\xff"), "dataset_statistics.json is not JSON: "),
    "statistics no object": (_text("dataset_statistics.json", b"[]"), "dataset_statistics.json is not a JSON object"),
    "statistics without a bottom": (
        _text("dataset_statistics.json", b"[" * 100_000),
        "dataset_statistics.json is not JSON: ",
    ),
    "statistics of a gigabyte": (
        _sparse("dataset_statistics.json", 1 << 30),
        "dataset_statistics.json is larger than 67108864 bytes",
    ),
}
"""What may be wrong with the folder of :func:`damaged_folder`, and what is said of it."""


def damaged_folder(folder: Path, name: str) -> str:
    """Write a folder of three parts of 40, 40 and 10 tokens and damage it; returns what should be said."""
    lengths = [10, 15, 10, 15, 10, 10, 10, 5, 3, 2]  # the fourth crosses into part 1; the seventh fills it up
    made: list[Document] = [([*range(10, 9 + length), EOS], [0] * (length - 1) + [1]) for length in lengths]
    write_folder(folder, made, part_items=40)
    damage, said = DAMAGES[name]
    damage(folder)
    return said
