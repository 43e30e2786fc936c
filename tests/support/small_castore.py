"""``python -m tests.support.small_castore``: the command with small blocks, chunks and nodes, as slow as a test wants.

``CASTORE_TEST_SLEEP`` is the seconds that each batch takes longer; ``CASTORE_TEST_DIE`` lets a worker die at the batch
that holds these bytes; ``CASTORE_TEST_PACK_BYTES`` is the size of packs, in one of which every value is then, or 0
for none; ``CASTORE_TEST_TERMINATE``, as in ``3 /folder``, gives the command SIGTERM when it comes to a file of the
folder for the third time. Everything is set when the module is imported, since worker processes import it too: so no
test may import it.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from functools import partial
from multiprocessing import parent_process

from castore.ingest import job, pool
from castore.ingest.tokenizer import ChatTokenizer, TokenizedRows
from castore.store.packs import PACK_BYTES, PackedBackend
from castore_cli.start import main
from tests.support.jobs import PROCESS_SIZES
from tests.support.layouts import NEVER

_tokenize = ChatTokenizer.tokenize


def _slow(self: ChatTokenizer, rows: Sequence[bytes], *, on_error: str = "stop") -> TokenizedRows:
    time.sleep(float(os.environ.get("CASTORE_TEST_SLEEP", "0")))
    fatal = os.environ.get("CASTORE_TEST_DIE", "").encode()
    if fatal and parent_process() is not None and any(fatal in row for row in rows):
        os._exit(9)
    return _tokenize(self, rows, on_error=on_error)


ChatTokenizer.tokenize = _slow  # type: ignore[method-assign]
pool.WORKERS_BYTES_MIN = 0  # workers however little there is to do
job.tokenize = partial(job.tokenize, sizes=PROCESS_SIZES)
_pack_bytes = os.environ.get("CASTORE_TEST_PACK_BYTES")
if _pack_bytes is not None:
    defaults = PackedBackend.__init__.__kwdefaults__
    defaults.update(pack_bytes=int(_pack_bytes) or PACK_BYTES, loose_max=0 if int(_pack_bytes) else NEVER)

_FILES = {"open", "os.link", "os.mkdir", "os.remove", "os.rename"}
_met = 0


def _terminated(event: str, arguments: tuple[object, ...]) -> None:
    """SIGTERM before a file of the folder is opened, made, named or removed."""
    global _met
    if event in _FILES:
        number, folder = os.environ["CASTORE_TEST_TERMINATE"].split(" ", 1)
        if any(isinstance(name, str) and name.startswith(folder) for name in arguments[:2]):
            _met += 1
            if _met == int(number):
                os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    if "CASTORE_TEST_TERMINATE" in os.environ:
        sys.addaudithook(_terminated)
    main()
