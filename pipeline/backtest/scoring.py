"""How good forecasts were, as their labels come: per stream and horizon, beside the last value and single experts."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from pipeline.arrays import Floats, Ints
from pipeline.forecasts import Forecasts, joined
from pipeline.method import Method
from pipeline.parts.experts import part_names

AT_ONCE = 1_000  # forecasts: scoring costs by the call


@dataclass
class Tally:
    """Sums over one stream's scored forecasts, by horizon, in the target's own units."""

    events: int  # accepted, scored or not
    n: Floats  # (Z,)
    squared: Floats  # (Z,)
    absolute: Floats  # (Z,)
    naive_squared: Floats  # (Z,) of the last value
    naive_absolute: Floats  # (Z,)
    inside: Floats  # (Z, bands)
    pinball: Floats  # (Z,) mean over the levels
    parts_squared: Floats  # (Z, X) of single parts of the method, in the order of `part_names`; X may be 0
    parts_absolute: Floats  # (Z, X)

    @classmethod
    def blank(cls, method: Method, parts: int) -> "Tally":
        """A tally of which nothing is scored yet."""
        n, squared, absolute, naive_squared, naive_absolute, pinball = np.zeros((6, len(method.horizons)))
        inside = np.zeros((len(method.horizons), method.bands))
        each = np.zeros((2, len(method.horizons), parts))
        return cls(0, n, squared, absolute, naive_squared, naive_absolute, inside, pinball, *each)

    @property
    def skill(self) -> Floats:
        """(Z,) 1 - squared error / that of the last value; NaN where the last value was never wrong."""
        return self._skill(self.squared)

    @property
    def parts_skill(self) -> Floats:
        """(Z, X) the same for single parts."""
        return np.stack([self._skill(part) for part in self.parts_squared.T], axis=1)

    def _skill(self, squared: Floats) -> Floats:
        right = self.naive_squared == 0
        return np.where(right, np.nan, 1 - squared / np.where(right, 1, self.naive_squared))

    @property
    def coverage(self) -> Floats:
        """(Z, bands) share of labels inside; NaN where nothing was scored."""
        n = np.where(self.n > 0, self.n, np.nan)
        return self.inside / n[:, None]


Tallies = dict[str, Tally]  # by stream


class Trace(NamedTuple):
    """A stream's last events, and their forecasts for the shortest and for the longest horizon."""

    time_ms: Ints  # (n,)
    value: Floats  # (n,)
    mean: Floats  # (n, 2)
    quantiles: Floats  # (n, 2, Q)


ENDS = [0, -1]  # of the horizons


class _Stream:
    """A stream's tally, and its last forecasts, which wait for their labels."""

    def __init__(self, method: Method, parts: int) -> None:
        z, q = len(method.horizons), len(method.quantiles)
        self.tally = Tally.blank(method, parts)
        self.value, self.mean = np.zeros(0), np.zeros((0, z))
        self.quantiles, self.parts = np.zeros((0, z, q)), np.zeros((0, z, parts))


class Scoring:
    """Scores forecasts made at event indices `first` <= i < `last` of their stream, as their labels come.

    `traces` keeps each stream's last `keep` events among them and their labels.
    """

    def __init__(self, method: Method, first: int = 0, last: int | None = None, keep: int = 0) -> None:
        self.method, self.first, self.last, self.keep = method, first, last, keep
        self._traces: dict[str, Trace] = {}
        self._streams: dict[str, _Stream] = {}
        self._tallies: Tallies = {}
        self._taken: list[Forecasts] = []  # and not scored yet
        self._waiting = 0  # forecasts in them

    def take(self, forecasts: Forecasts) -> None:
        """The next forecasts of any partition, each stream's in order."""
        if forecasts.name:
            self._taken.append(forecasts)
            self._waiting += len(forecasts.name)
        if self._waiting >= AT_ONCE:
            self._score()

    @property
    def tallies(self) -> Tallies:
        """Tallies of all forecasts that were taken."""
        if self._taken:
            self._score()
        return self._tallies

    @property
    def traces(self) -> dict[str, Trace]:
        """Of all that was taken, by stream."""
        if self._taken:
            self._score()
        return self._traces

    def _score(self) -> None:
        forecasts = joined(self._taken)
        self._taken, self._waiting = [], 0
        places: dict[str, list[int]] = {}
        for place, name in enumerate(forecasts.name):
            places.setdefault(name, []).append(place)
        for name, mine in places.items():
            if name not in self._streams:
                self._streams[name] = _Stream(self.method, forecasts.parts.shape[2])
                self._tallies[name] = self._streams[name].tally
            if self.keep:
                self._remember(name, forecasts, mine)
            self._take(
                self._streams[name], forecasts.value[mine], forecasts.mean[mine], forecasts.quantiles[mine],
                forecasts.parts[mine],
            )  # fmt: skip

    def _remember(self, name: str, forecasts: Forecasts, mine: list[int]) -> None:
        start = self._tallies[name].events  # event index of the first of them
        end = None if self.last is None else max(self.last + self.method.longest - start, 0)
        mine = mine[max(self.first - start, 0) : end]
        new = Trace(
            forecasts.time_ms[mine], forecasts.value[mine], forecasts.mean[mine][:, ENDS],
            forecasts.quantiles[mine][:, ENDS],
        )  # fmt: skip
        if name in self._traces:
            new = Trace._make(np.concatenate(pair) for pair in zip(self._traces[name], new, strict=True))
        self._traces[name] = Trace._make(array[-self.keep :] for array in new)

    def _take(self, stream: _Stream, value: Floats, mean: Floats, quantiles: Floats, parts: Floats) -> None:
        tally, longest, waiting = stream.tally, self.method.longest, len(stream.value)
        value = np.concatenate([stream.value, value])
        mean = np.concatenate([stream.mean, mean])
        quantiles = np.concatenate([stream.quantiles, quantiles])
        parts = np.concatenate([stream.parts, parts])
        start = tally.events - waiting  # event index of value[0]
        tally.events = start + len(value)
        for j, h in enumerate(self.method.horizons):
            low = max(waiting - h, 0, self.first - start)
            high = len(value) - h if self.last is None else min(len(value) - h, self.last - start)
            if low < high:
                self._add(tally, j, value[low + h : high + h], value[low:high], mean[low:high, j],
                          quantiles[low:high, j], parts[low:high, j])  # fmt: skip
        stream.value, stream.mean = value[-longest:], mean[-longest:]
        stream.quantiles, stream.parts = quantiles[-longest:], parts[-longest:]

    def _add(
        self, tally: Tally, j: int, label: Floats, last: Floats, mean: Floats, quantiles: Floats, parts: Floats
    ) -> None:
        error, naive = label - mean, label - last
        tally.n[j] += len(label)
        tally.squared[j] += error @ error
        tally.absolute[j] += np.abs(error).sum()
        tally.naive_squared[j] += naive @ naive
        tally.naive_absolute[j] += np.abs(naive).sum()
        for k in range(self.method.bands):
            tally.inside[j, k] += ((quantiles[:, k] <= label) & (label <= quantiles[:, -1 - k])).sum()
        off = label[:, None] - parts  # (n, X)
        tally.parts_squared[j] += (off * off).sum(axis=0)
        tally.parts_absolute[j] += np.abs(off).sum(axis=0)
        above = label[:, None] - quantiles  # (n, Q)
        tally.pinball[j] += np.maximum(self.method.levels * above, (self.method.levels - 1) * above).mean(axis=1).sum()


def scores(tallies: Tallies, method: Method, without: Tallies | None = None) -> dict[str, object]:
    """`streams` and `overall` as JSON has them; a horizon without labels is left out, a number that is none is null.

    `without` are those of the same method with a network that says nothing. Overall, skill is the mean over streams, so
    that no stream's units outweigh another's; coverage is over all labels.
    """
    streams = {
        name: {
            "events": tally.events,
            "horizons": {
                str(h): _horizon(tally, j, method, None if without is None else without[name])
                for j, h in enumerate(method.horizons)
                if tally.n[j] > 0
            },
        }
        for name, tally in tallies.items()
    }
    return {"streams": streams, "overall": _overall(tallies, method, without)}


def _horizon(tally: Tally, j: int, method: Method, without: Tally | None) -> dict[str, object]:
    n = tally.n[j]

    def errors(squared: float, absolute: float) -> dict[str, float]:
        return {"mse": float(squared / n), "mae": float(absolute / n)}

    pairs = zip(tally.parts_squared[j], tally.parts_absolute[j], strict=True)
    parts = {name: errors(*pair) for name, pair in zip(part_names(method), pairs, strict=False)}
    if without is not None:
        parts["without_network"] = errors(without.squared[j], without.absolute[j])
    return {
        "n": int(n),
        **errors(tally.squared[j], tally.absolute[j]),
        "last_value": errors(tally.naive_squared[j], tally.naive_absolute[j]),
        **_apart(parts),
        "coverage": _by_level(tally.coverage[j], method),
        "pinball": float(tally.pinball[j] / n),
    }


def _apart(parts: dict[str, Any]) -> dict[str, Any]:
    """The seasonal naive stands beside the last value: both are what the method must beat, the rest is its own."""
    return {name: parts.pop(name) for name in ("seasonal",) if name in parts} | ({"experts": parts} if parts else {})


def _overall(tallies: Tallies, method: Method, without: Tallies | None) -> dict[str, object]:
    horizons: dict[str, object] = {}
    skills = mean_skills(tallies, method, without)
    inside = coverage(tallies)
    for j, h in enumerate(method.horizons):
        n = sum(t.n[j] for t in tallies.values())
        if n:
            skill = {name: None if np.isnan(row[j]) else float(row[j]) for name, row in skills.items()}
            mine, parts = skill.pop(WHOLE), {name: {"skill": s} for name, s in skill.items()}
            horizons[str(h)] = {
                "n": int(n), "skill": mine, **_apart(parts), "coverage": _by_level(inside[j], method),
            }  # fmt: skip
    return {"events": sum(t.events for t in tallies.values()), "horizons": horizons}


def worst_first(tallies: Tallies) -> list[str]:
    """The streams by mean skill over horizons; those without any come last."""

    def worth(name: str) -> float:
        skill = tallies[name].skill
        some = skill[~np.isnan(skill)]
        return float(some.mean()) if len(some) else math.inf

    return sorted(tallies, key=worth)


def coverage(tallies: Tallies) -> Floats:
    """(Z, bands) share of all labels inside; NaN where there is none."""
    n = np.sum([tally.n for tally in tallies.values()], axis=0)
    inside: Floats = np.sum([tally.inside for tally in tallies.values()], axis=0)
    return inside / np.where(n > 0, n, np.nan)[:, None]


WHOLE = "forecast"  # what is published, among its parts


def mean_skills(tallies: Tallies, method: Method, without: Tallies | None = None) -> dict[str, Floats]:
    """(Z,) mean over streams of the skill of the forecast, of its single parts, and of what it is without network."""
    each = {WHOLE: [t.skill for t in tallies.values()]}
    for x, name in enumerate(part_names(method)):
        each[name] = [t.parts_skill[:, x] for t in tallies.values() if x < t.parts_squared.shape[1]]
    if without is not None:
        each["without_network"] = [t.skill for t in without.values()]
    return {name: _mean(np.stack(rows)) for name, rows in each.items() if rows}


def _mean(skill: Floats) -> Floats:
    """(streams, Z) -> (Z,) over the streams that have one; NaN where none has."""
    some = ~np.isnan(skill)
    return np.where(some.any(0), np.where(some, skill, 0).sum(0) / np.maximum(some.sum(0), 1), np.nan)


def _by_level(coverage: Floats, method: Method) -> dict[str, float]:
    return {str(level): float(c) for level, c in zip(method.band_levels, coverage, strict=True)}
