"""Messages with two targets below other fields, times in a zone of their own; and each target as a record by itself.

The auditor knows neither paths nor several targets: it judges what `flat`, `forecasts` and `letters` make of topics.
"""

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from tests.rigs.cluster import Source, event_bytes
from worker.broker.restore import TopicRecord

ZONE = ZoneInfo("America/New_York")
LABELS = ("temp", "load")
PLACES = 1 + len(LABELS)  # of one record: what is no event, and its targets
EVENTS: dict[str, object] = {
    "stream_field": "device.id",
    "time_field": "data.at",
    "target_fields": json.dumps([f"data.{label}" for label in LABELS]),
    "timezone": ZONE.key,
}


def message(stream: str, time: object, **targets: object) -> bytes:
    """Return the message of an event; milliseconds become a text without a zone."""
    if isinstance(time, int) and time < 10**13 and time > 10**11:
        time = datetime.fromtimestamp(time / 1000, ZONE).replace(tzinfo=None).isoformat()
    return json.dumps({"device": {"id": stream}, "data": {"at": time, **targets}}).encode()


def last_message(stream: str, time_ms: object, value: object) -> bytes:
    """Return a message of the first target alone."""
    return message(stream, time_ms, temp=value)


class NestedSource(Source):
    """The same events, some without the second target, some with one that is wrong."""

    def next(self) -> tuple[int, bytes | None, bytes | None]:
        """Partition, key and value of a record."""
        partition, key, body = super().next()
        try:
            event = json.loads(body or b"")
            load: dict[str, object] = {"load": event["value"] if self._random.random() < 0.95 else "broken"}
        except (ValueError, TypeError, KeyError):
            return partition, key, body
        more = load if self._random.random() < 0.8 else {}
        return partition, key, message(event["stream"], event["time"], temp=event["value"], **more)


def flat(records: Iterable[TopicRecord]) -> Iterator[TopicRecord]:
    """Yield each target that is an event as a plain record, after the record itself where something of it is none."""
    for record in records:
        try:
            fields = json.loads(record.value or b"")
            stream, data = fields["device"]["id"], fields["data"]
            moment = datetime.fromisoformat(data.pop("at")).replace(tzinfo=ZONE)
        except (ValueError, TypeError, KeyError):
            yield record._replace(offset=record.offset * PLACES)
            continue
        good = {label: value for label, value in data.items() if _is_target(value)}
        if len(good) < len(data):
            yield record._replace(offset=record.offset * PLACES)
        time_ms = round(moment.astimezone(UTC).timestamp() * 1000)
        for label, value in good.items():
            place = record.offset * PLACES + 1 + LABELS.index(label)
            yield record._replace(offset=place, key=None, value=event_bytes(f"{stream}/{label}", time_ms, value))


def _is_target(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e36)


def forecasts(records: Iterable[TopicRecord]) -> Iterator[TopicRecord]:
    """Yield forecasts under the ids of the records that `flat` yields."""
    for record in records:
        body = json.loads(record.value or b"")
        body["id"] = _moved(body["id"])
        headers = [
            (name, _moved(value.decode()).encode() if name == "foldcast-id" else value)
            for name, value in record.headers
        ]
        yield record._replace(value=json.dumps(body).encode(), headers=headers)


def letters(records: Iterable[TopicRecord]) -> Iterator[TopicRecord]:
    """Yield dead letters with the offsets of the records that `flat` yields."""
    for record in records:
        offset = int(dict(record.headers)["foldcast-error-offset"])
        now = b"%d" % (offset * PLACES)
        headers = [(name, now if name == "foldcast-error-offset" else value) for name, value in record.headers]
        head, _, last = (record.key or b"").rpartition(b"-")
        made = last == b"%d" % offset and head.endswith(b"-in-%d" % record.partition)  # where the record had no key
        yield record._replace(key=head + b"-" + now if made else record.key, headers=headers)


def _moved(name: str) -> str:
    """Return an id with the place of its target in place of offset and label."""
    place, _, label = name.partition(":")
    head, _, offset = place.rpartition("-")
    return f"{head}-{int(offset) * PLACES + 1 + LABELS.index(label)}"
