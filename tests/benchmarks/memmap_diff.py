"""The yardstick for comparing directories: what one writes in a notebook. First differing token, and its document.

    python tests/benchmarks/memmap_diff.py A B [--whole]

Parts are compared a piece at a time up to the first difference; with ``--whole`` as whole arrays at once, as a shorter
script would.
"""

import gzip
import sys
from pathlib import Path

import numpy as np

STEP = 1 << 22


def main() -> None:
    a, b = Path(sys.argv[1]), Path(sys.argv[2])
    whole = "--whole" in sys.argv
    for path in sorted(a.glob("token_ids_part_*.npy")):
        x, y = (np.memmap(folder / path.name, np.uint32, "r") for folder in (a, b))
        count = min(len(x), len(y))
        for at in range(0, count, count if whole else STEP):
            stop = count if whole else min(at + STEP, count)
            unequal = np.flatnonzero(x[at:stop] != y[at:stop])
            if len(unequal):
                token = at + int(unequal[0])
                with gzip.open(path.with_suffix(".csv.gz"), "rt") as file:
                    starts = np.array([int(line.split(",")[0]) for line in file])
                document = int(np.searchsorted(starts, token, side="right")) - 1
                print(f"{path.name}: token {token}, document {document}: {x[token]} and {y[token]}")
                sys.exit(1)
        if len(x) != len(y):
            print(f"{path.name}: {len(x)} and {len(y)} tokens")
            sys.exit(1)
    print("equal tokens")


if __name__ == "__main__":
    main()
