"""A reader of repositories that knows nothing of castore: written from ``docs/format/`` alone.

Run as ``python -I bare_reader.py FOLDER REF``; prints everything that the ref names as JSON. Imports blake3,
msgpack and zstandard, and of castore nothing. Whatever is not as the specification says ends it with an error.
"""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path
from typing import Any

import msgpack
import zstandard
from blake3 import blake3

WIDTHS = {"uint8": 1, "uint16": 2, "uint32": 4, "uint64": 8, "int64": 8, "float32": 4, "float64": 8, "bytes16": 16}
AS_BYTES = ("bytes16", "float32", "float64")
KNOWN = ("token_ids", "labels_mask", "length", "key", "source")


class Repository:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        assert (folder / "format").read_bytes() == b"castore repository, format 1\n"
        self.seen: set[bytes] = set()

    def object(self, digest: bytes) -> Any:
        name = digest.hex()
        data = unpack((self.folder / "objects" / name[:2] / name).read_bytes())
        assert blake3(data).digest() == digest, name
        value = msgpack.unpackb(data, raw=False)
        assert msgpack.packb(value, use_bin_type=True) == data, "sorted maps come back as they were"
        self.seen.add(digest)
        return value

    def ref(self, name: str) -> bytes:
        folder = self.folder / "refs" / name
        entries = sorted(path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
        assert entries == [f"{i:020d}" for i in range(len(entries))]
        stored = (folder / entries[-1]).read_bytes()
        payload, checksum = stored[:-32], stored[-32:]
        assert blake3(payload).digest() == checksum
        kind, version, named, sequence, target, _time, _author, _message, nonce = msgpack.unpackb(payload, raw=False)
        assert (kind, version, named, sequence, len(nonce)) == ("castore/ref", 1, name, len(entries) - 1, 16)
        return target


def unpack(frame: bytes) -> bytes:
    codec, body = frame[0], frame[1:]
    if codec == 0:
        return body
    if codec == 1:
        return zstandard.ZstdDecompressor().decompress(body)
    if codec == 3:
        return short(body)
    assert codec == 2
    high, prefix, count = struct.unpack_from("<BII", body)
    planes = zstandard.ZstdDecompressor().decompress(body[9:])
    lows = struct.unpack_from(f"<{count}H", planes, prefix)
    rest = planes[prefix + 2 * count :]
    if high == 0:
        highs = (0,) * count
    elif high == 1:
        highs = tuple(rest[i // 8] >> i % 8 & 1 for i in range(count))
    else:
        assert high == 16
        highs = struct.unpack(f"<{count}H", rest)
    numbers = [low | high << 16 for low, high in zip(lows, highs, strict=True)]
    return planes[:prefix] + struct.pack(f"<{count}I", *numbers)


def short(body: bytes) -> bytes:
    prefix, count = struct.unpack_from("<II", body)
    streams = zstandard.ZstdDecompressor().decompress(body[8:])
    first = streams[prefix : prefix + count]
    large = sum(byte >= 224 for byte in first)
    second = iter(streams[prefix + count : prefix + count + large])
    rest = iter(streams[prefix + count + large :])
    numbers = []
    for byte in first:
        if byte < 224:
            numbers.append(byte)
        elif byte < 255:
            numbers.append((byte - 224) << 8 | next(second))
        else:
            numbers.append(int.from_bytes([next(second), next(rest), next(rest), next(rest)], "little"))
    assert next(second, None) is next(rest, None) is None
    return streams[:prefix] + struct.pack(f"<{count}I", *numbers)


def chunks(repository: Repository, array: dict[str, Any]) -> list[tuple[Any, int, int]]:
    """The chunks below an array's root in order, each with the samples and elements its parent states."""
    level = array["level"]
    entries = split(array["digests"], array["samples"], array["items"])
    while level > array["grain"]:
        below = []
        for digest, samples, items in entries:
            kind, found, digests, sample_counts, item_counts = repository.object(digest)
            assert (kind, found) == ("castore/node", level)
            assert (sum(sample_counts), sum(item_counts)) == (samples, items)
            below += split(digests, sample_counts, item_counts)
        entries, level = below, level - 1
    return [(repository.object(digest), samples, items) for digest, samples, items in entries]


def split(digests: bytes, samples: list[int], items: list[int]) -> list[tuple[bytes, int, int]]:
    assert len(digests) == 32 * len(samples) == 32 * len(items)
    return [(digests[32 * i : 32 * i + 32], samples[i], items[i]) for i in range(len(samples))]


def elements(repository: Repository, array: dict[str, Any]) -> list[Any]:
    """All elements of an array that is not boolean."""
    out: list[Any] = []
    for (kind, dtype, count, payload), samples, items in chunks(repository, array):
        width = WIDTHS[dtype]
        assert (kind, dtype, count, len(payload)) == ("castore/values", array["dtype"], samples, items * width)
        parts = [payload[i : i + width] for i in range(0, len(payload), width)]
        out += parts if dtype in AS_BYTES else [int.from_bytes(part, "little") for part in parts]
    return out


def masks(repository: Repository, array: dict[str, Any]) -> list[list[list[int]]]:
    """The spans of every sample."""
    out = []
    for (kind, count, payload), samples, _ in chunks(repository, array):
        assert (kind, count) == ("castore/spans", samples)
        words = list(struct.unpack(f"<{len(payload) // 4}I", payload))
        spans = (len(words) - count) // 2
        counts, gaps, widths = words[:count], words[count : count + spans], words[count + spans :]
        assert sum(counts) == len(gaps) == len(widths)
        for sample in counts:
            at, row = 0, []
            for _ in range(sample):
                start = at + gaps.pop(0)
                at = start + widths.pop(0)
                row.append([start, at])
            out.append(row)
    return out


def order(repository: Repository, value: dict[str, Any] | None, samples: int) -> dict[str, Any] | None:
    """The order's map without its digests, and the permutation if it is stored."""
    if value is None:
        return None
    stored = None
    if value["algorithm"] == "explicit":
        stored = []
        for at in range(0, len(value["chunks"]), 32):
            kind, dtype, count, payload = repository.object(value["chunks"][at : at + 32])
            assert (kind, dtype, 4 * count) == ("castore/values", "uint32", len(payload))
            stored += struct.unpack(f"<{count}I", payload)
        assert sorted(stored) == list(range(samples))
        assert blake3(struct.pack(f"<{samples}Q", *stored)).digest() == value["digest"]
    else:
        assert value["chunks"] == b""
    assert value["count"] == samples >= value["take"]
    return {"algorithm": value["algorithm"], "seed": value["seed"], "take": value["take"], "stored": stored}


COUNT, TEXT = range(1 << 63), str

SOURCE_ENTRIES = {
    "amount": TEXT,
    "digest": bytes,
    "dropped": dict,
    "name": TEXT,
    "revision": TEXT,
    "rows": COUNT,
    "samples": COUNT,
    "selected": COUNT,
    "split": TEXT,
    "tokens": COUNT,
    "trainable": COUNT,
}
CONFIGURATION_ENTRIES = {
    "chat_template": TEXT,
    "imported": TEXT,
    "max_seq_length": COUNT,
    "mix_seed": COUNT,
    "num_examples": COUNT,
    "shuffle_seed": COUNT,
    "tokenizer": TEXT,
    "vocab_size": range(1, (1 << 63) + 1),
}
STATISTICS_ENTRIES = {"dropped": dict, "lost": {"": dict}, "samples": COUNT, "tokens": COUNT, "trainable": COUNT}
ORIGIN_ENTRIES = {"author": TEXT, "castore": TEXT, "host": TEXT, "message": TEXT, "time": COUNT}


def check_run(run: dict[str, Any]) -> None:
    """That the maps of a run record have the entries that its page lists, of the types that it lists."""
    check_entries(run["configuration"], CONFIGURATION_ENTRIES, set(CONFIGURATION_ENTRIES))
    for source in run["sources"]:
        check_entries(source, SOURCE_ENTRIES, set(SOURCE_ENTRIES) - {"dropped", "name"})
        assert source["name"]
    if run["statistics"] is not None:
        check_entries(run["statistics"], STATISTICS_ENTRIES, set())
    if run["origin"] is not None:
        check_entries(run["origin"], ORIGIN_ENTRIES, set())


def check_entries(value: dict[str, Any], kinds: dict[str, Any], may_be_nil: set[str]) -> None:
    """That a map has exactly these entries; a range stands for the integers in it, a map for maps of its one type."""
    assert value.keys() == kinds.keys()
    for name, kind in kinds.items():
        entry = value[name]
        if entry is None:
            assert name in may_be_nil
        elif isinstance(kind, range):
            assert type(entry) is int
            assert entry in kind
        elif isinstance(kind, dict):
            assert type(entry) is dict
            check_entries(entry, dict.fromkeys(entry, kind[""]), set())
        else:
            assert type(entry) is kind
            assert kind is not dict or all(type(count) is int and count >= 0 for count in entry.values())


def read(folder: Path, name: str) -> dict[str, Any]:
    """Everything that a ref names."""
    repository = Repository(folder)
    run_digest = repository.ref(name)
    run = repository.object(run_digest)
    assert (run["kind"], run["format"]) == ("castore/run", 1)
    check_run(run)
    manifest = repository.object(run["manifest"])
    assert (manifest["kind"], manifest["format"], manifest["hash"]) == ("castore/manifest", 1, "blake3-256")
    arrays = manifest["arrays"]
    columns = {key: elements(repository, value) for key, value in arrays.items() if value["dtype"] != "bool"}
    columns |= {key: elements(repository, value) for key, value in run["provenance"].items()}
    spans = masks(repository, arrays["labels_mask"])
    rows, at = [], 0
    for length, key in zip(columns["length"], columns["key"], strict=True):
        ids = columns["token_ids"][at : at + length]
        at += length
        assert blake3(struct.pack(f"<{length}I", *ids)).digest(length=16) == key
        rows.append(ids)
    assert at == len(columns["token_ids"])
    assert len(rows) == manifest["samples"] == run["samples"]
    return {
        "root": run["manifest"].hex(),
        "run": run_digest.hex(),
        "token_ids": rows,
        "spans": spans,
        "length": columns["length"],
        "key": [key.hex() for key in columns["key"]],
        "source": columns["source"],
        "row": columns.get("row"),
        "raw_key": [key.hex() for key in columns.get("raw_key", [])],
        "extra": {
            key: [one.hex() for one in columns[key]] if arrays[key]["dtype"] in AS_BYTES else columns[key]
            for key in arrays
            if key not in KNOWN
        },
        "order": order(repository, manifest["order"], len(rows)),
        "split": manifest["split"],
        "files": {key: repository.object(value)[1].hex() for key, value in run["files"].items()},
        "configuration": run["configuration"],
        "origin": run["origin"],
        "sources": [{**source, "digest": (source["digest"] or b"").hex()} for source in run["sources"]],
        "statistics": run["statistics"],
        "objects": sorted(digest.hex() for digest in repository.seen),
        "castore": sorted(module for module in sys.modules if module.split(".")[0] == "castore"),
    }


if __name__ == "__main__":
    print(json.dumps(read(Path(sys.argv[1]), sys.argv[2])))
