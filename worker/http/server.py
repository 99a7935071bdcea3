"""Metrics, health and status over HTTP. Reads the loop's last page; never waits for the loop."""

import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from worker.observe.pulse import Pulse
from worker.refusal import Refusal

TEXT = "text/plain; charset=utf-8"
Answer = tuple[int, str, bytes]  # status, content type, body


class Pages:
    """The answers to requests: `status` returns the loop's page, `pulse` knows when the loop last turned."""

    def __init__(
        self,
        registry: CollectorRegistry,
        status: Callable[[], dict[str, object]],
        pulse: Pulse,
        stalled_after_s: float,
    ) -> None:
        self._registry, self._status, self._pulse, self._stalled_after_s = registry, status, pulse, stalled_after_s

    def answer(self, path: str, accept: str) -> Answer:
        """Return the answer to a GET of `path` by a client that accepts `accept`."""
        match path.split("?")[0]:
            case "/metrics":
                encode, content_type = choose_encoder(accept)
                return 200, content_type, encode(self._registry)
            case "/livez":
                age_s = self._pulse.age_s
                alive = age_s < self._stalled_after_s
                return (200 if alive else 503), TEXT, f"the loop turned {age_s:.1f} s ago\n".encode()
            case "/readyz":
                page = self._status()
                return (200, TEXT, b"ready\n") if page["ready"] else (503, TEXT, f"{page['reason']}\n".encode())
            case "/api/status":
                return 200, "application/json", json.dumps(self._status()).encode()
            case "/":
                return 200, TEXT, (json.dumps(self._status(), indent=2) + "\n").encode()
            case _:
                return 404, TEXT, b"there are /, /metrics, /livez, /readyz and /api/status\n"


class Server:
    """Listens from the constructor on; answers on threads of its own."""

    def __init__(self, host: str, port: int, pages: Pages) -> None:
        """Listen on a port, any free one for 0. Raises Refusal where the port cannot be had."""

        class Get(BaseHTTPRequestHandler):
            timeout = 10

            def do_GET(self) -> None:
                code, content_type, body = pages.answer(self.path, self.headers.get("Accept", ""))
                self.send_response(code)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Log nothing: probes come every second."""

        try:
            self._server = ThreadingHTTPServer((host, port), Get)
        except OSError as error:
            raise Refusal(f"http.port {port} on {host} cannot be had ({error}): set another, or 0 for any") from error
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening and wait for the thread's end."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
