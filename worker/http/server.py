"""Listens for clients and answers them within bounds, all on one thread: slow ones cannot take what a probe needs."""

import errno
import logging
import time
from selectors import EVENT_READ, DefaultSelector
from socket import create_server, socketpair
from threading import Thread
from typing import NamedTuple

from worker.http.connection import Connection
from worker.http.pages import Pages
from worker.refusal import Refusal

log = logging.getLogger(__name__)

PAUSE_S = 0.1


class Bounds(NamedTuple):
    """What clients may take, all together and one by one."""

    connections: int = 64  # one more closes the oldest: a client that asks at once is answered before its turn comes
    request_s: float = 5.0  # from accept to the end of the answer, however the bytes drop in; idle, to the next
    head_bytes: int = 16_384  # request line and headers
    backlog: int = 128  # of the kernel, for clients not yet accepted


BOUNDS = Bounds()


class Server:
    """Listens from the constructor on; answers on a thread of its own."""

    def __init__(self, host: str, port: int, pages: Pages, bounds: Bounds = BOUNDS) -> None:
        """Listen on a port, any free one for 0. Raises Refusal where the port cannot be had."""
        self._pages, self._bounds = pages, bounds
        try:
            host.encode("idna")  # where no name can be so, create_server would leave its socket open
            self._listener = create_server((host, port), backlog=bounds.backlog)
        except (OSError, UnicodeError) as error:
            raise Refusal(f"http.port {port} on {host} cannot be had ({error}): set another, or 0 for any") from error
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._waking, self._woken = socketpair()
        self._selector = DefaultSelector()
        self._selector.register(self._listener, EVENT_READ)
        self._selector.register(self._woken, EVENT_READ)
        # The oldest first, which is the first to be late too; those that had an answer make room before all others
        self._open: dict[Connection, None] = {}
        self._idle: dict[Connection, None] = {}
        self._closing = False
        self._thread = Thread(target=self._serve, name="http", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening, close what is open, and wait for the thread's end."""
        if self._closing:
            return
        self._closing = True
        self._waking.send(b"\0")
        self._thread.join()
        for connection in [*self._idle, *self._open]:
            self._end(connection)
        for ours in (self._selector, self._listener, self._waking, self._woken):
            ours.close()

    def _serve(self) -> None:
        while not self._closing:
            # Those that are open go first, so that each is looked at before newer ones can close it
            ready = [key for key, _ in self._selector.select(self._patience_s())]
            for key in ready:
                if key.data is not None:
                    self._go_on(key.data)
            if any(key.fileobj is self._listener for key in ready):
                self._accept()
            self._end_late()

    def _patience_s(self) -> float | None:
        """Return seconds until the oldest connection is late, None where there is none."""
        oldest = [next(iter(some)).ends_at_s for some in (self._idle, self._open) if some]
        return max(0.0, min(oldest) - time.monotonic()) if oldest else None

    def _accept(self) -> None:
        """Accept who waits, but fewer than may be open: a connection lives through one more look at what it sent."""
        for accepted in range(self._bounds.connections // 2):
            try:
                client, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if accepted == 0:  # else perhaps nobody waits: the kernel looks for a descriptor before a client
                    self._not_accepted(error)
                return
            while len(self._idle) + len(self._open) >= self._bounds.connections:
                self._end(self._next_to_leave())
            ends_at_s = time.monotonic() + self._bounds.request_s
            connection = Connection(client, self._pages, self._bounds.head_bytes, ends_at_s)
            self._open[connection] = None
            self._go_on(connection)

    def _not_accepted(self, error: OSError) -> None:
        """Give the oldest connection's descriptor to the next client where the process has no other one left."""
        log.debug("a client could not be accepted: %s", error)
        if error.errno not in (errno.EMFILE, errno.ENFILE):
            return
        if self._idle or self._open:
            self._end(self._next_to_leave())
        else:
            time.sleep(PAUSE_S)  # the client still waits, so the selector would not

    def _next_to_leave(self) -> Connection:
        return next(iter(self._idle or self._open))

    def _go_on(self, connection: Connection) -> None:
        try:
            awaited = connection.go_on()
        except OSError as error:
            log.debug("a client left: %s", error)
            awaited = 0
        if awaited == 0:
            self._end(connection)
            return
        if connection.idle or connection in self._idle:  # it had its answer, or asks again: its time begins anew
            connection.ends_at_s = time.monotonic() + self._bounds.request_s
            self._leave(connection)
            (self._idle if connection.idle else self._open)[connection] = None
        if connection.awaited == 0:
            self._selector.register(connection.client, awaited, connection)
        elif connection.awaited != awaited:
            self._selector.modify(connection.client, awaited, connection)
        connection.awaited = awaited

    def _end(self, connection: Connection) -> None:
        if connection.awaited:
            self._selector.unregister(connection.client)
        connection.client.close()
        self._leave(connection)

    def _leave(self, connection: Connection) -> None:
        self._idle.pop(connection, None)
        self._open.pop(connection, None)

    def _end_late(self) -> None:
        now_s = time.monotonic()
        for connection in [late for late in [*self._idle, *self._open] if late.ends_at_s <= now_s]:
            log.debug("a client took longer than %s s", self._bounds.request_s)
            self._end(connection)
