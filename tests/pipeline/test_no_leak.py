"""Nothing later: no forecast, band, score or weight knows an event after it, learning included (invariant 5).

Two back-tests of real weather that are the same up to a cut, read in one batch, must be the same up to there, to the
bit: what was forecast and scored, and which weights came into service where.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest

from pipeline.backtest.backtest import Record, backtest, partition_of
from pipeline.backtest.inline import InlineTrainer
from pipeline.backtest.scoring import Scoring
from pipeline.events import Decoder, Format
from pipeline.forecasts import Forecasts, joined
from pipeline.learning.fine_tune import Schedule
from pipeline.method import Cell, Method
from pipeline.network.model import Network, Shape, Weights
from pipeline.shard import Shard
from tests.rigs.methods import SMALL
from tests.rigs.shard_rigs import said
from worker.demo.newyork import events

METHOD = SMALL
CELLS: tuple[Cell, ...] = ("rnn_tanh", "rnn_relu", "gru", "lstm")
HOURS, STREAMS = 130, 18
CUT = 90 * STREAMS - 7  # in the middle of an hour, and of what was read
SCHEDULE = Schedule(every_events=24, streams=6, learning_rate=1e-2)
RUINOUS = Schedule(every_events=24, streams=6, learning_rate=0.5)


@cache
def weather() -> tuple[Record, ...]:
    some = events()[: HOURS * STREAMS]
    bodies = (json.dumps({"stream": e.stream, "time": e.time_ms, "value": e.value}).encode() for e in some)
    return tuple(Record(i, e.stream, e.time_ms, body) for i, (e, body) in enumerate(zip(some, bodies, strict=True)))


@dataclass
class Told:
    """What one partition said, and which weights came into service where."""

    forecasts: Forecasts
    adoptions: list[tuple[int, str, bool]]  # offset, digest, whether it was a roll-back

    def until(self, offset: int) -> dict[str, object]:
        """All that there is before this offset."""
        early = int((self.forecasts.offset < offset).sum())
        return said(self.forecasts, slice(early)) | {"adoptions": [a for a in self.adoptions if a[0] <= offset]}


class Watched(Shard):
    """A shard that notes its adoptions."""

    def __init__(self, method: Method) -> None:
        super().__init__(method, Network(Shape.of(method), 1), 0, {})
        self.adoptions: list[tuple[int, str, bool]] = []

    def adopt(self, weights: Weights, offset: int, rolled_back: bool) -> None:
        super().adopt(weights, offset, rolled_back)
        self.adoptions.append((offset, self.network.digest(), rolled_back))


def told(
    records: Sequence[Record], method: Method = METHOD, partitions: int = 2, schedule: Schedule = SCHEDULE
) -> list[Told]:
    shards = [Watched(method) for _ in range(partitions)]
    trainers = [InlineTrainer(shard, schedule) for shard in shards]
    parts: list[list[Forecasts]] = [[] for _ in shards]
    for part in backtest(records, shards, Decoder(Format()), trainers):
        parts[part.partition].append(part.forecasts)
    return [Told(joined(own), shard.adoptions) for own, shard in zip(parts, shards, strict=True)]


# ---- what may come after the cut


def again(record: Record, **fields: object) -> Record:
    event = json.loads(record.value) | fields
    return record._replace(stream=event["stream"], value=json.dumps(event).encode())


def other_values(record: Record, rng: np.random.Generator) -> Record:
    return again(record, value=float(rng.normal(0, 10.0 ** rng.integers(-3, 9))))


def a_little_more(record: Record, _rng: np.random.Generator) -> Record:
    """No suspect: that would be held, and teach nothing yet."""
    return again(record, value=(json.loads(record.value)["value"] or 0) + 1)


def other_streams(record: Record, rng: np.random.Generator) -> Record:
    return again(record, stream=rng.choice([record.stream, "LGA.visib", "new", f"n{rng.integers(99)}"]))


def other_times(record: Record, rng: np.random.Generator) -> Record:
    moved = json.loads(record.value)["time"] + int(rng.choice([-(10**10), 0, 1, 10**6, 10**9]))
    return again(record, time=moved)._replace(timestamp_ms=moved)


def no_values(record: Record, rng: np.random.Generator) -> Record:
    return again(record, value=None)


def garbage(record: Record, rng: np.random.Generator) -> Record:
    return record._replace(value=rng.bytes(40), stream=record.stream if rng.random() < 0.5 else "x")


def everything(record: Record, rng: np.random.Generator) -> Record:
    record = other_values(record, rng)  # each differs, the one right after the cut too
    for change in (other_times, other_streams, no_values, garbage):
        if rng.random() < (0.1 if change in (no_values, garbage) else 0.6):
            record = change(record, rng)
    return record


CHANGES = (other_values, other_streams, other_times, no_values, garbage, everything)
Change = Callable[[Record, np.random.Generator], Record]


def changed_after(cut: int, change: Change) -> list[Record]:
    rng = np.random.default_rng(cut)
    return [*weather()[:cut], *(change(record, rng) for record in weather()[cut:])]


def cuts_of(cut: int, partitions: int) -> list[int]:
    """The cut as each partition's offset."""
    homes = [partition_of(record.stream, partitions) for record in weather()[:cut]]
    return [homes.count(p) for p in range(partitions)]


@cache
def untouched(cell: Cell, partitions: int, schedule: Schedule = SCHEDULE) -> list[Told]:
    return told(weather(), replace(METHOD, cell=cell), partitions, schedule)


def unchanged(cell: Cell, partitions: int, cut: int, change: Change, schedule: Schedule = SCHEDULE) -> int:
    """Compare up to the cut; the number of partitions that differ after it."""
    others, differ = told(changed_after(cut, change), replace(METHOD, cell=cell), partitions, schedule), 0
    mine = untouched(cell, partitions, schedule)
    for one, other, offset in zip(mine, others, cuts_of(cut, partitions), strict=True):
        assert one.until(offset) == other.until(offset)
        assert len(one.until(offset)["adoptions"]) >= 8, "weights came into service before the cut"  # type: ignore[arg-type]
        differ += one.until(10**9) != other.until(10**9)
    return differ


@pytest.mark.parametrize("partitions", [1, 2])
@pytest.mark.parametrize("cell", CELLS)
def test_whatever_comes_after_a_cut_changes_no_bit_before_it(cell: Cell, partitions: int) -> None:
    assert unchanged(cell, partitions, CUT, everything) == partitions, "and it does matter after it"


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_no_kind_of_change_after_a_cut_is_known_before_it(change: Change) -> None:
    assert unchanged("gru", 2, CUT, change) == 2


def test_roll_backs_know_nothing_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.learning.watchdog.PATIENCE", 20)
    assert unchanged("gru", 2, CUT, everything, RUINOUS) == 2
    for one, offset in zip(untouched("gru", 2, RUINOUS), cuts_of(CUT, 2), strict=True):
        assert any(rolled_back for at, _, rolled_back in one.adoptions if at <= offset)


@pytest.mark.parametrize("cut", [70 * STREAMS, 70 * STREAMS + 1, 81 * STREAMS + 11, HOURS * STREAMS - 1])
def test_a_cut_may_be_anywhere(cut: int) -> None:
    assert unchanged("gru", 2, cut, other_values) >= 1


def test_the_very_next_event_is_not_known() -> None:
    """One value differs: its own forecast is the first that may."""
    (one,) = untouched("gru", 1)
    records = list(weather())
    cut = next(i for i in range(CUT, CUT + STREAMS) if str(records[i].stream).endswith("temp"))  # not a constant
    records[cut] = a_little_more(records[cut], np.random.default_rng(1))
    (other,) = told(records, partitions=1)
    differ = (one.forecasts.mean != other.forecasts.mean).any(1)
    assert one.forecasts.offset[np.flatnonzero(differ)[0]] == cut
    assert one.until(cut) == other.until(cut)
    late = [a for a, b in zip(one.adoptions, other.adoptions, strict=True) if a != b]
    assert late[0][0] > cut, "and weights that learnt from it come after it"


# ---- that these tests can fail


@pytest.mark.parametrize("cell", CELLS)
def test_what_is_compared_is_forecast_with_weights_that_have_learnt(cell: Cell) -> None:
    (one,) = untouched(cell, 1)
    digests = [digest for _, digest, rolled_back in one.adoptions if not rolled_back]
    assert len(set(digests)) == len(digests) > 40
    without = told(weather(), replace(METHOD, cell=cell), 1, replace(SCHEDULE, learning_rate=0.0))[0]
    early = slice(7 * STREAMS)  # no stream has a window of 8 before
    assert said(one.forecasts, early) == said(without.forecasts, early), "nothing can have been learnt yet"
    assert np.nanmax(np.abs(one.forecasts.error - without.forecasts.error)) > 0.1


def test_weights_that_come_into_service_one_event_too_early_would_be_seen() -> None:
    """The same comparison, with a trainer that looks one update ahead."""

    def leaky(records: Sequence[Record]) -> Told:
        (honest,) = told(records, partitions=1)
        digests = [digest for _, digest, _ in honest.adoptions]
        offsets = [offset for offset, _, _ in honest.adoptions]
        return Told(honest.forecasts, [(o, d, False) for o, d in zip(offsets, digests[1:], strict=False)])

    one, other = leaky(weather()), leaky(changed_after(CUT, a_little_more))
    assert one.until(CUT) != other.until(CUT)


def test_scores_before_a_cut_are_the_same_numbers() -> None:
    """By stream, over forecasts whose labels have all come."""
    method, tallies = METHOD, []
    for records in (weather(), changed_after(CUT, other_values)):
        shard, scoring = Watched(method), Scoring(method, 40, CUT // STREAMS - method.longest)
        for part in backtest(records, [shard], Decoder(Format()), [InlineTrainer(shard, SCHEDULE)]):
            scoring.take(part.forecasts)
        tallies.append(scoring.tallies)
    for name, tally in tallies[0].items():
        if name.endswith("pressure"):
            continue  # values are missing, so that its event indices say something else
        other = tallies[1][name]
        assert tally.n.tolist() == other.n.tolist()
        assert tally.n.min() > 20
        for field in ("squared", "absolute", "capped", "blocks", "inside", "width", "pinball"):
            assert getattr(tally, field).tobytes() == getattr(other, field).tobytes(), (name, field)
