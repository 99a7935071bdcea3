"""Raw records in, events out: field mapping, types, and every reason for which a record is not an event.

Judges a record by itself; what a stream makes of it (late, duplicate, missing) is admission's.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec
import numpy as np

from pipeline.arrays import Floats, Ints
from pipeline.decoding.paths import Kind, labels_of, layout, walk
from pipeline.decoding.times import from_epoch, from_iso

NAME_BYTES = 255
LARGEST = 1e36  # what waits for labels is kept in float32
NO_TIMESTAMP = -1

# every reason a record goes to the dead letters
REASONS = (
    "empty",  # no value at all
    "undecodable",  # not JSON
    "wrong_type",  # not an object, or a field of another type; numbers beyond float64
    "no_stream",  # neither field nor key
    "name_too_long",
    "no_time",  # neither field nor record timestamp
    "bad_time",  # neither ISO 8601 nor epoch
    "future_time",  # ahead of the record's timestamp, or of the worker's clock
    "no_value",  # the target's field is not there (null is a missing value, and no error)
    "out_of_range",  # beyond what can be squared; not positive under `transform = log`
    "too_many_streams",  # of a new stream, where the worker has room for no more
)


@dataclass(frozen=True)
class Format:
    """Which fields an event has, by their paths. `max_ahead_ms`: how far it may be ahead of the record's timestamp."""

    stream_field: str = "stream"
    time_field: str = "time"
    target_field: str = "value"
    target_fields: tuple[str, ...] = ()  # in place of one: a record has an event of each, of the stream `name/label`
    covariates: tuple[str, ...] = ()
    positive: bool = False  # the target is a logarithm's argument
    max_ahead_ms: int = 3_600_000


class Rejected(NamedTuple):
    """A record that is no event, by its place in the batch."""

    place: int
    reason: str
    message: str


class Batch(NamedTuple):
    """Events of one partition in offset order (n of them), and how far the batch reaches.

    The events of a record with several targets have one offset.
    """

    offset: Ints  # (n,)
    name: list[str]
    time_ms: Ints  # (n,)
    record_ms: Ints  # (n,)
    value: Floats  # (n,) NaN: missing
    covariates: Floats  # (n, C) NaN: absent
    records: int  # events and rejected records together
    end: int  # the offset after the last record

    def part(self, low: int, high: int) -> "Batch":
        """Events low to high; `records` and `end` stay the whole batch's."""
        between = slice(low, high)
        return self._replace(
            offset=self.offset[between],
            name=self.name[between],
            time_ms=self.time_ms[between],
            record_ms=self.record_ms[between],
            value=self.value[between],
            covariates=self.covariates[between],
        )

    def without(self, places: Iterable[int]) -> "Batch":
        """The batch with fewer events; its others have become dead letters, which `records` and `end` know."""
        kept = np.delete(np.arange(len(self.name)), list(places))
        return self._replace(
            offset=self.offset[kept],
            name=[self.name[e] for e in kept.tolist()],
            time_ms=self.time_ms[kept],
            record_ms=self.record_ms[kept],
            value=self.value[kept],
            covariates=self.covariates[kept],
        )


def interleaved(batches: Sequence[Batch]) -> Batch:
    """The events of several targets of the same records, in offset order, those of one record as the targets are."""
    order = np.concatenate([batch.offset for batch in batches]).argsort(kind="stable")
    names = [name for batch in batches for name in batch.name]
    return batches[0]._replace(
        offset=np.concatenate([batch.offset for batch in batches])[order],
        name=[names[e] for e in order.tolist()],
        time_ms=np.concatenate([batch.time_ms for batch in batches])[order],
        record_ms=np.concatenate([batch.record_ms for batch in batches])[order],
        value=np.concatenate([batch.value for batch in batches])[order],
        covariates=np.concatenate([batch.covariates for batch in batches])[order],
    )


def _one_of(faults: dict[str, Rejected], targets: int) -> Rejected | None:
    """The one dead letter of a record from its targets' faults; None where only some targets are not in it."""
    real = {label: each for label, each in faults.items() if each.reason != "no_value"}
    if not real and len(faults) < targets:
        return None
    faults = real or faults
    first, messages = next(iter(faults.values())), {each.message for each in faults.values()}
    if len(faults) == targets and len(messages) == 1:
        return first
    return first._replace(message="; ".join(f"{label}: {each.message}" for label, each in faults.items()))


class _Refused(Exception):  # noqa: N818 - a verdict on somebody's data
    def __init__(self, reason: str, message: str) -> None:
        self.reason, self.message = reason, message


class Decoder:
    """Decodes records of one format. Counts keys that name another stream than the value does."""

    def __init__(self, form: Format, name_bytes: int = NAME_BYTES) -> None:
        """`name_bytes` is the most that a name may have."""
        self.form = form
        self.other_keys = 0
        self._name_bytes = name_bytes
        self._each = {
            label: Decoder(replace(form, target_field=path, target_fields=()), name_bytes - len(f"/{label}".encode()))
            for path, label in zip(form.target_fields, labels_of(form.target_fields), strict=True)
        }
        number = float | None | msgspec.UnsetType
        kinds: list[Kind] = [(str | None, None), (str | float | int | None, None), (number, msgspec.UNSET)]
        kinds += [(number, None)] * len(form.covariates)
        struct, self._places = layout([form.stream_field, form.time_field, form.target_field, *form.covariates], kinds)
        self._decode: Callable[[bytes], Any] = msgspec.json.Decoder(struct).decode
        self._flat = self._places[:3] == ["f0", "f1", "f2"]
        self._get = attrgetter(*self._places[:3])
        self._given = [attrgetter(place) for place in self._places[3:]]

    def decode(
        self,
        offsets: Sequence[int],
        timestamps_ms: Sequence[int],
        keys: Sequence[bytes | None],
        values: Sequence[bytes | None],
    ) -> tuple[Batch, list[Rejected]]:
        """A batch of raw records, at least one, in offset order; of rejected records each is named once."""
        if self._each:
            return self._several(offsets, timestamps_ms, keys, values)
        kept: list[int] = []
        names: list[str] = []
        times: list[int] = []
        targets: list[float] = []
        covariates: list[list[float]] = []
        rejected: list[Rejected] = []
        for place, (timestamp, key, value) in enumerate(zip(timestamps_ms, keys, values, strict=True)):
            try:
                name, time_ms, target, given = self._one(timestamp, key, value)
            except _Refused as refused:
                rejected.append(Rejected(place, refused.reason, refused.message))
                continue
            kept.append(place)
            names.append(name)
            times.append(time_ms)
            targets.append(target)
            if given:
                covariates.append(given)
        batch = Batch(
            np.array([offsets[p] for p in kept], np.int64),
            names,
            np.array(times, np.int64),
            np.array([timestamps_ms[p] for p in kept], np.int64),
            np.array(targets, np.float64),
            np.array(covariates, np.float64).reshape(len(kept), len(self.form.covariates)),
            len(offsets),
            offsets[-1] + 1,
        )
        return batch, rejected

    def _several(
        self,
        offsets: Sequence[int],
        timestamps_ms: Sequence[int],
        keys: Sequence[bytes | None],
        values: Sequence[bytes | None],
    ) -> tuple[Batch, list[Rejected]]:
        """Decode for each target by itself: those that are good are events, whatever the others of their record are."""
        batches, faults = [], defaultdict[int, dict[str, Rejected]](dict)  # the latter by place and label
        for label, one in self._each.items():
            batch, rejected = one.decode(offsets, timestamps_ms, keys, values)
            batches.append(batch._replace(name=[f"{name}/{label}" for name in batch.name]))
            for each in rejected:
                faults[each.place][label] = each
        self.other_keys = next(iter(self._each.values())).other_keys
        merged = (_one_of(faults[place], len(self._each)) for place in sorted(faults))
        return interleaved(batches), [each for each in merged if each is not None]

    def _one(
        self, timestamp_ms: int, key: bytes | None, value: bytes | None
    ) -> tuple[str, int, float, list[float] | None]:
        """Return name, time, value and covariates of the record's event. Raises _Refused."""
        if value is None:
            raise _Refused("empty", "the record has no value")
        try:
            message = self._decode(value)
        except msgspec.ValidationError as error:
            raise _Refused("wrong_type", str(error)) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _Refused("undecodable", str(error)) from None
        if self._flat:  # by names that are constants, which takes a third of the time
            stream, time, target = message.f0, message.f1, message.f2
        else:
            stream, time, target = self._nested(message)
        name = self._name(stream, key)
        time_ms = self._time(time, timestamp_ms)
        given = self._covariates(message) if self._given else None
        if target is None:
            return name, time_ms, math.nan, given
        if target is msgspec.UNSET:
            raise _Refused("no_value", f"there is no field {self.form.target_field!r}")
        if abs(target) > LARGEST:
            raise _Refused("out_of_range", f"{target!r} is beyond {LARGEST:g}")
        if self.form.positive and target <= 0:
            raise _Refused("out_of_range", f"{target!r} has no logarithm (events.transform = log)")
        return name, time_ms, target, given

    def _nested(self, message: object) -> Any:
        try:
            return self._get(message)
        except AttributeError:  # a field lies below what is null
            return (walk(message, place) for place in self._places[:3])

    def _covariates(self, message: object) -> list[float]:
        try:
            given = [get(message) for get in self._given]
        except AttributeError:
            given = [walk(message, place) for place in self._places[3:]]
        return [math.nan if c is None or abs(c) > LARGEST else c for c in given]

    def _name(self, field: str | None, key: bytes | None) -> str:
        name = field
        if not name:
            if not key:
                raise _Refused("no_stream", f"there is neither a field {self.form.stream_field!r} nor a key")
            try:
                name = key.decode()
            except UnicodeDecodeError as error:
                raise _Refused("no_stream", f"the key is not UTF-8: {error}") from None
        encoded = name.encode()
        if len(encoded) > self._name_bytes:
            raise _Refused("name_too_long", f"the name has {len(encoded)} bytes, at most {self._name_bytes} are taken")
        if key and key != encoded:
            self.other_keys += 1
        return name

    def _time(self, field: str | float | int | None, timestamp_ms: int) -> int:
        if field is None:
            if timestamp_ms == NO_TIMESTAMP:
                raise _Refused("no_time", f"there is neither a field {self.form.time_field!r} nor a record timestamp")
            return timestamp_ms
        time_ms = from_iso(field) if isinstance(field, str) else from_epoch(field)
        if time_ms is None:
            raise _Refused("bad_time", f"{field!r} is neither ISO 8601 nor epoch seconds, ms, us or ns")
        if timestamp_ms != NO_TIMESTAMP and time_ms > timestamp_ms + self.form.max_ahead_ms:
            ahead = (time_ms - timestamp_ms) / 1000
            raise _Refused("future_time", f"{field!r} is {ahead:g} s ahead of the record's timestamp")
        return time_ms
