"""What unrest is told by, whom it widens the bands for, and that slots count only where they differ."""

import numpy as np
import pytest

from pipeline.arrays import Floats
from pipeline.method import Method
from pipeline.network.model import Network, Shape
from pipeline.parts.intervals import slot_factors
from pipeline.shard import Shard
from pipeline.table import Table
from tests.rigs.shard_rigs import Record, fold

METHOD = Method()
DAY_MS, HOUR_MS = 86_400_000, 3_600_000


def folded(values: Floats, method: Method = METHOD, step_ms: int = DAY_MS) -> tuple[np.void, Floats]:
    """The stream's row, and how wide its band of 95 % was at each event and horizon."""
    shard = Shard(method, Network(Shape.of(method)), 0, {})
    said = fold(shard, [Record(n, "a", step_ms * n, 0, float(v)) for n, v in enumerate(values)])
    return shard.table.rows[0], said.quantiles[..., -1] - said.quantiles[..., 0]


def restless(seed: int, events: int) -> tuple[Floats, Floats]:
    """A walk whose step is the larger the larger the last ones were (GARCH), and the deviation of each next step."""
    rng, values, deviation = np.random.default_rng(seed), np.zeros(events), np.ones(events)
    for n in range(1, events):
        step = deviation[n - 1] * rng.standard_normal()
        values[n] = values[n - 1] + step
        deviation[n] = np.sqrt(0.02 + 0.12 * step**2 + 0.86 * deviation[n - 1] ** 2)
    return values, deviation


def test_bands_follow_steps_that_come_in_clusters() -> None:
    """At all horizons; a mean over 200 labels and one over 33 follow half as closely."""
    values, deviation = restless(31, 3000)
    row, width = folded(values)
    at = slice(500, None)
    found = [np.corrcoef(np.log(width[at, j]), np.log(deviation[at]))[0, 1] for j in (0, 2)]
    assert min(found) > 0.8, found
    assert (row["unrest_gain"][:3] > 0.6).all(), "and it is learnt that they do"


def test_nothing_is_followed_where_large_steps_are_chance() -> None:
    """Steps of Student's t, alike at all times: the gain goes down, and the width hardly moves."""
    values = np.cumsum(np.random.default_rng(32).standard_t(3, 4000))
    row, width = folded(values)
    assert row["unrest_gain"][0] < 0.2
    assert np.log(width[2000:, 0]).std() < 0.15


def test_noise_that_stays_is_usual_after_a_while() -> None:
    rng = np.random.default_rng(33)
    values = rng.normal(size=4000) * np.where(np.arange(4000) < 1000, 1, 8)
    shard = Shard(METHOD, Network(Shape.of(METHOD)), 0, {})
    log = [Record(n, "a", HOUR_MS * n, 0, float(v)) for n, v in enumerate(values)]
    fold(shard, log[:1030])
    assert shard.table.rows["unrest"][0].max() > 2.5
    fold(shard, log[1030:])
    assert abs(shard.table.rows["unrest"][0] - 1).max() < 0.4


@pytest.mark.parametrize("profile", ["full", "lite"])
def test_slots_that_are_alike_have_bands_alike(profile: str) -> None:
    """Seven days of a week, by chance one quieter than others; the factors that are kept differ by far more."""
    values = np.cumsum(np.random.default_rng(34).normal(size=2500))
    method = Method(profile=profile)  # type: ignore[arg-type]
    row, _ = folded(values, method)
    seen = row["slot_visits"] > 0
    assert seen.sum() == 7
    assert slot_factors(row, method)[0, seen].std() < 0.05


@pytest.mark.parametrize("profile", ["full", "lite"])
def test_slots_that_differ_have_bands_that_differ(profile: str) -> None:
    hours = np.arange(2500)
    values = np.random.default_rng(35).normal(size=2500) * np.where(hours % 24 < 12, 0.3, 1.7)
    method = Method(profile=profile)  # type: ignore[arg-type]
    row, width = folded(values, method, HOUR_MS)
    factors = slot_factors(row, method)[0]
    assert factors[13:].mean() > 3 * factors[:12].mean()
    by_hour = np.array([width[1000 + (hour - 1001) % 24 :: 24, 0].mean() for hour in range(24)])
    assert by_hour[13:].mean() > 2.5 * by_hour[:12].mean()


def test_months_of_a_stuck_sensor_are_no_calm() -> None:
    values = np.random.default_rng(36).normal(size=6000)
    values[500:] = values[499]
    row, _ = folded(values, step_ms=HOUR_MS)
    assert row["unrest"].tolist() == [1.0] * len(row["unrest"])


def test_the_lite_profile_has_no_unrest_and_stays_small() -> None:
    lite = Method(profile="lite")
    row, width = folded(restless(37, 300)[0], lite)
    assert not row["unrest"].size
    assert not row["unrest_gain"].size
    assert np.isfinite(width).all()
    assert Table(lite).row_bytes <= 4096
    assert Table(METHOD).row_bytes <= 12_500


@pytest.mark.parametrize("unit", [1e-30, 1e30])
def test_no_unit_upsets_widths(unit: float) -> None:
    values = restless(38, 1200)[0]
    values[600:700] = values[600]
    values[900] += 1e4
    one, other = folded(values)[1], folded(values * unit)[1]
    assert np.isfinite(other).all()
    np.testing.assert_allclose(other[30:] / unit, one[30:], rtol=1e-2)
