"""The linear experts' regression alone, for as long as it takes directions that nothing excites to grow."""

import numpy as np
from plain_method import Least

from pipeline import regression
from pipeline.method import Method

SIZE, METHOD = 4, Method(horizons=(1, 2), fine_rings=True)


def test_the_inverse_is_the_plain_one_and_bounded_where_nothing_moves() -> None:
    """6,000 events with two regressors that are always zero: P would grow without bound."""
    rows = np.zeros(1, np.dtype(regression.fields(METHOD, "a", SIZE)))
    regression.born(rows[0], "a", SIZE)
    expert, plain = regression.Expert.of(rows, "a"), Least(SIZE, 2, 0.999, 1.0)
    rng = np.random.default_rng(1)
    largest = 0.0
    for n in range(6000):
        phi = rng.normal(size=(1, SIZE)).astype(np.float32)
        phi[0, 2:] = 0
        regression.see(
            np.array([0]), np.array([n]), phi, expert.inverse, *expert[2:], METHOD.ring_unit(regression.BOUND),
            METHOD.gain_steps,
        )  # fmt: skip
        gain = plain.see(phi[0].astype(np.float64), guard=n % 50 == 0)
        kept = expert.gain[0, n % 2] * expert.gain_unit[0, n % 2]
        np.testing.assert_allclose(kept, gain, rtol=1e-3, atol=1e-5)
        lower = plain.P[np.tril_indices(SIZE)]
        np.testing.assert_allclose(expert.inverse[0], lower, rtol=1e-3, atol=1e-3 * np.trace(plain.P))
        largest = max(largest, float(np.trace(plain.P)))
    assert 100 * SIZE * 0.9 < np.trace(plain.P) < 100 * SIZE * 1.06
    assert largest < 100 * SIZE * 1.06
