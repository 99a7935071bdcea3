"""Forecasts as flat rows, one per horizon, for databases and what draws them. Knows no broker."""

from collections.abc import Sequence
from decimal import Decimal
from functools import cache
from typing import Any

import numpy as np
import orjson

from pipeline.arrays import Ints
from pipeline.forecasts import Forecasts
from pipeline.method import Method
from pipeline.rounding import significant
from worker.broker.contract import Message, Topics
from worker.publish import CONTENT_TYPE, ids_of, outside


@cache
def band_names(quantiles: tuple[float, ...]) -> list[str]:
    """Name each quantile by the interval that it bounds (0.0125: lo97_5, 0.9: hi80), or by its level where the other
    bound is not there (0.3: q0_3)."""
    levels = [Decimal(repr(q)) for q in quantiles]
    return [_band_name(level, levels) for level in levels]


def _band_name(level: Decimal, levels: Sequence[Decimal]) -> str:
    inside = 100 * abs(1 - 2 * level)  # percent of the interval
    if not inside:
        return "median"
    side, number = ("lo" if level < 1 - level else "hi", inside) if 1 - level in levels else ("q", level)
    return side + f"{number.normalize():f}".replace(".", "_")


def _iso(times_ms: Ints) -> list[Any]:
    """Write times as ISO 8601 with milliseconds and Z, in lists of the array's shape."""
    texts: list[Any] = np.datetime_as_string(times_ms.astype("datetime64[ms]"), timezone="UTC").tolist()
    return texts


def row_messages(
    forecasts: Forecasts, method: Method, version: str, topics: Topics, partition: int, several: bool = False
) -> list[Message]:
    """Return one message per forecast and horizon, in that order, to the event's own partition number; none where there
    is no topic for them. Their numbers are those of the forecast's own message."""
    if topics.rows is None:
        return []
    mean = significant(forecasts.mean).tolist()  # (n, Z)
    quantiles = significant(forecasts.quantiles).tolist()  # (n, Z, Q)
    expected = significant(forecasts.expected).tolist()
    made_at, steps = forecasts.time_ms, forecasts.step_ms
    times = _iso(made_at[:, None] + method.horizon_array * steps[:, None])  # (n, Z)
    names = band_names(method.quantiles)
    messages = []
    ids = ids_of(forecasts, topics, partition, several)
    for i, (own, at, value) in enumerate(zip(ids, _iso(made_at), forecasts.value.tolist(), strict=True)):
        key = forecasts.name[i].encode()
        odd = outside(expected[i], value)
        for z, horizon in enumerate(method.horizons):
            row = {
                "id": f"{own}/{horizon}",
                "stream": forecasts.name[i],
                "made_at": at,
                "value": value,
                "outside": odd,
                "time": times[i][z] if steps[i] else None,
                "horizon": horizon,
                "mean": mean[i][z],
                **dict(zip(names, quantiles[i][z], strict=True)),
                "model": version,
            }
            messages.append(Message(topics.rows, partition, key, orjson.dumps(row), (CONTENT_TYPE,)))
    return messages
