"""Readers of what the annexes of ``docs/format/`` describe, written from their text alone; nothing of castore.

What is wrong is refused by the table of ``docs/format/errors.md``, for accelerators too, whose readers then do as if
there were no record.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from blake3 import blake3

from tests.support import ed25519
from tests.support.bare_reader import (
    check_arrays,
    decode,
    document,
    exactly,
    is_bytes,
    is_count,
    is_text,
    listed,
    must,
    ordered,
    unseal,
)

RUN_TEXT_BYTES_MAX, RUN_SOURCES_MAX, TOKENS_MAX = 65536, 65536, 33554432

Check = Callable[[Any], bool]


def encode(value: Any) -> bytes:
    import msgpack

    return bytes(msgpack.packb(ordered(value), use_bin_type=True))


def u32s(data: bytes) -> list[int]:
    must(is_bytes(data) and len(data) % 4 == 0, "no whole integers")
    return list(struct.unpack(f"<{len(data) // 4}I", data))


def ascends(numbers: list[Any]) -> bool:
    return all(a < b for a, b in pairwise(numbers))


def is_digest(value: Any) -> bool:
    return is_bytes(value, 32)


def is_counts(value: Any) -> bool:
    return type(value) is dict and all(is_count(one) and fits(name) for name, one in value.items())


def fits(text: Any) -> bool:
    return is_text(text) and len(text.encode()) <= RUN_TEXT_BYTES_MAX


def is_amount(value: Any) -> bool:
    found = re.fullmatch(r"([0-9]*)(?:\.([0-9]*))?", value) if is_text(value) else None
    before, behind = (found[1], found[2] or "") if found else ("", "")
    return len(before) <= 308 and len(behind) <= 400 and bool(before or behind)


def or_nil(check: Check) -> Check:
    return lambda value: value is None or check(value)


# ---- run.md

SOURCE: dict[str, Check] = {
    "amount": or_nil(is_amount),
    "digest": or_nil(is_digest),
    "dropped": is_counts,
    "name": lambda value: fits(value) and value != "",
    "revision": or_nil(fits),
    "rows": or_nil(is_count),
    "samples": or_nil(is_count),
    "selected": or_nil(is_count),
    "split": or_nil(fits),
    "tokens": or_nil(is_count),
    "trainable": or_nil(is_count),
}
CONFIGURATION: dict[str, Check] = {
    "chat_template": or_nil(fits),
    "imported": or_nil(fits),
    "max_seq_length": or_nil(is_count),
    "mix_seed": or_nil(is_count),
    "num_examples": or_nil(is_count),
    "shuffle_seed": or_nil(is_count),
    "tokenizer": or_nil(fits),
    "vocab_size": or_nil(lambda value: type(value) is int and 1 <= value <= 1 << 63),
}
STATISTICS: dict[str, Check] = {
    "dropped": is_counts,
    "lost": lambda value: type(value) is dict and all(fits(k) and is_counts(v) for k, v in value.items()),
    "samples": is_count,
    "tokens": is_count,
    "trainable": is_count,
}
ORIGIN: dict[str, Check] = {"author": fits, "castore": fits, "host": fits, "message": fits, "time": is_count}


def part(value: Any, entries: dict[str, Check], what: str) -> dict[str, Any]:
    found = exactly(value, set(entries))
    for name, check in entries.items():
        must(check(found[name]), f"{what}: {name}")
    return found


def sources_of(value: Any) -> list[dict[str, Any]]:
    must(type(value) is list and len(value) <= RUN_SOURCES_MAX, "sources")
    return [part(source, SOURCE, "source") for source in value]


def run_of(data: bytes) -> dict[str, Any]:
    names = {"configuration", "files", "manifest", "origin", "provenance", "recipe", "samples", "sources", "statistics"}
    run = document(decode(data), "castore/run", names)
    must(
        is_digest(run["manifest"])
        and is_count(run["samples"])
        and run["samples"] <= 1 << 32
        and type(run["recipe"]) is dict,
        "types",
    )
    must(type(run["files"]) is dict and all(map(is_digest, run["files"].values())), "files")
    check_arrays(run["provenance"], run["samples"])
    sources_of(run["sources"])
    part(run["configuration"], CONFIGURATION, "configuration")
    if run["statistics"] is not None:
        found = part(run["statistics"], STATISTICS, "statistics")
        must(found["samples"] == run["samples"] and found["trainable"] <= found["tokens"], "statistics")
    if run["origin"] is not None:
        part(run["origin"], ORIGIN, "origin")
    return run


def file_of(data: bytes) -> bytes:
    _, content = listed(decode(data), "castore/file", 2)
    must(is_bytes(content), "content")
    return bytes(content)


def vocabulary_of(data: bytes) -> list[bytes]:
    _, ends, text = listed(decode(data), "castore/vocabulary", 3)
    must(is_bytes(text), "text")
    stops = [0, *u32s(ends)]
    must(stops == sorted(stops) and stops[-1] == len(text), "ends")
    return [text[a:b] for a, b in pairwise(stops)]


def dropped_of(data: bytes) -> list[list[Any]]:
    _, reasons, columns = listed(decode(data), "castore/dropped", 3)
    must(type(reasons) is list and all(map(is_text, reasons)) and ascends(reasons), "reasons")
    must(is_bytes(columns) and len(columns) % 32 == 0, "columns")
    count = len(columns) // 32
    numbers = struct.unpack(f"<{4 * count}Q", columns)
    must(all(index < len(reasons) for index in numbers[3 * count :]), "a reason that is not there")
    rows = zip(*(numbers[i * count : (i + 1) * count] for i in range(4)), strict=True)
    return [[source, row, line, reasons[index]] for source, row, line, index in rows]


# ---- signatures.md


def signature_of(record: bytes, key: str) -> dict[str, Any]:
    must(len(record) <= 4096, "too large", "corruption")
    value = decode(unseal(record))
    must(type(value) is list and len(value) > 1 and type(value[1]) is int, "no signature")
    must(value[0] == "castore/signature", "no signature")
    must(value[1] == 1, "version", "unsupported-version")
    must(len(value) == 7, "elements")
    _, _, name, position, root, public_key, signature = value
    must(is_text(name) and is_count(position) and is_digest(root), "types")
    must(is_bytes(public_key, 32) and is_bytes(signature, 64), "types")
    place = f"signatures/{name}/{root.hex()}/{position:020d}/{blake3(public_key).hexdigest()[:32]}"
    must(place == key, "of another key", "corruption")
    message = b"castore signature 1\0" + encode(["castore/signature", 1, name, position, root])
    is_true = ed25519.is_signed(public_key, message, signature)
    return {"ref": name, "position": position, "root": root, "signed": message, "is_true": is_true}


# ---- units.md, writes.md, imports.md


def unit_of(payload: bytes) -> dict[str, Any]:
    names = {"dropped", "kept", "keys", "lengths", "lost", "row_count", "slices", "trainable"}
    unit = document(decode(payload), "castore/unit", names)
    kept, lengths = u32s(unit["kept"]), u32s(unit["lengths"])
    must(is_count(unit["row_count"]) and is_count(unit["trainable"]) and is_bytes(unit["keys"]), "types")
    dropped = lists_of(unit["dropped"], 2)
    must(all(is_count(at) and is_text(reason) for at, reason in dropped), "dropped")
    gone = [at for at, _ in dropped]
    must(ascends(kept) and ascends(gone) and not {*kept} & {*gone}, "rows")
    must(sorted(kept + gone) == list(range(unit["row_count"])), "rows")
    must(len(kept) == len(lengths) and len(unit["keys"]) == 16 * len(kept), "samples")
    lost = lists_of(unit["lost"], 4)
    must(all(is_text(reason) and is_text(subject) for reason, subject, _, _ in lost), "lost")
    must(ascends([(reason, subject) for reason, subject, _, _ in lost]), "lost")
    for _, _, rows, counts in lost:
        places, times = u32s(rows), u32s(counts)
        must(0 < len(places) == len(times) and ascends(places) and {*places} <= {*kept} and all(times), "lost")
    count = 0
    for chunks, of, lo, hi, item_lo in lists_of(unit["slices"], 5):
        check_chunks(chunks)
        must(all(map(is_count, (of, lo, hi, item_lo))) and lo < hi <= of, "slice")
        count += hi - lo
    must(count == len(kept), "slices")
    return unit


def lists_of(value: Any, size: int) -> list[list[Any]]:
    must(type(value) is list and all(type(one) is list and len(one) == size for one in value), "lists")
    return list(value)


def check_chunks(value: Any) -> None:
    must(type(value) is dict and all(map(is_digest, value.values())), "chunks")


def unit_name(recipe: Any, row_keys: bytes) -> tuple[bytes, bytes]:
    """The digest of a recipe, and the name of a unit."""
    recipe_digest = blake3(encode(["castore/recipe", recipe])).digest()
    return recipe_digest, blake3(encode(["castore/unit-name", recipe_digest, row_keys])).digest()


def write_of(payload: bytes) -> dict[str, Any]:
    write = document(decode(payload), "castore/write", {"chunks", "columns", "counts", "keys", "lengths", "sources"})
    must(type(write["counts"]) is list and all(is_count(n) and n > 0 for n in write["counts"]), "counts")
    must(type(write["chunks"]) is list and len(write["chunks"]) == len(write["counts"]), "chunks")
    for chunks in write["chunks"]:
        check_chunks(chunks)
    must(type(write["columns"]) is dict and all(map(is_bytes, write["columns"].values())), "columns")
    samples = sum(write["counts"])
    must(len(u32s(write["lengths"])) == samples and is_bytes(write["keys"], 16 * samples), "samples")
    for name, *counts in lists_of(write["sources"], 4):
        must(is_text(name) and all(map(is_count, counts)), "sources")
    return write


def write_name(resume_key: str, what: Any) -> bytes:
    return blake3(encode(["castore/write-name", resume_key, what])).digest()


def import_of(payload: bytes) -> dict[str, Any]:
    found = document(decode(payload), "castore/import", {"manifest", "sources", "trainable"})
    must(is_digest(found["manifest"]) and is_count(found["trainable"]), "types")
    sources_of(found["sources"])
    return found


def import_name(content: str, shuffle_seed: int | None, datasets: str) -> bytes:
    return blake3(encode(["castore/import-name", content, shuffle_seed, datasets])).digest()


def place(folder: str, name: bytes) -> str:
    return f"{folder}/{name.hex()[:2]}/{name.hex()}"


# ---- packings.md

COLUMNS = {
    "instance_documents": "instances",
    "document_segments": "documents",
    "segment_sample": "segments",
    "segment_start": "segments",
    "segment_length": "segments",
}
COLUMN_CHUNK = 1048576


def packing_of(data: bytes) -> dict[str, Any]:
    counts = {"documents", "instances", "segments", "tokens"}
    packing = document(decode(data), "castore/packing", {"algorithm", "columns", "root", "rule", *counts})
    must(is_text(packing["algorithm"]), "algorithm")
    must(packing["algorithm"] == "best-fit-1", "algorithm", "unsupported-version")
    must(all(is_count(packing[name]) for name in counts) and is_digest(packing["root"]), "types")
    must(type(packing["rule"]) is dict, "rule")
    columns = exactly(packing["columns"], set(COLUMNS))
    for name, number in COLUMNS.items():
        must(is_bytes(columns[name]), f"column {name}")
        must(len(columns[name]) == 32 * -(-packing[number] // COLUMN_CHUNK), f"column {name}")
    return packing


def packing_name(root: bytes, algorithm: str, rule: Any) -> bytes:
    return blake3(encode(["castore/packing-name", root, algorithm, rule])).digest()


def packing_record(record: bytes) -> list[bytes]:
    """The digests that the record of a packing holds: that of the packing first."""
    payload = unseal(record)
    must(len(payload) % 32 == 0 and len(payload) > 0, "digests")
    return [payload[at : at + 32] for at in range(0, len(payload), 32)]
