"""Forecasts as messages: their bytes, as they leave a worker. Knows no broker."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import orjson

from pipeline.arrays import Floats, Ints
from pipeline.forecasts import Forecasts
from pipeline.method import Method
from pipeline.rounding import significant
from worker.broker.contract import Message, Topics
from worker.broker.headers import offset_in, texts

CONTENT_TYPE = ("content-type", b"application/json")
ID, GROUP, SOURCE = "foldcast-id", "foldcast-group", "foldcast-source"


def forecast_bodies(forecasts: Forecasts, method: Method, version: str, ids: Sequence[str]) -> list[bytes]:
    """Return each forecast as JSON, with the id at its place in `ids`."""
    ahead = np.concatenate([forecasts.mean[:, None], forecasts.quantiles.transpose(0, 2, 1)], 1)  # (n, 1 + Q, Z)
    columns = (
        ids,
        forecasts.name,
        forecasts.time_ms.tolist(),
        forecasts.value.tolist(),
        _times(forecasts, method),
        _rows(significant(ahead)),
        _expected(forecasts, method.band_levels[:1]),
    )
    quantiles = b",".join(b'"%b":[%%b]' % repr(q).encode() for q in method.quantiles)
    horizons, model = orjson.dumps(method.horizons), orjson.dumps(version)
    numbers = b',"mean":[%b],"quantiles":{' + quantiles + b"}"
    bodies = []
    for own, name, time_ms, value, times, row, expected in zip(*columns, strict=True):
        first = orjson.dumps({"id": own, "stream": name, "time": time_ms, "value": value})
        made = numbers % tuple(row.split(b"],["))
        parts = (
            first[:-1],
            b',"horizons":',
            horizons,
            times,
            made,
            b',"expected":',
            expected,
            b',"model":',
            model,
            b"}",
        )
        bodies.append(b"".join(parts))
    return bodies


def _rows(array: Floats | Ints) -> list[bytes]:
    """Return what is along the first axis as JSON, each without its outermost brackets: one call costs least."""
    if not len(array):
        return []
    depth = array.ndim
    text = orjson.dumps(np.ascontiguousarray(array), option=orjson.OPT_SERIALIZE_NUMPY)[depth:-depth]
    return text.split(b"]" * (depth - 1) + b"," + b"[" * (depth - 1))


def _times(forecasts: Forecasts, method: Method) -> list[bytes]:
    """Return the times of what each forecast is of as JSON, null while the stream has no step."""
    rows = _rows(forecasts.time_ms[:, None] + method.horizon_array * forecasts.step_ms[:, None])
    steps = forecasts.step_ms.tolist()
    return [b',"times":[%b]' % row if step else b',"times":null' for row, step in zip(rows, steps, strict=True)]


def _expected(forecasts: Forecasts, levels: Sequence[float]) -> list[bytes]:
    """Return the earlier forecast of each event as JSON, null where there is none."""
    if not levels:
        return [b"null"] * len(forecasts.name)
    earlier = significant(forecasts.expected)
    there = ~np.isnan(earlier[:, 0])
    inside = (earlier[:, 1] <= forecasts.value) & (forecasts.value <= earlier[:, 2])
    text = b'{"mean":%b,"low":%b,"high":%b,"level":' + orjson.dumps(levels[0]) + b',"outside":%b}'
    ends = [(b"true", b"false")[within] for within in inside.tolist()]
    rows = zip(_rows(earlier), ends, there.tolist(), strict=True)
    return [text % (*row.split(b","), end) if some else b"null" for row, end, some in rows]


def outside(earlier: list[float], value: float) -> bool | None:
    """Return whether the value lies outside the earlier forecast (mean, low, high) of it, None where there is none."""
    mean, low, high = earlier
    return None if math.isnan(mean) else not low <= value <= high


def ids_of(forecasts: Forecasts, topics: Topics, partition: int, several: bool) -> list[str]:
    """Return the ids of forecasts; where records have `several` targets, with the target's label behind a colon."""
    ids = [f"{topics.input}-{partition}-{offset}" for offset in forecasts.offset.tolist()]
    if several:
        ids = [f"{key}:{name.rpartition('/')[2]}" for key, name in zip(ids, forecasts.name, strict=True)]
    return ids


def forecast_messages(
    forecasts: Forecasts, method: Method, version: str, topics: Topics, partition: int, several: bool = False
) -> list[Message]:
    """Return one message per accepted event, to the event's own partition number; the last one says whose they are."""
    ids = ids_of(forecasts, topics, partition, several)
    bodies = forecast_bodies(forecasts, method, version, ids)
    messages = [
        Message(topics.output, partition, name.encode(), body, (CONTENT_TYPE, (ID, key.encode())))
        for name, body, key in zip(forecasts.name, bodies, ids, strict=True)
    ]
    if messages:
        whose = ((GROUP, topics.group.encode()), (SOURCE, topics.source.encode()))
        messages[-1] = messages[-1]._replace(headers=(*messages[-1].headers, *whose))
    return messages


def published_offset(headers: Sequence[tuple[str, bytes]], topics: Topics, partition: int) -> int | None:
    """Return the offset of the event that a forecast is of, None where it does not say that it is this group's."""
    found = publisher(headers, topics, partition)
    return found[1] if found is not None and found[0] == topics.group else None


def publisher(headers: Sequence[tuple[str, bytes]], topics: Topics, partition: int) -> tuple[str, int] | None:
    """Return the group that a forecast names and the offset of its event, None where it is not of this input."""
    facts = texts(headers)
    offset = event_offset(facts, topics, partition)
    if offset is None or GROUP not in facts or facts.get(SOURCE) != topics.source:
        return None
    return facts[GROUP], offset


def event_offset(facts: Mapping[str, str], topics: Topics, partition: int) -> int | None:
    """Return the offset of the event that a forecast with these headers is of, None where it names none of these."""
    key, prefix = facts.get(ID, ""), f"{topics.input}-{partition}-"
    return offset_in(key.removeprefix(prefix).partition(":")[0]) if key.startswith(prefix) else None
