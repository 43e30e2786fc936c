"""Users' goldens that differ in some rows: what they take, what a copy of the last sends, what a check costs.

    python tests/benchmarks/goldens.py REAL_OUTPUT FOLDER [--tokens 214000000]
    python tests/benchmarks/goldens.py REAL_OUTPUT FOLDER --users 10 --rows 170 [--pattern grown] [--at-once]

With 214 M tokens each golden is 1 GiB of arrays. About four times that is needed on disk. The first has all documents
as they are, every other differs from it by a pattern:

========  ==============================================================================================
edited    a third of its rows has one token changed, a third grew by three tokens, a third is gone
grown     its rows grew by 100 tokens
removed   its rows are gone
shuffled  all rows in another order, and none differs
like      the same, imported with ``--like`` the first
========  ==============================================================================================

Rows that differ lie next to each other, as those of one source do, or are scattered. Printed are ratios to the first:
of bytes, and of blocks of the disk. With ``--at-once`` nobody sees what the others store: each imports for himself, and
all that they stored is put into one folder before the collection.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from outputs import MEAN_TOKENS, generate, shuffled, write
from variants import MIB, cpu_of, size_of

DIFFERING = (0, 1, 3, 10, 30, 100, 200, 300, 400, 500)

Golden = tuple[np.ndarray, np.ndarray, np.ndarray]


def edited(golden: Golden, chosen: np.ndarray, pattern: str) -> Golden:
    """The same documents but for those chosen, ascending."""
    ids, labels, lengths = golden
    edges = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    none = chosen[:0]
    changed, grown, gone = {
        "edited": (chosen[0::3], chosen[1::3], chosen[2::3]),
        "grown": (none, chosen, none),
        "removed": (none, none, chosen),
    }[pattern]
    more = 100 if pattern == "grown" else 3
    ids = ids.copy()
    ids[edges[changed]] = (ids[edges[changed]] + 1) % 50_000
    keep = np.ones(len(ids), np.bool_)
    for row in gone.tolist():
        keep[edges[row] : edges[row + 1]] = False
    at = np.repeat(edges[grown + 1] if pattern == "grown" else edges[grown], more)
    keep = np.insert(keep, at, True)
    new = lengths.copy()
    new[grown] += more
    added = np.random.default_rng(len(chosen)).integers(0, 50_000, len(at)) if pattern == "grown" else 7
    return np.insert(ids, at, added)[keep], np.insert(labels, at, 0)[keep], np.delete(new, gone)


def golden_of(base: Golden, number: int, rows: int, arguments: argparse.Namespace) -> Golden:
    """What a user has."""
    if arguments.pattern in ("shuffled", "like"):
        return shuffled(*base, 42 + number)
    if not number and arguments.users:
        return base
    rng = np.random.default_rng(number)
    count = len(base[2])
    first = int(rng.integers(0, count - rows))
    everywhere = np.sort(rng.choice(count, rows, replace=False))
    return edited(base, everywhere if arguments.scattered else np.arange(first, first + rows), arguments.pattern)


def blocks_of(folder: Path) -> int:
    """Bytes of the disk that files take."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def store_all(castore: str, data: Path, team: Path, base: Golden, arguments: argparse.Namespace) -> None:
    """What some users take together; ratios to what the first takes by itself."""

    def importing(number: int, repository: Path) -> list[str]:
        like = ["--like", "golden/user-0"] if arguments.pattern == "like" and number else []
        name = f"golden/user-{number}"
        return [castore, "--repo", str(repository), "import", str(data / str(number)), "--as", name, "-q", *like]

    alone = team.with_name("alone")
    write(data / "0", *golden_of(base, 0, arguments.rows, arguments))
    cpu_of(importing(0, alone))
    bytes_one, blocks_one = size_of(alone), blocks_of(alone)
    users = range(arguments.users)
    total_s = 0.0
    for number in users:
        if number:
            write(data / str(number), *golden_of(base, number, arguments.rows, arguments))
        place = team.with_name(f"team-{number}") if arguments.at_once else team
        total_s += cpu_of(importing(number, place))[0].total
        shutil.rmtree(data / str(number))
        if arguments.at_once:
            shutil.copytree(place, team, dirs_exist_ok=True)
            shutil.rmtree(place)

    def tell(what: str) -> None:
        size, blocks = size_of(team), blocks_of(team)
        print(
            f"{what:28} {arguments.users} users {size / MIB:8.2f} MiB = {size / bytes_one:.3f} of one, "
            f"blocks {blocks / MIB:8.2f} MiB = {blocks / blocks_one:.3f}",
            flush=True,
        )

    tell(f"{arguments.pattern}, {arguments.rows} of {len(base[2])} rows")
    print(f"{'imports':28} {total_s:.2f} CPU s")
    for _ in range(2):
        options = ["--grace", "0s", "--keep-log", "0s", "--keep-records", "0s", "--force", "--json"]
        cpu, _ = cpu_of([castore, "--repo", str(team), "gc", *options])
        tell(f"gc, {cpu.total:.2f} CPU s")
    cpu, output = cpu_of([castore, "--repo", str(team), "fsck", "--json", "-q"])
    print(f"fsck {cpu:6.2f}, clean {json.loads(output)['clean']}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("real", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tokens", type=int, default=214_000_000)
    parser.add_argument("--scattered", action="store_true", help="rows everywhere, not next to each other")
    parser.add_argument("--users", type=int, default=0, help="so many, who all differ in --rows rows")
    parser.add_argument("--rows", type=int, default=170)
    parser.add_argument("--pattern", choices=("edited", "grown", "removed", "shuffled", "like"), default="edited")
    parser.add_argument("--at-once", action="store_true", help="no user sees what another stores")
    parser.add_argument("--document-tokens", type=int, default=MEAN_TOKENS)
    arguments = parser.parse_args()
    data, team, remote = (arguments.folder / name for name in ("data", "team", "remote"))
    castore = str(Path(sys.executable).with_name("castore"))
    base = generate(arguments.real, arguments.tokens, 1, mean_tokens=arguments.document_tokens)
    if arguments.users:
        store_all(castore, data, team, base, arguments)
        return
    one = content = 0
    for number, rows in enumerate(DIFFERING):
        write(data, *golden_of(base, number, rows, arguments))
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
