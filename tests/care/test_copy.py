"""Copying between repositories: what travels, what does not, and what a crash leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from castore.care.fsck import check
from castore.errors import ConflictError, CorruptionError, InvalidInputError, NotFoundError
from castore.repository import Origin, Repository
from castore.store.backend import Backend, MemoryBackend
from castore.store.marker import open_layout
from tests.care.test_fsck import healthy  # noqa: F401 - a fixture
from tests.support.complete import check_complete
from tests.support.faults import FaultyBackend
from tests.support.jobs import ORIGIN, example_rows, run_job, write_rows
from tests.support.layouts import Layout, filled, loose, lose, objects_of, small_packs
from tests.support.sweep import sweep


def opened(backend: Backend) -> Repository:
    open_layout(backend, create=True)
    return Repository(backend)


@pytest.fixture(params=[loose, small_packs], ids=["loose", "packed"])
def layout(request: pytest.FixtureRequest) -> Layout:
    """How both ends keep objects."""
    chosen: Layout = request.param
    return chosen


@pytest.fixture
def source(healthy: dict[str, bytes], layout: Layout) -> Repository:  # noqa: F811
    return Repository(filled(healthy, layout))


def test_all_of_a_dataset_travels_and_nothing_else(source: Repository, layout: Layout) -> None:
    target = layout(MemoryBackend())
    copied = source.copy("golden/one", opened(target), "mine", ORIGIN)
    assert copied.moved
    assert copied.sent == len(objects_of(target)) < len(objects_of(source.backend))
    assert copied.sent_bytes == sum(entry.size_bytes for entry in target.entries("objects"))
    assert check(target).findings.listed == []
    assert check(target).unreferenced == 0
    assert check_complete(Repository(target)).keys() == {"mine"}
    assert Repository(target).dataset("mine").root == source.dataset("golden/one").root
    assert Repository(target).refs.log("mine")[0].message == f"copy golden/one from {source.url}"


def test_again_is_nothing(source: Repository, layout: Layout) -> None:
    target = opened(layout(MemoryBackend()))
    source.copy("two", target, "two", ORIGIN)
    copied = source.copy("two", target, "two", ORIGIN)
    assert (copied.sent, copied.present, copied.held, copied.moved) == (0, 0, 1, False)
    assert len(target.refs.log("two")) == 1
    copied = source.copy("two", target, "also", ORIGIN)
    assert (copied.sent, copied.present, copied.moved) == (0, 0, True)


def test_what_a_name_holds_is_neither_sent_nor_touched(tmp_path: Path, layout: Layout) -> None:
    backend = layout(MemoryBackend())
    rows = list(example_rows())
    changed = [*rows[:100], rows[100].replace(b"the", b"teh", 1), *rows[101:]]
    for name, content in (("a", rows), ("b", changed)):
        run_job(backend, [(write_rows(tmp_path / f"{name}.jsonl", content), "1.0")], name=name, shuffle_seed=None)
    target = FaultyBackend(MemoryBackend())
    Repository(backend).copy("a", opened(layout(target)), "a", ORIGIN)
    everything = len(objects_of(target.inner))
    target.calls.clear()
    copied = Repository(backend).copy("b", Repository(layout(target)), "b", ORIGIN)
    assert copied.sent < everything / 10
    assert copied.present < 5
    touched = [key for what, key in target.calls if what in ("touch", "put", "get", "has")]
    assert len(touched) < everything / 4, "runs, roots, and the nodes above the change"
    assert check(target.inner).findings.listed == []


def test_without_a_name_everything_is_looked_for(source: Repository, layout: Layout) -> None:
    """A node that is there may have lost its children: only what a name holds is known to be whole."""
    backend = MemoryBackend()
    target = opened(layout(backend))
    source.copy("two", target, "two", ORIGIN)
    target.remove("two", ORIGIN)
    victims = lose(backend, 3)
    copied = source.copy("two", Repository(layout(backend)), "two", ORIGIN)
    assert copied.sent == len(victims)
    assert check(backend).findings.listed == []


def test_a_fault_at_every_write(source: Repository, layout: Layout) -> None:
    everything = MemoryBackend()
    source.copy("two", opened(everything), "two", ORIGIN)
    complete = objects_of(everything)

    def copy(backend: Backend) -> set[str]:
        there = len(objects_of(backend))
        copied = source.copy("two", opened(layout(backend)), "two", ORIGIN)
        assert copied.sent == len(complete) - there, "what came over before is not sent again"
        return objects_of(backend)

    assert len(sweep(copy).operations) > (50 if layout is loose else 20)


def test_a_damaged_source_sends_nothing_of_it(healthy: dict[str, bytes]) -> None:  # noqa: F811
    good = MemoryBackend()
    Repository(filled(healthy)).copy("two", opened(good), "two", ORIGIN)
    for key in sorted(objects_of(good))[::5]:
        source = Repository(filled({**healthy, key: healthy[key][:-1]}))
        target = MemoryBackend()
        with pytest.raises(CorruptionError, match=key):
            source.copy("two", opened(target), "two", ORIGIN)
        assert key not in objects_of(target)
        assert Repository(target).refs.names() == []
        assert check(target).findings.listed == []


def test_a_lacking_source_says_what_is_missing(healthy: dict[str, bytes]) -> None:  # noqa: F811
    good = MemoryBackend()
    Repository(filled(healthy)).copy("two", opened(good), "two", ORIGIN)
    for key in sorted(objects_of(good))[::5]:
        source = Repository(filled({name: value for name, value in healthy.items() if name != key}))
        target = MemoryBackend()
        with pytest.raises(NotFoundError, match=key[-64:]):
            source.copy("two", opened(target), "two", ORIGIN)
        assert Repository(target).refs.names() == []


def test_protected_names(source: Repository) -> None:
    reason = Origin("a tester", "here", 1, "the old one was wrong")
    target = opened(MemoryBackend())
    source.copy("golden/one", target, "golden/one", ORIGIN)
    for act in (
        lambda origin, force: source.copy("two", target, "golden/one", origin, force=force),
        lambda origin, force: target.tag("two", "golden/one", origin, force=force),
        lambda origin, force: target.remove("golden/one", origin, force=force),
    ):
        source.copy("two", target, "two", ORIGIN)
        with pytest.raises(InvalidInputError, match="golden/one is protected: give --force"):
            act(reason, False)
        with pytest.raises(InvalidInputError, match="wants the reason"):
            act(ORIGIN, True)
        act(reason, True)
        assert target.refs.log("golden/one")[0].message == "the old one was wrong"
        if target.refs.current("golden/one") is not None:
            target.tag("golden/one@{1}", "golden/one", reason, force=True)
    target.backend.put("protected", b"release-*\n# a remark\n")
    target.tag("two", "golden/one", ORIGIN)
    target.tag("two", "release-1", ORIGIN)
    with pytest.raises(InvalidInputError, match="protected"):
        target.remove("release-1", ORIGIN)


def test_a_moved_name_is_told(source: Repository) -> None:
    target = MemoryBackend()
    opened(target)

    class Rival(FaultyBackend):
        def create(self, key: str, data: bytes) -> bool:
            if key.startswith("refs/"):
                other = Repository(target.other())
                source.copy("golden/one", other, "two", ORIGIN)
            return super().create(key, data)

    with pytest.raises(ConflictError):
        source.copy("two", Repository(Rival(target)), "two", ORIGIN)
    assert check(target).findings.clean


def test_ten_goldens_of_users(tmp_path: Path) -> None:
    """Each differs in some rows next to each other: they share nearly all, and the tenth sends nearly nothing."""
    rows = list(example_rows())
    team, remote = MemoryBackend(), opened(MemoryBackend())
    one = 0
    for user in range(10):
        at = 15 * user
        changed = [row.replace(b"the", b"teh") for row in rows[at : at + user]]
        mix = write_rows(tmp_path / f"{user}.jsonl", [*rows[:at], *changed, *rows[at + user :]])
        run_job(team, [(mix, "1.0")], name=f"golden/{user}", shuffle_seed=None)
        copied = Repository(team).copy(f"golden/{user}", remote, f"golden/{user}", ORIGIN)
        one = one or copied.sent_bytes
        assert user == 0 or copied.sent_bytes < one / 5, user
        assert copied.present < 60, "small labels are alike, and stand below nodes that are new too"
    stored = sum(entry.size_bytes for entry in remote.backend.entries("objects"))
    assert stored < 2 * one, "chunks and nodes are tiny here, so that paths to them weigh much"
    assert check(remote.backend).findings.listed == []
