"""What is told of a forecast adds up to the forecast."""

import numpy as np
import pytest

from pipeline.explanation import explained, state_of
from pipeline.forecasts import Forecasts
from pipeline.method import Method
from pipeline.shard import Shard
from tests.rigs.shard_rigs import Record, batch_of, shard_of

START_MS, HOUR_MS = 1_600_000_000_000, 3_600_000
METHODS = [Method(), Method(profile="lite"), Method(transform="log"), Method(covariates=("humid",))]


def told(method: Method) -> tuple[Shard, Forecasts]:
    """A shard after a few days of one stream, and its last forecast."""
    shard, rng = shard_of(method), np.random.default_rng(5)
    given = (0.5,) * len(method.covariates)
    for i in range(150):
        value = 100 + 10 * np.sin(i / 24 * 2 * np.pi) + rng.normal()
        at_ms = START_MS + HOUR_MS * i
        last = shard.advance(batch_of([Record(i, "a", at_ms, at_ms, float(value), given)], method))
    return shard, last


@pytest.mark.parametrize("method", METHODS)
def test_experts_times_their_weights_are_the_forecast(method: Method) -> None:
    shard, last = told(method)
    facts = explained(shard.table.rows[0], shard.wave.stepped[0], method)
    log = (lambda x: np.log(x)) if method.transform == "log" else (lambda x: x)
    z = log(facts["counts_as"])
    for j, parts in enumerate(facts["horizons"].values()):
        experts = parts["experts"].values()
        assert sum(one["weight"] for one in experts) == pytest.approx(1)
        move = parts["guard"] * sum(one["weight"] * (log(one["forecast"]) - z) for one in experts)
        assert log(parts["mean"]) - z == pytest.approx(move, rel=1e-5, abs=1e-6 * parts["scale"])
        assert parts["mean"] == last.mean[0, j]
        for level, at in zip(parts["quantiles_in_widths"].values(), parts["quantiles"].values(), strict=True):
            assert log(at) == pytest.approx(log(parts["mean"]) + level * parts["width"], abs=1e-6 * parts["scale"])
        assert parts["width"] == pytest.approx(parts["error_scale"] * parts["slot_factor"], rel=1e-5)
    stacking = facts["horizons"]["1"]["stacking"]
    assert ("linear" in stacking) == method.full
    assert ("companion" in stacking) == method.has_companion


@pytest.mark.parametrize("method", METHODS)
def test_a_row_tells_the_forecast_that_was_made_last(method: Method) -> None:
    shard, last = told(method)
    facts = state_of(shard.table.rows[0], method)
    assert (facts["events"], facts["time_ms"], facts["step_ms"]) == (150, START_MS + 149 * HOUR_MS, HOUR_MS)
    assert (facts["season"], facts["slots_seen"]) == ("day", 24)
    for j, parts in enumerate(facts["horizons"].values()):
        assert parts["mean"] == pytest.approx(last.mean[0, j], rel=1e-14)
        low, high = parts["bands"]["0.95"]
        assert (low, high) == pytest.approx((last.quantiles[0, j, 0], last.quantiles[0, j, -1]), rel=1e-9)


def test_a_row_that_has_seen_nothing_tells_so() -> None:
    method = Method()
    shard = shard_of(method)
    shard.table.add("a")
    assert state_of(shard.table.rows[0], method)["horizons"] == {}
