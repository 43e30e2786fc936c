"""``moto_server.py PORT``: moto's S3, one request at a time.

moto looks at the condition of a conditional write and stores in two steps, and its server has threads: two writers of a
race win now and then, as no store that it stands for lets them. A lock around its application makes one step of them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from threading import Lock
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import run_simple


def main(port: int) -> None:
    os.environ["MOTO_PORT"] = str(port)
    answering = Lock()
    moto = DomainDispatcherApplication(create_backend_app)

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        with answering:
            return list(moto(environ, start_response))

    run_simple("127.0.0.1", port, application, threaded=True, request_handler=MotoRequestHandler)


if __name__ == "__main__":
    main(int(sys.argv[1]))
