"""The group member that reads the input: who owns what, and records of started partitions only."""

import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from kafka import KafkaConsumer
from kafka.consumer.group import ConsumerGroupMetadata
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.base import MemberState
from kafka.errors import FencedInstanceIdError, KafkaError
from kafka.structs import TopicPartition

from worker.broker.assignment import Assignment
from worker.broker.codecs import held_back, unreadable
from worker.broker.contract import (
    NO_TOPIC,
    UNANSWERED_S,
    BrokerError,
    Polled,
    Records,
    Unanswered,
    Unreadable,
)
from worker.broker.fixes import fix_for
from worker.broker.holes import Holes
from worker.broker.limits import Patience, asking, within
from worker.broker.offsets import StableOffsets
from worker.broker.security import open_consumer
from worker.broker.silence import Silence
from worker.broker.stalls import Stalls
from worker.settings.kafka import Kafka
from worker.settings.worker import Worker

log = logging.getLogger(__name__)

JOIN_S = 1.0
REJOIN_AFTER_S = 5.0
ASK_LIMIT_S = 0.5  # the loop stands still meanwhile
OPEN_LIMIT_S = 15.0
CLOSE_LIMIT_S = 5.0
SKIP = "go on without them (worker.on_gap = skip)"


class InputConsumer:
    """One life of a consumer. After a BrokerError from `poll`, or once it is `stuck`, close it and make another."""

    def __init__(self, kafka: Kafka, worker: Worker, partitions: int | None = None) -> None:
        """Subscribe. `partitions` beyond so many are ignored; without it, beyond those there are now.

        Raises BrokerError when no broker answers or the topic is not there.
        """
        self._kafka, self._topic = kafka, kafka.input_topic
        self.started: set[int] = set()
        self._member_id: str | None = None
        self._unstable_since: float | None = time.monotonic()
        self._patience = Patience()
        self._consumer = _open(kafka, worker)
        try:
            self._assignment, self._holes = Assignment(self._consumer), Holes(self._consumer)
            self.silence = Silence(self._consumer, self._topic)
            self.offsets = StableOffsets(kafka, self._consumer, self._patience, worker.commit_timeout_s)
            self._stalls = Stalls(self._consumer, self._topic, self.silence)
            self._consumer.subscribe([self._topic], listener=self._assignment)
            # After subscribe() and before the first poll(): a join without the topic's metadata is followed by another
            # that can be lost for ever (kafka-python 3.0.12)
            found = len(within(OPEN_LIMIT_S, lambda: self._consumer.partitions_for_topic(self._topic)))
            self._assignment.partitions = self.partitions = min(found, partitions or found)
        except (KafkaError, TimeoutError) as error:
            self.close()
            fix = fix_for(error, kafka, "Read")
            raise BrokerError(f"no partitions of {self._topic}: {error!r}", fix=fix) from error
        if not self.partitions:
            self.close()
            raise BrokerError(f"there is no topic {self._topic}", fix=NO_TOPIC)

    def input_id(self) -> str:
        """The id that the cluster gave the topic when it was made, by the client's metadata; empty where unknown."""
        return str(self._consumer._cluster.topic_id(self._topic) or "")

    def partitions_now(self) -> int:
        """Of the input, by the client's metadata, which refresh themselves; as many as at start where it has none."""
        # partitions_for_topic() would ask, for as long as it takes, where the topic is gone (kafka-python 3.0.12)
        return len(self._consumer._cluster.partitions_for_topic(self._topic) or range(self.partitions))

    def poll(self, timeout_s: float) -> Polled:
        """Records of started partitions and what changed hands since the last poll. Raises BrokerError."""
        fetched: Mapping[TopicPartition, Sequence[Any]] = {}
        bad: tuple[Unreadable, ...] = ()
        if self._unstable_since is None:
            self._stalls.look(self.started)
        try:
            if self._joined():
                fetched = self._consumer.poll(timeout_ms=timeout_s * 1000)
                if error := held_back(self._consumer):
                    raise error
        except Exception as error:  # a batch is other people's bytes: codecs raise what they like
            if place := unreadable(self._consumer, error, SKIP):
                bad = (place,)
                self._stop(place.partition)
            elif isinstance(error, KafkaError):
                fix, fenced = fix_for(error, self._kafka, "Read"), isinstance(error, FencedInstanceIdError)
                raise BrokerError(f"poll failed: {error!r}", fix=fix, fenced=fenced) from error
            else:
                raise
        # Now, not at commit: after being kicked out the client's metadata would go unfenced (kafka-python 3.0.12)
        membership = self._membership()
        began, ended = self._assignment.take()
        self.started -= began | ended
        self._patience.forget(ended)
        self.offsets.forget(ended)
        records = {tp.partition: _records(rows) for tp, rows in fetched.items() if tp.partition in self.started}
        passed = self._passed(records)
        runs = {p: (len(run.offsets), run.offsets[-1] + 1) for p, run in records.items()}
        looked = runs | {p: (0, at) for p, at in passed.items()}
        lost = {p: (number, end) for p, (read, end) in looked.items() if (number := self._holes.passed(p, read, end))}
        return Polled(records, began, ended, membership, bad, passed, lost)

    def _passed(self, records: dict[int, Records]) -> dict[int, int]:
        quiet = self._states(self.started - records.keys())
        return {partition: state.position.offset for partition, state in quiet if state.position}

    def _states(self, partitions: Iterable[int]) -> Iterator[tuple[int, Any]]:
        """Yield the client's own state of each partition that it has.

        Not position(), which looks at every partition each time, and may raise what is for poll() to raise
        (kafka-python 3.0.12).
        """
        states = self._consumer._subscription.assignment
        for partition in partitions:
            if state := states.get(TopicPartition(self._topic, partition)):
                yield partition, state

    def _stop(self, partition: int) -> None:
        """Fetch no more of it until `start`, where it is still ours."""
        tp = TopicPartition(self._topic, partition)
        if tp in self._consumer.assignment():
            self._consumer.pause(tp)

    def _joined(self) -> bool:
        if self._unstable_since is None:
            return True
        self.silence.over()  # nothing is fetched meanwhile
        # A join that completes between two polls is thrown away and begun again, by a leader for the whole group
        # (kafka-python 3.0.12). So wait long for it, but not, as poll() would, for records after it.
        return bool(self._consumer._coordinator.poll(timeout_ms=JOIN_S * 1000))

    def _membership(self) -> ConsumerGroupMetadata | None:
        metadata = self._consumer.group_metadata()
        if metadata.state != MemberState.STABLE or metadata.generation_id < 0:
            self._ask_to_rejoin()
            return None
        self._unstable_since = None
        # A member whose heartbeat was fenced sends no more, and tells nobody (kafka-python 3.0.12)
        its = self._consumer._coordinator
        with its._lock:
            beats = its._heartbeat_enabled or its.rejoin_needed or its.rejoining or its.state != MemberState.STABLE
        if not beats:
            raise BrokerError(f"another member of the group runs as {self._kafka.instance_id}", fenced=True)
        if self._member_id not in (None, metadata.member_id):
            # Expelled while a rejoin was under way: the client then keeps its partitions without a callback
            # (kafka-python 3.0.12), but in between they may have been another's.
            self._assignment.begin_anew()
        self._member_id = metadata.member_id
        return metadata

    def _ask_to_rejoin(self) -> None:
        now = time.monotonic()
        if self._unstable_since is None:
            self._unstable_since = now
        if now - self._unstable_since > REJOIN_AFTER_S:
            # A join whose answer came just after a poll gave up is never collected: no error, no assignment, for ever
            # (kafka-python 3.0.12). Asking again is harmless while a slow rebalance is really going on, which a new
            # consumer would not be; the public interface has no way to ask.
            log.info("not a stable member for %.0f s, joining again", now - self._unstable_since)
            self._consumer._coordinator.request_rejoin()
            self._unstable_since = now

    def start(self, partition: int, offset: int) -> None:
        """Deliver from `offset` on. A partition that was lost in the meantime is left alone: the next poll tells."""
        tp = TopicPartition(self._topic, partition)
        if tp in self._consumer.assignment():
            self._consumer.seek(tp, offset)
            self._consumer.resume(tp)
            self._holes.start(partition, offset)
            self.started.add(partition)
            self.silence.over(partition)

    def rest(self, partition: int, offset: int) -> None:
        """Deliver nothing more of it until `start`, and be at `offset`."""
        self.start(partition, offset)
        self._stop(partition)

    def committed(self, partition: int) -> int | None:
        """The group's offset, once no transaction holds it. Raises NotYet, OffsetHeld, BrokerError."""
        return self.offsets.committed(partition)

    def bounds(self, partition: int) -> tuple[int, int]:
        """First offset in the log, and the one after the last readable record. Raises Unanswered, BrokerError."""
        tp = TopicPartition(self._topic, partition)
        what = f"bounds of {self._topic}-{partition}"
        with self._patience.asking(partition, UNANSWERED_S), asking(self._kafka, what, Unanswered):
            first = self._consumer.beginning_offsets([tp], timeout_ms=ASK_LIMIT_S * 1000)[tp]
            return first, self._consumer.end_offsets([tp], timeout_ms=ASK_LIMIT_S * 1000)[tp]

    @property
    def stuck(self) -> bool:
        """It has left `committed` or `bounds` of a partition without an answer for too long."""
        return self._patience.over

    def lag(self) -> dict[int, int]:
        """Records between position and log end of started partitions, where a fetch has been answered."""
        lags = {}
        for partition, state in self._states(self.started):
            end, at = state.highwater, state.position
            behind = max(end - at.offset, 0) if end is not None and at else 0
            if behind or (end is not None and not self.silence.lasts(partition)):
                lags[partition] = behind
        return lags

    def held(self) -> frozenset[int]:
        """Partitions whose lives have begun and whose end was not reported; nothing is reported after this."""
        return self._assignment.take()[1] | self._assignment.held()

    def close(self) -> None:
        """Stay a member until the session times out, so that a restart takes over. Never raises."""
        with suppress(KafkaError, RuntimeError, TimeoutError):
            within(CLOSE_LIMIT_S, lambda: self._consumer.close(autocommit=False, timeout_ms=CLOSE_LIMIT_S * 1000))


def _open(kafka: Kafka, worker: Worker) -> KafkaConsumer:
    session_ms = int(kafka.session_timeout_s * 1000)
    try:
        return open_consumer(
            kafka,
            group_id=kafka.group_id,
            group_instance_id=kafka.instance_id,
            partition_assignment_strategy=[CooperativeStickyAssignor],
            isolation_level="read_committed",  # also what makes committed() wait for open transactions
            auto_offset_reset="none",
            session_timeout_ms=session_ms,
            heartbeat_interval_ms=min(max(session_ms // 10, 1000), 3000),  # how fast others notice a rebalance
            max_poll_interval_ms=int(worker.stall_exit_s * 1000),
            max_poll_records=worker.max_poll_records,
            max_partition_fetch_bytes=4 << 20,
            fetch_max_wait_ms=50,  # a partition that was just started waits for the fetch before it
        )
    except KafkaError as error:
        raise BrokerError(f"no consumer: {error!r}", fix=fix_for(error, kafka)) from error


def _records(rows: Sequence[Any]) -> Records:
    return Records(
        [row.offset for row in rows],
        [row.timestamp for row in rows],
        [row.key for row in rows],
        [row.value for row in rows],
        [row.headers for row in rows],
    )
