"""Weights from a checkpoint or the changelog: `Network.load` and `Adoption.load`.

A clean refusal is a ValueError. A find is any other exception, or weights that are taken and are not finite or of
another shape.
"""

from collections.abc import Iterator
from contextlib import suppress

import numpy as np

from pipeline.learning.adoption import Adoption
from pipeline.learning.fine_tune import Optimiser
from pipeline.method import Method
from pipeline.network.model import Network, Shape
from tests.security.fuzz import promise

NETWORK = Network(Shape.of(Method(horizons=(1,), hidden_size=2)), seed=1)
WEIGHTS = {name: weight.copy() for name, weight in NETWORK.weights.items()}


def one(data: bytes) -> None:
    """Load the bytes as either."""
    with suppress(ValueError):
        NETWORK.load(data)
    shapes = {name: weight.shape for name, weight in NETWORK.weights.items()}
    promise(shapes == {name: weight.shape for name, weight in WEIGHTS.items()}, "a network keeps its shape")
    promise(all(np.isfinite(weight).all() for weight in NETWORK.weights.values()), "weights are finite")
    with suppress(ValueError):
        adoption = Adoption.load(data)
        optimiser = adoption.optimiser
        promise(min(optimiser.steps, optimiser.updates, adoption.trained_through) >= 0, "counts are counts")
        promise(0 < optimiser.factor <= 1, "a rate is a rate")
        again = Adoption.load(adoption.dump())
        promise((again.trained_through, again.made_ms) == (adoption.trained_through, adoption.made_ms), "it is kept")
        NETWORK.check(adoption.weights)


def seeds() -> Iterator[bytes]:
    """Yield a network, and adoptions with an optimiser and without."""
    yield Network(NETWORK.shape, seed=2).dump()
    base = Adoption.base(NETWORK, 7)
    yield base.dump()
    size = sum(weight.size for weight in base.weights.values())
    state = np.ones((3, size), np.float32)
    yield Adoption(base.weights, Optimiser(state, 5, 6, 0.5), 100, True, 1_357_020_000_000).dump()
    yield NETWORK.dump()[:40]
