"""What intervals cover, and that no unit, level or odd series upsets forecasts."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.backtest.scoring import Scoring
from pipeline.backtest.tally import FORECAST, LAST
from pipeline.method import Method
from pipeline.network.model import Network, Shape
from pipeline.shard import Shard
from tests.rigs.shard_rigs import Record, fold, restless, shard_of

METHOD = Method(horizons=(1, 3, 7))
LEVELS = METHOD.quantiles


def records(values: np.ndarray, name: str = "a", step_ms: int = 60_000) -> list[Record]:
    return [Record(i, name, step_ms * i, 0, float(v)) for i, v in enumerate(values)]


def test_bands_cover_what_they_say_on_random_walks() -> None:
    """3,000 events of each of six walks: within one point at horizon 1, three at horizon 24, where labels overlap."""
    method, rng = Method(), np.random.default_rng(10)
    shard = Shard(method, Network(Shape.of(method)), 0, {})
    scoring = Scoring(method, 500)
    walks = np.cumsum([rng.normal(size=(3, 3000)), rng.standard_t(3, size=(3, 3000))], axis=2).reshape(6, 3000)
    log = [Record(6 * i + s, f"s{s}", 1000 * i, 0, float(walks[s, i])) for i in range(3000) for s in range(6)]
    scoring.take(fold(shard, log))
    inside = np.sum([t.inside for t in scoring.tallies.values()], axis=0)
    coverage = inside / np.sum([t.n for t in scoring.tallies.values()], axis=0)[:, None]
    assert coverage[0].tolist() == pytest.approx([0.95, 0.8], abs=0.01)
    assert (np.abs(coverage - np.array([0.95, 0.8])) < 0.03).all(), coverage


def test_bands_keep_up_with_a_stream_that_grows_a_thousandfold() -> None:
    """A count that starts near nothing and doubles every 150 events, its noise with it; far horizons lag most."""
    rng = np.random.default_rng(15)
    values = 2.0 ** (np.arange(1500) / 150) * np.exp(rng.normal(0, 0.3, 1500))
    method = Method()
    scoring = Scoring(method, 300)
    scoring.take(fold(Shard(method, Network(Shape.of(method)), 0, {}), records(values)))
    (tally,) = scoring.tallies.values()
    coverage = tally.inside / tally.n[:, None]
    assert coverage[0].tolist() == pytest.approx([0.95, 0.8], abs=0.08)
    assert (np.abs(coverage - np.array([0.95, 0.8])) < 0.2).all(), coverage


def test_bands_find_back_after_months_of_one_constant() -> None:
    """Noise, 6,000 events of a stuck sensor, noise again: far from what they say, but back within some hundreds."""
    values = np.random.default_rng(16).normal(size=7000)
    values[500:6500] = values[499]
    method = Method()
    quantiles = fold(Shard(method, Network(Shape.of(method)), 0, {}), records(values)).quantiles
    at = np.arange(6700, 6800)
    for j, h in enumerate(method.horizons[:3]):
        inside = (quantiles[at, j, 0] <= values[at + h]) & (values[at + h] <= quantiles[at, j, -1])
        assert inside.mean() > 0.4


ENDED = {
    "grows and holds": lambda i: np.exp(np.minimum(i, 1000) / 140),
    "grows far and holds": lambda i: np.exp(np.minimum(i, 1000) / 70),
    "grows and crashes": lambda i: np.where(i < 1000, np.exp(i / 140), 0),
    "rises and falls back": lambda i: np.where(i < 1000, i, 0),
}


@pytest.mark.parametrize("profile", ["full", "lite"])
@pytest.mark.parametrize("name", ENDED)
def test_where_a_trend_has_ended_the_last_value_is_found_again(name: str, profile: Any) -> None:
    """Its horizon scales, and what the experts had learnt in them, would make errors a thousand times as large."""
    values = ENDED[name](np.arange(2000)) + np.cumsum(0.1 * np.random.default_rng(18).normal(size=2000))
    method = Method(profile=profile)
    said = fold(Shard(method, Network(Shape.of(method)), 0, {}), records(values, step_ms=3_600_000))
    for rows in ((1300, 1600), (1600, None)):
        scoring = Scoring(method, *rows)
        scoring.take(said)
        (tally,) = scoring.tallies.values()
        assert (tally.squared[:, FORECAST] < 2 * tally.squared[:, LAST]).all(), tally.skill


def test_no_forecast_moves_further_than_its_stream_has() -> None:
    """A young trend that turns, which the stacking would carry on."""
    t, rng = np.arange(160), np.random.default_rng(17)
    values = np.minimum(t, 70) - 0.7 * np.maximum(t - 80, 0) + 3 * np.sin(t / 2) + rng.normal(size=160)
    method = Method()
    shard = Shard(method, Network(Shape.of(method)), 0, {})
    for n, record in enumerate(records(values)):
        moves = np.abs(fold(shard, [record]).mean[0] - values[n])
        for j, h in enumerate(method.horizons):
            went = np.abs(values[h : n + 1] - values[: max(n + 1 - h, 0)]).max(initial=0)
            assert moves[j] <= max(went, 2 * shard.table.rows["scale"][0, j]) * (1 + 1e-5), (n, h)


@pytest.mark.parametrize(("factor", "levels"), [(1e-6, 0), (1e6, 0), (1.0, 1e4), (-1.0, 0), (1e-6, 1e4)])
def test_units_and_levels_move_forecasts_and_nothing_else(factor: float, levels: float) -> None:
    method = Method(hidden_size=8, floor=-1e36)  # a floor is a level of its own, which does not move
    values = np.cumsum(np.random.default_rng(11).normal(size=800))
    deviation = np.diff(values).std()
    shift = levels * deviation
    one = fold(shard_of(method), records(values))
    other = fold(shard_of(method), records((values + shift) * factor))
    assert np.abs(one.mean - values[:, None]).max() > deviation / 10, "the network has a say"
    if factor > 0:
        back = other.quantiles / factor - shift
        assert np.abs(back - one.quantiles).max() < 1e-3 * deviation
        assert np.abs(other.mean / factor - shift - one.mean).max() < 1e-3 * deviation
    else:
        assert np.isfinite(other.quantiles).all()


ODD = {
    "constant": np.full(300, 7.25),
    "integers with many zeros": np.random.default_rng(12).poisson(0.05, 500).astype(float),
    "two events": np.array([1.0, 2.0]),
    "one event": np.array([-3.0]),
    "first value far off": np.concatenate([[1e30], np.random.default_rng(13).normal(size=500)]),
    "the largest": np.array([1e36, -1e36] * 60),
    "the smallest": np.array([5e-324, 0.0] * 60),
    "one spike": np.where(np.arange(300) == 150, 1e12, np.sin(np.arange(300))),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_series_get_finite_sane_forecasts(name: str) -> None:
    values, method = ODD[name], Method(hidden_size=8)
    for shard in (shard_of(method), Shard(method, Network(Shape.of(method)), 0, {})):
        forecasts = fold(shard, records(values))
        assert np.isfinite(forecasts.mean).all()
        assert np.isfinite(forecasts.quantiles).all()
        assert (np.diff(forecasts.quantiles, axis=2) >= 0).all(), "quantiles never cross"
        assert np.isfinite(shard.table.rows["hidden"]).all()
        if name == "first value far off":
            assert np.abs(forecasts.mean[3:]).max() < 30, "a mad first value is forgotten at once"
            assert np.abs(forecasts.quantiles[40:]).max() < 30
    reach = np.abs(values).max()
    assert (np.abs(forecasts.mean) <= 40 * reach).all(), "no forecast is out of this world"
    if name == "constant":
        assert (forecasts.quantiles == 7.25).all()
    if name == "one spike":
        assert np.abs(forecasts.quantiles[-1]).max() < 100, "the band comes back after a spike"
    if name == "two events":
        assert forecasts.quantiles[0].tolist() == [[1.0] * 5] * 5, "nothing is known of the spread yet"
        assert (forecasts.quantiles[1, :, 0] < 2).all()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-1e36, 1e36) | st.integers(-3, 3).map(float), min_size=1, max_size=80))
def test_quantiles_never_cross_whatever_comes(values: list[float]) -> None:
    method = Method(hidden_size=8)
    forecasts = fold(shard_of(method), records(np.array(values)))
    assert np.isfinite(forecasts.mean).all()
    assert (np.diff(forecasts.quantiles, axis=2) >= 0).all()
    assert all(a < b for a, b in pairwise(LEVELS))


def test_a_move_that_is_not_finite_counts_as_none() -> None:
    """As if the network said no change, for that horizon only."""
    method = Method(hidden_size=8)
    broken, still = restless(method), restless(method)
    broken.weights["head.bias"][1] = float("inf")
    still.weights["head.bias"][1] = 0
    still.weights["head.weight"][1] = 0
    values = records(np.cumsum(np.random.default_rng(14).normal(size=60)))
    said = []
    for network in (broken, still):
        network._prepare()
        said.append(fold(Shard(method, network, 0, {}), values))
    assert said[0].mean.tobytes() == said[1].mean.tobytes()
