"""The golden repository: ``tests/vectors/golden.tar``, a few samples under a name, the same bytes wherever it is made.

No compressor has a say in it: its zstd frames are single blocks. ``docs/format/walk-through.md`` reads it.
``golden-packed.tar`` is the same with its objects in a pack.
"""

from __future__ import annotations

import io
import struct
import tarfile
from typing import Any

import numpy as np

from castore.format.chunk import encode_values
from castore.format.delta import delta_frame
from castore.format.digest import Digest, digest_hex
from castore.format.files import encode_file
from castore.format.manifest import Manifest, SplitRule
from castore.format.object import Object
from castore.format.order import Order
from castore.format.pack import OBJECT_KIND
from castore.format.pack_writer import Entry, rebuilt
from castore.format.run import Run, RunConfiguration, RunOrigin, RunStatistics, SourceRecord
from castore.format.schema import DATA_ARRAYS, LENGTH, SOURCE
from castore.store.object_keys import object_key
from castore.store.pack_catalog import pack_key
from castore.store.refs import RefEntry, entry_key
from castore.tree.build import SequenceBuilder
from castore.tree.split import CHUNK_BYTES, FANOUT, RULE_NAME
from tests.support.strategies import Row, piece_of
from tests.vectors.by_hand import in_one_block, on_a_base

NAME = "golden/tiny"
ROWS: list[Row] = [
    ((1, 2, 70000), ((1, 3),)),
    ((), ()),
    ((3, 4, 5, 100257), ((0, 1), (2, 4))),
]
SOURCES = (0, 0, 1)


def frames(made: Object) -> bytes:
    """A stored frame; which codec it has is a matter of taste."""
    data, tail = made.data, made.u32_tail
    if tail is None:
        return b"\x01" + in_one_block(data, "I") if b"castore/run" in data else b"\x00" + data
    numbers = np.frombuffer(data[tail:], "<u4")
    if numbers.max(initial=0) < 224:
        streams = data[:tail] + numbers.astype(np.uint8).tobytes()
        return struct.pack("<BII", 3, tail, len(numbers)) + in_one_block(streams, "I")
    high = np.packbits(numbers >> 16 != 0, bitorder="little").tobytes()
    planes = data[:tail] + (numbers & 0xFFFF).astype("<u2").tobytes() + high
    return struct.pack("<BBII", 2, 1, tail, len(numbers)) + in_one_block(planes, "I")


def objects() -> list[Object]:
    """All objects, children before parents; the last is the run record."""
    builder = SequenceBuilder(DATA_ARRAYS)
    piece = piece_of(ROWS)
    piece.scalars = {"source": np.array(SOURCES, np.uint32)}
    chunks = builder.add(piece)
    roots, rest = builder.finish()
    trees = {array.name: (array, roots[array.name]) for array in DATA_ARRAYS}
    order = Order.shuffled(42, len(ROWS))
    manifest = Manifest(len(ROWS), trees, SplitRule(RULE_NAME, CHUNK_BYTES, FANOUT), order).encode()
    template = encode_file(b"{{ text }}")
    run = Run(
        manifest.digest,
        len(ROWS),
        configuration=RunConfiguration(shuffle_seed=42, vocab_size=100_278),
        sources=(SourceRecord("a.jsonl", amount="1.0", samples=2), SourceRecord("b.jsonl", samples=1)),
        statistics=RunStatistics(3, 7, 5),
        files={"chat_template": template.digest},
        origin=RunOrigin("ada", "0.1", "engine", "a note", 1_700_000_000),
    ).encode()
    return [*chunks, *rest, manifest, template, run]


def beside_objects(run: Digest) -> dict[str, bytes]:
    """All other values by key."""
    found = {"format": b"castore repository, format 1\n"}
    for sequence, target, message in ((0, None, "never was"), (1, run, "tokenize")):
        entry = RefEntry(NAME, sequence, target, 1_700_000_000, "ada", message, bytes(range(16)))
        found[entry_key(NAME, sequence)] = entry.encode()
    return found


def content() -> dict[str, bytes]:
    """Values by key."""
    made = objects()
    return {object_key(one.digest): frames(one) for one in made} | beside_objects(made[-1].digest)


def packed_content() -> dict[str, bytes]:
    """The same objects in one pack, lengths as what they share with sources."""
    made = objects()
    lengths, sources = (
        next(one for one in made if one.data == encode_values(array.dtype, len(ROWS), values.tobytes()).data)
        for array, values in (
            (LENGTH, np.array([len(ids) for ids, _ in ROWS], "<u4")),
            (SOURCE, np.array(SOURCES, "<u4")),
        )
    )
    delta = delta_frame((sources.digest,), lengths.u32_tail, on_a_base(lengths.data, sources.data))
    name, pack = rebuilt(
        Entry(OBJECT_KIND, one.digest, delta if one is lengths else frames(one), one.features) for one in made
    )
    return {pack_key(digest_hex(name)): pack} | beside_objects(made[-1].digest)


def expected() -> dict[str, Any]:
    """What a reader finds, as JSON."""
    found = content()
    return {
        "about": "docs/format/walk-through.md. What golden.tar holds: its name, and by sample in stored order ids, "
        "spans and source; order is the sample at each position. golden-packed.tar holds the same objects in a pack.",
        "name": NAME,
        "run": RefEntry.decode(NAME, 1, found[entry_key(NAME, 1)], "entry").target.hex(),  # type: ignore[union-attr]
        "token_ids": [list(ids) for ids, _ in ROWS],
        "spans": [[list(span) for span in spans] for _, spans in ROWS],
        "source": list(SOURCES),
        "order": Order.shuffled(42, len(ROWS)).positions().tolist(),
        "keys": sorted(found),
        "packed_keys": sorted(packed_content()),
    }


def archive(content: dict[str, bytes]) -> bytes:
    """A tar of values: ustar, files in the order of their keys, no times and no owners."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for key, value in sorted(content.items()):
            info = tarfile.TarInfo(key)
            info.size = len(value)
            tar.addfile(info, io.BytesIO(value))
    return out.getvalue()
