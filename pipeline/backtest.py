"""The same engine over records that are already there: shards advanced in file order, forecasts scored as labels come.

A stream goes to partition crc32(name) mod P. Records pass the worker's own decoder, so the same events give the same
bits as they do there.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple
from zlib import crc32

import numpy as np

from pipeline.compiled import Floats
from pipeline.events import Decoder, Rejected
from pipeline.forecasts import Forecasts
from pipeline.learner import Learner
from pipeline.method import Method
from pipeline.shard import Shard

BATCH = 20_000  # records read before the shards are advanced


class Record(NamedTuple):
    """An input record as Kafka would have it, and where it came from."""

    place: int  # in the source; a line of a file
    stream: str
    timestamp_ms: int
    value: bytes


class Refused(NamedTuple):
    """A record that is no event."""

    record: Record
    reason: str
    message: str


class Part(NamedTuple):
    """What one partition made of the records read last."""

    partition: int
    forecasts: Forecasts
    refused: list[Refused]


def partition_of(stream: str, partitions: int) -> int:
    """Where a stream lives."""
    return crc32(stream.encode()) % partitions


def backtest(
    records: Iterable[Record],
    shards: Sequence[Shard],
    decoder: Decoder,
    learners: Sequence[Learner] = (),
    batch: int = BATCH,
) -> Iterator[Part]:
    """Advance one shard per partition through records in time order, fine-tuned by its learner where it has one.

    The bits do not depend on `batch`.
    """
    waiting = iter(records)
    while some := list(islice(waiting, batch)):
        by_partition: list[list[Record]] = [[] for _ in shards]
        for record in some:
            by_partition[partition_of(record.stream, len(shards))].append(record)
        for partition, mine in enumerate(by_partition):
            low = 0
            while low < len(mine):
                high = low + learners[partition].missing() if learners else len(mine)
                yield _advance(partition, shards[partition], mine[low:high], decoder)
                low = high
                if learners:
                    learners[partition].turn()


def _advance(partition: int, shard: Shard, records: list[Record], decoder: Decoder) -> Part:
    events, rejected = decoder.decode(
        range(shard.position, shard.position + len(records)),
        [r.timestamp_ms for r in records],
        [r.stream.encode() for r in records],
        [r.value for r in records],
    )
    refused = [_refused(records, r) for r in rejected]
    return Part(partition, shard.advance(events), refused)


def _refused(records: list[Record], rejected: Rejected) -> Refused:
    return Refused(records[rejected.place], rejected.reason, rejected.message)


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

    @classmethod
    def blank(cls, method: Method) -> "Tally":
        """Nothing scored."""
        n, squared, absolute, naive_squared, naive_absolute, pinball = np.zeros((6, len(method.horizons)))
        inside = np.zeros((len(method.horizons), method.bands))
        return cls(0, n, squared, absolute, naive_squared, naive_absolute, inside, pinball)

    @property
    def skill(self) -> Floats:
        """(Z,) 1 - squared error / that of the last value; NaN where the last value was never wrong."""
        right = self.naive_squared == 0
        return np.where(right, np.nan, 1 - self.squared / np.where(right, 1, self.naive_squared))

    @property
    def coverage(self) -> Floats:
        """(Z, bands) share of labels inside; NaN where nothing was scored."""
        n = np.where(self.n > 0, self.n, np.nan)
        return self.inside / n[:, None]


class _Stream:
    """A stream's tally, and its last forecasts, which wait for their labels."""

    def __init__(self, method: Method) -> None:
        z, q = len(method.horizons), len(method.quantiles)
        self.tally = Tally.blank(method)
        self.value, self.mean, self.quantiles = np.zeros(0), np.zeros((0, z)), np.zeros((0, z, q))


class Scoring:
    """Scores forecasts made at event indices `first` <= i < `last` of their stream, as their labels come."""

    def __init__(self, method: Method, first: int = 0, last: int | None = None) -> None:
        self.method, self.first, self.last = method, first, last
        self._streams: dict[str, _Stream] = {}

    @property
    def tallies(self) -> dict[str, Tally]:
        """By stream."""
        return {name: stream.tally for name, stream in self._streams.items()}

    def take(self, forecasts: Forecasts) -> None:
        """The next forecasts of any partition, each stream's in order."""
        places: dict[str, list[int]] = {}
        for place, name in enumerate(forecasts.name):
            places.setdefault(name, []).append(place)
        for name, mine in places.items():
            if name not in self._streams:
                self._streams[name] = _Stream(self.method)
            self._take(self._streams[name], forecasts.value[mine], forecasts.mean[mine], forecasts.quantiles[mine])

    def _take(self, stream: _Stream, value: Floats, mean: Floats, quantiles: Floats) -> None:
        tally, longest, waiting = stream.tally, self.method.longest, len(stream.value)
        value = np.concatenate([stream.value, value])
        mean = np.concatenate([stream.mean, mean])
        quantiles = np.concatenate([stream.quantiles, quantiles])
        start = tally.events - waiting  # event index of value[0]
        tally.events = start + len(value)
        for j, h in enumerate(self.method.horizons):
            low = max(waiting - h, 0, self.first - start)
            high = len(value) - h if self.last is None else min(len(value) - h, self.last - start)
            if low < high:
                self._add(tally, j, value[low + h : high + h], value[low:high], mean[low:high, j],
                          quantiles[low:high, j])  # fmt: skip
        stream.value, stream.mean, stream.quantiles = value[-longest:], mean[-longest:], quantiles[-longest:]

    def _add(self, tally: Tally, j: int, label: Floats, last: Floats, mean: Floats, quantiles: Floats) -> None:
        error, naive = label - mean, label - last
        tally.n[j] += len(label)
        tally.squared[j] += error @ error
        tally.absolute[j] += np.abs(error).sum()
        tally.naive_squared[j] += naive @ naive
        tally.naive_absolute[j] += np.abs(naive).sum()
        for k in range(self.method.bands):
            tally.inside[j, k] += ((quantiles[:, k] <= label) & (label <= quantiles[:, -1 - k])).sum()
        above = label[:, None] - quantiles  # (n, Q)
        tally.pinball[j] += np.maximum(self.method.levels * above, (self.method.levels - 1) * above).mean(axis=1).sum()


def scores(tallies: dict[str, Tally], method: Method) -> dict[str, object]:
    """`streams` and `overall` as JSON has them; a horizon without labels is left out, a number that is none is null.

    Overall, skill is the mean over streams, so that no stream's units outweigh another's; coverage is over all labels.
    """
    streams = {
        name: {
            "events": tally.events,
            "horizons": {str(h): _horizon(tally, j, method) for j, h in enumerate(method.horizons) if tally.n[j] > 0},
        }
        for name, tally in tallies.items()
    }
    return {"streams": streams, "overall": _overall(list(tallies.values()), method)}


def _horizon(tally: Tally, j: int, method: Method) -> dict[str, object]:
    n = tally.n[j]
    return {
        "n": int(n),
        "mse": float(tally.squared[j] / n),
        "mae": float(tally.absolute[j] / n),
        "last_value": {"mse": float(tally.naive_squared[j] / n), "mae": float(tally.naive_absolute[j] / n)},
        "coverage": _by_level(tally.coverage[j], method),
        "pinball": float(tally.pinball[j] / n),
    }


def _overall(tallies: list[Tally], method: Method) -> dict[str, object]:
    horizons = {}
    for j, h in enumerate(method.horizons):
        n = sum(t.n[j] for t in tallies)
        if n:
            skills = [float(t.skill[j]) for t in tallies if t.n[j] > 0 and not np.isnan(t.skill[j])]
            coverage = np.sum([t.inside[j] for t in tallies], axis=0) / n
            skill = sum(skills) / len(skills) if skills else None
            horizons[str(h)] = {"n": int(n), "skill": skill, "coverage": _by_level(coverage, method)}
    return {"events": sum(t.events for t in tallies), "horizons": horizons}


def _by_level(coverage: Floats, method: Method) -> dict[str, float]:
    return {str(level): float(c) for level, c in zip(method.band_levels, coverage, strict=True)}
