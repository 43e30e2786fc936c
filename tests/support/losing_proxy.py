"""A proxy between a client and a server that loses answers: the request arrives, the answer does not."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from urllib.parse import urlsplit

_PIECE = 65536


class LosingProxy:
    """Listens on 127.0.0.1 and passes everything on to a server.

    Args:
        endpoint: URL of the server.
        loses: Told the first line of each request; True if its answer shall be lost.

    Attributes:
        lost: First lines of the requests whose answers were lost.
    """

    def __init__(self, endpoint: str, loses: Callable[[bytes], bool]) -> None:
        address = urlsplit(endpoint)
        assert address.hostname is not None
        assert address.port is not None
        self._server = (address.hostname, address.port)
        self._loses = loses
        self.lost: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
                losing = threading.Event()
                for source, sink, upward in ((client, server, True), (server, client, False)):
                    threading.Thread(target=self._pass, args=(source, sink, upward, losing), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, upward: bool, losing: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_PIECE):
                if upward and data[:4] in (b"PUT ", b"GET ", b"HEAD", b"POST") and self._loses(data.split(b"\r\n")[0]):
                    self.lost.append(data.split(b"\r\n")[0])
                    losing.set()
                if not upward and losing.is_set():
                    break
                sink.sendall(data)
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
                each.close()
