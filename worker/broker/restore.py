"""Reading whole topics outside any group: the changelog for a restore, and any topic for tests and auditors."""

import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from threading import Thread
from types import TracebackType
from typing import NamedTuple

from kafka import KafkaConsumer
from kafka.errors import KafkaError
from kafka.structs import TopicPartition

from worker.broker.codecs import held_back, unreadable
from worker.broker.contract import NO_TOPIC, BrokerError, LogRecord, NotYet, Unanswered
from worker.broker.limits import asking, within
from worker.broker.security import open_consumer
from worker.refusal import Refusal
from worker.settings.kafka import Kafka

ASK_LIMIT_S, READER_LIMIT_S = 2.0, 10.0  # the loop waits for the first, people for the second
CLOSE_LIMIT_S = 5.0
PATIENCE_S = 30.0  # of a command; no transaction of a worker stays open for longer
MAX_RECORDS = 2000
FETCH_BYTES = 4 << 20
RESET = "begin cold (`foldcast topics reset`), because the state is lost without them"


class TopicRecord(NamedTuple):
    """A record as it lies in the log."""

    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


class LogReader:
    """Opens logs one partition at a time; those opened between two calls of `renew` share two consumers."""

    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka
        self._clients: _Clients | None = None
        self._retired: list[_Clients] = []  # with reads that go on

    def open(
        self,
        topic: str,
        partition: int,
        begin: int | None = None,
        last: int | None = None,
        before: int | None = None,
        undecided: bool = False,
    ) -> "OpenLog":
        """From its beginning, an offset that it holds, or `last` offsets before its end; up to there, or `before` it.

        `undecided` brings what is not committed, too. Raises Unanswered (where that lasts, `renew`), BrokerError.
        """
        tp = TopicPartition(topic, partition)
        with asking(self._kafka, f"log of {topic}-{partition}", Unanswered):
            if self._clients is None:
                self._clients = _connect(self._kafka)
            clients = self._clients
            # A consumer that fetches nothing learns of a lost leader only from the lost connection, and asks once who
            # leads now, before there is another. When the old leader is back and says that it does not lead,
            # end_offsets() asks it again, thousands of times, and never the cluster (kafka-python 3.0.12: "retry" in
            # Fetcher._fetch_offsets_by_times_async): no answer until metadata_max_age_ms, five minutes, is over.
            #
            # Not read_committed: the broker answers a commit before its markers are in the log, so that the last
            # stable offset may still lie before a transaction whose input offsets are already visible (KAFKA-10167)
            end = clients.everything.end_offsets([tp], timeout_ms=ASK_LIMIT_S * 1000)[tp]
            if begin is None:
                begin = clients.everything.beginning_offsets([tp], timeout_ms=ASK_LIMIT_S * 1000)[tp]
            if last is not None:
                begin = max(begin, end - last)
            consumer = clients.everything if undecided else clients.committed
            consumer.assign([*consumer.assignment() - {tp}, tp])
            consumer.pause(tp)
            consumer.seek(tp, begin)
        return OpenLog(clients, consumer, tp, begin, end if before is None else min(end, before))

    def renew(self) -> None:
        """Open what comes with new consumers; the old ones are closed when their last read is. Waits for nobody."""
        self._retired = [clients for clients in self._retired if not clients.closed]
        clients, self._clients = self._clients, None
        if clients is not None:
            clients.retire()
            self._retired.append(clients)

    def close(self) -> None:
        """Close the consumers; what was open can only be closed after this. Never raises."""
        clients, self._clients = self._clients, None
        for each in [*self._retired, *([clients] if clients else [])]:
            each.close()


@dataclass(eq=False)
class _Clients:
    """Two consumers and how many reads use them."""

    kafka: Kafka
    committed: KafkaConsumer
    everything: KafkaConsumer
    reads: int = 0
    retired: bool = False
    closed: bool = False

    def retire(self) -> None:
        """Close as soon as no read uses them."""
        self.retired = True
        self.release(0)

    def release(self, reads: int = 1) -> None:
        """Count so many reads as over; the last of retired clients closes them."""
        self.reads -= reads
        if self.retired and not self.reads:
            self.close(aside=True)

    def close(self, aside: bool = False) -> None:
        """Never raises; `aside` on a thread of its own, because closing a client that hangs takes its time."""
        if not self.closed:
            self.closed = True
            for client in (self.committed, self.everything):
                if aside:
                    Thread(target=_close, args=(client,), name="kafka-close", daemon=True).start()
                else:
                    _close(client)


def _connect(kafka: Kafka) -> _Clients:
    committed = _open(kafka, "read_committed")
    try:
        return _Clients(kafka, committed, _open(kafka, "read_uncommitted"))
    except (KafkaError, Refusal):
        _close(committed)
        raise


class OpenLog:
    """One partition's log up to the end it had when it was opened."""

    def __init__(self, clients: _Clients, consumer: KafkaConsumer, tp: TopicPartition, begin: int, end: int) -> None:
        self.begin, self.end = begin, end
        self._clients, self._consumer = clients, consumer
        self._tp = tp
        self._open = True
        clients.reads += 1

    def read(self, timeout_s: float) -> list[LogRecord]:
        """The next records, possibly none. Raises Unreadable, BrokerError; then close this and open another."""
        if self.done:
            return []
        with asking(self._clients.kafka, f"log of {self._tp.topic}-{self._tp.partition}"):
            self._consumer.resume(self._tp)
            try:
                fetched = self._consumer.poll(timeout_ms=timeout_s * 1000)
                if error := held_back(self._consumer):
                    raise error
            except Exception as error:  # a batch is other people's bytes: codecs raise what they like
                if place := unreadable(self._consumer, error, RESET):
                    raise place from error
                raise
            finally:
                self._consumer.pause(self._tp)  # other partitions' reads go on beside this one, in their own turns
        records = fetched.get(self._tp, ())
        read = [one for one in records if one.offset < self.end]
        return [LogRecord(one.key, one.value, one.headers, one.offset, one.timestamp) for one in read]

    @property
    def done(self) -> bool:
        """By position, not by records: holes and transaction markers bring none."""
        if not self._open:
            raise BrokerError(f"the log of {self._tp.topic}-{self._tp.partition} is closed")
        with asking(self._clients.kafka, f"log of {self._tp.topic}-{self._tp.partition}"):
            position: int = self._consumer.position(self._tp, timeout_ms=0)
        return position >= self.end

    def close(self) -> None:
        """Forget it; may be called at any time and twice."""
        if self._open:
            self._open = False
            with suppress(KafkaError):
                self._consumer.assign([*self._consumer.assignment() - {self._tp}])
            self._clients.release()


def whole(logs: LogReader, topic: str, partition: int, begin: int | None = None) -> Generator[LogRecord, None, None]:
    """A log's readable records, from its beginning or an offset to the end it has now: for commands, which wait.

    Raises NotYet where nothing comes for half a minute, as behind an open transaction; Unreadable, BrokerError.
    """
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            log = logs.open(topic, partition, begin)
            break
        except Unanswered:
            if time.monotonic() > deadline:
                raise
            logs.renew()
    try:
        while not log.done:
            records = log.read(0.2)
            yield from records
            if records:  # only now: whoever asks may take its time
                deadline = time.monotonic() + PATIENCE_S
            elif time.monotonic() > deadline:
                unread = f"{topic}-{partition} is not read to its end"
                raise NotYet(unread, fix="see that the broker answers, and whose transaction stays open")
    finally:
        log.close()


class TopicReader:
    """Follows a topic from given offsets; transactions that are open or aborted stay hidden.

    For people and tests, who make another where `ends` goes unanswered for long: no loop waits for one.
    """

    def __init__(self, kafka: Kafka, topic: str, starts: Mapping[int, int] | None = None) -> None:
        """`starts` are offsets by partition; without it, all partitions from their beginning. Raises BrokerError."""
        self._kafka, self._topic = kafka, topic
        with asking(kafka, f"reading {topic}"):
            self._consumer = _open(kafka, "read_committed")
        try:
            with asking(kafka, f"reading {topic}"):
                self._assign(starts)
        except BrokerError:
            self.close()
            raise

    def _assign(self, starts: Mapping[int, int] | None) -> None:
        if starts is None:
            partitions = within(READER_LIMIT_S, lambda: self._consumer.partitions_for_topic(self._topic))
            tps = [TopicPartition(self._topic, partition) for partition in sorted(partitions)]
            begins = self._consumer.beginning_offsets(tps, timeout_ms=READER_LIMIT_S * 1000) if tps else {}
            starts = {tp.partition: offset for tp, offset in begins.items()}
        if not starts:
            raise BrokerError(f"there is no topic {self._topic}", fix=NO_TOPIC)
        self._consumer.assign([TopicPartition(self._topic, partition) for partition in starts])
        for partition, offset in starts.items():
            self._consumer.seek(TopicPartition(self._topic, partition), offset)

    def poll(self, timeout_s: float) -> list[TopicRecord]:
        """What came, in offset order within each partition; perhaps nothing. Raises BrokerError."""
        with asking(self._kafka, f"reading {self._topic}"):
            fetched = self._consumer.poll(timeout_ms=timeout_s * 1000)
        return [
            TopicRecord(row.partition, row.offset, row.timestamp, row.key, row.value, row.headers)
            for rows in fetched.values()
            for row in rows
        ]

    def ends(self) -> dict[int, int]:
        """The offset after the last readable record of each partition. Raises NotYet, BrokerError."""
        with asking(self._kafka, f"ends of {self._topic}"):
            ends = self._consumer.end_offsets(list(self._consumer.assignment()), timeout_ms=READER_LIMIT_S * 1000)
        return {tp.partition: end for tp, end in ends.items()}

    def positions(self) -> dict[int, int]:
        """The offset each partition is read from next."""
        with asking(self._kafka, f"positions in {self._topic}"):
            return {tp.partition: self._consumer.position(tp, timeout_ms=0) for tp in self._consumer.assignment()}

    def close(self) -> None:
        """Close the consumer. Never raises."""
        _close(self._consumer)

    def __enter__(self) -> "TopicReader":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def read_all(kafka: Kafka, topic: str) -> Iterator[TopicRecord]:
    """Every readable record of the topic up to the ends it has now. Raises BrokerError."""
    with TopicReader(kafka, topic) as reader:
        ends = reader.ends()
        while any(position < ends[partition] for partition, position in reader.positions().items()):
            yield from (record for record in reader.poll(0.5) if record.offset < ends[record.partition])


def _open(kafka: Kafka, isolation_level: str) -> KafkaConsumer:
    return open_consumer(
        kafka,
        isolation_level=isolation_level,
        auto_offset_reset="none",
        max_poll_records=MAX_RECORDS,
        max_partition_fetch_bytes=FETCH_BYTES,
        fetch_max_wait_ms=50,
    )


def _close(consumer: KafkaConsumer) -> None:
    with suppress(KafkaError, RuntimeError, TimeoutError):
        within(CLOSE_LIMIT_S, lambda: consumer.close(timeout_ms=CLOSE_LIMIT_S * 1000))
