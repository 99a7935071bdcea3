"""What is told of a forecast adds up to the forecast."""

import numpy as np
import pytest

from pipeline.explanation import explained, opinions, state_of
from pipeline.forecasts import Forecasts
from pipeline.method import Method
from pipeline.parts.experts import part_names
from pipeline.shard import Shard
from tests.rigs.shard_rigs import SETTINGS, Record, fold, restless, shard_of

START_MS, HOUR_MS = 1_600_000_000_000, 3_600_000
METHODS = [Method(), Method(profile="lite"), Method(transform="log"), Method(covariates=("humid",))]


def told(method: Method, events: int = 150, climbs: tuple[int, int] = (0, 0)) -> tuple[Shard, Forecasts]:
    """A shard after some hours of one stream with a season, the last in a batch of its own, and all forecasts.

    From the first to the second event of `climbs` it has a trend.
    """
    shard, rng = Shard(method, restless(method), 0, SETTINGS, parts=True), np.random.default_rng(5)
    values = 100 + 10 * np.sin(np.arange(events) / 24 * 2 * np.pi) + rng.normal(size=events)
    values += np.clip(np.arange(events) - climbs[0], 0, climbs[1] - climbs[0])
    times = [START_MS + HOUR_MS * i for i in range(events)]
    given = (0.5,) * len(method.covariates)
    records = [Record(i, "a", times[i], times[i], float(value), given) for i, value in enumerate(values)]
    return shard, fold(shard, records, [events - 1])


@pytest.mark.parametrize(
    ("method", "events", "climbs"), [*((method, 150, (0, 0)) for method in METHODS), (Method(), 640, (250, 600))]
)
def test_experts_times_their_weights_are_the_forecast(method: Method, events: int, climbs: tuple[int, int]) -> None:
    shard, forecasts = told(method, events, climbs)
    if climbs[1]:
        assert shard.table.rows[0]["drift_over"].max() > 0.3, "the guard of drifts withholds something"
    facts = explained(shard.table.rows[0], shard.wave.stepped[0], method)
    log = (lambda x: np.log(x)) if method.transform == "log" else (lambda x: x)
    z = log(facts["counts_as"])
    for j, parts in enumerate(facts["horizons"].values()):
        experts = parts["experts"].values()
        assert sum(one["weight"] for one in experts) == pytest.approx(1)
        move = parts["guard"] * sum(one["weight"] * (log(one["forecast"]) - z) for one in experts)
        assert log(parts["mean"]) - z == pytest.approx(move, rel=1e-5, abs=1e-6 * parts["scale"])
        assert parts["mean"] == forecasts.mean[-1, j]
        for level, at in zip(parts["quantiles_in_widths"].values(), parts["quantiles"].values(), strict=True):
            assert log(at) == pytest.approx(log(parts["mean"]) + level * parts["width"], abs=1e-6 * parts["scale"])
        assert parts["width"] == pytest.approx(parts["error_scale"] * parts["slot_factor"], rel=1e-5)
    stacking = facts["horizons"]["1"]["stacking"]
    assert ("linear" in stacking) == method.full
    assert ("companion" in stacking) == method.has_companion


@pytest.mark.parametrize("method", METHODS)
def test_a_row_tells_the_forecast_that_was_made_last(method: Method) -> None:
    shard, forecasts = told(method)
    facts = state_of(shard.table.rows[0], method)
    assert (facts["events"], facts["time_ms"], facts["step_ms"]) == (150, START_MS + 149 * HOUR_MS, HOUR_MS)
    assert (facts["season"], facts["slots_seen"]) == ("day", 24)
    for j, parts in enumerate(facts["horizons"].values()):
        assert parts["mean"] == pytest.approx(forecasts.mean[-1, j], rel=1e-14)
        low, high = parts["bands"]["0.95"]
        assert (low, high) == pytest.approx((forecasts.quantiles[-1, j, 0], forecasts.quantiles[-1, j, -1]), rel=1e-9)


def test_a_row_that_has_seen_nothing_tells_so() -> None:
    method = Method()
    shard = shard_of(method)
    shard.table.add("a")
    assert state_of(shard.table.rows[0], method)["horizons"] == {}


@pytest.mark.parametrize("method", [Method(), Method(profile="lite"), Method(transform="log")])
@pytest.mark.parametrize("events", [1, 30, 400])
def test_weights_times_forecasts_are_the_mean_that_was_published(method: Method, events: int) -> None:
    shard, forecasts = told(method, events)
    row = shard.table.rows[0]
    said = opinions(row, method)
    assert said.names[0] == "last_value"
    assert {"seasonal", "profile", "network"} <= {*said.names}
    np.testing.assert_allclose(said.forecasts[:, 0], forecasts.value[-1])
    np.testing.assert_allclose(said.weights.sum(1), 1)
    to = np.log if method.transform == "log" else np.asarray
    mixed = (said.weights * to(said.forecasts)).sum(1)
    place = method.pending_start[:-1] + (events - 1) % method.horizon_array
    tolerance = 0.1 if method.profile == "lite" else 1e-3
    unit = row["pending_unit"][place]
    withheld = row["mixture_withheld"][place] != 0
    assert (abs(mixed - to(forecasts.mean[-1]))[~withheld] <= tolerance * unit[~withheld] + 1e-9).all()
    assert withheld.sum() < len(withheld) or events == 30, "the guard may be at work early"


def test_an_expert_that_is_mixed_as_it_is_said_what_the_shard_publishes_of_it() -> None:
    method = Method()
    shard, forecasts = told(method, 400)
    row = shard.table.rows[0]
    said = opinions(row, method)
    own = forecasts.parts[-1, :, part_names(method).index("seasonal")]
    np.testing.assert_allclose(said.forecasts[:, said.names.index("seasonal")], own, atol=1e-3 * row["scale"].max())
    assert abs(own - forecasts.value[-1]).max() > 1e-2, "it moves"
