"""A check, a collection and a count of a simulated repository of a million objects: memory and objects a second.

    PYTHONPATH=. python tests/benchmarks/million.py [--objects 1000000]

Chunks hold one token each and are made when they are read, so that the store itself takes little memory.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

from castore.care.fsck import check
from castore.care.gc import Policy, collect
from castore.care.usage import usage
from tests.support.many import ManyObjects


def status(name: str) -> int:
    """A size in KiB that Linux tells of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name + ":"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--objects", type=int, default=1_000_000)
    count = parser.parse_args().objects
    backend = ManyObjects(count * 9 // 10, count // 10)

    def measure(name: str, act: Callable[[], object]) -> None:
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before, began = status("VmRSS"), time.process_time()
        act()
        seconds = time.process_time() - began
        more = (status("VmHWM") - before) / 1024
        print(f"{name:8} {seconds:6.1f} CPU s  {count / seconds:9,.0f} objects/s  {more:6.0f} MiB more", flush=True)

    print(f"the simulated store takes {status('VmRSS') / 1024:.0f} MiB")
    measure("listing", lambda: sum(1 for _ in backend.entries("")))
    measure("gc", lambda: collect(backend, Policy()))
    measure("du", lambda: usage(backend, []))
    measure("fsck", lambda: check(backend))


if __name__ == "__main__":
    main()
