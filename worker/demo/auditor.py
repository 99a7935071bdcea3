"""An auditor that believes nobody: derives the due output from the input alone, and compares it with the real one.

Knows nothing of how events are decoded and admitted elsewhere: the rules stand here a second time, in plain words.
Nor does it know the removal of idle streams (`worker.stream_ttl_s`): it remembers every stream for ever.
What a worker refuses by its clock or its memory is believed where it can be true: a time beyond the dead letter's own
timestamp, a stream of which nothing was accepted before.
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from worker.broker.contract import LogRecord
from worker.broker.restore import TopicRecord
from worker.letters.reading import note_of

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LARGEST = 1e36
EXAMPLES = 5  # of each kind of fault, to look at
CLOCKS_APART_MS = 60_000  # the worker's and that of the dead letters' timestamps
DROPPED = ("late", "duplicate", "missing")

Place = tuple[int, int]  # input partition and offset
Said = tuple[Place, object]  # which input record an output is about, and what must be right in it


@dataclass(frozen=True)
class Rules:
    """Which records are events and which events are accepted: the `[events]` settings."""

    stream_field: str = "stream"
    time_field: str = "time"
    target_field: str = "value"
    covariates: tuple[str, ...] = ()
    positive: bool = False  # `transform = log`
    same_time: str = "drop"
    max_ahead_ms: int = 3_600_000


class Event(NamedTuple):
    """The event that a forecast must repeat."""

    stream: str
    time_ms: int
    value: float


@dataclass
class Verdicts:
    """The due outcome of each input record."""

    of: dict[Place, str] = field(default_factory=dict)  # forecast, late, duplicate, missing or dead
    forecast: dict[Place, Event] = field(default_factory=dict)
    dead: dict[Place, TopicRecord] = field(default_factory=dict)


@dataclass
class Report:
    """The counts that an audit found; `faults` is empty where the worker kept its promises."""

    events: int  # input records
    expected: Counter[str]  # by verdict
    right: Counter[str] = field(default_factory=Counter)  # forecasts and dead letters found once, right in all they say
    faults: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether input = forecasts + dropped + dead letters, offset by offset, and nothing else left."""
        return not self.faults and self.events == self.dropped + self.right.total()

    @property
    def dropped(self) -> int:
        """The number of records for which no output is due."""
        return sum(self.expected[reason] for reason in DROPPED)

    def note(self, fault: str, what: str) -> None:
        """Count a fault and keep the first few examples of its kind."""
        self.faults[fault] += 1
        kept = self.examples.setdefault(fault, [])
        if len(kept) < EXAMPLES:
            kept.append(what)

    def lines(self) -> Iterator[str]:
        """Yield the report as lines for people."""
        due, right = self.expected, self.right
        yield f"input records           {self.events:>9,}"
        yield f"forecasts               {right['forecasts']:>9,}   expected {due['forecast']:,}"
        yield f"dropped                 {self.dropped:>9,}   " + ", ".join(f"{r} {due[r]:,}" for r in DROPPED)
        yield f"dead letters            {right['dead letters']:>9,}   expected {due['dead']:,}"
        for fault, number in sorted(self.faults.items()):
            yield f"{fault:<24}{number:>9,}   {'; '.join(self.examples[fault])}"
        yield "audit                   " + ("all records accounted for, each exactly once" if self.ok else "FAILED")


def expected(
    records: Iterable[TopicRecord], rules: Rules, refused: Mapping[Place, TopicRecord] | None = None
) -> Verdicts:
    """Judge the input, each partition in offset order. `refused`: dead letters by what they are about."""
    verdicts, refused = Verdicts(), refused or {}
    last: dict[tuple[int, str], Event] = {}  # a stream's last accepted event
    for record in records:
        place = (record.partition, record.offset)
        try:
            stream, time_ms, value = _event(record, rules)
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            verdicts.of[place], verdicts.dead[place] = "dead", record
            continue
        before = last.get((record.partition, stream))
        latest_ms, known = max(time_ms, record.timestamp_ms), before is not None or value is None
        if place in refused and _may_refuse(refused[place], latest_ms, known, rules):
            verdicts.of[place], verdicts.dead[place] = "dead", record
            continue
        if value is None:
            verdicts.of[place] = "missing"
            continue
        event = Event(stream, time_ms, value)
        verdict = "forecast" if before is None else _judged(event, before, rules)
        verdicts.of[place] = verdict
        if verdict == "forecast":
            verdicts.forecast[place] = last[record.partition, stream] = event
    return verdicts


def _may_refuse(letter: TopicRecord, latest_ms: int, known: bool, rules: Rules) -> bool:
    """Whether the worker's clock or its memory can have been a reason for this dead letter."""
    match dict(letter.headers).get("foldcast-error-reason"):
        case b"future_time":
            return latest_ms > letter.timestamp_ms + rules.max_ahead_ms - CLOCKS_APART_MS
        case b"too_many_streams":
            return not known
    return False


def _place(letter: TopicRecord) -> Place | None:
    """Return the place of the input record that a dead letter names."""
    head = dict(letter.headers)
    try:
        return int(head["foldcast-error-partition"]), int(head["foldcast-error-offset"])
    except (KeyError, ValueError):
        return None


def _judged(event: Event, before: Event, rules: Rules) -> str:
    if event.time_ms == before.time_ms and event.value == before.value:
        return "duplicate"
    if event.time_ms > before.time_ms or (event.time_ms == before.time_ms and rules.same_time == "accept"):
        return "forecast"
    return "late"


def _event(record: TopicRecord, rules: Rules) -> tuple[str, int, float | None]:
    """Return stream, time and value (None: missing). Raises, for no event, one of the errors `expected` catches."""
    fields = json.loads((record.value or b"").decode(), parse_constant=_no_number, parse_int=_integer)
    if not isinstance(fields, dict):
        raise TypeError("not an object")
    named = fields.get(rules.stream_field)
    if isinstance(named, int) and not isinstance(named, bool):
        named = str(named)
    if not isinstance(named, str | None):
        raise TypeError("a stream's name is a text or a whole number")
    stream = named or (record.key or b"").decode()
    if not 0 < len(stream.encode()) <= 255:
        raise ValueError("a name of no or too many bytes")
    time_ms = _time_ms(fields.get(rules.time_field), record.timestamp_ms)
    if record.timestamp_ms != -1 and time_ms > record.timestamp_ms + rules.max_ahead_ms:
        raise ValueError("from the future")
    for name in rules.covariates:
        _number(fields.get(name))
    value = _number(fields[rules.target_field])
    if value is not None and (abs(value) > LARGEST or (rules.positive and value <= 0)):
        raise ValueError("not a target")
    return stream, time_ms, value


def _time_ms(given: object, timestamp_ms: int) -> int:
    if given is None:
        if timestamp_ms == -1:
            raise ValueError("no time at all")
        return timestamp_ms
    if isinstance(given, str):
        moment = datetime.fromisoformat(given)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return (moment - EPOCH) // timedelta(milliseconds=1)
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise TypeError("a time is a text or a number")
    for below, numerator, denominator in ((1e11, 1000, 1), (1e14, 1, 1), (1e17, 1, 1000), (1e19, 1, 1_000_000)):
        if abs(given) < below:
            scaled = given * numerator
            return scaled // denominator if isinstance(scaled, int) else math.floor(scaled / denominator)
    raise ValueError("no epoch has so many digits")


def _number(given: object) -> float | None:
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, int | float) or not math.isfinite(float(given)):
        raise TypeError("not a number")
    return float(given)


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) < 400 else float(digits)  # longer ones overflow to infinity


def audit(
    input_records: Iterable[TopicRecord],
    output_records: Iterable[TopicRecord],
    dead_letter_records: Iterable[TopicRecord],
    rules: Rules,
    input_topic: str,
) -> Report:
    """Compare the records of a `read_committed` reader with those that are due; a partition's records in order."""
    dead_letter_records = [one for one in dead_letter_records if note_of(LogRecord(*one[3:])) is None]
    refused = {place: letter for letter in dead_letter_records if (place := _place(letter)) is not None}
    verdicts = expected(input_records, rules, refused)
    report = Report(len(verdicts.of), Counter(verdicts.of.values()))

    def forecast(record: TopicRecord) -> Said:
        body = json.loads(record.value or b"")
        topic, partition, offset = body["id"].rsplit("-", 2)
        event = Event(body["stream"], body["time"], body["value"])
        same_id = dict(record.headers).get("foldcast-id") == body["id"].encode()
        return (int(partition), int(offset)), (event, record.partition, record.key, topic, same_id)

    def letter(record: TopicRecord) -> Said:
        ours = ((name.partition("foldcast-error-")[::2], value) for name, value in record.headers)
        head = {name: value.decode() for (before, name), value in ours if not before and name}
        place = (int(head["partition"]), int(head["offset"]))
        value = _left_out(verdicts.dead.get(place), head) if "sha256" in head and record.value is None else record.value
        return place, (record.partition, record.key, value, head["topic"], head["timestamp"], "reason" in head)

    def told(place: Place) -> object:
        event = verdicts.forecast[place]
        return event, place[0], event.stream.encode(), input_topic, True

    def kept(place: Place) -> object:
        record = verdicts.dead[place]
        key = f"{input_topic}-{place[0]}-{place[1]}".encode() if record.key is None else record.key
        return record.partition, key, record.value, input_topic, str(record.timestamp_ms), True

    newest: dict[tuple[int, str], int] = {}  # offset of each stream's newest forecast
    for place in _matched("forecasts", output_records, forecast, told, verdicts.forecast, report, verdicts.of):
        stream = (place[0], verdicts.forecast[place].stream)
        if place[1] < newest.get(stream, -1):
            report.note("forecasts out of order", f"{place} after {newest[stream]}")
        newest[stream] = max(place[1], newest.get(stream, -1))
    for _ in _matched("dead letters", dead_letter_records, letter, kept, verdicts.dead, report, verdicts.of):
        pass
    return report


def _left_out(record: TopicRecord | None, head: Mapping[str, str]) -> bytes | None:
    """The value that a dead letter only names, where its size and its hash are those of the input's."""
    value = (record and record.value) or b""
    named = len(value), hashlib.sha256(value).hexdigest()
    return value if named == (int(head["bytes"]), head["sha256"]) else None


def _matched(
    kind: str,
    records: Iterable[TopicRecord],
    read: Callable[[TopicRecord], Said],
    due: Callable[[Place], object],
    places: Collection[Place],
    report: Report,
    verdicts: Mapping[Place, str],
) -> Iterator[Place]:
    """Compare each record with the one due at its place; yield the places, each when it is first seen."""
    seen: Counter[Place] = Counter()
    wrong: set[Place] = set()
    for record in records:
        try:
            place, found = read(record)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            report.note(f"unreadable {kind}", f"{record.partition}/{record.offset}: {error!r}")
            continue
        if place not in places:
            report.note(f"unexpected {kind}", f"{place}: it is {verdicts.get(place, 'not in the input')}")
            continue
        seen[place] += 1
        if seen[place] > 1:
            report.note(f"{kind} twice", str(place))
            continue
        if found != due(place):
            wrong.add(place)
            report.note(f"wrong {kind}", f"{place}: {found} for {due(place)}"[:300])
        yield place
    for place in set(places) - seen.keys():
        report.note(f"missing {kind}", str(place))
    report.right[kind] = sum(number == 1 and place not in wrong for place, number in seen.items())
