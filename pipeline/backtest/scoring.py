"""How good forecasts were, as their labels come: per stream and horizon, beside the last value and single experts.

Skill counts errors as the live metrics do, capped; it leaves out outliers, as labels and as origins, and labels of a
stream that is too young to have scales. Everything else counts all.
"""

from typing import NamedTuple, Protocol

import numpy as np

from pipeline.arrays import Floats, Ints
from pipeline.backtest.seasonal import Season, season_of, seasonal_naive
from pipeline.backtest.tally import Tallies, Tally
from pipeline.forecasts import LARGEST, Forecasts, joined, outlying
from pipeline.method import Method

AT_ONCE = 1_000  # forecasts: scoring costs by the call
ENDS = [0, -1]  # of the horizons
ROOM = 64  # events of a stream at first


class Trace(NamedTuple):
    """A stream's last events, and their forecasts for the shortest and for the longest horizon."""

    time_ms: Ints  # (n,)
    value: Floats  # (n,)
    mean: Floats  # (n, 2)
    quantiles: Floats  # (n, 2, Q)


class Scored(NamedTuple):
    """Forecasts of one stream and horizon whose labels came."""

    stream: str
    horizon: int
    made_ms: Ints  # (n,) times of the events that they were made at
    time_ms: Ints  # (n,) and of their labels
    label: Floats  # (n,)
    mean: Floats  # (n,)
    quantiles: Floats  # (n, Q)


class Sink(Protocol):
    """What takes every forecast that is scored."""

    def __call__(self, scored: Scored) -> None:
        """Take the next ones."""


class History:
    """All events of a stream, 16 bytes each: the seasonal naive looks back as far as a season is long."""

    def __init__(self) -> None:
        self._events = np.zeros(ROOM, [("time_ms", "i8"), ("value", "f8")])
        self._n = 0

    def append(self, time_ms: Ints, value: Floats) -> None:
        """The next events, (n,) each."""
        end = self._n + len(value)
        if end > len(self._events):
            self._events = np.resize(self._events, 2 * end)
        self._events["time_ms"][self._n : end], self._events["value"][self._n : end] = time_ms, value
        self._n = end

    @property
    def time_ms(self) -> Ints:
        """(n,) event times."""
        return self._events["time_ms"][: self._n]

    @property
    def value(self) -> Floats:
        """(n,) values as they came."""
        return self._events["value"][: self._n]


class _Stream:
    """A stream's tally, its history, and its last forecasts, which wait for their labels."""

    def __init__(self, name: str, forecasts: Forecasts) -> None:
        self.name, self.history, self.season = name, History(), Season()
        self.known = False  # whether the season is settled
        self.waiting = forecasts._replace(events=forecasts.events[:0], parts=forecasts.parts[:0])


class Scoring:
    """Scores forecasts made at event indices `first` <= i < `last` of their stream, as their labels come.

    `traces` keeps each stream's last `keep` events among them and their labels; `sink` is handed all that is scored.
    """

    def __init__(
        self, method: Method, first: int = 0, last: int | None = None, keep: int = 0, sink: Sink | None = None
    ) -> None:
        self.method, self.first, self.last, self.keep, self.sink = method, first, last, keep, sink
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
        self._score()
        return self._tallies

    @property
    def traces(self) -> dict[str, Trace]:
        """Of all that was taken, by stream."""
        self._score()
        return self._traces

    @property
    def histories(self) -> dict[str, History]:
        """All events that were taken, by stream."""
        self._score()
        return {name: stream.history for name, stream in self._streams.items()}

    def _score(self) -> None:
        if not self._taken:
            return
        forecasts = joined(self._taken)
        self._taken, self._waiting = [], 0
        places: dict[str, list[int]] = {}
        for place, name in enumerate(forecasts.name):
            places.setdefault(name, []).append(place)
        for name, mine in places.items():
            if name not in self._streams:
                self._streams[name] = _Stream(name, forecasts)
                self._tallies[name] = Tally.blank(self.method, forecasts.parts.shape[2])
            if self.keep:
                self._remember(name, forecasts, mine)
            mine_only = forecasts._replace(events=forecasts.events[mine], parts=forecasts.parts[mine])
            self._take(self._streams[name], self._tallies[name], mine_only)

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

    def _take(self, stream: _Stream, tally: Tally, new: Forecasts) -> None:
        stream.history.append(new.time_ms, new.value)
        if not stream.known and (season := season_of(stream.history.time_ms, self.method)) is not None:
            stream.known, stream.season = True, season
        tally.outliers += int(outlying(new).sum())
        waiting = len(stream.waiting.events)
        every = stream.waiting._replace(
            events=np.concatenate([stream.waiting.events, new.events]),
            parts=np.concatenate([stream.waiting.parts, new.parts]),
        )
        start = tally.events - waiting  # event index of the first
        tally.events = start + len(every.events)
        for j, h in enumerate(self.method.horizons):
            low = max(waiting - h, 0, self.first - start)
            high = len(every.events) - h
            if self.last is not None:
                high = min(high, self.last - start)
            if low < high:
                self._add(stream, tally, every, j, np.arange(low, high), start)
        longest = self.method.longest
        stream.waiting = every._replace(events=every.events[-longest:].copy(), parts=every.parts[-longest:].copy())

    def _add(self, stream: _Stream, tally: Tally, every: Forecasts, j: int, made: Ints, start: int) -> None:
        """Score the forecasts made at places `made` (n,) of `every`, the first of which is event `start`."""
        h = self.method.horizons[j]
        due = made + h
        label, mean, quantiles = every.value[due], every.mean[made, j], every.quantiles[made, j]
        seen = stream.history
        naive = seasonal_naive(seen.value, seen.time_ms, made + start, h, stream.season)
        by = np.concatenate([np.stack([mean, every.value[made], naive], axis=1), every.parts[made, j]], axis=1)
        error = label[:, None] - by  # (n, F), as FORECAST, LAST, SEASONAL and PARTS have it
        tally.n[j] += len(label)
        tally.squared[j] += (error * error).sum(axis=0)
        tally.absolute[j] += np.abs(error).sum(axis=0)
        outliers = outlying(every)
        counts = ~np.isnan(every.error[due, j]) & ~outliers[due] & ~outliers[made]
        small = self._shrink(label[counts], by[counts], every.error_scale[due, j][counts]) * error[counts]
        tally.add_capped(j, made[counts] + start, small * small)
        for k in range(self.method.bands):
            low, high = quantiles[:, k], quantiles[:, -1 - k]
            tally.inside[j, k] += ((low <= label) & (label <= high)).sum()
            tally.width[j, k] += (high - low).sum()
        above = label[:, None] - quantiles  # (n, Q)
        tally.pinball[j] += np.maximum(self.method.levels * above, (self.method.levels - 1) * above).mean(axis=1).sum()
        if self.sink is not None:
            times = every.time_ms
            self.sink(Scored(stream.name, h, times[made], times[due], label, mean, quantiles))

    def _shrink(self, label: Floats, by: Floats, scale: Floats) -> Floats:
        """(n, F) the share of each error that skill counts: errors end at so many scales, which know logs only."""
        if self.method.transform == "log":
            label, by = np.log(label), np.log(np.maximum(by, np.finfo(np.float64).tiny))
        size = np.abs(label[:, None] - by)
        largest = LARGEST * scale[:, None]
        shrunk: Floats = np.divide(largest, size, out=np.ones_like(size), where=size > largest)
        return shrunk
