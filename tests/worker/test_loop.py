"""The loop over a broker in memory: what leaves it, what it remembers, and when it declines to go on."""

import gc
import json
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.batch import DROPS
from pipeline.decoding.numbers import Numbers
from pipeline.durable.image import BASE_KEY, MARKER_KEY, weights_key
from pipeline.events import Format
from pipeline.learning import watchdog
from tests.rigs.loop_rig import FAILURES, Rig, Witness, drained, nameless
from tests.rigs.memory_broker import CHANGELOG, DEAD_LETTERS, INPUT, OUTPUT, MemoryBroker
from tests.rigs.memory_log import Transaction
from worker.broker.contract import BrokerError, CommitError, Message, OffsetHeld
from worker.dead_letters import DeadLetterCatch
from worker.failures import Failures
from worker.lives.snapshot_clock import SnapshotPolicy
from worker.loop import CALM_S, POLL_S, Limits, Loop
from worker.refusal import Refusal

WORKERS = ("one", "two")


@pytest.fixture(autouse=True, scope="module")
def _a_row_is_a_page() -> Iterator[None]:
    """So that a snapshot of a few streams takes several transactions."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.table.PAGE_BYTES", 1)
        yield


# ---- invariants 1, 2, 3 and 7, whatever happens

ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("produce"), st.integers(1, 40)),
        st.tuples(st.just("batch"), st.integers(1, 30)),
        st.tuples(st.just("cycle"), st.sampled_from(WORKERS)),
        st.tuples(st.sampled_from(("restart", "expire", "stop", "poll", "renew", *FAILURES)), st.sampled_from(WORKERS)),
        st.tuples(st.just("rebalance"), st.just(0)),
    ),
    max_size=40,
)


def act(rig: Rig, what: str, who: str | int) -> None:
    if what == "produce":
        rig.produce(int(who))
    elif what == "batch":
        rig.cluster.max_poll_records = int(who)
    elif what == "rebalance":
        rig.cluster.rebalance()
    else:
        act_on(rig, what, str(who))


def act_on(rig: Rig, what: str, who: str) -> None:
    if what == "cycle":
        rig.cycle(who)
    elif what == "restart":
        rig.start(who)
    elif what == "stop":
        rig.stop_cleanly(who)
        rig.start(who)
    elif what == "expire":
        if who in rig.cluster.members:
            rig.cluster.expire(who)
    elif what == "poll":
        rig.brokers[who].fail_poll = True
    elif what == "renew":
        rig.brokers[who].fail_commit, rig.brokers[who].fail_renew = "refused", 2
    else:
        rig.brokers[who].fail_commit = what


PRODUCED = [("produce", 1), ("produce", 28), ("produce", 30), ("produce", 40)]


@settings(max_examples=120, deadline=None)
@example([*PRODUCED, ("rebalance", 0), ("restart", "two")], 2, True)  # an adoption right behind a marker, and no image
@given(ACTIONS, st.integers(0, 2), st.booleans())
def test_whatever_happens_each_transaction_and_each_state_are_those_of_one_fold(
    actions: list[tuple[str, str | int]], cycles: int, learning: bool
) -> None:
    play(Rig(learning=learning), actions, cycles)


@settings(max_examples=40, deadline=None)
@example([("cycle", "one"), ("unknown, committed", "one"), ("produce", 30), ("restart", "two"), ("produce", 9)], 2)
@given(ACTIONS, st.integers(0, 2))
def test_weights_that_are_taken_back_at_any_moment_are_those_of_one_fold(
    actions: list[tuple[str, str | int]], cycles: int
) -> None:
    rig = Rig(learning=True, streams=2, snapshot_events=100)
    rig.refers_anew = True  # a life may take weights back at C, where the one before had gone on
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watchdog, "is_bad", lambda state: (state[watchdog.LABELS] + state[watchdog.FORGIVEN]) % 3 == 1)
        play(rig, [*PRODUCED, *[("cycle", name) for name in WORKERS * 12], *actions], cycles)


def play(rig: Rig, actions: list[tuple[str, str | int]], cycles: int) -> None:
    for name in WORKERS:
        rig.start(name)
    for what, who in actions:
        act(rig, what, who)
        for name in WORKERS * cycles:
            rig.cycle(name)
    rig.produce(5)
    rig.drain()
    rig.check_topics()


@pytest.mark.parametrize("failure", [*FAILURES, "poll", "renew"])
@pytest.mark.parametrize("after", range(8))
def test_a_failure_at_any_cycle_costs_no_forecast_and_repeats_none(failure: str, after: int) -> None:
    rig = Rig()
    rig.start()
    rig.produce(70)
    rig.cycle(times=after)
    act_on(rig, failure, "one")
    rig.drain()
    rig.produce(9)
    rig.drain()
    rig.check_topics()
    rig.cycle(times=10)
    assert rig.loops["one"].why_not_ready is None


@pytest.mark.parametrize("ended_by", ["refused", "poll", "expire"])
def test_a_life_that_ended_leaves_its_memory_at_once(ended_by: str, caplog: pytest.LogCaptureFixture) -> None:
    """Not when Python next looks for what refers to itself: a worker has it look rarely, and a table is large."""
    caplog.set_level("CRITICAL")  # else the log keeps the error, and its traceback the life
    rig = drained(60)
    gc.collect()
    gc.disable()
    try:
        tables = [weakref.ref(live.shard.table) for live in rig.loops["one"].lives.values()]
        act_on(rig, ended_by, "one")
        rig.produce(30)
        rig.drain()
        assert tables
        assert [ref() for ref in tables] == [None] * len(tables)
    finally:
        gc.enable()


SEVERAL = Format(target_fields=("x", "in.y", "z"))


def produce_several(rig: Rig, number: int) -> None:
    """Records of three targets: mostly all there, some null, some absent, some no numbers."""
    for n in range(number):
        x = (f"{n * 7 % 13}.5", "null", '"?"', f"{n}")[n % 4]
        stream = f"new{n}" if n % 4 == 2 else f"s{n % 3}"  # a bad field and no room, in one record
        fields = [f'"stream":"{stream}","time":{n * 60},"x":{x},"in":{{"y":{n * 5 % 11}}}', *['"z":1'] * (n % 2)]
        body = "{" + ",".join(fields) + "}"
        rig.cluster.produce(n % 2, b"key", body.encode(), n * 60_000)


def test_records_of_several_targets_are_folded_again_to_the_same_bits() -> None:
    rig = Rig(form=SEVERAL, learning=True)
    rig.judge(max_streams=5)
    rig.start()
    produce_several(rig, 150)
    for what in ("restart", *FAILURES, "poll", "restart", "stop", "renew"):
        rig.cycle(times=3)
        act_on(rig, what, "one")
    rig.drain()
    rig.check_topics()
    made = rig.cluster.committed_messages(OUTPUT)
    ids = [dict(m.headers)["foldcast-id"].decode() for m in made]
    assert len(set(ids)) == len(ids) > 50
    assert {one.rpartition(":")[2] for one in ids} == {"x", "y", "z"}
    assert all(one.endswith(f":{m.key.decode().rpartition('/')[2]}") for one, m in zip(ids, made, strict=True) if m.key)
    letters = [dict(m.headers) for m in rig.cluster.committed_messages(DEAD_LETTERS)]
    assert {h["foldcast-error-reason"] for h in letters} == {b"wrong_type", b"too_many_streams"}
    places = [(h["foldcast-error-partition"], h["foldcast-error-offset"]) for h in letters]
    assert len(set(places)) == len(places), "a record has one dead letter, whatever is wrong in it"


def test_sentinels_and_values_outside_the_range_are_counted_as_such_and_folded_again_as_such() -> None:
    rig = Rig(partitions=1, form=Format(numbers=Numbers(sentinels=frozenset({-9999.0}), high=100.0)))
    rig.start()
    for n, value in enumerate((1, -9999, 2, 100.5, None, -9999, 3)):
        rig.cluster.produce(0, b"a", b'{"value":%s}' % json.dumps(value).encode(), n * 60_000)
    rig.drain()
    dropped = {reason: rig.sample("events_dropped_total", reason=reason) for reason in DROPS}
    assert dropped == {"late": 0, "duplicate": 0, "missing": 1, "sentinel": 2, "outside_range": 1}
    rig.start()
    rig.cycle(times=10)
    rig.check_topics()
    counters = rig.loops["one"].lives[0].shard.counters
    assert (counters.records, counters.forecasts, counters.sentinel, counters.outside_range) == (7, 3, 2, 1)
    assert (counters.missing, counters.dead) == (1, 0)


@pytest.mark.parametrize("failure", FAILURES)
def test_commits_that_fail_over_and_over_end_with_one_forecast_per_event(failure: str) -> None:
    rig = Rig()
    rig.start()
    rig.produce(70)
    for cycle in range(60):
        if cycle % 3:
            rig.brokers["one"].fail_commit = failure
        rig.cycle()
    rig.brokers["one"].fail_commit = None
    rig.drain()
    rig.check_topics()


@pytest.mark.parametrize("leave", [False, True])
def test_a_partition_that_came_back_within_one_poll_is_restored(leave: bool) -> None:
    rig = drained(30)
    stale = dict(rig.loops["one"].lives)
    rig.cluster.expire("one")
    rig.start("two")
    rig.produce(30)
    for _ in range(30):
        rig.cycle("two")
    assert rig.cluster.offsets == {p: r.position for p, r in rig.references.items()}
    if leave:
        rig.stop_cleanly("two", leave=True)
    else:
        rig.cluster.expire("two")
    del rig.loops["two"]
    rig.produce(10)
    rig.turn("one")  # lost, another worker's, and ours again: the poll tells of both at once
    loop = rig.loops["one"]
    assert {*loop.lives, *loop.restoring} == stale.keys()
    assert all(live is not stale[p] for p, live in loop.lives.items())
    rig.drain()
    rig.check_topics()


def test_records_of_a_life_that_ended_between_poll_and_commit_are_not_committed() -> None:
    rig = drained(30)
    before = dict(rig.cluster.offsets)
    rig.produce(20)
    asked = []

    def rebalance(broker: Witness) -> None:
        if not asked:
            asked.append(broker)
            rig.cluster.generation += 1  # the others went on without us

    rig.reached = rebalance  # type: ignore[method-assign]
    rig.turn()
    assert asked
    assert rig.cluster.offsets == before
    assert rig.sample("commits_total", outcome="refused") == 1
    rig.cluster.rebalance()
    rig.drain()
    rig.check_topics()


def test_records_polled_before_a_partition_was_started_again_are_not_fed() -> None:
    rig = drained(40)
    rig.produce(60)
    rig.brokers["one"].fail_commit = "refused"
    rig.turn()
    assert rig.loops["one"].restoring
    assert not rig.loops["one"].lives
    ahead = dict(rig.brokers["one"]._positions)
    assert any(position > rig.cluster.offsets[p] for p, position in ahead.items()), "it would be handed later records"
    rig.turn()  # polls records from there, and restores
    assert all(live.shard.position <= live.committed for live in rig.loops["one"].lives.values())
    rig.drain()
    rig.check_topics()


def test_records_that_do_not_follow_on_a_position_end_the_life() -> None:
    rig = drained(40)
    life = rig.loops["one"].lives[0]
    rig.brokers["one"].start(0, 0)  # as if the client had gone back by itself
    rig.turn()
    assert rig.loops["one"].lives.get(0) is not life
    rig.drain()
    rig.check_topics()


# ---- invariant 7: below C


@pytest.mark.parametrize("batch", [1, 3, 7, 500])
def test_while_catching_up_nothing_leaves_a_shard(batch: int) -> None:
    rig = drained(20, partitions=1, snapshot_events=1000)
    held, offsets = rig.everything(), dict(rig.cluster.offsets)
    rig.cluster.max_poll_records = batch
    loop = rig.start()
    behind = 0
    for _ in range(60):
        rig.cycle()
        behind += bool(loop.restoring) or any(not live.at_c for live in loop.lives.values())
    assert behind, "it was catching up"
    assert loop.why_not_ready is None
    assert (rig.everything(), rig.cluster.offsets) == (held, offsets)
    assert rig.sample("replayed_records_total") == offsets[0]
    for counter in ("events_total", "forecasts_total", "snapshot_records_total", "snapshot_bytes_total"):
        assert rig.sample(counter) == 0
    assert loop._metrics.latency.counts.sum() == 0
    assert loop._metrics.recent.labels.sum() == 0


def test_no_snapshot_is_begun_below_the_committed_offset() -> None:
    rig = drained(40, partitions=1, snapshot_events=1000)
    rig.limits = Limits(0, 1e9, SnapshotPolicy(4, 1e9), 0, DeadLetterCatch())  # due from the first replayed events on
    rig.cluster.max_poll_records = 1
    loop, held = rig.start(), rig.everything()
    while not (loop.lives and loop.lives[0].at_c):
        assert rig.everything() == held
        rig.turn()
    rig.drain()
    assert rig.tails()[0] <= 4


def test_a_batch_that_straddles_the_committed_offset_is_cut_there() -> None:
    rig = drained(20, partitions=1, snapshot_events=1000)
    c = rig.cluster.offsets[0]
    rig.produce(9)
    rig.cluster.max_poll_records = 500
    rig.start()
    rig.drain()
    rig.check_topics()
    assert rig.sample("events_total") == sum(o >= c for o in rig.references[0].messages)


# ---- the beginning


def test_the_first_transaction_has_offsets_the_base_weights_and_an_image() -> None:
    rig = Rig(partitions=1)
    rig.produce(3)
    rig.start()
    while not rig.cluster.offsets:
        rig.cycle()
    keys = [m.key for m in rig.cluster.committed_messages(CHANGELOG)]
    assert keys == [weights_key(0), BASE_KEY, MARKER_KEY]
    assert rig.cluster.offsets == {0: 0}, "events come after it"
    assert rig.brokers["one"].transactions == 1
    rig.drain()
    assert [m.key for m in rig.cluster.committed_messages(CHANGELOG)].count(weights_key(0)) == 1


def test_a_new_group_begins_at_the_first_record_there_is() -> None:
    rig = Rig(partitions=1)
    rig.produce(10)
    rig.cluster.truncate(0, 4)
    rig.begin_at(4)
    rig.start()
    while not rig.cluster.offsets:
        rig.turn()
    assert rig.cluster.offsets == {0: 4}


def test_a_latest_start_is_kept_over_a_crash_before_the_first_event() -> None:
    rig = Rig(start="latest", partitions=1)
    rig.produce(10)
    start = rig.cluster.logs[INPUT, 0].end
    rig.begin_at(start)
    rig.start()
    while not rig.cluster.offsets:
        rig.cycle()
    assert rig.cluster.offsets == {0: start}
    rig.produce(3)
    rig.start()
    rig.drain()
    assert len(rig.cluster.committed_messages(OUTPUT)) == 2, "what came after the start; one is missing its value"
    rig.check_topics()


def test_a_first_transaction_that_fails_is_tried_again_whole() -> None:
    rig = Rig(partitions=1)
    rig.start()
    rig.brokers["one"].fail_commit = "refused"
    rig.cycle(times=4)
    assert rig.sample("commits_total", outcome="refused") == 1
    assert [m.key for m in rig.cluster.committed_messages(CHANGELOG)] == [weights_key(0), BASE_KEY, MARKER_KEY]


def test_a_restart_serves_the_weights_that_were_logged_whatever_the_checkpoint_is_by_then() -> None:
    rig = drained()
    rig.plan = replace(rig.plan, checkpoint=None, seed=7)
    rig.start()
    rig.produce(30)
    rig.drain()
    rig.check_topics()


# ---- what a restart finds


def lose_changelog(rig: Rig) -> None:
    for (topic, _), log in rig.cluster.logs.items():
        if topic == CHANGELOG:
            log.entries.clear()


def forget_whose(rig: Rig) -> None:
    """Let what was published prove nothing: an older version did not say whose it is."""
    for (topic, _), log in rig.cluster.logs.items():
        if topic in (OUTPUT, DEAD_LETTERS):
            log.entries = [e._replace(message=e.message and nameless(e.message)) for e in log.entries]


def forget_whose_and(damage: Callable[[dict[int, int]], None]) -> Callable[[Rig], None]:
    """The same, and something happens to the group's offsets."""
    return lambda rig: (forget_whose(rig), damage(rig.cluster.offsets))[1]


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lose_changelog, r"the changelog of partition \d is empty, .* offset \d+: .*`foldcast topics reset`"),
        (forget_whose_and(dict.clear), r"no committed offset for partition \d, .* that it had \d+, .*: set it"),
        (
            forget_whose_and(lambda offsets: offsets.update({0: 1, 1: 1})),
            r"\(1\) is behind the changelog, whose image is at \d+",
        ),
        (lambda rig: rig.plan.settings.update({"model.cell": "lstm"}), "model.cell was 'gru' and is 'lstm'"),
        (lambda rig: rig.plan.settings.update({"events.max_gap": 7}), "events.max_gap was the default and is 7"),
        (
            lambda rig: setattr(rig.cluster, "input_id", "second"),
            "made anew: .* of topic first, and now there is second, .* kafka.group_id",
        ),
    ],
)
def test_what_cannot_be_restored_is_refused_with_the_reason_and_the_fix(damage, sentence) -> None:  # type: ignore[no-untyped-def]
    rig = drained()
    damage(rig)
    held = rig.everything()
    rig.start()
    with pytest.raises(Refusal, match=sentence):
        rig.cycle(times=30)
    assert rig.everything() == held


def test_records_that_the_input_has_lost_are_refused_with_both_offsets() -> None:
    rig = drained(partitions=1)
    image, first = rig.image(0).marker.offset, rig.cluster.offsets[0]
    assert image < first, "a tail is left"
    rig.cluster.truncate(0, first)
    rig.start()
    with pytest.raises(Refusal, match=f"records from {image} are needed, the log begins at {first}"):
        rig.cycle(times=100)


def with_holes(**changes: object) -> Rig:
    """A rig whose input loses two records before C and one after it."""
    rig = drained(partitions=1, snapshot_events=1000, **changes)
    image, committed = rig.image(0).marker.offset, rig.cluster.offsets[0]
    rig.produce(20)
    log = rig.cluster.logs[INPUT, 0]
    log.remove(*[e.offset for e, _ in log.readable(image)][2:4], [e.offset for e, _ in log.readable(committed)][9])
    rig.witnessing = False
    rig.start()
    return rig


def test_records_that_the_input_has_lost_from_its_middle_are_refused() -> None:
    rig = with_holes()
    held = rig.everything()
    with pytest.raises(Refusal, match=r"nothing is left at 2 offsets before \d+, .* worker\.on_gap = skip"):
        rig.cycle(times=100)
    assert rig.everything() == held


def test_records_that_the_input_has_lost_from_its_middle_are_counted_where_a_gap_may_be() -> None:
    rig = with_holes(skip_gaps=True)
    for _ in range(100):
        rig.turn()
    assert rig.sample("input_gap_records_total") == 1
    assert rig.sample("unlearnt_records_total") == 2
    assert rig.cluster.offsets[0] == rig.cluster.logs[INPUT, 0].end


@pytest.mark.parametrize("beyond", [-1, 0, 2])
def test_records_that_the_input_has_lost_are_counted_once_where_a_gap_may_be(beyond: int) -> None:
    rig = drained(partitions=1, skip_gaps=True)
    image, committed = rig.image(0).marker.offset, rig.cluster.offsets[0]
    first = committed + beyond
    assert image < first
    rig.produce(20)
    rig.cluster.truncate(0, first)
    rig.witnessing = False  # another state from here on, by the user's leave
    rig.start()
    rig.brokers["one"].fail_commit = "refused"  # the first transaction is to be tried again
    for _ in range(100):
        rig.turn()
    assert rig.sample("commits_total", outcome="refused") == 1
    assert rig.sample("input_gap_records_total") == max(0, first - committed), "they never get a forecast"
    assert rig.sample("unlearnt_records_total") == min(first, committed) - image, "they had theirs"
    assert rig.cluster.offsets[0] == rig.cluster.logs[INPUT, 0].end
    offsets = [int(dict(m.headers)["foldcast-id"].rpartition(b"-")[2]) for m in rig.cluster.committed_messages(OUTPUT)]
    assert offsets == sorted(set(offsets))
    rig.start()
    for _ in range(100):
        rig.turn()
    assert rig.loops["one"].why_not_ready is None
    assert rig.sample("input_gap_records_total") == 0, "the gap is part of the image"
    assert rig.sample("unlearnt_records_total") == 0


def test_a_clean_stop_leaves_nothing_to_fold_again() -> None:
    rig = drained()
    rig.stop_cleanly()
    assert all(rig.image(p).marker.clean for p in rig.references)
    assert set(rig.tails().values()) == {0}
    rig.start()
    rig.cycle(times=10)
    assert rig.sample("replayed_records_total") == 0
    rig.produce(30)
    rig.drain()
    rig.check_topics()


def test_after_a_clean_stop_lost_offsets_are_known_but_only_until_the_next_commit() -> None:
    rig = drained()
    rig.stop_cleanly()
    rig.starts = committed = dict(rig.cluster.offsets)
    rig.cluster.offsets.clear()
    rig.start()
    rig.cycle(times=10)
    assert rig.cluster.offsets == committed
    assert not any(rig.image(p).marker.clean for p in rig.references)
    rig.produce(2)
    rig.drain()
    rig.cluster.offsets.clear()
    forget_whose(rig)
    rig.start()
    with pytest.raises(Refusal, match="no committed offset"):
        rig.cycle(times=10)


def test_a_dead_letter_alone_does_not_tell_c_where_the_group_has_none() -> None:
    rig = drained(partitions=1, snapshot_events=1000)
    rig.cluster.produce(0, b"key", b"{")
    rig.produce(20)
    rig.drain()
    forget_whose_and(dict.clear)(rig)
    letter = rig.cluster.committed_messages(DEAD_LETTERS)[-1]
    facts = [("foldcast-error-group", b"group"), ("foldcast-error-source", b"first")]
    rig.cluster.logs[DEAD_LETTERS, 0].append(
        letter._replace(headers=[*letter.headers, *facts]), 0, Transaction("committed")
    )
    rig.start()
    with pytest.raises(Refusal, match="no committed offset"):
        rig.cycle(times=10)


def quiet(**changes: object) -> Rig:
    """A worker whose input has ended, with a snapshot of all of it, whose group then loses its offsets."""
    rig = Rig(partitions=1, snapshot_events=1000, **changes)  # type: ignore[arg-type]
    rig.limits = Limits(0, 1e9, SnapshotPolicy(1000, -1.0), 0, DeadLetterCatch())
    rig.start()
    rig.produce(20)
    rig.drain()
    rig.cycle(times=5)
    assert rig.tails() == {0: 0}
    assert not rig.image(0).marker.clean
    rig.starts = dict(rig.cluster.offsets)
    rig.cluster.offsets.clear()
    forget_whose(rig)
    return rig


def end_in_markers(rig: Rig) -> None:
    """An aborted transaction of another producer, longer than what one read brings, and a committed one's marker."""
    log, aborted = rig.cluster.logs[INPUT, 0], Transaction("aborted")
    for _ in range(10):
        log.append(Message(INPUT, 0, None, b"aborted"), 0, aborted)
    log.append(None, 0, aborted)
    log.append(None, 0, Transaction("committed"))


@pytest.mark.parametrize("after", [lambda rig: None, end_in_markers])
def test_offsets_that_a_quiet_group_lost_are_those_of_the_image_that_no_record_follows(after) -> None:  # type: ignore[no-untyped-def]
    rig = quiet()
    after(rig)
    rig.start()
    rig.cycle(times=10)
    assert rig.cluster.offsets == {0: rig.cluster.logs[INPUT, 0].end}, "and it is committed at once"
    rig.produce(10)
    rig.drain()
    rig.check_topics()


def test_a_record_after_the_image_proves_nothing_though_the_rest_of_the_log_is_aborted() -> None:
    rig = quiet()
    end_in_markers(rig)
    rig.produce(1)
    end_in_markers(rig)
    rig.start()
    held = rig.everything()
    with pytest.raises(Refusal, match="no committed offset"):
        rig.cycle(times=10)
    assert rig.everything() == held


def test_markers_at_the_log_s_end_that_retention_took_after_a_snapshot_are_no_gap(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("worker.lives.held.QUIET_S", 0.0)  # an image follows the one that the markers came amid
    rig = Rig(partitions=1, snapshot_events=1000)
    rig.limits = Limits(0, 1e9, SnapshotPolicy(1000, -1.0), 0, DeadLetterCatch())
    rig.start()
    rig.produce(20)
    rig.drain()
    end_in_markers(rig)
    rig.cycle(times=5)
    end = rig.cluster.logs[INPUT, 0].end
    assert rig.image(0).marker.offset == rig.cluster.offsets[0] == end
    rig.cluster.truncate(0, end)
    rig.start()
    rig.cycle(times=20)
    assert rig.loops["one"].why_not_ready is None
    rig.produce(10)
    rig.drain()
    rig.check_topics()


def settled(monkeypatch: pytest.MonkeyPatch) -> Rig:
    """A worker with nothing to do, of which no turn of all lives comes by the clock any more."""
    monkeypatch.setattr("worker.lives.held.QUIET_S", 0.0)
    rig = drained(partitions=3)
    rig.cycle(times=20)
    monkeypatch.setattr("worker.lives.held.QUIET_S", 1e9)
    rig.cycle()
    return rig


def test_a_life_of_which_nothing_presses_waits_for_the_turn_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = settled(monkeypatch)
    looked_at, adopted = list[int](), Loop._adopted
    monkeypatch.setattr(Loop, "_adopted", lambda loop, live: looked_at.append(live.partition) or adopted(loop, live))
    rig.cycle()
    assert looked_at == []
    rig.cluster.produce(1, None, b"{")
    rig.cycle()
    assert looked_at == [1]
    rig.loops["one"]._held._next_turn_of_all = 0.0
    rig.cycle(times=2)
    assert looked_at[1:] == [0, 1, 2]


def test_a_poll_waits_longer_where_nothing_but_records_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = settled(monkeypatch)
    waited, poll = list[float](), MemoryBroker.poll
    monkeypatch.setattr(MemoryBroker, "poll", lambda broker, s: waited.append(s) or poll(broker, s))  # type: ignore[func-returns-value]
    rig.cycle()
    assert waited == [CALM_S]
    rig.loops["one"].lives[1].shard.begin_snapshot()
    rig.cycle()
    assert waited[1:] == [POLL_S], "a snapshot is to be written"
    rig.start()
    rig.cycle(times=2)
    assert waited[2:] == [POLL_S, POLL_S], "it has nothing yet, then it restores"


def test_markers_below_c_are_no_records_to_wait_for() -> None:
    rig = drained(partitions=1, snapshot_events=1000)
    end_in_markers(rig)
    rig.cluster.offsets[0] = rig.cluster.logs[INPUT, 0].end  # by the first pages of a snapshot that was not completed
    rig.start()
    rig.cycle(times=30)
    assert rig.loops["one"].why_not_ready is None


def test_an_open_transaction_after_the_image_is_waited_for() -> None:
    rig = quiet()
    transaction = rig.cluster.open["feeder"] = Transaction()
    rig.cluster.logs[INPUT, 0].append(Message(INPUT, 0, b"key", b"{"), 0, transaction)
    loop = rig.start()
    rig.cycle(times=10)
    assert rig.cluster.offsets == {}
    assert "the input of partition 0 is not read to its end" in str(loop.why_not_ready)
    rig.cluster.end("feeder", "aborted")
    rig.cycle(times=10)
    assert rig.cluster.offsets == {0: rig.cluster.logs[INPUT, 0].end}


def test_what_retention_took_after_the_image_is_a_gap_where_the_group_lost_its_offsets_too() -> None:
    rig = quiet(skip_gaps=True)
    rig.produce(7)
    end = rig.cluster.logs[INPUT, 0].end
    rig.cluster.truncate(0, end)
    rig.witnessing = False
    rig.start()
    for _ in range(10):
        rig.turn()
    assert rig.cluster.offsets == {0: end}
    assert rig.sample("input_gap_records_total") == end - rig.starts[0]


@pytest.mark.parametrize("leave", [False, True])
def test_a_run_cycles_until_it_is_asked_to_stop_and_leaves_the_group_only_if_told(leave: bool) -> None:
    rig = Rig()
    loop = rig.start()
    rig.produce(50)
    rig.brokers["one"].fail_poll = True  # it goes on after a failure
    turns = []

    def after_cycle(_: object) -> None:
        turns.append(loop.why_not_ready)
        if len(turns) == 40:
            rig.stop.set()

    loop.run(rig.stop, leave, after_cycle)
    assert turns[0] is not None
    assert turns[-1] is None
    assert set(rig.tails().values()) == {0}
    assert ("one" in rig.cluster.members) == (not leave)
    rig.check_topics()


def test_a_stop_whose_commit_fails_is_not_clean() -> None:
    rig = drained()
    rig.brokers["one"].fail_commit = "refused"
    rig.stop_cleanly()
    assert not any(rig.image(p).marker.clean for p in rig.references)
    rig.start()
    rig.produce(10)
    rig.drain()
    rig.check_topics()


@pytest.mark.parametrize("away", [False, True])
@pytest.mark.parametrize("told", [10, 200, None])
def test_what_is_published_is_not_published_again_whatever_the_group_says(away: bool, told: int | None) -> None:
    rig = drained(partitions=1, snapshot_events=1000)
    offsets = rig.cluster.offsets
    now, image = offsets[0], rig.image(0).marker.offset
    assert image < now - 10, "an old C that fits the changelog"
    if told is None:
        offsets.clear()
    else:
        offsets[0] = max(now - told, 0)
    rig.witnessing = False  # it believes the group
    if away:
        rig.cluster.expire("one")
    else:
        rig.brokers["one"].fail_poll = True
    rig.produce(20)
    while offsets.get(0, 0) < rig.cluster.logs[INPUT, 0].end:
        rig.turn()
    rig.check_topics()


@pytest.mark.parametrize("held", [True, False])
def test_a_transaction_whose_end_is_to_come_is_not_forecast_again_however_long_it_takes(held: bool) -> None:
    """Where it holds the group's offset, and where a coordinator that came back answers with the one before it."""
    rig = drained(partitions=1, snapshot_events=1000)
    broker, output, offsets = rig.brokers["one"], rig.cluster.logs[OUTPUT, 0], rig.cluster.offsets
    now, old = offsets[0], rig.image(0).marker.offset + 1
    last = output.entries[-1].transaction
    places = [place for place, entry in enumerate(output.entries) if entry.transaction is last]
    assert old < now - len(places), "others came before"
    unended = Transaction()
    for place in places:
        output.entries[place] = output.entries[place]._replace(transaction=unended)
    output._starts.append((places[0], unended))

    def committed(_partition: int) -> int:
        if held:
            raise OffsetHeld("held", old)
        return old

    broker.committed = committed  # type: ignore[assignment]
    broker.fail_poll = True
    rig.witnessing = False  # it believes the group
    rig.loops["one"]._held._longest_transaction_s = 0.0
    for _ in range(20):
        rig.turn()
    assert output.end == places[-1] + 1, "nothing was written"
    unended.state = "committed"
    rig.drain()
    rig.check_topics()


def hold(rig: Rig, told: int | None) -> None:
    """Let the next transaction commit, and the coordinator lose its end: until the next it says what it said before."""
    broker, committed = rig.brokers["one"], rig.brokers["one"].committed

    def held(_partition: int) -> int:
        raise OffsetHeld("held", told)

    broker.fail_commit, broker.committed = "unknown, committed", held  # type: ignore[method-assign]
    while broker.fail_commit:
        rig.turn()
    assert not rig.loops["one"].lives, "it is restored now"
    for _ in range(20):
        rig.turn()
    assert rig.loops["one"].lives
    broker.committed = committed  # type: ignore[method-assign]


def test_an_image_in_the_transaction_that_holds_the_offset_tells_c_where_nothing_is_published() -> None:
    rig = drained(partitions=1, max_poll_records=30)
    before, image = rig.cluster.offsets[0], rig.image(0).marker.offset
    for _ in range(12):
        rig.cluster.produce(0, b"key", b'{"stream":"s0","time":1,"value":3}', 1)
    hold(rig, before)
    assert rig.image(0).marker.offset > max(image, before), "it came with the transaction"
    rig.produce(20)
    rig.drain()
    rig.check_topics()


def test_the_offset_of_a_group_s_first_transaction_may_be_held_too() -> None:
    rig = Rig(partitions=1)
    rig.produce(20)
    rig.start()
    hold(rig, None)
    rig.drain()
    rig.check_topics()


# ---- snapshots


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 60),
    st.integers(1, 25),
    st.lists(st.tuples(st.integers(0, 50), st.integers(1, 60)), max_size=25),
)
def test_no_commit_leaves_a_longer_tail_than_asked_for(
    limit: int, streams: int, batches: list[tuple[int, int]]
) -> None:
    rig = Rig(partitions=1, streams=streams, snapshot_events=limit)
    rig.start()
    for number, batch in batches:
        rig.produce(number)
        rig.cluster.max_poll_records = batch
        rig.cycle()  # looks at the tail
    rig.drain()
    rig.check_topics()


@pytest.mark.parametrize("limit", [1, 2, 3, 10])
def test_an_idle_worker_commits_nothing(limit: int) -> None:
    rig = drained(snapshot_events=limit)
    rig.cycle(times=20)
    before = rig.brokers["one"].transactions
    rig.cycle(times=20)
    assert rig.brokers["one"].transactions == before


def test_a_snapshot_is_spread_over_transactions_and_holds_the_state_at_its_offset() -> None:
    rig = Rig(partitions=1, streams=40, snapshot_events=400, max_poll_records=10)
    rig.start()
    rig.produce(300)
    most, last = 0, max(entry.offset for entry, _ in rig.cluster.logs[INPUT, 0].readable(0))
    while rig.cluster.offsets.get(0, 0) <= last:
        before = rig.brokers["one"].pieces
        rig.cycle()
        most = max(most, rig.brokers["one"].pieces - before)
    assert len(rig.markers()) >= 2
    assert most < 40, "never all pages at once"
    rig.check_topics()


def test_a_snapshot_is_taken_after_its_interval_too() -> None:
    rig = Rig(partitions=1, snapshot_events=1000)
    rig.limits = Limits(0, 1e9, SnapshotPolicy(1000, -1.0), 0, DeadLetterCatch())
    rig.start()
    rig.produce(6)
    rig.drain()
    rig.cycle(times=5)
    assert rig.tails()[0] == 0


# ---- when to give up


@pytest.mark.parametrize("traffic", [2, 0])
def test_a_worker_that_is_fenced_twice_declines_to_go_on(traffic: int) -> None:
    rig = drained()
    older, stop = rig.loops["one"], rig.stop
    rig.start()

    def both() -> None:
        for _ in range(60):
            rig.produce(traffic)
            rig.turn()
            with older._recovery(stop):
                older.cycle(stop)

    with pytest.raises(Refusal, match=r"fenced twice: another worker runs under the same kafka\.instance_id"):
        both()


def test_a_worker_gives_up_after_so_long_without_a_commit() -> None:
    rig = Rig()
    rig.limits = Limits(0, 0.0, SnapshotPolicy(None, 1e9), 0, DeadLetterCatch())
    rig.start()
    rig.produce(10)

    def fail() -> None:
        for _ in range(30):
            rig.brokers["one"].fail_commit = "refused"
            rig.turn()

    with pytest.raises(Refusal, match=r"nothing could be committed for .* \(worker\.give_up_s\).*refused as told"):
        fail()


def test_a_cycle_that_fails_is_one_line_however_much_is_held(caplog: pytest.LogCaptureFixture) -> None:
    rig = drained(partitions=3)
    caplog.set_level("INFO")
    rig.brokers["one"].fail_poll = True
    rig.turn()
    [told] = [record for record in caplog.records if record.getMessage() in ("restoring", "dropped")]
    assert vars(told)["fields"] == {"partitions": "0,1,2", "why": "a cycle failed"}


def test_an_idle_worker_is_well_again_once_its_poll_is() -> None:
    rig = drained()
    loop = rig.loops["one"]
    rig.brokers["one"].fail_poll = True
    rig.turn()
    assert loop.why_not_ready == "commits fail: poll failed; restoring partitions [0, 1]"
    rig.cycle(times=20)
    assert loop.why_not_ready is None, "no event has to come for it"
    assert not loop._failures.failing, "the next failure, hours later, must not find an old one"


def test_a_worker_without_partitions_is_well_again_once_its_poll_is() -> None:
    rig = drained(partitions=1)
    rig.start("two")
    for _ in range(5):
        for name in WORKERS:
            rig.cycle(name)
    assert not rig.loops["two"].lives
    rig.brokers["two"].fail_poll = True
    rig.turn("two")
    for _ in range(5):
        for name in WORKERS:
            rig.cycle(name)
    assert rig.loops["two"].why_not_ready is None


def test_pauses_grow_with_each_failure_and_begin_anew_after_a_commit() -> None:
    rig = drained()
    rig.stop.waits.clear()
    for _ in range(6):
        rig.brokers["one"].fail_commit = "refused"
        while rig.brokers["one"].fail_commit:
            rig.produce(1)
            rig.turn()
    assert rig.stop.waits == [0.5, 1.0, 2.0, 4.0, 8.0, 10.0]
    rig.drain()
    rig.brokers["one"].fail_commit = "refused"
    rig.produce(4)
    rig.turn()
    assert rig.stop.waits[-1] == 0.5


def test_failures_far_apart_with_commits_between_are_no_reason_to_give_up(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("worker.failures.time.monotonic", lambda: now[0])
    failures = Failures(give_up_s=10)
    for _ in range(5):
        failures.pause_after(BrokerError("gone"))
        now[0] += 9
        failures.pause_after(BrokerError("still"))
        failures.succeeded()
        now[0] += 100
    failures.pause_after(CommitError("fenced", outcome="refused", fenced=True))
    now[0] += 601
    failures.succeeded()
    failures.pause_after(CommitError("fenced", outcome="refused", fenced=True))  # not twice within ten minutes


@pytest.mark.parametrize(
    ("catch", "sentence"),
    [
        ({"in_a_row": 8}, r"the last \d+ records were all dead letters \(events.max_dead_in_a_row = 8\)"),
        ({"ratio": 0.5}, r"\d+ of \d{4} records were dead letters \(events.max_dead_ratio = 0.5\)"),
    ],
)
def test_too_many_dead_letters_are_refused_before_they_are_committed(catch: dict[str, int], sentence: str) -> None:
    rig = Rig(partitions=1, snapshot_events=None, max_poll_records=2000)
    rig.limits = Limits(0, 1e9, SnapshotPolicy(None, 1e9), 0, DeadLetterCatch(**catch))  # type: ignore[arg-type]
    rig.start()
    rig.produce(12)
    rig.drain()
    held, offsets = rig.everything(), dict(rig.cluster.offsets)
    for _ in range(1100):
        rig.cluster.produce(0, None, b"not JSON")
    with pytest.raises(Refusal, match=sentence):
        rig.turn()
    assert (rig.everything(), rig.cluster.offsets) == (held, offsets)


def test_dead_letters_of_a_commit_that_failed_are_not_counted_twice() -> None:
    catch = DeadLetterCatch(in_a_row=10)
    for _ in range(5):
        catch.check([(6, 6)])  # each time the same six
    catch.committed()
    with pytest.raises(Refusal, match="last 12 records"):
        catch.check([(6, 6)])


# ---- readiness and waiting


def test_readiness_says_what_is_missing() -> None:
    rig = drained(partitions=1, snapshot_events=1000)
    rig.cluster.max_poll_records = 1
    rig.cluster.expire("one")
    loop = rig.start()
    assert loop.why_not_ready == "not joined"
    rig.turn()
    assert loop.why_not_ready == "restoring partitions [0]"
    rig.cycle(times=100)
    assert loop.why_not_ready is None
    rig.cluster.rebalance()
    rig.start("two")
    rig.turn()
    assert loop.why_not_ready == "not joined", "nothing can be committed meanwhile"


def test_a_partition_held_by_an_open_transaction_holds_up_no_other() -> None:
    rig = drained()
    rig.start()
    rig.produce(10)
    with rig.cluster.held_offsets(0):
        for _ in range(20):
            rig.turn()
        loop = rig.loops["one"]
        assert loop.why_not_ready == "restoring partitions [0]; an open transaction holds the offset"
        assert rig.cluster.offsets[1] == rig.references[1].position
    rig.drain()
    rig.check_topics()


def test_cycles_wait_for_more_and_no_longer_than_told() -> None:
    rig = drained()
    rig.limits = Limits(0.5, 1e9, SnapshotPolicy(None, 1e9), 0, DeadLetterCatch())
    rig.start()
    rig.cycle(times=4)
    waits = rig.stop.waits[-3:]
    assert all(0.4 < wait <= 0.5 for wait in waits)
    assert rig.sample("loop_seconds_total", phase="idle") >= 0


def test_two_streams_of_one_name_in_two_partitions_are_counted() -> None:
    rig = Rig()
    rig.start()
    for partition in range(2):
        rig.cluster.produce(partition, None, b'{"stream":"same","time":60,"value":1}', 60_000)
        rig.drain()
    assert rig.sample("streams_in_two_partitions_total") == 1


@pytest.mark.parametrize(("step_ms", "doubts"), [(1, 1), (60_000, 0)])
def test_a_worker_asks_once_about_steps_of_milliseconds(
    step_ms: int, doubts: int, caplog: pytest.LogCaptureFixture
) -> None:
    rig = Rig(partitions=2, streams=1)
    rig.start()
    for n in range(60):
        time_ms = 1_600_000_000_000 + n * step_ms
        for partition in range(2):
            body = b'{"stream":"s%d","time":%d,"value":1}' % (partition, time_ms)
            rig.cluster.produce(partition, None, body, time_ms)
    rig.drain()
    told = [record for record in caplog.records if "is the unit right?" in record.getMessage()]
    assert [record.levelname for record in told] == ["WARNING"] * doubts
