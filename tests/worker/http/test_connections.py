"""Connections that stay: the page asks again on the same one, and whoever has had an answer makes room for others."""

import socket
from collections.abc import Iterator
from contextlib import closing

import pytest
from prometheus_client import CollectorRegistry

from worker.http.pages import Pages
from worker.http.server import BOUNDS, Bounds, Server
from worker.observe.pulse import Pulse

LIMIT_S = 60.0
AGAIN = b"GET /api/status HTTP/1.1\r\nHost: worker\r\n\r\n"
BODY = b'{"ready": true}'
PAGE = {"ready": True}


def site(bounds: Bounds = BOUNDS) -> Server:
    return Server("127.0.0.1", 0, Pages(CollectorRegistry(), lambda: PAGE, Pulse(), 30.0), bounds)


@pytest.fixture
def server() -> Iterator[Server]:
    with closing(site()) as server:
        yield server


class Clock:
    """The server's time, which goes on when it is told to."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of servers that are made afterwards, which give a client 5 s."""
    clock = Clock()
    monkeypatch.setattr("worker.http.server.time", clock)
    return clock


def client_of(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), LIMIT_S)


def ask(client: socket.socket, request: bytes = AGAIN) -> bytes:
    """The head of an answer whose body is the status; the connection is left as it is."""
    client.sendall(request)
    came = b""
    while not came.endswith(BODY):
        piece = client.recv(65_536)
        assert piece, f"it ended after {came!r}"
        came += piece
    return came


def ended(client: socket.socket) -> bool:
    """Whether the server closes the connection without another byte."""
    return client.recv(1) == b""


def test_a_client_asks_again_on_the_same_connection(server: Server) -> None:
    with closing(client_of(server)) as client:
        for _ in range(3):
            assert b"\r\nConnection: keep-alive\r\n" in ask(client)
        client.sendall(AGAIN[:10])
        assert b"\r\nConnection: keep-alive\r\n" in ask(client, AGAIN[10:])


OTHERS = {
    "an older protocol": AGAIN.replace(b"1.1", b"1.0"),
    "a wish to leave": AGAIN.replace(b"Host", b"connection: Close\r\nHost"),
    "a body": AGAIN.replace(b"Host", b"Content-Length: 3\r\nHost") + b"abc",
    "a body of pieces": AGAIN.replace(b"Host", b"transfer-encoding: chunked\r\nHost") + b"0\r\n\r\n",
    "another page": AGAIN.replace(b"/api/status", b"/"),
}


@pytest.mark.parametrize("request_bytes", OTHERS.values(), ids=OTHERS)
def test_others_get_one_answer_and_the_end(server: Server, request_bytes: bytes) -> None:
    with closing(client_of(server)) as client:
        client.sendall(request_bytes)
        came = b"".join(iter(lambda: client.recv(65_536), b""))
        assert came.count(b"HTTP/1.0 200 OK\r\n") == 1
        assert b"\r\nConnection: close\r\n" in came


def test_what_follows_a_request_unasked_is_no_request_and_ends_the_connection() -> None:
    with closing(site(Bounds(request_s=2 * LIMIT_S))) as server, closing(client_of(server)) as client:
        answer = ask(client, AGAIN + b"GET /metrics HTTP/1.1\r\n\r\n")
        assert answer.count(b"HTTP/1.0") == 1
        assert b"\r\nConnection: close\r\n" in answer
        assert ended(client)


def settled(server: Server) -> None:
    """Whatever was sent before has been taken in, and who is late has been left."""
    with closing(client_of(server)) as other:
        for _ in range(2):  # the second answer comes after the turn that gave the first
            ask(other)


def later(server: Server, clock: Clock, seconds: float) -> None:
    """Let time pass between what was asked before and what comes now."""
    settled(server)
    clock.now_s += seconds
    settled(server)


def test_who_does_not_ask_again_is_left(clock: Clock, server: Server) -> None:
    with closing(client_of(server)) as client:
        for _ in range(3):  # together longer than one may take
            ask(client)
            later(server, clock, 4.9)
        ask(client)
        later(server, clock, 5.1)
        assert ended(client)


def test_who_drips_its_next_request_is_left_as_any_other(clock: Clock, server: Server) -> None:
    with closing(client_of(server)) as client:
        ask(client)
        later(server, clock, 4)
        for place in range(3):  # from the first on it has as long as anybody
            client.sendall(AGAIN[place : place + 1])
            later(server, clock, 2.4 if place < 2 else 0.4)
        assert ended(client)


def test_who_had_an_answer_makes_room_before_who_waits_for_one() -> None:
    with closing(site(Bounds(connections=4))) as server, closing(client_of(server)) as waits:
        waits.sendall(AGAIN[:10])
        had = [client_of(server) for _ in range(3)]
        for client in had:
            ask(client)
        ask(had[0])  # the last to have had one
        others = [client_of(server) for _ in range(2)]
        for client in others:
            ask(client)
        assert [ended(client) for client in had[1:]] == [True, True]
        assert b"200 OK" in ask(waits, AGAIN[10:])
        assert b"200 OK" in ask(had[0])
        for client in (*had, *others):
            client.close()
