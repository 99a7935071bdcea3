"""The replay itself: the worker's own restore, and its forecasts held against those in the output.

Nothing is written and no group is joined. It does not know of records that the input has lost (`worker.on_gap`).
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import takewhile
from typing import Any, NamedTuple

import numpy as np

from pipeline.decoding.schemas import SchemasAway
from pipeline.durable.image import Image
from pipeline.explanation import explained
from pipeline.forecasts import Forecasts
from pipeline.method import Method
from pipeline.rounding import significant
from worker import topics
from worker.broker.admin import bounds, standing
from worker.broker.contract import BrokerError, LogRecord, Records
from worker.broker.restore import LogReader, whole
from worker.lives import unfit
from worker.lives.judge import Judge, RefusedEvents
from worker.lives.live import Live
from worker.lives.loading import loaded
from worker.lives.snapshot_clock import SnapshotClock, SnapshotPolicy
from worker.plan import Plan
from worker.refusal import Refusal, WrongUsage
from worker.registry.decoder import with_registry
from worker.replay.history import image_of_then
from worker.replay.published import Body, Key, PublishedForecasts
from worker.settings.settings import Settings

AT_ONCE = 1000  # records of a batch
AGREES = 1e-6  # of the stream's deviation


@dataclass(frozen=True)
class Asked:
    """What to replay: offsets of one partition's input, the last one excluded; None: as far as can be."""

    partition: int
    first: int | None = None
    end: int | None = None
    stream: str | None = None
    limit: int = 10  # how many forecasts to show


class Compared(NamedTuple):
    """One forecast, replayed and published; `difference` is the largest of mean and quantiles, in deviations."""

    difference: float
    offset: int
    stream: str
    now: list[float]
    published: list[float]
    model: str
    published_model: str


@dataclass
class Replayed:
    """What a replay found."""

    first: int
    end: int
    image: int  # offset it began at
    records: int = 0  # folded, those before `first` too
    adoptions: int = 0  # that came into service on the way
    compared: int = 0
    largest: float | None = None  # of the differences
    agreed: int = 0
    other_weights: int = 0  # published with weights that were not there to replay with
    unpublished: int = 0  # replayed, and not found in the output
    not_replayed: int = 0  # in the output, and not replayed
    worst: list[Compared] = field(default_factory=list)  # largest difference first
    explanation: dict[str, Any] | None = None

    @property
    def agrees(self) -> bool:
        """Whether every forecast of the stretch is what was published."""
        return self.compared == self.agreed and not self.unpublished and not self.not_replayed


def replay(settings: Settings, asked: Asked) -> Iterator[Replayed]:
    """Replay and compare; what was found so far, after each batch. Raises Refusal, BrokerError."""
    kafka, (plan, _) = settings.kafka, with_registry(Plan.of(settings), settings, alone=True)
    found, inputs = standing(kafka, topics.names_of(settings).names), bounds(kafka, kafka.input_topic)
    if asked.partition not in inputs:
        raise WrongUsage(f"--partition is {asked.partition}; {kafka.input_topic} has 0 to {len(inputs) - 1}")
    end = _end(asked, found.offsets.get(asked.partition))
    logs = LogReader(kafka)
    try:
        changelog = partial(whole, logs, kafka.changelog_topic, asked.partition)
        image = image_of_then(changelog, asked.partition, asked.first, inputs[asked.partition][0], end)
        marker = image.marker
        assert marker is not None, "an image of then has a marker"
        if marker.source and found.input_id not in ("", marker.source):
            raise Refusal(unfit.other_input(asked.partition, marker.source, found.input_id, marker.offset))
        live = _live(plan, asked.partition, image, end)
        first = live.shard.position if asked.first is None else asked.first
        if first >= end:
            raise Refusal(f"there is nothing to replay from {first}, the oldest image, to {end}")
        names = replace(topics.names_of(settings), source=found.input_id)
        published = PublishedForecasts(kafka, names, asked.partition, first, end)
        try:
            yield from _compared(logs, live, published, Replayed(first, end, live.shard.position), asked)
        except SchemasAway as away:
            raise BrokerError(str(away), fix=away.fix) from away
        finally:
            published.close()
    finally:
        logs.close()


def _end(asked: Asked, committed: int | None) -> int:
    """Where the stretch ends: what is at or above C has no forecast yet."""
    if committed is None and asked.end is None:
        raise Refusal("the group has no offset for this partition, so nothing says where to end: give --to OFFSET")
    end = min(offset for offset in (asked.end, committed) if offset is not None)
    if asked.first is not None and asked.first >= end:
        raise Refusal(f"there is nothing to replay from {asked.first} to {end} (the group is at {committed})")
    return end


def _live(plan: Plan, partition: int, image: Image, end: int) -> Live:
    """The shard as it was at the image, with all that came into service or was refused up to `end`."""
    try:
        shard, learning = loaded(image, plan)
    except ValueError as error:
        raise Refusal(unfit.other_image(partition, error)) from error
    learning.reach(shard, shard.position)
    return Live(
        partition=partition,
        incarnation=0,
        plan=plan,
        shard=shard,
        learning=learning,
        clock=SnapshotClock(SnapshotPolicy(None, math.inf)),
        committed=end,
        began=time.monotonic(),
        last_record_ms=0,
        refused=RefusedEvents(image.refused),
    )


def _compared(
    logs: LogReader, live: Live, published: PublishedForecasts, done: Replayed, asked: Asked
) -> Iterator[Replayed]:
    judge, before = Judge(), len(live.learning.pending)
    for records in _batches(logs, published.input, live, done):
        for forecasts in live.replay(records, judge, lambda _: None):
            if len(forecasts.offset):
                _compare(live, forecasts, published.up_to(int(forecasts.offset[-1])), done, asked)
        done.records += len(records.offsets)
        done.adoptions = before - len(live.learning.pending)
        if asked.stream is not None and done.end - done.first == 1 and records.offsets[0] == done.first:
            done.explanation = _explanation(live, asked.stream, done.first)
        yield done
    done.not_replayed += _number(published.up_to(done.end), asked)
    yield done


def _batches(logs: LogReader, topic: str, live: Live, done: Replayed) -> Iterator[Records]:
    """The input from the image to the end, cut at the first offset asked for."""
    gathered: list[LogRecord] = []
    reading = whole(logs, topic, live.partition, live.shard.position)
    try:
        for record in takewhile(lambda record: record.offset < done.end, reading):
            if gathered and (len(gathered) == AT_ONCE or gathered[-1].offset < done.first <= record.offset):
                yield _records(gathered)
                gathered = []
            gathered.append(record)
        if gathered:
            yield _records(gathered)
    finally:
        reading.close()


def _records(gathered: list[LogRecord]) -> Records:
    return Records(
        [one.offset for one in gathered],
        [one.timestamp_ms for one in gathered],
        [one.key for one in gathered],
        [one.value for one in gathered],
        [one.headers for one in gathered],
    )


def _compare(live: Live, forecasts: Forecasts, theirs: dict[Key, Body], done: Replayed, asked: Asked) -> None:
    """Hold the forecasts of one part against those published of the same offsets."""
    method, rows, model = live.plan.method, live.shard.table.rows, live.shard.version
    means, quantiles = significant(forecasts.mean), significant(forecasts.quantiles)
    shown = done.worst
    for i in np.flatnonzero(forecasts.offset >= done.first).tolist():
        offset, name = int(forecasts.offset[i]), forecasts.name[i]
        if asked.stream not in (None, name):
            continue
        body = theirs.pop((offset, name), None)
        if body is None:
            done.unpublished += 1
            continue
        now = np.column_stack([means[i], quantiles[i]])  # (Z, 1 + Q)
        was = np.array([body["mean"], *(body["quantiles"][repr(level)] for level in method.quantiles)], np.float64).T
        row = rows[forecasts.row[i]]
        difference = _difference(now, was, float(row["spread"]) or float(row["step_scale"]), method)
        done.compared += 1
        done.largest = max(done.largest or 0.0, difference)
        done.agreed += difference < AGREES
        done.other_weights += body["model"] != model
        shown.append(Compared(difference, offset, name, means[i].tolist(), body["mean"], model, body["model"]))
    done.worst = sorted(shown, key=lambda one: (-one.difference, one.offset))[: asked.limit]
    done.not_replayed += _number(theirs, asked)


def _difference(now: np.ndarray[Any, Any], was: np.ndarray[Any, Any], deviation: float, method: Method) -> float:
    """The largest, in deviations of the stream; in its units where it has never moved."""
    if method.transform == "log":
        now, was = np.log(now), np.log(was)
    return float(np.abs(now - was).max()) / (deviation or 1.0)


def _number(theirs: dict[Key, Body], asked: Asked) -> int:
    return sum(asked.stream in (None, stream) for _, stream in theirs)


def _explanation(live: Live, stream: str, offset: int) -> dict[str, Any]:
    """The parts of the forecast that the event at an offset was given. Raises Refusal where it was given none."""
    row = live.shard.table.index.get(stream, -1)
    for event in live.shard.wave.stepped:
        if (event["offset"], event["row"]) == (offset, row):
            facts: dict[str, Any] = explained(live.shard.table.rows[row], event, live.plan.method)
            return facts
    raise Refusal(f"the record at {offset} is no accepted event of {stream!r}: it was dropped, or is of another stream")
