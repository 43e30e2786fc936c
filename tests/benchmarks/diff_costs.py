"""What comparing costs beside a script of checksums and one of memory maps, on the seven variants of ``outputs.py``.

    python tests/benchmarks/diff_costs.py REAL_OUTPUT FOLDER [--tokens 205000000]

205,000,000 tokens are 1 GB a directory. For each variant against the first, as imported datasets and as directories:
CPU seconds with start-up (the least of three), the line that was said, and what it costs to hash both directories with
sha256 and to find the first differing token with numpy (``memmap_diff.py``). Said lines and exit codes are checked.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

GENERATOR = Path(__file__).with_name("outputs.py")
MEMMAP = Path(__file__).with_name("memmap_diff.py")
CHECKSUMS = (
    "import hashlib, pathlib, sys\n"
    "for folder in sys.argv[1:]:\n"
    "    for path in sorted(pathlib.Path(folder).iterdir()):\n"
    "        with path.open('rb') as file: print(path.name, hashlib.file_digest(file, 'sha256').hexdigest())\n"
)
SAID = {
    "1": "equal: ",
    "2": "different: 1 replaced of ",
    "3": "different: 1 replaced of ",
    "4": "different: 500 replaced of ",
    "5": "different: 1 deleted of ",
    "6": "another order of the same ",
    "7": "equal: ",
}
TIMES = 3


def run(command: list[str]) -> tuple[float, int, str]:
    """CPU seconds of a command, its exit code and its output."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in (0, 1):
        sys.exit(f"{' '.join(command)}: {done.stderr}")
    cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return cpu, done.returncode, done.stdout


def least(command: list[str]) -> tuple[float, int, str]:
    """The same, the least of several runs."""
    return min(run(command) for _ in range(TIMES))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("real", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tokens", type=int, default=205_000_000)
    parser.add_argument("--only", default="1234567", help="variants to compare with the first")
    arguments = parser.parse_args()
    data, repository = arguments.folder / "data", arguments.folder / "castore"
    castore = [str(Path(sys.executable).with_name("castore")), "--repo", str(repository)]
    sizes = os.environ.get("CASTORE_TOKENS", str(arguments.tokens))

    def generate(variant: str) -> Path:
        folder = data / f"v{variant}"
        if not folder.exists():
            run([sys.executable, str(GENERATOR), str(arguments.real), str(data), "--tokens", sizes, "--only", variant])
        return folder

    first = generate("1")
    run([*castore, "import", str(first), "--as", "v1", "-q"])
    for variant in arguments.only:
        folder = generate(variant)
        name = f"v{variant}"
        run([*castore, "import", str(folder), "--as", name, "-q"])
        for way, a, b in (("datasets", "v1", name), ("directories", str(first), str(folder))):
            cpu, status, text = least([*castore, "diff", a, b])
            said = text.splitlines()[0]
            print(f"{name} {way:12} {cpu:6.2f} CPU s  {said[:100]}", flush=True)
            if not said.startswith(SAID[variant]) or status != (variant not in "17"):
                sys.exit(f"said {said!r} with exit code {status}")
        checksums = least([sys.executable, "-c", CHECKSUMS, str(first), str(folder)])[0]
        whole, pieces = (
            least([sys.executable, str(MEMMAP), str(first), str(folder), *o])[0] for o in (["--whole"], [])
        )
        print(f"{'':2} {'sha256':12} {checksums:6.2f} CPU s; memmap {whole:.2f}, in pieces {pieces:.2f}", flush=True)
        if variant != "1":
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
