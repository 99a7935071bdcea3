"""A registry of a test's own: answers as it is told, and remembers what it was asked."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

Answer = tuple[int, Any]  # status, and what is written as JSON; bytes as they are
UNKNOWN: Answer = 404, {"error_code": 40403, "message": "Schema not found"}


class FakeRegistry:
    """`answers` by path; other paths are unknown schemas."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {"/schemas/types": (200, ["AVRO"])}
        self.asked: list[tuple[str, str | None]] = []  # path and log-in
        self.url = ""


@contextmanager
def fake_registry() -> Iterator[FakeRegistry]:
    registry = FakeRegistry()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            registry.asked.append((self.path, self.headers["Authorization"]))
            status, body = registry.answers.get(self.path, UNKNOWN)
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            if status == 302:
                self.send_header("Location", f"{registry.url}/elsewhere")
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    registry.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield registry
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
