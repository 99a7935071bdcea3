"""What a trainer that has gone wrong may send: frames, as the loop's end of the channel reads them.

A clean refusal is that the link replaces the trainer. A find is any exception, an answer to what was not asked, or an
offer whose windows are taken and have another shape.
"""

import socket
from collections.abc import Iterator
from contextlib import suppress

from pipeline.learning.fine_tune import Schedule
from pipeline.method import Method
from pipeline.network.model import Shape
from tests.security.fuzz import promise
from worker.trainer.link import TrainerLink
from worker.trainer.messages import LENGTH_BYTES, Answer, Offer, TrainerSetup, decode_offer, encode, windows_of

SETUP = TrainerSetup(Shape.of(Method(horizons=(1,), hidden_size=2, window=4)), Schedule(), 4)
OFFER = Offer(3, 0, 1, 0, 9, None, 1, b"", b"", b"", b"")
READY = bytes(LENGTH_BYTES)


def one(data: bytes) -> None:
    """Send the bytes to a link that waits for an answer, after the trainer has said that it is ready."""
    with suppress(ValueError):
        offer = decode_offer(data[LENGTH_BYTES:])
        windows = windows_of(offer, SETUP)
        promise(windows.inputs.shape[:2] == (SETUP.window, offer.windows), "as many windows as are named")
    restarts: list[str] = []
    link = TrainerLink(SETUP, 60.0, restarts.append)
    ours, theirs = socket.socketpair()
    with theirs:
        ours.setblocking(False)
        link._channel = ours
        theirs.sendall(READY)
        link.turn()
        link.send(OFFER)
        theirs.sendall(data)
        for _ in range(3):
            if link._channel is None:  # it would start another trainer
                break
            answer = link.turn()
            promise(answer is None or answer.number == OFFER.number, "an answer is to what was asked")
        promise((link._channel is None) == (restarts == ["died"]), "a trainer that is given up is counted")
    link.close()


def seeds() -> Iterator[bytes]:
    """Yield answers, offers and frames that are none."""
    yield encode(Answer(3, 0, 1, 0, 9, "updated", b"state", 1.5, False, 0.1))
    yield encode(Answer(4, 0, 1, 0, 9, "nonfinite", b"", float("nan"), True, 0.0))
    arrays = (bytes(4 * n) for n in (4 * SETUP.shape.inputs, 4, 2, 2))
    yield encode(Offer(3, 0, 1, 0, 9, None, 1, *arrays))
    yield READY + encode(Answer(3, 0, 1, 0, 9, "updated", b"", 0.0, False, 0.0))[:20]
    yield b"\xff" * LENGTH_BYTES
