"""How full instances are by best fit alone and with exact filling, and what that costs, on the lengths of datasets.

::

    python -m tests.benchmarks.packing_fill REPOSITORY [NAME ...]
"""

from __future__ import annotations

import sys
import time

import numpy as np

from castore.read.whole import whole_lengths
from castore.repository import Repository
from castore.train.best_fit import best_fit, tight_fit
from castore.train.instances import split_long

SEQUENCE_LENGTHS = (1024, 2048, 4096, 8192, 16384, 32768)


def main() -> None:
    repository = Repository.open(sys.argv[1])
    for name in sys.argv[2:] or list(repository):
        lengths = whole_lengths(repository[name]).astype(np.int64)
        for capacity in SEQUENCE_LENGTHS:
            _, _, counts = split_long(lengths, capacity)
            began = time.process_time()
            best = len(best_fit(counts, capacity).counts)
            between = time.process_time()
            tight = len(tight_fit(counts, capacity).counts)
            ended = time.process_time()
            needed = -(-int(counts.sum()) // capacity)
            print(
                f"{name:<12} {capacity:>6} tokens: {needed} instances hold all; best fit {best} in "
                f"{between - began:.3f} s, with exact filling {tight} in {ended - between:.3f} s"
            )


if __name__ == "__main__":
    main()
