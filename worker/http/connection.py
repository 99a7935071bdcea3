"""One client from accept to close: its requests come in pieces, answers leave in pieces, and nothing waits."""

from selectors import EVENT_READ, EVENT_WRITE
from socket import SHUT_WR, socket

from worker.http.pages import Pages
from worker.http.request import END, answer_to, too_large

PIECE_BYTES = 16_384
# Of what comes after the head so much is read and thrown away: closing with bytes unread would reset the connection,
# and the client would lose the answer
UNREAD_BYTES = 262_144


class Connection:
    """A client's socket, and how far its request has come."""

    def __init__(self, client: socket, pages: Pages, head_bytes: int, ends_at_s: float) -> None:
        """Take over the socket; `ends_at_s`, of the monotonic clock, is kept for whoever closes what is late."""
        client.setblocking(False)
        self.client, self.ends_at_s = client, ends_at_s
        self.awaited = 0  # the selector's event that this connection is registered for
        self._pages, self._head_bytes = pages, head_bytes
        self._head = bytearray()
        self._unsent: memoryview | None = None  # None: the request is not whole yet
        self._stays = False  # for another request, once this answer is sent
        self._unread_bytes = UNREAD_BYTES

    @property
    def idle(self) -> bool:
        """Whether it has had an answer and has not begun to ask again."""
        return self._stays and self._unsent is None and not self._head

    def go_on(self) -> int:
        """Read and write without waiting. Return the event to wait for, 0 at the end. Raises OSError where it left."""
        try:
            return self._go_on()
        except BlockingIOError:
            return EVENT_WRITE if self._unsent else EVENT_READ

    def _go_on(self) -> int:
        while self._unsent is None:
            piece = self.client.recv(PIECE_BYTES)
            if not piece:
                return 0  # it left before it had asked
            self._take(piece)
        while self._unsent:
            self._unsent = self._unsent[self.client.send(self._unsent) :]
            if not self._unsent and not self._stays:
                self.client.shutdown(SHUT_WR)
        if self._stays:
            self._unsent = None
            return EVENT_READ  # the next request is not looked for here: each call lets the loop's thread in between
        while self._unread_bytes > 0 and (piece := self.client.recv(PIECE_BYTES)):
            self._unread_bytes -= len(piece)
        return 0

    def _take(self, piece: bytes) -> None:
        """Take a piece of the request; where that makes it whole, or too long, there is an answer to send."""
        looked_at = max(0, len(self._head) - 3)  # the end may begin in the piece before
        self._head += piece
        end = END.search(self._head, looked_at)
        self._stays = False
        if (end.start() if end else len(self._head)) > self._head_bytes:
            self._unsent = memoryview(too_large(self._head_bytes))
        elif end:
            alone = end.end() == len(self._head)
            answer, self._stays = answer_to(bytes(self._head[: end.start()]), self._pages, alone)
            self._unsent = memoryview(answer)
            self._head.clear()
