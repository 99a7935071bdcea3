"""What every broker must do, tried on the one in memory and on a real Kafka."""

import time
from collections.abc import Callable, Iterator

import pytest
from confluent_kafka import KafkaError as Code
from confluent_kafka import KafkaException, TopicPartition
from kafka.errors import KafkaError, KafkaTimeoutError

from tests.rigs.broker_rigs import (
    ALL,
    LIMIT_S,
    LONG_SESSION_S,
    PARTITIONS,
    KafkaRig,
    MemoryRig,
    Rig,
    Worker,
    drive,
    eventually,
    in_group,
    joined,
    numbered,
)
from tests.rigs.client import CLIENTS
from tests.rigs.memory_broker import INPUT, OUTPUT, MemoryBroker, MemoryCluster
from worker.broker.contract import BrokerError, CommitError, Message, NotYet, OffsetHeld


@pytest.fixture(params=["memory", *(pytest.param(client, marks=pytest.mark.kafka) for client in CLIENTS)])
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    client = request.param
    rig: Rig = MemoryRig() if client == "memory" else KafkaRig(request.getfixturevalue("bootstrap"), client)
    yield rig
    rig.close()


@pytest.fixture(params=[pytest.param(client, marks=pytest.mark.kafka) for client in CLIENTS])
def kafka_rig(request: pytest.FixtureRequest, bootstrap: str) -> Iterator[KafkaRig]:
    rig = KafkaRig(bootstrap, request.param)
    yield rig
    rig.close()


class Instead:
    """A client of which some methods are other ones."""

    def __init__(self, client: object, methods: dict[str, Callable[..., object]]) -> None:
        self._client = client
        vars(self).update(methods)

    def __getattr__(self, name: str) -> object:
        return getattr(self._client, name)


def instead(patch: pytest.MonkeyPatch, owner: object, name: str, **methods: Callable[..., object]) -> None:
    """Put these in the place of a client's methods, of which librdkafka's take no patch."""
    patch.setattr(owner, name, Instead(getattr(owner, name), methods))


def two(rig: Rig) -> tuple[Worker, Worker]:
    """Two workers that share the partitions."""
    first = joined(rig)
    second = Worker(rig.join("w2"))
    drive(first, second, until=lambda: len(first.owned) == len(second.owned) == PARTITIONS // 2)
    drive(first, second, until=lambda: None not in (first.membership, second.membership))
    return first, second


def test_what_began_delivers_nothing_before_start(rig: Rig) -> None:
    rig.feed(numbered(0, 5))
    worker = joined(rig)
    worker.poll(0.3)
    assert worker.rows == {}
    worker.broker.start(0, 2)
    drive(worker, until=lambda: worker.count() == 3)
    assert [offset for offset, *_ in worker.rows[0]] == [2, 3, 4]


def test_records_come_in_order_with_all_their_parts(rig: Rig) -> None:
    headers = [("traceparent", b"00-1"), ("h", b"")]
    rig.feed([(1, b"a", b"x", 11), (1, None, b"", 12), (1, b"b", None, 5)])
    rig.feed([(2, b"c", b"y", 7)], headers)
    worker = joined(rig)
    worker.broker.start(1, 0)
    worker.broker.start(2, 0)
    drive(worker, until=lambda: worker.count() == 4)
    assert worker.rows[1] == [(0, 11, b"a", b"x", []), (1, 12, None, b"", []), (2, 5, b"b", None, [])]
    assert worker.rows[2] == [(0, 7, b"c", b"y", headers)]


def test_what_is_passed_are_markers_and_aborted_records_but_nothing_that_is_still_to_come(rig: Rig) -> None:
    rig.feed(numbered(0, 2))
    rig.feed_aborted(numbered(0, 3))
    worker = joined(rig)
    assert worker.poll().passed == {}, "nothing was started"
    worker.broker.start(0, 0)
    drive(worker, until=lambda: worker.passed.get(0) == 6)
    assert worker.count() == 2
    rig.feed(numbered(0, 1))
    drive(worker, until=lambda: worker.count() == 3)
    assert [offset for offset, *_ in worker.rows[0]] == [0, 1, 6]
    worker.broker.start(0, 3)  # amid what was aborted
    drive(worker, until=lambda: worker.count() == 4 and 0 in worker.passed)
    assert worker.lost == {}


def test_bounds_and_lag_tell_how_much_there_is(rig: Rig) -> None:
    rig.feed(numbered(3, 7))
    worker = joined(rig)
    assert worker.broker.partitions_now() == worker.broker.partitions == PARTITIONS
    assert eventually(lambda: worker.broker.bounds(3)) == (0, 7)
    assert eventually(lambda: worker.broker.bounds(0)) == (0, 0)
    worker.broker.start(3, 0)
    drive(worker, until=lambda: worker.count() == 7)
    assert worker.broker.lag() == {3: 0}
    worker.broker.start(3, 4)
    drive(worker, until=lambda: worker.count() == 10)
    assert worker.broker.lag() == {3: 0}


def test_what_rests_delivers_and_passes_nothing_before_its_next_start(rig: Rig) -> None:
    rig.feed([*numbered(0, 3), *numbered(1, 1)])
    worker = joined(rig)
    worker.broker.start(0, 0)
    worker.broker.start(1, 0)
    drive(worker, until=lambda: worker.count() == 4)
    worker.broker.rest(0, 1)
    worker.rows.clear()
    worker.passed.clear()
    rig.feed([*numbered(0, 2), *numbered(1, 2)])
    drive(worker, until=lambda: len(worker.rows.get(1, [])) == 2)
    assert (worker.rows.get(0), worker.passed.get(0, 1)) == (None, 1)
    worker.broker.start(0, 1)
    drive(worker, until=lambda: 0 in worker.rows and len(worker.rows[0]) == 4)
    assert [offset for offset, *_ in worker.rows[0]] == [1, 2, 3, 4]


def test_a_start_at_any_moment_delivers_from_its_offset_on_and_nothing_twice(rig: Rig) -> None:
    rig.feed([row for partition in ALL for row in numbered(partition, 20)])
    worker = joined(rig)
    for turn in range(10):
        begins = {partition: (7 * turn + 3 * partition) % 20 for partition in ALL}
        for partition, begin in begins.items():
            worker.broker.start(partition, begin)
        worker.rows.clear()
        drive(worker, until=lambda: worker.count() >= sum(20 - begin for begin in begins.values()))  # noqa: B023
        for partition, begin in begins.items():
            assert [offset for offset, *_ in worker.rows[partition]] == [*range(begin, 20)]
        if turn % 2:
            worker.broker.rest(turn % PARTITIONS, turn)


@pytest.mark.kafka
def test_a_record_that_librdkafka_passes_by_fails_the_poll(bootstrap: str) -> None:
    rig = KafkaRig(bootstrap, "librdkafka")
    rig.feed(numbered(0, 6))
    worker = joined(rig)
    worker.broker.start(0, 0)
    drive(worker, until=lambda: worker.count() == 6)
    worker.broker.start(0, 1)
    consumer = rig.brokers[0]._consumer
    assert consumer is not None
    consumer._consumer.seek(TopicPartition(rig.input, 0, 4))
    with pytest.raises(BrokerError, match=f"{rig.input}-0 has 3 records from 1 to 4, 0 came"):
        drive(worker, until=lambda: False)
    rig.close()


def test_a_new_group_has_no_offset_and_only_a_commit_moves_it(rig: Rig) -> None:
    rig.feed(numbered(0, 3))
    worker = joined(rig)
    assert worker.committed(0) is None
    worker.broker.start(0, 0)
    drive(worker, until=lambda: worker.count() == 3)
    assert worker.committed(0) is None
    worker.commit([], {0: 3})
    assert worker.committed(0) == 3
    assert worker.committed(1) is None


def test_a_commit_shows_all_its_messages_with_their_parts(rig: Rig) -> None:
    worker = joined(rig)
    messages = [
        Message(rig.output, 0, b"k", b"v", [("h", b"1"), ("h", b"")]),
        Message(rig.output, 2, None, b"w", []),
        Message(rig.changelog, 2, b"gone", None, []),
    ]
    worker.commit(messages, {0: 1, 2: 5})
    shown = rig.readable(rig.output) + rig.readable(rig.changelog)
    assert sorted(map(repr, shown)) == sorted(map(repr, messages))
    assert [worker.committed(p) for p in range(PARTITIONS)] == [1, None, 5, None]


def test_runs_of_messages_longer_than_a_batch_keep_their_order(rig: Rig) -> None:
    worker = joined(rig)
    places = [(rig.output, 0)] * 2000 + [(rig.output, 1), (rig.changelog, 0)] * 20 + [(rig.output, 0)] * 500
    messages = [
        Message(topic, partition, b"%d" % i, bytes([i % 251]) * (i % 1500), [("h", b"%d" % i)] * (i % 3))
        for i, (topic, partition) in enumerate(places)
    ]
    worker.commit(messages, {0: 1})
    worker.commit(messages[:3], {0: 2})
    for topic in (rig.output, rig.changelog):
        for partition in range(2):
            sent = [m for m in [*messages, *messages[:3]] if m[:2] == (topic, partition)]
            assert [m for m in rig.readable(topic) if m.partition == partition] == sent


def test_a_refused_commit_leaves_nothing_and_renew_makes_room_for_the_next(rig: Rig) -> None:
    worker = joined(rig)
    good = Message(rig.output, 0, b"k", b"refused")
    with pytest.raises(CommitError) as refused:
        worker.commit([good, Message(rig.output, 99, b"k", b"no such partition")], {0: 1})
    assert (refused.value.outcome, refused.value.fenced) == ("refused", False)
    with pytest.raises(CommitError):
        worker.commit([good], {0: 1})
    worker.broker.renew()
    worker.commit([Message(rig.output, 0, b"k", b"next")], {0: 2})
    assert [message.value for message in rig.readable(rig.output)] == [b"next"]
    assert worker.committed(0) == 2


def test_a_commit_without_offsets_is_a_mistake(rig: Rig) -> None:
    with pytest.raises(ValueError, match="carries offsets"):
        joined(rig).commit([Message(rig.output, 0, b"k", b"v")], {})


def test_a_member_that_was_expelled_is_refused_and_begins_anew(rig: Rig) -> None:
    worker = joined(rig)
    rig.expel("w1")
    with pytest.raises(CommitError) as refused:
        worker.commit([Message(rig.output, 0, b"k", b"stale")], {0: 9})
    assert refused.value.outcome == "refused"
    worker.broker.renew()
    before = len(worker.began)
    drive(worker, until=lambda: set(worker.ended) == ALL and len(worker.began) > before and worker.owned == ALL)
    drive(worker, until=lambda: worker.membership is not None)
    worker.commit([Message(rig.output, 0, b"k", b"fresh")], {0: 1})
    assert [message.value for message in rig.readable(rig.output)] == [b"fresh"]
    assert worker.committed(0) == 1


def test_a_partition_lost_and_won_back_within_one_poll_is_told_as_both(rig: Rig) -> None:
    rig.feed(numbered(0, 3))
    worker = joined(rig)
    worker.broker.start(0, 0)
    drive(worker, until=lambda: worker.count() == 3)
    rig.expel("w1")
    deadline = time.monotonic() + LIMIT_S
    polled = worker.poll(5.0)
    while not polled.ended and time.monotonic() < deadline:
        polled = worker.poll(5.0)
    assert polled.ended == ALL
    in_group(worker)
    worker.poll(0.3)
    assert worker.count() == 3, "nothing is delivered before it is started again"


def test_what_is_revoked_has_ended_and_what_stays_goes_on(rig: Rig) -> None:
    worker = joined(rig)
    for partition in ALL:
        worker.broker.start(partition, 0)
    other = Worker(rig.join("w2"))
    drive(worker, other, until=lambda: len(other.owned) == PARTITIONS // 2)
    assert sorted(worker.began) == sorted(ALL)
    assert set(worker.ended) == other.owned
    assert worker.owned == ALL - other.owned
    rig.feed([row for partition in ALL for row in numbered(partition, 2)])
    drive(worker, other, until=lambda: worker.count() == 2 * len(worker.owned))
    assert worker.rows.keys() == worker.owned
    assert other.count() == 0


def test_two_generations_on_an_old_membership_is_refused(rig: Rig) -> None:
    worker = joined(rig)
    old = worker.membership
    other = Worker(rig.join("w2"))
    drive(worker, other, until=lambda: len(other.owned) == PARTITIONS // 2 and worker.membership not in (None, old))
    lost = min(other.owned)
    with pytest.raises(CommitError) as refused:
        worker.broker.commit([Message(rig.output, lost, b"k", b"late")], {lost: 7}, old)
    assert (refused.value.outcome, refused.value.fenced) == ("refused", False)
    worker.broker.renew()
    drive(worker, other, until=lambda: None not in (worker.membership, other.membership))
    other.commit([Message(rig.output, lost, b"k", b"new owner")], {lost: 1})
    kept = min(worker.owned)
    worker.commit([Message(rig.output, kept, b"k", b"kept")], {kept: 1})
    assert {message.value for message in rig.readable(rig.output)} == {b"new owner", b"kept"}
    assert other.committed(lost) == 1


def test_a_second_worker_of_the_same_name_fences_the_first(rig: Rig) -> None:
    first = joined(rig)
    second = joined(rig)
    with pytest.raises(CommitError) as fenced:
        first.commit([Message(rig.output, 0, b"k", b"zombie")], {0: 9})
    assert fenced.value.fenced
    second.commit([Message(rig.output, 0, b"k", b"successor")], {0: 1})
    assert [message.value for message in rig.readable(rig.output)] == [b"successor"]
    assert second.committed(0) == 1


def test_one_that_was_fenced_hears_of_it_though_it_commits_nothing_and_may_take_its_name_back(rig: Rig) -> None:
    first = joined(rig)
    second = joined(rig)
    with pytest.raises(BrokerError) as fenced:
        drive(first, second, until=lambda: False)
    assert fenced.value.fenced
    assert second.ended == [], "it is the first that hears of it"
    first.broker.renew()
    drive(first, until=lambda: sorted(first.began) == sorted([*ALL, *ALL]))
    assert set(first.ended) == ALL, "they were another's meanwhile"
    with pytest.raises(BrokerError) as fenced:
        drive(second, first, until=lambda: False)
    assert fenced.value.fenced


def test_what_was_revoked_within_a_poll_that_failed_is_told_too(
    kafka_rig: KafkaRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = joined(kafka_rig)
    consumer = kafka_rig.brokers[0]._consumer
    assert consumer is not None

    def fail(*_: object, **__: object) -> None:
        consumer._assignment.revoked([3])
        raise KafkaError("as told") if kafka_rig.client == "kafka-python" else KafkaException(Code(Code._FAIL))

    instead(monkeypatch, consumer, "_consumer", poll=fail)
    with pytest.raises(BrokerError):
        worker.poll()
    worker.broker.renew()
    drive(worker, until=lambda: sorted(worker.began) == sorted([*ALL, *ALL]))
    assert sorted(worker.ended) == sorted(ALL)


def test_a_restart_takes_over_without_waiting_for_the_session(rig: Rig) -> None:
    rig.session_s = LONG_SESSION_S
    worker = joined(rig)
    worker.commit([], {0: 4})
    worker.broker.close(leave=False)
    assert joined(rig).committed(0) == 4


def test_a_member_that_leaves_hands_over_at_once(rig: Rig) -> None:
    rig.session_s = LONG_SESSION_S
    worker, other = two(rig)
    worker.broker.close(leave=True)
    drive(other, until=lambda: other.owned == ALL)


def test_the_changelog_reads_to_its_end_tombstones_included(rig: Rig) -> None:
    worker = joined(rig)
    empty = worker.broker.open_changelog(1)
    assert empty.done
    empty.close()
    for i in range(3):
        pages = [Message(rig.changelog, p, f"page-{j}".encode(), bytes([i])) for p in (0, 1) for j in range(4)]
        worker.commit([*pages, Message(rig.changelog, 0, b"old", None)], {0: i + 1})
    reads = {partition: worker.broker.open_changelog(partition) for partition in (0, 1)}
    worker.commit([Message(rig.changelog, 0, b"late", b"x")], {0: 4})
    rows: dict[int, list[tuple[bytes, bytes | None]]] = {0: [], 1: []}
    while not all(read.done for read in reads.values()):  # two restores take turns
        for partition, read in reads.items():
            rows[partition] += [(one.key, one.value) for one in read.read(0.5)]
    pages = [[(f"page-{j}".encode(), bytes([i])) for j in range(4)] for i in range(3)]
    assert rows[0] == [row for page in pages for row in [*page, (b"old", None)]]
    assert rows[1] == [row for page in pages for row in page]
    for read in reads.values():
        read.close()
        read.close()


def test_changelogs_longer_than_a_read_come_whole_when_they_are_read_in_turns(rig: Rig) -> None:
    worker = joined(rig)
    sizes = {0: 5000, 1: 1000}  # with kafka-python the second is read out while the first waits half read
    for partition, size in sizes.items():
        worker.commit([Message(rig.changelog, partition, b"page-%d" % i, b"x") for i in range(size)], {partition: 1})
    reads = {partition: eventually(lambda: worker.broker.open_changelog(partition)) for partition in sizes}  # noqa: B023
    rows, deadline = dict.fromkeys(sizes, 0), time.monotonic() + LIMIT_S
    while not all(read.done for read in reads.values()) and time.monotonic() < deadline:
        for partition, read in reads.items():
            rows[partition] += len(read.read(0.2))
    assert rows == sizes


def test_the_input_is_read_beside_the_group_from_an_offset_to_its_end(rig: Rig) -> None:
    rig.feed(numbered(2, 5))
    worker = joined(rig)
    for begin in (3, 5):
        read = eventually(lambda: worker.broker.open_input(2, begin))  # noqa: B023
        rows: list[tuple[bytes, bytes | None]] = []
        while not read.done:
            rows += [(one.key, one.value) for one in read.read(0.5)]
        assert [value for _, value in rows] == [b"%d" % n for n in range(begin, 5)]
        assert (read.begin, read.end) == (begin, 5)
        read.close()
    assert worker.count() == 0


def test_renew_leaves_alone_what_has_not_failed(rig: Rig) -> None:
    rig.feed(numbered(0, 2))
    worker = joined(rig)
    worker.broker.start(0, 0)
    worker.commit([Message(rig.changelog, 1, b"page-%d" % i, b"x") for i in range(5)], {1: 1})
    began = eventually(lambda: worker.broker.open_changelog(1))
    worker.broker.renew()
    after = eventually(lambda: worker.broker.open_changelog(1))
    for read in (began, after):
        rows: list[tuple[bytes, bytes | None]] = []
        while not read.done:
            rows += [(one.key, one.value) for one in read.read(0.5)]
        assert rows == [(b"page-%d" % i, b"x") for i in range(5)]
        read.close()
    drive(worker, until=lambda: worker.count() == 2)
    assert (sorted(worker.began), worker.ended) == (sorted(ALL), [])
    worker.commit([Message(rig.output, 0, b"k", b"v")], {0: 2})
    assert worker.committed(0) == 2


def test_an_offset_that_anothers_transaction_holds_is_not_to_be_had_yet(rig: Rig) -> None:
    worker = joined(rig)
    worker.commit([], {0: 3, 1: 8})
    assert worker.committed(0) == 3
    with rig.held_offset(0):
        with pytest.raises(NotYet):
            worker.broker.committed(0)
        assert worker.committed(1) == 8
    assert worker.committed(0) == 3


def test_after_a_failed_poll_renew_begins_everything_anew(rig: Rig) -> None:
    worker = joined(rig)
    worker.broker.start(0, 1000)
    with pytest.raises(BrokerError):
        drive(worker, until=lambda: False)
    with pytest.raises(BrokerError):
        worker.poll()
    with pytest.raises(CommitError):
        worker.commit([], {0: 1})
    worker.broker.renew()
    drive(worker, until=lambda: sorted(worker.began) == sorted([*ALL, *ALL]))
    assert set(worker.ended) == ALL
    drive(worker, until=lambda: worker.membership is not None)
    worker.commit([], {0: 1})


def test_a_consumer_that_leaves_an_ask_unanswered_for_too_long_is_made_anew(
    kafka_rig: KafkaRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = joined(kafka_rig)
    consumer = kafka_rig.brokers[0]._consumer
    assert consumer is not None
    consumer.offsets.longest_s = 0

    def unanswered(*_: object, **__: object) -> int:
        raise KafkaTimeoutError

    instead(monkeypatch, consumer.offsets, "_consumer", committed=unanswered)
    for _ in range(2):
        with pytest.raises(NotYet):
            worker.broker.committed(0)
    worker.broker.renew()
    drive(worker, until=lambda: sorted(worker.began) == sorted([*ALL, *ALL]))
    assert set(worker.ended) == ALL
    drive(worker, until=lambda: worker.membership is not None)
    worker.commit([], {0: 1})
    assert worker.committed(0) == 1


def test_an_offset_held_for_longer_than_a_transaction_lasts_is_the_one_before_it(kafka_rig: KafkaRig) -> None:
    worker = joined(kafka_rig)
    worker.commit([], {0: 1})
    consumer = kafka_rig.brokers[0]._consumer
    assert consumer is not None
    with kafka_rig.held_offset(0):
        with pytest.raises(NotYet):
            worker.broker.committed(0)
        consumer.offsets.longest_s = 0
        with pytest.raises(OffsetHeld) as held:
            worker.broker.committed(0)
        assert held.value.offset == 1
        assert not consumer.stuck


@pytest.mark.parametrize("committed", [True, False])
def test_a_commit_of_unknown_outcome_is_settled_by_renew(committed: bool) -> None:
    cluster = MemoryCluster(1)
    broker = MemoryBroker(cluster, "w1")
    membership = broker.poll(0).membership
    cluster.produce(0, b"k", b"v")
    broker.fail_commit = "unknown, committed" if committed else "unknown, not committed"
    with pytest.raises(CommitError) as unknown:
        broker.commit([Message(OUTPUT, 0, b"k", b"v")], {0: 1}, membership)
    assert unknown.value.outcome == "unknown"
    broker.renew()
    assert broker.committed(0) == (1 if committed else None)
    assert len(cluster.committed_messages(OUTPUT)) == committed
    assert cluster.committed_messages(INPUT)
