"""``fsck`` of a small repository: clean, harmed in every way, and repaired from a copy."""

from __future__ import annotations

import random
import re
import shutil
from pathlib import Path

import pytest

from castore.care.findings import LISTED_MAX, SEVERITY_AND_ADVICE, Finding, Findings
from castore.care.fsck import FsckResult, check
from castore.care.graph import Graph
from castore.care.links import ObjectKind, Want, facts_of
from castore.errors import CorruptionError, FormatError, NotFoundError, UnsupportedVersionError
from castore.format.chunk import values_header
from castore.format.codec import decode, encode
from castore.format.digest import Digest, digest_of
from castore.format.samples import SpanColumn
from castore.repository import Repository
from castore.store.backend import Backend, MemoryBackend
from castore.store.compress import unpack
from castore.store.local import LocalBackend
from castore.store.object_keys import digest_of_key, object_key
from castore.store.objects import ObjectStore
from castore.store.packed_keys import value_key
from castore.store.packs import packed
from castore.store.records import seal, unseal
from castore.store.refs import RefStore
from tests.support.effort import NIGHTLY
from tests.support.faults import FaultyBackend
from tests.support.jobs import ORIGIN, example_rows, run_job, write_rows
from tests.support.layouts import LAYOUTS, Layout, filled, loose


@pytest.fixture(scope="session")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A repository with three names, one of them moved and one removed, as keys and values: no packs."""
    folder = tmp_path_factory.mktemp("care")
    rows = example_rows()
    one, two = write_rows(folder / "one.jsonl", rows[:60]), write_rows(folder / "two.jsonl", rows[20:90])
    backend = MemoryBackend()
    run_job(loose(backend), [(one, "1.0")], name="golden/one")
    run_job(loose(backend), [(two, "1.0")], name="two")
    run_job(loose(backend), [(one, "1.0"), (two, "0.5")], name="two")
    repository = Repository(backend)
    repository.tag("two", "three", ORIGIN)
    repository.remove("three", ORIGIN)
    return backend.snapshot()


class Reading(FaultyBackend):
    """Knows which objects were read of it, by themselves or out of packs; what is read of packs in bulk is none."""

    def __init__(self, inner: Backend) -> None:
        super().__init__(inner)
        self._in_packs = {
            f"{pack.key} {place.offset} {place.size}": value_key(pack.index.key(row))
            for pack in packed(inner).catalog.fresh()
            for row in range(len(pack.index))
            for place in (pack.index.place(row),)
        }

    def get_part(self, key: str, start: int, length: int) -> bytes | None:
        self.calls.append(("get_part of", f"{key} {start} {length}"))
        return super().get_part(key, start, length)

    def objects_read(self) -> list[str]:
        alone = [key for what, key in self.calls if what == "get" and key.startswith("objects/")]
        parts = [self._in_packs.get(part, "") for what, part in self.calls if what == "get_part of"]
        return [*alone, *(key for key in parts if key.startswith("objects/"))]


def names_of(done: FsckResult) -> set[str]:
    return set(done.findings.counts)


@LAYOUTS
def test_a_healthy_repository_is_clean(healthy: dict[str, bytes], layout: Layout) -> None:
    done = check(filled(healthy, layout))
    assert done.findings.clean
    assert done.findings.listed == []
    assert done.objects == done.objects_read == sum(key.startswith("objects/") for key in healthy)
    assert done.bytes_read == done.bytes_stored
    assert done.names == 2
    assert done.unreferenced == 0


@LAYOUTS
def test_each_object_is_read_once(healthy: dict[str, bytes], layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is compared with it: no way leads to an object twice, and none is unpacked or decoded twice."""
    unpacked, decoded = [], []
    decode = SpanColumn.decode
    monkeypatch.setattr(SpanColumn, "decode", lambda data: decoded.append(data) or decode(data))
    monkeypatch.setattr(
        "castore.store.frames.unpack", lambda frame, limit: unpacked.append(frame) or unpack(frame, limit)
    )
    backend = Reading(filled(healthy, layout))
    assert check(backend).findings.clean
    reads = backend.objects_read()
    assert sorted(reads) == sorted(key for key in healthy if key.startswith("objects/"))
    assert len(unpacked) == len(reads)
    assert len(decoded) == len(set(decoded)) > 0


@LAYOUTS
@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.3, 0.5, 0.7, 0.99])
def test_a_sample_reads_all_inner_nodes_and_few_chunks(
    healthy: dict[str, bytes], share: float, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever chance draws: as many objects as the share says, what is above the chunks, and nothing else."""
    digests = sorted(digest for key in healthy if (digest := digest_of_key(key)) is not None)
    count = len(digests)
    drawn: list[int] = []
    sample = random.sample

    def listened(population: range, k: int) -> list[int]:
        drawn.extend(sample(population, k))
        return drawn

    monkeypatch.setattr(random, "sample", listened)
    backend = Reading(filled(healthy, layout))
    done = check(backend, share=share)
    assert done.findings.listed == []
    assert done.objects == count
    assert len(set(drawn)) == len(drawn) == max(1, round(share * count))
    inner = above_the_chunks(healthy)
    read = set(backend.objects_read())
    wanted = {object_key(digest) for digest in inner | {digests[n] for n in drawn}}
    assert wanted <= read
    # What drawn chunks are compared with: lengths and keys, which are one a sample.
    beside = [values_header(unpack(healthy[key], 1 << 28)) for key in read - wanted]
    assert all(header is not None and header[1] == header[2] for header in beside)
    assert done.objects_read == len(wanted) <= len(inner) + max(1, round(share * count))
    assert len(inner) + 1 < 0.7 * count, "the smallest share leaves most chunks unread"


def above_the_chunks(content: dict[str, bytes]) -> set[Digest]:
    """What names mean and meant, and the ends of links that may be more than chunks, by what each object says.

    All nodes are among them.
    """
    objects = ObjectStore(filled(content))
    refs = RefStore(filled(content))
    entries = [entry for name in ("two", "three", "golden/one") for entry in refs.log(name)]
    digests = [digest for key in content if (digest := digest_of_key(key)) is not None]
    facts = {digest: facts_of(objects.get(digest)) for digest in digests}
    inner = {entry.target for entry in entries if entry.target is not None}
    for said in facts.values():
        inner |= {Digest(link.digest) for link in said.links if link.want != Want.TREE or link.level >= 1}
    assert inner >= {digest for digest, said in facts.items() if said.kind not in (ObjectKind.VALUES, ObjectKind.SPANS)}
    return inner


def test_nothing_and_something_else_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        check(MemoryBackend())
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(FormatError):
        check(LocalBackend(str(tmp_path)))


@pytest.mark.slow
def test_hundreds_of_flips_and_truncations(healthy: dict[str, bytes]) -> None:
    """Each is found, by the key it is under, and put right from a copy: the bytes are as they were.

    A few bits of a compressed frame mean nothing (they fill the last byte of a stream): the object is still whole.
    """
    draw = random.Random(1)
    keys = [key for key in sorted(healthy) if key != "format"]
    good = filled(healthy)
    harmless = 0
    for n in range(3000 if NIGHTLY else 300):
        key = draw.choice(keys) if n % 50 else "format"
        value = harmed(draw, healthy[key])
        backend = filled({**healthy, key: value})
        digest = digest_of_key(key)
        if digest is not None and is_whole(backend, digest, filled(healthy)):
            harmless += 1
            assert check(backend).findings.clean
            continue
        if key == "format" and re.fullmatch(rb"castore repository, format [2-9]\n", value):
            with pytest.raises(UnsupportedVersionError):  # a flipped digit may be a later one, which nobody replaces
                check(backend, source=good.other())
            assert backend.snapshot() == {**healthy, key: value}
            continue
        done = check(backend, source=good.other())
        assert [finding.key for finding in done.findings.listed] == [key], (key, value[:80])
        assert done.findings.clean
        assert done.findings.repaired == 1
        backend.crash()
        assert backend.snapshot() == healthy
    assert harmless < n / 100


def is_whole(backend: Backend, digest: Digest, good: Backend) -> bool:
    """Whether a reader gets the object; then it is what it was. Every reading goes through this door."""
    try:
        return ObjectStore(backend).get(digest) == ObjectStore(good).get(digest)
    except (CorruptionError, UnsupportedVersionError):  # a codec that is flipped may be a later one
        return False


def harmed(draw: random.Random, value: bytes) -> bytes:
    """A value with one bit turned, or cut, or nothing of it."""
    at = draw.randrange(len(value))
    if draw.random() < 0.3:
        return value[: draw.choice([0, at])]
    return value[:at] + bytes([value[at] ^ 1 << draw.randrange(8)]) + value[at + 1 :]


def test_all_damaged_at_once_is_repaired(healthy: dict[str, bytes]) -> None:
    draw = random.Random(2)
    backend = filled({key: value[: draw.randrange(len(value))] for key, value in healthy.items()})
    done = check(backend, source=filled(healthy))
    assert done.findings.clean
    assert done.findings.repaired == len(healthy)
    assert backend.snapshot() == healthy


def test_all_objects_lost_is_repaired(healthy: dict[str, bytes]) -> None:
    backend = filled({key: value for key, value in healthy.items() if not key.startswith("objects/")})
    assert "object-missing" in names_of(check(backend.other()))
    done = check(backend, source=filled(healthy))
    assert done.findings.clean
    again = check(backend)
    assert again.findings.clean
    assert again.objects == sum(key.startswith("objects/") for key in healthy)


def test_what_is_missing_is_named_in_one_look(healthy: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """The links are many: they are not gone through once for each object that is not there."""
    looks = []
    links = Graph.links
    monkeypatch.setattr(Graph, "links", lambda graph: looks.append(1) or links(graph))  # type: ignore[func-returns-value]
    check(filled(healthy))
    whole = len(looks)
    manifest = Repository(filled(healthy)).dataset("two").manifest
    chunks = {object_key(e.digest) for _, root in manifest.arrays.values() for e in root.entries}
    done = check(filled({key: value for key, value in healthy.items() if key not in chunks}))
    assert done.findings.counts["object-missing"] == len(chunks) > 10
    assert len(looks) - 2 * whole < 10
    root = object_key(Repository(filled(healthy)).dataset("two").root)
    assert {f.text for f in done.findings.listed if f.name == "object-missing"} == {f"named by {root}"}


def test_what_a_record_alone_names_is_repaired_and_told(healthy: dict[str, bytes]) -> None:
    records = ("units/", "format")
    content = {key: value for key, value in healthy.items() if key.startswith(records)}
    without = check(filled(content))
    assert set(without.findings.counts) == {"record-dangling"}
    backend = filled(content)
    done = check(backend, source=filled(healthy))
    assert done.findings.clean
    assert 0 < done.findings.repaired <= without.findings.counts["record-dangling"], "some records name the same"
    assert check(backend.other()).findings.listed == []


@pytest.mark.parametrize("had", ["older", "newer"])
def test_a_former_meaning_that_is_gone_is_told_beside_one_that_came_back(tmp_path: Path, had: str) -> None:
    rows = example_rows()
    backend = MemoryBackend()
    for number in range(3):
        path = write_rows(tmp_path / f"{number}.jsonl", rows[60 * number : 60 * number + 60])
        run_job(loose(backend), [(path, "1.0")], name="x")
    runs = [entry.target for entry in Repository(backend).refs.log("x")]
    content = {key: value for key, value in backend.snapshot().items() if not key.startswith("units/")}
    keys = [object_key(run) for run in runs if run is not None]
    less = {key: value for key, value in content.items() if key not in keys[1:]}
    at = 2 if had == "older" else 1
    done = check(filled(less), source=filled({**less, keys[at]: content[keys[at]]}))
    assert done.findings.repaired == 1
    assert [(f.name, f.key) for f in done.findings.listed if not f.repaired] == [
        ("log-target-missing", f"ref x@{{{3 - at}}}")
    ]


def test_a_newer_record_is_told_and_stays(healthy: dict[str, bytes]) -> None:
    """Also where another repository has an older one in its place."""
    key = next(key for key in healthy if key.startswith("units/"))
    value = decode(unseal(healthy[key], key))
    assert isinstance(value, dict)
    backend = filled({**healthy, key: seal(encode({**value, "format": 2}))})
    content = backend.snapshot()
    done = check(backend, source=filled(healthy))
    assert [(found.name, found.key, found.repaired) for found in done.findings.listed] == [("object-newer", key, False)]
    assert backend.snapshot() == content


def test_without_a_copy_nothing_is_changed(healthy: dict[str, bytes]) -> None:
    draw = random.Random(3)
    for key in draw.sample(sorted(healthy), 40):
        content = {**healthy, key: healthy[key][:-1]}
        backend = filled(content)
        done = check(backend)
        assert not done.findings.clean
        assert {finding.key for finding in done.findings.listed} == {key}, done.findings.listed
        assert backend.snapshot() == content


def test_a_bad_copy_repairs_nothing(healthy: dict[str, bytes]) -> None:
    key = next(key for key in healthy if key.startswith("objects/"))
    bad = {**healthy, key: healthy[key][:-1]}
    backend = filled(bad)
    done = check(backend, source=filled(bad))
    assert names_of(done) == {"object-damaged"}
    assert backend.snapshot() == bad


def test_swapped_objects(healthy: dict[str, bytes]) -> None:
    a, b = [key for key in healthy if key.startswith("objects/")][:2]
    done = check(filled({**healthy, a: healthy[b], b: healthy[a]}))
    assert {finding.key for finding in done.findings.listed} == {a, b}
    assert names_of(done) == {"object-damaged"}


def test_ref_logs(healthy: dict[str, bytes]) -> None:
    first, last = f"refs/two/{0:020d}", f"refs/two/{1:020d}"
    gap = {key: value for key, value in healthy.items() if key != first}
    assert names_of(check(filled(gap))) == {"ref-gap"}
    assert check(filled(gap), source=filled(healthy)).findings.clean
    moved = {**healthy, last: healthy[first]}
    assert names_of(check(filled(moved))) == {"ref-damaged"}
    far = {**healthy, f"refs/two/{2**62:020d}": healthy[last]}
    assert "ref-gap" in names_of(check(filled(far)))


def test_a_name_of_one_entry_does_not_take_the_meaning_it_has_elsewhere(healthy: dict[str, bytes]) -> None:
    """Two teams have a golden/one: nothing but what it means tells which log is a copy of which."""
    elsewhere = filled(healthy)
    foreign = Repository(elsewhere)
    stranger = foreign.objects.get(foreign.resolve("two")).replace(b"two.jsonl", b"oww.jsonl")
    foreign.objects.put(digest_of(stranger), stranger)
    elsewhere.delete("refs/golden/one/" + 20 * "0")
    foreign.refs.update("golden/one", digest_of(stranger), time_s=1, author="m", message="")
    foreign.objects.flush()
    harmed = {**healthy, "refs/golden/one/" + 20 * "0": b"?"}
    done = check(filled(harmed), source=elsewhere)
    assert [(f.name, f.repaired) for f in done.findings.listed] == [("ref-damaged", False)]
    assert check(filled(harmed), source=filled(healthy)).findings.repaired == 1


def test_a_log_of_another_repository_repairs_nothing(healthy: dict[str, bytes], tmp_path: Path) -> None:
    other = MemoryBackend()
    rows = write_rows(tmp_path / "rows.jsonl", example_rows()[:5])
    run_job(other, [(rows, "1.0")], name="two")
    first = f"refs/two/{0:020d}"
    harmed_log = {**healthy, first: healthy[first][:-1]}
    run_job(other, [(rows, "0.5")], name="two")
    done = check(filled(harmed_log), source=other)
    assert names_of(done) == {"ref-damaged"}


def test_what_is_not_ours(healthy: dict[str, bytes]) -> None:
    names = ["objects/ab/cd", "notes.txt", "units/x", "refs/two/readme", "imports/00/11", "a/b/c"]
    done = check(filled({**healthy, **dict.fromkeys(names, b"?")}))
    assert sorted(finding.key for finding in done.findings.listed) == sorted(names)
    assert names_of(done) == {"unknown-file"}
    assert check(filled({**healthy, "tmp/x": b"?"})).findings.clean


def test_on_a_disk(healthy: dict[str, bytes], tmp_path: Path) -> None:
    backend: Backend = LocalBackend(str(tmp_path / "a"))
    for key, value in healthy.items():
        backend.put(key, value)
    backend.flush()
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    victims = random.Random(4).sample(sorted((tmp_path / "a/objects").rglob("*/*")), 5)
    for path in victims[:3]:
        path.write_bytes(path.read_bytes()[:-1] + b"!")
    for path in victims[3:]:
        path.unlink()
    done = check(LocalBackend(str(tmp_path / "a")))
    assert names_of(done) <= {"object-damaged", "object-missing", "record-dangling", "log-target-missing"}
    done = check(LocalBackend(str(tmp_path / "a")), source=LocalBackend(str(tmp_path / "b")))
    assert done.findings.clean
    assert done.findings.repaired >= 5
    assert check(LocalBackend(str(tmp_path / "a"))).findings.listed == []


def test_findings_that_were_repaired_are_listed_up_to_a_number_too() -> None:
    told: list[Finding] = []
    findings = Findings(told.append)
    for number in range(LISTED_MAX + 50):
        findings.add("object-missing", f"objects/{number}", "gone", repaired=True)
        findings.add("object-damaged", f"objects/{number}", "harmed")
    assert findings.repaired == findings.counts["object-damaged"] == LISTED_MAX + 50
    assert told == findings.listed
    assert len(told) == 2 * LISTED_MAX


def test_every_finding_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs/reference/fsck.md").read_text()
    for name, (severity, _) in SEVERITY_AND_ADVICE.items():
        assert f"| `{name}` | {severity} |" in page
