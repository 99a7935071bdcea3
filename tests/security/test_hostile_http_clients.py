"""Clients that are slow, rude or strange: a probe is answered all the same, and nothing of theirs stays or is told."""

import json
import logging
import os
import resource
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from urllib.request import urlopen

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter

from worker.http.pages import Pages
from worker.http.request import answer_to
from worker.http.server import BOUNDS, Bounds, Server
from worker.observe.pulse import Pulse

CLIENTS = 1000
LIMIT_S = 60.0  # of whatever is awaited: a busy machine is no failure
RESET_AT_CLOSE = struct.pack("ii", 1, 0)
PROBE = b"GET /livez HTTP/1.1\r\nHost: worker\r\n\r\n"


def site(bounds: Bounds = BOUNDS, status: Callable[[], dict[str, object]] = dict) -> Server:
    """A server on any free port, with a page of metrics that fills some buffers."""
    registry = CollectorRegistry()
    counted = Counter("counted", "series enough for 300 kB", ["series"], registry=registry)
    for i in range(3000):
        counted.labels(f"{i:060d}")
    return Server("127.0.0.1", 0, Pages(registry, status, Pulse(), 60.0), bounds)


@pytest.fixture
def server() -> Iterator[Server]:
    server = site()
    yield server
    server.close()


def client_of(server: Server) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", server.port), LIMIT_S)
    client.settimeout(LIMIT_S)
    return client


def rest(client: socket.socket) -> bytes:
    """All that comes until the server closes; a connection that was reset has ended too."""
    came = b""
    with suppress(ConnectionError):
        while piece := client.recv(65_536):
            came += piece
    return came


def asked(server: Server, request: bytes) -> bytes:
    """The whole answer to these bytes."""
    with client_of(server) as client:
        client.sendall(request)
        return rest(client)


def probed(server: Server) -> int:
    with urlopen(f"http://127.0.0.1:{server.port}/livez", timeout=LIMIT_S) as answer:
        return int(answer.status)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def until(true: Callable[[], bool]) -> bool:
    """Whether it becomes true within the limit; what the server's own thread does cannot be awaited from here."""
    ends_s = time.monotonic() + LIMIT_S
    while not true() and time.monotonic() < ends_s:
        time.sleep(0.01)
    return true()


def drip(clients: list[socket.socket]) -> None:
    """One more byte from everyone who is still connected."""
    for client in clients:
        with suppress(OSError):
            client.send(b"G")


@pytest.fixture
def _room_for_clients() -> Iterator[None]:
    """Descriptors for both ends of every connection, which are all in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * CLIENTS + 500
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"a process may have {hard} descriptors here, {wanted} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# ---- slow


@pytest.mark.usefixtures("_room_for_clients")
def test_a_thousand_slow_clients_do_not_take_the_probe_away(server: Server) -> None:
    assert probed(server) == 200
    threads, before = threading.active_count(), descriptors()
    with ExitStack() as stack:
        clients = [stack.enter_context(client_of(server)) for _ in range(CLIENTS)]
        for _ in range(3):
            drip(clients)
            assert probed(server) == 200
            assert threading.active_count() == threads
            assert descriptors() - before - CLIENTS <= BOUNDS.connections
    assert until(lambda: descriptors() <= before), "what they held is released"
    assert probed(server) == 200


def test_who_came_first_makes_room_and_the_others_may_go_on() -> None:
    server = site(Bounds(connections=4))
    with ExitStack() as stack:
        stack.callback(server.close)
        clients = [stack.enter_context(client_of(server)) for _ in range(4)]
        for client in clients:
            client.sendall(PROBE[:10])
        assert probed(server) == 200
        assert rest(clients[0]) == b""
        for client in clients[1:]:
            client.sendall(PROBE[10:])
            assert rest(client).startswith(b"HTTP/1.0 200 OK\r\n")


def test_time_is_counted_from_the_first_moment_however_bytes_drop_in() -> None:
    server = site(Bounds(request_s=0.5))
    with ExitStack() as stack:
        stack.callback(server.close)
        client = stack.enter_context(client_of(server))
        client.settimeout(0.05)
        began_s, ended = time.monotonic(), False
        while not ended and time.monotonic() - began_s < LIMIT_S:
            try:
                client.send(b"G")
                ended = client.recv(1) == b""
            except TimeoutError:
                continue
            except ConnectionError:
                ended = True
        assert ended
        assert time.monotonic() - began_s > 0.4, "a client has its time"


def test_who_does_not_read_the_answer_is_left_too() -> None:
    page = {"more": "than any buffer holds" * 2_000_000}
    server = site(Bounds(request_s=0.5), lambda: dict(page))
    with ExitStack() as stack:
        stack.callback(server.close)
        before = descriptors()
        client = stack.enter_context(client_of(server))
        client.sendall(b"GET /api/status HTTP/1.0\r\n\r\n")
        assert client.recv(8) == b"HTTP/1.0", "it is served"
        assert probed(server) == 200, "and others meanwhile"
        assert until(lambda: descriptors() == before + 1), "and then left"
        assert len(rest(client)) < len(page["more"])


def test_where_no_descriptor_is_left_the_oldest_gives_its_own(server: Server) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as stack:
        oldest, probe = stack.enter_context(client_of(server)), stack.enter_context(socket.socket())
        oldest.sendall(PROBE[:10])
        assert probed(server) == 200, "the oldest is accepted by now"
        probe.settimeout(LIMIT_S)
        highest = max(int(path.name) for path in Path("/proc/self/fd").iterdir())
        while (taken := os.dup(probe.fileno())) <= highest:  # no gap is left below
            stack.callback(os.close, taken)
        os.close(taken)
        resource.setrlimit(resource.RLIMIT_NOFILE, (taken, hard))
        try:
            probe.connect(("127.0.0.1", server.port))
            probe.sendall(PROBE)
            assert rest(probe).startswith(b"HTTP/1.0 200 OK\r\n")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert rest(oldest) == b""


# ---- rude


def leave_rudely(server: Server, request: bytes) -> None:
    """Ask and reset the connection at once."""
    client = client_of(server)
    client.sendall(request)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)
    client.close()


STRANGE = {
    "no request": b"\r\n\r\n",
    "binary": bytes(range(256)) * 4 + b"\r\n\r\n",
    "markup": b"<b> <script>alert(1)</script> </b>\r\n\r\n",
    "another protocol": b"GET / HTTP/9.9\r\n\r\n",
    "no protocol": b"GET /livez\r\n\r\n",
    "a lone carriage return": b"GET /metrics HTTP/1.0\r\nAccept: text/plain;version=1.0.0\rX: y\r\n\r\n",
}


@pytest.mark.parametrize("request_bytes", STRANGE.values(), ids=STRANGE)
def test_what_is_no_request_is_refused(server: Server, request_bytes: bytes) -> None:
    assert asked(server, request_bytes).startswith(b"HTTP/1.0 400 Bad Request\r\n")


LONG = {
    "line": b"GET /" + b"a" * 100_000 + b" HTTP/1.0\r\n\r\n",
    "header": b"GET /metrics HTTP/1.0\r\nAccept: " + b"text/plain;q=x," * 7000 + b"\r\n\r\n",
    "headers": b"GET / HTTP/1.0\r\n" + b"X: y\r\n" * 10_000 + b"\r\n",
    "endless": b"a" * 200_000,
}


@pytest.mark.parametrize("request_bytes", LONG.values(), ids=LONG)
def test_what_is_too_long_is_refused_and_the_client_learns_it(server: Server, request_bytes: bytes) -> None:
    answer = asked(server, request_bytes)
    assert answer.startswith(b"HTTP/1.0 431 Request Header Fields Too Large\r\n")
    assert answer.endswith(b"may have 16,384 bytes\n")


ACCEPTS = ("*/*;q=x", "text/plain;q=0.5.5,;;,=", "application/openmetrics-text; version=abc", "text/plain;version=1.x")


def accepting(accept: str) -> bytes:
    return b"GET /metrics HTTP/1.0\r\nAccept: %s\r\n\r\n" % accept.encode()


@pytest.mark.parametrize("accept", ACCEPTS)
def test_metrics_are_text_where_nobody_knows_what_is_accepted(server: Server, accept: str) -> None:
    head, _, text = asked(server, accepting(accept)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 200 OK\r\n")
    assert b"\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n" in head
    assert text.startswith(b"# HELP ")


def test_nothing_that_clients_do_is_logged_above_debug(
    server: Server, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    for _ in range(20):
        leave_rudely(server, b"GET /metrics HTTP/1.0\r\n\r\n")
        leave_rudely(server, PROBE)
        leave_rudely(server, PROBE[:10])
        leave_rudely(server, b"")
    for request in (*STRANGE.values(), *LONG.values(), *map(accepting, ACCEPTS)):
        asked(server, request)
    assert probed(server) == 200
    assert capfd.readouterr() == ("", "")
    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []
    assert "a client left" in caplog.text, "whoever looks for it finds it"


# ---- strange


HEADS = st.one_of(
    st.binary(max_size=200),
    st.builds(
        lambda method, path, accept: f"{method} {path} HTTP/1.1\r\nAccept: {accept}".encode("latin-1"),
        st.sampled_from(["GET", "HEAD", "POST", "get", "OPTIONS"]),
        st.sampled_from(["/", "/metrics", "/livez", "/readyz", "/api/status", "/api/", "//", "*", "http://a/", ""]),
        st.lists(
            st.sampled_from(
                ["application/openmetrics-text", "text/plain", ";version=", "version=", "escaping=", "1.0.0", "2", ".x",
                 "-1", ",", ";", "=", " ", "q=1", "\t", "\xe9", "allow-utf-8", "9" * 5000]
            ),
            max_size=8,
        ).map("".join),
    ),
)  # fmt: skip


@given(HEADS)
@example(b"GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text;version=2.x")
def test_every_head_has_an_answer_of_status_headers_and_body(head: bytes) -> None:
    registry = CollectorRegistry()
    Counter("counted", "one", registry=registry)
    pages = Pages(registry, lambda: {"ready": False, "reason": "starting"}, Pulse(), 60.0)
    first, _, body = answer_to(head, pages)[0].partition(b"\r\n\r\n")
    lines = first.split(b"\r\n")
    assert lines[0].split(b" ")[0] == b"HTTP/1.0"
    assert int(lines[0].split(b" ")[1]) in (200, 400, 404, 405, 503)
    headers = dict(line.split(b": ", 1) for line in lines[1:])
    assert not any(byte < 32 for line in lines for byte in line)
    assert int(headers[b"Content-Length"]) == len(body) or head.startswith(b"HEAD")


def test_a_page_that_cannot_be_made_is_our_fault_and_the_next_one_is_answered(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> dict[str, object]:
        raise RuntimeError("no page")

    server = site(status=broken)
    try:
        answer = asked(server, b"GET /api/status HTTP/1.0\r\n\r\n")
        assert answer.startswith(b"HTTP/1.0 500 Internal Server Error\r\nContent-Type: application/json\r\n")
        assert json.loads(answer.partition(b"\r\n\r\n")[2]) == {"error": "this page cannot be made; the log says why"}
        assert [record.levelname for record in caplog.records] == ["ERROR"]
        assert probed(server) == 200
    finally:
        server.close()
