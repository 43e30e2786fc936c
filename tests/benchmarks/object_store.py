"""What castore's backend costs beside obstore itself: puts and gets of 256 KiB in 16 threads, to a real server.

::

    python -m tests.benchmarks.object_store [rgw | moto]

Prints seconds, processor seconds of the client, and ratios; raw and castore take turns, and the best of three counts.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import obstore
from obstore.store import S3Store

from castore.store.urls import open_backend
from tests.support.servers import BUCKET, KEY, SECRET, STARTERS, parts_folder

COUNT, SIZE, ROUNDS = 300, 256 * 1024, 3


def timed(act: Callable[[], object]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    act()
    return time.perf_counter() - wall, time.process_time() - cpu


def measure(endpoint: str) -> None:
    values = [os.urandom(SIZE) for _ in range(COUNT)]
    options = {"allow_http": True, "pool_max_idle_per_host": "32"}
    keys = {"access_key_id": KEY, "secret_access_key": SECRET, "region": "us-east-1"}
    raw = S3Store(BUCKET, endpoint=endpoint, client_options=options, **keys)  # type: ignore[arg-type]
    backend = open_backend(f"s3://{BUCKET}/castore")

    def castore_puts() -> None:
        for i, value in enumerate(values):
            backend.put(f"o/{i}", value)
        backend.flush()

    def castore_gets() -> None:
        assert sum(len(data or b"") for _, data in backend.get_many((f"o/{i}" for i in range(COUNT)), SIZE)) > 0

    with ThreadPoolExecutor(16) as pool:
        work = {
            "put": (lambda: [*pool.map(lambda i: obstore.put(raw, f"raw/{i}", values[i]), range(COUNT))], castore_puts),
            "get": (lambda: [*pool.map(lambda i: obstore.get(raw, f"raw/{i}").bytes(), range(COUNT))], castore_gets),
        }
        for name, (bare, ours) in work.items():
            pairs = [(timed(bare), timed(ours)) for _ in range(ROUNDS)]
            (a, a_cpu), (b, b_cpu) = (min(pair[side] for pair in pairs) for side in (0, 1))
            print(
                f"{name}: obstore {a:.2f} s (cpu {a_cpu:.2f}), castore {b:.2f} s (cpu {b_cpu:.2f}), ratio {b / a:.2f}"
            )


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else "rgw"
    for parts in parts_folder():
        with tempfile.TemporaryDirectory() as folder:
            server = STARTERS[name](Path(folder), parts)
            try:
                os.environ.update(server.env)
                measure(server.endpoint)
            finally:
                server.close()


if __name__ == "__main__":
    main()
