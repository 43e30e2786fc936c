"""Ten users' goldens that differ in 0 to 500 rows: what they take, what a copy of the tenth sends, what a check costs.

    python tests/benchmarks/goldens.py REAL_OUTPUT FOLDER [--tokens 214000000]

With 214 M tokens each golden is 1 GiB of arrays. About four times that is needed on disk. The rows that
differ lie next to each other, as those of one source do, or are scattered; a third of them has one token changed, a
third grew by three tokens, a third is gone.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from outputs import generate, write
from variants import MIB, cpu_of, size_of

DIFFERING = (0, 1, 3, 10, 30, 100, 200, 300, 400, 500)


def edited(
    ids: np.ndarray, labels: np.ndarray, lengths: np.ndarray, rows: int, seed: int, scattered: bool
) -> tuple[np.ndarray, ...]:
    """The same documents but for some rows, of one source or everywhere."""
    rng = np.random.default_rng(seed)
    first = int(rng.integers(0, len(lengths) - rows))
    everywhere = np.sort(rng.choice(len(lengths), rows, replace=False))
    chosen = everywhere if scattered else np.arange(first, first + rows)
    edges = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    changed, grown, gone = chosen[0::3], chosen[1::3], chosen[2::3]
    ids = ids.copy()
    ids[edges[changed]] = (ids[edges[changed]] + 1) % 50_000
    keep = np.ones(len(ids), np.bool_)
    for row in gone.tolist():
        keep[edges[row] : edges[row + 1]] = False
    at = np.repeat(edges[grown], 3)
    keep = np.insert(keep, at, True)
    new = lengths.copy()
    new[grown] += 3
    return np.insert(ids, at, 7)[keep], np.insert(labels, at, 0)[keep], np.delete(new, gone)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("real", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tokens", type=int, default=214_000_000)
    parser.add_argument("--scattered", action="store_true", help="rows everywhere, not next to each other")
    arguments = parser.parse_args()
    data, team, remote = (arguments.folder / name for name in ("data", "team", "remote"))
    castore = str(Path(sys.executable).with_name("castore"))
    base = generate(arguments.real, arguments.tokens, 1)
    one = content = 0
    for number, rows in enumerate(DIFFERING):
        write(data, *edited(*base, rows, number, arguments.scattered))
        content += size_of(data)
        name = f"golden/user-{number}"
        cpu, _ = cpu_of([castore, "--repo", str(team), "import", str(data), "--as", name, "--json", "-q"])
        shutil.rmtree(data)
        stored = size_of(team)
        one = one or stored
        cpu_copy, output = cpu_of([castore, "--repo", str(team), "copy", name, str(remote), "--create", "--json", "-q"])
        sent = json.loads(output)["sent"]
        skipped = json.loads(output)["skipped"]
        print(
            f"{name}  {rows:3} rows differ  import {cpu:5.2f}  "
            f"stored {stored / MIB:7.1f} MiB = {stored / one:.3f}  "
            f"copy {cpu_copy:5.2f}, {sent['bytes'] / MIB:7.2f} MiB = {100 * sent['bytes'] / one:.2f} %, "
            f"asked for {skipped['objects']}",
            flush=True,
        )
    for options in ([], ["--sample", "1%"]):
        cpu, output = cpu_of([castore, "--repo", str(team), "fsck", "--json", "-q", *options])
        done = json.loads(output)
        print(
            f"fsck {' '.join(options):12} {cpu:6.2f} for {done['objects']['read']} objects, "
            f"{done['bytes']['read'] / MIB:.0f} MiB stored, {done['bytes']['content'] / MIB:.0f} MiB unpacked, "
            f"{content / MIB:.0f} MiB in ten outputs: {cpu.total / (done['bytes']['content'] / 1e9):.2f} s "
            f"per GB unpacked, clean {done['clean']}"
        )
    for verb in ("gc", "du"):
        options = ["--dry-run"] if verb == "gc" else []
        cpu, _ = cpu_of([castore, "--repo", str(team), verb, "--json", *options])
        print(f"{verb:17} {cpu:6.2f}")


if __name__ == "__main__":
    main()
