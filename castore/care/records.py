"""The part of a check that looks at what is no object: marker, names, records; and where good copies come from."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from castore.care.census import Census
from castore.care.findings import Findings
from castore.errors import BackendError, CastoreError, CorruptionError, FormatError, NotFoundError
from castore.format.digest import Digest, is_digest_hex
from castore.format.unit import Unit
from castore.store.backend import Backend
from castore.store.imports import IMPORT_BYTES_MAX, decode_import
from castore.store.marker import FORMAT_KEY, MARKER_BYTES_MAX, check_marker_bytes, open_layout
from castore.store.objects import ObjectStore, object_key, trash_key
from castore.store.packings import PACKING_BYTES_MAX, digests_of_packing
from castore.store.records import unseal
from castore.store.refs import ENTRY_BYTES_MAX, RefEntry, entry_of_key
from castore.store.signatures import SIGNATURE_BYTES_MAX, Signature
from castore.store.units import UNIT_BYTES_MAX
from castore.store.writes import WRITE_BYTES_MAX, digests_of_write, is_write_key


class Repairer:
    """Fetches good copies from another repository and puts them in place.

    Args:
        backend: The repository that is repaired.
        source: Where copies come from; None if nothing is to be repaired.

    Raises:
        NotFoundError: There is no repository at the source.
    """

    def __init__(self, backend: Backend, source: Backend | None) -> None:
        if source is not None:
            open_layout(source, create=False)
        self.backend, self.source = backend, source
        self._objects = ObjectStore(backend)
        self._good = None if source is None else ObjectStore(source)

    def object(self, digest: Digest) -> bytes | None:
        """Put an object in place and return its content; None if there is no good copy."""
        if self._good is None:
            return None
        try:
            _, frame, data = next(iter(self._good.get_frames([digest])))
        except (NotFoundError, CorruptionError):
            return None
        self._objects.put_frame(digest, frame)
        return data

    def raw(self, key: str, max_bytes: int) -> bytes | None:
        """The bytes that the other repository has under a key, None if it has none or they are too many."""
        try:
            return None if self.source is None else self.source.get(key, max_bytes)
        except CorruptionError:
            return None

    def put(self, key: str, data: bytes) -> None:
        """Put a record in place of what is there."""
        self.backend.put(key, data)

    def finish(self) -> None:
        """Make what was repaired durable."""
        if self.source is not None:
            self.backend.flush()


def check_marker(backend: Backend, repairer: Repairer, findings: Findings) -> None:
    """Check the file that makes a place a repository.

    Raises:
        NotFoundError: There is nothing at all.
        FormatError: There is something else.
    """
    try:
        open_layout(backend, create=False)
        return
    except NotFoundError:
        raise
    except (FormatError, CorruptionError) as error:
        if not any(True for folder in ("objects", "refs") for _ in backend.list(folder)):
            raise
        good = repairer.raw(FORMAT_KEY, MARKER_BYTES_MAX)
        if good is not None:
            check_marker_bytes(good, "the repository that is copied from")
            repairer.put(FORMAT_KEY, good)
        findings.add("marker-damaged", FORMAT_KEY, str(error), repaired=good is not None)


@dataclass(slots=True)
class Targets:
    """What names mean.

    Attributes:
        current: Digest and name of what they mean now.
        former: Digest and ``name@{n}`` of what they meant before.
    """

    current: list[tuple[bytes, str]] = field(default_factory=list)
    former: list[tuple[bytes, str]] = field(default_factory=list)


def check_refs(backend: Backend, keys: list[str], repairer: Repairer, findings: Findings) -> Targets:
    """Check the logs of all names."""
    logs: dict[str, list[int]] = {}
    for key in keys:
        place = entry_of_key(key)
        if place is None:
            findings.add("unknown-file", key, "no entry of a ref is called so")
        else:
            logs.setdefault(place[0], []).append(place[1])
    targets = Targets()
    for name, sequences in sorted(logs.items()):
        _check_log(backend, name, sorted(sequences), repairer, findings, targets)
    return targets


def _check_log(
    backend: Backend, name: str, sequences: list[int], repairer: Repairer, findings: Findings, targets: Targets
) -> None:
    newest = sequences[-1]
    present = set(sequences)
    entries: dict[int, RefEntry] = {}
    bad: dict[int, tuple[str, str]] = {}
    for sequence in range(newest + 1) if newest < len(sequences) + GAP_MAX else sequences:
        key = f"refs/{name}/{sequence:020d}"
        if sequence not in present:
            bad[sequence] = "ref-gap", f"the log of {name} has no entry {sequence}, but later ones"
            continue
        try:
            data = backend.get(key, ENTRY_BYTES_MAX)
            if data is not None:
                entries[sequence] = RefEntry.decode(name, sequence, data, key)
        except BackendError as error:
            findings.add("object-unreadable", key, str(error))
        except (CorruptionError, FormatError) as error:
            bad[sequence] = "ref-damaged", str(error)
    if newest >= len(sequences) + GAP_MAX:
        hole = next(i for i, sequence in enumerate(sequences) if i != sequence)
        bad[hole] = "ref-gap", f"the log of {name} has {len(sequences)} of {newest + 1} entries"
    for sequence, (what, text) in bad.items():
        key = f"refs/{name}/{sequence:020d}"
        good = _good_entry(name, sequence, entries, repairer)
        if good is not None:
            repairer.put(key, good.encode())
            entries[sequence] = good
        findings.add(what, key, text, repaired=good is not None)
    for sequence, entry in entries.items():
        if entry.target is not None and sequence == newest:
            targets.current.append((entry.target, name))
        elif entry.target is not None:
            targets.former.append((entry.target, f"{name}@{{{newest - sequence}}}"))


GAP_MAX = 100_000
"""Longest log whose holes are named one by one."""


def _good_entry(name: str, sequence: int, entries: dict[int, RefEntry], repairer: Repairer) -> RefEntry | None:
    """The entry in the other repository, if its log is a copy of this one: every entry that both have is the same.

    Where they have none in common, what the entry means must be stored here: of a name that was never moved nothing
    else tells a copy from a repository of somebody who uses the name for other data.
    """
    found = _entry_there(name, sequence, repairer)
    if found is None:
        return None
    common = [(_entry_there(name, n, repairer), entry) for n, entry in entries.items()]
    if not all(there in (None, entry) for there, entry in common):
        return None
    known = found.target is None or repairer.backend.has(object_key(found.target))
    return found if known or any(there is not None for there, _ in common) else None


def _entry_there(name: str, sequence: int, repairer: Repairer) -> RefEntry | None:
    key = f"refs/{name}/{sequence:020d}"
    data = repairer.raw(key, ENTRY_BYTES_MAX)
    try:
        return None if data is None else RefEntry.decode(name, sequence, data, key)
    except (CorruptionError, FormatError):
        return None


def check_records(backend: Backend, census: Census, repairer: Repairer, findings: Findings) -> NDArray[np.bool_]:
    """Check records of units, imports, packings and writes; which objects they name."""
    held = np.zeros(len(census), np.bool_)
    for folder in ("units", "imports", "packings", "writes"):
        for key in census.records[folder]:
            digests = _record(backend, key, repairer, findings)
            if digests is None:
                continue
            numbers = census.find(b"".join(digests)) if digests else np.zeros(0, np.int64)
            held[numbers[numbers >= 0]] = True
            lost = {digests[i] for i in np.flatnonzero(numbers < 0).tolist()}
            lost = {d for d in lost if not backend.has(trash_key(d)) and not backend.has(object_key(d))}
            back = {d for d in lost if repairer.object(d) is not None}
            for which, repaired in ((back, True), (lost - back, False)):
                if which:
                    text = f"names {len(which)} objects that are not there"
                    findings.add("record-dangling", key, text, repaired=repaired)
    return held


def check_signatures(backend: Backend, keys: list[str], repairer: Repairer, findings: Findings) -> None:
    """Check that signatures are whole and where they belong; whether they are true is for ``castore verify``."""
    for key in keys:
        try:
            data = backend.get(key, SIGNATURE_BYTES_MAX)
            if data is not None:
                Signature.decode(data, key)
        except BackendError as error:
            findings.add("object-unreadable", key, str(error))
        except (CorruptionError, FormatError) as error:
            good = repairer.raw(key, SIGNATURE_BYTES_MAX)
            try:
                if good is not None:
                    Signature.decode(good, key)
                    repairer.put(key, good)
            except CastoreError:
                good = None
            findings.add("signature-damaged", key, str(error), repaired=good is not None)


def _record(backend: Backend, key: str, repairer: Repairer, findings: Findings) -> list[Digest] | None:
    limit, folder = max(UNIT_BYTES_MAX, IMPORT_BYTES_MAX, PACKING_BYTES_MAX, WRITE_BYTES_MAX), key.partition("/")[0]
    name = key[-64:]
    named_so = key == f"{folder}/{name[:2]}/{name}" and is_digest_hex(name)
    if not (is_write_key(key) if folder == "writes" else named_so):
        findings.add("unknown-file", key, "no record is called so")
        return None
    try:
        data = backend.get(key, limit)
        return None if data is None else _named(folder, data, key)
    except BackendError as error:
        findings.add("object-unreadable", key, str(error))
    except (CorruptionError, FormatError) as error:
        good = repairer.raw(key, limit)
        named = None
        try:
            named = None if good is None else _named(folder, good, key)
        except CastoreError:
            named = None
        if good is not None and named is not None:
            repairer.put(key, good)
        findings.add("record-damaged", key, str(error), repaired=named is not None)
        return named
    return None


def _named(folder: str, data: bytes, key: str) -> list[Digest]:
    """The objects that a record names."""
    payload = unseal(data, key)
    if folder == "imports":
        return [decode_import(payload).manifest]
    if folder == "packings":
        return digests_of_packing(payload)
    if folder == "writes":
        return digests_of_write(payload)
    return [digest for part in Unit.decode(payload).slices for digest in part.chunks.values()]
