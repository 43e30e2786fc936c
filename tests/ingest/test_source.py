"""Reading rows from every kind of file, and cutting them into blocks that survive edits."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import pickle
import random
import sys
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import orjson
import pytest
import zstandard
from blake3 import blake3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from castore.errors import InvalidInputError, MissingExtraError, SourceError
from castore.ingest import readers
from castore.ingest.rows import NO_FORM
from castore.ingest.source import KEY_BYTES, Block, Source
from tests.support import reference


def conversation(number: int, size: int = 20) -> dict[str, Any]:
    words = random.Random(number).choices(["sea", "grün", "río", "海", "🙂", "tide"], k=size)
    return {
        "messages": [
            {"role": "user", "content": f"{number} " + " ".join(words)},
            {"role": "assistant", "content": None if number % 7 == 0 else str(number)},
        ],
        "tools": '[{"name": "f"}]' if number % 3 == 0 else None,
    }


def rows_of(conversations: Iterable[dict[str, Any]]) -> list[bytes]:
    return [orjson.dumps(one) for one in conversations]


GOLDEN_STARTS = [0, 51, 127, 224, 299, 422, 508, 635, 700, 753, 795, 898]
GOLDEN_DIGEST = "10a8523b4df5e3f62ce4fddb2cc0dcdaeb544aadec335959598eac0f0fbfec86"

CONVERSATIONS = [conversation(number, size=number % 50) for number in range(300)]
ROWS = rows_of(CONVERSATIONS)


def write_jsonl(path: Path, rows: Iterable[bytes] = ROWS, end: bytes = b"\n") -> Path:
    path.write_bytes(b"".join(row + end for row in rows))
    return path


def write_gz(path: Path, rows: Iterable[bytes] = ROWS) -> Path:
    path.write_bytes(gzip.compress(b"".join(row + b"\n" for row in rows), 1))
    return path


def write_array(path: Path, rows: Iterable[bytes] = ROWS) -> Path:
    path.write_bytes(b"\n [" + b",\n".join(rows) + b"]\n")
    return path


def parquet_library() -> tuple[Any, Any]:
    """pyarrow and pyarrow.parquet; without them the test is skipped."""
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    import pyarrow
    import pyarrow.parquet

    return pyarrow, pyarrow.parquet


def write_parquet(path: Path, conversations: list[dict[str, Any]] = CONVERSATIONS) -> Path:
    # A column that castore must not read, in front of the others, and several row groups.
    pa, pq = parquet_library()
    table = pa.Table.from_pylist([{"source": "x", **one} for one in conversations])
    pq.write_table(table, path, row_group_size=64)
    return path


WRITERS: dict[str, Callable[[Path], Path]] = {
    ".jsonl": write_jsonl,
    ".jsonl.gz": write_gz,
    ".json": write_array,
    ".parquet": write_parquet,
    ".lines.json": write_jsonl,
}


@pytest.fixture(params=sorted(WRITERS))
def any_file(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    suffix: str = request.param
    return str(WRITERS[suffix](tmp_path / f"data{suffix}"))


def rows_in(blocks: Iterable[Block]) -> list[bytes]:
    return [row for block in blocks for row in block.rows]


def shape(blocks: Iterable[Block]) -> list[tuple[Any, ...]]:
    return [(b.rows, b.keys, b.numbers.tolist(), b.lines.tolist(), b.byte_count) for b in blocks]


# -- rows ------------------------------------------------------------------------------------------------------------


def test_every_kind_of_file_gives_the_same_rows(any_file: str) -> None:
    source = Source(any_file, block_bytes=4096)
    blocks = list(source.blocks())
    assert rows_in(blocks) == ROWS
    assert len(blocks) > 5
    assert np.concatenate([block.numbers for block in blocks]).tolist() == list(range(len(ROWS)))
    assert [block.byte_count for block in blocks] == [sum(map(len, block.rows)) for block in blocks]
    assert (source.name, source.byte_count) == (any_file, Path(any_file).stat().st_size)
    assert source.bytes_read == source.byte_count


def test_the_row_count_is_the_same_before_and_after_reading(any_file: str) -> None:
    source = Source(any_file)
    assert source.row_count() == len(ROWS)
    for _ in source.blocks():
        pass
    assert source.row_count() == len(ROWS) == Source(any_file).row_count()


def test_rows_carry_number_line_data_and_key(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [b"", b'{"a":1}', b"  ", b'{"b":2}'])
    (block,) = Source(str(path)).blocks()
    assert [(row.number, row.line, row.data) for row in block] == [(0, 2, b'{"a":1}'), (1, 4, b'{"b":2}')]
    assert [row.key for row in block] == [blake3(row.data).digest()[:KEY_BYTES] for row in block]
    assert (len(block), block.first_line) == (2, 2)


@pytest.mark.parametrize(
    "text",
    [
        b'{"a":1}\n{"b":2}\n',
        b'{"a":1}\n{"b":2}',
        b'{"a":1}\r\n{"b":2}\r\n',
        b'\xef\xbb\xbf{"a":1}\n{"b":2}\n',
        b'\xef\xbb\xbf\n\n{"a":1}\n \t\r\n{"b":2}\n\n\n',
    ],
)
@pytest.mark.parametrize("suffix", [".jsonl", ".JSONL", ".jsonl.gz", ".json"])
def test_line_ends_blank_lines_and_byte_order_mark(tmp_path: Path, text: bytes, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(gzip.compress(text) if suffix.endswith(".gz") else text)
    source = Source(str(path))
    assert rows_in(source.blocks()) == [b'{"a":1}', b'{"b":2}']
    assert Source(str(path)).row_count() == 2


def test_what_is_not_json_is_left_to_whoever_parses_the_row(tmp_path: Path) -> None:
    bad = [b"\x00", b"\xff\xfe", b"{", b"\xef\xbb\xbf{}"]
    path = write_jsonl(tmp_path / "a.jsonl", [b"{}", *bad])
    assert rows_in(Source(str(path)).blocks()) == [b"{}", *bad]


@pytest.mark.parametrize("text", [b"", b"\n\n", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("suffix", [".jsonl", ".json"])
def test_a_file_without_rows_has_no_blocks(tmp_path: Path, text: bytes, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(text)
    source = Source(str(path))
    assert (list(source.blocks()), source.row_count(), source.digest) == ([], 0, blake3(text).hexdigest())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(
    text=st.lists(st.sampled_from([b"\n", b"\r\n", b" ", b"{}", b'{"a":"bcdefgh"}', b"\xef\xbb\xbf"]), max_size=30),
    read_bytes=st.integers(1, 9),
)
@pytest.mark.parametrize("compressed", [False, True])
def test_pieces_in_which_a_file_is_read_do_not_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compressed: bool, text: list[bytes], read_bytes: int
) -> None:
    whole = b"".join(text)
    path = tmp_path / ("a.jsonl.gz" if compressed else "a.jsonl")
    path.write_bytes(gzip.compress(whole) if compressed else whole)
    monkeypatch.setattr(readers, "_READ_BYTES", 1 << 20)
    expected = shape(Source(str(path), block_bytes=64).blocks())
    monkeypatch.setattr(readers, "_READ_BYTES", read_bytes + 3)
    assert shape(Source(str(path), block_bytes=64).blocks()) == expected
    stripped = [line.rstrip(b"\r") for line in whole.removeprefix(b"\xef\xbb\xbf").split(b"\n")]
    assert [row for block in expected for row in block[0]] == [line for line in stripped if line.strip()]


# -- digests ---------------------------------------------------------------------------------------------------------


def test_plain_and_compressed_lines_have_one_digest(tmp_path: Path) -> None:
    text = b"".join(row + b"\n" for row in ROWS)
    (tmp_path / "a.jsonl").write_bytes(text)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(text, 9, mtime=1))
    (tmp_path / "c.jsonl.gz").write_bytes(
        gzip.compress(text[:999], 1, mtime=2) + gzip.compress(text[999:]) + b"\0" * 512
    )
    for name in ("a.jsonl", "b.jsonl.gz", "c.jsonl.gz"):
        source = Source(str(tmp_path / name))
        assert rows_in(source.blocks()) == ROWS
        assert source.digest == blake3(text).hexdigest()


@pytest.mark.parametrize("suffix", [".json", ".parquet"])
def test_other_files_are_digested_as_they_are(tmp_path: Path, suffix: str) -> None:
    path = WRITERS[suffix](tmp_path / f"a{suffix}")
    assert Source(str(path)).digest == blake3(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".json"])
@pytest.mark.parametrize("scan", [lambda source: list(source.blocks()), lambda source: source.row_count()])
def test_a_whole_pass_knows_the_digest_without_reading_again(
    tmp_path: Path, suffix: str, scan: Callable[[Source], object]
) -> None:
    path = WRITERS[suffix](tmp_path / f"a{suffix}")
    expected = Source(str(path)).digest
    source = Source(str(path))
    scan(source)
    path.unlink()
    assert source.digest == expected


def test_a_file_that_changes_between_passes_is_refused(any_file: str) -> None:
    source = Source(any_file)
    source.row_count()
    with open(any_file, "ab") as file:
        file.write(b" ")
    with pytest.raises(SourceError, match="changed while it was in use"):
        list(source.blocks())


def test_a_file_that_changes_under_the_same_size_and_time_is_refused(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [b'{"a":1}'])
    times = path.stat()
    source = Source(str(path))
    source.row_count()
    path.write_bytes(b'{"a":2}\n')
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(SourceError, match="changed while it was in use"):
        list(source.blocks())


# -- selected rows ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("numbers", [[0], [299], [5, 6, 7], list(range(0, 300, 9)), list(range(300)), [63, 64, 128]])
def test_only_the_selected_rows_are_given(any_file: str, numbers: list[int]) -> None:
    blocks = list(Source(any_file, block_bytes=2048).blocks_of(np.array(numbers)))
    assert rows_in(blocks) == [ROWS[number] for number in numbers]
    assert np.concatenate([block.numbers for block in blocks]).tolist() == numbers
    assert all((block.lines >= block.numbers + 1).all() for block in blocks)


def test_selecting_all_rows_gives_the_same_blocks(any_file: str) -> None:
    source = Source(any_file, block_bytes=2048)
    assert shape(source.blocks_of(np.arange(300))) == shape(source.blocks())


def test_reading_stops_after_the_last_selected_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [b'{"a":%d}' % (number % 10) for number in range(50)]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    # A piece is one line: the next line is the first of the piece that is not needed.
    monkeypatch.setattr(readers, "_READ_BYTES", len(rows[0]) + 1)
    for number in range(49):
        source = Source(str(path))
        assert rows_in(source.blocks_of(np.array([number]))) == [rows[number]]
        assert source.bytes_read < source.byte_count


def test_selecting_no_row_gives_nothing(any_file: str) -> None:
    assert list(Source(any_file).blocks_of(np.empty(0, np.int64))) == []


@pytest.mark.parametrize("numbers", [[3, 2], [3, 3], [-1, 2], [[1], [2]]])
def test_row_numbers_must_ascend(any_file: str, numbers: list[int]) -> None:
    with pytest.raises(InvalidInputError, match="ascending, distinct and not negative"):
        list(Source(any_file).blocks_of(np.array(numbers)))


def test_a_row_number_past_the_end_is_named(any_file: str) -> None:
    with pytest.raises(InvalidInputError, match="has no row number 300"):
        list(Source(any_file).blocks_of(np.array([1, 299, 300, 301])))


# -- what cannot be read ---------------------------------------------------------------------------------------------


def refused(path: Path, **keywords: int | None) -> str:
    """The message with which reading ``path`` fails; it is one line and names the file."""
    with pytest.raises(SourceError) as caught:
        list(Source(str(path)).blocks())
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    for name, value in keywords.items():
        assert getattr(caught.value, name) == value
    return message


def test_what_is_not_there_or_not_a_file(tmp_path: Path) -> None:
    (tmp_path / "folder.jsonl").mkdir()
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "a.csv").write_bytes(b"a,b\n")
    assert "No such file" in refused(tmp_path / "missing.jsonl")
    assert "No such file" in refused(tmp_path / "missing.csv")
    assert "is a directory" in refused(tmp_path / "folder.jsonl")
    assert "not a regular file" in refused(tmp_path / "pipe.jsonl")
    assert "unknown kind of file" in refused(tmp_path / "a.csv")
    for name in ("", "a\0.jsonl"):
        with pytest.raises(SourceError, match="not a file name"):
            Source(name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl")
    path.chmod(0)
    assert "Permission denied" in refused(path)


def test_damaged_gzip_names_about_the_row(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    whole = gzip.compress(b"".join(row + b"\n" for row in ROWS))
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SourceError, match="unexpected end of file") as caught:
        list(Source(str(path)).blocks())
    assert caught.value.row is not None
    assert 60 < caught.value.row < 240
    path.write_bytes(whole[:-8] + bytes(8))
    # The piece of text whose checksum is wrong is not given out: here that is all of it.
    assert "incorrect data check" in refused(path, row=1)
    path.write_bytes(whole + b"garbage")
    assert "incorrect header check" in refused(path, row=301)
    path.write_bytes(whole + whole[:30])
    assert "unexpected end of file" in refused(path)
    path.write_bytes(b'{"a":1}\n')
    assert "incorrect header check" in refused(path, row=1)
    path.write_bytes(b"")
    assert "unexpected end of file" in refused(path, row=1)


def test_a_row_beyond_the_limit_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = orjson.dumps(conversation(1, size=2000))
    monkeypatch.setattr(readers, "ROW_BYTES_MAX", len(long) - 1)
    for path in (
        write_jsonl(tmp_path / "a.jsonl", [*ROWS[:5], long]),
        write_array(tmp_path / "a.json", [*ROWS[:5], long]),
        write_parquet(tmp_path / "a.parquet", [*CONVERSATIONS[:5], conversation(1, size=2000)]),
    ):
        assert "the limit of one row" in refused(path, row=6)
    monkeypatch.setattr(readers, "ROW_BYTES_MAX", len(long))
    assert len(rows_in(Source(str(tmp_path / "a.jsonl")).blocks())) == 6


def test_a_bomb_of_one_line_is_stopped_before_it_takes_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_gz(tmp_path / "a.jsonl.gz", [b"{}", b"a" * (64 << 20)])
    assert path.stat().st_size < 1 << 20
    monkeypatch.setattr(readers, "ROW_BYTES_MAX", 2 << 20)
    tracemalloc.start()
    try:
        assert "the limit of one row" in refused(path, row=2)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    row = b'{"messages":[{"role":"user","content":"' + b"x" * 4000 + b'"}]}'
    path = write_gz(tmp_path / "a.jsonl.gz", [row] * 16_000)
    source = Source(str(path))
    tracemalloc.start()
    try:
        count = sum(len(block) for block in source.blocks())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 16_000
    assert peak < 10 << 20


@pytest.mark.parametrize(
    ("text", "message", "row"),
    [
        (b'[{"a":1},', "the array has no end", 2),
        (b'[{"a":1}] x', "something stands behind the end", 1),
        (b'[{"a":1}, "b]', "a string has no end", 2),
    ],
)
def test_a_bad_array(tmp_path: Path, text: bytes, message: str, row: int) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(text)
    assert "not valid JSON: " + message in refused(path, row=row)


DEEP = b'{"a":' + b"[" * 400 + b"]" * 400 + b"}"


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        (b'[ {"a": 1}, 2 ]', [b'{"a":1}', b"2"]),
        (b'[{"a": 1}, \xff]', [b'{"a":1}', b"\xff"]),
        (b'[{"a": 1}, {"b": }, {"c": "]\\"["}]', [b'{"a":1}', b'{"b": }', b'{"c":"]\\"["}']),
        (b'[{"a": 1}, ' + DEEP + b', {"b": 2}]', [b'{"a":1}', DEEP, b'{"b":2}']),
        (b'[{"a": 1 },]', [b'{"a":1}', b""]),
        (b'[{"a": 1}, {"b": NaN}]', [b'{"a":1}', b'{"b": NaN}']),
        (b'[{"a": 1}, {"b": 100000000000000000001}]', [b'{"a":1}', b'{"b": 100000000000000000001}']),
        (b'[{"a": "\\ud800"}]', [b'{"a": "\\ud800"}']),
        (b" [ ] ", []),
    ],
)
@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_an_item_of_an_array_is_the_row_that_it_would_be_as_a_line(
    tmp_path: Path, text: bytes, rows: list[bytes], suffix: str
) -> None:
    path = tmp_path / f"a.json{suffix}"
    path.write_bytes({"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}[suffix](text))
    source = Source(str(path))
    assert rows_in(source.blocks()) == rows
    assert (source.row_count(), source.digest) == (len(rows), blake3(text).hexdigest())


def test_damaged_zstd_names_about_the_row(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.zst"
    text = b"".join(row + b"\n" for row in ROWS)
    compressor = zstandard.ZstdCompressor(write_checksum=True)
    whole = compressor.compress(text)
    path.write_bytes(whole[: len(whole) // 2])
    assert "zstd data is damaged or cut short" in refused(path)
    path.write_bytes(whole[:-4] + bytes(4))
    assert "zstd data is damaged" in refused(path)
    path.write_bytes(whole + b"garbage")
    assert "zstd data is damaged" in refused(path, row=301)
    path.write_bytes(b"")
    assert "unexpected end of file" in refused(path, row=1)
    path.write_bytes(compressor.compress(text[:999]) + compressor.compress(text[999:]))
    assert rows_in(Source(str(path)).blocks()) == ROWS
    assert Source(str(path)).digest == blake3(text).hexdigest()


def test_a_bomb_of_zstd_is_stopped_before_it_takes_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jsonl.zst"
    path.write_bytes(zstandard.compress(b"{}\n" + b"a" * (256 << 20)))
    monkeypatch.setattr(readers, "ROW_BYTES_MAX", 2 << 20)
    tracemalloc.start()
    try:
        assert "the limit of one row" in refused(path, row=2)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 128 << 20


def test_an_array_beyond_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_array(tmp_path / "a.json")
    monkeypatch.setattr(readers, "ARRAY_BYTES_MAX", path.stat().st_size - 1)
    assert "convert it to JSON lines" in refused(path)


def test_bad_parquet(tmp_path: Path) -> None:
    pa, pq = parquet_library()
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1 nothing of the kind PAR1")
    assert "not readable as Parquet" in refused(path)
    pq.write_table(pa.table({"text": ["a"]}), path)
    assert "no column `messages`" in refused(path)
    pq.write_table(pa.table({"messages": [b"\xff"]}), path)
    assert rows_in(Source(str(path)).blocks()) == [orjson.dumps({"messages": {NO_FORM: "bytes"}})]
    whole = write_parquet(path).read_bytes()
    path.write_bytes(whole.replace(b"content", b"\xffontent"))
    assert "not readable as Parquet" in refused(path)
    for at in range(50, len(whole) - 400, len(whole) // 40):
        path.write_bytes(whole[:at] + bytes(400) + whole[at + 400 :])
        # Pages carry no checksum by default: damage may pass as other values, but no other error comes out.
        with contextlib.suppress(SourceError):
            list(Source(str(path)).blocks())


def test_parquet_keeps_the_order_of_the_columns_and_nulls(tmp_path: Path) -> None:
    pa, pq = parquet_library()
    path = tmp_path / "a.parquet"
    table = pa.Table.from_pylist(
        [
            {"tools": None, "id": 7, "messages": [{"role": "user", "content": None}, {"role": "x", "name": "y"}]},
            {"tools": '["é"]', "id": 8, "messages": []},
        ],
        schema=pa.schema(
            [
                ("tools", pa.string()),
                ("id", pa.int64()),
                (
                    "messages",
                    pa.list_(pa.struct([("role", pa.string()), ("content", pa.string()), ("name", pa.string())])),
                ),
            ]
        ),
    )
    pq.write_table(table, path)
    rows = [row.decode() for row in rows_in(Source(str(path)).blocks())]
    assert rows == [
        '{"tools":null,"messages":[{"role":"user","content":null,"name":null},{"role":"x","content":null,"name":"y"}]}',
        '{"tools":"[\\"é\\"]","messages":[]}',
    ]


@pytest.mark.parametrize(
    ("suffix", "library", "extra"), [(".json", "orjson", "tokenize"), (".parquet", "pyarrow", "parquet")]
)
def test_a_missing_library_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, library: str, extra: str
) -> None:
    path = WRITERS[suffix](tmp_path / f"a{suffix}")
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtraError, match=f"castore\\[{extra}\\]"):
        list(Source(str(path)).blocks())


def test_json_lines_need_no_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for library in ("orjson", "pyarrow"):
        monkeypatch.setitem(sys.modules, library, None)
    assert rows_in(Source(str(write_gz(tmp_path / "a.jsonl.gz"))).blocks()) == ROWS


@pytest.mark.parametrize("block_bytes", [1, 0, -5, 1 << 32])
def test_an_impossible_block_size(tmp_path: Path, block_bytes: int) -> None:
    with pytest.raises(InvalidInputError, match="block size"):
        Source(str(write_jsonl(tmp_path / "a.jsonl")), block_bytes=block_bytes)


# -- blocks ----------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(st.integers(0, 700), max_size=300), st.integers(2, 700), st.integers(1, 40))
def test_blocks_are_runs_of_the_split_rule(lengths: list[int], target: int, batch_rows: int) -> None:
    rows = [b"%d" % number + b"x" * length for number, length in enumerate(lengths)]
    batches = [
        readers.RowBatch(rows[lo : lo + batch_rows], np.arange(lo, hi), np.arange(lo, hi) + 1)
        for lo in range(0, len(rows), batch_rows)
        for hi in [min(lo + batch_rows, len(rows))]
    ]
    source = Source("made.jsonl", block_bytes=target, reader=cast(readers.RowReader, Batches(batches)))
    heads = [int.from_bytes(blake3(row).digest(4), "little") for row in rows]
    items = [(head, len(row) + 16) for head, row in zip(heads, rows, strict=True)]
    blocks = list(source.blocks())
    assert [len(block) for block in blocks] == reference.cut(items, target)
    assert [row for block in blocks for row in block.rows] == rows


class Batches:
    """A reader of rows that are there already."""

    def __init__(self, batches: list[readers.RowBatch]) -> None:
        self._batches = batches

    def batches(self, wanted: object) -> Iterator[readers.RowBatch]:
        return iter(self._batches)


@pytest.mark.parametrize(("size", "target"), [(10, 4096), (1000, 4096), (4080, 4096), (8176, 4096), (8177, 4096)])
def test_equal_rows_make_blocks_of_bounded_size(tmp_path: Path, size: int, target: int) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [b"x" * size] * 700)
    blocks = list(Source(str(path), block_bytes=target).blocks())
    weights = [block.byte_count + 16 * len(block) for block in blocks]
    assert sum(map(len, blocks)) == 700
    assert all(weight <= 2 * target or len(block) == 1 for weight, block in zip(weights, blocks, strict=True))
    assert all(2 * weight >= target for weight in weights[:-1])


def test_where_blocks_end_is_fixed(tmp_path: Path) -> None:
    # Golden: units of work that earlier runs recorded are found again only while this stays as it is.
    path = write_jsonl(tmp_path / "a.jsonl", [b'{"n":%d,"x":"%s"}' % (n, b"y" * (n * 37 % 400)) for n in range(2000)])
    blocks = list(Source(str(path), block_bytes=16384).blocks())
    assert [int(block.numbers[0]) for block in blocks[:12]] == GOLDEN_STARTS
    assert blake3(np.array([block.numbers[0] for block in blocks], "<i8").tobytes()).hexdigest() == GOLDEN_DIGEST


@pytest.mark.parametrize("edit", ["change", "insert", "delete"])
def test_an_edit_changes_the_blocks_around_it_only(tmp_path: Path, edit: str) -> None:
    rows = rows_of(conversation(number, size=number * 7 % 90) for number in range(3000))
    before = {b.keys for b in Source(str(write_jsonl(tmp_path / "a.jsonl", rows)), block_bytes=8192).blocks()}
    changed = []
    for at in random.Random(5).sample(range(len(rows)), 40):
        new = [b'{"messages":[]}'] if edit != "delete" else []
        edited = rows[:at] + new + rows[at + (edit != "insert") :]
        after = {b.keys for b in Source(str(write_jsonl(tmp_path / "b.jsonl", edited)), block_bytes=8192).blocks()}
        changed.append(len(after - before))
    assert len(before) > 60
    assert sum(changed) / len(changed) < 2
    assert max(changed) <= 6


def test_blocks_and_sources_travel_to_other_processes(any_file: str) -> None:
    source = Source(any_file, block_bytes=2048)
    blocks = list(source.blocks())
    again: list[Block] = pickle.loads(pickle.dumps(blocks))
    assert shape(again) == shape(blocks)
    assert shape(pickle.loads(pickle.dumps(source)).blocks()) == shape(blocks)
    # An array that is a view would carry what it is a view of.
    assert all(block.numbers.base is None and block.lines.base is None for block in blocks)


def test_rows_stay_what_they_were_written_as(tmp_path: Path) -> None:
    spelled = b'{ "messages" : [ {"role":"user", "content":"\\u00e9 \\/ 1e3"} ], "n": 12345678901234567890123 }'
    (block,) = Source(str(write_jsonl(tmp_path / "a.jsonl", [spelled]))).blocks()
    assert block.rows == (spelled,)
    assert json.loads(block.rows[0])["messages"][0]["content"] == "é / 1e3"
