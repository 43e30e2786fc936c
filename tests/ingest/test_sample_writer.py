"""Writing samples from Python: the same root as any other writer, more arrays, and going on after a crash."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from castore.dataset import Dataset
from castore.errors import ConflictError, InvalidInputError, NotFoundError
from castore.format.run import RUN_SOURCES_MAX
from castore.ingest import sample_writer as writer_module
from castore.ingest import write_job
from castore.ingest.caller_samples import Gathered
from castore.ingest.sample_writer import SampleWriter
from castore.ingest.write_all import write_all
from castore.ingest.write_job import WriteJob
from castore.repository import Origin, Repository
from castore.store.backend import Backend, MemoryBackend
from castore.store.marker import open_layout
from tests.support.complete import check_complete
from tests.support.faults import FaultyBackend
from tests.support.jobs import ORIGIN, SMALL, TOKENIZER, example_rows, run_job, write_rows
from tests.support.strategies import random_rows
from tests.support.sweep import sweep

WEIGHTS = {"weight": ("float32", "token"), "score": ("float64", "sample"), "group": ("int64", "sample")}


@pytest.fixture(autouse=True)
def small_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trees small enough to have levels, and records after a few samples."""
    real = WriteJob

    def job(*arguments: Any) -> WriteJob:
        return replace(real(*arguments), chunk_bytes=SMALL.chunk_bytes, fanout=SMALL.fanout)

    monkeypatch.setattr(write_job, "WriteJob", job)
    monkeypatch.setattr(writer_module, "BATCH_SAMPLES", 7)
    monkeypatch.setattr(writer_module, "RECORD_SAMPLES", 30)


def opened(backend: Backend | None = None) -> Repository:
    backend = backend or MemoryBackend()
    open_layout(backend, create=True)
    return Repository(backend)


@pytest.fixture(scope="module")
def tokenized(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("rows")
    backend = MemoryBackend()
    mix = [
        (write_rows(folder / "a.jsonl", example_rows()[:120]), "1.0"),
        (write_rows(folder / "b.jsonl", example_rows()[100:180]), "1.5"),
    ]
    run_job(backend, mix, name="x", num_examples=90)
    return Repository(backend)["x"]


def mask_of(count: int, spans: Sequence[tuple[int, int]]) -> list[int]:
    mask = [0] * count
    for lo, hi in spans:
        mask[lo:hi] = [1] * (hi - lo)
    return mask


# ---- the same root


def test_the_root_is_that_of_tokenize(tokenized: Dataset) -> None:
    repository = opened()
    options: dict[str, Any] = {"shuffle_seed": 42, "num_examples": 90, "sources": tokenized.sources}
    with repository.writer("copy", recipe=tokenized.recipe, **options) as writer:
        for sample in tokenized:
            source = tokenized.sources[sample.source]
            writer.append(sample.token_ids, sample.labels_mask, source=source)
    assert writer.result is not None
    assert writer.result.root == tokenized.root == repository["copy"].root
    check_complete(repository)
    found = repository["copy"]
    assert tokenized.statistics is not None
    assert found.statistics == replace(tokenized.statistics, dropped={})
    assert found.recipe == tokenized.recipe
    assert found.sources == tokenized.sources
    assert [e.message for e in repository.refs.log("copy")] == ["write"]


def test_batches_are_as_good_as_samples(tokenized: Dataset) -> None:
    repository = opened()
    first = int((tokenized.arrays["source"][:] == 0).sum())
    with repository.writer("copy", shuffle_seed=42, num_examples=90, sources=["a", "b"]) as writer:
        for lo, hi, name in ((0, 10, "a"), (10, first, "a"), (5, 5, "a"), (first, len(tokenized), "b")):
            part = tokenized.read(lo, hi)
            writer.extend(part.token_ids, part.offsets, part.labels_mask, source=name)
    assert repository["copy"].root == tokenized.root
    for wrong in ([0, 1], [1, 3], [0, 2, 1, 3], []):
        with pytest.raises(InvalidInputError, match="offsets do not ascend"):
            repository.writer("other").extend(np.array([1, 2, 3]), np.array(wrong, np.int64))


@given(st.integers(0, 1 << 30), st.integers(1, 60), st.lists(st.integers(0, 60), max_size=4))
def test_the_root_does_not_depend_on_how_samples_came(seed: int, count: int, edges: list[int]) -> None:
    rows = random_rows(count, seed)
    one, many = opened(), opened()
    whole = one.write(((ids, mask_of(len(ids), spans)) for ids, spans in rows), "x")
    with many.writer("x", resume_key="k") as writer:
        for lo, hi in zip([0, *sorted(edges)], [*sorted(edges), count], strict=True):
            part = rows[lo:hi]
            if part:
                ids = np.array([token for row, _ in part for token in row], np.uint32)
                mask = np.array([bit for row, spans in part for bit in mask_of(len(row), spans)], np.bool_)
                writer.extend(ids, np.cumsum([0, *(len(row) for row, _ in part)]), mask)
            writer.checkpoint()
    assert writer.result is not None
    assert writer.result.root == whole.root


def test_what_may_be_given(tmp_path: Path) -> None:
    repository = opened()
    samples = [
        [1, 2, 3],
        np.array([1, 2, 3], np.int16),
        ([4, 5], [True, False]),
        {"token_ids": [6], "labels_mask": [0], "source": "other"},
        np.zeros(0, np.int64),
    ]
    done = repository.write(samples, "x", tokenizer=str(TOKENIZER), origin=Origin("me", "here", 5, "why"))
    data = repository["x"]
    assert [s.token_ids.tolist() for s in data] == [[1, 2, 3], [1, 2, 3], [4, 5], [6], []]
    assert [s.labels_mask.tolist() for s in data] == [[True] * 3, [True] * 3, [True, False], [False], []]
    assert data.sources == ["x", "other"]
    assert (done.samples, done.tokens, done.trainable) == (5, 9, 7)
    assert data.order is None
    assert data.vocabulary is not None
    assert data.run is not None
    assert data.run.origin is not None
    assert data.run.origin.author == "me"
    assert repository.refs.log("x")[0].message == "why"
    check_complete(repository)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"token_ids": [-1]}, "sample 1: token id -1 is not within"),
        ({"token_ids": [1 << 32]}, "token id 4294967296"),
        ({"token_ids": [0.5]}, "token_ids are a list of integers"),
        ({"token_ids": [[1]]}, "of shape"),
        ({"token_ids": [[1], [2, 3]]}, "sample 1: token_ids cannot be an array"),
        ({"token_ids": [1, 2], "labels_mask": [[1], [2, 3]]}, "labels_mask cannot be an array"),
        ({"token_ids": [1, 2], "labels_mask": [1]}, r"labels_mask is of shape \[1\]"),
        ({"token_ids": [1, 2], "labels_mask": [1, 2]}, "other values than true and false"),
        ({"token_ids": [1], "colour": [1]}, "array colour was not declared"),
        ({"labels_mask": [1]}, "has no token_ids and no input_ids"),
        ({"input_ids": [1, 2], "labels": [-100]}, r"labels are of shape \[1\], input_ids are of shape \[2\]"),
        ({"input_ids": [1, 2], "labels": [-100, 3]}, r"labels\[1\] is 3, where -100 or the token 2 can be"),
        ({"input_ids": [1, 2], "attention_mask": [1, 0]}, "give samples without padding"),
        ({"input_ids": [1], "messages": "x"}, "array messages was not declared: name it in arrays, or leave it out"),
    ],
)
def test_what_is_refused_names_the_sample(given: dict[str, Any], words: str) -> None:
    repository = opened()
    with pytest.raises(InvalidInputError, match=words):
        repository.write([[1], given], "x")
    with pytest.raises(NotFoundError):
        repository["x"]


def test_examples_of_hugging_face_are_samples() -> None:
    repository = opened()
    examples = [
        {"input_ids": [1, 2, 3], "labels": [-100, 2, 3], "attention_mask": [1, 1, 1]},
        {"input_ids": np.array([4, 5]), "labels": np.array([-100, -100])},
        {"input_ids": [6], "labels": None},
        {"input_ids": [7, 8], "labels_mask": [True, False]},
    ]
    repository.write(examples, "x")
    given = [([1, 2, 3], [0, 1, 1]), ([4, 5], [0, 0]), ([6], [1]), ([7, 8], [1, 0])]
    assert repository.write(given, "y").root == repository["x"].root


@pytest.mark.parametrize("value", [0.5, {"rate": 0.5}, [object()], {1: 2}])
def test_a_recipe_that_cannot_be_recorded_is_named(value: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"recipe\['lr'\]: .*give text, integers"):
        opened().writer("x", recipe={"a": 1, "lr": value})


def test_a_sample_that_is_refused_may_be_given_again_right() -> None:
    repository = opened()
    with repository.writer("x", arrays={"w": "float32"}) as writer:
        for wrong in ({"w": [1.0]}, {}, {"w": ["a", "b"]}, {"w": [1, 2], "v": [1, 2]}):
            with pytest.raises(InvalidInputError):
                writer.append([1, 2], **wrong)
        writer.append([1, 2], w=[1, 2])
    assert len(repository["x"]) == 1
    with pytest.raises(InvalidInputError, match="the write is over"):
        writer.append([1], w=[1])


def test_bad_jobs_are_refused_before_anything_is_written() -> None:
    repository = opened()
    for options, words in (
        ({"arrays": {"length": "uint32"}}, "one that every dataset has"),
        ({"arrays": {"Weight": "float32"}}, "lower-case"),
        ({"arrays": {"w": "float16"}}, "dtype 'float16'"),
        ({"arrays": {"w": ("bool", "sample")}}, "axis"),
        ({"recipe": {"lr": 0.5}}, "float"),
        ({"num_examples": 3}, "shuffle_seed"),
    ):
        with pytest.raises(InvalidInputError, match=words):
            repository.writer("x", **options)
    with pytest.raises(InvalidInputError, match="cannot name a ref"):
        repository.writer("../x")
    with pytest.raises(InvalidInputError, match="no sample was written"):
        repository.write([], "x")
    with pytest.raises(InvalidInputError, match="num_examples 3 of 1"):
        repository.write([[1]], "x", shuffle_seed=1, num_examples=3)
    assert repository.refs.names() == []


# ---- more arrays


def weighted(count: int = 80, seed: int = 3) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    samples = []
    for i, (ids, spans) in enumerate(random_rows(count, seed)):
        weight = rng.random(len(ids)).astype(np.float32)
        samples.append(
            {
                "token_ids": ids,
                "labels_mask": mask_of(len(ids), spans),
                "weight": weight,
                "score": float(rng.standard_normal()),
                "group": -i,
            }
        )
    return samples


def test_more_arrays_come_back_bit_for_bit() -> None:
    samples = weighted()
    at = next(i for i, sample in enumerate(samples) if len(sample["token_ids"]) > 2)
    odd = np.array([0x7FC00001, 0xFFC00000, 0x80000000], np.uint32).view(np.float32)  # two kinds of NaN, and -0
    samples[at]["weight"][:3] = odd
    repository = opened()
    repository.write(samples, "x", arrays=WEIGHTS)
    check_complete(repository)
    data = repository["x"]
    assert (data.arrays["weight"].dtype, data.arrays["weight"].axis) == (np.dtype(np.float32), "token")
    joined = np.concatenate([sample["weight"] for sample in samples])
    assert data.arrays["weight"][:].tobytes() == joined.tobytes()
    assert data.arrays["score"][:].tolist() == [sample["score"] for sample in samples]
    for sample, found in zip(samples, data, strict=True):
        assert found.arrays["weight"].tobytes() == sample["weight"].tobytes()
        assert (found.arrays["score"], found.arrays["group"]) == (sample["score"], sample["group"])
    # The arrays that every dataset has are those of a write without more of them.
    plain = [{k: v for k, v in sample.items() if k not in WEIGHTS} for sample in samples]
    repository.write(plain, "plain")
    assert repository["plain"].root != data.root
    for name, pair in repository["plain"].manifest.arrays.items():
        assert data.manifest.arrays[name] == pair


def test_all_kinds_of_arrays() -> None:
    kinds = ["uint8", "uint16", "uint32", "uint64", "int64", "float32", "float64", "bytes16"]
    arrays = {f"{kind}_{axis}": (kind, axis) for kind in kinds for axis in ("token", "sample")} | {
        "flag": ("bool", "token")
    }
    samples = []
    for ids, spans in random_rows(50, 5):
        sample: dict[str, Any] = {"token_ids": ids, "flag": mask_of(len(ids), spans)}
        for name, (kind, axis) in arrays.items():
            n = len(ids) if axis == "token" else 1
            if kind == "bytes16":
                sample[name] = np.arange(16 * n, dtype=np.uint8).reshape(n, 16)
            elif kind != "bool":
                values = np.arange(n).astype(kind)
                sample[name] = values if axis == "token" else values[0]
        samples.append(sample)
    repository = opened()
    repository.write(samples, "x", arrays=arrays, resume_key="k")
    check_complete(repository)
    data = repository["x"]
    for sample, found in zip(samples, data, strict=True):
        for name in arrays:
            assert (
                np.asarray(found.arrays[name]).tobytes()
                == np.asarray(sample[name]).astype(found.arrays[name].dtype).tobytes()
            ), name


def test_values_that_do_not_fit_are_refused() -> None:
    repository = opened()
    cases = [("uint8", 256), ("uint8", -1), ("int64", 0.5), ("float32", "x"), ("float32", None)]
    for dtype, value in cases:
        with pytest.raises(InvalidInputError, match="array w"):
            repository.write([{"token_ids": [1], "w": [value]}], "x", arrays={"w": dtype})


def test_diff_tells_which_array_differs_and_where() -> None:
    samples = weighted()
    repository = opened()
    repository.write(samples, "a", arrays=WEIGHTS)
    at = next(i for i, sample in enumerate(samples) if i > 30 and len(sample["token_ids"]) > 4)
    changed = [dict(sample) for sample in samples]
    changed[at]["weight"] = changed[at]["weight"].copy()
    changed[at]["weight"][3] = 7.5
    repository.write(changed, "b", arrays=WEIGHTS)
    found = repository["a"].diff(repository["b"])
    assert not found.equal
    assert {name for name, equal in found.arrays.items() if not equal} == {"weight"}
    (hunk,) = found.hunks
    assert (hunk.op, hunk.a, hunk.arrays) == ("replace", (at, at + 1), ("weight",))
    assert found.first is not None
    assert (found.first.array, found.first.index, found.first.b.value) == ("weight", 3, 7.5)
    assert found.first.a.value == float(samples[at]["weight"][3])
    assert found.first.a.place is None
    changed[at]["score"] = float("nan")
    repository.write(changed, "c", arrays=WEIGHTS)
    found = repository["b"].diff(repository["c"])
    assert found.first is not None
    assert (found.first.array, str(found.first.b.value)[:3]) == ("score", "nan")
    plain = [{k: v for k, v in sample.items() if k not in WEIGHTS} for sample in samples]
    repository.write(plain, "plain")
    found = repository["a"].diff(repository["plain"])
    assert found.arrays["token_ids"]
    assert not found.arrays["weight"]
    assert not found.equal
    assert not found.hunks


# ---- going on


def written(backend: Backend, samples: list[dict[str, Any]], key: str | None = "k") -> bytes:
    return opened(backend).write(samples, "out", arrays=WEIGHTS, resume_key=key, origin=ORIGIN).root


@pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_a_fault_at_every_write(every: int) -> None:
    """It goes on to the same root, from a record where there is one."""
    samples = weighted(150)
    rehearsal = FaultyBackend(MemoryBackend())
    root = written(rehearsal, samples)
    assert written(MemoryBackend(), samples, None) == root
    assert not list(rehearsal.list("writes")), "a finished write leaves no records"
    positions = set()

    def go_on(backend: Backend) -> bytes:
        with opened(backend).writer("out", arrays=WEIGHTS, resume_key="k") as writer:
            positions.add(writer.position)
            for sample in samples[writer.position :]:
                writer.append(**sample)
        assert writer.result is not None
        assert check_complete(Repository(backend)).keys() == {"out"}
        return writer.result.root

    sweep(lambda backend: written(backend, samples), go_on=go_on, every=every)
    assert len(positions) > 3
    assert max(positions) > 100


def test_what_was_stored_is_not_stored_again() -> None:
    samples = weighted(150)
    backend = MemoryBackend()

    def interrupted() -> Iterator[dict[str, Any]]:
        yield from samples[:140]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        opened(backend).write(interrupted(), "out", arrays=WEIGHTS, resume_key="k")
    assert Repository(backend).refs.names() == []
    before = set(backend.list("objects"))
    faulty = FaultyBackend(backend)
    root = written(faulty, samples)
    read = [key for what, key in faulty.calls if what == "get" and key.startswith("objects")]
    assert len(read) == len(set(read)), "chunks that are stored are looked at once, to heal what a disk lost"
    put = {key for what, key in faulty.calls if what == "put" and key.startswith("objects")}
    whole = MemoryBackend()
    assert root == written(whole, samples)
    runs = 1  # the run record names the time, or would if time passed
    assert len(before) > 10
    assert len(put) <= len(set(whole.list("objects")) - before) + runs
    assert not put & before
    found = Repository(backend)["out"]
    assert found.statistics is not None
    assert found.statistics.trainable == int(found.arrays["labels_mask"][:].sum())


def begun(backend: Backend, samples: list[dict[str, Any]]) -> int:
    """Begin or go on with a write, and end it with an error; where it began."""
    with suppress(EOFError), opened(backend).writer("out", arrays=WEIGHTS, resume_key="k") as writer:
        position = writer.position
        for sample in samples:
            writer.append(**sample)
        raise EOFError
    return position


def test_another_iterator_is_found_out() -> None:
    samples = weighted(150)
    backend = MemoryBackend()
    begun(backend, samples[:120])
    with opened(backend).writer("other", arrays=WEIGHTS, resume_key="another") as writer:
        assert writer.position == 0
        writer.append(**samples[0])
    with pytest.raises(InvalidInputError, match="sample 0 is another than the one"):
        written(backend, samples[1:])
    with pytest.raises(InvalidInputError, match="50 samples were given"):
        written(backend, samples[:50])
    assert written(backend, samples) == written(MemoryBackend(), samples)


def changed(sample: dict[str, Any], name: str) -> dict[str, Any]:
    """The sample with another value at one place of an array."""
    column = sample[name]
    if name == "source":
        return sample | {name: "elsewhere"}
    if np.ndim(column) == 0 or isinstance(column, bytes):
        return sample | {name: bytes(reversed(column)) if isinstance(column, bytes) else column + 1}
    column = np.array(column)
    column[-1] = not column[-1] if name == "labels_mask" else column[-1] + 1
    return sample | {name: column}


@pytest.mark.parametrize("name", ["token_ids", "labels_mask", "source", *WEIGHTS])
def test_other_labels_and_arrays_are_found_out(name: str) -> None:
    samples = [{"source": "here"} | sample for sample in weighted(150)]
    backend = MemoryBackend()
    begun(backend, samples[:120])
    known = begun(backend, [])
    assert known > 60
    what = "is another" if name == "token_ids" else f"has another {name}"
    for at in (0, 1, 57, known - 1):
        others = [*samples[:at], changed(samples[at], name), *samples[at + 1 :]]
        with pytest.raises(InvalidInputError, match=rf"^sample {at} {what} than the one that the interrupted write"):
            written(backend, others)
        assert Repository(backend).refs.names() == []
    faulty = FaultyBackend(backend)
    assert written(faulty, samples) == written(MemoryBackend(), samples)
    read = [key for what, key in faulty.calls if what == "get" and key.startswith("objects")]
    assert len(read) == len(set(read))


@pytest.mark.parametrize("seed", range(12))
def test_what_follows_may_be_other_than_the_first_time(seed: int) -> None:
    """It may move the end of the last stored chunk, which hangs on what comes after."""
    first, others = weighted(150), weighted(150, seed + 50)
    backend = MemoryBackend()
    begun(backend, first[:120])
    known = begun(backend, [])
    samples = [*first[:known], *others]
    assert begun(backend, others[:100]) == known
    assert begun(backend, []) >= known, "the records are as good as they were"
    assert written(backend, samples) == written(MemoryBackend(), samples)
    check_complete(Repository(backend))
    assert not list(backend.list("writes"))


def test_samples_are_passed_over_as_they_are_appended() -> None:
    samples = weighted(150)
    backend = MemoryBackend()
    begun(backend, samples[:120])
    with opened(backend).writer("out", arrays=WEIGHTS, resume_key="k") as writer:
        with pytest.raises(InvalidInputError, match=r"^sample 0: array "):
            writer.pass_over(samples[0]["token_ids"])
        with pytest.raises(InvalidInputError, match=r"^sample 0: source 7 has no name"):
            writer.pass_over(**samples[0], source=7)
        for sample in samples[: writer.position]:
            writer.pass_over(**sample)
        with pytest.raises(InvalidInputError, match="has no more samples: append"):
            writer.pass_over(**samples[0])
        for sample in samples[writer.position :]:
            writer.append(**sample)
    assert writer.result is not None
    assert writer.result.root == written(MemoryBackend(), samples)


@pytest.mark.parametrize("method", ["_hand_over", "_add", "checkpoint", "add"])
def test_an_interrupt_anywhere_leaves_true_records(method: str) -> None:
    """What half a step left behind is in no record."""
    samples = weighted(150)
    root = written(MemoryBackend(), samples)
    kind: Any = Gathered if method == "add" else SampleWriter
    real = getattr(kind, method)
    for n in range(1, 150, 7):
        count = 0

        def interrupted(self: Any, *arguments: Any, n: int = n) -> Any:
            nonlocal count
            count += 1
            if count == n and method == "add":
                self._ids.append(arguments[0].ids)  # and nothing else of the sample
                raise KeyboardInterrupt
            result = real(self, *arguments)
            if count == n:
                raise KeyboardInterrupt
            return result

        backend = MemoryBackend()
        with mock.patch.object(kind, method, interrupted):
            try:
                written(backend, samples)
            except KeyboardInterrupt:
                pass
            else:
                assert count < n
                break
        assert written(backend.other(), samples) == root
    assert n > 1


def test_a_lost_chunk_is_written_anew() -> None:
    samples = weighted(150)
    backend = MemoryBackend()
    begun(backend, samples)
    known = begun(backend, [])
    records = list(backend.list("writes"))
    assert len(records) > 2
    backend.put(records[1], b"torn")
    assert 0 < begun(backend, []) < known
    assert list(backend.list("writes")) == records[:1]
    for key in list(backend.list("objects")):
        backend.delete(key)
    with opened(backend).writer("out", arrays=WEIGHTS, resume_key="k") as writer:
        assert writer.position == 0
        for sample in samples:
            writer.append(**sample)
    check_complete(Repository(backend))


def test_two_writers_of_one_key_are_told() -> None:
    samples = weighted(150)
    backend = MemoryBackend()
    one, two = (opened(backend).writer("out", arrays=WEIGHTS, resume_key="k") for _ in range(2))
    for sample in samples:
        one.append(**sample)
    with pytest.raises(ConflictError, match="another process writes"):
        write_all(two, samples)
    with pytest.raises(InvalidInputError, match="interrupted half-way"):
        two.close()
    assert one.close().root == written(MemoryBackend(), samples)


def test_a_name_that_moved_meanwhile_is_a_conflict_and_the_run_is_kept() -> None:
    repository = opened()
    writer = repository.writer("x")
    writer.append([1])
    repository.write([[2]], "x")
    with pytest.raises(ConflictError, match="castore tag") as caught:
        writer.close()
    assert repository["x"][0].token_ids.tolist() == [2]
    digest = str(caught.value).split("castore tag ")[1].split()[0]
    assert repository[digest][0].token_ids.tolist() == [1]


def test_large_batches_make_several_records() -> None:
    rows = random_rows(200, 9)
    ids = np.array([token for row, _ in rows for token in row], np.uint32)
    offsets = np.cumsum([0, *(len(row) for row, _ in rows)])
    backend = MemoryBackend()
    with mock.patch.object(writer_module, "BATCH_TOKENS", 500), opened(backend).writer("x", resume_key="k") as writer:
        writer.extend(ids, offsets)
        assert len(list(backend.list("writes"))) > 2
    assert np.array_equal(Repository(backend)["x"].read().token_ids, ids)


def test_records_of_two_writers_are_not_mixed(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was taken for dead goes on when its records are gone and another has begun with the same key."""
    monkeypatch.setattr(writer_module, "RECORD_TOKENS", 1 << 24)
    monkeypatch.setattr(writer_module, "RECORD_SAMPLES", 1 << 18)
    backend = MemoryBackend()
    open_layout(backend, create=True)
    rng = np.random.default_rng(0)
    samples = [rng.integers(0, 50_000, 3000) for _ in range(300)]

    def resumed() -> SampleWriter:
        return Repository(backend).writer("x", resume_key="k")

    def stored(writer: SampleWriter, lo: int, hi: int) -> int:
        for sample in samples[lo:hi]:
            writer.append(sample)
        writer._hand_over()
        return writer.checkpoint()

    first = resumed()
    assert stored(first, 0, 140) > 0
    for key in list(backend.list("writes")):
        backend.delete(key)
    second = resumed()
    own = stored(second, 0, 100)
    assert stored(first, 140, 300) > own > 0
    assert len(list(backend.list("writes"))) == 2
    third = resumed()
    assert third.position == own
    assert len(list(backend.list("writes"))) == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [("", "name is empty"), ("n" * 65_537, "name is a text of 65537 bytes: at most 65536 are possible")],
)
def test_names_that_no_source_can_have(name: str, message: str) -> None:
    repository = opened()
    with pytest.raises(InvalidInputError, match=f"^source 1: {message}"):
        repository.writer("x", sources=["good", name])
    writer = repository.writer("x")
    writer.append([1])
    with pytest.raises(InvalidInputError, match=f"^sample 1: {message}"):
        writer.append([2], source=name)
    writer.append([2])
    writer.close()
    assert repository["x"].sources == ["x"]


@pytest.mark.parametrize("most", [100, pytest.param(RUN_SOURCES_MAX, marks=pytest.mark.slow)])
def test_more_sources_than_a_run_record_takes(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("castore.ingest.write_job.RUN_SOURCES_MAX", most)
    repository = opened()
    names = [f"s{i}" for i in range(most)]
    with pytest.raises(InvalidInputError, match=rf"^source {most}: a run record takes at most {most} sources"):
        repository.writer("x", sources=[*names, "more"])
    writer = repository.writer("x", sources=names)
    writer.append([1], source="s0")
    with pytest.raises(InvalidInputError, match=rf"^sample 1: a run record takes at most {most} sources"):
        writer.append([2], source="more")
    writer.close()
    assert len(repository["x"].sources) == most
