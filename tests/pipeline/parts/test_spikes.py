"""What a suspect value counts as: the first is held, those after one that stayed are not, nor is what follows a gap."""

import numpy as np
import pytest

from pipeline.arrays import Floats, Ints
from pipeline.batch import Batch
from pipeline.method import Method
from pipeline.network.model import Network, Shape
from pipeline.shard import Shard
from tests.rigs.methods import ONE

METHOD = ONE
N, AT, HOUR_MS = 60, 40, 3_600_000
CALM = np.random.default_rng(1).normal(size=N)


def counted(value: Floats, hours: Ints) -> float:
    """What the last of the values counts as."""
    n = len(value)
    ms = 1_600_300_800_000 + hours * HOUR_MS
    shard = Shard(METHOD, Network(Shape.of(METHOD)), 0, {})
    offsets, nothing = np.arange(n), np.zeros((n, 0))
    shard.advance(Batch(offsets, ["s"] * n, ms, ms, value, nothing, n, n, np.zeros(n, np.int64)))
    return float(shard.table.rows[0]["values"][(n - 1) % METHOD.spans.max()])


def at(*values: float) -> Floats:
    """Calm values, then these."""
    return np.append(CALM[:AT], values)


@pytest.mark.parametrize(
    ("value", "counts_as"),
    [
        (at(1000), CALM[AT - 1]),  # a first spike
        (at(1000, 0.5), 0.5),
        (at(1000, 1001), 1001),  # a first jump is believed an event later
        (at(1000, 1001, 3000), 3000),  # and a second one at once
        (np.append(CALM[:20], 1000), 1000),  # too young to have scales
    ],
)
def test_a_first_suspect_is_held_for_one_event(value: Floats, counts_as: float) -> None:
    assert counted(value, np.arange(len(value))) == counts_as


def test_what_follows_a_gap_is_no_spike() -> None:
    for gap, counts_as in ((3, CALM[AT - 1]), (4, 1000)):
        hours = np.append(np.arange(AT), AT - 1 + gap)
        assert counted(at(1000), hours) == counts_as


@pytest.mark.parametrize("goes_back", [True, False])
def test_a_first_suspect_is_forecast_from_as_it_is_and_teaches_the_mixture_nothing(goes_back: bool) -> None:
    shard = Shard(METHOD, Network(Shape.of(METHOD)), 0, {})
    value = at(1000, *(CALM[AT + 1 :] + (0 if goes_back else 1000)))
    told = []
    for n, v in enumerate(value):
        if n == AT + 1:
            before = shard.table.rows[0].copy()
        ms = np.array([1_600_300_800_000 + n * HOUR_MS])
        batch = Batch(
            np.array([n]), ["s"], ms, ms, np.array([v]), np.zeros((1, 0)), n + 1, n + 1, np.zeros(1, np.int64)
        )
        told.append(shard.advance(batch))
        if n == AT + 1:
            for field in ("mixture_regret", "mixture_loss", "quantile", "error_scale"):
                np.testing.assert_array_equal(shard.table.rows[0][field], before[field])
    assert told[AT].mean[0, 0] == pytest.approx(1000, abs=5)
    assert told[AT].quantiles[0, 0, 0] < told[AT].mean[0, 0] < told[AT].quantiles[0, 0, -1]
    scored = told[AT + 1]
    assert scored.expected[0, 0] == pytest.approx(told[AT].mean[0, 0], rel=1e-6), "what was published is what is scored"
    assert abs(scored.error[0, 0]) > 100 if goes_back else abs(scored.error[0, 0]) < 10
    assert scored.naive[0, 0] == scored.error[0, 0], "the last value was the same"
    assert np.isnan(scored.network_error[0])


@pytest.mark.parametrize(
    "value",
    [
        at(1e36) * np.append(np.full(AT, 1e-3), 1),
        np.append(np.tile(np.arange(24.0) % 6 % 5 * 1e-41, 4), 1.0),  # a day that repeats: no change over it is left
    ],
)
def test_a_first_spike_of_any_size_is_published_as_numbers(value: Floats) -> None:
    method, n = Method(), len(value)
    shard = Shard(method, Network(Shape.of(method)), 0, {})
    ms = 1_600_300_800_000 + np.arange(n) * HOUR_MS
    told = shard.advance(Batch(np.arange(n), ["s"] * n, ms, ms, value, np.zeros((n, 0)), n, n, np.zeros(n, np.int64)))
    assert shard.table.rows[0]["suspected"]
    assert np.isfinite(told.mean).all()
    assert np.isfinite(told.quantiles).all()
