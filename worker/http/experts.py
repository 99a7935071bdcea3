"""What experts said of streams that somebody looks at: asked by the HTTP thread, answered by the loop between cycles.

Rows are the loop's own, and what they say holds between cycles alone. Nobody waits for an answer: it is there when the
stream is asked for again.
"""

import time

from pipeline.explanation import Opinions, opinions
from worker.loop import Loop

EVERY_S = 1.0
ASKED_FOR_S = 10.0  # so long a stream is looked at after it was asked for
MOST = 32  # streams looked at

Stream = tuple[int, str]  # partition, name


class Experts:
    """Opinions of the streams that were asked for lately; both dicts are replaced as a whole by whoever writes them."""

    def __init__(self) -> None:
        self._asked: dict[Stream, float] = {}  # when, of the monotonic clock; the HTTP thread's
        self._said: dict[Stream, Opinions | None] = {}  # the loop's
        self._next = 0.0

    def ask(self, partition: int, name: str) -> Opinions | None:
        """Return what the experts said of a stream lately, None before the loop has looked; it will."""
        now, stream = time.monotonic(), (partition, name)
        asked = {other: at for other, at in self._asked.items() if now - at < ASKED_FOR_S and other != stream}
        self._asked = dict([*asked.items()][-MOST + 1 :]) | {stream: now}
        return self._said.get(stream)

    def after_cycle(self, loop: Loop) -> None:
        """Look at the streams that are asked for, each about once a second."""
        now = time.monotonic()
        asked = [stream for stream, at in self._asked.items() if now - at < ASKED_FOR_S]
        if now >= self._next or not {*asked} <= self._said.keys():
            self._next = now + EVERY_S
            self._said = {stream: _opinions(loop, *stream) for stream in asked}


def _opinions(loop: Loop, partition: int, name: str) -> Opinions | None:
    live = loop.lives.get(partition)
    if live is None or not live.at_c or name not in live.shard.table.index:
        return None
    shard = live.shard
    return opinions(shard.table.rows[shard.table.index[name]], shard.method)
