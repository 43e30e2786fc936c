"""A stub of Google Cloud Storage's XML interface: one bucket in memory, with preconditions on generations.

It is no emulator and proves nothing about Google's servers: it shows that castore's requests carry the condition that
Google documents (``x-goog-if-generation-match: 0``), and what castore makes of the documented answers. No emulator that
can be installed from a package index knows preconditions.
"""

from __future__ import annotations

import hashlib
import re
import threading
from datetime import UTC, datetime
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

_PAGE_MAX = 1000


class _Value:
    def __init__(self, data: bytes, generation: int) -> None:
        self.data, self.generation = data, generation
        self.modified = datetime.now(UTC)
        self.e_tag = f'"{hashlib.md5(data).hexdigest()}"'

    def headers(self) -> dict[str, str]:
        return {
            "ETag": self.e_tag,
            "Last-Modified": format_datetime(self.modified, usegmt=True),
            "x-goog-generation": str(self.generation),
        }


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        self.values: dict[str, _Value] = {}
        self.generation = 0
        self.lock = threading.Lock()
        self.sent: list[tuple[str, int]] = []
        self.gives_parts = True
        super().__init__(("127.0.0.1", 0), _Handler)

    def store(self, name: str, data: bytes) -> _Value:
        self.generation += 1
        self.values[name] = value = _Value(data, self.generation)
        return value


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        name = self._name()
        source = self.headers.get("x-goog-copy-source")
        wanted = self.headers.get("x-goog-if-generation-match")
        with self.server.lock:
            found = self.server.values.get(name)
            if wanted is not None and int(wanted) != (found.generation if found else 0):
                return self._answer(412, _error("PreconditionFailed"))
            if source is not None:
                copied = self.server.values.get(unquote(source).partition("/")[2])
                if copied is None:
                    return self._answer(404, _error("NoSuchKey"))
                data = copied.data
            value = self.server.store(name, data)
        return self._answer(200, b"", value.headers())

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.query:
            return self._list(parse_qs(url.query))
        value = self.server.values.get(self._name())
        if value is None:
            return self._answer(404, _error("NoSuchKey"))
        wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range") or "")
        if wanted is None or not self.server.gives_parts:
            return self._answer(200, value.data, value.headers())
        size = len(value.data)
        first, last = wanted.groups()
        begin = int(first) if first else max(0, size - int(last))
        if begin >= size:
            return self._answer(416, _error("InvalidRange"), {"Content-Range": f"bytes */{size}"})
        end = min(int(last) + 1, size) if first and last else size
        told = {"Content-Range": f"bytes {begin}-{end - 1}/{size}"}
        return self._answer(206, value.data[begin:end], value.headers() | told)

    do_HEAD = do_GET  # noqa: N815

    def do_DELETE(self) -> None:
        with self.server.lock:
            gone = self.server.values.pop(self._name(), None)
        return self._answer(404 if gone is None else 204, _error("NoSuchKey") if gone is None else b"")

    def _list(self, query: dict[str, list[str]]) -> None:
        prefix = query.get("prefix", [""])[0]
        after = query.get("continuation-token", [""])[0]
        with self.server.lock:
            names = sorted(name for name in self.server.values if name.startswith(prefix) and name > after)
            page = [(name, self.server.values[name]) for name in names[:_PAGE_MAX]]
        contents = "".join(
            f"<Contents><Key>{escape(name)}</Key><Size>{len(value.data)}</Size><ETag>{escape(value.e_tag)}</ETag>"
            f"<LastModified>{value.modified.isoformat().replace('+00:00', 'Z')}</LastModified></Contents>"
            for name, value in page
        )
        more = f"<NextContinuationToken>{escape(page[-1][0])}</NextContinuationToken>" if len(names) > _PAGE_MAX else ""
        self._answer(200, f"<ListBucketResult>{contents}{more}</ListBucketResult>".encode())

    def _name(self) -> str:
        return unquote(urlsplit(self.path).path).lstrip("/").partition("/")[2]

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        if self.command == "HEAD" or status == 204:
            body = b""
        self.server.sent.append((self.command, len(body)))  # before the client can ask again
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Quiet."""


def _error(code: str) -> bytes:
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>stub</Message></Error>".encode()


class GcsStub:
    """The stub, listening on 127.0.0.1 until ``close``; any bucket name means the one bucket.

    Attributes:
        sent: The method of each request that was answered, and how many bytes were sent.
    """

    def __init__(self) -> None:
        self._server = _Server()
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def sent(self) -> list[tuple[str, int]]:
        return self._server.sent

    def give_no_parts(self) -> None:
        """Send whole values from now on, whatever is asked for."""
        self._server.gives_parts = False

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
