"""What a worker refuses of a batch, and how it is written down."""

import numpy as np

from pipeline.batch import Batch
from pipeline.durable.image import MOST_REFUSED, Refused, read_image
from pipeline.events import Decoder, Format
from pipeline.table import PAGE_BYTES
from tests.rigs.clock import Clock
from worker.lives.judge import Judge, RefusedEvents

FIRST = 2**62  # offsets with as many digits as there are


def batch_of(*events: bytes, stamp_ms: int = 0) -> tuple[Batch, range]:
    """Events at the offsets from 10 on, and all offsets."""
    offsets = range(10, 10 + len(events))
    many = len(events)
    return Decoder(Format()).decode(offsets, [stamp_ms] * many, [None] * many, events)[0], offsets


def test_places_are_those_of_records_and_an_event_from_the_future_takes_no_room(wall: Clock) -> None:
    at = [0, 0, 9_000_000, 0, 0, 0]
    bodies = [b"{", *(b'{"stream":"%s","value":1}' % name for name in (b"a", b"ahead", b"b", b"c", b"known"))]
    offsets = range(10, 16)
    batch, _ = Decoder(Format()).decode(offsets, at, [None] * 6, bodies)
    wall.now = 0.0
    judge = Judge(3_600_000, max_streams=2)
    kept, refused = judge.sift(batch, offsets, {"known"})
    assert [(one.place, one.reason) for one in refused] == [(2, "future_time"), (4, "too_many_streams")]
    assert kept.name == ["a", "b", "known"]
    assert kept.offset.tolist() == [11, 13, 15]
    assert (kept.records, kept.end) == (6, 16), "the others are dead letters of the same batch"


def test_a_record_is_refused_with_all_its_events_and_takes_no_room(wall: Clock) -> None:
    several = Decoder(Format(target_fields=("x", "y", "z")))
    bodies = [
        b'{"stream":"a","x":1,"y":1}',
        b'{"stream":"b","x":1}',
        b'{"stream":"c","x":1,"y":1,"z":null}',
        b'{"x":"?"}',
    ]
    batch, _ = several.decode(range(4), [0] * 4, [b"k"] * 4, bodies)
    kept, refused = Judge(max_streams=2).sift(batch, range(4), {"c/x"})
    assert [(one.place, one.reason) for one in refused] == [(1, "too_many_streams"), (2, "too_many_streams")]
    assert kept.name == ["a/x", "a/y"]
    kept, refused = Judge(max_streams=1).sift(batch, range(4), {"c/x"})
    assert [one.place for one in refused] == [0, 2]
    assert kept.name == ["b/x"], "a record that is refused leaves its room to others"


def test_clocks_that_differ_by_less_than_a_second_refuse_nothing(wall: Clock) -> None:
    wall.now = 100.0
    for stamp_ms, refused in ((101_000, 0), (101_001, 1)):
        batch, offsets = batch_of(b'{"stream":"a","value":1}', stamp_ms=stamp_ms)
        assert len(Judge(0).sift(batch, offsets, ())[1]) == refused


def test_very_many_refused_events_are_written_in_records_that_fit_and_all_are_read_again() -> None:
    many = 2 * MOST_REFUSED + 5
    records = RefusedEvents().records(list(range(FIRST, FIRST + many)))
    assert len(records) == 3
    assert max(len(value) for _, value in records) < PAGE_BYTES
    again = RefusedEvents(read_image(records).refused)
    batch, _ = batch_of(*[b'{"stream":"a","value":1}'] * 3)
    at = np.array([FIRST - 1, FIRST + many - 1, FIRST + many])
    assert again.sift(batch._replace(offset=at)).offset.tolist() == [FIRST - 1, FIRST + many]
    assert again.lacks(at.tolist()) == [FIRST - 1, FIRST + many]
    assert again.lacks([]) == []
    assert RefusedEvents().lacks([FIRST]) == [FIRST]


def test_of_a_batch_those_are_told_that_were_not_refused() -> None:
    logged = [Refused(0, list(range(at, at + 90, 9))) for at in (900, 0)]  # an image gives them by age
    refused = RefusedEvents(logged)
    assert refused.lacks(range(0, 990, 3)) == [at for at in range(0, 990, 3) if at % 9 or 90 <= at < 900]
