"""When snapshots are begun and how they are spread, without a broker."""

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.durable.image import MARKER_KEY, read_image
from pipeline.events import Decoder, Format
from pipeline.network.model import Network, Shape
from pipeline.shard import Shard
from tests.rigs.loop_rig import CHECKPOINT, METHOD
from worker.lives.loading import cold_start
from worker.lives.snapshot_clock import (
    DEFAULT_EVENTS,
    EVENTS_PER_ROW,
    IDLE_PAGES,
    MOST_PAGES,
    SnapshotClock,
    SnapshotPolicy,
)


@pytest.fixture(autouse=True, scope="module")
def _a_row_is_a_page() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.table.PAGE_BYTES", 1)
        yield


class Run:
    """A shard that is fed and snapshotted as the loop does it."""

    def __init__(self, events: int | None, interval_s: float = 1e9) -> None:
        network = Network(Shape.of(METHOD), seed=0)
        network.load(CHECKPOINT)
        self.shard = Shard(METHOD, network, 0, {})
        self.clock = SnapshotClock(SnapshotPolicy(events, interval_s))
        self.written = cold_start(self.shard)
        self.decoder = Decoder(Format())

    def feed(self, number: int, streams: int) -> None:
        offsets = range(self.shard.position, self.shard.position + number)
        bodies = [b'{"stream":"s%d","time":%d,"value":%d}' % (o % streams, o, o % 7) for o in offsets]
        batch, _ = self.decoder.decode(offsets, [o * 1000 for o in offsets], [None] * number, bodies)
        self.shard.advance(batch)

    def cycle(self, number: int = 0, streams: int = 10) -> int:
        """Records of a snapshot that went out."""
        if number:
            self.feed(number, streams)
        pieces, _ = self.clock.pieces(self.shard, number, 0)
        self.written += pieces
        return len(pieces)


def test_nothing_is_written_of_a_shard_that_took_in_nothing() -> None:
    for events in (1, 2, 10, None):
        run = Run(events, interval_s=-1)
        assert [run.cycle() for _ in range(5)] == [0] * 5


def test_a_snapshot_is_begun_at_half_of_the_limit() -> None:
    run = Run(100)
    assert [run.cycle(7) > 0 for _ in range(8)] == [False] * 7 + [True]


def test_its_pages_are_spread_over_the_events_that_are_left() -> None:
    run = Run(200)
    sizes = [run.cycle(5, streams=60) for _ in range(40)]
    begun = [size for size in sizes if size]
    assert len(begun) > 5
    assert max(begun) <= IDLE_PAGES + 1, "with the marker"
    assert run.shard.replay_tail <= 200


def test_what_is_left_at_the_limit_goes_at_once() -> None:
    run = Run(100)
    assert run.cycle(50, streams=40) <= 41
    run.cycle(45, streams=40)
    assert run.cycle(30, streams=40) > 0
    assert run.shard.replay_tail <= 100


def test_no_transaction_carries_more_than_a_broker_takes() -> None:
    run = Run(100)
    sizes = [run.cycle(200, streams=200) for _ in range(8)]
    assert max(sizes) == MOST_PAGES
    assert any(key == MARKER_KEY for key, _ in run.written[2:]), "it ends all the same"


def test_an_interval_begins_one_too_and_its_age_starts_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("worker.lives.snapshot_clock.time.monotonic", lambda: now[0])
    run = Run(1_000_000, interval_s=300)
    assert run.cycle(5, streams=3) == 0
    now[0] = 301
    assert run.cycle() == 4, "three pages and the marker, though nothing came"
    assert run.clock.age_s == 0
    now[0] = 302
    run.feed(1, 3)
    assert run.clock.age_s == 1
    assert run.cycle(1, streams=3) == 0


def test_the_default_limit_grows_with_the_streams() -> None:
    run = Run(None)
    policy = SnapshotPolicy(None, 300)
    assert policy.limit(run.shard) == DEFAULT_EVENTS
    run.shard.table.index = {str(n): n for n in range(10_000)}
    assert policy.limit(run.shard) == 10_000 * EVENTS_PER_ROW
    assert SnapshotPolicy(7, 300).limit(run.shard) == 7


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 80), st.lists(st.tuples(st.integers(0, 60), st.integers(1, MOST_PAGES)), min_size=1, max_size=30))
def test_the_tail_never_exceeds_the_limit_and_what_is_written_is_an_image(
    limit: int, batches: list[tuple[int, int]]
) -> None:
    run = Run(limit)
    states = {0: b""}
    for number, streams in batches:
        run.feed(number, streams) if number else None
        states[run.shard.position] = run.shard.table.rows[: len(run.shard.table.names)].tobytes()
        pieces, _ = run.clock.pieces(run.shard, number, 0)
        run.written += pieces
        assert run.shard.replay_tail <= limit
        image = read_image(run.written)  # after every transaction
        assert image.marker is not None
        assert image.marker.offset == run.shard.snapshot_offset
        assert b"".join(page.rows for page in image.pages) == states[image.marker.offset]
