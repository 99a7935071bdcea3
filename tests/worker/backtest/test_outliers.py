"""Sentinels and spikes do not decide what a back-test says: 41 of -9999 and 86 spikes in 47,000 meter readings."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.arrays import Floats
from pipeline.backtest.scores import overall_skill, scores
from pipeline.backtest.scoring import Scoring
from pipeline.backtest.tally import LAST, Tally
from pipeline.forecasts import Forecasts
from pipeline.method import Method
from tests.rigs.meters import BEGIN_S, HOUR_MS, METERS, SENTINELS, SPIKES, N, meters, spoilt
from worker.__main__ import main

METHOD = Method(horizons=(1, 6, 24))


def told(readings: Floats, clean: Floats, noise: Floats) -> Tally:
    """Scores of one who knows the shape, and takes no notice of what is spoilt; scales are those of clean changes."""
    scoring = Scoring(METHOD)
    forecasts = Forecasts.blank(N, METHOD)._replace(name=["meter"] * N)
    events = forecasts.events
    events["time_ms"], events["value"] = np.arange(N) * HOUR_MS, readings
    events["error"] = events["naive"] = events["error_scale"] = np.nan
    events["quantiles"] = 0
    for j, h in enumerate(METHOD.horizons):
        scale = np.sqrt(np.mean((clean[h:] - clean[:-h]) ** 2))
        events["mean"][:, j] = np.roll(clean - noise, -h) + 0.93**h * noise
        events["error_scale"][h:, j] = scale
        events["error"][h:, j] = (readings[h:] - events["mean"][:-h, j]) / scale
        events["naive"][h:, j] = (readings[h:] - readings[:-h]) / scale
    scoring.take(forecasts)
    return scoring.tallies["meter"]


@pytest.mark.parametrize("seed", range(5))
def test_skill_of_the_same_forecasts_is_the_same_with_and_without(seed: int) -> None:
    clean, noise = meters(seed)
    dirty = spoilt(clean, seed)
    for k in range(METERS):
        one = told(clean[:, k], clean[:, k], noise[:, k])
        other = told(dirty[:, k], clean[:, k], noise[:, k])
        assert other.outliers == pytest.approx(np.sum(clean[:, k] != dirty[:, k]), rel=0.1, abs=3)
        assert (one.skill > 0.05).all()
        np.testing.assert_allclose(other.skill, one.skill, atol=0.01)
        mse: Any = scores({"a": other}, METHOD)["streams"]["a"]["horizons"]["1"]["mse"]
        assert mse > 1000, "raw errors have all of it"
    assert np.isnan(overall_skill({}))


@pytest.mark.parametrize("transform", ["none", "log"])
def test_errors_of_one_alone_end_at_ten_scales(transform: Any) -> None:
    """A jump that is foreseen is no outlier: the last value's error counts, but not for more than that."""
    method = Method(horizons=(1,), transform=transform)
    scoring, n = Scoring(method), 50
    forecasts = Forecasts.blank(n, method)._replace(name=["meter"] * n)
    events = forecasts.events
    value = np.where(np.arange(n) < 30, 1.0, 1000.0)
    events["time_ms"], events["value"], events["quantiles"] = np.arange(n) * HOUR_MS, value, 0
    events["mean"][:, 0], events["error_scale"] = np.roll(value, -1) + 0.5, 0.1
    events["error"], events["naive"] = 0, 0
    events["naive"][30] = 999 / 0.1 if transform == "none" else np.log(1000) / 0.1
    scoring.take(forecasts)
    cut = 10 * 0.1 if transform == "none" else 999 * 10 * 0.1 / np.log(1000)
    assert scoring.tallies["meter"].skill == pytest.approx(1 - 49 * 0.25 / cut**2, rel=0.3)
    assert scoring.tallies["meter"].capped[0, LAST] == pytest.approx(cut**2)


@pytest.mark.timeout(400)
def test_a_back_test_of_spoilt_readings_says_what_it_says_of_clean_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOLDCAST_FINE_TUNE__ENABLED", "false")
    clean, _ = meters(1)
    path, out, heard = tmp_path / "meters.csv", tmp_path / "scores.json", []
    for readings in (clean, spoilt(clean, 1)):
        rows = (f"{BEGIN_S + 3600 * i},{','.join(map(repr, row))}\n" for i, row in enumerate(readings.tolist()))
        path.write_text("time," + ",".join(f"m{k}" for k in range(METERS)) + "\n" + "".join(rows))
        assert main(["backtest", str(path), "--json", str(out)]) == 0
        heard.append((capsys.readouterr().out, json.loads(out.read_text())["streams"]))
    (said, _), (said_spoilt, streams) = heard
    skill, skill_spoilt = (
        [float(cell) for line in lines.splitlines() if line.startswith("mean of all") for cell in line.split()[3:]]
        for lines in (said, said_spoilt)
    )
    assert min(skill) > 0.1
    assert skill_spoilt == pytest.approx(skill, abs=0.03)
    assert "sentinel" not in said
    assert said_spoilt.count("-9999 (") == METERS
    assert sum(stream["sentinels"]["-9999"] for stream in streams.values()) == SENTINELS
    assert sum(stream["spikes"] for stream in streams.values()) > 0.6 * SPIKES, "small readings have small spikes"
