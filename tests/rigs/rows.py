"""Forecasts of one stream, and the rows that a record promises: from it alone, not by the code that makes them."""

import json
from datetime import UTC, datetime
from typing import Any

from pipeline.events import Decoder, Format
from pipeline.forecasts import Forecasts
from pipeline.method import Method
from pipeline.network.model import Shape
from pipeline.shard import Shard
from tests.rigs.networks import with_head

NAMES = {"0.025": "lo95", "0.1": "lo80", "0.5": "median", "0.9": "hi80", "0.975": "hi95"}  # of the default quantiles


def folded(values: list[float], method: Method) -> Forecasts:
    """Forecasts of one stream, an event a minute."""
    bodies: list[bytes | None] = [
        json.dumps({"stream": "Zürich/1", "time": 60 * n, "value": v}).encode() for n, v in enumerate(values, 1)
    ]
    network = with_head(Shape.of(method), 1, 1)
    places = list(range(len(bodies)))
    batch, _ = Decoder(Format()).decode(places, places, [None] * len(bodies), bodies)
    return Shard(method, network, 0, {}).advance(batch)


def iso(time_ms: int) -> str:
    """ISO 8601 with milliseconds."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def rows_of(record: dict[str, Any]) -> list[dict[str, object]]:
    """One row per horizon, in their order."""
    expected, times = record["expected"], record["times"]
    return [
        {
            "id": f"{record['id']}/{horizon}",
            "stream": record["stream"],
            "made_at": iso(record["time"]),
            "value": record["value"],
            "outside": expected and expected["outside"],
            "time": times and iso(times[z]),
            "horizon": horizon,
            "mean": record["mean"][z],
            **{name: record["quantiles"][level][z] for level, name in NAMES.items()},
            "model": record["model"],
        }
        for z, horizon in enumerate(record["horizons"])
    ]
