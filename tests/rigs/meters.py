"""Hourly readings of meters that a program makes, and what spoils readings: sentinels and spikes at a known rate."""

import numpy as np

from pipeline.arrays import Floats

HOUR_MS = 3_600_000
BEGIN_S = 1_600_300_800  # whole weeks since 1970
METERS, N = 3, 15_667
SENTINELS, SPIKES = 41, 86  # in as many readings as all meters have


def meters(seed: int) -> tuple[Floats, Floats]:
    """(N, METERS) hourly readings with the shape of a day and of a week, and how far they are from it."""
    rng, t = np.random.default_rng(seed), np.arange(N)[:, None]
    hour = 2 * np.pi * (t - rng.integers(24, size=METERS)) / 24
    noise = 0.25 * rng.normal(size=(N, METERS))
    for i in range(1, N):
        noise[i] += 0.93 * noise[i - 1]
    shape = 3 + 0.5 * np.sin(hour) + 0.2 * np.sin(2 * hour) + 0.3 * (t // 24 % 7 >= 5)
    unit = rng.uniform(0.5, 2, METERS)
    return np.maximum(shape + noise, 0.05) * unit, noise * unit


def spoilt(readings: Floats, seed: int) -> Floats:
    """The same with sentinels, and spikes of 20 to 60 times, as many of each as the rate says."""
    rng, made = np.random.default_rng(seed), readings.copy()
    sentinels, spikes = (round(made.size * many / (N * METERS)) for many in (SENTINELS, SPIKES))
    places = rng.choice(made.size, sentinels + spikes, replace=False)
    flat = made.reshape(-1)
    flat[places[:sentinels]] = -9999
    flat[places[sentinels:]] *= rng.uniform(20, 60, spikes)
    return made
