"""The group member that reads the input by librdkafka: who owns what, and records of started partitions only."""

import time
from contextlib import suppress
from itertools import groupby
from typing import cast

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition
from confluent_kafka import KafkaError as Code
from kafka import KafkaConsumer
from kafka.errors import FencedInstanceIdError, KafkaError

from worker.broker.assignment import Lives
from worker.broker.codecs import DELETE, LARGER, MEND
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
from worker.broker.librdkafka.beside import Gaps, gap, open_beside
from worker.broker.librdkafka.errors import of_code, translated
from worker.broker.librdkafka.membership import Membership, in_group
from worker.broker.librdkafka.messages import records_of
from worker.broker.librdkafka.options import Log, consumer_properties, open_consumer
from worker.broker.librdkafka.statistics import Statistics
from worker.broker.limits import Patience, asking, within
from worker.broker.offsets import StableOffsets
from worker.refusal import Refusal
from worker.settings.kafka import Kafka
from worker.settings.worker import Worker

ASK_LIMIT_S, OPEN_LIMIT_S, CLOSE_LIMIT_S = 0.5, 15.0, 5.0  # the loop stands still meanwhile
START_LIMIT_S, START_AGAIN_S = 2.0, 0.005
SKIP = "go on without them (worker.on_gap = skip)"
PASSING = (Code._MAX_POLL_EXCEEDED,)  # the callbacks say the same
DAMAGED = (Code._BAD_MSG, Code._BAD_COMPRESSION, Code._NOT_IMPLEMENTED)


class InputConsumer:
    """One life of a consumer. After a BrokerError from `poll`, or once it is `stuck`, close it and make another."""

    def __init__(self, kafka: Kafka, worker: Worker, partitions: int | None = None) -> None:
        """Subscribe. `partitions` beyond so many are ignored; without it, beyond those there are now.

        Raises BrokerError when no broker answers or the topic is not there; Refusal.
        """
        self._kafka, self._topic = kafka, kafka.input_topic
        self.started: set[int] = set()
        self._opened: set[int] = set()  # partitions that were started once since they are ours
        self._at: dict[int, int] = {}  # by started partition: all below it has been handed out or passed
        self._fetched: set[int] = set()  # partitions of which something came since their start
        self.changes, self._in_group, self._log = 0, False, Log()
        self._max_poll_records = worker.max_poll_records
        self._patience, self._assignment, self.silence = Patience(), Lives(), Statistics(self._topic)
        own = {**consumer_properties(kafka, worker), "stats_cb": self.silence.take}
        self._consumer = open_consumer(kafka, own, self._log)
        self._beside: KafkaConsumer | None = None
        try:
            self._beside = beside = open_beside(kafka)
            self.offsets = StableOffsets(kafka, beside, self._patience, worker.commit_timeout_s)
            self._gaps = Gaps(kafka, beside)
            found = len(within(OPEN_LIMIT_S, lambda: beside.partitions_for_topic(self._topic)))
            self._id = str(beside._cluster.topic_id(self._topic) or "")
            self._assignment.partitions = self.partitions = min(found, partitions or found)
            self._consumer.subscribe([self._topic], self._assigned, self._revoked, self._revoked)
        except (BrokerError, Refusal):
            self.close()
            raise
        except (KafkaError, KafkaException, TimeoutError) as raised:
            self.close()
            error = translated(raised, self._topic) if isinstance(raised, KafkaException) else raised
            fix = fix_for(error, kafka, "Read")
            raise BrokerError(f"no partitions of {self._topic}: {error!r}", fix=fix) from error
        if not self.partitions:
            self.close()
            raise BrokerError(f"there is no topic {self._topic}", fix=NO_TOPIC)

    # ---- callbacks, which run within a poll

    def _assigned(self, consumer: Consumer, tps: list[TopicPartition]) -> None:
        # Opened by their first start: a seek while the client looks up where to begin is lost (librdkafka 2.16.0)
        consumer.incremental_assign([])
        self.changes += 1
        self._assignment.assigned(tp.partition for tp in tps)

    def _revoked(self, consumer: Consumer, tps: list[TopicPartition]) -> None:
        consumer.incremental_unassign([tp for tp in tps if tp.partition in self._opened])
        self._opened -= {tp.partition for tp in tps}
        self.changes += 1
        self._assignment.revoked(tp.partition for tp in tps)

    # ---- what the contract asks for

    def input_id(self) -> str:
        """The id that the cluster gave the topic when it was made; empty where unknown."""
        return self._id

    def partitions_now(self) -> int:
        """Of the input, by the client's metadata, which refresh themselves; as many as at start where it has none."""
        return self.silence.known() or self.partitions

    def poll(self, timeout_s: float) -> Polled:
        """Records of started partitions and what changed hands since the last poll. Raises BrokerError."""
        try:
            # Not consume() alone, which waits for its whole time to fill the list (confluent-kafka 2.16.1)
            first = self._consumer.poll(timeout_s)
            fetched = [] if first is None else [first, *self._consumer.consume(self._max_poll_records - 1, 0)]
        except KafkaException as error:
            raise self._failed(translated(error, self._topic)) from error
        errors = any(message.error() is not None for message in fetched)
        if errors:
            self._raise(fetched)
        self._in_group = (metadata := self.metadata()) is not None
        began, ended = self._assignment.take()
        self.started -= began | ended
        self._patience.forget(ended)
        self.offsets.forget(ended)
        self._gaps.forget(ended)
        before, unreadable = {p: self._at[p] for p in self.started}, list[Unreadable]()
        if errors:
            fetched = self._sifted(fetched, unreadable)
        records: dict[int, Records] = {}
        for partition, run in groupby(fetched, Message.partition):
            if partition in self.started:
                self._add(partition, records_of([*run]), records)
        try:
            lost = self._lost(before, records, unreadable)
        except BrokerError:
            self._assignment.revoked(began | ended)  # they are still to be told
            raise
        return Polled(
            records,
            began,
            ended,
            None if metadata is None else Membership(metadata, self.changes, self),
            tuple(unreadable),
            {p: self._at[p] for p in self.started - records.keys()},
            lost,
        )

    def metadata(self) -> bytes | None:
        """Return the client's place in the group, None while it has none."""
        metadata: bytes | None = self._consumer.consumer_group_metadata()
        return metadata if in_group(metadata) else None

    def _raise(self, fetched: list[Message]) -> None:
        """Raise BrokerError where an error came that is neither a place in a log nor over by itself."""
        for message in fetched:
            error, partition = message.error(), message.partition()
            if error is None or error.code() in (Code._PARTITION_EOF, *DAMAGED, *PASSING):
                continue
            if error.code() == Code._AUTO_OFFSET_RESET and partition not in self.started:
                continue
            # Only the words tell what is fatal (confluent-kafka 2.16.1), and who joins anew may have fenced itself
            alone = self._log.troubled or not self._in_group
            fenced = error.code() == Code._FATAL and "fenced" in error.str() and not alone
            raise self._failed(FencedInstanceIdError(error.str()) if fenced else of_code(error, self._topic))

    def _sifted(self, fetched: list[Message], unreadable: list[Unreadable]) -> list[Message]:
        """Return the records among what came, but none behind a place that is unreadable."""
        sifted, stopped = list[Message](), set[int]()
        for message in fetched:
            error, partition = message.error(), message.partition() or 0
            if partition in stopped:
                continue
            if error is None:
                sifted.append(message)
            elif error.code() == Code._PARTITION_EOF and partition in self.started:
                self._reach(partition, message.offset() or 0)
            elif error.code() in DAMAGED and partition in self.started:
                stopped.add(partition)
                unreadable.append(self._damaged(partition, message, error))
        return sifted

    def _damaged(self, partition: int, message: Message, error: Code) -> Unreadable:
        self._stop(partition)
        at = max(message.offset() or 0, self._at[partition])
        where = f"{self._topic}-{partition} cannot be unpacked from offset {at} on"
        too_large = LARGER if error.code() == Code._BAD_COMPRESSION else ""
        fix = f"{too_large}{MEND}{DELETE.format(tp=TopicPartition(self._topic, partition))} and {SKIP}"
        return Unreadable(f"{where}: {error!r}", partition, at, fix)

    def _failed(self, error: KafkaError) -> BrokerError:
        fenced = isinstance(error, FencedInstanceIdError)
        return BrokerError(f"poll failed: {error!r}", fix=fix_for(error, self._kafka, "Read"), fenced=fenced)

    def _reach(self, partition: int, offset: int) -> None:
        self._fetched.add(partition)
        self._at[partition] = max(self._at[partition], offset)

    def _add(self, partition: int, run: Records, records: dict[int, Records]) -> None:
        self._reach(partition, run.offsets[-1] + 1)
        if partition not in records:
            records[partition] = run
            return
        whole, more = (cast(tuple[list[object], ...], one) for one in (records[partition], run))
        for parts, added in zip(whole, more, strict=True):
            parts += added

    def _lost(
        self, before: dict[int, int], records: dict[int, Records], unreadable: list[Unreadable]
    ) -> dict[int, tuple[int, int]]:
        """Look where offsets are missing, and have read again what has no answer. Raises BrokerError."""
        gaps = {}
        for partition, low in before.items():
            offsets = records[partition].offsets if partition in records else []
            if found := gap(low, self._at[partition], offsets):
                gaps[partition] = found
        lost = self._gaps.lost(gaps) if gaps else {}
        for partition in gaps.keys() - lost.keys():
            records.pop(partition, None)
            unreadable[:] = [place for place in unreadable if place.partition != partition]
            self.start(partition, before[partition])
        return {p: (number, self._at[p]) for p, number in lost.items() if number}

    def start(self, partition: int, offset: int) -> None:
        """Deliver from `offset` on. A partition that was lost in the meantime is left alone: the next poll tells."""
        if partition not in self._assignment.held():
            return
        tp = TopicPartition(self._topic, partition, offset)
        try:
            if partition in self._opened:
                self._consumer.resume([tp])
                self._seek(tp)
            else:
                self._consumer.incremental_assign([tp])
                self._opened.add(partition)
        except KafkaException as error:
            raise self._failed(translated(error, self._topic)) from error
        self._at[partition] = offset
        self._fetched.discard(partition)
        self.started.add(partition)
        self.silence.over(partition)

    def _seek(self, tp: TopicPartition) -> None:
        deadline = time.monotonic() + START_LIMIT_S
        while True:
            try:
                return self._consumer.seek(tp)
            except KafkaException as error:  # it was opened just now, and the client has not begun with it
                if error.args[0].code() != Code._STATE or time.monotonic() > deadline:
                    raise
                time.sleep(START_AGAIN_S)

    def rest(self, partition: int, offset: int) -> None:
        """Deliver nothing more of it until `start`, and be at `offset`."""
        self.start(partition, offset)
        self._stop(partition)

    def _stop(self, partition: int) -> None:
        """Fetch no more of it until `start`, where it is still ours."""
        if partition in self._assignment.held():
            self._consumer.pause([TopicPartition(self._topic, partition)])
            self.silence.rests(partition)

    def committed(self, partition: int) -> int | None:
        """The group's offset, once no transaction holds it. Raises NotYet, OffsetHeld, BrokerError."""
        return self.offsets.committed(partition)

    def bounds(self, partition: int) -> tuple[int, int]:
        """First offset in the log, and the one after the last readable record. Raises Unanswered, BrokerError."""
        what = f"bounds of {self._topic}-{partition}"
        with self._patience.asking(partition, UNANSWERED_S), asking(self._kafka, what, Unanswered):
            try:
                first, end = self._consumer.get_watermark_offsets(TopicPartition(self._topic, partition), ASK_LIMIT_S)
            except KafkaException as error:
                raise translated(error, self._topic) from error
        return first, end

    @property
    def stuck(self) -> bool:
        """It has left `committed` or `bounds` of a partition without an answer for too long."""
        return self._patience.over

    def lag(self) -> dict[int, int]:
        """Records between position and log end of started partitions, where a fetch has been answered."""
        lags = {}
        for partition in self.started & self._fetched:
            _, end = self._consumer.get_watermark_offsets(TopicPartition(self._topic, partition), cached=True)
            behind = max(end - self._at[partition], 0)
            if behind or not self.silence.lasts(partition):
                lags[partition] = behind
        return lags

    def held(self) -> frozenset[int]:
        """Partitions whose lives have begun and whose end was not reported; nothing is reported after this."""
        return self._assignment.take()[1] | self._assignment.held()

    def close(self) -> None:
        """Stay a member until the session times out, so that a restart takes over. Never raises."""
        with suppress(KafkaException, RuntimeError, TimeoutError):
            within(CLOSE_LIMIT_S, self._consumer.close)
        if (beside := self._beside) is not None:
            with suppress(KafkaError, RuntimeError, TimeoutError):
                within(CLOSE_LIMIT_S, lambda: beside.close(autocommit=False, timeout_ms=CLOSE_LIMIT_S * 1000))
