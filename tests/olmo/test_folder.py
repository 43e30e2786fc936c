"""Reading output directories of open-instruct: documents over part ends, widths, and everything that may be wrong."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from castore.errors import InvalidInputError, SourceError
from castore.format.samples import TOKENS_MAX, SpanColumn
from castore.ingest.tokenizer_folder import TokenizerFolder
from castore.olmo.folder import OlmoCoreFolder, check_statistics, spans_of
from castore.olmo.parts import ContentHash
from castore.olmo.scan import FolderScan, Reading, folder_sources
from castore.olmo.sources import source_records, sources_in_mix_order
from tests.support.olmo_core import DAMAGES, EOS, Document, damaged_folder, documents, write_bounds, write_folder


def read(folder: OlmoCoreFolder, chosen: list[int] | None = None) -> list[Document]:
    """Documents of a folder as they were written."""
    samples = folder.samples(0, len(folder.lengths)) if chosen is None else folder.chosen(np.array(chosen, np.int64))
    ids, spans = samples.columns["token_ids"], samples.columns["labels_mask"]
    assert isinstance(ids, np.ndarray)
    assert isinstance(spans, SpanColumn)
    stops = np.cumsum(samples.lengths)[:-1]
    pieces = zip(np.split(ids, stops), np.split(spans.mask(samples.lengths), stops), strict=True)
    return [(tokens.tolist(), labels.tolist()) for tokens, labels in pieces]


# ---- documents


@pytest.mark.parametrize("dtype", ["<u1", "<u2", "<u4", "<u8"])
@pytest.mark.parametrize("part_items", [7, 50, 64, 1000, 10_000])
@pytest.mark.parametrize("statistics", [True, False])
def test_documents_are_whole_whatever_the_parts(tmp_path: Path, dtype: str, part_items: int, statistics: bool) -> None:
    made = documents(100)
    folder = OlmoCoreFolder(
        str(write_folder(tmp_path / "out", made, part_items=part_items, dtype=dtype, statistics=statistics))
    )
    check_statistics(folder)
    assert folder.id_bytes == np.dtype(dtype).itemsize
    assert folder.lengths.tolist() == [len(tokens) for tokens, _ in made]
    assert folder.tokens == sum(len(tokens) for tokens, _ in made)
    assert read(folder) == made
    chosen = np.random.default_rng(0).permutation(100).tolist()
    assert read(folder, chosen) == [made[i] for i in chosen]
    assert len(folder.chosen(np.zeros(0, np.int64))) == 0


@given(st.lists(st.integers(1, 12), min_size=1, max_size=12), st.integers(1, 20), st.booleans())
def test_any_lengths_in_any_parts(lengths: list[int], part_items: int, statistics: bool) -> None:
    from tempfile import TemporaryDirectory

    made = [([*range(10, 9 + length), EOS], [i % 2 for i in range(length)]) for length in lengths]
    with TemporaryDirectory() as temporary:
        path = write_folder(Path(temporary) / "out", made, part_items=part_items, statistics=statistics)
        assert read(OlmoCoreFolder(str(path))) == made


def test_a_document_that_was_cut_and_ends_with_a_part(tmp_path: Path) -> None:
    """It ends in no EOS, so only the number of documents tells that it is complete."""
    made: list[Document] = [([10, 11, EOS], [0, 1, 1]), ([12, 13, 14], [0, 1, 1]), ([15, EOS], [0, 1])]
    assert read(OlmoCoreFolder(str(write_folder(tmp_path / "known", made, part_items=6)))) == made
    unknown = OlmoCoreFolder(str(write_folder(tmp_path / "unknown", made, part_items=6, statistics=False)))
    assert unknown.lengths.tolist() == [3, 5]


def test_of_two_part_ends_the_one_inside_a_document_is_found(tmp_path: Path) -> None:
    """Two joints, one of them a document's end: the count says one, the last tokens say which."""
    made: list[Document] = [
        ([10, 11, EOS], [0, 1, 1]),
        ([12, EOS], [0, 1]),
        ([13, 14, 15, 16, EOS], [0, 1, 1, 1, 1]),
        ([17, EOS], [0, 1]),
    ]
    assert read(OlmoCoreFolder(str(write_folder(tmp_path / "out", made, part_items=4)))) == made
    assert read(OlmoCoreFolder(str(write_folder(tmp_path / "five", made, part_items=5)))) == made


def test_of_two_part_ends_the_one_after_a_document_that_was_cut_is_found(tmp_path: Path) -> None:
    """Neither ends in EOS; but one would be longer than what the directory was made with allows, if it went on."""
    made: list[Document] = [
        ([10, EOS], [0, 1]),
        ([11, 12, 13, 14], [0, 1, 1, 1]),
        ([15, 16, EOS], [0, 1, 1]),
        ([17, 18, 19, EOS], [0, 1, 1, 1]),
        ([20, EOS], [0, 1]),
    ]
    statistics = {"overall_statistics": {"total_instances": 5}, "configuration": {"max_sequence_length": 4}}
    assert read(OlmoCoreFolder(str(write_folder(tmp_path / "out", made, part_items=6, statistics=statistics)))) == made


def test_of_two_part_ends_behind_the_last_token_the_one_between_turns_is_found(tmp_path: Path) -> None:
    """The token that ends a document ends every turn, and documents begin otherwise than turns."""
    made: list[Document] = [
        ([10, 11, EOS], [0, 0, 1]),
        ([10, 11, EOS], [0, 1, 1]),
        ([10, 11, EOS], [0, 0, 1]),
        ([10, 11, EOS, 20, 14, EOS], [0, 0, 1, 0, 0, 1]),
        ([10, 11, 15, EOS], [0, 0, 1, 1]),
    ]
    assert read(OlmoCoreFolder(str(write_folder(tmp_path / "out", made, part_items=6)))) == made


def test_equal_data_have_equal_digests(tmp_path: Path) -> None:
    made = documents(20)
    folders = [OlmoCoreFolder(str(write_folder(tmp_path / name, made))) for name in ("a", "b")]
    assert folders[0].digest() == folders[1].digest()
    other = [*made[:3], (made[3][0], [1 - label for label in made[3][1]]), *made[4:]]
    assert OlmoCoreFolder(str(write_folder(tmp_path / "c", other))).digest() != folders[0].digest()


@pytest.mark.parametrize("part_items", [1 << 28, 128, 7])
@pytest.mark.parametrize("dtype", ["<u1", "<u2", "<u4", "<u8"])
def test_what_is_hashed_in_use_is_what_is_hashed_alone(tmp_path: Path, part_items: int, dtype: str) -> None:
    path = str(write_folder(tmp_path / "a", documents(40), part_items=part_items, dtype=dtype))
    for step in (1, 7, 40):
        folder, seen = OlmoCoreFolder(path), ContentHash()
        folder.samples(20, 21)  # and what is used for something else is not seen
        for lo in range(0, 40, step):
            folder.samples(lo, min(lo + step, 40), seen)
        assert seen.digest(folder.shape) == OlmoCoreFolder(path).digest() == Reading.of(folder).content


def test_which_documents_were_joined_is_in_the_digest(tmp_path: Path) -> None:
    """Two folders with the same parts, of which the statistics count documents differently, are not the same."""
    two: list[Document] = [([10, EOS], [0, 1]), ([11, EOS], [0, 1])]
    one: list[Document] = [([10, EOS, 11, EOS], [0, 1, 0, 1])]
    folders = [OlmoCoreFolder(str(write_folder(tmp_path / str(len(m)), m, part_items=2))) for m in (one, two)]
    assert [folder.lengths.tolist() for folder in folders] == [[4], [2, 2]]
    assert folders[0].digest() != folders[1].digest()


@given(st.lists(st.lists(st.integers(0, 1), max_size=8), max_size=8))
def test_spans_are_the_mask(masks: list[list[int]]) -> None:
    lengths = np.array([len(mask) for mask in masks], np.int64)
    flat = np.array([label for mask in masks for label in mask], np.uint8)
    spans = spans_of(flat, lengths)
    assert spans.mask(lengths).tolist() == flat.tolist()
    for mask, count in zip(masks, spans.counts.tolist(), strict=True):
        assert count == len("".join(map(str, mask)).replace("0", " ").split())


def test_other_files_are_no_trouble(tmp_path: Path) -> None:
    made = documents(5)
    path = write_folder(tmp_path / "out", made)
    for name in ("README", "dataset_statistics.txt", "labels_mask_part_0000.csv.gz", "token_ids_part_1.npy"):
        (path / name).touch()
    assert read(OlmoCoreFolder(str(path))) == made


# ---- what is wrong


@pytest.mark.parametrize("name", ["token_ids_part_0000.csv.gz", "dataset_statistics.json", "token_ids_part_0000.npy"])
@pytest.mark.parametrize("place", ["pipe", "/dev/zero"])
def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path: Path, name: str, place: str) -> None:
    path = write_folder(tmp_path / "out", documents(5), statistics=True)
    (path / name).unlink()
    os.mkfifo(path / name) if place == "pipe" else (path / name).symlink_to(place)
    load = (
        "import sys, castore.olmo.folder as o\n"
        "try: o.OlmoCoreFolder(sys.argv[1])\n"
        "except o.SourceError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", load, path], capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout.startswith(f"{path}: {name}"), done
    assert len(done.stdout.splitlines()) == 1


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_folder_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    said = damaged_folder(tmp_path / "out", name)
    with pytest.raises(SourceError) as caught:
        check_statistics(OlmoCoreFolder(str(tmp_path / "out")))
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'out'}: ")
    assert said in message
    assert len(message.splitlines()) == 1
    assert len(message) < 400


def test_places_that_are_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name, said in (("nothing", "No such file or directory"), ("file", "is no folder")):
        with pytest.raises(SourceError, match=said):
            OlmoCoreFolder(str(tmp_path / name))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read(tmp_path: Path) -> None:
    path = write_folder(tmp_path / "out", documents(5))
    (path / "labels_mask_part_0000.npy").chmod(0)
    with pytest.raises(SourceError, match=r"labels_mask_part_0000.npy: Permission denied"):
        OlmoCoreFolder(str(path))


@pytest.mark.parametrize("tokens", [TOKENS_MAX + 1, 1 << 32, (1 << 32) + 1])
def test_a_document_that_is_too_long(tmp_path: Path, tokens: int) -> None:
    """A length of 2**32 tokens does not become 0."""
    path = write_folder(tmp_path / "out", documents(2), statistics=False)
    for name in ("labels_mask", "token_ids"):
        os.truncate(path / f"{name}_part_0000.npy", 5 + tokens)  # takes no room
    write_bounds(path, 0, b"0,5\n5,%d\n" % (5 + tokens))
    with pytest.raises(SourceError, match=f"document 1 has {tokens} tokens"):
        OlmoCoreFolder(str(path))


def test_boundaries_take_memory_for_what_they_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for what a part of 268 million tokens could have, 11 GB, which smaller machines refuse to give."""
    folder = write_folder(tmp_path / "out", documents(2), statistics=False)
    for name in ("labels_mask", "token_ids"):
        os.truncate(folder / f"{name}_part_0000.npy", 1 << 28)
    stops = range(1 << 20, (1 << 28) + 1, 1 << 20)
    write_bounds(folder, 0, "".join(f"{stop - (1 << 20)},{stop}\n" for stop in stops).encode())
    asked = []
    read = gzip.GzipFile.read
    monkeypatch.setattr(gzip.GzipFile, "read", lambda file, size: asked.append(size) or read(file, size))
    assert OlmoCoreFolder(str(folder)).lengths.tolist() == [1 << 20] * 256
    write_bounds(folder, 0, b"0,1\n" * (1 << 24))
    with pytest.raises(SourceError, match="line 1: documents do not cover"):
        OlmoCoreFolder(str(folder))
    assert len(asked) == 3
    assert max(asked) <= 1 << 24


@pytest.mark.parametrize("size", [1, 7, 64, 1 << 20])
def test_boundaries_are_the_same_however_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr("castore.olmo.bounds._BOUNDS_BYTES", size)
    made = documents(40)
    assert read(OlmoCoreFolder(str(write_folder(tmp_path / "out", made)))) == made
    for text, said in ((b"0,5\n5,9", "start,end"), (b"0," + b"1" * 50, "start,end"), (b"0,5\n6,9\n", "line 1")):
        write_bounds(tmp_path / "out", 0, text)
        with pytest.raises(SourceError, match=said):
            OlmoCoreFolder(str(tmp_path / "out"))


def test_a_tokenizer_file_that_is_too_large(tmp_path: Path) -> None:
    path = write_folder(tmp_path / "out", documents(2))
    (path / "tokenizer").mkdir()
    (path / "tokenizer" / "tokenizer.json").touch()
    os.truncate(path / "tokenizer" / "tokenizer.json", 1 << 40)
    with pytest.raises(SourceError, match=r"tokenizer/tokenizer.json is larger than 134217728 bytes"):
        _ = OlmoCoreFolder(str(path)).files
    with pytest.raises(InvalidInputError, match=r"tokenizer.json is larger than 134217728 bytes"):
        TokenizerFolder.load(str(path / "tokenizer"))


@pytest.mark.parametrize("label", [2, 255])
def test_a_label_that_is_none(tmp_path: Path, label: int) -> None:
    path = write_folder(tmp_path / "out", [([10, EOS], [0, label])])
    with pytest.raises(SourceError, match=f"a label is {label}, not 0 or 1"):
        read(OlmoCoreFolder(str(path)))


def test_an_id_that_is_too_large(tmp_path: Path) -> None:
    path = write_folder(tmp_path / "out", [([1 << 32, EOS], [0, 1])], dtype="<u8")
    with pytest.raises(SourceError, match="token id 4294967296 does not fit 32 bits"):
        read(OlmoCoreFolder(str(path)))


# ---- sources


def entry(name: str, made: list[Document], **more: Any) -> dict[str, Any]:
    return {
        "dataset_name": name,
        "final_instances_in_output": len(made),
        "final_tokens_in_output": sum(len(tokens) for tokens, _ in made),
        "final_trainable_tokens_in_output": sum(sum(labels) for _, labels in made),
        **more,
    }


def counts(made: list[Document]) -> tuple[np.ndarray[Any, Any], Callable[[], np.ndarray[Any, Any]]]:
    return np.array([len(tokens) for tokens, _ in made]), lambda: np.array([sum(labels) for _, labels in made])


def test_sources_are_put_in_the_order_of_the_mix() -> None:
    parts = [documents(n, seed=n) for n in (7, 3, 12)]
    listed = [entry(str(i), parts[i]) for i in (2, 0, 1)]
    found = sources_in_mix_order(listed, *counts([*parts[0], *parts[1], *parts[2]]))
    assert found is not None
    assert [one["dataset_name"] for one in found] == ["0", "1", "2"]
    twice = [entry("0", [*parts[0], *parts[2]]), entry("1", parts[1])]
    assert sources_in_mix_order(twice, *counts([*parts[0], *parts[1], *parts[2]])) is None
    assert sources_in_mix_order([], *counts(parts[0])) is None


def test_labels_are_not_read_where_lengths_tell() -> None:
    """They are most of the work, and of a shuffled directory the lengths tell."""
    parts = [documents(n, seed=n) for n in (7, 3)]
    listed = [entry(str(i), part) for i, part in enumerate(parts)]
    mixed = [*parts[0], *parts[1]]
    lengths, _ = counts([*mixed[::2], *mixed[1::2]])
    assert sources_in_mix_order(listed, lengths, lambda: pytest.fail("labels were asked for")) is None
    lengths, trainable = counts([*parts[0], *parts[1]])
    assert sources_in_mix_order(listed, lengths, lambda: trainable()[::-1]) is None


def test_equal_counts_do_not_take_for_ever() -> None:
    """Sixty sources that all could stand anywhere, and one that fits nowhere."""
    one: list[Document] = [([10, EOS], [0, 1])]
    listed = [entry(str(i), one) for i in range(60)] + [entry("odd", documents(1, seed=3, longest=9))]
    assert sources_in_mix_order(listed, *counts([*one * 60, ([10, 11, EOS], [1, 1, 1])])) is None


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.37, "0.37"), (1.0, "1.0"), (3, "3"), (1e-7, "0.0000001"), (1e22, "10000000000000000000000.0"), (None, "1.0"),
     ("x", "1.0"), (True, "1.0"), (float("nan"), "1.0"), (float("inf"), "1.0"), (-3, "1.0"), (1 << 70, "1.0")],
)  # fmt: skip
def test_amounts(value: Any, text: str) -> None:
    (source,) = source_records([{"frac_or_num_samples": value}])
    assert (source.amount, source.name) == (text, "source 0")


@pytest.mark.parametrize(
    "statistics",
    [
        {"overall_statistics": [], "configuration": 3, "per_dataset_statistics": 4},
        {"overall_statistics": {"total_instances": "many"}, "per_dataset_statistics": [1, None, []]},
        {"per_dataset_statistics": [{"dataset_name": 7, "original_dataset_size": 1 << 80, "dataset_split": "\ud800"}]},
        {"per_dataset_statistics": [{}, {}]},
        {"per_dataset_statistics": [{}] * 1000},
    ],
)
def test_odd_statistics_count_as_absent(tmp_path: Path, statistics: dict[str, Any]) -> None:
    made = documents(30)
    folder = OlmoCoreFolder(str(write_folder(tmp_path / "out", made, part_items=50, statistics=statistics)))
    check_statistics(folder)
    assert read(folder) == made
    scan = FolderScan(folder, None)
    ((source, count),) = folder_sources(folder, scan, undone=True)
    assert count == 30
    source.name.encode()
