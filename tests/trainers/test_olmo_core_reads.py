"""OLMo-core itself reads an export, and makes of it what ``castore check`` says and what is rebuilt here by hand.

Needs the packages ``ai2-olmo-core`` (3.0 has all that is asked here) and ``torch``; skipped without them. The part over
the real conversations also wants ``CASTORE_DATA``.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import warnings
from bisect import bisect_left, insort
from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from castore.dataset import Dataset
from castore.export.olmo_core import export_olmo_core
from castore.repository import Repository
from castore.train.check import check_olmo_core
from castore.train.report import Report, Rule
from tests.support.commands import castore

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"

# Warnings of OLMo-core and torch are theirs.
pytestmark = pytest.mark.filterwarnings("ignore")


@dataclass(frozen=True)
class Vocabulary:
    """What OLMo-core is told of a tokenizer."""

    eos: int
    pad: int
    size: int
    dtype: type[np.unsignedinteger[Any]]


EXAMPLE_VOCABULARY = Vocabulary(eos=0, pad=3, size=3000, dtype=np.uint16)
DOLMA2 = Vocabulary(eos=100257, pad=100277, size=100278, dtype=np.uint32)
TURN_START = 1
"""Every conversation of the examples begins with this id, so it can play BOS."""


@pytest.fixture(scope="module")
def olmo_core() -> Any:
    """The module with the dataset classes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("torch", reason="torch is not installed")
        return pytest.importorskip("olmo_core.data.numpy_dataset", reason="ai2-olmo-core is not installed")


# ---- OLMo-core's answer


def loaded(module: Any, folder: Path, work: Path, rule: Rule, vocabulary: Vocabulary) -> Any:
    """The dataset object over an export."""
    from olmo_core.data.types import LongDocStrategy

    known = inspect.signature(module.NumpyPackedFSLDataset).parameters
    if rule.metadata and "use_array_if_local" not in known:
        pytest.skip("this OLMo-core cannot be told to read the boundaries of local files")
    dataset = module.NumpyPackedFSLDataset(
        *sorted(folder.glob("token_ids_part_*.npy")),
        sequence_length=rule.sequence_length,
        pad_token_id=vocabulary.pad,
        eos_token_id=rule.eos,
        bos_token_id=rule.bos,
        vocab_size=vocabulary.size,
        dtype=vocabulary.dtype,
        label_mask_paths=sorted(folder.glob("labels_mask_part_*.npy")),
        long_doc_strategy=LongDocStrategy.fragment if rule.fragment else LongDocStrategy.truncate,
        **({"use_array_if_local": False} if rule.metadata else {}),
    )
    dataset.work_dir = work
    dataset.prepare()
    return dataset


@dataclass(frozen=True)
class Instances:
    """All instances: input_ids uint32[n, sequence_length], label_mask bool[n, sequence_length]."""

    input_ids: NDArray[np.uint32]
    label_mask: NDArray[np.bool_]

    @classmethod
    def of(cls, dataset: Any, sequence_length: int) -> Instances:
        items = [dataset[index] for index in range(len(dataset))]
        shape = (len(items), sequence_length)
        ids = [item["input_ids"].numpy() for item in items]
        masks = [item["label_mask"].numpy() for item in items]
        return cls(np.array(ids, np.uint32).reshape(shape), np.array(masks, np.bool_).reshape(shape))


# ---- the same by hand


def rebuilt(folder: Path, rule: Rule, vocabulary: Vocabulary) -> Instances:
    """The instances that the documented rule gives, with the sort that this machine's numpy has."""
    ids, masks = [], []
    for path in sorted(folder.glob("token_ids_part_*.npy")):
        tokens = np.fromfile(path, vocabulary.dtype)
        labels = np.fromfile(path.with_name(path.name.replace("token_ids", "labels_mask")), np.bool_)
        documents = np.array(list(_documents(path, tokens, rule)), np.int64).reshape(-1, 2)
        # Equal lengths come in the order that numpy's default sort gives, which differs between processors.
        documents = documents[np.argsort(-1 * (documents[:, 1] - documents[:, 0]))]
        for instance in _packed(documents, rule.sequence_length):
            row = np.full(rule.sequence_length, vocabulary.pad, np.uint32)
            mask = np.zeros(rule.sequence_length, np.bool_)
            at = 0
            for start, stop in instance:
                row[at : at + stop - start] = tokens[start:stop]
                mask[at : at + stop - start] = labels[start:stop]
                at += stop - start
            ids.append(row)
            masks.append(mask)
    shape = (len(ids), rule.sequence_length)
    return Instances(np.array(ids, np.uint32).reshape(shape), np.array(masks, np.bool_).reshape(shape))


def _documents(path: Path, tokens: NDArray[Any], rule: Rule) -> Iterator[tuple[int, int]]:
    if rule.metadata:
        with np.errstate(all="ignore"):
            text = np.loadtxt(path.with_suffix(".csv.gz"), np.int64, delimiter=",", ndmin=2)
        ends = text[:, 1].tolist()
    else:
        ends = (np.flatnonzero(tokens == rule.eos) + 1).tolist()
        if rule.bos is not None:
            ends = [end for end in ends if end == len(tokens) or tokens[end] == rule.bos]
    start = 0
    for end in ends:
        if rule.fragment:
            for piece in range(start, end, rule.sequence_length):
                yield piece, min(end, piece + rule.sequence_length)
        else:
            yield start, min(end, start + rule.sequence_length)
        start = end


def _packed(documents: NDArray[np.int64], capacity: int) -> list[list[tuple[int, int]]]:
    """Best fit; of instances with equal space the one that has had it longest."""
    instances: list[list[tuple[int, int]]] = []
    waiting: dict[int, deque[int]] = defaultdict(deque)
    spaces: list[int] = []
    for start, stop in documents.tolist():
        length = stop - start
        at = bisect_left(spaces, length)
        if at == len(spaces):
            chosen, space = len(instances), capacity
            instances.append([])
        else:
            space = spaces[at]
            chosen = waiting[space].popleft()
            if not waiting[space]:
                del spaces[at]
        instances[chosen].append((start, stop))
        if left := space - length:
            if not waiting[left]:
                insort(spaces, left)
            waiting[left].append(chosen)
    return instances


def compare(module: Any, folder: Path, work: Path, rule: Rule, vocabulary: Vocabulary, report: Report) -> Instances:
    """OLMo-core against the rebuilt instances, all of them, and against the counts of ``castore check``."""
    dataset = loaded(module, folder, work, rule, vocabulary)
    theirs, ours = Instances.of(dataset, rule.sequence_length), rebuilt(folder, rule, vocabulary)
    assert np.array_equal(theirs.input_ids, ours.input_ids)
    assert np.array_equal(theirs.label_mask, ours.label_mask)
    index_files = [dataset._get_document_indices_path(path) for path in dataset.paths]
    documents = np.concatenate([np.fromfile(path, np.uint64) for path in index_files]).reshape(-1, 2).astype(np.int64)
    assert report.instances == len(dataset)
    assert report.pieces == len(documents)
    assert report.total.packed_tokens == int((documents[:, 1] - documents[:, 0]).sum())
    assert report.total.packed_trainable == int(theirs.label_mask.sum())
    return theirs


# ---- examples

TURNS = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] or message['function_calls'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\\n' }}{% endfor %}"
)
"""A template that writes EOS after every answer and ends behind it."""


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory, olmo_core: Any) -> Path:
    """A repository with the examples cut at 64 tokens (``cut``), and whole with an EOS after each turn (``turns``)."""
    folder = tmp_path_factory.mktemp("examples")
    base: list[str | Path] = [
        "--repo",
        folder / "repository",
        "tokenize",
        "--mix",
        EXAMPLES / "conversations.jsonl",
        "2.5",
    ]
    base += ["--tokenizer", EXAMPLES / "tokenizer", "--workers", "1", "-q"]
    castore(*base, "--max-seq-length", "64", "--as", "cut")
    (folder / "turns.jinja").write_text(TURNS, encoding="utf-8")
    castore(*base, "--chat-template", folder / "turns.jinja", "--as", "turns")
    return folder


CASES = {
    "truncate": Rule(64, 0),
    "fragment": Rule(32, 0, fragment=True),
    "long": Rule(512, 0),
    "bos": Rule(64, 0, TURN_START),
    "metadata": Rule(64, 0, metadata=True),
    "metadata in pieces": Rule(16, 0, fragment=True, metadata=True),
}


@pytest.mark.parametrize("part_bytes", [1 << 30, 1 << 15], ids=["one part", "parts"])
@pytest.mark.parametrize("name", ["cut", "turns"])
def test_every_instance_of_the_examples(
    olmo_core: Any, examples: Path, tmp_path: Path, name: str, part_bytes: int
) -> None:
    data = Repository.open(str(examples / "repository")).dataset(name)
    folder = tmp_path / "export"
    exported = export_olmo_core(data, str(folder), part_bytes=part_bytes)
    assert (exported.parts > 2) is (part_bytes < 1 << 30)
    for case, rule in CASES.items():
        report = check_olmo_core(data, rule, part_bytes=part_bytes)
        compare(olmo_core, folder, tmp_path / case, rule, EXAMPLE_VOCABULARY, report)


def test_the_command_line_exports_and_checks_the_same(olmo_core: Any, examples: Path, tmp_path: Path) -> None:
    repository = ("--repo", examples / "repository")
    castore(*repository, "export", "cut", tmp_path / "export", "-q")
    options = ("--trainer", "olmo-core", "--sequence-length", "64", "--json")
    document = json.loads(castore(*repository, "check", "cut", *options, "--max-loss", "0.01", check=1).stdout)
    rule = Rule(64, document["eos_token_id"])
    dataset = loaded(olmo_core, tmp_path / "export", tmp_path / "work", rule, EXAMPLE_VOCABULARY)
    instances = Instances.of(dataset, 64)
    assert document["num_instances"] == len(dataset)
    assert document["trainable_in_instances"] == int(instances.label_mask.sum())
    # PAD is no id of a conversation, so that places without it are tokens.
    assert document["tokens_packed"] == int((instances.input_ids != EXAMPLE_VOCABULARY.pad).sum())
    assert document["efficiency_packed"] == document["tokens_packed"] / (64 * len(dataset))


def test_a_part_without_eos_stops_nobody(olmo_core: Any, tmp_path: Path) -> None:
    # OLMo-core before 3.0 divides by the number of instances of a part.
    ids = [[5, 6, 0], [5, 6, 7]]
    for part, tokens in enumerate(ids):
        np.array(tokens, np.uint16).tofile(tmp_path / f"token_ids_part_{part:04d}.npy")
        np.ones(3, np.uint8).tofile(tmp_path / f"labels_mask_part_{part:04d}.npy")
    try:
        dataset = loaded(olmo_core, tmp_path, tmp_path / "work", Rule(4, 0), EXAMPLE_VOCABULARY)
    except ZeroDivisionError:
        assert "use_array_if_local" not in inspect.signature(olmo_core.NumpyPackedFSLDataset).parameters
    else:
        assert Instances.of(dataset, 4).input_ids.tolist() == [[5, 6, 0, EXAMPLE_VOCABULARY.pad]]


# ---- real conversations


@pytest.fixture(scope="module")
def gsm8k(tmp_path_factory: pytest.TempPathFactory, olmo_core: Any) -> Dataset:
    """15,387 conversations under the olmo template, at most 4,096 tokens each."""
    folder = tmp_path_factory.mktemp("gsm8k")
    mix = ("--mix", "gsm8k.jsonl", "1.0", "--tokenizer", "dolma2-tokenizer", "--chat-template", "olmo")
    more = ("--max-seq-length", "4096", "--as", "a", "-q")
    castore("--repo", folder, "tokenize", *mix, *more, cwd=Path(os.environ["CASTORE_DATA"]))
    return Repository.open(str(folder)).dataset("a")


GOLDEN_INSTANCES = {
    # numpy's sort with AVX-512, with AVX2, with neither: sha256 of input_ids as uint32, of label_mask as uint8
    (
        "287e59aaf7352739bcacb0bc9a1eba3d48d290f4739de3c171289ce45011268e",
        "9de1e4627e9cef35aaf2def7d7b7783af141e1d1461d2b9e17b5bf788d781ecb",
    ),
    (
        "5d6bf85c0e572d718845087dd0301c299e7004bb438b006097563044ae1387ca",
        "265319e12bbf36e6318ed4b8e6299f06e8c0e4170130482ed18f925b85fec488",
    ),
    (
        "d815f9ccbc4930ff78c5b5673b827e93e0dfd066a994e4b648d30fe4789fbbc3",
        "e789c8ddccb69384718a0d0843491454ba7a73e35411bb0b5cca696e7523b36e",
    ),
}


@pytest.mark.needs_data
@pytest.mark.skipif("CASTORE_DATA" not in os.environ, reason="CASTORE_DATA names no folder of real conversations")
def test_every_instance_of_real_conversations(olmo_core: Any, gsm8k: Dataset, tmp_path: Path) -> None:
    folder, rule = tmp_path / "export", Rule(4096, DOLMA2.eos)
    export_olmo_core(gsm8k, str(folder))
    report = check_olmo_core(gsm8k, rule)
    instances = compare(olmo_core, folder, tmp_path / "work", rule, DOLMA2, report)
    total = report.total
    assert (report.instances, total.documents, total.packed_tokens) == (903, 15_387, 3_662_926)
    assert (total.dropped_tokens, total.packed_trainable, report.efficiency) == (0, 1_581_166, 0.9903311660783499)
    digests = (
        hashlib.sha256(instances.input_ids.astype("<u4").tobytes()).hexdigest(),
        hashlib.sha256(instances.label_mask.astype(np.uint8).tobytes()).hexdigest(),
    )
    assert digests in GOLDEN_INSTANCES


@pytest.mark.needs_data
@pytest.mark.skipif("CASTORE_DATA" not in os.environ, reason="CASTORE_DATA names no folder of real conversations")
def test_every_instance_of_real_conversations_in_parts(olmo_core: Any, gsm8k: Dataset, tmp_path: Path) -> None:
    folder, rule = tmp_path / "export", Rule(256, DOLMA2.eos)
    export_olmo_core(gsm8k, str(folder), part_bytes=4 << 20)
    report = check_olmo_core(gsm8k, rule, part_bytes=4 << 20)
    assert len(report.parts) == 4
    assert report.total.crossing == 3
    compare(olmo_core, folder, tmp_path / "work", rule, DOLMA2, report)
