"""Messages between loop and trainer: offers of windows, answers with weights, as length-prefixed msgpack.

Both carry the incarnation of the shard's life, the offset trained through and the parent, the adoption that the
weights descend from: an answer that does not fit any more is thrown away.
"""

import msgspec
import numpy as np

from pipeline.learning.fine_tune import Schedule
from pipeline.learning.windows import Windows
from pipeline.network.model import Shape

LENGTH_BYTES = 8


class TrainerSetup(msgspec.Struct, frozen=True):
    """The constants of a trainer's life, passed on its command line as JSON."""

    shape: Shape
    schedule: Schedule
    window: int  # T


class Offer(msgspec.Struct, frozen=True):
    """The loop's request for one update: a sample of windows, and the weights to begin with."""

    number: int
    partition: int
    incarnation: int
    parent: int
    trained_through: int  # the windows know nothing at or above this offset
    state: bytes | None  # an adoption to begin with; None: go on from what the last answer held
    windows: int  # B
    inputs: bytes
    labels: bytes
    hidden: bytes
    since: bytes


class Answer(msgspec.Struct, frozen=True):
    """The trainer's reply to an offer: the outcome, and the weights where there are new ones."""

    number: int
    partition: int
    incarnation: int
    parent: int
    trained_through: int
    outcome: str
    state: bytes  # an adoption; empty unless the outcome is `updated`
    gradient_norm: float
    clipped: bool
    cpu_s: float


_answers, _offers = msgspec.msgpack.Decoder(Answer), msgspec.msgpack.Decoder(Offer)


def decode_setup(text: str) -> TrainerSetup:
    """Parse the setup that stands on the command line."""
    return msgspec.json.decode(text, type=TrainerSetup)


def encode(message: Offer | Answer) -> bytes:
    """Return the message as a frame: the length of its body, and the body."""
    body = msgspec.msgpack.encode(message)
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


def decode_answer(body: bytes) -> Answer:
    """Parse a frame's body. Raises ValueError where it is no answer."""
    return _answers.decode(body)


def decode_offer(body: bytes) -> Offer:
    """Parse a frame's body. Raises ValueError where it is no offer."""
    return _offers.decode(body)


def windows_of(offer: Offer, setup: TrainerSetup) -> Windows:
    """Return the sample of windows that an offer carries."""
    shape, b = setup.shape, offer.windows
    inputs, labels, hidden = (np.frombuffer(data, np.float32) for data in (offer.inputs, offer.labels, offer.hidden))
    return Windows(
        inputs.reshape(setup.window, b, shape.inputs).copy(),
        labels.reshape(setup.window, b, len(shape.horizons)).copy(),
        hidden.reshape(b, shape.layers, -1, shape.hidden_size).copy(),
        np.frombuffer(offer.since, np.int64).reshape(b).copy(),
    )
