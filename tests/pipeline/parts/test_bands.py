"""What bands and medians are on streams whose distribution is known, without a network that learns."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.arrays import Floats
from pipeline.forecasts import Forecasts
from pipeline.method import Method
from pipeline.network.model import Network, Shape
from pipeline.shard import Shard
from tests.bench.regimes import REGIMES
from tests.rigs.shard_rigs import Record, fold

METHOD = Method()


def told(values: Floats, method: Method = METHOD) -> Forecasts:
    """Forecasts of one stream by the hour."""
    log = [Record(n, "a", 3_600_000 * n, 0, float(v)) for n, v in enumerate(values)]
    return fold(Shard(method, Network(Shape.of(method)), 0, {}), log)


def inside(said: Forecasts, values: Floats, h: int, k: int) -> np.ndarray:
    """(T - h,) whether the label of each forecast was in the k-th band, the widest first."""
    quantiles, label = said.quantiles[:-h, METHOD.horizons.index(h)], values[h:]
    return np.asarray((quantiles[:, k] <= label) & (label <= quantiles[:, -1 - k]))


@pytest.mark.parametrize("floor", [0.0, 5.0])
@pytest.mark.parametrize("method", [METHOD, Method(profile="lite"), Method(transform="log")])
def test_nothing_is_published_below_a_floor_that_was_never_crossed(method: Method, floor: float) -> None:
    """Also where most values lie on it, so that lower edges are there, and where the mean would be below it."""
    rng = np.random.default_rng(21)
    values = np.where(rng.random(900) < 0.1, rng.poisson(4, 900), 0.0) + floor + (method.transform == "log") * 1e-9
    values[600:700] = floor + np.abs(np.sin(np.arange(100) / 4)) * 50 + 1e-9  # the fall goes on, the floor does not
    method = replace(method, floor=floor)
    said = told(values, method)
    for made in (said.mean, said.quantiles, said.expected[30:]):
        assert made.min() >= (floor if method.transform == "none" else floor * (1 - 1e-12))
    if method.transform == "none":
        assert (said.quantiles[300:, 0, 0] == floor).mean() > 0.7, "it is the edge itself that is published"
        free = told(values, replace(method, floor=-1e36))
        assert (free.quantiles[300:, 0, 0] < floor).mean() > 0.7
        assert (free.mean.min() < floor) == method.full, "and the mean of the linear experts would be there too"


def test_the_first_value_below_the_floor_ends_it() -> None:
    rng = np.random.default_rng(22)
    values = np.abs(np.cumsum(rng.normal(size=600)))
    values[400:] -= 30
    said = told(values)
    assert said.quantiles[:400].min() >= 0
    assert (said.quantiles[404:, :, 0] < values[404:, None]).all()
    assert said.mean[405:].max() < 0


def test_bands_are_numbers_where_spikes_are_larger_than_steps_by_more_than_a_float32_holds() -> None:
    values = 1e-47 * np.random.default_rng(1).normal(size=300)
    values[30::20] = -9.9e35
    assert np.isfinite(told(values, Method()).quantiles).all()


def test_a_spike_that_is_held_is_no_value_below_the_floor() -> None:
    values = 5 + np.abs(np.random.default_rng(23).normal(size=300))
    values[100] = -9999.0
    assert told(values).quantiles[101:].min() >= 0


def test_bands_follow_noise_that_grows_and_falls_fivefold() -> None:
    """With 200 labels of memory alone, 92 and 68 % are inside; blocks are of 300 to 500."""
    quiet, loud = list[bool](), list[bool]()
    for stream in REGIMES["noise-blocks"].sample("noise-blocks", 3, METHOD.horizon_array):
        held = inside(told(stream.value), stream.value, 1, 1)
        quiet += held[stream.windows["quiet"][:-1]].tolist()
        loud += held[stream.windows["loud"][:-1]].tolist()
    assert np.mean(quiet) < 0.86
    assert np.mean(loud) > 0.74


def test_far_quantiles_find_where_few_values_are() -> None:
    """Nine values of ten are 0: the band of 95 % held 93.1 %, and .3 points less without either haste."""
    shares = [
        inside(told(s.value), s.value, 1, 0)[500:].mean()
        for s in REGIMES["intermittent"].sample("intermittent", 3, METHOD.horizon_array)
    ]
    assert np.mean(shares) > 0.945


def test_the_median_is_the_last_value_where_that_is_the_median() -> None:
    """A level that stays at nine events of ten: the mean lies between levels, its absolute error is 1.3 times that."""
    (stream,) = REGIMES["few-levels"].sample("few-levels", 1, METHOD.horizon_array)
    said, label, last = told(stream.value), stream.value[501:], stream.value[500:-1]
    median, mean = said.quantiles[500:-1, 0, 2], said.mean[500:-1, 0]
    naive = np.abs(label - last).mean()
    assert np.abs(label - mean).mean() > 1.2 * naive
    assert np.abs(label - median).mean() < 1.1 * naive
    assert (median == last).mean() > 0.5, "it is published as that value, not as one close by"
    assert (np.diff(said.quantiles, axis=2) >= 0).all()
