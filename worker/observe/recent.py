"""The recent past of streams, bounded: their last values, forecasts, drops and skill, of what was committed alone.

The loop's thread takes in, any other may read: both under one lock, which is held for copies of arrays and no longer.
"""

from itertools import repeat
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from pipeline.arrays import Field, Floats, Ints
from pipeline.batch import DROPS
from pipeline.forecasts import Forecasts, capped
from pipeline.method import Method
from pipeline.records import published

Records = np.ndarray[Any, np.dtype[np.void]]


class Past(NamedTuple):
    """A copy of all that is remembered of one stream."""

    name: str
    partition: int
    figures: np.void
    sums: Floats  # (HITS + bands, Z)
    last: np.void  # the last event as it was published
    points: Records  # (n,) the oldest first
    drops: Records  # (d,) the last ones, the oldest first


class Overview(NamedTuple):
    """A copy of what is remembered of every stream but its events, in no order."""

    names: list[str]  # (n,)
    partitions: list[int]  # (n,)
    figures: Records  # (n,)
    sums: Floats  # (n, HITS + bands, Z)


def point(method: Method) -> np.dtype[np.void]:
    """One event. Forecasts are kept as differences from its value, so that 32 bits are enough for any level."""
    z, q = len(method.horizons), len(method.quantiles)
    fields: list[Field] = [
        ("time_ms", "i8"),
        ("elapsed_ms", "i8"),  # since the stream's previous event, whether that is remembered or not; -1: its first
        ("step_ms", "i8"),
        ("value", "f8"),
        ("mean", "f4", (z,)),
        ("quantiles", "f4", (z, q)),
        ("expected", "f4", (3,)),  # mean, low, high that the shortest horizon forecast of this event; NaN: nothing
    ]
    return np.dtype(fields, align=True)


FIGURES = np.dtype(
    [
        ("events", "i8"),  # of the stream since it is remembered
        ("seen", "i8"),  # the events of all streams together when its last one came
        ("drops", "i8", (len(DROPS),)),
    ]
)
DROP = np.dtype([("time_ms", "i8"), ("value", "f8"), ("verdict", "i8")])  # NaN: there is no value, or it is not known
KEPT_DROPS = 8  # of each stream
AT_ONCE = 2000  # streams that are copied while the loop may have to wait
LABELS, SQUARED, NAIVE_SQUARED, HITS = 0, 1, 2, 3  # sums of a stream; from HITS on, one for each band


class RecentStreams:
    """The last `points` events of each of at most `streams` streams; 0 streams remember nothing and cost nothing.

    Where all places are taken, a new stream gets that of the one seen least recently, but only one such for every
    `points` events: more streams than places would otherwise chase each other out before anything is known of them.
    """

    def __init__(self, method: Method, streams: int = 0, points: int = 1) -> None:
        self.method, self.streams = method, streams
        # Rings; the system gives memory only to those that are written to
        self._points: Records = np.zeros((streams, points), point(method))
        self._drops: Records = np.zeros((streams, KEPT_DROPS), DROP)
        self._figures: Records = np.zeros(streams, FIGURES)
        self._sums = np.zeros((streams, HITS + method.bands, len(method.horizons)))
        self._last: Records = np.zeros(streams, published(method))
        self._places: dict[int, dict[str, int]] = {}  # by partition and name
        self._whose: list[tuple[int, str] | None] = [None] * streams  # by place
        self._free = list(range(streams))[::-1]
        self._events = 0  # of all streams
        self._displaced_at = 0  # how many of them there had been when the last stream was displaced
        self._lock = Lock()

    @property
    def nbytes(self) -> int:
        """Memory of all places, taken or free."""
        return sum(a.nbytes for a in (self._points, self._drops, self._figures, self._sums, self._last))

    # ---- the loop's thread

    def take(self, partition: int, forecasts: Forecasts) -> None:
        """Take in what became of a partition's events; they are committed."""
        if not self.streams:
            return
        with self._lock:
            self._events += len(forecasts.name)
            places = self._places.setdefault(partition, {})
            self._admit(partition, forecasts.name)
            if forecasts.dropped:
                self._add_drops(*_found(places, forecasts.dropped), forecasts)
            place, order = _found(places, forecasts.name)
            if len(order):
                self._add(place, forecasts, order)

    def forget(self, partition: int) -> None:
        """Forget the streams of a partition that went to another worker."""
        with self._lock:
            for place in self._places.pop(partition, {}).values():
                self._leave(place)

    def _admit(self, partition: int, names: list[str]) -> None:
        """Give places to streams that have none, the first come first."""
        places = self._places[partition]
        may_displace = self._events - self._displaced_at >= self._points.shape[1]
        if not self._free and not may_displace:
            return
        for name in dict.fromkeys(name for name in names if name not in places):
            if self._free:
                place = self._free.pop()
            elif may_displace:
                self._displace()
                place, may_displace = self._free.pop(), False
            else:
                return
            self._figures["seen"][place] = self._events
            self._whose[place] = partition, name
            places[name] = place

    def _displace(self) -> None:
        """Take the place of the stream seen least recently; all places are taken."""
        place = int(self._figures["seen"].argmin())
        whose = self._whose[place]
        assert whose is not None, f"nobody has place {place}"
        del self._places[whose[0]][whose[1]]
        self._leave(place)
        self._displaced_at = self._events

    def _leave(self, place: int) -> None:
        self._figures[place] = np.zeros((), FIGURES)
        self._sums[place] = 0
        self._whose[place] = None
        self._free.append(place)

    def _add_drops(self, place: Ints, order: Ints, forecasts: Forecasts) -> None:
        """Count the dropped events at `order`, which are those of `place` (n,), sorted, and put them into rings."""
        drops: Records = np.zeros(len(place), DROP)
        verdict = forecasts.verdict[forecasts.verdict > 0][order]
        drops["time_ms"], drops["value"] = forecasts.dropped_ms[order], forecasts.dropped_value[order]
        drops["verdict"] = verdict
        counts = self._figures["drops"]
        ring = (counts[place].sum(1) + _runs(place)[2]) % KEPT_DROPS
        _bytes(self._drops)[place, ring] = _bytes(drops)  # where two go to one place, the last one stays
        np.add.at(counts, (place, verdict - 1), 1)

    def _add(self, place: Ints, forecasts: Forecasts, order: Ints) -> None:
        """Put the events at `order`, which are those of `place` (n,), sorted, into rings and sums."""
        events = _bytes(forecasts.events)[order].view(forecasts.events.dtype)
        starts, numbers, kept = _runs(place)
        streams = place[starts]
        figures, depth = self._figures, self._points.shape[1]
        ring = (np.repeat(figures["events"][streams], numbers) + kept) % depth
        made = _points_of(events, self._points.dtype)
        _bytes(self._points)[place, ring] = _bytes(made)  # where two go to one place, the last one stays
        _bytes(self._last)[streams] = _bytes(events)[starts + numbers - 1]
        figures["events"][streams] += numbers
        figures["seen"][streams] = self._events
        self._score(streams, starts, forecasts, order)

    def _score(self, streams: Ints, starts: Ints, forecasts: Forecasts, order: Ints) -> None:
        """Add to the sums, which fade so that they are of about as many labels as there are points."""
        error = forecasts.error[order]
        arrived = ~np.isnan(error)  # (n, Z)
        came = np.empty((len(order), *self._sums.shape[1:]))
        came[:, LABELS] = arrived
        came[:, SQUARED], came[:, NAIVE_SQUARED] = capped(error) ** 2, capped(forecasts.naive[order]) ** 2
        came[:, HITS:] = (forecasts.inside[order] & arrived[:, :, None]).transpose(0, 2, 1)
        added = np.add.reduceat(came, starts)
        keep = (1 - 1 / self._points.shape[1]) ** added[:, LABELS]
        self._sums[streams] = keep[:, None] * self._sums[streams] + added

    # ---- any thread

    def overview(self) -> Overview:
        """Return what is remembered of all streams, without their events; those of a moment, some at a time."""
        taken: list[tuple[int, str]] = []
        figures, sums = [self._figures[:0]], [self._sums[:0]]
        for low in range(0, self.streams, AT_ONCE):
            with self._lock:
                found = [(place, whose) for place, whose in enumerate(self._whose[low : low + AT_ONCE], low) if whose]
                places = [place for place, _ in found]
                figures.append(self._figures[places])
                sums.append(self._sums[places])
            taken += [whose for _, whose in found]
        names, partitions = [name for _, name in taken], [partition for partition, _ in taken]
        return Overview(names, partitions, np.concatenate(figures), np.concatenate(sums))

    def last_of(self, partition: int, name: str) -> np.void | None:
        """Return a stream's last event as it was published; None where it is not remembered."""
        with self._lock:
            place = self._places.get(partition, {}).get(name)
            return None if place is None else self._last[place].copy()

    def pasts(self, name: str) -> list[Past]:
        """Return what is remembered of a stream, one for each of the partitions it came from, the last seen first."""
        with self._lock:
            found = [self._past(name, *places) for places in self._places.items() if name in places[1]]
        return sorted(found, key=lambda past: -int(past.figures["seen"]))

    def _past(self, name: str, partition: int, places: dict[str, int]) -> Past:
        place = places[name]
        events, depth = int(self._figures["events"][place]), self._points.shape[1]
        order = np.arange(max(0, events - depth), events) % depth
        copies = self._figures[place].copy(), self._sums[place].copy(), self._last[place].copy()
        points = _bytes(self._points)[place, order].view(self._points.dtype)
        dropped = int(self._figures["drops"][place].sum())
        drops = self._drops[place, np.arange(max(0, dropped - KEPT_DROPS), dropped) % KEPT_DROPS]
        return Past(name, partition, *copies, points, drops)


def skill(sums: Floats) -> Floats:
    """(..., Z) 1 - squared error / squared error of the last value; NaN where nothing is known."""
    return 1 - ratio(sums[..., SQUARED, :], sums[..., NAIVE_SQUARED, :])


def coverage(sums: Floats) -> Floats:
    """(..., bands, Z) share of labels inside."""
    return ratio(sums[..., HITS:, :], sums[..., [LABELS], :])


def outside(sums: Floats) -> Floats:
    """(...) values outside the widest interval of the shortest horizon, among recent ones; 0 without intervals."""
    return sums[..., LABELS, 0] - sums[..., HITS, 0] if sums.shape[-2] > HITS else np.zeros(sums.shape[:-2])


def ratio(a: Floats, b: Floats) -> Floats:
    """a / b, in the shape of `a`; NaN where b is 0: nothing is known there."""
    out: Floats = np.divide(a, b, out=np.full(a.shape, np.nan), where=np.broadcast_to(b > 0, a.shape))
    return out


def _bytes(records: Records) -> Records:
    """Return a view whose records are copied at once: NumPy copies others by field, for a hundred times as much."""
    return records.view(f"V{records.dtype.itemsize}")


def _found(places: dict[str, int], names: list[str]) -> tuple[Ints, Ints]:
    """Return the places (k,) of those names that have one, sorted, and where the names stand (k,)."""
    found = np.fromiter(map(places.get, names, repeat(-1)), np.int64, len(names))
    order = np.argsort(found, kind="stable")
    order = order[np.searchsorted(found[order], 0) :]
    return found[order], order


def _runs(place: Ints) -> tuple[Ints, Ints, Ints]:
    """Return of each stream's run in `place` (n,) its start and length, and which of its run each of the n is."""
    starts = np.flatnonzero(np.diff(place, prepend=-1))
    numbers = np.diff(starts, append=len(place))
    return starts, numbers, np.arange(len(place)) - np.repeat(starts, numbers)


def _points_of(events: Records, kind: np.dtype[np.void]) -> Records:
    points: Records = np.zeros(len(events), kind)
    value = events["value"]
    for name in ("time_ms", "elapsed_ms", "step_ms", "value"):
        points[name] = events[name]
    with np.errstate(over="ignore", invalid="ignore"):  # beyond 32 bits a difference is infinite
        points["mean"] = events["mean"] - value[:, None]
        points["quantiles"] = events["quantiles"] - value[:, None, None]
        points["expected"] = events["expected"] - value[:, None]
    return points
