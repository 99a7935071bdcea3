"""The loop's end of the trainer: starts it, talks to it without ever waiting, ends it when it hangs.

A new process, not a fork: the Kafka client's threads hold locks that a fork would copy locked. The channel is a pair
of sockets of which the loop's end does not block; bytes that do not fit into it wait for the next turn.
"""

import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import msgspec

from worker import ONE_THREAD
from worker.observe.log import event as log_event
from worker.trainer.messages import LENGTH_BYTES, Answer, Offer, TrainerSetup, decode_answer, encode

log = logging.getLogger(__name__)

CHANNEL_BYTES = 4 << 20
LARGEST_FRAME = 1 << 30  # a longer one is no frame
START_S = 120.0  # until it says that it is ready: it loads numba or torch, on a machine that may be full
PAUSE_S = 1.0  # between two turns
READS = 4  # of a turn, a megabyte each
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0


class Link(Protocol):
    """A trainer as the loop sees it. `generation` changes whenever it has forgotten all weights."""

    generation: int

    @property
    def idle(self) -> bool:
        """Whether the trainer would take up an offer now."""

    def send(self, offer: Offer) -> None:
        """Offer windows to an idle trainer."""

    def turn(self) -> Answer | None:
        """Continue sending and receiving; return an answer where one has come. Never waits."""

    def close(self) -> None:
        """End the trainer."""


class TrainerLink:
    """A trainer in a process, replaced by another one when it dies or hangs."""

    def __init__(self, setup: TrainerSetup, hang_s: float, restarted: Callable[[str], None]) -> None:
        """`restarted` is called with the reason where a trainer is replaced: `died` or `hung`."""
        self.generation = 0
        self._setup = setup
        self._hang_s, self._restarted = hang_s, restarted
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._out, self._in = bytearray(), bytearray()
        self._dying: list[subprocess.Popen[bytes]] = []
        self._started = self._turned = time.monotonic()
        self._ready = False  # it has said so
        self._asked: tuple[int, float] | None = None  # the offer that is not answered yet: its number, since when
        self._pause_s, self._not_before = FIRST_PAUSE_S, 0.0

    @property
    def pid(self) -> int | None:
        """The process id of the trainer, None while there is none."""
        return None if self._process is None else self._process.pid

    @property
    def idle(self) -> bool:
        """Whether there is a trainer that has nothing to do."""
        return self._ready and self._asked is None

    def send(self, offer: Offer) -> None:
        """Begin to send an offer; `turn` sends the rest."""
        assert self.idle, "one offer at a time"
        self._out += encode(offer)
        self._asked = offer.number, time.monotonic()

    def turn(self) -> Answer | None:
        """Start, write, read and judge the trainer; return an answer where one has come. Never waits."""
        self._dying = [process for process in self._dying if process.poll() is None]
        self._forgive_pauses()
        try:
            if self._channel is None:
                self._start()
                return None
            self._write(self._channel)
            self._read(self._channel)
            answer = self._answer()
        except (OSError, ValueError) as error:
            self._replace("died", str(error))
            return None
        now = time.monotonic()
        if answer is not None:
            self._asked, self._pause_s = None, FIRST_PAUSE_S
        elif self._asked is not None and now - self._asked[1] > self._hang_s:
            self._replace("hung", f"no answer for {self._hang_s:g} s")
        elif not self._ready and now - self._started > START_S:
            self._replace("hung", f"not ready after {START_S:g} s")
        return answer

    def _forgive_pauses(self) -> None:
        """Do not count against the trainer the time in which the loop did not turn."""
        now = time.monotonic()
        pause = now - self._turned
        self._turned = now
        if pause > PAUSE_S:
            self._started += pause
            if self._asked is not None:
                self._asked = self._asked[0], self._asked[1] + pause

    def _start(self) -> None:
        if time.monotonic() < self._not_before:
            return
        ours, theirs = socket.socketpair()
        with theirs:
            self._channel = ours
            for end in (ours, theirs):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, CHANNEL_BYTES)
            ours.setblocking(False)
            setup = msgspec.json.encode(self._setup)
            paths = [str(Path(__file__).resolve().parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "worker.trainer.process", str(theirs.fileno()), str(os.getpid()), setup],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                env={**os.environ, **ONE_THREAD, "PYTHONPATH": os.pathsep.join(paths)},
            )
        self._started = time.monotonic()
        self.generation += 1
        log_event("trainer", process=self._process.pid)

    def _write(self, channel: socket.socket) -> None:
        while self._out:
            try:
                sent = channel.send(self._out)
            except BlockingIOError:
                return
            del self._out[:sent]

    def _read(self, channel: socket.socket) -> None:
        for _ in range(READS):
            try:
                data = channel.recv(1 << 20)
            except BlockingIOError:
                return
            if not data:
                raise ConnectionError("it has closed the channel")
            self._in += data

    def _answer(self) -> Answer | None:
        if len(self._in) < LENGTH_BYTES:
            return None
        end = LENGTH_BYTES + int.from_bytes(self._in[:LENGTH_BYTES], "big")
        if end > LARGEST_FRAME:
            raise ValueError("what it says is no frame")
        if len(self._in) < end:
            return None
        self._ready = True  # an empty frame says only this
        body = bytes(self._in[LENGTH_BYTES:end])
        del self._in[:end]
        if not body:
            return None
        answer = decode_answer(body)
        if self._asked is None or answer.number != self._asked[0]:
            raise ValueError("it answers what was not asked")
        return answer

    def _replace(self, why: str, detail: str) -> None:
        log.warning("the trainer %s (%s): another one is started", why, detail)
        self._restarted(why)
        self._end()
        self._not_before = time.monotonic() + self._pause_s
        self._pause_s = min(LONGEST_PAUSE_S, 2 * self._pause_s)

    def _end(self) -> None:
        """Kill the trainer: it holds nothing that is not logged or in an answer."""
        if self._channel is not None:
            self._channel.close()
        if self._process is not None:
            self._process.kill()
            self._dying.append(self._process)
        self._process = self._channel = self._asked = None
        self._out, self._in, self._ready = bytearray(), bytearray(), False

    def close(self) -> None:
        """Kill the trainer and wait for its end."""
        self._end()
        for process in self._dying:
            with suppress(subprocess.TimeoutExpired):  # it hangs in the kernel: it will go when it can
                process.wait(1.0)
