"""The one order in which a dataset enters a repository, and what an interrupt leaves of a step."""

from __future__ import annotations

import pytest

from castore.errors import InvalidInputError
from castore.format.digest import Digest
from castore.format.files import encode_file
from castore.format.manifest import Manifest
from castore.format.order import Order
from castore.format.run import Run
from castore.format.schema import DATA_ARRAYS
from castore.ingest.assembly import Assembly, Growth, Step, recorded_order, store_run
from castore.store.backend import MemoryBackend
from castore.store.marker import open_layout
from castore.store.object_keys import digest_of_key, object_key
from castore.store.objects import ObjectStore
from tests.support.built import FEW, SMALL, build
from tests.support.faults import FaultyBackend, SimulatedCrash
from tests.support.strategies import piece_of, random_rows

ROWS = random_rows(90, seed=11)
BUILT = build(ROWS, chunk_bytes=SMALL, fanout=FEW)
FILE = encode_file(b"beside the data")


def assemble(backend: FaultyBackend) -> tuple[str, str]:
    """Keys of the run record and the manifest of ``ROWS``."""
    assembly = Assembly(ObjectStore(backend), DATA_ARRAYS, chunk_bytes=SMALL, fanout=FEW)
    for lo in range(0, len(ROWS), 35):
        assembly.add(piece_of(ROWS[lo : lo + 35]))
    made = assembly.finish(Order.shuffled(1, len(ROWS)), {"recipe": {"by": "a test"}}, {"note": FILE})
    return object_key(made.run), object_key(made.root)


def started() -> MemoryBackend:
    backend = MemoryBackend()
    open_layout(backend, create=True)
    return backend


def test_children_then_manifest_then_run_each_durable_before_the_next() -> None:
    backend = FaultyBackend(started())
    run, root = assemble(backend)
    writes = [(what, key) for what, key in backend.calls if what in ("put", "flush")]
    assert writes[-5:] == [("flush", ""), ("put", root), ("flush", ""), ("put", run), ("flush", "")]
    assert object_key(FILE.digest) in [key for _, key in writes[:-5]]
    assert backend.inner.other().get(run, 1 << 20) is not None


def test_a_crash_at_any_write_names_nothing_that_is_not_there() -> None:
    whole = FaultyBackend(started())
    run, root = assemble(whole)
    named = 0
    for n in range(1, whole.writes + 1):
        backend = FaultyBackend(started()).crash_at(n, after=True)
        with pytest.raises(SimulatedCrash):
            assemble(backend)
        left = ObjectStore(backend.inner.other())
        if left.has(_digest(run)):
            found = Run.decode(left.get(_digest(run)))
            assert left.has(found.manifest)
            assert left.has(FILE.digest)
            named += 1
        if left.has(_digest(root)):
            assert all(map(left.has, BUILT.sequence))
            named += 1
    assert named >= 3


def test_the_root_is_that_of_any_other_way() -> None:
    assembly = Assembly(ObjectStore(started()), DATA_ARRAYS, chunk_bytes=SMALL, fanout=FEW)
    assembly.add(piece_of(ROWS))
    assert (assembly.samples, assembly.tokens) == (90, sum(len(ids) for ids, _ in ROWS))
    assembly.end()
    assert assembly.cut_at == 90
    assert assembly.cuts()[-1].stop == 90
    assert assembly.finish(None, {}, {}).root == BUILT.root


def test_a_manifest_alone_and_its_run_record_later() -> None:
    backend = started()
    objects = ObjectStore(backend)
    growth = Growth(objects)
    assembly = Assembly(objects, DATA_ARRAYS, chunk_bytes=SMALL, fanout=FEW)
    assembly.add(piece_of(ROWS))
    root = assembly.finish_manifest(None, [FILE])
    elsewhere = ObjectStore(backend.other())
    assert elsewhere.has(FILE.digest)
    assert Manifest.decode(elsewhere.get(root)).samples == 90
    run = store_run(objects, root, 90, {"recipe": {"by": "a test"}}, {"note": FILE})
    found = Run.decode(ObjectStore(backend.other()).get(run))
    assert (found.manifest, found.samples, found.files) == (root, 90, {"note": FILE.digest})
    assert growth.objects_new == len({*BUILT.sequence, FILE.digest, root, run})
    assert growth.bytes_new > 0


# ---- steps that are taken as a whole


def test_a_step_that_ends_is_whole_and_may_hold_others() -> None:
    step = Step()
    with step:
        assert step.is_torn
        with step:
            pass
        assert step.is_torn
    assert not step.is_torn


@pytest.mark.parametrize("depth", [0, 1])
def test_what_raises_out_of_a_step_leaves_it_torn(depth: int) -> None:
    step = Step()

    def take(left: int) -> None:
        with step:
            if not left:
                raise KeyboardInterrupt
            take(left - 1)

    with pytest.raises(KeyboardInterrupt):
        take(depth)
    assert step.is_torn
    with step:
        pass
    assert step.is_torn


def test_an_interrupted_piece_tears_the_assembly() -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    assembly = Assembly(ObjectStore(started()), DATA_ARRAYS, chunk_bytes=SMALL, fanout=FEW)
    piece = piece_of(ROWS)
    piece.load = interrupted  # type: ignore[assignment]  # never gives samples
    with pytest.raises(KeyboardInterrupt):
        assembly.add(piece)
    assert assembly.step.is_torn


# ---- orders


def test_orders_that_are_recorded() -> None:
    assert recorded_order(None, None, 5, "--take") is None
    assert recorded_order(7, None, 5, "--take") == Order.shuffled(7, 5)
    assert recorded_order(7, 3, 5, "--take") == Order.shuffled(7, 5, 3)
    for take in (0, 6):
        with pytest.raises(InvalidInputError, match=f"^--take {take} of 5 samples: ask for 1 to 5$"):
            recorded_order(7, take, 5, "--take")


def _digest(key: str) -> Digest:
    found = digest_of_key(key)
    assert found is not None
    return found
