"""Packed datasets: what is in the instances, what is stored of them, and that it is the same on every processor."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import castore
from castore.dataset import Dataset
from castore.errors import BackendError, CorruptionError, FormatError, InvalidInputError
from castore.format.packing import COLUMNS, Packing, packing_name
from castore.repository import Repository
from castore.store.backend import MemoryBackend
from castore.store.object_keys import object_key
from castore.store.packings import PackingStore, packing_key
from castore.train.check import check_olmo_core
from castore.train.instances import MODES, Instances, pack_dataset, packing_rule, read_instances
from castore.train.report import Rule
from tests.support.commands import castore as run
from tests.support.commands import environment
from tests.support.jobs import TOKENIZER, example_rows, run_job, write_rows


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> MemoryBackend:
    """Conversations cut at 150 tokens, so that some have no EOS, in a shuffled order that leaves some out."""
    path = write_rows(tmp_path_factory.mktemp("rows") / "rows.jsonl", example_rows())
    backend = MemoryBackend()
    run_job(backend, [(path, "1.0"), (path, "0.5")], name="x", num_examples=400, max_seq_length=150)
    run_job(backend, [(path, "1.0")], name="y", max_seq_length=150, num_examples=200)
    return backend


@pytest.fixture
def data(backend: MemoryBackend) -> Dataset:
    return Repository(backend)["x"]


def documents_of(data: Dataset, packing: Instances) -> list[list[list[int]]]:
    """The token ids of every document of every instance, segment by segment."""
    found, document, segment = [], 0, 0
    for count in packing.instance_documents.tolist():
        instance = []
        for segments in packing.document_segments[document : document + count].tolist():
            ids: list[int] = []
            for at in range(segment, segment + segments):
                start, length = int(packing.segment_start[at]), int(packing.segment_length[at])
                assert length
                ids += data[int(packing.segment_sample[at])].token_ids[start : start + length].tolist()
            instance.append(ids)
            segment += segments
        found.append(instance)
        document += count
    assert (document, segment) == (len(packing.document_segments), len(packing.segment_sample))
    return found


@pytest.mark.parametrize("length", [1, 37, 64, 150, 1000])
def test_true_boundaries_lose_nothing(data: Dataset, length: int) -> None:
    packing = data.pack(length)
    instances = documents_of(data, packing)
    expected = [
        sample.token_ids[at : at + length].tolist() for sample in data.ordered for at in range(0, len(sample), length)
    ]
    assert sorted(document for instance in instances for document in instance) == sorted(expected)
    assert all(sum(map(len, instance)) <= length for instance in instances)
    assert packing.tokens == sum(map(len, expected))
    assert packing.efficiency == packing.tokens / (len(instances) * length)


@pytest.mark.parametrize("options", [{"eos": 5}, {"bos": 5}, {"fragment": True}])
def test_an_option_of_the_other_mode_is_refused(data: Dataset, options: dict[str, int]) -> None:
    with pytest.raises(InvalidInputError, match="for mode 'olmo-core'"):
        data.pack(64, **options)


@pytest.mark.parametrize("fragment", [False, True])
@pytest.mark.parametrize("part_bytes", [1 << 30, 5000])
@pytest.mark.parametrize("length", [16, 128, 1024])
def test_the_rule_of_olmo_core_packs_what_a_check_says(
    data: Dataset, length: int, part_bytes: int, fragment: bool
) -> None:
    packing = data.pack(length, "olmo-core", fragment=fragment, part_bytes=part_bytes)
    report = check_olmo_core(data, Rule(length, 0, fragment=fragment), part_bytes=part_bytes)
    assert (len(packing), packing.tokens) == (report.instances, report.total.packed_tokens)
    assert len(packing.document_segments) == report.pieces
    assert packing.efficiency == report.efficiency
    for instance in documents_of(data, packing):
        for document in instance:
            assert 0 not in document[:-1]  # EOS ends documents, and is in none


def test_a_packing_is_stored_once_and_found_by_everybody(backend: MemoryBackend) -> None:
    first = Repository(backend)
    packing = first["x"].pack(256)
    assert first.objects.writes > 0
    other = Repository(backend)
    again = other["x"].pack(256)
    assert other.objects.writes == 0
    assert all(np.array_equal(getattr(again, name), getattr(packing, name)) for name in COLUMNS)
    assert again.digest == packing.digest
    # The run record of the address, the packing's document and its columns; not a sample was read.
    assert other.objects.reads == 1 + 1 + len({d for ds in decoded(other, packing).columns.values() for d in ds})


def decoded(repository: Repository, packing: Instances) -> Packing:
    return Packing.decode(repository.objects.get(packing.digest))


def test_other_data_other_lengths_and_modes_have_other_packings(backend: MemoryBackend) -> None:
    repository = Repository(backend)
    found = [repository[name].pack(length, mode) for name in "xy" for length in (128, 256) for mode in MODES]
    assert len({packing.digest for packing in found}) == 8


def test_what_was_collected_or_damaged_is_made_again(backend: MemoryBackend) -> None:
    repository = Repository(backend)
    data = repository["x"]
    packing = data.pack(64)
    key = packing_key(packing_name(data.root, packing_rule(data, 64).value()))
    record = backend.get(key, 1 << 20)
    assert record is not None

    backend.delete(object_key(decoded(repository, packing).columns["segment_start"][0]))
    assert Repository(backend)["x"].pack(64).digest == packing.digest
    backend.put(key, record[:-1] + b"\0")
    assert Repository(backend)["x"].pack(64).digest == packing.digest
    assert backend.get(key, 1 << 20) == record

    # A damaged object is told: storing it again would not mend it.
    place = object_key(packing.digest)
    stored = backend.get(place, 1 << 20)
    assert stored is not None
    backend.put(place, stored[:-1] + bytes([stored[-1] ^ 1]))
    with pytest.raises(CorruptionError):
        Repository(backend)["x"].pack(64)
    backend.put(place, stored)


def test_a_record_of_other_data_is_refused(backend: MemoryBackend) -> None:
    repository = Repository(backend)
    x, y = repository["x"], repository["y"]
    rule = packing_rule(x, 32)
    PackingStore(backend).put(packing_name(x.root, rule.value()), y.pack(32).digest, [])
    with pytest.raises(FormatError, match="other data"):
        x.pack(32)
    backend.delete(packing_key(packing_name(x.root, rule.value())))


class ReadOnly(MemoryBackend):
    """A place that others have written to."""

    def put(self, key: str, data: bytes) -> None:
        raise BackendError(f"{key}: read-only file system")


def test_a_repository_that_cannot_be_written_to_serves(backend: MemoryBackend) -> None:
    place = ReadOnly()
    place._durable = {k: v for k, v in backend._durable.items() if not k.startswith("packings/")}
    before = place.snapshot()
    packing = Repository(place)["x"].pack(77)
    assert place.snapshot() == before
    assert packing.digest == Repository(backend)["x"].pack(77).digest
    # Nor does a dataset that is in no repository need one.
    data = Repository(backend)["x"]
    assert Dataset(data.fetch, data.root, data.run_digest).pack(77).digest == packing.digest


@pytest.mark.parametrize(
    ("length", "mode", "message"),
    [
        (0, "documents", "sequence length 0"),
        (64.0, "documents", "sequence length 64.0 is no integer"),
        ("64", "olmo-core", "sequence length '64' is no integer"),
        (64, "eos", "packing mode 'eos'"),
        (100, "olmo-core", "powers of two"),
    ],
)
def test_what_cannot_be_packed(data: Dataset, length: Any, mode: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        data.pack(length, mode)


@pytest.mark.parametrize("options", [{"eos": -1}, {"eos": 1 << 32}, {"eos": 3, "bos": 1 << 32}, {"eos": 2.0}])
def test_an_id_of_no_token_is_refused(data: Dataset, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match=r"is the id of no token|is no integer"):
        data.pack(64, "olmo-core", **options)


def test_numbers_of_numpy_pack_the_same(data: Dataset) -> None:
    assert data.pack(np.int64(64)).digest == data.pack(64).digest
    here = data.pack(np.uint16(64), "olmo-core", eos=np.uint32(3), bos=np.int32(4))
    assert here.digest == data.pack(64, "olmo-core", eos=3, bos=4).digest


def test_a_document_that_contradicts_itself_is_refused(data: Dataset) -> None:
    rule = packing_rule(data, 128)
    packing, chunks = pack_dataset(data, rule)
    objects = {chunk.digest: chunk.data for chunk in chunks}
    for changes in ({"tokens": packing.tokens + 1}, {"documents": packing.documents - 1}, {"segments": 1}):
        wrong = Packing(**{**{name: getattr(packing, name) for name in Packing.__slots__}, **changes}).encode()
        with pytest.raises(FormatError):
            read_instances({**objects, wrong.digest: wrong.data}.__getitem__, wrong.digest, data.root, rule)


# ---- processors

PACK = """
import json, sys
import numpy as np
from castore.repository import Repository
from castore.train.instances import MODES
keys = np.random.default_rng(1).integers(0, 50, 4000)
unstable = np.argsort(keys)
found = {mode: Repository.open(sys.argv[1])["x"].pack(n, mode).digest.hex() for mode in MODES for n in (64, 128)}
print(json.dumps([found, hash(unstable.tobytes()), bool(np.array_equal(unstable, np.argsort(keys, kind="stable")))]))
"""


def test_digests_are_those_of_every_processor(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", example_rows())
    run("--repo", tmp_path / "r", "tokenize", "--mix", path, "1.0", "--tokenizer", TOKENIZER, "--as", "x", "-q")
    answers = []
    for features in ("", " ".join(dispatched())):
        # Nobody finds what another has packed.
        for record in (tmp_path / "r" / "packings").rglob("*"):
            if record.is_file():
                record.unlink()
        env = environment(NPY_DISABLE_CPU_FEATURES=features, PYTHONHASHSEED="0")
        if not features:
            del env["NPY_DISABLE_CPU_FEATURES"]
        done = subprocess.run(
            [sys.executable, "-c", PACK, tmp_path / "r"], env=env, capture_output=True, text=True, check=True
        )
        answers.append(json.loads(done.stdout))
    assert answers[0][0] == answers[1][0]
    if dispatched():
        assert answers[0][1] != answers[1][1], "numpy's sort should differ, else this test tells nothing"


def dispatched() -> list[str]:
    """Processor features that this numpy would use here and can leave unused."""
    from numpy._core import _multiarray_umath as umath

    return [name for name in umath.__cpu_dispatch__ if umath.__cpu_features__.get(name)]


# ---- real conversations


@pytest.mark.needs_data
@pytest.mark.skipif("CASTORE_DATA" not in os.environ, reason="CASTORE_DATA names no folder of real conversations")
def test_real_conversations(tmp_path: Path) -> None:
    """Configurations A and B of open-instruct's reference outputs; the numbers are OLMo-core's own."""
    configurations = {
        "A": (["gsm8k.jsonl", "1.0"], "olmo", 4096, (903, 3_662_926, 0)),
        "B": (["gpteacher.jsonl", "1.0", "--mix", "xquad.jsonl", "3.0"], "tulu", 1024, (6458, 6_602_706, 3_123)),
    }
    for name, (mix, template, length, expected) in configurations.items():
        options = ["--tokenizer", "dolma2-tokenizer", "--chat-template", template, "--max-seq-length", str(length)]
        folder = Path(os.environ["CASTORE_DATA"])
        run("--repo", tmp_path, "tokenize", "--mix", *mix, *options, "--as", name, "-q", cwd=folder)
        data = castore.open(str(tmp_path))[name]
        theirs, ours = data.pack(length, "olmo-core"), data.pack(length)
        assert (len(theirs), theirs.tokens, data.manifest.tokens - theirs.tokens) == expected
        assert ours.tokens == data.manifest.tokens
        assert ours.efficiency >= theirs.efficiency
