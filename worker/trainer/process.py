"""The trainer: a process beside the worker that makes fine-tune updates, one at a time, and is nice about it.

Niceness belongs to a thread on Linux and can only be raised, so every update has a thread of its own; the main thread
does nothing but listen, and so notices at once that the worker is gone. An update that takes too long that way is
followed by one at the worker's own priority: the floor.
"""

import ctypes
import os
import signal
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from threading import Thread, get_native_id

PR_SET_PDEATHSIG = 1  # Linux: the kernel ends us with the worker, even while we are stopped
NICE = 10
LOADING_S = 20.0  # niced; then it is tried again without
FLOOR_S = 2.0  # an update that took longer is followed by one that is not nice


def main(arguments: list[str]) -> None:
    """`python -m worker.trainer.process CHANNEL WORKER SETUP [now]`, started by a worker, never by hand."""
    channel, worker, setup = arguments[:3]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(worker):
        return
    with suppress(OSError):  # where memory runs out, it is not the worker that must go
        Path("/proc/self/oom_score_adj").write_text("500")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the worker, which then ends us
    if arguments[3:] == ["now"]:
        _load(setup, nice=False)
    else:
        loading = Thread(target=_load, args=(setup, True), name="load", daemon=True)
        loading.start()
        loading.join(LOADING_S)
        if loading.is_alive():
            os.execv(sys.executable, [sys.executable, "-P", "-m", "worker.trainer.process", *arguments, "now"])  # noqa: S606
    serve(socket.socket(fileno=int(channel)), setup)


def _load(setup: str, nice: bool) -> None:
    """Import what an update needs, niced where asked: with torch it takes seconds of CPU, which the loop may need."""
    if nice:
        _be_nice()
    from worker.trainer.messages import decode_setup
    from worker.trainer.work import Trainer

    Trainer(decode_setup(setup))


def _be_nice() -> None:
    """Lower the priority of this thread, not of the process."""
    thread = get_native_id()
    with suppress(OSError):  # not on every system has a thread a priority
        os.setpriority(os.PRIO_PROCESS, thread, min(19, os.getpriority(os.PRIO_PROCESS, thread) + NICE))


def serve(channel: socket.socket, setup: str) -> None:
    """Answer offers until the other end closes."""
    from worker.trainer.messages import LENGTH_BYTES, decode_offer, decode_setup, encode
    from worker.trainer.work import Trainer

    trainer = Trainer(decode_setup(setup))
    starved = False
    channel.sendall(bytes(LENGTH_BYTES))  # an empty frame: ready

    def work(body: bytes, nice: bool) -> None:
        nonlocal starved
        began = time.monotonic()
        try:
            if nice:
                _be_nice()
            channel.sendall(encode(trainer.answer(decode_offer(body))))
        except BaseException:  # noqa: BLE001 - a thread's would be lost, and the loop would wait
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        wall_s = time.monotonic() - began
        starved = wall_s > FLOOR_S and time.thread_time() < wall_s / 2

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
