"""``python -m tests.support.as_nobody``: the command as a user who owns nothing, started by root.

Everything is imported, and every command run once, before the rights are given up: the interpreter itself may lie where
nobody else can read.
"""

from __future__ import annotations

import io
import os
import sys
import tempfile
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path

from castore_cli.main import main
from tests.support.jobs import TOKENIZER, example_rows, write_rows

NOBODY = 65534


def warm_up() -> None:
    arguments = sys.argv
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        path = write_rows(Path(folder) / "rows.jsonl", example_rows()[:5])
        mix = ["--mix", str(path), "1.0", "--tokenizer", str(TOKENIZER), "--workers", "1", "-q"]
        for command in (["tokenize", *mix, "--as", "x"], ["export", "x", f"{folder}/out"], ["ls"], ["rm", "x"], ["ls"]):
            sys.argv = ["castore", "--repo", f"{folder}/repo", *command]
            with suppress(SystemExit):
                main()
    sys.argv = arguments


if __name__ == "__main__":
    warm_up()
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    main()
