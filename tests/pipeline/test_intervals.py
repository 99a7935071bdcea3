"""Intervals against a twin in plain Python; what they cover, and that no unit, level or odd series upsets them."""

from itertools import pairwise
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shard_rigs import Record, fold, restless, shard_of

from pipeline import intervals, scales
from pipeline.backtest import Scoring
from pipeline.method import Method
from pipeline.model import Network, Shape
from pipeline.shard import Shard
from pipeline.table import layout

METHOD = Method(horizons=(1, 3, 7))
LEVELS = METHOD.quantiles


class Twin:
    """One horizon of one stream; pending forecasts by the event they wait for."""

    def __init__(self, h: int) -> None:
        self.h = h
        self.z: list[float] = []
        self.pending: dict[int, tuple[float, float, list[float]]] = {}
        self.sigma, self.labels = 0.0, 0
        self.q = [1.2 * NormalDist().inv_cdf(level) for level in LEVELS]

    def score(self, z: float, c: float) -> tuple[float, float, list[bool]]:
        """Error, error of the last value, inside, of the forecast for now."""
        n = len(self.z)
        self.z.append(z)
        if n not in self.pending:
            return np.nan, np.nan, [False, False]
        mean, width, band = self.pending.pop(n)
        self.labels += 1
        known = self.labels > 20 and c > 0
        e = z - mean
        inside = [band[k] <= z <= band[-1 - k] for k in range(2)]
        if width > 0:
            for i, level in enumerate(LEVELS):
                gain = 0.0013 / NormalDist().pdf(NormalDist().inv_cdf(level))
                below = 1.0 if e / width <= self.q[i] else 0.0
                self.q[i] += max(gain, min(0.1, 2 / self.labels)) * (level - below)
        size = min(abs(e), 8 * self.sigma) if self.labels > 20 and self.sigma > 0 else abs(e)
        self.sigma += max(1 / 200, 1 / self.labels) * (size - self.sigma)
        return (e / c, (z - self.z[n - self.h]) / c, inside) if known else (np.nan, np.nan, inside)

    def forecast(self, move: float, c: float) -> tuple[float, list[float]]:
        n, mean = len(self.z) - 1, self.z[-1]
        if np.isfinite(move):
            mean += float(np.float32(move)) * c
        width = self.sigma if self.labels else 0.8 * c
        band = [q * width + mean for q in sorted(self.q)]
        self.pending[n + self.h] = (mean, width, band)
        return mean, band


def series(name: str) -> np.ndarray:
    rng = np.random.default_rng(8)
    return {
        "walk": lambda: np.cumsum(rng.normal(size=600)),
        "integers with many zeros": lambda: rng.poisson(0.1, 600).astype(float),
        "first value far off": lambda: np.concatenate([[1e30], rng.normal(size=200)]),
        "jumps": lambda: np.cumsum(rng.standard_t(2, size=600)),
    }[name]()


@pytest.mark.parametrize("name", ["walk", "integers with many zeros", "first value far off", "jumps"])
def test_bands_and_scores_are_the_twins(name: str) -> None:
    rows = np.zeros(2, layout(METHOD))
    for row in rows:
        intervals.born(METHOD, row)
    untouched, r = rows[0].tobytes(), np.array([1])
    twins = [Twin(h) for h in METHOD.horizons]
    rng = np.random.default_rng(9)
    for n, value in enumerate(series(name)):
        z, count = np.array([value]), np.array([n])
        error, naive, expected = np.empty((1, 3)), np.empty((1, 3)), np.empty((1, 3))
        mean, bands, inside = np.empty((1, 3)), np.empty((1, 3, 5)), np.zeros((1, 3, 2), np.bool_)
        starts = METHOD.pending_start
        said = twins[0].pending.get(n)
        scored = [t.score(float(value), float(rows["scale"][1, j])) for j, t in enumerate(twins)]
        intervals.score(
            rows, r, count, z, METHOD.horizon_array, starts, METHOD.levels, intervals.rates(METHOD),
            error, naive, inside, expected,
        )  # fmt: skip
        for j, (e, last, ins) in enumerate(scored):
            assert [error[0, j], naive[0, j]] == pytest.approx([e, last], rel=1e-9, nan_ok=True)
            assert inside[0, j].tolist() == ins
        if said is not None and said[1] > 0:
            assert expected[0].tolist() == pytest.approx([said[0], said[2][0], said[2][-1]], rel=1e-9)
        else:
            assert np.isnan(expected).all()
        scales.learn(rows, r, count, z, METHOD.horizon_array)
        move = rng.normal(size=(1, 3)).astype(np.float32)
        if n % 50 == 7:
            move[0, 1] = np.nan
        intervals.forecast(rows, r, count, z, move, METHOD.horizon_array, starts, mean, bands)
        for j, twin in enumerate(twins):
            m, band = twin.forecast(float(move[0, j]), float(rows["scale"][1, j]))
            assert [mean[0, j], *bands[0, j]] == pytest.approx([m, *band], rel=1e-9, abs=1e-12)
    assert rows[0].tobytes() == untouched, "no other row is touched"


def records(values: np.ndarray, name: str = "a") -> list[Record]:
    return [Record(i, name, 60_000 * i, 0, float(v)) for i, v in enumerate(values)]


def test_bands_cover_what_they_say_on_random_walks() -> None:
    """3,000 events of each of six walks: within one point at horizon 1, two at horizon 24, where labels overlap."""
    method, rng = Method(), np.random.default_rng(10)
    shard = Shard(method, Network(Shape.of(method)), 0, {})
    scoring = Scoring(method, 200)
    walks = np.cumsum([rng.normal(size=(3, 3000)), rng.standard_t(3, size=(3, 3000))], axis=2).reshape(6, 3000)
    log = [Record(6 * i + s, f"s{s}", 1000 * i, 0, float(walks[s, i])) for i in range(3000) for s in range(6)]
    scoring.take(fold(shard, log))
    inside = np.sum([t.inside for t in scoring.tallies.values()], axis=0)
    coverage = inside / np.sum([t.n for t in scoring.tallies.values()], axis=0)[:, None]
    assert coverage[0].tolist() == pytest.approx([0.95, 0.8], abs=0.01)
    assert (np.abs(coverage - np.array([0.95, 0.8])) < 0.02).all(), coverage


@pytest.mark.parametrize(("factor", "levels"), [(1e-6, 0), (1e6, 0), (1.0, 1e4), (-1.0, 0), (1e-6, 1e4)])
def test_units_and_levels_move_forecasts_and_nothing_else(factor: float, levels: float) -> None:
    method = Method(hidden_size=8)
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
    "the largest": np.array([1e150, -1e150] * 60),
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
    assert (forecasts.mean == values[:, None]).all(), "an untrained network says the last value"
    if name == "constant":
        assert (forecasts.quantiles == 7.25).all()
    if name == "one spike":
        assert np.abs(forecasts.quantiles[-1]).max() < 100, "the band comes back after a spike"
    if name == "two events":
        assert forecasts.quantiles[0].tolist() == [[1.0] * 5] * 5, "nothing is known of the spread yet"
        assert (forecasts.quantiles[1, :, 0] < 2).all()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-1e150, 1e150) | st.integers(-3, 3).map(float), min_size=1, max_size=80))
def test_quantiles_never_cross_whatever_comes(values: list[float]) -> None:
    method = Method(hidden_size=8)
    forecasts = fold(shard_of(method), records(np.array(values)))
    assert np.isfinite(forecasts.mean).all()
    assert (np.diff(forecasts.quantiles, axis=2) >= 0).all()
    assert all(a < b for a, b in pairwise(LEVELS))


def test_a_move_that_is_not_finite_counts_as_none() -> None:
    method = Method(hidden_size=8)
    network = restless(method)
    network.head.bias.data[1] = float("inf")
    network._prepare()
    forecasts = fold(Shard(method, network, 0, {}), records(np.arange(30.0) ** 2))
    assert (forecasts.mean[:, 1] == forecasts.value).all()
    assert (forecasts.mean[5:, 0] != forecasts.value[5:]).all()
