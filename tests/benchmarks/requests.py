"""Requests that commands send to an object store, by kind: what they cost, and how long they take from far away.

::

    python -m tests.benchmarks.requests OUTPUT [moto | rgw]

OUTPUT is an output directory of open-instruct (or of ``castore export``). It is imported, imported again, exported,
copied, compared and collected, each by a new process as a command is, against a real server.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import obstore

from castore.repository import Repository
from tests.support.servers import BUCKET, STARTERS, parts_folder

_KINDS = ("put", "get", "get_range", "get_ranges", "head", "copy", "list", "delete")


def counted(act: Callable[[], object]) -> tuple[Counter[str], float]:
    """Requests of a call, and its seconds."""
    counts: Counter[str] = Counter()
    real = {name: getattr(obstore, name) for name in _KINDS}

    def counting(name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            counts[name] += 1
            return real[name](*arguments, **options)

        return call

    for name in _KINDS:
        setattr(obstore, name, counting(name))
    begun = time.perf_counter()
    try:
        act()
    finally:
        for name, function in real.items():
            setattr(obstore, name, function)
    return counts, time.perf_counter() - begun


def measure(output: Path, folder: Path) -> None:
    url, other = f"s3://{BUCKET}/requests/one", f"s3://{BUCKET}/requests/two"
    steps: dict[str, Callable[[], object]] = {
        "import": lambda: Repository.open(url, create=True).import_folder(output, name="a"),
        "import again": lambda: Repository.open(url).import_folder(output, name="b"),
        "diff": lambda: Repository.open(url)["a"].diff(Repository.open(url)["b"]),
        "export": lambda: Repository.open(url)["a"].export(folder / "out"),
        "copy": lambda: Repository.open(url).copy("a", Repository.open(other, create=True)),
        "fsck": lambda: Repository.open(url).fsck(),
        "gc": lambda: Repository.open(url).gc(),
    }
    for name, act in steps.items():
        os.environ["CASTORE_CACHE"] = str(folder / f"cache {name}")
        counts, seconds = counted(act)
        print(f"{name:14}", f"{seconds:6.2f} s ", dict(sorted(counts.items())), flush=True)


def main() -> None:
    output, name = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "moto"
    folder = Path(tempfile.mkdtemp())
    try:
        for parts in parts_folder():
            server = STARTERS[name](folder, parts)
            try:
                os.environ.update(server.env)
                measure(output, folder)
            finally:
                server.close()
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
