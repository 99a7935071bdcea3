"""A group that goes on with another's work: exactly one forecast per event of both lives together."""

import json
from collections import Counter
from dataclasses import replace

import pytest

from pipeline.durable.image import MARKER_KEY
from tests.rigs.loop_rig import FAILURES, Rig, drained
from tests.rigs.memory_broker import CHANGELOG, DEAD_LETTERS, INPUT, OUTPUT
from tests.rigs.memory_log import DamagedRead
from worker.broker.contract import OffsetHeld
from worker.lives.judge import Judge
from worker.lives.snapshot_clock import SnapshotPolicy
from worker.refusal import Refusal


def ids(rig: Rig) -> Counter[str]:
    return Counter(json.loads(m.value or b"")["id"] for m in rig.cluster.committed_messages(OUTPUT))


def ended(events: int = 60, waiting: int = 20, *unread: int, **changes: object) -> Rig:
    """A group that has ended after so many records; others wait for its successor."""
    rig = drained(events, **changes)
    rig.produce(waiting)
    rig.succeed(*unread)
    return rig


def folding(waiting: int = 20) -> tuple[Rig, int]:
    """A successor that is killed in its fold, after images on the way; and where its predecessor ended."""
    rig = ended(120, waiting, partitions=1)
    rig.limits = replace(rig.limits, snapshots=SnapshotPolicy(8, 1e9))
    rig.cluster.max_poll_records = 1
    loop = rig.start()
    while not (0 in loop.lives and loop.lives[0].shard.position > 40):
        rig.cycle()
    return rig, rig.starts[0]


def turn_until_all_is_taken_in(rig: Rig) -> None:
    """For what no uninterrupted fold is the measure of."""
    loop = rig.loops["one"]
    for _ in range(400):
        rig.turn()
        ends = {p: [e.offset for e, _ in rig.cluster.logs[INPUT, p].readable(0)][-1] for p in rig.references}
        if all(p in loop.lives and loop.lives[p].committed > end for p, end in ends.items()):
            return
    raise AssertionError(f"stuck at {rig.cluster.offsets}")


def test_the_new_group_publishes_from_where_the_old_one_ended() -> None:
    rig = ended()
    before = ids(rig)
    for name in ("one", "two"):
        rig.start(name)
    rig.drain()
    rig.check_topics()
    assert max(ids(rig).values()) == 1
    assert ids(rig) > before


def test_the_end_of_the_old_group_is_committed_before_anything_is_folded() -> None:
    rig = ended(partitions=1)
    rig.cluster.max_poll_records = 1
    end = rig.starts[0]
    loop = rig.start()
    while not rig.cluster.offsets:
        rig.cycle()
    assert rig.cluster.offsets == {0: end}
    assert loop.lives[0].pending > 30
    assert loop.why_not_ready == "restoring partitions [0]"
    rig.limits = replace(rig.limits, predecessor=None)  # from here on nobody has to know of it
    rig.start()
    rig.drain()
    rig.check_topics()


@pytest.mark.parametrize("after", range(0, 16, 3))
def test_a_crash_in_the_fold_repeats_nothing(after: int) -> None:
    rig = ended()
    rig.start()
    rig.cycle(times=after)
    rig.start()
    rig.drain()
    rig.check_topics()
    assert max(ids(rig).values()) == 1


@pytest.mark.parametrize("failure", FAILURES)
def test_a_first_transaction_that_fails_is_tried_again(failure: str) -> None:
    rig = ended(partitions=1)
    rig.start()
    rig.brokers["one"].fail_commit = failure
    rig.cycle(times=3)
    rig.drain()
    rig.check_topics()


@pytest.mark.parametrize("named", [True, False])
def test_a_first_transaction_whose_end_is_lost_repeats_nothing(named: bool) -> None:
    """It was committed, and the coordinator says for ever that it holds an offset before which there was none."""
    rig = ended(partitions=1)
    rig.start()
    broker, end = rig.brokers["one"], rig.starts[0]

    def held(_partition: int) -> int:
        raise OffsetHeld("held", None)

    broker.fail_commit = "unknown, committed"
    while broker.fail_commit:
        rig.turn()
    assert rig.cluster.offsets == {0: end}
    if not named:
        rig.limits = replace(rig.limits, predecessor=None)
        rig.start()
    rig.brokers["one"].committed = held  # type: ignore[assignment]
    rig.witnessing = False  # it believes the group
    for _ in range(60):
        rig.turn()
    assert rig.loops["one"].lives[0].committed > end
    assert max(ids(rig).values()) == 1


@pytest.mark.parametrize("clean", [True, False])
def test_offsets_that_expire_in_the_fold_are_known_by_the_changelog(clean: bool) -> None:
    rig, end = folding(waiting=0)
    if clean:
        rig.stop_cleanly()
    rig.cluster.offsets.clear()
    rig.start()
    while not rig.cluster.offsets:
        rig.cycle()
    assert rig.cluster.offsets == {0: end}
    rig.produce(10)
    rig.drain()
    rig.check_topics()


def test_offsets_that_expire_in_the_fold_of_a_busy_input_are_refused_by_the_least_they_were() -> None:
    rig, end = folding(waiting=20)
    rig.cluster.offsets.clear()
    rig.start()
    with pytest.raises(Refusal, match=rf"its changelog shows that it had {end}, and records came since"):
        rig.cycle(times=9)


def test_an_offset_that_is_set_back_below_the_border_is_refused() -> None:
    rig, end = folding()
    rig.cluster.offsets[0] = end - 5
    rig.start()
    with pytest.raises(Refusal, match=rf"the group's offset for partition 0 \({end - 5}\) is behind the changelog"):
        rig.cycle(times=9)


@pytest.mark.parametrize("clean", [True, False])
def test_each_life_of_a_long_fold_brings_the_image_further(clean: bool) -> None:
    rig, end = folding()
    images = []
    for _ in range(3):
        position = rig.loops["one"].lives[0].shard.position
        assert position < end
        if clean:
            rig.stop_cleanly()
        images.append(rig.image(0).marker.offset)
        assert images[-1] == position if clean else images[-1] > position - 8
        assert rig.cluster.offsets == {0: end}
        loop = rig.start()
        while not (0 in loop.lives and loop.lives[0].shard.position > position + 10):
            rig.cycle()
    assert images[0] < images[1] < images[2]
    rig.drain()
    rig.check_topics()
    assert rig.image(0).marker.border == 0


@pytest.mark.parametrize("killed", [True, False])
def test_what_the_input_loses_in_the_fold_is_not_missed_below_the_border(killed: bool) -> None:
    rig, end = folding()
    first = rig.loops["one"].lives[0].shard.position + 10
    assert first < end
    rig.cluster.truncate(0, first)
    before, rig.witnessing = ids(rig), False
    image = rig.image(0).marker.offset
    if killed:
        rig.start()
    turn_until_all_is_taken_in(rig)
    assert max(ids(rig).values()) == 1
    assert ids(rig) > before
    assert rig.sample("unlearnt_records_total") == first - image, "the state lacks them"
    assert rig.sample("input_gap_records_total") == 0


def test_what_the_input_loses_beyond_the_border_is_refused_or_counted() -> None:
    rig, end = folding()
    rig.cluster.truncate(0, end + 5)
    rig.start()
    with pytest.raises(Refusal, match=f"the log begins at {end + 5}"):
        rig.cycle(times=9)
    rig.plan, rig.witnessing = replace(rig.plan, skip_gaps=True), False
    rig.start()
    image = rig.image(0).marker.offset
    turn_until_all_is_taken_in(rig)
    assert rig.sample("input_gap_records_total") == 5
    assert rig.sample("unlearnt_records_total") == end - image


def test_what_is_published_counts_where_the_old_group_s_offset_is_from_before_or_gone() -> None:
    rig = ended()
    assert rig.limits.predecessor is not None
    offsets = {0: rig.limits.predecessor.offsets[0] - 9}
    rig.limits = replace(rig.limits, predecessor=replace(rig.limits.predecessor, offsets=offsets))
    rig.witnessing = False  # it would have the lower offset be the end
    rig.start()
    turn_until_all_is_taken_in(rig)
    assert rig.cluster.offsets.keys() == {0, 1}
    assert max(ids(rig).values()) == 1


def test_what_the_old_group_refused_for_want_of_room_stays_out_of_the_state() -> None:
    rig = Rig(partitions=1, streams=8)
    rig.judge(max_streams=5)
    rig.start()
    rig.produce(80)
    rig.drain()
    refused = rig.references[0]._refused
    assert len(refused) > 10
    rig.produce(20)
    rig.succeed()
    rig.limits = replace(rig.limits, judge=Judge())
    rig.start()
    rig.drain()
    rig.check_topics()
    assert rig.references[0]._refused == refused


def test_damaged_dead_letters_of_the_old_group_hold_nothing_up(caplog: pytest.LogCaptureFixture) -> None:
    rig = ended(partitions=1)
    rig.witnessing = False
    rig.start()
    broker = rig.brokers["one"]
    open_end = broker.open_end
    broker.open_end = lambda topic, partition, last: (  # type: ignore[method-assign]
        DamagedRead(rig.cluster.logs[topic, partition]) if topic == DEAD_LETTERS else open_end(topic, partition, last)
    )
    turn_until_all_is_taken_in(rig)
    assert max(ids(rig).values()) == 1
    assert "what group group refused is taken no further than here: damaged" in caplog.messages


def test_the_wrong_group_s_end_is_taken_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    rig = ended(partitions=1)
    rig.witnessing = False
    rig.start()
    turn_until_all_is_taken_in(rig)
    older = rig.limits.predecessor
    rig.succeed()
    rig.limits = replace(rig.limits, predecessor=older)
    loop = rig.start()
    while not loop.lives:
        rig.turn()
    (warning,) = [text for text in caplog.messages if "the output holds forecasts further on" in text]
    assert "partition 0 is taken over where group group ended" in warning
    assert "'after-group': " in warning


def test_what_is_published_counts_where_the_old_group_s_dead_letters_have_fewer_partitions() -> None:
    rig = ended()
    assert rig.limits.predecessor is not None
    old = replace(rig.limits.predecessor, offsets={0: rig.starts[0]}, letters=1)
    rig.limits = replace(rig.limits, predecessor=old)
    rig.witnessing = False  # it would have all of the second be published
    rig.start()
    turn_until_all_is_taken_in(rig)
    assert max(ids(rig).values()) == 1


def test_all_of_a_partition_that_the_old_group_never_read_is_published() -> None:
    rig = ended(60, 20, 1)
    rig.plan = replace(rig.plan, start="latest")
    rig.start()
    rig.drain()
    rig.check_topics()
    assert rig.cluster.committed_messages(OUTPUT)[-1].partition == 1


def test_going_back_before_each_partition_is_live_is_refused() -> None:
    rig = ended()
    rig.cluster.unanswered = {1}
    rig.witnessing = False
    rig.start()
    for _ in range(40):
        rig.turn()
    assert rig.cluster.offsets.keys() == {0}
    rig.cluster.unanswered = set()
    before = [m for m in rig.cluster.committed_messages(OUTPUT) if m.partition == 1]
    rig.succeed()
    rig.start()
    why = r"group after-group has no offset of partition 1 of input, .* those of group group, up to record \d+: once"
    with pytest.raises(Refusal, match=why):
        turn_until_all_is_taken_in(rig)
    assert [m for m in rig.cluster.committed_messages(OUTPUT) if m.partition == 1] == before


def test_the_state_begins_where_the_input_does_now(caplog: pytest.LogCaptureFixture) -> None:
    rig = ended(partitions=1)
    before = ids(rig)
    rig.cluster.truncate(0, 20)
    end, rig.witnessing = rig.starts[0], False
    with caplog.at_level("INFO"):
        rig.start()
        rig.turn()
        rig.turn()
    (fields,) = [record.fields for record in caplog.records if record.message == "taking over"]
    letters = {"dead_letters": DEAD_LETTERS}
    assert fields == {"partition": 0, "of": "group", "folds_from": 20, "publishes_from": end, "refused": 0, **letters}
    turn_until_all_is_taken_in(rig)
    assert max(ids(rig).values()) == 1
    assert ids(rig) > before
    assert rig.sample("unlearnt_records_total") == 0


def test_records_that_nobody_has_forecast_and_nobody_can_are_refused_or_counted() -> None:
    rig = ended(partitions=1)
    end = rig.starts[0]
    rig.cluster.truncate(0, end + 5)
    rig.start()
    with pytest.raises(Refusal, match=rf"records from {end} are to be forecast, the log begins at {end + 5}"):
        rig.cycle(times=3)
    rig.plan = replace(rig.plan, skip_gaps=True)
    rig.starts = {0: end + 5}
    rig.refer_anew(0)
    rig.start()
    rig.drain()
    assert rig.sample("input_gap_records_total") == 5


def test_a_group_that_nobody_knows_is_refused() -> None:
    rig = Rig()
    rig.produce(10)
    rig.succeed()
    rig.start()
    with pytest.raises(Refusal, match="the group group has no committed offset of input"):
        rig.cycle(times=3)
    assert not rig.cluster.offsets


def test_a_group_that_has_begun_asks_nobody() -> None:
    rig = ended(partitions=1)
    rig.start()
    rig.drain()
    assert rig.limits.predecessor is not None
    rig.limits = replace(rig.limits, predecessor=replace(rig.limits.predecessor, offsets={}))
    rig.produce(10)
    rig.start()
    rig.drain()
    rig.check_topics()
    assert [m.key for m in rig.cluster.committed_messages(CHANGELOG)].count(MARKER_KEY) > 1
