"""The oracles of the synthetic regimes are what they say, and so are the figures by them."""

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.method import Method
from tests.bench import bench_ends, bench_regimes
from tests.bench.bench_regimes import figures, losses
from tests.bench.regimes import REGIMES, Stream, after

METHOD = Method()
REPLICATES = 5


def foreseen(stream: Stream, h: int) -> np.ndarray:
    """(n,) origins with a label, and nothing in between that the oracle does not foresee."""
    n = len(stream.value) - h
    return np.array([not stream.changed[i + 1 : i + h + 1].any() for i in range(n)])


@pytest.mark.parametrize("name", REGIMES)
def test_the_same_seed_makes_the_same_streams(name: str):
    once, more = (REGIMES[name].sample(name, replicates, METHOD.horizon_array) for replicates in (1, 2))
    for a, b in zip(once, more, strict=False):
        assert a.time_ms.tolist() == b.time_ms.tolist()
        assert a.value.tobytes() == b.value.tobytes()
        assert a.mean.tobytes() == b.mean.tobytes()
    assert len(more) == 2 * len(once)
    assert more[-1].value.tobytes() != more[0].value.tobytes()


@pytest.mark.parametrize("name", REGIMES)
def test_the_oracles_error_is_the_noise_that_was_put_in(name: str):
    streams = REGIMES[name].sample(name, REPLICATES, METHOD.horizon_array)
    for j, h in enumerate(METHOD.horizons):
        origins = [foreseen(stream, h) for stream in streams]
        error, moved, spread = (
            np.concatenate([what[: len(o)][o] for what, o in zip(each, origins, strict=True)])
            for each in (
                [s.value[h:] - s.mean[:-h, j] for s in streams],
                [s.mean[:-h, j] - s.value[:-h] for s in streams],
                [s.spread[:, j] for s in streams],
            )
        )
        assert abs(error.mean()) < 0.05 * np.sqrt((moved**2).mean()) + 0.05 * error.std(), h
        assert abs((error @ moved) / (moved @ moved)) < 0.1, "no multiple of its move would be better"
        if not np.isnan(spread).any():
            assert np.mean((error / spread) ** 2) == pytest.approx(1, abs=0.1), h


def test_a_window_is_the_events_after_a_change():
    changes = np.zeros(20, bool)
    changes[[3, 10]] = True
    assert np.flatnonzero(after(changes, 0, 2)).tolist() == [3, 4, 10, 11]
    assert np.flatnonzero(after(changes, 5, 9)).tolist() == [8, 9, 15, 16, 17, 18]
    stream, *_ = REGIMES["level-shifts"].sample("level-shifts", 1, METHOD.horizon_array)
    jumps = np.flatnonzero(np.abs(np.diff(stream.value)) > 15) + 1
    assert np.flatnonzero(stream.windows["shift, 12-24"]).tolist() == [i + k for i in jumps for k in range(12, 24)]


def test_the_windows_of_a_trend_tell_its_start_from_its_end():
    stream, *_ = REGIMES["trends"].sample("trends", 1, METHOD.horizon_array)
    slope = np.abs(stream.mean[:, -1] - stream.mean[:, 0]) / 23
    assert np.allclose(slope[stream.windows["start, 0-24"]], 0.4)
    assert np.allclose(slope[stream.windows["stop, 0-12"]], 0)


def test_who_is_told_of_trends_weighs_each_end_by_its_odds():
    stream, *_ = REGIMES["trends"].sample("trends", 1, np.arange(1, 25))
    first, stop, *_ = np.flatnonzero(stream.changed)
    made = bench_ends.told(stream, every=100)
    assert np.isnan(made[:first]).all()
    slope = (stream.mean[first, -1] - stream.mean[first, 0]) / 23
    for origin in (first, stop - 1, stop + 3, stop + 9, stop + 60):
        seen, ahead = np.arange(origin - first + 1), origin - first + 24
        odds, levels = [], []
        for end in range(1, ahead + 2):  # the first event that is as high as the one before
            path = stream.mean[first, 0] + slope * (np.minimum(seen, end - 1) - 1)
            fits = np.exp(-((stream.value[first : origin + 1] - path) ** 2).sum() / 2)
            odds.append(fits * 0.99 ** (end - 1) * (0.01 if end <= ahead else 1))
            levels.append(stream.mean[first, 0] + slope * (end - 2))
        assert made[origin] == pytest.approx(np.average(levels, weights=odds), abs=1e-6)


@pytest.mark.parametrize("name", ["5-minute-day", "level-shifts", "noise-blocks"])
def test_whoever_forecasts_as_the_oracle_is_scored_as_it_is(name: str):
    stream, *_ = REGIMES[name].sample(name, 1, METHOD.horizon_array)
    every = np.ones(len(stream.value), bool)
    quantiles = stream.mean[:, :, None] + stream.spread[:, :, None] * METHOD.normal_quantiles
    for j in range(len(METHOD.horizons)):
        scored = figures([losses(stream, (stream.mean, quantiles), METHOD, j)], [every])
        assert scored["mse"] == scored["oracle mse"] < 1
        assert scored["rmse by oracle"] == scored["pinball by oracle"] == 1
        assert scored["inside 80%"] == pytest.approx(0.8, abs=0.05)
        assert scored["below 0"] == 0


def test_whoever_forecasts_the_last_value_errs_as_it_does():
    stream, *_ = REGIMES["meter-resets"].sample("meter-resets", 1, METHOD.horizon_array)
    mean = np.repeat(stream.value[:, None], len(METHOD.horizons), axis=1)
    quantiles = mean[:, :, None] + np.array([-1e9, -1, 0, 1, 1e9])
    early = np.arange(len(stream.value)) < 100
    for j in range(len(METHOD.horizons)):
        scored = figures([losses(stream, (mean, quantiles), METHOD, j)], [early])
        assert scored["mse"] == scored["mae"] == scored["median mae"] == 1
        assert scored["inside 95%"] == scored["below 0"] == 1


def test_the_bench_measures_a_regime(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture):
    monkeypatch.setitem(REGIMES, "tiny", REGIMES["level-shifts"]._replace(events=1_000))
    out = tmp_path / "regimes.json"
    given = ["--regime", "tiny", "--replicates", "2", "--json", str(out)]
    given += ["--set", "model.horizons=[1, 3]", "model.hidden_size=8", "fine_tune.window=8"]
    bench_regimes.main(given)
    table = json.loads(out.read_text())["regimes"]["tiny"]
    assert list(table[""]) == ["1", "3"]
    assert 0.5 < table[""]["3"]["mse"] / table[""]["3"]["oracle mse"] < 20
    assert 0.6 < table[""]["3"]["inside 80%"] < 0.95
    assert table["shift, 0-12"]["3"]["rmse by oracle"] > table[""]["3"]["rmse by oracle"]
    assert "  shift, 12-24" in capsys.readouterr().out
