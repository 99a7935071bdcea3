"""A TCP proxy between workers and a broker that knows Kafka's frames: it cuts, delays, or swallows what passes."""

import asyncio
import random
from collections import Counter
from collections.abc import Coroutine
from contextlib import suppress
from enum import Enum
from threading import Thread
from typing import Any, TypeVar

LIMIT_S = 30.0
PIECE = 1 << 18  # bytes

T = TypeVar("T")


class Key(Enum):
    """The kinds of request at which a worker may be cut off, by the protocol's numbers."""

    PRODUCE = 0
    FETCH = 1
    OFFSET_FETCH = 9
    JOIN_GROUP = 11
    HEARTBEAT = 12
    INIT_PRODUCER_ID = 22
    ADD_PARTITIONS = 24
    ADD_OFFSETS = 25
    END_TXN = 26
    TXN_OFFSET_COMMIT = 28


class Cut(Enum):
    """What becomes of a request that is cut."""

    BEFORE = "the connection is closed in its place"
    AFTER = "it arrives, and the connection is closed before the answer"
    UNHEARD = "it arrives, no answer ever does, and the connection stays open"
    LOST = "it never arrives, and the connection stays open"


class Proxy:
    """Listens on a port of this machine and passes on to another; a thread of its own does the work."""

    def __init__(self, port: int, target: int, seed: int = 0) -> None:
        self.hits: Counter[tuple[Key, Cut]] = Counter()
        self.delay_s = 0.0  # of everything that passes
        self.hole = False  # nothing passes, connections stay
        self._rng = random.Random(seed)
        self._target = target
        self._at: dict[int, tuple[Key, Cut, float]] = {}  # by the request's number: with which probability
        self._pairs: set[_Pair] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._server = self._do(asyncio.start_server(self._accept, "127.0.0.1", port, backlog=256))

    def cut_all(self) -> None:
        """Close every connection there is."""
        self._do(self._close(lambda pair: True))

    def cut_at(self, key: Key, cut: Cut, probability: float) -> None:
        """From now on, cut so many of the requests of this kind."""
        self._at = {**self._at, key.value: (key, cut, probability)}

    def heal(self) -> None:
        """Let everything pass again. Connections on which an answer was swallowed are closed: they are out of step."""
        self._at, self.delay_s, self.hole = {}, 0.0, False
        self._do(self._close(lambda pair: pair.muted))

    def close(self) -> None:
        """End all connections and the thread."""
        self._loop.call_soon_threadsafe(self._server.close)
        self.cut_all()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(LIMIT_S)
        self._loop.close()

    def __enter__(self) -> "Proxy":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(LIMIT_S)

    async def _close(self, which: Any) -> None:
        pairs = [pair for pair in self._pairs if which(pair)]
        for pair in pairs:
            pair.close()
        await asyncio.gather(*(pair.ended.wait() for pair in pairs))

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            answers, requests = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        pair = _Pair(writer, requests)
        self._pairs.add(pair)
        both = [asyncio.create_task(self._up(reader, pair)), asyncio.create_task(self._down(answers, pair))]
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        pair.close()
        await asyncio.wait(both)
        self._pairs.discard(pair)
        pair.ended.set()

    async def _up(self, reader: asyncio.StreamReader, pair: "_Pair") -> None:
        """Requests, a frame at a time: four bytes of length, then two of the kind."""
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readexactly(6)
                body = await reader.readexactly(int.from_bytes(head[:4], "big") - 2)
                cut = self._cut(int.from_bytes(head[4:], "big"))
                if cut in (Cut.UNHEARD, Cut.AFTER):
                    pair.muted = True
                if cut not in (Cut.BEFORE, Cut.LOST):
                    await self._pass(head + body, pair.requests, pair)
                if cut is Cut.LOST:
                    pair.muted = True
                if cut is Cut.AFTER:
                    await asyncio.sleep(self._rng.uniform(0, 0.05))  # so that it is often done by then
                if cut in (Cut.BEFORE, Cut.AFTER):
                    return

    async def _down(self, answers: asyncio.StreamReader, pair: "_Pair") -> None:
        with suppress(OSError):
            while data := await answers.read(PIECE):
                if not pair.muted:
                    await self._pass(data, pair.client, pair)

    def _cut(self, number: int) -> Cut | None:
        key, cut, probability = self._at.get(number, (None, None, 0.0))
        if key is None or cut is None or self._rng.random() >= probability:
            return None
        self.hits[key, cut] += 1
        return cut

    async def _pass(self, data: bytes, to: asyncio.StreamWriter, pair: "_Pair") -> None:
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        while self.hole and not pair.closed:
            await asyncio.sleep(0.1)
        to.write(data)
        await to.drain()


class _Pair:
    """A client's connection and the one to the broker that belongs to it."""

    def __init__(self, client: asyncio.StreamWriter, requests: asyncio.StreamWriter) -> None:
        self.client, self.requests = client, requests
        self.muted = self.closed = False
        self.ended = asyncio.Event()

    def close(self) -> None:
        self.closed = True
        for writer in (self.client, self.requests):
            writer.transport.abort()
