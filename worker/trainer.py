"""The trainer: a process beside the worker that makes fine-tune updates, one at a time, and is nice about it.

It keeps weights and optimiser of each shard between updates. Niceness belongs to a thread on Linux and can only be
raised, so every update has a thread of its own; the main thread does nothing but listen, and so notices at once that
the worker is gone. An update that took too long is followed by one at the worker's own priority: the floor.
"""

import ctypes
import os
import signal
import socket
import sys
import time
from threading import Thread, get_native_id

import msgspec
import torch

from pipeline.adoption import Adoption
from pipeline.fine_tune import fine_tune
from worker.exchange import LENGTH_BYTES, Answer, Brief, Offer, decode_offer, encode, windows_of

PR_SET_PDEATHSIG = 1  # Linux: the kernel ends us with the worker, even while we are stopped


class Trainer:
    """The shards' weights and the way to make the next ones."""

    def __init__(self, brief: Brief) -> None:
        self._brief = brief
        self._held: dict[int, tuple[int, int, Adoption]] = {}  # by partition: incarnation, parent, newest weights

    def answer(self, offer: Offer) -> Answer:
        """One update."""
        began = time.thread_time()
        incarnation, parent, before = self._held.get(offer.partition, (-1, -1, None))
        if offer.state is not None:
            before = Adoption.load(offer.state)
        elif (incarnation, parent) != (offer.incarnation, offer.parent):
            before = None
        if before is None:
            raise AssertionError(f"partition {offer.partition} was offered without the weights to begin with")
        windows = windows_of(offer, self._brief)
        weights, optimiser, report = fine_tune(
            self._brief.shape, before.weights, before.optimiser, windows, self._brief.schedule
        )
        after = Adoption(weights, optimiser, offer.trained_through)
        self._held[offer.partition] = offer.incarnation, offer.parent, after
        return Answer(
            offer.number,
            offer.partition,
            offer.incarnation,
            offer.parent,
            offer.trained_through,
            report.outcome,
            after.dump() if report.outcome == "updated" else b"",
            report.gradient_norm,
            report.clipped,
            time.thread_time() - began,
        )


def serve(channel: socket.socket, brief: Brief) -> None:
    """Answer offers until the other end closes."""
    trainer = Trainer(brief)
    starved = False

    def work(body: bytes, nice: bool) -> None:
        nonlocal starved
        began = time.monotonic()
        try:
            if nice:
                os.setpriority(os.PRIO_PROCESS, get_native_id(), brief.nice)
            channel.sendall(encode(trainer.answer(decode_offer(body))))
        except BaseException:  # noqa: BLE001 - a thread's would be lost, and the loop would wait
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        starved = time.monotonic() - began > brief.floor_s

    while True:
        length = int.from_bytes(_read(channel, LENGTH_BYTES), "big")
        Thread(target=work, args=(_read(channel, length), not starved), name="update", daemon=True).start()


def _read(channel: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        more = channel.recv(size - len(data))
        if not more:  # the worker is gone, or wants us gone
            os._exit(0)
        data += more
    return bytes(data)


def main(arguments: list[str]) -> None:
    """`python -m worker.trainer FD BRIEF`, started by a worker, never by hand."""
    brief = msgspec.json.decode(arguments[1], type=Brief)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != brief.parent_process:
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the worker, which then ends us
    torch.set_num_threads(1)
    serve(socket.socket(fileno=int(arguments[0])), brief)


if __name__ == "__main__":
    main(sys.argv[1:])
