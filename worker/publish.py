"""Forecasts and dead letters as messages: the bytes that leave a worker. Knows no broker."""

import hashlib
import math
from collections.abc import Sequence

import numpy as np
import orjson

from pipeline.arrays import Floats
from pipeline.events import Rejected
from pipeline.forecasts import Forecasts
from pipeline.method import Method
from worker import __version__
from worker.broker.contract import Message, Records, Topics

DIGITS = 9  # significant, whatever the size of the number
EXACT_POWER = 22  # powers of ten up to here are exact in float64
CONTENT_TYPE = ("content-type", b"application/json")
MESSAGE_BYTES = 500  # of a dead letter's explanation
FRAMING_BYTES = 128  # of a batch and its one record beyond key, value and headers

Headers = list[tuple[str, bytes]]


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
    mean = significant(forecasts.mean)  # (n, Z)
    quantiles = np.ascontiguousarray(significant(forecasts.quantiles).transpose(0, 2, 1))  # (n, Q, Z)
    expected = significant(forecasts.expected).tolist()
    times = forecasts.time_ms[:, None] + method.horizon_array * forecasts.step_ms[:, None]
    times_of = [row if step else None for row, step in zip(times, forecasts.step_ms.tolist(), strict=True)]
    names, levels = [repr(q) for q in method.quantiles], method.band_levels[:1]
    bodies = []
    for i, (time_ms, value) in enumerate(zip(forecasts.time_ms.tolist(), forecasts.value.tolist(), strict=True)):
        body = {
            "id": ids[i],
            "stream": forecasts.name[i],
            "time": time_ms,
            "value": value,
            "horizons": method.horizons,
            "times": times_of[i],
            "mean": mean[i],
            "quantiles": dict(zip(names, quantiles[i], strict=True)),
            "expected": _expected(expected[i], value, levels),
            "model": version,
        }
        bodies.append(orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY))
    return bodies


def _expected(said: list[float], value: float, levels: Sequence[float]) -> dict[str, object] | None:
    mean, low, high = said
    if math.isnan(mean) or not levels:
        return None
    return {"mean": mean, "low": low, "high": high, "level": levels[0], "outside": not low <= value <= high}


def forecast_messages(
    forecasts: Forecasts, method: Method, version: str, topics: Topics, partition: int
) -> list[Message]:
    """Return one message per accepted event, to the event's own partition number."""
    ids = [f"{topics.input}-{partition}-{offset}" for offset in forecasts.offset.tolist()]
    bodies = forecast_bodies(forecasts, method, version, ids)
    return [
        Message(topics.output, partition, name.encode(), body, (CONTENT_TYPE, ("foldcast-id", key.encode())))
        for name, body, key in zip(forecasts.name, bodies, ids, strict=True)
    ]


def dead_letters(
    rejected: Sequence[Rejected], records: Records, topics: Topics, partition: int, limit_bytes: int
) -> list[Message]:
    """Return one message per rejected record: its key, value and headers, its place and the reason in more headers.

    A record may be larger than `limit_bytes`, since limits are on batches as they are packed: what does not fit is
    left out, and its size said.
    """
    letters = []
    for place, reason, message in rejected:
        said = {
            "reason": reason,
            "message": message.encode()[:MESSAGE_BYTES].decode(errors="ignore"),
            "topic": topics.input,
            "partition": str(partition),
            "offset": str(records.offsets[place]),
            "timestamp": str(records.timestamps_ms[place]),
            "version": __version__,
        }
        key, value = records.keys[place], records.values[place]
        own = [(name, part or b"") for name, part in records.headers[place]]  # kafka-python (3.0.12) sends no null
        name = f"{topics.input}-{partition}-{records.offsets[place]}".encode()
        key, value, own = _fitting(name if key is None else key, value, own, name, said, limit_bytes)
        letters.append(Message(topics.dead_letters, partition, key, value, [*own, *_headers(said)]))
    return letters


def _headers(said: dict[str, str]) -> Headers:
    return [(f"foldcast-error-{name}", text.encode()) for name, text in said.items()]


def _fitting(
    key: bytes, value: bytes | None, own: Headers, name: bytes, said: dict[str, str], limit_bytes: int
) -> tuple[bytes, bytes | None, Headers]:
    """Key, value and headers without the largest of them until the rest fits; what is left out is added to `said`."""
    for _ in range(3):
        sizes = {"value": len(value or b""), "key": len(key), "headers": _bytes_of(own)}
        if sum(sizes.values()) + _bytes_of(_headers(said)) + FRAMING_BYTES <= limit_bytes:
            break
        largest = max(sizes, key=sizes.__getitem__)
        if largest == "value":
            said |= {"bytes": str(sizes[largest]), "sha256": hashlib.sha256(value or b"").hexdigest()}
            value = None
        elif largest == "key":
            said |= {"key-bytes": str(sizes[largest]), "key-sha256": hashlib.sha256(key).hexdigest()}
            key = name
        else:
            said["headers-bytes"] = str(sizes[largest])
            own = []
    return key, value, own


def _bytes_of(headers: Headers) -> int:
    return sum(_text_bytes(len(name.encode())) + _text_bytes(len(value)) for name, value in headers)


def _text_bytes(length: int) -> int:
    """What so many bytes take in a record: their length comes first, seven bits to a byte, one for the sign."""
    return length + max((2 * length).bit_length() + 6, 7) // 7
