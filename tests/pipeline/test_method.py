"""The kernels against the method in plain NumPy, part by part and whole, and spikes that go back."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.method import Method
from pipeline.network.model import Network, Shape
from pipeline.parts.intervals import factor_kept
from pipeline.shard import Shard
from tests.rigs.methods import LONG_LSTM
from tests.rigs.plain_method import DAY, Plain
from tests.rigs.shard_rigs import Record, fold, restless, shard_of
from worker.demo import newyork

HOUR = 3_600_000
METHOD = Method(hidden_size=8, fine_rings=True, max_gap=10**9)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)


def hourly(n: int) -> np.ndarray:
    return 1_700_000_400_000 // HOUR * HOUR + HOUR * np.arange(n)


def walk(seed: int, n: int) -> np.ndarray:
    """Steps of many sizes, a daily and a weekly shape, some spikes that go back."""
    rng, hour = np.random.default_rng(seed), np.arange(n)
    shape = np.sin(2 * np.pi * hour / 24) * (1 + (hour // 24 % 7 > 4)) + 0.1 * np.cumsum(rng.normal(size=n))
    spikes = np.where(rng.random(n) < 0.02, 40.0, 0.0)
    return 50 + shape + 0.1 * rng.normal(size=n) + spikes


def breaks(n: int) -> np.ndarray:
    """A calm day, whose level moves and stays, or does not: bursts, excursions that begin or end bit by bit."""
    at = np.arange(n)
    jumps = sum(by * (at >= begins) for begins, by in ((300, 60.0), (390, 60.0), (500, -90.0), (600, 85.0)))
    for begins, many in ((260, 2), (280, 1), (480, 1), (660, 8), (740, 3)):
        jumps = jumps + 60.0 * ((at >= begins) & (at < begins + many))
    decays = np.where(at >= 800, -80.0 * 0.85 ** np.maximum(at - 800, 0), 0.0)
    climbs = np.where((at >= 620) & (at < 632), 4.0 * (at - 620), 0.0)
    noise = 0.3 * np.random.default_rng(21).normal(size=n)
    return np.asarray(100 + 3 * np.sin(2 * np.pi * at / 24) + noise + jumps + decays + climbs)


def two_levels(n: int) -> np.ndarray:
    """A calm day, away for 40, 12, 61 and 110 events, and again."""
    at = np.arange(n)
    away = np.searchsorted([300, 340, 420, 432, 500, 561, 600, 710, 820], at, side="right") % 2
    noise = 0.3 * np.random.default_rng(22).normal(size=n)
    return np.asarray(100 + 3 * np.sin(2 * np.pi * at / 24) + noise + 60.0 * away)


def trends(n: int) -> np.ndarray:
    """A level, a trend, a level, a trend down."""
    slope = np.array([0.0, 0.5, 0.0, -0.5])[np.searchsorted([250, 550, 700], np.arange(n), side="right")]
    return np.asarray(np.cumsum(slope) + np.random.default_rng(28).normal(size=n))


def tank(n: int) -> np.ndarray:
    """It runs empty, stays so, and is filled; never below 0."""
    at, noise = np.arange(n), np.random.default_rng(29).normal(size=n)
    level = np.interp(at, [240, 490, 560, 700, 800], [200, 0, 0, 168, 88])
    return np.maximum(level + noise * (level > 1), 0.0)


def weekends(n: int) -> np.ndarray:
    """A level that falls for the last 60 hours of a week, and some spikes."""
    rng = np.random.default_rng(23)
    spikes = 60.0 * (rng.random(n) < 0.02) * (np.arange(n) > 100)
    return np.where(np.arange(n) % 168 < 108, 100.0, 0.0) + rng.normal(size=n) + spikes


def stairs(seed: int, n: int) -> np.ndarray:
    """A level that is that of before at nine events of ten, 0 or more."""
    steps = np.random.default_rng(seed).choice([-1.0, 0.0, 1.0], n, p=[0.05, 0.9, 0.05])
    walk = np.cumsum(steps)
    return np.asarray(walk - np.minimum(np.minimum.accumulate(walk), 0))


def nights(days: int) -> np.ndarray:
    """Hourly from 8 to 17 o'clock: nothing at night."""
    return 1_700_006_400_000 // DAY * DAY + np.concatenate([DAY * d + HOUR * np.arange(8, 18) for d in range(days)])


def half_hours(n: int) -> np.ndarray:
    """A walk by a day whose every half hour is another, far from zero, and a jump away and back."""
    shape, at = np.random.default_rng(16).normal(size=48) * 3, np.arange(n)
    return 1e6 + walk(16, n) + np.resize(shape, n) + np.where((at > 400) & (at < 500), 900.0, 0.0)


def minutes(n: int) -> np.ndarray:
    """Times 50 to 80 s apart."""
    return hourly(1)[0] + np.cumsum(np.random.default_rng(20).integers(50_000, 80_000, n))


GAP = np.r_[:310, 325:600]


def both(
    method: Method, times: np.ndarray, values: np.ndarray, given: np.ndarray | None = None
) -> tuple[Shard, Any, Plain, np.ndarray, np.ndarray]:
    """The shard and its forecasts, the plain stream and its means and quantiles."""
    shard = shard_of(method)
    rows = given if given is not None else np.zeros((len(values), 0))
    log = [
        Record(i, "a", int(t), int(t), float(v), tuple(map(float, g)))
        for i, (t, v, g) in enumerate(zip(times, values, rows, strict=True))
    ]
    plain = Plain(method, shard.network)
    said = [plain.take(r.time_ms, r.value, r.covariates) for r in log]
    forecasts = fold(shard, log, range(0, len(log), 70))
    return shard, forecasts, plain, np.array([m for m, _ in said]), np.array([q for _, q in said])


def fine_codes(row: np.void) -> dict[int, int]:
    """Those of the parts that were seen, from the base."""
    parts, table = int(row["fine_parts"]), row["fine"].astype(int)
    codes = table[:parts] if parts > 720 else table[: 2 * parts : 2] * 256 + table[1 : 2 * parts : 2]
    return {i: int(code) - (128 if parts > 720 else 32_768) for i, code in enumerate(codes) if code}


LOGS: dict[str, tuple[Method, np.ndarray, np.ndarray, np.ndarray | None]] = {
    "daily and weekly, spikes": (METHOD, hourly(900), walk(1, 900), None),
    "covariates": (
        replace(METHOD, covariates=("wind", "sun")), hourly(500), walk(2, 500),
        np.where(np.random.default_rng(3).random((500, 2)) < 0.2, np.nan, np.random.default_rng(4).random((500, 2))),
    ),
    "lite": (replace(METHOD, profile="lite"), hourly(500), walk(5, 500), None),
    "no weekly table": (replace(METHOD, weekly="off"), hourly(400), walk(6, 400), None),
    "nights missing": (METHOD, nights(60), walk(7, 600), None),
    "every day": (METHOD, hourly(300) * 1 + (DAY - HOUR) * np.arange(300), walk(8, 300), None),
    "every month": (METHOD, hourly(150) + (30 * DAY - HOUR) * np.arange(150), walk(9, 150), None),
    "a season of 12 events, lstm of two layers": (
        replace(LONG_LSTM, season="events", max_gap=10**9), hourly(300), walk(10, 300), None,
    ),
    "no season": (replace(METHOD, season="none"), hourly(300), walk(11, 300), None),
    "fast ticks": (
        replace(METHOD, season="week", horizons=(2, 7)), hourly(1)[0] + 1000 * np.arange(300), walk(12, 300), None,
    ),
    "a mad value among the first": (
        METHOD, hourly(300), np.where(np.arange(300) == 3, -9999.0, walk(17, 300)), None,
    ),
    "a trend that ends": (METHOD, hourly(500), walk(18, 500) + np.exp(np.minimum(np.arange(500), 300) / 40), None),
    "trends that stop and start": (METHOD, hourly(740), trends(740), None),
    "a tank that runs empty": (METHOD, hourly(800), tank(800), None),
    "every half hour": (METHOD, hourly(1)[0] + HOUR // 2 * np.arange(700), half_hours(700), None),
    "every minute or so": (METHOD, minutes(3200), walk(19, 3200) + 3 * np.sin(np.arange(3200) / 229), None),
    "every 40 minutes": (METHOD, hourly(1)[0] + HOUR * 2 // 3 * np.arange(400), half_hours(400), None),
    "levels that move": (METHOD, hourly(900), breaks(900), None),
    "levels that move, no season": (replace(METHOD, season="none"), hourly(900), breaks(900), None),
    "levels that come back": (METHOD, hourly(900), two_levels(900), None),
    "a gap inside a level": (METHOD, hourly(600)[GAP], two_levels(600)[GAP], None),
    "weekends": (METHOD, hourly(1000), weekends(1000), None),
    "weekends, no weekly table": (replace(METHOD, weekly="off"), hourly(700), weekends(700), None),
    "steps and stays, never below 0": (METHOD, hourly(700), stairs(19, 700), None),
    "constant, then not": (METHOD, hourly(200), np.where(np.arange(200) < 90, 3.0, walk(13, 200)), None),
}  # fmt: skip


@pytest.mark.parametrize("name", LOGS)
def test_every_part_is_the_plain_methods(name: str) -> None:
    """State after the whole log, to what float32 state and rings allow; forecasts all the way."""
    method, times, values, given = LOGS[name]
    shard, forecasts, plain, means, quantiles = both(method, times, values, given)
    row, near = shard.table.rows[0], {"rtol": 2e-3, "atol": 2e-3}
    season = plain.season
    kinds = {"none": 0, "day": 1, "week": 2, "events": 3}
    assert (row["season"], row["slot"]) == (kinds[season.kind], season.slot)
    assert {s: row["slot_last"][s] for s in season.last} == season.last
    assert np.flatnonzero(row["slot_visits"]).tolist() == sorted(season.visits)
    apart = [season.mean[s] - season.last[s] for s in season.mean]
    np.testing.assert_allclose([row["slot_apart"][s] for s in season.mean], apart, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose([row["gap_merit"], row["return_share"]], [season.merit, plain.rho], rtol=1e-5, atol=1e-6)
    assert bool(row["suspected"]) == (plain.suspect is not None)
    np.testing.assert_allclose([row["broke_by"], row["broke_trust"]], [plain.broke_by, plain.trust], rtol=1e-5)
    if method.full:
        kept = method.spans.max()
        waiting = range(max(0, len(plain.z) - kept), len(plain.z))
        moved = [row["moved"][o % kept] for o in waiting]
        np.testing.assert_allclose(moved, [plain.moved[o] for o in waiting], atol=1e-5)
    if method.has_week:
        seen = np.flatnonzero(~np.isnan(row["week"])).tolist()
        assert seen == sorted(plain.week)
        week = np.array([plain.week[s] for s in seen]) - (plain.z[0] if seen else 0)
        np.testing.assert_allclose(row["week"][seen], week, rtol=1e-5, atol=1e-5)
    if method.full:
        assert row["fine_parts"] == plain.fine.parts
        assert fine_codes(row) == plain.fine.code
        np.testing.assert_allclose(row["fine_lasting"], plain.lasting, **near)
        np.testing.assert_allclose(row["linear_weights"], plain.A.W, **near)
        np.testing.assert_allclose(row["stack_weights"], [k.W[0] for k in plain.K], **near)
        twins = np.array([[d.Y, d.P, np.sqrt(d.V), d.D, np.sqrt(d.D2), 1 - d.left] for d in plain.drifts])
        drifts = [row[f"drift_{of}"].reshape(len(twins), -1) for of in ("lately", "usual", "mean", "over")]
        np.testing.assert_allclose(np.hstack(drifts), twins, rtol=2e-2, atol=1e-2)
    if method.has_companion:
        np.testing.assert_allclose(row["companion_weights"], plain.Ac.W, **near)
    np.testing.assert_allclose(row["mixture_loss"].T, [plain.L, plain.L0], rtol=2e-2, atol=2e-3)
    np.testing.assert_allclose(row["mixture_regret"], plain.R, rtol=2e-2, atol=0.1)
    np.testing.assert_allclose(row["mixture_variation"], plain.V, **near)
    np.testing.assert_allclose(row["reach"], list(plain.reach.values()), rtol=1e-5)
    np.testing.assert_allclose(row["error_scale"], plain.sigma, **near)
    np.testing.assert_allclose(row["error_lately"], plain.lately, **near)
    np.testing.assert_allclose(row["slot_spread"], plain.v, **near)
    if method.full:
        np.testing.assert_allclose(row["unrest_means"], [mean.m for mean in plain.sizes], **near)
        np.testing.assert_allclose(row["unrest_gain"], plain.follows, rtol=2e-2, atol=2e-2)
        np.testing.assert_allclose(row["unrest_known"], plain.known_of, rtol=2e-2)
        unrest = [row["unrest"][o % kept] for o in waiting]
        np.testing.assert_allclose(unrest, [plain.unrest[o] for o in waiting], rtol=2e-2)
    np.testing.assert_allclose(row["median_worse"], plain.D, **near)
    assert bool(row["below_floor"]) == plain.below
    factors = row["slot_factor"] / factor_kept(method)[1]
    np.testing.assert_allclose(factors, [[u[s] for s in sorted(u)] for u in plain.u], **near)
    np.testing.assert_allclose(row["quantile"], plain.q, atol=2e-2)
    deviation = np.diff(plain.z).std()
    least = 0.1 if name == "constant, then not" else 0.3  # it hardly moves while its scale is that of no change
    assert np.quantile(np.abs(forecasts.mean - means), 0.999) < 1e-3 * deviation
    assert np.quantile(np.abs(forecasts.quantiles - quantiles), 0.99) < 1e-2 * deviation
    assert (np.abs(means[-len(plain.z) :] - np.array(plain.z)[:, None]) > 0.01 * deviation).mean() > least, (
        "else nothing was compared"
    )


def test_these_logs_have_what_they_are_for() -> None:
    def end(name: str) -> Plain:
        method, times, values, given = LOGS[name]
        plain = Plain(method, shard_of(method).network)
        rows = given if given is not None else np.zeros((len(values), 0))
        for t, v, g in zip(times, values, rows, strict=True):
            plain.take(int(t), float(v), tuple(map(float, g)))
        return plain

    spikes = end("daily and weekly, spikes")
    held = np.array(spikes.z) != LOGS["daily and weekly, spikes"][2]
    assert 3 < held.sum() < 20
    assert end("nights missing").season.merit > 0.05
    assert [end(n).season.kind for n in ("every day", "every month")] == ["week", "none"]
    ended = end("a trend that ends")
    assert (ended.L > 2 * ended.L0).any(), "the guard withholds something"
    for name in ("trends that stop and start", "a tank that runs empty"):
        assert any(drift.least < 0.5 for drift in end(name).drifts), name
    covariates = end("covariates")
    assert np.abs(covariates.Ac.W[:, -4:]).max() > 1e-3


@pytest.mark.parametrize(
    ("kept", "allowed"),
    [
        ({"fine_rings": True}, 1e-4),
        ({"fine_rings": False}, 1e-3),
        ({"fine_rings": False, "profile": "lite", "hidden_size": 64}, 2e-2),
    ],
    ids=["float32", "fewer bits", "lite"],
)
@pytest.mark.parametrize("name", ["walk", "New York"])
def test_forecasts_agree_to_a_thousandth_of_a_deviation(name: str, kept: dict[str, Any], allowed: float) -> None:
    """At the 99.9th percentile; to 1e-4 where what waits for labels is kept in float32 instead of fewer bits."""
    if name == "walk":
        values = np.cumsum(np.random.default_rng(14).normal(size=1500))
        times = hourly(1500)
    else:
        some = [e for e in newyork.events() if e.stream == "JFK.temp" and e.value is not None][:1500]
        values, times = np.array([e.value for e in some]), np.array([e.time_ms for e in some])
    _, forecasts, _, means, quantiles = both(replace(METHOD, **kept), times, values)
    deviation = values.std()
    assert np.quantile(np.abs(forecasts.mean - means), 0.999) < allowed * deviation
    assert np.quantile(np.abs(forecasts.quantiles - quantiles)[100:], 0.999) < 10 * allowed * deviation


def test_network_error_is_the_networks_own_beside_naive() -> None:
    _, forecasts, plain, _, _ = both(METHOD, hourly(200), walk(15, 200))
    assert np.isnan(forecasts.network_error[:21]).all()
    for n in range(22, 200):
        o, z = plain.origin[n - 1], plain.z[n - 1]
        said = z + o["N"][0] * o["c"][0]
        unit = (forecasts.value[n] - z) / forecasts.naive[n, 0] if forecasts.naive[n, 0] else np.nan
        if np.isfinite(unit):
            assert forecasts.network_error[n] == pytest.approx((forecasts.value[n] - said) / unit, rel=1e-4, abs=1e-4)
    assert (forecasts.network_error[30:] != forecasts.error[30:, 0]).any()


def test_a_spike_that_goes_back_is_held_once_the_stream_is_known_for_it() -> None:
    """And a jump that stays is followed at once where jumps stay."""
    n, rng = 400, np.random.default_rng(16)
    calm = 0.1 * rng.normal(size=n)
    spiky, jumpy = calm.copy(), calm.copy()
    spiky[40::20] += 30
    for start in range(40, n, 40):
        jumpy[start:] += 30 * (-1) ** (start // 40)
    one = fold(shard_of(METHOD), [Record(i, "a", HOUR * i, 0, float(v)) for i, v in enumerate(spiky)])
    at = np.arange(300, 400, 20)
    assert np.abs(one.mean[at]).max() < 15, "held: the forecast is not at the spike"
    assert (one.value[at] > 20).all(), "what is reported is the raw value"
    assert (np.abs(one.error[at, 0]) > 1).all(), "and so is what is scored"
    other = fold(shard_of(METHOD), [Record(i, "a", HOUR * i, 0, float(v)) for i, v in enumerate(jumpy)])
    assert np.abs(other.mean[360] - jumpy[360]).max() < 15


def test_nobody_is_heard_at_a_horizon_before_its_first_label() -> None:
    """A network that learnt of strangers speaks at once; a stream's first forecasts a day ahead are the last value."""
    records = [Record(i, "a", HOUR * i, 0, float(v)) for i, v in enumerate(walk(17, 100))]
    said = fold(shard_of(METHOD), records)
    assert np.array_equal(said.mean[:23, -1], said.value[:23]), "the season says so too: it is the same slot"
    assert (said.mean[24:, -1] != said.value[24:]).all()
    assert (said.mean[2:20, 0] != said.value[2:20]).all(), "one step ahead labels come soon"


def test_a_stream_that_stood_still_at_first_does_not_believe_a_strangers_network_either() -> None:
    """Forecasts of no change have no scale, so no label ever says what they were worth: they are not counted."""
    method, quiet = METHOD, 130
    value = 50 + np.cumsum(np.random.default_rng(1).normal(size=200) * (np.arange(200) >= quiet))
    records = [Record(i, "a", HOUR * i, 0, float(v)) for i, v in enumerate(value)]
    silent, speaks = (
        fold(Shard(method, network, 0, {}), records).mean for network in (Network(Shape.of(method)), restless(method))
    )
    for j, h in enumerate(method.horizons[1:], 1):
        assert np.array_equal(silent[quiet : quiet + h, j], speaks[quiet : quiet + h, j])
        assert (silent[quiet + h + 1 :, j] != speaks[quiet + h + 1 :, j]).any()
