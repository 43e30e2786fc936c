"""``castore diff A --expect FILE``: a dataset against a lock file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from castore_cli.context import State
from castore_cli.formatting import number, plural
from castore_cli.lock import read_lock

if TYPE_CHECKING:
    from castore.diff.compare import Comparison
    from castore.diff.lock import Lock
    from castore.read.columns import Columns


@dataclass(frozen=True, slots=True)
class Expected:
    """A lock file and what it is compared with.

    Attributes:
        path: The lock file as the user spelled it.
        lock: What it says.
        data: The locked dataset: the very one that was found if their roots are equal, None where no repository at
            hand holds it.
        found: The dataset that is looked at.
    """

    path: str
    lock: Lock
    data: Columns | None
    found: Columns

    @classmethod
    def open(cls, state: State, path: str, address: str) -> Expected:
        """Read a lock file and find both datasets."""
        lock = read_lock(path)
        data, found = state.beside_lock(address, lock)
        return cls(path, lock, found if found.root == lock.root else data, found)

    @property
    def name(self) -> str:
        """What the locked side is called."""
        return f"{self.path} ({self.lock.name})"

    def by_roots(self, only: str | None = None) -> Comparison:
        """All that the lock file alone can tell: no samples, but arrays, order, counts and causes."""
        from castore.diff.compare import Comparison
        from castore.diff.left_out import all_beside

        lock, found = self.lock, self.found
        arrays = lock.same_arrays(found)
        aside = [name for name, same in arrays.items() if same is None]
        if only is not None:
            aside = [name for name in arrays if name != only]
            arrays = {only: arrays[only]}
        return Comparison(
            found.root == lock.root,
            arrays,
            lock.same_order(found),
            lock.samples,
            found.manifest.samples,
            recipe=lock.causes(found),
            only=only,
            not_compared=[*aside, *all_beside(found)],
            roots=(lock.root, found.root),
            runs=(None, found.run_digest),
        )

    def with_causes(self, result: Comparison) -> Comparison:
        """A comparison of the datasets, with the causes that the lock file knows if the repository knew none."""
        if self.data is self.found and self.found.companions is not None:  # a directory that has the locked root
            from castore.diff.left_out import all_beside

            arrays = {name: same for name, same in result.arrays.items() if name not in self.found.companions.arrays}
            told = [name for name in result.not_compared if name in arrays or name == "order"]
            result = replace(result, arrays=arrays, not_compared=[*told, *all_beside(self.found)])
        return result if result.recipe else replace(result, recipe=self.lock.causes(self.found))

    def headline(self, result: Comparison, said: str) -> str:
        """One line: ``said`` where both sides could be read, else what the lock file can tell."""
        if not result:
            return f"as expected by {self.path}: {said}"
        if self.data is not None:
            return f"not as expected by {self.path}: {said}"
        lock, manifest = self.lock, self.found.manifest
        counts = f"{plural(manifest.samples, 'sample')}, {number(manifest.tokens)} tokens"
        if (manifest.samples, manifest.tokens) != (lock.samples, lock.tokens):
            counts += f" where {number(lock.samples)} and {number(lock.tokens)} were expected"
        differ = [name for name, same in result.arrays.items() if same is False]
        equal = [name for name, same in result.arrays.items() if same]
        unknown = [name for name, same in result.arrays.items() if same is None]
        parts = [counts]
        if differ:
            parts += [f"different: {', '.join(differ)}", *([f"equal: {', '.join(equal)}"] if equal else [])]
        elif not unknown:
            parts.append("the same arrays, stored otherwise" if result.same_order else "the same samples")
        if unknown:
            parts.append(f"cannot be told without the locked samples: {', '.join(unknown)}")
        if not result.same_order:
            parts.append("another order")
        return f"not as expected by {self.path}: {'; '.join(parts)}"

    def document(self, document: dict[str, Any]) -> dict[str, Any]:
        """The document of ``--json`` with what was expected; docs/reference/diff.md describes it."""
        lock = self.lock
        held = self.data is not None
        document["expected"] = {"file": self.path, "name": lock.name, "root": lock.root.hex(), "held": held}
        if not held:
            counts = {"a": lock.samples, "b": self.found.manifest.samples}
            document["samples"] = {**counts, "replaced": None, "inserted": None, "deleted": None, "moved": None}
            document["hunks"] = None
        return document

    def missing(self) -> str:
        """Why no sample is shown."""
        root = self.lock.root.hex()[:12]
        return f"no repository at hand holds the expected root {root}: its samples cannot be compared"
