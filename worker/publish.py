"""Forecasts as messages: their bytes, as they leave a worker. Knows no broker."""

import math
from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np
import orjson

from pipeline.arrays import Floats
from pipeline.encoding import DIGITS, written
from pipeline.forecasts import Forecasts
from pipeline.method import Method
from worker.broker.contract import Message, Topics
from worker.broker.headers import offset_in, texts

EXACT_POWER = 22  # powers of ten up to here are exact in float64
CONTENT_TYPE = ("content-type", b"application/json")
ID, GROUP, SOURCE = "foldcast-id", "foldcast-group", "foldcast-source"


def significant(array: Floats) -> Floats:
    """Round to `DIGITS` significant digits, so that numbers print short.

    >>> significant(np.array([0.1 + 0.2, 123456789012.0, 0.0, -1 / 3])).tolist()
    [0.3, 123456789000.0, 0.0, -0.333333333]
    """
    size = np.abs(array)
    some = (size > 0) & np.isfinite(size)
    exponent = DIGITS - 1 - np.floor(np.log10(size, where=some, out=np.zeros_like(size))).astype(np.int64)
    up = 10.0 ** np.clip(exponent, 0, EXACT_POWER)
    down = 10.0 ** np.clip(-exponent, 0, EXACT_POWER)
    rounded: Floats = np.where(exponent >= 0, np.round(array * up) / up, np.round(array / down) * down)
    for place in zip(*np.nonzero(some & (np.abs(exponent) > EXACT_POWER)), strict=True):
        rounded[place] = float(f"{array[place]:.{DIGITS}g}")
    return rounded


def forecast_bodies(forecasts: Forecasts, method: Method, version: str, ids: Sequence[str]) -> list[bytes]:
    """Return each forecast as JSON, with the id at its place in `ids`."""
    n, separators = len(forecasts.name), [b","] * (len(method.horizons) - 1)
    names = [b',"mean":[', *(b',"%b":[' % repr(q).encode() for q in method.quantiles)]
    names[1] = b',"quantiles":{' + names[1][1:]
    between = [piece for name in names for piece in (b"]" + name, *separators)]
    between[0] = between[0].removeprefix(b"]")
    ahead = np.concatenate([forecasts.mean[:, None], forecasts.quantiles.transpose(0, 2, 1)], 1)  # (n, 1 + Q, Z)
    columns = (
        ids,
        forecasts.name,
        forecasts.time_ms.tolist(),
        forecasts.value.tolist(),
        _times(forecasts, method),
        _texts(ahead.reshape(n, len(between)), [*between, b']},"expected":']),
        _expected(forecasts, method.band_levels[:1]),
    )
    horizons, last = b',"horizons":' + orjson.dumps(method.horizons), b',"model":' + orjson.dumps(version) + b"}"
    bodies = []
    for own, name, time_ms, value, times, numbers, expected in zip(*columns, strict=True):
        first = orjson.dumps({"id": own, "stream": name, "time": time_ms, "value": value})
        bodies.append(b"".join((first[:-1], horizons, times, numbers, expected, last)))
    return bodies


def _times(forecasts: Forecasts, method: Method) -> list[bytes]:
    """Return the times of what each forecast is of as JSON, null while the stream has no step."""
    times = forecasts.time_ms[:, None] + method.horizon_array * forecasts.step_ms[:, None]
    rows = orjson.dumps(times, option=orjson.OPT_SERIALIZE_NUMPY)[2:-2].split(b"],[") if len(times) else []
    steps = forecasts.step_ms.tolist()
    return [b',"times":[%b]' % row if step else b',"times":null' for row, step in zip(rows, steps, strict=True)]


def _texts(numbers: Floats, between: Sequence[bytes]) -> list[bytes]:
    """Return the numbers (n, K) of each row as JSON between K + 1 pieces of text."""
    found = written(numbers, between)
    return [_text(row, between) if text is None else text for row, text in zip(numbers, found, strict=True)]


def _text(numbers: Floats, between: Sequence[bytes]) -> bytes:
    """Return these numbers (K,) as JSON between the pieces of text, whatever they are."""
    ours = [orjson.dumps(number) for number in significant(numbers).tolist()]
    return b"".join(chain.from_iterable(zip(between, [*ours, b""], strict=True)))


def _expected(forecasts: Forecasts, levels: Sequence[float]) -> list[bytes]:
    """Return the earlier forecast of each event as JSON, null where there is none."""
    if not levels:
        return [b"null"] * len(forecasts.name)
    there = ~np.isnan(forecasts.expected[:, 0])
    earlier = np.where(there[:, None], forecasts.expected, 0.0)
    low, high = significant(earlier[:, 1:]).T
    inside = (low <= forecasts.value) & (forecasts.value <= high)
    last = b',"level":' + orjson.dumps(levels[0]) + b',"outside":'
    found = _texts(earlier, [b'{"mean":', b',"low":', b',"high":', last])
    ends = [(b"true}", b"false}")[within] for within in inside.tolist()]
    return [text + end if some else b"null" for text, end, some in zip(found, ends, there.tolist(), strict=True)]


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
