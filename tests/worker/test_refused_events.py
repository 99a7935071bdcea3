"""Events that a worker refuses by its clock or its memory: it judges once, and whoever folds again agrees with it."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.durable.image import REFUSED_PREFIX
from tests.rigs.clock import Clock
from tests.rigs.loop_rig import FAILURES, Rig, nameless, state
from tests.rigs.memory_broker import CHANGELOG, DEAD_LETTERS, OUTPUT
from worker.refusal import Refusal

DAY_S = 86_400
AHEAD_MS = 30 * DAY_S * 1000
WORKERS = ("one", "two")


@pytest.fixture(autouse=True, scope="module")
def _a_row_is_a_page() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.table.PAGE_BYTES", 1)
        yield


def ahead(rig: Rig, stream: str = "s0", partition: int = 0) -> int:
    """An event without a time, its record stamped a month ahead; its offset."""
    return rig.cluster.produce(partition, b"key", b'{"stream":"%s","value":5}' % stream.encode(), AHEAD_MS)


def letters(rig: Rig) -> dict[tuple[int, int], str]:
    """By partition and offset: why there is a dead letter. Each has one."""
    found = [(m.partition, dict(m.headers)) for m in rig.cluster.committed_messages(DEAD_LETTERS)]
    places = [(p, int(h["foldcast-error-offset"])) for p, h in found]
    assert len(set(places)) == len(places), "a dead letter is there twice"
    return {place: h["foldcast-error-reason"].decode() for place, (_, h) in zip(places, found, strict=True)}


def forecast_offsets(rig: Rig, partition: int, stream: str) -> list[int]:
    ids = [dict(m.headers)["foldcast-id"] for m in rig.cluster.committed_messages(OUTPUT)
           if m.partition == partition and m.key == stream.encode()]  # fmt: skip
    return [int(one.rpartition(b"-")[2]) for one in ids]


def refused_now(rig: Rig, partition: int = 0) -> list[int]:
    return [offset for entry in rig.image(partition).refused for offset in entry.offsets]


def refusing(wall: Clock, max_streams: int = 10**9, snapshot_events: int | None = 1000, partitions: int = 1) -> Rig:
    """A worker that has taken in 30 records, and has then met one from the future, and 20 more."""
    wall.now = 10_000.0
    rig = Rig(partitions=partitions, snapshot_events=snapshot_events)
    rig.judge(max_streams=max_streams)
    rig.start()
    rig.produce(30)
    rig.drain()
    return rig


def until_live(rig: Rig) -> None:
    rig.start()
    for _ in range(100):
        rig.cycle()
        lives = rig.loops["one"].lives
        if len(lives) == rig.cluster.partitions and all(live.at_c for live in lives.values()):
            return
    raise AssertionError("it does not come live")


# ---- by the clock


def test_an_event_stamped_far_ahead_is_a_dead_letter_and_its_stream_goes_on(wall: Clock) -> None:
    rig = refusing(wall)
    refused = ahead(rig)
    rig.produce(20)
    rig.drain()
    rig.check_topics()
    assert letters(rig)[0, refused] == "future_time"
    assert list(letters(rig).values()).count("future_time") == 1
    assert forecast_offsets(rig, 0, "s0")[-1] > refused
    assert rig.sample("dead_letters_total", reason="future_time") == 1
    late = sum(not ms for ms in rig.references[0].messages.values())
    dropped = [rig.sample("events_dropped_total", reason=r) for r in ("late", "duplicate", "missing")]
    assert sum(dropped) == late


def test_a_time_field_far_ahead_is_refused_where_the_record_has_no_timestamp(wall: Clock) -> None:
    rig = refusing(wall)
    body = b'{"stream":"s0","value":5,"time":%.3f}'
    allowed = rig.cluster.produce(0, None, body % (wall.now + 3600), -1)
    refused = rig.cluster.produce(0, None, body % (wall.now + 3600.001), -1)
    rig.drain()
    assert letters(rig).get((0, refused)) == "future_time"
    assert forecast_offsets(rig, 0, "s0")[-1] == allowed


def test_a_worker_that_is_killed_folds_again_without_what_it_refused_however_late_it_is(wall: Clock) -> None:
    rig = refusing(wall)
    refused = ahead(rig)
    rig.produce(20)
    rig.drain()
    before, held = state(rig.loops["one"].lives[0].shard), rig.everything()
    wall.now += 365 * DAY_S  # by now the event would be none from the future
    until_live(rig)
    assert rig.sample("replayed_records_total") > refused
    assert state(rig.loops["one"].lives[0].shard) == before
    assert rig.everything() == held
    rig.produce(20)
    rig.drain()
    rig.check_topics()
    assert letters(rig)[0, refused] == "future_time"
    assert refused not in forecast_offsets(rig, 0, "s0")


@pytest.mark.parametrize("failure", FAILURES)
def test_what_was_refused_and_not_committed_is_judged_anew(failure: str, wall: Clock) -> None:
    rig = refusing(wall)
    refused = ahead(rig)
    rig.brokers["one"].fail_commit = failure
    rig.turn()
    wall.now += 365 * DAY_S
    rig.drain()
    rig.check_topics()
    stands = failure == "unknown, committed"
    assert ((0, refused) in letters(rig)) == stands
    assert (refused in forecast_offsets(rig, 0, "s0")) != stands
    assert refused_now(rig) == ([refused] if stands else [])


def test_another_worker_with_another_clock_takes_over_what_was_refused(wall: Clock) -> None:
    rig = refusing(wall, partitions=2)
    refused = ahead(rig)
    rig.drain()
    wall.now += 365 * DAY_S
    rig.start("two")
    rig.cluster.expire("one")
    del rig.loops["one"]
    rig.produce(20)
    rig.drain()
    rig.check_topics()
    assert letters(rig)[0, refused] == "future_time"


# ---- by memory


def test_events_of_new_streams_beyond_the_most_are_dead_letters_and_known_streams_go_on(wall: Clock) -> None:
    rig = refusing(wall, max_streams=6, partitions=2)
    rig.produce(60)
    rig.drain()
    rig.check_topics()
    lives = rig.loops["one"].lives.values()
    assert sum(len(live.shard.table.index) for live in lives) == 6, "of all its shards together"
    why = Counter(letters(rig).values())
    assert why["too_many_streams"] > 10
    assert rig.sample("dead_letters_total", reason="too_many_streams") == why["too_many_streams"]
    for live in lives:
        first = min(
            (o for (p, o), r in letters(rig).items() if p == live.partition and r == "too_many_streams"), default=0
        )
        for name in live.shard.table.index:
            assert sum(o > first for o in forecast_offsets(rig, live.partition, str(name))) >= 1


def test_a_missing_value_of_an_unknown_stream_takes_no_room_and_is_counted_as_missing(wall: Clock) -> None:
    rig = refusing(wall, max_streams=5)
    before = rig.sample("events_dropped_total", reason="missing")
    rig.cluster.produce(0, None, b'{"stream":"unknown","value":null,"time":9999}', 9_999_000)
    rig.drain()
    assert rig.sample("events_dropped_total", reason="missing") == before + 1
    assert "too_many_streams" not in letters(rig).values()


@pytest.mark.parametrize("most", [6, 100])
def test_a_worker_that_is_killed_holds_the_same_streams_whatever_room_it_has_then(most: int, wall: Clock) -> None:
    rig = refusing(wall, max_streams=6, partitions=2)
    rig.produce(60)
    rig.drain()
    before = {p: state(live.shard) for p, live in rig.loops["one"].lives.items()}
    turned_away, held = Counter(letters(rig).values())["too_many_streams"], rig.everything()
    rig.judge(max_streams=most)
    until_live(rig)
    assert {p: state(live.shard) for p, live in rig.loops["one"].lives.items()} == before
    assert rig.everything() == held
    rig.produce(60)
    rig.drain()
    rig.check_topics()
    more = Counter(letters(rig).values())["too_many_streams"] > turned_away
    assert more == (most == 6), "from C on it is judged anew"


# ---- the changelog


def test_nothing_is_logged_where_nothing_is_refused(wall: Clock) -> None:
    rig = refusing(wall)
    assert not [m for m in rig.cluster.committed_messages(CHANGELOG) if (m.key or b"").startswith(REFUSED_PREFIX)]


@pytest.mark.parametrize("history_s", [0, DAY_S])
def test_what_an_image_has_passed_is_forgotten_once_it_is_old_enough(history_s: int, wall: Clock) -> None:
    rig = refusing(wall, snapshot_events=12)
    rig.limits = replace(rig.limits, history_s=history_s)
    until_live(rig)
    refused = ahead(rig)
    rig.drain()
    assert refused_now(rig) == [refused]
    rig.produce(40)
    rig.drain()
    assert rig.image(0).marker.offset > refused
    assert refused_now(rig) == ([refused] if history_s else [])
    wall.now += 2 * DAY_S
    until_live(rig)
    rig.produce(40)
    rig.drain()
    assert refused_now(rig) == [], "by a later life too"
    rig.check_topics()


def test_an_offset_of_the_group_behind_what_was_refused_is_of_another_life(wall: Clock) -> None:
    rig = refusing(wall)
    refused = ahead(rig)
    rig.drain()
    rig.cluster.offsets[0] = refused
    for topic in (OUTPUT, DEAD_LETTERS):  # and nothing that is published tells whose it is
        log = rig.cluster.logs[topic, 0]
        log.entries = [e._replace(message=e.message and nameless(e.message)) for e in log.entries]
    rig.start()
    with pytest.raises(Refusal, match="two lives of the group"):
        rig.cycle(times=3)


# ---- whatever happens

ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("produce"), st.integers(1, 30)),
        st.tuples(st.sampled_from(("ahead", "later", "room")), st.integers(0, 7)),
        st.tuples(st.sampled_from(("cycle", "restart", "expire", *FAILURES)), st.sampled_from(WORKERS)),
    ),
    max_size=30,
)


def act(rig: Rig, wall: Clock, what: str, who: str | int) -> None:
    if isinstance(who, int):
        match what:
            case "produce":
                rig.produce(who)
            case "ahead":
                ahead(rig, f"s{who}", who % 2)
            case "later":
                wall.now += who * DAY_S * 6
            case "room":
                rig.judge(max_streams=who)  # whoever starts from now on
    elif what == "cycle":
        rig.cycle(who)
    elif what == "restart":
        rig.start(who)
    elif what == "expire":
        if who in rig.cluster.members:
            rig.cluster.expire(who)
    else:
        rig.brokers[who].fail_commit = what


@settings(max_examples=60, deadline=None)
@given(ACTIONS, st.booleans())
def test_whatever_happens_each_event_is_judged_once(actions: list[tuple[str, str | int]], learning: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        wall = Clock()
        patch.setattr("time.time", wall)
        wall.now = 10_000.0
        rig = Rig(learning=learning, streams=4)
        rig.judge(max_streams=5)
        for name in WORKERS:
            rig.start(name)
        for what, who in actions:
            act(rig, wall, what, who)
            for name in WORKERS:
                rig.cycle(name)
        rig.produce(5)
        rig.drain()
        rig.check_topics()
        letters(rig)
