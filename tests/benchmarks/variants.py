"""First import, the same again, and the seven variants of ``outputs.py``: CPU seconds, MiB added, and what diff says.

    python tests/benchmarks/variants.py REAL_OUTPUT FOLDER [--tokens 285000000] [--last-only]

Every variant is generated, imported and deleted in turn, so about five times the size of the data is needed on disk.
borg and hf-xet (``pip install hf-xet``, into a folder) are measured beside castore if they are installed; ``cp`` and
sha256 of the same files are the yardsticks.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

GENERATOR = Path(__file__).with_name("outputs.py")
MIB = 1 << 20
XET_UPLOAD = """
import sys, hf_xet
hf_xet.upload_files(sys.argv[2:], "local://" + sys.argv[1], None, None, None, None, skip_sha256=True)
"""


class Cpu(NamedTuple):
    """CPU seconds, which print as their sum and the user's part: what the kernel takes varies much more."""

    user: float
    system: float

    @property
    def total(self) -> float:
        return self.user + self.system

    def __format__(self, spec: str) -> str:
        return f"{self.total:{spec}} CPU s ({self.user:.2f} user)"


def cpu_of(command: list[str], **environment: str) -> tuple[Cpu, str]:
    """CPU seconds of a command and its children, and its output."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in (0, 1):
        sys.exit(f"{' '.join(command)}: {done.stderr}")
    return Cpu(after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime), done.stdout


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("real", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tokens", type=int, default=285_000_000)
    parser.add_argument("--last-only", action="store_true", help="train on the last real document of each alone")
    arguments = parser.parse_args()
    labels = ["--last-only"] if arguments.last_only else []
    data, repository, borg, xet = (arguments.folder / name for name in ("data", "castore", "borg", "xet"))
    has_xet = importlib.util.find_spec("hf_xet") is not None
    castore = [str(Path(sys.executable).with_name("castore")), "--repo", str(repository)]
    quiet = {"BORG_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes", "BORG_BASE_DIR": str(arguments.folder)}

    def generate(variant: str) -> Path:
        generator = [sys.executable, str(GENERATOR), str(arguments.real), str(data)]
        cpu_of([*generator, "--tokens", str(arguments.tokens), "--only", variant, *labels])
        return data / f"v{variant}"

    def measure(name: str, folder: Path, *options: str) -> None:
        cpu, output = cpu_of([*castore, "import", str(folder), "--as", name, "--json", "-q", *options])
        added = json.loads(output)["stored"]["bytes"]
        print(f"{name:16} {cpu:7.2f}  {added / MIB:8.3f} MiB added", flush=True)
        if shutil.which("borg") and not options:
            before = size_of(borg)
            cpu, _ = cpu_of(["borg", "create", "-C", "zstd,3", f"{borg}::{name}", str(folder)], **quiet)
            print(f"{'  borg':16} {cpu:7.2f}  {(size_of(borg) - before) / MIB:8.3f} MiB added", flush=True)
        if has_xet and not options:
            before = size_of(xet)
            paths = [str(path) for path in sorted(folder.rglob("*")) if path.is_file()]
            upload = [sys.executable, "-c", XET_UPLOAD, str(xet.absolute()), *paths]
            cpu, _ = cpu_of(upload, HF_XET_CACHE=str(arguments.folder / "xet-cache"))
            print(f"{'  hf-xet':16} {cpu:7.2f}  {(size_of(xet) - before) / MIB:8.3f} MiB added", flush=True)

    if shutil.which("borg"):
        borg.mkdir(parents=True)
        cpu_of(["borg", "init", "-e", "none", str(borg)], **quiet)
    xet.mkdir(parents=True)
    first = generate("1")
    total = size_of(first)
    print(f"{'v1':16} {total / MIB:8.1f} MiB")
    print(f"{'cp -r':16} {cpu_of(['cp', '-r', str(first), str(data / 'copy')])[0]:7.2f}")
    shutil.rmtree(data / "copy")
    files = [str(path) for path in sorted(first.iterdir())]
    print(f"{'sha256sum':16} {cpu_of(['sha256sum', *files])[0]:7.2f}")
    measure("v1", first)
    print(f"{'stored':16} {100 * size_of(repository) / total:7.1f} %")
    measure("again", first)
    print(f"{'export':16} {cpu_of([*castore, 'export', 'v1', str(data / 'out'), '-q'])[0]:7.2f}")
    shutil.rmtree(data / "out")
    for variant in "23457":
        folder = generate(variant)
        measure(f"v{variant}", folder)
        cpu, output = cpu_of([*castore, "diff", "v1", f"v{variant}", "--stat"])
        print(f"{'  diff':16} {cpu:7.2f}  {output.splitlines()[0]}", flush=True)
        shutil.rmtree(folder)
    other = generate("6")
    measure("v6-like", other, "--like", "v1")
    measure("v1-unshuffled", first, "--shuffle-seed", "42")
    measure("v6-unshuffled", other, "--shuffle-seed", "43")
    print(f"{'  diff':16} {cpu_of([*castore, 'diff', 'v1-unshuffled', 'v6-unshuffled', '--stat'])[1].splitlines()[0]}")


if __name__ == "__main__":
    main()
