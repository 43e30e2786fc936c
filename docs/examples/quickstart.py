"""The main job on the data that castore ships: tokenize, change one word, tokenize again, find the change, export.

    python docs/examples/quickstart.py

Runs the real ``castore`` command in a temporary folder and shows each command before its output. Exits 0 only if the
comparison found the planted word and nothing else.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROW, OLD, NEW = 37, "as a compromise between", "as a settlement between"
"""What is planted: the row, counted from 1, and the word of the assistant's turn that changes in it."""


def main() -> int:
    """Exit code of the whole."""
    with tempfile.TemporaryDirectory(prefix="castore-quickstart-") as name:
        folder = Path(name)
        shutil.copytree(HERE, folder / "examples", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
        return story(folder)


def story(folder: Path) -> int:
    """Run the commands one after the other in ``folder``."""
    conversations = folder / "examples" / "conversations.jsonl"
    tokenize = ["tokenize", "--tokenizer", "examples/tokenizer"]

    say("Tokenize 297 conversations.")
    castore(folder, *tokenize, "--mix", "examples/conversations.jsonl", "1.0", "--as", "monday")

    say(f"Somebody changes one word in row {ROW}, and tokenizes again.")
    plant(conversations, folder / "edited.jsonl")
    castore(folder, *tokenize, "--mix", "edited.jsonl", "1.0", "--as", "tuesday")

    say("Did anything change? Exit code 1 says yes, and the output says what.")
    castore(folder, "diff", "monday", "tuesday", expect=1)
    found = json.loads(castore(folder, "diff", "monday", "tuesday", "--json", expect=1, show=False))

    say("Write the files that the trainer reads.")
    castore(folder, "export", "tuesday", "for-training")

    say("Everything that is in the repository:")
    castore(folder, "ls")
    return verdict(found)


def plant(source: Path, copy: Path) -> None:
    """Write ``source`` with one word changed to ``copy``."""
    lines = source.read_text(encoding="utf-8").split("\n")
    assert lines[ROW - 1].count(OLD) == 1, f"row {ROW} does not have the text to change"
    lines[ROW - 1] = lines[ROW - 1].replace(OLD, NEW)
    copy.write_text("\n".join(lines), encoding="utf-8", newline="\n")


def castore(folder: Path, *arguments: str, expect: int = 0, show: bool = True) -> str:
    """Run one command as a shell session would show it; what it wrote to stdout."""
    if show:
        print("$", shlex.join(["castore", *arguments]), flush=True)
    environment = {**os.environ, "CASTORE_REPO": "repository", "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, "-m", "castore_cli.main", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, encoding="utf-8", check=False)
    if show:
        print(done.stdout, end="", flush=True)
    if done.returncode != expect:
        sys.exit(f"exit code {done.returncode}, expected {expect}")
    return done.stdout


def verdict(found: dict[str, Any]) -> int:
    """Whether the comparison found what was planted, and nothing else."""
    first = found["first"]
    one_row = found["samples"] == {"a": 294, "b": 294, "replaced": 1, "inserted": 0, "deleted": 0, "moved": 0}
    the_row = first["origin_a"]["row"] == first["origin_b"]["row"] == ROW - 1
    old, new = ("".join(first[side]).strip() for side in ("context_a", "context_b"))
    the_word = "compromise" in old and "settlement" in new
    if not (one_row and the_row and the_word):
        print(f"\nThe comparison did not find the planted word, or found more: {found}", file=sys.stderr)
        return 1
    print(f"\nThe comparison found the planted word in row {ROW}, and nothing else.")
    return 0


def say(text: str) -> None:
    """One line of the story."""
    print(f"\n# {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
