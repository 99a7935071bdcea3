"""The recent past of streams: what a plain model has, of what is committed alone, and a partition takes its own."""

from collections import deque

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.batch import DROPS
from pipeline.forecasts import LARGEST, Forecasts
from tests.rigs.loop_rig import METHOD, Rig
from tests.rigs.memory_broker import OUTPUT
from worker.observe.recent import KEPT_DROPS, LABELS, RecentStreams, coverage, outside, skill

NAMES = ["a", "b", "c", "d", "e/f"]


def batch(names: list[str], first: int = 0, dropped: list[tuple[str, int]] | None = None) -> Forecasts:
    """Forecasts whose values are the numbers from `first` on; of dropped events name and verdict."""
    blank, n = Forecasts.blank(len(names), METHOD), len(names)
    blank.events[:] = np.zeros((), blank.events.dtype)
    value = np.arange(first, first + n, dtype=float)
    blank.value[:], blank.time_ms[:], blank.elapsed_ms[:] = value, 1_600_000_000_000 + value, 1
    blank.mean[:], blank.quantiles[:] = value[:, None] + 0.5, value[:, None, None] - 0.25
    blank.expected[:] = blank.error[:] = blank.naive[:] = np.nan
    drops = dropped or []
    verdict = np.array([0] * n + [verdict for _, verdict in drops], np.int64)
    times = np.arange(first, first + len(drops))
    gone = {"dropped_ms": times, "dropped_value": times + 0.5}
    return blank._replace(name=names, verdict=verdict, dropped=[name for name, _ in drops], **gone)


def held_by(recent: RecentStreams) -> list[tuple[int, str]]:
    """Partitions and names of all that are remembered."""
    seen = recent.overview()
    return [*zip(seen.partitions, seen.names, strict=True)]


class Plain:
    """The same, a list at a time."""

    def __init__(self, streams: int, points: int) -> None:
        self.streams, self.points = streams, points
        self.events = self.displaced_at = 0
        self.values: dict[tuple[int, str], deque[float]] = {}
        self.seen: dict[tuple[int, str], int] = {}
        self.drops: dict[tuple[int, str], list[int]] = {}
        self.last_drops: dict[tuple[int, str], deque[tuple[int, float, int]]] = {}
        self.place: dict[tuple[int, str], int] = {}  # of streams seen in one batch the one in the first place leaves
        self.free = list(range(streams))[::-1]

    def take(self, partition: int, forecasts: Forecasts) -> None:
        self.events += len(forecasts.name)
        for key in dict.fromkeys((partition, name) for name in forecasts.name):
            if key not in self.values:
                self.admit(key)
        verdicts = forecasts.verdict[forecasts.verdict > 0].tolist()
        whats = zip(forecasts.dropped_ms.tolist(), forecasts.dropped_value.tolist(), verdicts, strict=True)
        for name, what in zip(forecasts.dropped, whats, strict=True):
            if (partition, name) in self.drops:
                self.drops[partition, name][what[2] - 1] += 1
                self.last_drops[partition, name].append(what)
        for name, value in zip(forecasts.name, forecasts.value.tolist(), strict=True):
            if (partition, name) in self.values:
                self.values[partition, name].append(value)
                self.seen[partition, name] = self.events

    def admit(self, key: tuple[int, str]) -> None:
        if len(self.values) == self.streams:
            if self.events - self.displaced_at < self.points:
                return
            self.leave(min(self.seen, key=lambda k: (self.seen[k], self.place[k])))
            self.displaced_at = self.events
        self.values[key], self.seen[key] = deque(maxlen=self.points), self.events
        self.drops[key], self.place[key] = [0] * len(DROPS), self.free.pop()
        self.last_drops[key] = deque(maxlen=KEPT_DROPS)

    def leave(self, key: tuple[int, str]) -> None:
        del self.values[key], self.seen[key], self.drops[key], self.last_drops[key]
        self.free.append(self.place.pop(key))


verdicts = st.tuples(st.sampled_from(NAMES), st.integers(1, len(DROPS)))
batches = st.tuples(st.integers(0, 1), st.lists(st.sampled_from(NAMES), max_size=12), st.lists(verdicts, max_size=30))


@given(st.lists(st.one_of(batches, st.integers(0, 1)), max_size=14), st.integers(1, 6), st.integers(2, 5))
def test_what_is_in_it_is_a_plain_models(steps: list[object], streams: int, points: int) -> None:
    recent, plain, first = RecentStreams(METHOD, streams, points), Plain(streams, points), 0
    for step in steps:
        if isinstance(step, int):
            recent.forget(step)
            for key in [key for key in plain.values if key[0] == step]:
                plain.leave(key)
            continue
        partition, names, dropped = step  # type: ignore[misc]
        made, first = batch(names, first, dropped), first + len(names)
        recent.take(partition, made)
        plain.take(partition, made)
        assert {*held_by(recent)} == {*plain.values}
        for (partition_, name), values in plain.values.items():
            [past] = [past for past in recent.pasts(name) if past.partition == partition_]
            assert past.points["value"].tolist() == list(values)
            assert past.last["value"] == values[-1]
            assert past.figures["drops"].tolist() == plain.drops[partition_, name]
            assert past.drops.tolist() == list(plain.last_drops[partition_, name])
            assert past.points["mean"].tolist() == [[0.5] * len(METHOD.horizons)] * len(values)
            assert past.points["quantiles"].ravel().tolist() == [-0.25] * past.points["quantiles"].size


def test_the_stream_seen_least_recently_leaves_and_not_more_often_than_points_say() -> None:
    recent = RecentStreams(METHOD, streams=2, points=4)
    recent.take(0, batch(["a"]))
    recent.take(0, batch(["b"]))
    recent.take(0, batch(["c"]))
    assert {*held_by(recent)} == {(0, "a"), (0, "b")}, "three events are fewer than four points"
    recent.take(0, batch(["c"]))
    assert {*held_by(recent)} == {(0, "b"), (0, "c")}
    recent.take(0, batch(["a", "d"]))
    assert {*held_by(recent)} == {(0, "b"), (0, "c")}, "one has just left"
    recent.take(0, batch(["a", "d"]))
    assert {*held_by(recent)} == {(0, "c"), (0, "a")}


def test_more_streams_than_places_keep_those_that_have_them_long_enough() -> None:
    recent, names = RecentStreams(METHOD, streams=10, points=20), [f"s{i}" for i in range(40)]
    for first in range(0, 4000, 40):
        recent.take(0, batch(names, first))
    events = recent.overview().figures["events"]
    assert len(events) == 10
    assert np.median(events) > 3


def test_one_name_in_two_partitions_is_two_pasts_and_a_partition_takes_its_own_along() -> None:
    recent = RecentStreams(METHOD, streams=5, points=4)
    recent.take(0, batch(["a", "b"], 10))
    recent.take(1, batch(["a"], 20))
    assert [(past.partition, past.points["value"].tolist()) for past in recent.pasts("a")] == [(1, [20]), (0, [10])]
    recent.forget(1)
    assert {*held_by(recent)} == {(0, "a"), (0, "b")}
    recent.take(1, batch(["a"], 30))
    assert recent.pasts("a")[0].points["value"].tolist() == [30], "it begins anew"


def test_no_places_remember_nothing_in_no_memory() -> None:
    recent = RecentStreams(METHOD, 0, 200)
    recent.take(0, batch(["a"]))
    assert (recent.nbytes, recent.pasts("a"), recent.overview().names) == (0, [], [])


def test_skill_and_coverage_are_capped_and_fade() -> None:
    recent = RecentStreams(METHOD, 2, 50)
    bad = batch(["a"])
    bad.error[:], bad.naive[:] = 1e30, 1.0
    recent.take(0, bad)
    assert skill(recent.overview().sums)[0].tolist() == [1 - LARGEST**2] * 2
    assert outside(recent.overview().sums) == [1]
    for _ in range(500):
        good = batch(["a"])
        good.error[:], good.naive[:], good.inside[:] = 0.5, 1.0, 1
        recent.take(0, good)
    sums = recent.overview().sums
    assert skill(sums)[0] == pytest.approx([0.75] * 2, abs=0.02)
    assert (coverage(sums)[0] > 0.99).all()
    assert sums[0, LABELS] == pytest.approx([50] * 2, rel=1e-3)


def test_differences_beyond_32_bits_are_infinite_and_no_error() -> None:
    recent, made = RecentStreams(METHOD, 1, 2), batch(["a"])
    made.value[:], made.mean[:] = 1e300, -1e300
    recent.take(0, made)
    assert np.isinf(recent.pasts("a")[0].points["mean"]).all()


# ---- fed by the loop


def remembering(**changes: object) -> Rig:
    rig = Rig(partitions=2, streams=3, **changes)  # type: ignore[arg-type]
    loop = rig.start()
    loop._metrics.recent_streams = RecentStreams(METHOD, 20, 1000)
    return rig


def published(rig: Rig) -> dict[str, int]:
    counts: dict[str, int] = {}
    for message in rig.cluster.committed_messages(OUTPUT):
        name = (message.key or b"").decode()
        counts[name] = counts.get(name, 0) + 1
    return counts


def remembered(rig: Rig) -> dict[str, int]:
    recent = rig.loops["one"]._metrics.recent_streams
    return {name: len(recent.pasts(name)[0].points) for _, name in held_by(recent)}


def test_it_holds_what_was_published_and_drops_by_their_reason() -> None:
    rig = remembering()
    rig.produce(200)
    rig.drain()
    assert remembered(rig) == published(rig)
    drops = rig.loops["one"]._metrics.recent_streams.overview().figures["drops"].sum(0)
    counted = [rig.sample("events_dropped_total", reason=reason) for reason in DROPS]
    assert 0 < drops.sum() <= sum(counted)
    assert (drops <= counted).all(), "those of streams without any value are nobody's"


@pytest.mark.parametrize("failure", ["refused", "unknown, not committed"])
def test_a_transaction_that_does_not_commit_leaves_no_trace(failure: str) -> None:
    rig = remembering()
    rig.produce(60)
    rig.drain()
    before = remembered(rig)
    rig.produce(30)
    rig.brokers["one"].fail_commit = failure
    rig.turn()
    assert remembered(rig) == before
    rig.drain()
    assert remembered(rig) == published(rig), "and what was before it is still there"


def test_a_partition_that_goes_away_takes_its_streams_along() -> None:
    rig = remembering()
    rig.produce(100)
    rig.drain()
    recent = rig.loops["one"]._metrics.recent_streams
    assert {partition for partition, _ in held_by(recent)} == {0, 1}
    rig.start("two")
    for _ in range(20):
        rig.turn("one")
        rig.turn("two")
    assert {partition for partition, _ in held_by(recent)} == {*rig.loops["one"].lives} != {0, 1}
