"""What topics and producer let through is enough for the largest adoption there can be."""

import numpy as np
import pytest

from pipeline.learning.adoption import Adoption
from pipeline.learning.fine_tune import Optimiser, Schedule, fine_tune
from pipeline.learning.windows import Windows
from pipeline.network.cells import states
from pipeline.network.model import Network, Shape
from worker.settings.method import method_of
from worker.settings.settings import Settings
from worker.topics import FRAMING_BYTES, wanted


@pytest.mark.parametrize(
    ("cell", "size", "layers"), [("gru", 32, 1), ("gru", 128, 1), ("lstm", 128, 2), ("gru", 64, 3)]
)
def test_an_adoption_of_two_chains_fits_the_changelog_and_a_request(cell: str, size: int, layers: int) -> None:
    settings = Settings(model={"cell": cell, "hidden_size": size, "layers": layers})
    shape = Shape.of(method_of(settings))
    sizes = (8, 1, shape.inputs), (8, 1, len(shape.horizons)), (1, layers, states(shape.cell), size)
    windows = Windows(*(np.ones(size, np.float32) for size in sizes), np.zeros(1, np.int64))
    weights, optimiser, _ = fine_tune(shape, Network(shape).weights, Optimiser.after(7), windows, Schedule())
    adoption = len(Adoption(weights, optimiser, 2**53).dump())
    assert optimiser.state is not None
    assert adoption > 6 * optimiser.state[0].nbytes
    sizes_wanted = wanted(settings, None)
    assert adoption + FRAMING_BYTES <= sizes_wanted.changelog
    assert adoption + 2 * FRAMING_BYTES <= sizes_wanted.request
