"""Sums by the time when forecasts were made grow with it, and are not copied where it does not."""

import numpy as np

from pipeline.backtest.tally import BLOCK, PARTS, Tally
from pipeline.method import Method


def test_blocks_are_added_once_and_then_added_to() -> None:
    tally, ones = Tally.blank(Method(), 0), np.ones((2, PARTS))
    tally.add_capped(0, np.array([0, 2 * BLOCK]), ones)
    blocks = tally.blocks
    tally.add_capped(0, np.array([BLOCK, 2 * BLOCK + 1]), ones)
    assert tally.blocks is blocks
    assert blocks[:, 0].tolist() == [[1.0] * PARTS, [1.0] * PARTS, [2.0] * PARTS]
