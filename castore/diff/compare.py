"""Comparing two datasets: equal or not, and if not, where and how (``docs/reference/diff.md``).

What only a difference needs is imported when there is one: equal datasets are compared by every build.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Any

from castore.diff import document
from castore.diff.left_out import left_out, stray_arrays
from castore.diff.recipes import LikelyCause, causes_of, recipe_differences
from castore.diff.sources import renumbered
from castore.errors import InvalidInputError
from castore.format.digest import Digest
from castore.frozen import frozen
from castore.read.columns import Columns

if TYPE_CHECKING:
    from castore.diff.change_groups import Changes
    from castore.diff.edits import Change
    from castore.diff.first_difference import FirstDifference
    from castore.diff.hunks import DatasetPair, Hunk

DERIVED = frozenset({"key", "length"})
"""Arrays that follow from the token ids, so that comparing them would say everything twice."""


@frozen
class Comparison:
    """What ``compare`` found; true where the two differ: ``if a.diff(b): …``.

    Attributes:
        equal: The roots are the same; of directories, all arrays are.
        arrays: By name, whether it is equal, element by element; None where that was not looked at (``equal_arrays``),
            and the name is among ``not_compared``. With ``only``, of that array alone.
        same_order: Both are read in the same order of samples.
        hunks: All differences between the samples in stored order.
        first: The first of them in detail, None if the samples are equal.
        recipe: Entries of the recipes and sources that differ, as (name, a, b); empty where a side has no run record.
        causes: The same in words, the likeliest explanation of differing data first.
        first_change: How the two samples of ``first`` differ as a whole; None if one side has no sample there.
        aligned: The kinds of change among replaced samples, None if they were not asked for.
        reordered: Samples that both sides have, if their orders are too different to be told as moves; else 0. The
            hunks then are what one side alone has, and samples whose labels differ; they do not make b of a.
        only: The one array that was compared, None for all.
        not_compared: What there is on a side and was not compared: names of arrays and files, ``order``.
        roots: Root of each side, empty bytes for a directory without one.
        runs: Digest of the run record of each side, None where only a root is known.
    """

    equal: bool
    arrays: dict[str, bool | None]
    same_order: bool
    samples_a: int
    samples_b: int
    hunks: list[Hunk] = field(default_factory=list)
    first: FirstDifference | None = None
    recipe: list[tuple[str, object, object]] = field(default_factory=list)
    causes: list[LikelyCause] = field(default_factory=list)
    first_change: Change | None = None
    aligned: Changes | None = None
    reordered: int = 0
    only: str | None = None
    not_compared: list[str] = field(default_factory=list)
    roots: tuple[Digest, Digest] = field(kw_only=True)
    runs: tuple[Digest | None, Digest | None] = field(kw_only=True)

    __eq__, __hash__ = object.__eq__, object.__hash__  # one comparison is as good as another, and never the same

    def __bool__(self) -> bool:
        """Whether the two differ: in data or order, or in the one array that was compared."""
        return not self.equal if self.only is None else self.arrays[self.only] is not True

    def __repr__(self) -> str:
        if not self:
            only = "" if self.only is None else f" in {self.only}"
            return f"<Comparison: equal{only}, {self.samples_a} samples>"
        counts = {"replaced": self.count("replace"), "inserted": self.count("insert"), "deleted": self.count("delete")}
        said = [f"{count} {word}" for word, count in {**counts, "moved": self.moved}.items() if count]
        order = [] if self.same_order else ["another order"]
        return f"<Comparison: different, {', '.join([*said, *order])}; {self.samples_a} and {self.samples_b} samples>"

    @property
    def changes(self) -> Changes:
        """The kinds of change among replaced samples; none if samples were not aligned."""
        if self.aligned is not None:
            return self.aligned
        from castore.diff.change_groups import Changes

        return Changes()

    def count(self, op: str) -> int:
        """Samples of one kind: ``replace``, and ``insert`` and ``delete`` without those that have only moved."""
        return sum(hunk.size for hunk in self.hunks if hunk.op == op and not hunk.moved)

    @property
    def moved(self) -> int:
        """Samples that both sides have, in another place."""
        return self.reordered + sum(hunk.size for hunk in self.hunks if hunk.op == "delete" and hunk.moved)

    @property
    def same_samples(self) -> bool:
        """The samples are equal, whatever their order."""
        return all(hunk.moved and not hunk.arrays for hunk in self.hunks)

    def to_dict(self, reads: Mapping[str, int] | None = None) -> dict[str, Any]:
        """The document of ``castore diff --json``, of what ``json.dumps`` takes: ``docs/reference/diff.md``.

        Args:
            reads: ``objects`` and ``bytes`` that were read from repositories, for the field of that name.
        """
        counted = {} if reads is None else {"reads": dict(reads)}
        return {
            "version": document.DOCUMENT_VERSION,
            "equal": not self,
            "only": self.only,
            "not_compared": list(self.not_compared),
            "same_order": self.same_order,
            **{
                side: {"root": root.hex() or None, "run": None if run is None else run.hex()}
                for side, root, run in zip("ab", self.roots, self.runs, strict=True)
            },
            "arrays": {name: {"equal": equal} for name, equal in self.arrays.items()},
            "samples": {
                "a": self.samples_a,
                "b": self.samples_b,
                "replaced": self.count("replace"),
                "inserted": self.count("insert"),
                "deleted": self.count("delete"),
                "moved": self.moved,
            },
            "reordered": self.reordered,
            "hunks": [document.hunk_document(hunk) for hunk in self.hunks],
            "first": None if self.first is None else document.first_document(self.first),
            "first_change": None if self.first_change is None else document.change_document(self.first_change),
            "recipe": [{"field": field, "a": document.plain(x), "b": document.plain(y)} for field, x, y in self.recipe],
            "causes": [document.plain(cause._asdict()) for cause in self.causes],
            "changes": document.changes_document(self.aligned),
            **counted,
        }


def compare(
    a: Columns, b: Columns, *, context: int = 8, only: str | None = None, changes: bool = True, places: bool = False
) -> Comparison:
    """Compare two datasets, reading only what differs.

    Args:
        a, b: The datasets; their ``fetch`` may be of two repositories.
        context: Tokens shown before and after the first difference.
        only: Name of the one array to compare.
        changes: Align replaced samples, and group what changed in them.
        places: Find the places in an export even if that takes the lengths of very many samples.
    """
    recipe = list(recipe_differences(a, b))
    names, stray = _names(a, b), stray_arrays(a, b)
    pair = None if a.root and a.root == b.root else _pair(a, b)
    roots, runs = (a.root, b.root), (a.run_digest, b.run_digest)
    samples, aside = (a.manifest.samples, b.manifest.samples), left_out(a, b)
    told = names if a.root or b.root else [name for name in names if name != "source"]  # directories do not tell it
    if only is not None and only not in told:
        raise InvalidInputError(f"no array {only} can be compared here: there are {', '.join(told)}")
    if only is not None:
        aside = [*(name for name in (*told, *stray) if name != only), *["order"] * _ordered(a, b), *aside]
    if pair is None or pair.equal():
        arrays: dict[str, bool | None] = {**dict.fromkeys(told, True), **stray}
        return Comparison(
            all(stray.values()),
            arrays if only is None else {only: arrays[only]},
            True,
            *samples,
            recipe=recipe,
            causes=causes_of(a, b, recipe) if recipe else [],
            only=only,
            not_compared=aside,
            roots=roots,
            runs=runs,
        )
    from castore.diff.equal_arrays import equal_arrays
    from castore.diff.first_difference import first_difference
    from castore.diff.hunks import find_hunks

    if a is not b:
        b.stand_beside(a)
    if only is None:
        hunks, reordered = find_hunks(pair, [name for name in names if name not in DERIVED], _renumbered(a, b))
    else:
        hunks, reordered = find_hunks(pair, [only])
    found = equal_arrays(pair, told if only is None else [only], hunks, reordered)
    if only is not None:
        found[only] = found[only] or not (hunks or reordered)
        if found[only]:
            hunks, reordered = [], 0  # samples stand elsewhere, and this array is equal all the same
    change, aligned = None, None
    if hunks and changes:
        from castore.diff.changes import changes_of, first_change

        change, aligned = first_change(a, b, hunks[0]), changes_of(a, b, hunks)
    return Comparison(
        False,
        {**found, **stray} if only is None else found,
        a.manifest.order == b.manifest.order,
        *samples,
        hunks,
        first_difference(a, b, hunks[0], context, places) if hunks else None,
        recipe,
        causes_of(a, b, recipe),
        change,
        aligned,
        reordered,
        only,
        not_compared=[*(name for name, same in found.items() if same is None), *aside],
        roots=roots,
        runs=runs,
    )


def differ(a: Columns, b: Columns, *, only: str | None = None) -> bool:
    """Whether ``compare`` would find a difference; of datasets their roots tell, and nothing is read but manifests.

    Args:
        a, b: The datasets; their ``fetch`` may be of two repositories.
        only: Name of the one array to compare. Trees that were cut in other places may hold equal elements: where its
            roots differ, the elements are compared.
    """
    if only is not None:
        rooted = bool(a.root or b.root) and a.manifest.arrays.get(only) == b.manifest.arrays.get(only)
        return not rooted and bool(compare(a, b, only=only, changes=False))
    if a.root or b.root:
        return a.root != b.root
    pair = _pair(a, b)
    return not (pair is None or pair.equal()) or not all(stray_arrays(a, b).values())


def _renumbered(a: Columns, b: Columns) -> dict[int, int]:
    """Sources by their number in a whose number in b is another one."""
    return renumbered(a.run.sources, b.run.sources) if a.run is not None and b.run is not None else {}


def _ordered(a: Columns, b: Columns) -> bool:
    return a.manifest.order is not None or b.manifest.order is not None


def _pair(a: Columns, b: Columns) -> DatasetPair | None:
    """What to compare; None for directories that are known to be equal."""
    if a.root or b.root:
        from castore.diff.trees import TreePair

        return TreePair(a, b)
    from castore.diff.open_folders import EqualFolder

    if isinstance(a, EqualFolder) and isinstance(b, EqualFolder):
        return None
    from castore.diff.folders import FolderPair
    from castore.olmo.folder_dataset import FolderDataset

    assert isinstance(a, FolderDataset)
    assert isinstance(b, FolderDataset)
    return FolderPair(a, b)


def _names(a: Columns, b: Columns) -> list[str]:
    """Arrays of either side: the first of the manifest first, so that the tokens lead."""
    lead = [name for name in ("token_ids", "labels_mask") if name in a.manifest.arrays or name in b.manifest.arrays]
    rest = {*a.manifest.arrays, *b.manifest.arrays}.difference(lead)
    return [*lead, *sorted(rest)]
