"""What loop and trainer say to each other: offers of windows, answers with weights, as length-prefixed msgpack.

Both carry the incarnation of the shard's life, the offset trained through and the parent, the adoption that the
weights descend from: what does not fit any more is thrown away.
"""

import msgspec
import numpy as np

from pipeline.learning.fine_tune import Schedule
from pipeline.learning.windows import Windows
from pipeline.network.model import Shape

LENGTH_BYTES = 8


class TrainerSetup(msgspec.Struct, frozen=True):
    """What a trainer is told once, on its command line as JSON."""

    shape: Shape
    schedule: Schedule
    window: int  # T


class Offer(msgspec.Struct, frozen=True):
    """One update, please."""

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


class Answer(msgspec.Struct, frozen=True):
    """What became of it."""

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
    """From the command line."""
    return msgspec.json.decode(text, type=TrainerSetup)


def encode(message: Offer | Answer) -> bytes:
    """A frame."""
    body = msgspec.msgpack.encode(message)
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


def decode_answer(body: bytes) -> Answer:
    """Of a frame's body. Raises ValueError where it is none."""
    return _answers.decode(body)


def decode_offer(body: bytes) -> Offer:
    """Of a frame's body. Raises ValueError where it is none."""
    return _offers.decode(body)


def windows_of(offer: Offer, setup: TrainerSetup) -> Windows:
    """The sample as it was drawn."""
    shape, b = setup.shape, offer.windows
    inputs, labels, hidden = (np.frombuffer(data, np.float32) for data in (offer.inputs, offer.labels, offer.hidden))
    return Windows(
        inputs.reshape(setup.window, b, shape.inputs).copy(),
        labels.reshape(setup.window, b, len(shape.horizons)).copy(),
        hidden.reshape(b, shape.layers, -1, shape.hidden_size).copy(),
    )
