"""The pages of ``docs/format/`` say what the code does: limits, numbers, examples, links."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from castore.format import chunk, codec, delta, files, manifest, node, order, pack, packing, run, samples, schema, unit
from castore.format.code_points import UNSAFE
from castore.store import backend, compress, imports, marker, objects, packings, refs, signatures, units, writes
from castore.store import delta as delta_frames
from castore.tree import split
from tests.vectors import generate

DOCS = Path(__file__).parents[2] / "docs" / "format"
PAGES = sorted(DOCS.glob("*.md"))
MODULES = (backend, chunk, codec, compress, files, marker, manifest, node, objects, order, refs, run, samples, schema)
MODULES += (delta, delta_frames, imports, pack, packings, signatures, split, unit, units, writes)


def page(name: str) -> str:
    return (DOCS / f"{name}.md").read_text(encoding="utf-8")


def test_limits() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \| (\d+) \|", page("errors") + page("versions"), re.MULTILINE)
    assert len(rows) >= 27
    assert len({name for name, _ in rows}) == len(rows)
    for name, value in rows:
        owners = [module for module in MODULES if hasattr(module, name)]
        assert owners, name
        assert {getattr(module, name) for module in owners} == {int(value)}, name


def test_numbers_of_this_version() -> None:
    assert (marker.FORMAT_VERSION, manifest.FORMAT_VERSION, unit.UNIT_VERSION, refs.REF_ENTRY_VERSION) == (1, 1, 1, 1)
    assert (writes.WRITE_VERSION, imports.IMPORT_VERSION, signatures.SIGNATURE_VERSION) == (1, 1, 1)
    assert packing.PACKING_VERSION == 1
    assert f"`{pack.MAGIC[:-1].decode()}\\n`" in page("packs")
    assert f"codecs 0, 1, 2, 3, {delta.DELTA_CODEC}; packs 1." in page("versions")
    assert f"`{packing.ALGORITHM}`" in page("packings")
    assert f"`{split.RULE_NAME}`" in page("split")
    assert f"`chunk_bytes` = {split.CHUNK_BYTES}" in page("split")
    assert f"`fanout` = {split.FANOUT}" in page("split")
    assert f"`{manifest.HASH_NAME}`" in page("manifest")
    assert f"`{order.PCG64_PERMUTATION}`" in page("order")
    for constant in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB):
        assert f"0x{constant:016X}" in page("split")


def test_every_kind_is_told_of() -> None:
    for kind in (
        chunk.VALUES_KIND,
        chunk.SPANS_KIND,
        node.NODE_KIND,
        manifest.MANIFEST_KIND,
        run.RUN_KIND,
        unit.UNIT_KIND,
        writes.WRITE_KIND,
        files.FILE_KIND,
        files.VOCABULARY_KIND,
        files.DROPPED_KIND,
        packing.PACKING_KIND,
        imports.IMPORT_KIND,
        signatures.SIGNATURE_KIND,
    ):
        assert f"`{kind}`" in page("README")


def test_element_types() -> None:
    for dtype in schema.ITEM_BYTES:
        assert f"`{dtype}`" in page("chunks")
    for array in (*schema.DATA_ARRAYS, *schema.PROVENANCE_ARRAYS):
        where = page("chunks" if array in schema.DATA_ARRAYS else "run")
        assert f"| `{array.name}` | `{array.dtype}` | {array.axis} | {array.grain} |" in where


def test_the_example_of_a_chunk() -> None:
    block = page("chunks").split("```")[-2]
    lines = [line.split("  " * 4)[0] for line in block.splitlines() if re.match(r"^ *[0-9a-f]{2}", line)]
    text = "".join(re.match(r"[0-9a-f ]*", line).group() for line in lines)  # type: ignore[union-attr]
    made = generate.spans_of([[(1, 3), (4, 5)], []])
    assert bytes.fromhex(text.replace(" ", "")) == made.data


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_links_and_vectors(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([a-z]+\.md)\)", text):
        assert (DOCS / target).is_file()
    for name in re.findall(r"`(?:tests/vectors/)?([a-z]+\.json)`", text):
        assert name.removesuffix(".json") in generate.FILES or "tokenizer" in name
    assert max(map(len, text.splitlines())) <= 320


def test_every_page_is_listed() -> None:
    for path in PAGES:
        assert path.stem == "README" or f"]({path.name})" in page("README")


READER = ("README", "encoding", "repository", "packs", "manifest", "trees", "chunks", "order", "errors")
NOT_FOR_READERS = {"README": "## Annexes", "packs": "## For writers"}
"""Where the part of a reader ends, on pages that have more."""

READER_BYTES_MAX = 32 * 1024


def test_the_part_of_a_reader_is_small_and_leads_nowhere_else() -> None:
    parts = {name: page(name).partition(NOT_FOR_READERS.get(name, "\0"))[0] for name in READER}
    assert all(parts[name] != page(name) for name in NOT_FOR_READERS)
    assert sum(len(part.encode()) for part in parts.values()) < READER_BYTES_MAX
    for part in parts.values():
        for target in re.findall(r"\]\(([a-z-]+)\.md", part):
            assert target in {*READER, "walk-through"} or f"({target}.md" in MAY_BE_PASSED_OVER
    assert all(f"]({name}.md)" in parts["README"] for name in READER[1:])


MAY_BE_PASSED_OVER = "[run](run.md) [which](writing.md#text) [Writing](writing.md#keys) [unit records](units.md)"
"""Links of the part of a reader to what no reader of the data needs."""


def test_code_points_that_no_writer_stores() -> None:
    table = page("writing").partition("| code points | |")[2].partition("\n\n")[0]
    told = re.findall(r"U\+([0-9A-F]{4})(?:–U\+([0-9A-F]{4}))?", table)
    points = {point for first, last in told for point in range(int(first, 16), int(last or first, 16) + 1)}
    assert points == {point for first, last in UNSAFE for point in range(first, last + 1)}


def test_every_vector_file_is_told_of() -> None:
    about = (generate.FOLDER / "README.md").read_text(encoding="utf-8")
    assert all(f"`{name}.json`" in about for name in generate.FILES)
    text = "".join(path.read_text(encoding="utf-8") for path in PAGES)
    for name in generate.FILES:
        assert f"{name}.json`" in text
