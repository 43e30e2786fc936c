"""A reader of repositories that knows nothing of castore: written from the reader's part of ``docs/format/`` alone.

Run as ``python -I bare_reader.py FOLDER REF``; prints everything that the ref names as JSON. Imports blake3, msgpack
and zstandard, and of castore nothing. What is not as the specification says ends it with ``RefusedError``, which has
the name of the error by the table in ``docs/format/errors.md``.
"""

from __future__ import annotations

import json
import re
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgpack
import zstandard
from blake3 import blake3

WIDTHS = {"uint8": 1, "uint16": 2, "uint32": 4, "uint64": 8, "int64": 8, "float32": 4, "float64": 8, "bytes16": 16}
AS_BYTES = ("bytes16", "float32", "float64")
FIVE = {
    "token_ids": ("uint32", "token", 0),
    "labels_mask": ("bool", "token", 0),
    "length": ("uint32", "sample", 1),
    "key": ("bytes16", "sample", 1),
    "source": ("uint32", "sample", 1),
}
DEPTH_MAX, ELEMENTS_MAX, CHILDREN_MAX, LEVEL_MAX = 16, 4194304, 4096, 32
OBJECT_BYTES_MAX, WINDOW_BYTES_MAX, ENTRY_BYTES_MAX = 268435456, 134217728, 65536
EXPLICIT_CHUNK = 1048576
BASES_MAX, BASES_DEPTH_MAX, DELTA_BYTES_MAX = 4, 3, 16777216
PACK_MAGIC, FEATURES_MAX = b"castore pack 1\n", 16


class RefusedError(Exception):
    """What a reader refuses; ``error`` is ``format``, ``not-canonical``, ``unsupported-version`` or ``corruption``."""

    def __init__(self, error: str, why: str) -> None:
        super().__init__(f"{error}: {why}")
        self.error = error


def must(fact: bool, why: str, error: str = "format") -> None:
    if not fact:
        raise RefusedError(error, why)


# ---- encoding


def decode(data: bytes) -> Any:
    """The value that bytes encode."""
    try:
        value = msgpack.unpackb(data, raw=False, strict_map_key=True, ext_hook=_no_extension)
    except RefusedError:
        raise
    except Exception as error:
        raise RefusedError("format", f"no msgpack: {error}") from error
    must(elements_of(value, 0) <= ELEMENTS_MAX, "too many elements")
    must(msgpack.packb(ordered(value), use_bin_type=True) == data, "another spelling", "not-canonical")
    return value


def _no_extension(code: int, data: bytes) -> Any:
    raise RefusedError("format", f"extension {code}")


def elements_of(value: Any, depth: int) -> int:
    """Elements of lists and entries of maps, all together; refuses other types, other keys than text, too deep ones."""
    must(value is None or type(value) in (bool, int, str, bytes, list, dict), "a type that is not permitted")
    if not isinstance(value, list | dict):
        return 0
    must(depth < DEPTH_MAX, "too deep")
    inner = value
    if isinstance(value, dict):
        must(all(type(key) is str for key in value), "a key that is no text")
        inner = list(value.values())
    return len(value) + sum(elements_of(one, depth + 1) for one in inner if one is not None)


def ordered(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: ordered(value[key]) for key in sorted(value, key=lambda key: key.encode())}
    return [ordered(one) if type(one) in (list, dict) else one for one in value] if isinstance(value, list) else value


def listed(value: Any, kind: str, size: int) -> list[Any]:
    """An object that is a list."""
    must(type(value) is list and len(value) > 0 and value[0] == kind, f"no {kind}")
    must(len(value) == size, "elements")
    return list(value)


def document(value: Any, kind: str, entries: set[str]) -> dict[str, Any]:
    """An object that is a map."""
    must(type(value) is dict and value.get("kind") == kind, f"no {kind}")
    must(is_count(value.get("format")), "format")
    must(value["format"] == 1, "format", "unsupported-version")
    return exactly(value, entries | {"format", "kind"})


def exactly(value: Any, entries: set[str]) -> dict[str, Any]:
    must(type(value) is dict and value.keys() == entries, f"entries are not {sorted(entries)}")
    return dict(value)


def is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 63


def is_bytes(value: Any, size: int | None = None) -> bool:
    return type(value) is bytes and size in (None, len(value))


def is_text(value: Any) -> bool:
    return type(value) is str


# ---- repository


def check_marker(data: bytes) -> None:
    found = re.fullmatch(rb"castore repository, format ([1-9][0-9]{0,8})\n", data)
    must(found is not None, "no marker")
    must(found is not None and int(found[1]) == 1, "newer", "unsupported-version")


Bases = Callable[[bytes, int, int], bytes]
"""Gives the canonical bytes of an object by its digest, the most that they may be, and how deep it is needed."""


def no_bases(digest: bytes, most: int, depth: int) -> bytes:
    raise RefusedError("corruption", f"{digest.hex()} is missing")


def unpack(frame: bytes, most: int = OBJECT_BYTES_MAX, bases: Bases = no_bases, depth: int = 0) -> bytes:
    """The canonical bytes in a stored frame, which is needed for another if ``depth`` is not 0."""
    must(frame != b"", "empty frame", "corruption")
    codec, body = frame[0], frame[1:]
    must(codec <= 4, f"codec {codec}", "unsupported-version")
    if codec == 0:
        must(len(body) <= most, "too large", "corruption")
        return body
    if codec == 1:
        return unzipped(body, most)
    if codec == 4:
        names, rest = delta_of(body)
        must(depth < BASES_DEPTH_MAX, "too many bases one after the other", "corruption")
        known = b""
        for name in names:
            known += bases(name, DELTA_BYTES_MAX - len(known), depth + 1)
        return unzipped(rest, min(most, DELTA_BYTES_MAX), known)
    head = {2: "<BII", 3: "<II"}[codec]
    size = struct.calcsize(head)
    must(len(body) >= size, "header", "corruption")
    *high, prefix, count = struct.unpack_from(head, body)
    must(high in ([], [0], [1], [16]), "h", "corruption")
    must(prefix + 4 * count <= most, "too large", "corruption")
    # No plane takes more than the integers do, but the first streams of codec 3: a byte more for each.
    unzip = unzipped(body[size:], prefix + 5 * count)
    numbers = short_numbers(unzip, prefix, count) if codec == 3 else split_numbers(unzip, high[0], prefix, count)
    return unzip[:prefix] + struct.pack(f"<{count}I", *numbers)


def delta_of(body: bytes) -> tuple[list[bytes], bytes]:
    """The digests of the bases, and the zstd frame."""
    must(len(body) >= 5, "header", "corruption")
    must(1 <= body[0] <= BASES_MAX, "bases", "corruption")
    end = 5 + 32 * body[0]
    must(len(body) >= end, "header", "corruption")
    return [body[at : at + 32] for at in range(5, end, 32)], body[end:]


def unzipped(data: bytes, most: int, known: bytes | None = None) -> bytes:
    """The content of one zstd frame, by a dictionary of raw content if there is one."""
    raw = zstandard.DICT_TYPE_RAWCONTENT
    options = {} if known is None else {"dict_data": zstandard.ZstdCompressionDict(known, dict_type=raw)}
    try:
        said = zstandard.get_frame_parameters(data)
        must(0 < said.content_size <= most, "content size", "corruption")
        must(said.dict_id == 0, "dictionary", "corruption")
        must(said.window_size <= max(WINDOW_BYTES_MAX, said.content_size), "window", "corruption")
        unzip = zstandard.ZstdDecompressor(max_window_size=2 * OBJECT_BYTES_MAX, **options).decompressobj()
        content = unzip.decompress(data)
    except zstandard.ZstdError as error:
        raise RefusedError("corruption", str(error)) from error
    must(unzip.eof and not unzip.unused_data and len(content) == said.content_size, "zstd frame", "corruption")
    return content


def split_numbers(planes: bytes, high: int, prefix: int, count: int) -> list[int]:
    rest = {0: 0, 1: (count + 7) // 8, 16: 2 * count}[high]
    must(len(planes) == prefix + 2 * count + rest, "planes", "corruption")
    lows = struct.unpack_from(f"<{count}H", planes, prefix)
    last = planes[prefix + 2 * count :]
    if high == 16:
        highs = struct.unpack(f"<{count}H", last)
    else:
        bits = [last[i // 8] >> i % 8 & 1 for i in range(8 * len(last))]
        must(not any(bits[count:]), "bits behind the last integer", "corruption")
        highs = tuple(bits[:count]) if high else (0,) * count
    return [low | high << 16 for low, high in zip(lows, highs, strict=True)]


def short_numbers(streams: bytes, prefix: int, count: int) -> list[int]:
    first = streams[prefix : prefix + count]
    large, largest = sum(byte >= 224 for byte in first), sum(byte == 255 for byte in first)
    must(len(streams) == prefix + count + large + 3 * largest, "streams", "corruption")
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
    return numbers


def unseal(record: bytes) -> bytes:
    """The payload of a sealed record."""
    payload, seal = record[:-32], record[-32:]
    must(len(record) >= 32 and blake3(payload).digest() == seal, "seal", "corruption")
    return payload


def is_ref_name(name: str) -> bool:
    return (
        len(name) <= 200
        and all(
            re.fullmatch(r"[A-Za-z0-9._+-]+", part)
            and part[0] not in ".-"
            and not part.endswith((".", ".lock"))
            and ".." not in part
            and not re.fullmatch(r"[0-9]{20}", part)
            for part in name.split("/")
        )
        and re.fullmatch(r"[0-9a-fA-F]{64}", name) is None
    )


def is_key(key: str) -> bool:
    parts = key.split("/")
    return (
        re.fullmatch(r"[ -\[\]-~]{1,1024}", key) is not None
        and all(0 < len(part) <= 255 for part in parts)
        and not any(part[0] == "." for part in parts)
    )


def entry_of_key(key: str) -> tuple[str, int] | None:
    """Name and number of the entry of a log that is stored under a key; None if none is."""
    found = re.fullmatch(r"refs/(.+)/([0-9]{20})", key)
    if found is None or not is_key(key) or not is_ref_name(found[1]) or int(found[2]) >= 1 << 63:
        return None
    return found[1], int(found[2])


def ref_entry(name: str, sequence: int, record: bytes) -> dict[str, Any]:
    must(len(record) <= ENTRY_BYTES_MAX, "too large", "corruption")
    value = decode(unseal(record))
    must(type(value) is list and len(value) > 1 and value[0] == "castore/ref" and type(value[1]) is int, "no entry")
    must(value[1] == 1, "version", "unsupported-version")
    must(len(value) == 9, "elements")
    _, _, named, number, target, time_s, author, message, nonce = value
    must(all(map(is_text, (named, author, message))) and is_bytes(nonce), "types")
    must(type(number) is type(time_s) is int and (target is None or is_bytes(target)), "types")
    must((named, number) == (name, sequence), "of another key", "corruption")
    must(is_count(number) and is_count(time_s) and len(nonce) == 16, "range")
    must(target is None or len(target) == 32, "target")
    return {"target": target, "author": author, "message": message}


def newest(sequences: list[int]) -> int | None:
    """The number of the entry that counts."""
    return max(sequences, default=None)


def check_log(sequences: list[int]) -> None:
    must(sorted(sequences) == list(range(len(sequences))), "a hole in the log", "corruption")


# ---- packs


def index_size(end: bytes, size: int) -> int:
    """Bytes of the index of a pack of ``size`` bytes, by its last 19."""
    must(len(end) == 19, "no end of a pack", "corruption")
    if end[4:] != PACK_MAGIC:
        newer = re.fullmatch(rb"castore pack [0-9]\n", end[4:]) is not None
        raise RefusedError("unsupported-version" if newer else "corruption", "another magic")
    found = int.from_bytes(end[:4], "little")
    must(found <= size - 19, "an index larger than its pack", "corruption")
    return found


def rows_of(index: bytes, name: bytes) -> dict[bytes, tuple[int, int]]:
    """Where the values of the pack are that has a name: by kind and name, 33 bytes, offset and size."""
    must(blake3(index).digest() == name, "another index", "corruption")
    must(len(index) >= 16, "a cut index", "corruption")
    rows, features, bases, end = struct.unpack_from("<4I", index)
    must(len(index) == 16 + 57 * rows + 8 * features + 36 * bases, "an index of another size", "corruption")
    found = {}
    for at in range(16, 16 + 57 * rows, 57):
        offset, size = struct.unpack_from("<2I", index, at + 33)
        must(15 <= offset <= offset + size <= end, "a value outside of the entries", "corruption")
        found[index[at : at + 33]] = (offset, size)
    return found


def entries_of(pack: bytes) -> Iterator[tuple[int, bytes, int, bytes, list[int]]]:
    """The entries of a pack, read without its index: kind, name, offset of the value, value, features."""
    at = 15
    if pack[:at] != PACK_MAGIC:
        return
    while at + 38 <= len(pack) and int.from_bytes(pack[at + 12 : at + 16], "little") != at:
        kind, name, size, count = struct.unpack_from("<B32sIB", pack, at)
        value_at = at + 38 + 4 * count
        if kind > 1 or count > FEATURES_MAX or value_at + size > len(pack):
            return
        features = list(struct.unpack_from(f"<{count}I", pack, at + 38))
        yield kind, name, value_at, pack[value_at : value_at + size], features
        at = value_at + size


def index_made(pack: bytes) -> bytes:
    """The index that the entries of a pack make."""
    rows: dict[bytes, tuple[bytes, list[int], list[bytes]]] = {}
    end = 15
    for kind, name, offset, value, features in entries_of(pack):
        end = offset + len(value)
        place = struct.pack("<2I", offset, len(value)) + blake3(value).digest(length=16)
        bases = delta_of(value[1:])[0] if kind == 0 and value[:1] == b"\x04" else []
        rows[bytes([kind]) + name] = place, features, bases
    ordered_rows = sorted(rows.items())
    numbered = [(struct.pack(">I", number), row) for number, (_, row) in enumerate(ordered_rows)]
    features_table = sorted(struct.pack(">I", one) + number for number, (_, some, _) in numbered for one in some)
    bases_table = sorted(number + base for number, (_, _, some) in numbered for base in some)
    head = struct.pack("<4I", len(rows), len(features_table), len(bases_table), end)
    return b"".join([head, *(key + row[0] for key, row in ordered_rows), *features_table, *bases_table])


def places_in(pack: bytes, name: bytes) -> tuple[dict[bytes, tuple[int, int]], RefusedError | None]:
    """Where values are in the pack of a name, and why not all that it had is found, if that is so."""
    try:
        size = index_size(pack[-19:], len(pack))
        return rows_of(pack[len(pack) - 19 - size : len(pack) - 19], name), None
    except RefusedError as error:
        if error.error != "corruption":
            return {}, error
        found = {bytes([kind]) + key: (at, len(value)) for kind, key, at, value, _ in entries_of(pack)}
        is_whole = blake3(index_made(pack)).digest() == name
        return found, None if is_whole else error


# ---- manifest, trees, chunks


def target_kind(value: Any) -> str:
    """Whether a ref means a run record or a manifest."""
    must(type(value) is dict and value.get("kind") in ("castore/run", "castore/manifest"), "another kind")
    return str(value["kind"])


def manifest_of(data: bytes) -> dict[str, Any]:
    value = document(decode(data), "castore/manifest", {"arrays", "hash", "order", "samples", "split"})
    must(is_text(value["hash"]), "hash")
    must(value["hash"] == "blake3-256", "hash", "unsupported-version")
    samples = value["samples"]
    must(is_count(samples) and samples <= 1 << 32, "samples")
    check_arrays(value["arrays"], samples)
    for name, (dtype, axis, grain) in FIVE.items():
        array = value["arrays"].get(name, {})
        must((array.get("dtype"), array.get("axis"), array.get("grain")) == (dtype, axis, grain), f"array {name}")
    tokens = {sum(array["items"]) for array in value["arrays"].values() if array["axis"] == "token"}
    must(len(tokens) == 1, "arrays of other tokens")
    split = exactly(value["split"], {"rule", "chunk_bytes", "fanout"})
    must(is_text(split["rule"]), "rule")
    for name, least, most in (("chunk_bytes", 64, 67108864), ("fanout", 4, 2048)):
        must(is_count(split[name]) and least <= split[name] <= most, name)
    if value["order"] is not None:
        check_order(value["order"], samples)
    return value


def check_arrays(arrays: Any, samples: int) -> None:
    must(type(arrays) is dict, "arrays")
    for name, one in arrays.items():
        must(re.fullmatch(r"[a-z0-9_]{1,64}", name) is not None, f"the name {name}")
        array = exactly(one, {"axis", "dtype", "grain", "level", "digests", "samples", "items"})
        must(array["axis"] in ("token", "sample") and is_text(array["dtype"]), "axis")
        must(array["dtype"] in WIDTHS or (array["dtype"], array["axis"]) == ("bool", "token"), "dtype")
        must(is_count(array["grain"]) and array["grain"] <= 1 and is_count(array["level"]), "grain")
        children(array["digests"], array["samples"], array["items"])
        must(sum(array["samples"]) == samples, "other samples")
        must(array["axis"] == "token" or array["items"] == array["samples"], "items")
        must(array["grain"] <= array["level"] < LEVEL_MAX if samples else array["level"] == 0, "level")


def children(digests: Any, samples: Any, items: Any) -> list[tuple[bytes, int, int]]:
    must(is_bytes(digests) and type(samples) is type(items) is list, "types")
    must(len(digests) == 32 * len(samples) == 32 * len(items) <= 32 * CHILDREN_MAX, "lists that differ")
    must(all(map(is_count, items)) and all(is_count(n) and n > 0 for n in samples), "counts")
    return [(digests[32 * i : 32 * i + 32], samples[i], items[i]) for i in range(len(samples))]


def node_of(data: bytes, level: int) -> list[tuple[bytes, int, int]]:
    _, found, *lists = listed(decode(data), "castore/node", 5)
    must(type(found) is int and found == level and 1 <= level <= LEVEL_MAX, "level")
    entries = children(*lists)
    must(len(entries) > 0, "no child")
    return entries


def values_of(data: bytes, dtype: str) -> tuple[int, bytes]:
    """Samples and payload of a values chunk."""
    _, found, count, payload = listed(decode(data), "castore/values", 4)
    must(found == dtype and is_count(count) and is_bytes(payload), "another chunk")
    must(len(payload) % WIDTHS[dtype] == 0, "payload")
    return count, payload


def spans_of(data: bytes) -> list[list[list[int]]]:
    """The spans of every sample of a spans chunk."""
    _, count, payload = listed(decode(data), "castore/spans", 3)
    must(is_count(count) and is_bytes(payload) and len(payload) % 4 == 0 and len(payload) >= 4 * count, "payload")
    words = list(struct.unpack(f"<{len(payload) // 4}I", payload))
    counts, total = words[:count], sum(words[:count])
    must(len(words) == count + 2 * total, "payload")
    gaps, widths = iter(words[count : count + total]), iter(words[count + total :])
    rows = []
    for spans in counts:
        at, row = 0, []
        for i in range(spans):
            gap, width = next(gaps), next(widths)
            must(width > 0 and (gap > 0 or i == 0), "a span that touches or is empty")
            row.append([at + gap, at + gap + width])
            at += gap + width
        must(at < 1 << 32, "a span that ends too late")
        rows.append(row)
    return rows


# ---- order


def check_order(order: Any, samples: int) -> None:
    """What a reader of the manifest refuses."""
    exactly(order, {"algorithm", "chunks", "count", "digest", "seed", "take"})
    must(is_text(order["algorithm"]) and is_bytes(order["chunks"]) and is_bytes(order["digest"], 32), "types")
    must(all(is_count(order[name]) for name in ("count", "seed", "take")), "counts")
    must(order["count"] == samples and order["take"] <= samples, "of other samples")
    must(len(order["chunks"]) % 32 == 0, "half a digest")
    if order["algorithm"] == "explicit":
        must(order["seed"] == 0, "a seed")
        must(len(order["chunks"]) == -(-samples // EXPLICIT_CHUNK) * 32, "chunks")
    elif order["algorithm"] == "numpy-pcg64-permutation":
        must(order["chunks"] == b"", "chunks")


def explicit_positions(order: dict[str, Any], fetch: Any) -> list[int]:
    """What a reader that applies an order finds, if it is stored."""
    must(order["algorithm"] == "explicit", "another algorithm", "unsupported-version")
    found: list[int] = []
    for at in range(0, len(order["chunks"]), 32):
        count, payload = values_of(fetch(order["chunks"][at : at + 32]), "uint32")
        must(count == min(EXPLICIT_CHUNK, order["count"] - len(found)) == len(payload) // 4, "cut elsewhere")
        found += struct.unpack(f"<{count}I", payload)
    must(is_permutation_of(order, found), "another permutation", "corruption")
    must(sorted(found) == list(range(order["count"])), "no permutation")
    return found[: order["take"]]


def is_permutation_of(order: dict[str, Any], found: list[int]) -> bool:
    return bool(blake3(struct.pack(f"<{len(found)}Q", *found)).digest() == order["digest"])


# ---- a repository in a folder


class Repository:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        check_marker((folder / "format").read_bytes())
        self.seen: set[bytes] = set()
        self.needed: set[bytes] = set()
        self.packs: dict[Path, dict[bytes, tuple[int, int]]] = {}
        self.unseen: RefusedError | None = None
        for packs in (folder / "packs", folder / "trash" / "packs"):
            for path in sorted(packs.glob("*")):
                if re.fullmatch(r"[0-9a-f]{64}", path.name):
                    self.packs[path], why = places_in(path.read_bytes(), bytes.fromhex(path.name))
                    self.unseen = why or self.unseen

    def frames(self, digest: bytes) -> Iterator[bytes]:
        """All that is stored under a digest: in packs and by itself, the trash last."""
        name = digest.hex()
        for root in (self.folder, self.folder / "trash"):
            for path, places in self.packs.items():
                if path.parent.parent == root and b"\x00" + digest in places:
                    offset, size = places[b"\x00" + digest]
                    with path.open("rb") as file:
                        file.seek(offset)
                        yield file.read(size)
            with suppress(FileNotFoundError):
                yield (root / "objects" / name[:2] / name).read_bytes()

    def content(self, digest: bytes, most: int = OBJECT_BYTES_MAX, depth: int = 0) -> bytes:
        """The canonical bytes of an object, from the first copy that is right."""
        wrong = self.unseen or RefusedError("corruption", f"{digest.hex()} is missing")
        for frame in self.frames(digest):
            try:
                data = unpack(frame, most, self.base, depth)
                must(blake3(data).digest() == digest, "another digest", "corruption")
                return data
            except RefusedError as error:
                wrong = error
        raise wrong

    def base(self, digest: bytes, most: int, depth: int) -> bytes:
        self.needed.add(digest)
        return self.content(digest, most, depth)

    def object(self, digest: bytes) -> bytes:
        data = self.content(digest)
        self.seen.add(digest)
        return data

    def ref(self, name: str) -> bytes:
        folder = self.folder / "refs" / name
        keys = [f"refs/{name}/{path.name}" for path in folder.iterdir() if path.is_file()]
        numbers = [entry[1] for key in keys if (entry := entry_of_key(key)) is not None]
        check_log(numbers)
        number = newest(numbers)
        assert number is not None
        target = ref_entry(name, number, (folder / f"{number:020d}").read_bytes())["target"]
        assert target is not None, "the ref was removed"
        return bytes(target)

    def chunks(self, array: dict[str, Any]) -> list[tuple[bytes, int, int]]:
        """The chunks of an array in order, each with the samples and elements that its parent states."""
        level, entries = array["level"], children(array["digests"], array["samples"], array["items"])
        while entries and level > array["grain"]:
            below = []
            for digest, samples, items in entries:
                found = node_of(self.object(digest), level)
                sums = sum(n for _, n, _ in found), sum(n for _, _, n in found)
                must(sums == (samples, items), "other counts than the parent states", "corruption")
                below += found
            entries, level = below, level - 1
        return [(self.object(digest), samples, items) for digest, samples, items in entries]

    def elements(self, array: dict[str, Any]) -> list[Any]:
        """All elements of an array that is not boolean."""
        out: list[Any] = []
        width = WIDTHS[array["dtype"]]
        for data, samples, items in self.chunks(array):
            count, payload = values_of(data, array["dtype"])
            must((count, len(payload)) == (samples, items * width), "other counts", "corruption")
            parts = [payload[i : i + width] for i in range(0, len(payload), width)]
            out += parts if array["dtype"] in AS_BYTES else [int.from_bytes(part, "little") for part in parts]
        return out

    def masks(self, array: dict[str, Any]) -> list[list[list[int]]]:
        """The spans of every sample."""
        out: list[list[list[int]]] = []
        for data, samples, _ in self.chunks(array):
            rows = spans_of(data)
            must(len(rows) == samples, "other counts", "corruption")
            out += rows
        return out


def dataset(
    repository: Repository, arrays: dict[str, dict[str, Any]]
) -> tuple[list[list[int]], list[list[list[int]]], dict[str, list[Any]]]:
    """Ids and spans by sample, and the elements of all arrays that are not boolean, compared with one another."""
    columns = {key: repository.elements(value) for key, value in arrays.items() if value["dtype"] != "bool"}
    spans = repository.masks(arrays["labels_mask"])
    rows: list[list[int]] = []
    at = 0
    must(sum(columns["length"]) == len(columns["token_ids"]), "lengths of other tokens", "corruption")
    for length, key in zip(columns["length"], columns["key"], strict=True):
        ids = columns["token_ids"][at : at + length]
        at += length
        must(blake3(struct.pack(f"<{length}I", *ids)).digest(length=16) == key, "another key", "corruption")
        must(all(stop <= length for _, stop in spans[len(rows)]), "a span past its sample", "corruption")
        rows.append(ids)
    return rows, spans, columns


def read(folder: Path, name: str) -> dict[str, Any]:
    """Everything that a ref names."""
    repository = Repository(folder)
    target = repository.ref(name)
    run = decode(repository.object(target))
    assert target_kind(run) == "castore/run"
    must(run["format"] == 1, "newer", "unsupported-version")
    manifest = manifest_of(repository.object(run["manifest"]))
    arrays = manifest["arrays"]
    rows, spans, columns = dataset(repository, arrays)
    columns |= {key: repository.elements(value) for key, value in run["provenance"].items()}
    assert len(rows) == manifest["samples"] == run["samples"]
    order = manifest["order"]
    if order is not None:
        is_stored = order["algorithm"] == "explicit"
        stored = explicit_positions(order, repository.object) if is_stored else None
        order = {"stored": stored, **{key: order[key] for key in ("algorithm", "seed", "take")}}
    return {
        "root": run["manifest"].hex(),
        "run": target.hex(),
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
            if key not in FIVE
        },
        "order": order,
        "split": manifest["split"],
        "files": {key: decode(repository.object(value))[1].hex() for key, value in run["files"].items()},
        "configuration": run["configuration"],
        "origin": run["origin"],
        "sources": [{**source, "digest": (source["digest"] or b"").hex()} for source in run["sources"]],
        "statistics": run["statistics"],
        "objects": sorted(digest.hex() for digest in repository.seen),
        "bases": sorted(digest.hex() for digest in repository.needed),
        "castore": sorted(module for module in sys.modules if module.split(".")[0] == "castore"),
    }


if __name__ == "__main__":
    print(json.dumps(read(Path(sys.argv[1]), sys.argv[2])))
