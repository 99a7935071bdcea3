"""Logs, networks and comparisons that the pipeline's tests share."""

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from itertools import pairwise
from typing import NamedTuple

import msgspec
import numpy as np

from pipeline.batch import Batch
from pipeline.forecasts import Forecasts, joined
from pipeline.method import Method
from pipeline.network.model import Network, Shape
from pipeline.records import event
from pipeline.shard import Shard
from tests.rigs.networks import with_head

SETTINGS: dict[str, object] = {"model.cell": "gru"}


class Record(NamedTuple):
    """One place of a log; without a name it is no event (a dead letter)."""

    offset: int
    name: str | None
    time_ms: int
    record_ms: int
    value: float
    covariates: tuple[float, ...] = ()


def restless(method: Method, seed: int = 3) -> Network:
    """A network that says something: the head is not zero."""
    network = with_head(Shape.of(method), seed, seed, 0.1)
    network.load(network.dump())
    return network


def events_of(method: Method, many: int = 1, **fields: object) -> np.ndarray:
    """Records of a wave's events, as kernels take them; what is not named is zero."""
    events = np.zeros(many, event(method))
    for name, value in fields.items():
        events[name] = value
    return events


def shard_of(method: Method) -> Shard:
    return Shard(method, restless(method), 0, SETTINGS)


def batch_of(records: Sequence[Record], method: Method) -> Batch:
    events = [r for r in records if r.name is not None]
    given = [r.covariates for r in events]
    return Batch(
        np.array([r.offset for r in events], np.int64),
        [r.name for r in events if r.name is not None],
        np.array([r.time_ms for r in events], np.int64),
        np.array([r.record_ms for r in events], np.int64),
        np.array([r.value for r in events], np.float64),
        np.array(given, np.float64).reshape(len(events), len(method.covariates)),
        len(records),
        records[-1].offset + 1,
        np.zeros(len(events), np.int64),
    )


def pieces(records: Sequence[Record], cuts: Iterable[int]) -> list[Sequence[Record]]:
    """The log cut at these places."""
    inner = sorted({c for c in cuts if 0 < c < len(records)})
    return [records[a:b] for a, b in pairwise([0, *inner, len(records)])]


def fold(shard: Shard, records: Sequence[Record], cuts: Iterable[int] = ()) -> Forecasts:
    return joined([shard.advance(batch_of(part, shard.method)) for part in pieces(records, cuts)])


def digest(data: bytes) -> str:
    """Short, so that a difference is quickly shown."""
    return blake2b(data, digest_size=6).hexdigest()


def state(shard: Shard) -> dict[str, object]:
    """All that the fold makes of a log."""
    table = shard.table
    return {
        "rows": [digest(table.rows[r].tobytes()) for r in range(len(table.names))],
        "names": list(table.names),
        "index": dict(table.index),
        "free": sorted(table._free),
        "counters": msgspec.structs.asdict(shard.counters),
        "clock": (shard.clock_ms, shard.next_sweep, shard.position),
    }


def row_of(shard: Shard, name: str, *without: str) -> str:
    """A stream's row, some fields left out."""
    row = shard.table.rows[[shard.table.index[name]]]
    for field in without:  # offsets, where the log is another
        row[field] = 0
    return digest(row.tobytes())


def fields_of(forecasts: Forecasts) -> dict[str, np.ndarray]:
    """By name, per accepted event; but for what a batch makes of where it was cut."""
    fields = forecasts.events.dtype.names or ()
    arrays = {name: forecasts.events[name] for name in fields if name not in ("row", "turn", "spare")}
    return arrays | {"parts": forecasts.parts}


def said(forecasts: Forecasts, part: slice = slice(None)) -> dict[str, str]:
    """Forecasts by field, as bits; what is not per accepted event left out."""
    arrays = {k: digest(v[part].tobytes()) for k, v in fields_of(forecasts).items()}
    return arrays | {"name": digest(repr(forecasts.name[part]).encode())}


def said_of(forecasts: Forecasts, name: str) -> dict[str, str]:
    """The same of one stream, wherever in the log its events stand."""
    places = [i for i, other in enumerate(forecasts.name) if other == name]
    return {k: digest(v[places].tobytes()) for k, v in fields_of(forecasts).items() if k != "offset"}


def make_log(seed: int, n: int, method: Method, streams: int = 40, active: int = 14) -> list[Record]:
    """Random walks with everything that happens: late, doubled, missing, dead, gaps, streams that come and go.

    At any moment about `active` neighbouring streams speak, so early ones fall idle for good or come back much later.
    """
    rng = np.random.default_rng(seed)
    level = rng.normal(0, 10, streams)
    last_ms = np.zeros(streams, np.int64)
    log, offset, now_ms = [], 0, 1_700_000_000_000
    for i in range(n):
        offset += 1 + int(rng.random() < 0.05) * int(rng.integers(1, 4))  # holes, as transaction markers leave them
        now_ms += int(rng.integers(1, 2000))
        s = (i * streams // n + int(rng.integers(0, active))) % streams
        kind = rng.random()
        time_ms, value = now_ms, level[s] + rng.normal()
        given = tuple(float(c) if rng.random() < 0.8 else np.nan for c in rng.normal(size=len(method.covariates)))
        if kind < 0.03:
            log.append(Record(offset, None, 0, now_ms, 0.0))
            continue
        if kind < 0.06:
            value = np.nan
        elif kind < 0.09:
            time_ms = int(last_ms[s]) - 5
        elif kind < 0.12:
            time_ms, value = int(last_ms[s]), level[s]
        elif kind < 0.15:
            time_ms = int(last_ms[s])
        elif kind < 0.16:
            time_ms = now_ms + 10_000_000
        if not np.isnan(value):
            level[s], last_ms[s] = value, time_ms
        log.append(Record(offset, f"s{s}", time_ms, now_ms, float(value), given))
    return log
