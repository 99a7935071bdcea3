"""Scales against a twin in plain Python, and what they do with odd series."""

import math

import numpy as np
import pytest

from pipeline.method import Method
from pipeline.parts import scales
from pipeline.records import fixed, layout
from tests.rigs.shard_rigs import events_of

METHOD = Method(horizons=(1, 3, 7))


class Ew:
    """m += max(1 / M, 1 / count) (x - m); cut at 64 m after the first twenty."""

    def __init__(self, memory: float) -> None:
        self.m, self.count, self.memory = 0.0, 0, memory

    def take(self, x: float, cut: bool = False) -> None:
        self.count += 1
        if cut and self.count > 20 and self.m > 0:
            x = min(x, 64 * self.m)
        self.m += max(1 / self.memory, 1 / self.count) * (x - self.m)


class Twin:
    """The whole past of a stream, looked at anew each time."""

    def __init__(self, horizons: tuple[int, ...]) -> None:
        self.z: list[float] = []
        self.q1, self.mean, self.variance = Ew(500), Ew(500), Ew(500)
        self.recent, self.season = Ew(200), Ew(METHOD.season_slots)
        self.qh = {h: Ew(500) for h in horizons}
        self.unit2 = 0.0

    def take(self, z: float) -> None:
        deviation = z - self.mean.m if self.z else 0.0
        for level in (self.mean, self.recent, self.season):
            level.take(z)
        self.variance.take(deviation * deviation)
        self.z.append(z)
        if len(self.z) > 1:
            d2 = (z - self.z[-2]) ** 2
            self.unit2 = min(self.unit2 or d2, d2 or self.unit2)
            self.q1.take(d2, cut=True)
        for h, q in self.qh.items():
            if len(self.z) > h:
                q.take((z - self.z[-1 - h]) ** 2, cut=True)

    @property
    def step_scale(self) -> float:
        return math.sqrt(self.q1.m + 1e-10 * self.unit2) if len(self.z) > 1 else 0.0

    def scale(self, h: int) -> float:
        q = self.qh[h]
        return math.sqrt((q.m if q.count else h * self.q1.m) + 1e-10 * self.unit2) if len(self.z) > 1 else 0.0


def walk(seed: int, n: int) -> list[float]:
    """With spikes and still stretches."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(size=n) * (rng.random(n) < 0.7)
    spikes = (rng.random(n) < 0.01) * rng.normal(0, 500, n)
    return (100 + np.cumsum(steps) + spikes).tolist()


SERIES = {
    "walk with spikes": walk(1, 1500),
    "constant": [3.5] * 60,
    "constant, then not": [0.0] * 40 + [1.0, 5.0, 2.0] * 10,
    "integers with many zeros": np.random.default_rng(2).poisson(0.1, 600).astype(float).tolist(),
    "two events": [1.0, 4.0],
    "first value far off": [1e30, *walk(3, 100)],
    "the largest": [1e36, -1e36] * 40,
    "tiny": [1e-300 * x for x in walk(4, 60)],
}


@pytest.mark.parametrize("name", SERIES)
def test_scales_are_the_twins(name: str) -> None:
    rows, twin = np.zeros(3, layout(METHOD)), Twin(METHOD.spans.tolist())
    before = rows[[0, 2]].tobytes()
    for n, z in enumerate(SERIES[name]):
        scales.learn(rows, events_of(METHOD, row=1, n=n, z=z), fixed(METHOD))
        twin.take(z)
        row = rows[1]
        levels = [twin.mean.m, twin.recent.m, twin.season.m]
        expected = [twin.step_scale, *levels, twin.variance.m, *(twin.scale(h) for h in METHOD.spans)]
        got = [row["step_scale"], row["mean"], row["recent_mean"], row["season_mean"], row["variance"], *row["scale"]]
        assert got == pytest.approx(expected, rel=1e-12, abs=0)
        assert np.isfinite(got).all()
        assert [row["values"][i % METHOD.spans.max()] for i in range(max(0, n - 6), n + 1)] == twin.z[-7:]
    assert rows[[0, 2]].tobytes() == before, "no other row is touched"


def test_one_spike_is_harmless() -> None:
    calm, spiked = np.zeros(1, layout(METHOD)), np.zeros(1, layout(METHOD))
    series = np.random.default_rng(5).normal(size=300)
    for n, z in enumerate(series):
        for rows, value in ((calm, z), (spiked, 1e6 if n == 200 else z)):
            scales.learn(rows, events_of(METHOD, row=0, n=n, z=value), fixed(METHOD))
    assert spiked["step_scale"][0] < 1.5 * calm["step_scale"][0]
    assert (spiked["scale"] < 1.5 * calm["scale"]).all()
