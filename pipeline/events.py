"""Raw records in, events out: field mapping, types, and every reason for which a record is not an event.

Judges a record by itself; what a stream makes of it (late, duplicate, missing) is admission's.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any, NoReturn

import msgspec
import numpy as np

from pipeline.batch import OUTSIDE, SENTINEL, Batch, Rejected, interleaved
from pipeline.decoding.numbers import Numbers
from pipeline.decoding.paths import WHOLE, Kind, labels_of, layout, walk
from pipeline.decoding.schemas import framing
from pipeline.decoding.steps import Steps
from pipeline.decoding.times import YEAR_MS, Times, from_epoch, from_iso, likely

NAME_BYTES = 255
LARGEST = 1e36  # what waits for labels is kept in float32
NO_TIMESTAMP = -1
PLAIN, ANY_TIME = Numbers(), Times()

# every reason a record goes to the dead letters
REASONS = (
    "empty",  # no value at all
    "undecodable",  # not JSON, or not what its schema says
    "unknown_schema",  # the registry does not have it
    "unusable_schema",  # it is none, of another kind, or one by which few bytes could claim to be much
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
    times: Times = ANY_TIME
    numbers: Numbers = PLAIN
    outside_is_dead: bool = False  # a target outside the range of `numbers` is a dead letter, else it is dropped


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
        self.steps = Steps()  # between the first events, those of rejected records aside
        self._name_bytes = name_bytes
        self._flat = False
        self._each = {
            label: Decoder(replace(form, target_field=path, target_fields=()), name_bytes - len(f"/{label}".encode()))
            for path, label in zip(form.target_fields, labels_of(form.target_fields), strict=True)
        }
        self._plain = form.numbers.plain
        self._times, self._zone, self._earliest_ms = form.times, form.times.zone, form.times.earliest_ms
        self._drop = 0  # of the event that was read last
        self._given: Callable[[object], Any] | None = None  # covariates, or the one there is, None where it is absent
        number = float | str | None if form.numbers.lenient else float | None
        if form.target_field == WHOLE:
            self._places = list[str]()
            self._decode: Callable[[bytes], Any] = msgspec.json.Decoder(number).decode
            return
        kinds: list[Kind] = [(str | int | None, None), (str | float | int | None, None)]
        kinds += [
            (number | msgspec.UnsetType, msgspec.UNSET),
            *[(number | msgspec.UnsetType, None)] * len(form.covariates),
        ]
        struct, self._places = layout([form.stream_field, form.time_field, form.target_field, *form.covariates], kinds)
        self._decode = msgspec.json.Decoder(struct).decode
        self._flat = self._places[:3] == ["f0", "f1", "f2"]
        self._get = attrgetter(*self._places[:3])
        if form.covariates:
            self._given = attrgetter(*self._places[3:])

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
        covariates: list[Any] = []  # of each event: numbers, or the one there is
        drops, plain = dict[int, int](), self._plain
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
            if self._given:
                covariates.append(given)
            if not plain and self._drop:
                drops[len(kept) - 1], self._drop = self._drop, 0
        if self.steps.open:
            self.steps.take(names, times)
        companions = np.array(covariates, np.float64).reshape(len(kept), len(self.form.covariates))
        companions[np.abs(companions) > LARGEST] = math.nan
        batch = Batch(
            np.array([offsets[p] for p in kept], np.int64),
            names,
            np.array(times, np.int64),
            np.array([timestamps_ms[p] for p in kept], np.int64),
            np.array(targets, np.float64),
            companions,
            len(offsets),
            offsets[-1] + 1,
            np.zeros(len(kept), np.int64),
        )
        for event, why in drops.items():
            batch.drop[event] = why
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
        if self.steps.open:
            self.steps.take(batches[0].name, batches[0].time_ms.tolist())
        merged = (_one_of(faults[place], len(self._each)) for place in sorted(faults))
        return interleaved(batches), [each for each in merged if each is not None]

    def _one(self, timestamp_ms: int, key: bytes | None, value: bytes | None) -> tuple[str, int, float, Any]:
        """Return name, time, value and covariates of the record's event. Raises _Refused."""
        if value is None:
            raise _Refused("empty", "the record has no value")
        try:
            message = self._decode(value)
        except msgspec.ValidationError as error:
            fix = ' (events.numbers = "lenient" reads numbers in text)' if "float" in str(error) else ""
            raise _Refused("wrong_type", f"{error}{fix if 'got `str`' in str(error) else ''}") from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _Refused("undecodable", framing(value) or str(error)) from None
        if self._flat:  # by names that are constants, which takes a third of the time
            stream, time, target = message.f0, message.f1, message.f2
        else:
            stream, time, target = self._nested(message)
        name = self._name(stream, key)
        time_ms = self._time(time, timestamp_ms)
        given = self._covariates(message, self._given) if self._given else None
        if target is msgspec.UNSET:
            raise _Refused("no_value", f"there is no field {self.form.target_field!r}")
        if not self._plain:
            target = self._judged(target)
        if target is None:
            return name, time_ms, math.nan, given
        if abs(target) > LARGEST:
            raise _Refused("out_of_range", f"{target!r} is beyond {LARGEST:g}")
        if self.form.positive and target <= 0:
            raise _Refused("out_of_range", f"{target!r} has no logarithm (events.transform = log)")
        return name, time_ms, target, given

    def _judged(self, given: float | str | None) -> float | None:
        """Return the number, None where there is none; says in `_drop` why. Raises _Refused."""
        if given is None:
            return None
        numbers = self.form.numbers
        try:
            number = numbers.read(given)
        except ValueError as error:
            raise _Refused("wrong_type", str(error)) from None
        if number is None:
            self._drop = SENTINEL
        elif not numbers.low <= number <= numbers.high:
            if self.form.outside_is_dead:
                limits = f"{numbers.low!r} to {numbers.high!r}"
                raise _Refused("out_of_range", f"{number!r} is outside {limits} (events.range)")
            self._drop, number = OUTSIDE, None
        return number

    def _nested(self, message: object) -> Any:
        if not self._places:  # the message is the target
            return None, None, message
        try:
            return self._get(message)
        except AttributeError:  # a field lies below what is null
            return (walk(message, place) for place in self._places[:3])

    def _covariates(self, message: object, get: Callable[[object], Any]) -> Any:
        try:
            given = get(message)
        except AttributeError:
            found = [walk(message, place) for place in self._places[3:]]
            given = found if len(found) > 1 else found[0]
        if self._plain:
            return given
        try:
            numbers = given if isinstance(given, list | tuple) else [given]
            return [None if c is None else self.form.numbers.read(c) for c in numbers]
        except ValueError as error:
            raise _Refused("wrong_type", f"a covariate: {error}") from None

    def _name(self, field: str | int | None, key: bytes | None) -> str:
        name: Any = field
        if not name and name != 0:
            if not key:
                raise _Refused("no_stream", f"there is neither a field {self.form.stream_field!r} nor a key")
            try:
                name = key.decode()
            except UnicodeDecodeError as error:
                raise _Refused("no_stream", f"the key is not UTF-8: {error}") from None
        try:
            encoded = name.encode()
        except AttributeError:  # a number; to ask each time takes longer
            name = str(name)
            encoded = name.encode()
        if len(encoded) > self._name_bytes:
            raise _Refused("name_too_long", f"the name has {len(encoded)} bytes, at most {self._name_bytes} are taken")
        if key and key != encoded:
            self.other_keys += 1
        named: str = name
        return named

    def _time(self, field: str | float | int | None, timestamp_ms: int) -> int:
        if field is None:
            if timestamp_ms == NO_TIMESTAMP:
                raise _Refused("no_time", f"there is neither a field {self.form.time_field!r} nor a record timestamp")
            return timestamp_ms
        try:
            if isinstance(field, str):
                time_ms = from_iso(field, self._zone)
                if time_ms is None or field[4:5] != "-":
                    time_ms = self._times.from_text(field)
            else:
                time_ms = from_epoch(field)
                if time_ms is None or time_ms < self._earliest_ms:
                    time_ms = self._times.from_number(field)
        except ValueError as error:
            raise _Refused("bad_time", str(error)) from None
        if timestamp_ms != NO_TIMESTAMP and time_ms > timestamp_ms + self.form.max_ahead_ms:
            _refuse_future(field, time_ms - timestamp_ms)
        return time_ms


def _refuse_future(field: str | float, ahead_ms: int) -> NoReturn:
    """Raise _Refused for a time that is ahead of its record's timestamp, by a year where it was not meant so."""
    cause = "" if isinstance(field, str) and field[4:5] == "-" else likely(field)
    reason = "bad_time" if cause and ahead_ms > YEAR_MS else "future_time"
    raise _Refused(reason, f"{field!r} is {ahead_ms / 1000:g} s ahead of the record's timestamp{cause}")
