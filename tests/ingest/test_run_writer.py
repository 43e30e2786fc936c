"""What a mix becomes: the same samples as a naive reading of the rules, in the same order, whatever the way."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from blake3 import blake3

from castore.errors import SourceError
from castore.ingest.job import Sizes
from castore.ingest.run_writer import Progress
from castore.ingest.tokenizer import ChatTemplate, ChatTokenizer, TokenizerFolder
from castore.repository import Repository
from castore.store.backend import MemoryBackend
from castore.store.packs import packed
from tests.support.complete import check_complete
from tests.support.jobs import (
    SMALL,
    TOKENIZER,
    counted_tokenizing,
    example_rows,
    row,
    run_job,
    write_rows,
)
from tests.support.layouts import LAYOUTS, Layout, flipped, forget, in_packs, loose


def picked(count: int, amount: str) -> list[int]:
    """Row numbers that a mix takes, written down as open-instruct does it."""
    target = int(float(amount) * count) if "." in amount else int(amount)
    numbers = list(range(count)) * (target // count)
    extra = target % count
    return numbers + np.random.RandomState(42).choice(count, size=extra, replace=False).tolist() if extra else numbers


def naive(mix: list[tuple[list[bytes], str]], max_seq_length: int | None = None) -> tuple[list[Any], list[Any]]:
    """Samples (ids, spans, source) and origins (row, raw key) of a mix, a row at a time."""
    folder = TokenizerFolder.load(str(TOKENIZER))
    assert folder.chat_template is not None
    tokenizer = ChatTokenizer(folder, ChatTemplate("tokenizer", folder.chat_template), max_seq_length)
    samples, origins = [], []
    for source, (rows, amount) in enumerate(mix):
        for number in picked(len(rows), amount):
            one = tokenizer.tokenize([rows[number]])
            if len(one.rows):
                spans = tuple(zip(one.span_starts.tolist(), one.span_ends.tolist(), strict=True))
                samples.append((tuple(one.token_ids.tolist()), spans, source))
                origins.append((number, blake3(rows[number]).digest(16)))
    return samples, origins


@pytest.fixture(scope="module")
def rows() -> list[bytes]:
    """Rows of which two are dropped, and one repeats another."""
    chosen = list(example_rows()[:50])
    chosen[7] = row("nobody answers")
    chosen[31] = row("nor here")
    chosen[40] = chosen[3]
    return chosen


@pytest.fixture
def path(tmp_path: Path, rows: list[bytes]) -> Path:
    return write_rows(tmp_path / "rows.jsonl", rows)


@pytest.mark.parametrize("amount", ["1.0", "3.0", "1.5", "0.3", "17", "1", "120", "50", "100", "0.99", "2.5"])
def test_a_mix_holds_the_rows_that_the_rules_say(path: Path, rows: list[bytes], amount: str) -> None:
    backend = MemoryBackend()
    result = run_job(backend, [(path, amount)])
    checked = check_complete(Repository(backend))["out"]
    samples, origins = naive([(rows, amount)])
    assert checked.rows == samples
    assert checked.origins == origins
    run = Repository(backend).dataset("out").run
    assert run is not None
    (source,) = run.sources
    taken = picked(50, amount)
    dropped = sum(number in (7, 31) for number in taken)
    assert source.rows == 50
    assert source.selected == len(taken)
    assert source.samples == len(samples) == len(taken) - dropped
    assert source.tokens == sum(len(ids) for ids, _, _ in samples) == result.tokens
    assert source.trainable == sum(hi - lo for _, spans, _ in samples for lo, hi in spans) == result.trainable
    assert source.dropped == ({"nothing-trainable": dropped} if dropped else {}) == dict(result.dropped)


def test_several_sources_stand_in_the_order_of_the_mix(tmp_path: Path, path: Path, rows: list[bytes]) -> None:
    others = list(example_rows()[60:90])
    other = write_rows(tmp_path / "other.jsonl", others)
    mix = [(other, "0.5"), (path, "1.5"), (other, "1.0"), (path, "5")]
    backend = MemoryBackend()
    run_job(backend, mix)
    checked = check_complete(Repository(backend))["out"]
    assert (checked.rows, checked.origins) == naive([(others, "0.5"), (rows, "1.5"), (others, "1.0"), (rows, "5")])
    run = Repository(backend).dataset("out").run
    assert run is not None
    assert [source.amount for source in run.sources] == ["0.5", "1.5", "1.0", "5"]


def test_the_cut_at_a_length(path: Path, rows: list[bytes]) -> None:
    backend = MemoryBackend()
    result = run_job(backend, [(path, "1.0")], max_seq_length=60)
    checked = check_complete(Repository(backend))["out"]
    assert (checked.rows, checked.origins) == naive([(rows, "1.0")], 60)
    assert max(len(ids) for ids, _, _ in checked.rows) == 60
    assert result.dropped["nothing-trainable"] > 2


def test_the_seed_of_the_picks(path: Path, rows: list[bytes]) -> None:
    backend = MemoryBackend()
    run_job(backend, [(path, "10")], mix_seed=7)
    expected = np.random.RandomState(7).choice(50, size=10, replace=False).tolist()
    numbers = [number for number, _ in check_complete(Repository(backend))["out"].origins]
    assert numbers == [number for number in expected if number not in (7, 31)]


# ---- cost


def test_three_copies_are_tokenized_once_and_stored_about_once(tmp_path: Path) -> None:
    rows = example_rows()[:120]
    path = write_rows(tmp_path / "rows.jsonl", rows)
    once, thrice = MemoryBackend(), MemoryBackend()
    with counted_tokenizing() as calls:
        single = run_job(once, [(path, "1.0")])
        first = list(calls)
        triple = run_job(thrice, [(path, "3.0")])
    assert sum(first) == 120
    assert calls == first + first
    assert triple.samples == 3 * single.samples
    assert triple.tokens == 3 * single.tokens
    chunks = chunk_digests(thrice)
    assert len(chunks) > 30
    assert len(set(chunks)) < 0.45 * len(chunks)
    assert triple.progress.rows_reused == 2 * 120


def chunk_digests(backend: MemoryBackend) -> list[bytes]:
    from castore.tree.walk import leaves

    data = Repository(backend).dataset("out")
    return [leaf.entry.digest for leaf in leaves(data.fetch, data.tree("token_ids"))]


def test_the_same_file_twice_in_a_mix_is_tokenized_once(path: Path, rows: list[bytes]) -> None:
    backend = MemoryBackend()
    with counted_tokenizing() as calls:
        run_job(backend, [(path, "1.0"), (path, "1.0")])
    assert sum(calls) == 50
    assert check_complete(Repository(backend))["out"].rows == naive([(rows, "1.0"), (rows, "1.0")])[0]


def test_picks_of_a_whole_source_cost_nothing_more(path: Path) -> None:
    with counted_tokenizing() as calls:
        run_job(MemoryBackend(), [(path, "1.5")])
    assert sum(calls) == 50


def test_picks_alone_tokenize_only_what_is_picked(path: Path) -> None:
    with counted_tokenizing() as calls:
        run_job(MemoryBackend(), [(path, "0.3")])
    assert sum(calls) == 15


@pytest.mark.parametrize("amount", ["1.0", "0.3", "1.5", "2.0"])
def test_a_second_run_tokenizes_nothing_and_says_so(path: Path, amount: str) -> None:
    backend = MemoryBackend()
    first = run_job(backend, [(path, amount)])
    with counted_tokenizing() as calls:
        second = run_job(backend, [(path, amount)])
    assert not calls
    assert second.root == first.root
    assert (
        second.progress.rows_done
        == second.progress.rows_reused
        == second.progress.rows_total
        == first.samples + (sum(first.dropped.values()))
    )
    assert second.progress.units_reused == second.progress.units == first.progress.units
    assert second.objects_new <= 1  # the run record, whose time may differ


def test_picks_reuse_what_a_whole_run_tokenized(path: Path, rows: list[bytes]) -> None:
    """A share of a file is taken from the units of the file, if there are any, and is the same samples either way."""
    alone = run_job(MemoryBackend(), [(path, "0.4")]).root
    backend = MemoryBackend()
    run_job(backend, [(path, "1.0")])
    with counted_tokenizing() as calls:
        again = run_job(backend, [(path, "0.4")])
    assert not calls
    assert again.root == alone
    assert again.progress.rows_reused == again.progress.rows_done == again.progress.rows_total


def test_an_edited_row_costs_its_block(tmp_path: Path) -> None:
    rows = list(example_rows()[:150])
    backend = MemoryBackend()
    path = write_rows(tmp_path / "rows.jsonl", rows)
    with counted_tokenizing() as calls:
        run_job(backend, [(path, "1.0")])
        blocks = len(calls)
        calls.clear()
        rows[70] = rows[70].replace(b"the", b"teh", 1)
        write_rows(path, rows)
        result = run_job(backend, [(path, "1.0")])
    assert blocks > 15
    assert len(calls) <= 2
    assert result.progress.units_reused == result.progress.units - len(calls)


# ---- the same root, whatever


def test_names_folders_kinds_and_sizes_of_blocks_leave_no_trace(tmp_path: Path) -> None:
    rows = example_rows()[:80]
    path = write_rows(tmp_path / "rows.jsonl", rows)
    wanted = run_job(MemoryBackend(), [(path, "1.5")]).root
    (tmp_path / "deep" / "er").mkdir(parents=True)
    zipped = tmp_path / "deep" / "er" / "Zipped.jsonl.gz"
    zipped.write_bytes(gzip.compress(path.read_bytes()))
    array = tmp_path / "array.json"
    array.write_bytes(b"[" + b",\n".join(rows) + b"]")
    lines = tmp_path / "lines.json"
    lines.write_bytes(b"\xef\xbb\xbf" + b"\r\n\r\n".join(rows))
    for other in (zipped, array, lines):
        assert run_job(MemoryBackend(), [(other, "1.5")]).root == wanted, other
    for block_bytes in (2, 100, 1000, 20_000, 1 << 20):
        sizes = Sizes(block_bytes, SMALL.chunk_bytes, SMALL.fanout)
        assert run_job(MemoryBackend(), [(path, "1.5")], sizes=sizes).root == wanted, block_bytes


def test_parquet_gives_the_same_root(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    # Parquet fills in fields that a message does not have, and the column of another name is not read.
    rows = [{"id": str(i), "messages": json.loads(r)["messages"]} for i, r in enumerate(example_rows()[:80])]
    lines = write_rows(tmp_path / "rows.jsonl", [json.dumps({"messages": r["messages"]}).encode() for r in rows])
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows.parquet", row_group_size=17)
    results = [run_job(MemoryBackend(), [(p, "1.5")]) for p in (lines, tmp_path / "rows.parquet")]
    assert results[0].root == results[1].root


def test_what_the_repository_holds_leaves_no_trace(path: Path, tmp_path: Path) -> None:
    """Units that were cut for other neighbours are cut anew to the same chunks."""
    wanted = run_job(MemoryBackend(), [(path, "2.0")]).root
    backend = MemoryBackend()
    other = write_rows(tmp_path / "other.jsonl", example_rows()[200:230])
    run_job(backend, [(other, "1.0"), (path, "1.0")], name="mixed")
    run_job(backend, [(other, "0.5"), (path, "0.9")], name="picked")
    with counted_tokenizing() as calls:
        assert run_job(backend, [(path, "2.0")]).root == wanted
    assert not calls
    check_complete(Repository(backend))


def test_one_unit_in_two_places_at_once(tmp_path: Path) -> None:
    """Blocks that repeat are found while the first of them still waits to be stored."""
    rows = list(example_rows()[:6]) * 20
    path = write_rows(tmp_path / "rows.jsonl", rows)
    backend = MemoryBackend()
    sizes = Sizes(500, 30_000, 4)
    with counted_tokenizing() as calls:
        run_job(backend, [(path, "2.0")], sizes=sizes)
    assert sum(calls) < 40
    assert check_complete(Repository(backend))["out"].rows == naive([(rows, "2.0")])[0]


# ---- units that cannot be relied on


@pytest.mark.parametrize("damage", ["damaged", "damaged in a pack", "empty", "of another version"])
def test_a_bad_record_is_made_again(path: Path, damage: str) -> None:
    backend = MemoryBackend()
    layout = in_packs if damage == "damaged in a pack" else loose
    root = run_job(layout(backend), [(path, "1.5")]).root
    for key in list(packed(backend).list("units"))[::2]:
        if layout is in_packs:
            flipped(backend, key)
            continue
        data = backend.get(key, 1 << 30)
        assert data is not None
        changed = {"damaged": data[:-1] + bytes([data[-1] ^ 1]), "empty": b""}.get(damage)
        if changed is None:
            body = data[:-32].replace(b"format\x01", b"format\x02")
            changed = body + blake3(body).digest()
        backend.put(key, changed)
    with counted_tokenizing() as calls:
        assert run_job(backend, [(path, "1.5")]).root == root
        assert calls
        calls.clear()
        assert run_job(backend, [(path, "1.5")]).root == root
    assert not calls
    check_complete(Repository(backend))


@LAYOUTS
@pytest.mark.parametrize("amount", ["1.0", "2.0", "0.5"])
def test_a_record_whose_chunk_was_deleted_is_made_again(path: Path, amount: str, layout: Layout) -> None:
    """The way out of a damaged chunk that its error message names: delete the file, store the same data again."""
    backend = MemoryBackend()
    root = run_job(layout(backend), [(path, amount)]).root
    deleted = chunk_digests(backend)[2].hex()
    forget(backend, f"objects/{deleted[:2]}/{deleted}")
    assert run_job(backend, [(path, amount)]).root == root
    check_complete(Repository(backend))


def test_records_may_all_go(path: Path) -> None:
    backend = MemoryBackend()
    root = run_job(loose(backend), [(path, "1.5")]).root
    for key in list(backend.list("units")):
        backend.delete(key)
    assert run_job(backend, [(path, "1.5")]).root == root


# ---- bad rows


@pytest.fixture
def bad(tmp_path: Path, rows: list[bytes]) -> Path:
    rows = list(rows)
    rows[20] = b'{"messages": [{"role": "user", "content": "x"}, {"role": 5, "content": "y"}]}'
    rows[33] = b"{not json"
    path = write_rows(tmp_path / "bad.jsonl", rows)
    # A blank line before everything: rows are named by their line.
    path.write_bytes(b"\n" + path.read_bytes())
    return path


@pytest.mark.parametrize("amount", ["1.0", "2.0"])
def test_the_first_bad_row_stops_the_run_and_is_named(bad: Path, amount: str) -> None:
    with pytest.raises(SourceError) as caught:
        run_job(MemoryBackend(), [(bad, amount)])
    assert str(caught.value).startswith(f"{bad}, row 22, messages[1].role: ")
    assert (caught.value.row, caught.value.field) == (22, "messages[1].role")


def test_rows_before_a_bad_one_are_kept_for_the_next_run(bad: Path) -> None:
    backend = MemoryBackend()
    with pytest.raises(SourceError), counted_tokenizing() as calls:
        run_job(backend, [(bad, "1.0")])
    before = len(calls) - 1
    assert before > 2
    good = bad.read_bytes().replace(b'"role": 5', b'"role": "assistant"').replace(b"{not json", row("a", "b"))
    bad.write_bytes(good)
    with counted_tokenizing() as calls:
        result = run_job(backend, [(bad, "1.0")])
    assert result.progress.units_reused == before
    assert result.root == run_job(MemoryBackend(), [(bad, "1.0")]).root


def test_skipped_rows_are_counted_and_listed(bad: Path) -> None:
    from castore.format.files import DROPPED_FILE, decode_dropped

    backend = MemoryBackend()
    result = run_job(backend, [(bad, "2.0")], on_error="skip")
    assert result.dropped == {"bad-row": 4, "nothing-trainable": 4}
    assert result.samples == 2 * 46
    data = Repository(backend).dataset("out")
    assert data.run is not None
    listed = decode_dropped(data.fetch(data.run.files[DROPPED_FILE]))
    assert [(drop.row, drop.line, drop.reason.partition(":")[0]) for drop in listed] == [
        (7, 9, "nothing-trainable"),
        (20, 22, "bad-row"),
        (31, 33, "nothing-trainable"),
        (33, 35, "bad-row"),
    ]
    assert listed[1].reason.startswith("bad-row: messages[1].role: ")


@pytest.mark.parametrize("amount", ["1.0", "0.9", "1.5"])
def test_a_run_that_stops_refuses_what_another_skipped(bad: Path, amount: str) -> None:
    """With the very same words, though the unit is stored."""
    backend = MemoryBackend()
    with pytest.raises(SourceError) as fresh:
        run_job(MemoryBackend(), [(bad, amount)])
    run_job(backend, [(bad, amount)], on_error="skip")
    with pytest.raises(SourceError) as found, counted_tokenizing() as calls:
        run_job(backend, [(bad, amount)])
    assert str(found.value) == str(fresh.value)
    assert not calls


def test_dropped_rows_are_counted_by_source(tmp_path: Path, path: Path, bad: Path) -> None:
    backend = MemoryBackend()
    run_job(backend, [(path, "0.9"), (bad, "1.5")], on_error="skip")
    run = Repository(backend).dataset("out").run
    assert run is not None
    first = Counter("nothing-trainable" for number in picked(50, "0.9") if number in (7, 31))
    kinds = {7: "nothing-trainable", 31: "nothing-trainable", 20: "bad-row", 33: "bad-row"}
    second = Counter(kinds[number] for number in picked(50, "1.5") if number in kinds)
    assert [source.dropped for source in run.sources] == [dict(first), dict(second)]


# ---- progress


@pytest.mark.parametrize("amount", ["1.0", "0.5", "2.5", "30"])
def test_progress_ascends_to_the_end(path: Path, amount: str) -> None:
    states = []

    def report(progress: Progress) -> None:
        states.append((progress.rows_done, progress.rows_total, progress.tokens))

    result = run_job(MemoryBackend(), [(path, amount), (path, amount)], report=report)
    assert states == sorted(states)
    assert len({done for done, _, _ in states}) > 3, "also while rows that are picked are tokenized"
    tokens = [count for _, _, count in states]
    assert tokens == sorted(tokens)
    assert len(set(tokens)) > 3, "or the rate would stand at nothing"
    assert states[-1] == (result.progress.rows_total, result.progress.rows_total, result.tokens)
