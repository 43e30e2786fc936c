"""What a check may find: a stable name each, how bad it is, and what to do (``docs/reference/fsck.md``)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

ERROR, WARNING, NOTE = "error", "warning", "note"
"""Data is lost or wrong; nothing is lost but something is not as it should be; good to know."""

_COPY = "run 'castore fsck --repair-from URL' with a repository that has the data"
_AGAIN = "or make the dataset again, which stores it anew"

SEVERITY_AND_ADVICE = {
    "marker-damaged": (ERROR, "run 'castore fsck --repair-from URL' with any healthy repository"),
    "object-damaged": (ERROR, f"{_COPY}, {_AGAIN}"),
    "object-missing": (ERROR, f"{_COPY}, {_AGAIN}"),
    "base-missing": (ERROR, f"{_COPY}, {_AGAIN}"),
    "object-unreadable": (ERROR, "see to the permissions or the disk, then check again"),
    "not-a-file": (ERROR, "bring back what belongs there, or move away what is in its place; nothing was touched"),
    "object-malformed": (ERROR, "it was written so: report it, and make the dataset again with a sound castore"),
    "object-newer": (WARNING, "check with the castore that wrote it"),
    "pack-damaged": (ERROR, f"{_COPY}, which writes the pack anew"),
    "pack-index-damaged": (
        ERROR,
        f"run 'castore fsck --repair', which makes it again, or {_COPY.removeprefix('run ')}",
    ),
    "pack-unreadable": (ERROR, "see to the permissions or the disk, then check again"),
    "node-wrong-level": (ERROR, "it was written so: report it, and make the dataset again with a sound castore"),
    "node-mixed": (ERROR, "it was written so: report it, and make the dataset again with a sound castore"),
    "wrong-counts": (ERROR, "it was written so: report it, and make the dataset again with a sound castore"),
    "wrong-kind": (ERROR, "it was written so: report it, and make the dataset again with a sound castore"),
    "wrong-boundaries": (ERROR, "the data is right, but not shared with others: make the dataset again"),
    "wrong-lengths": (ERROR, "it was written so: report it, and make the dataset again with a sound castore"),
    "wrong-keys": (ERROR, "it was written so: report it, and make the dataset again with a sound castore"),
    "wrong-order": (ERROR, "install the numpy that wrote it, or make the dataset again"),
    "ref-gap": (ERROR, "run 'castore fsck --repair-from URL' with a copy of this repository"),
    "ref-damaged": (ERROR, "run 'castore fsck --repair-from URL' with a copy of this repository"),
    "ref-wrong-target": (ERROR, "tag the name anew, or remove it"),
    "log-target-missing": (NOTE, "nothing: what a name meant long ago was collected"),
    "record-damaged": (WARNING, "delete the file: the record is made again when it is needed"),
    "record-dangling": (WARNING, "delete the file: the record is made again when it is needed"),
    "signature-damaged": (WARNING, "delete the file and sign again"),
    "unknown-file": (WARNING, "move it elsewhere: castore neither reads nor removes it"),
}
"""By name. Names are never changed, and never used for something else."""

LISTED_MAX = 1000
"""Findings with one name that are listed; further ones are counted."""


@dataclass(slots=True)
class Finding:
    """One thing that is not as it should be.

    Attributes:
        name: Stable, a key of ``SEVERITY_AND_ADVICE``.
        key: Where.
        text: What is wrong.
        repaired: Whether it was put right.
    """

    name: str
    key: str
    text: str
    repaired: bool = False

    @property
    def severity(self) -> str:
        """``error``, ``warning`` or ``note``."""
        return SEVERITY_AND_ADVICE[self.name][0]

    @property
    def advice(self) -> str:
        """What to do."""
        return SEVERITY_AND_ADVICE[self.name][1]


@dataclass(slots=True)
class Findings:
    """All that was found, with bounded memory.

    Attributes:
        listed: At most ``LISTED_MAX`` of each name, and as many that were repaired, in the order found.
        counts: How many of each name there are, repaired ones apart.
        repaired: How many were put right.
        tell: Called with every finding that is listed, at once.
    """

    tell: Callable[[Finding], None] = lambda finding: None
    listed: list[Finding] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    repaired: int = 0
    _listed: dict[tuple[str, bool], int] = field(default_factory=dict)

    def add(self, name: str, key: str, text: str, *, repaired: bool = False) -> None:
        """Note a finding."""
        finding = Finding(name, key, text, repaired)
        if repaired:
            self.repaired += 1
        else:
            self.counts[name] = self.counts.get(name, 0) + 1
        listed = self._listed[name, repaired] = self._listed.get((name, repaired), 0) + 1
        if listed <= LISTED_MAX:
            self.listed.append(finding)
            self.tell(finding)

    @property
    def clean(self) -> bool:
        """Whether nothing is left but notes."""
        return all(SEVERITY_AND_ADVICE[name][0] == NOTE for name in self.counts)
