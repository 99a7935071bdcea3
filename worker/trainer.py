"""The trainer: a process beside the worker that makes fine-tune updates, one at a time, and is nice about it.

Niceness belongs to a thread on Linux and can only be raised, so every update has a thread of its own; the main thread
does nothing but listen, and so notices at once that the worker is gone. An update that took too long is followed by
one at the worker's own priority: the floor.
"""

import ctypes
import os
import signal
import socket
import sys
import time
from threading import Thread, get_native_id
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker.exchange import Brief

PR_SET_PDEATHSIG = 1  # Linux: the kernel ends us with the worker, even while we are stopped


def main(arguments: list[str]) -> None:
    """`python -m worker.trainer CHANNEL WORKER BRIEF`, started by a worker, never by hand."""
    channel, worker, brief = arguments
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(worker):
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the worker, which then ends us
    from worker.exchange import decode_brief  # torch takes seconds: only now that we are sure to end

    serve(socket.socket(fileno=int(channel)), decode_brief(brief))


def serve(channel: socket.socket, brief: "Brief") -> None:
    """Answer offers until the other end closes."""
    import torch

    from worker.exchange import LENGTH_BYTES, decode_offer, encode
    from worker.updates import Trainer

    torch.set_num_threads(1)
    trainer = Trainer(brief)
    starved, own = False, os.getpriority(os.PRIO_PROCESS, 0)
    channel.sendall(bytes(LENGTH_BYTES))  # an empty frame: ready

    def work(body: bytes, nice: bool) -> None:
        nonlocal starved
        began = time.monotonic()
        try:
            if nice:
                os.setpriority(os.PRIO_PROCESS, get_native_id(), min(19, own + brief.nice))
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


if __name__ == "__main__":
    main(sys.argv[1:])
