"""The part of a check that looks at what is no object: marker, names, records."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from castore.care.census import Census
from castore.care.findings import Findings
from castore.care.repair import Repairer
from castore.errors import (
    BackendError,
    CastoreError,
    CorruptionError,
    FormatError,
    NotFoundError,
    UnsupportedVersionError,
)
from castore.format.digest import Digest
from castore.store import kinds
from castore.store.backend import Backend, NotAValueError
from castore.store.marker import FORMAT_KEY, MARKER_BYTES_MAX, check_marker_bytes, open_layout
from castore.store.object_keys import OBJECTS_FOLDER, object_key
from castore.store.packs import PackedBackend
from castore.store.protection import PROTECTED_KEY, protected_patterns
from castore.store.records import RecordKind
from castore.store.refs import REFS, RefEntry, entry_key, entry_of_key
from castore.store.trash import trash_key


def check_marker(backend: Backend, repairer: Repairer, findings: Findings) -> None:
    """Check the file that makes a place a repository.

    Raises:
        NotFoundError: There is nothing at all.
        FormatError: There is something else.
        UnsupportedVersionError: It is of a newer format.
    """
    try:
        open_layout(backend, create=False)
        return
    except (NotFoundError, UnsupportedVersionError):
        raise  # a marker of a newer castore is not to be replaced
    except (FormatError, CorruptionError, BackendError) as error:
        if not any(True for folder in (OBJECTS_FOLDER, REFS.folder) for _ in backend.list(folder)):
            raise
        if isinstance(error, BackendError):  # that there is none is not known: none is put there
            _note_unreadable(findings, FORMAT_KEY, error)
            return
        good = repairer.raw(FORMAT_KEY, MARKER_BYTES_MAX)
        if good is not None:
            check_marker_bytes(good, "the repository that is copied from")
            repairer.put(FORMAT_KEY, good)
        findings.add("marker-damaged", FORMAT_KEY, str(error), repaired=good is not None)


def _note_unreadable(findings: Findings, key: str, error: BackendError) -> None:
    """Note that a value cannot be read; what is none was told of with the listing."""
    if not isinstance(error, NotAValueError):
        findings.add("object-unreadable", key, str(error))


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
        key = entry_key(name, sequence)
        if sequence not in present:
            bad[sequence] = "ref-gap", f"the log of {name} has no entry {sequence}, but later ones"
            continue
        try:
            data = backend.get(key, REFS.bytes_max)
            if data is not None:
                entries[sequence] = RefEntry.decode(name, sequence, data, key)
        except BackendError as error:
            _note_unreadable(findings, key, error)
        except UnsupportedVersionError as error:
            findings.add("object-newer", key, str(error))
        except (CorruptionError, FormatError) as error:
            bad[sequence] = "ref-damaged", str(error)
    if newest >= len(sequences) + GAP_MAX:
        hole = next(i for i, sequence in enumerate(sequences) if i != sequence)
        bad[hole] = "ref-gap", f"the log of {name} has {len(sequences)} of {newest + 1} entries"
    for sequence, (what, text) in bad.items():
        key = entry_key(name, sequence)
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
    key = entry_key(name, sequence)
    data = repairer.raw(key, REFS.bytes_max)
    try:
        return None if data is None else RefEntry.decode(name, sequence, data, key)
    except (CorruptionError, FormatError):
        return None


def check_records(backend: Backend, census: Census, repairer: Repairer, findings: Findings) -> NDArray[np.bool_]:
    """Check the records of all kinds that are not logs; which objects of the census they hold.

    Whether a signature is true is for ``castore verify``.
    """
    held = np.zeros(len(census), np.bool_)
    try:
        with contextlib.suppress(CorruptionError, FormatError):  # what says so itself when it is asked
            protected_patterns(backend)
    except BackendError as error:
        _note_unreadable(findings, PROTECTED_KEY, error)
    for kind in kinds.KINDS:
        for key in () if kind.is_log else census.records[kind.folder]:
            digests = _checked_references(backend, kind, key, repairer, findings)
            numbers = census.find(b"".join(digests)) if digests else np.zeros(0, np.int64)
            held[numbers[numbers >= 0]] = True
            lost = {digests[i] for i in np.flatnonzero(numbers < 0).tolist()}
            lost = {d for d in lost if not _is_somewhere(backend, d)}
            back = {d for d in lost if repairer.object(d) is not None}
            for which, repaired in ((back, True), (lost - back, False)):
                if which:
                    text = f"names {len(which)} objects that are not there"
                    findings.add("record-dangling", key, text, repaired=repaired)
    return held


def _is_somewhere(backend: Backend, digest: Digest) -> bool:
    """Whether an object is there after all, or may be: what cannot be seen is not missing."""
    try:
        return backend.has(trash_key(digest)) or backend.has(object_key(digest))
    except BackendError:
        return True


def _checked_references(
    backend: Backend, kind: RecordKind, key: str, repairer: Repairer, findings: Findings
) -> list[Digest]:
    """The objects that a record holds; none if it cannot be had whole."""
    if not kind.is_key(key):
        findings.add("unknown-file", key, "no record is called so")
        return []
    try:
        data = backend.get(key, kind.bytes_max)
        return [] if data is None else kind.references(data, key)
    except BackendError as error:
        _note_unreadable(findings, key, error)
        return []
    except UnsupportedVersionError as error:  # another castore reads it, and nothing may take its place
        findings.add("object-newer", key, str(error))
        return []
    except (CorruptionError, FormatError) as error:
        if isinstance(backend, PackedBackend):  # which tells of the pack that has the damaged one
            for other in backend.copies(key, kind.bytes_max):
                with contextlib.suppress(CorruptionError, FormatError):
                    return kind.references(other, key)
        good = repairer.raw(key, kind.bytes_max)
        references = None
        if good is not None:
            with contextlib.suppress(CastoreError):
                references = kind.references(good, key)
                repairer.put(key, good)
        findings.add(kind.damage, key, str(error), repaired=references is not None)
        return references or []
