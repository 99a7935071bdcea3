"""One transaction per cycle by librdkafka: messages and input offsets, together or not at all."""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

from confluent_kafka import KafkaError as Code
from confluent_kafka import Message as Record
from confluent_kafka import Producer, TopicPartition
from kafka.errors import (
    AuthorizationError,
    FencedInstanceIdError,
    IllegalGenerationError,
    KafkaError,
    KafkaTimeoutError,
    UnknownTopicOrPartitionError,
)

from worker.broker.contract import BrokerError, CommitError, Message
from worker.broker.fixes import GROUP_MOVES, fix_for, transactional_id
from worker.broker.librdkafka.errors import RAISED, of_code, translated
from worker.broker.librdkafka.membership import Membership, metadata_of
from worker.broker.librdkafka.options import open_producer
from worker.broker.limits import within
from worker.broker.producer import (
    BATCH_BYTES,
    DISCARD_S,
    TRANSACTION_MARGIN_MS,
    TRANSACTION_TIMEOUT_MS,
    GivenUp,
    has_committed,
    is_fenced,
    left,
)
from worker.refusal import Refusal
from worker.settings.kafka import Kafka

LATE_S = 1.0  # by so much a call may miss its limit


class TransactionalProducer:
    """Commits transactions; after any failure it is of no use until `renew`."""

    def __init__(self, kafka: Kafka, commit_timeout_s: float, max_request_bytes: int) -> None:
        self._kafka, self._commit_timeout_s, self._max_request_bytes = kafka, commit_timeout_s, max_request_bytes
        self._producer: Producer | None = None
        self._given_up: GivenUp | None = None
        self._metadata = b""  # that the last offsets were sent with
        self._undelivered: dict[tuple[str, int], KafkaError] = {}  # of this transaction, by topic and partition

    @property
    def usable(self) -> bool:
        """Every transaction so far has committed: none of ours can be open."""
        return self._producer is not None

    def renew(self) -> None:
        """Throw the producer away and make another, which aborts what the old one left open, wherever that is.

        Raises BrokerError, or Refusal where the user may not have one.
        """
        self.close()
        self._producer = open_producer(self._kafka, self._properties())
        try:
            self._ask("init_transactions", self._commit_timeout_s)
            self._sweep()
        except (KafkaError, BrokerError, Refusal) as error:
            self.close()
            if not isinstance(error, KafkaError):
                raise
            if isinstance(error, AuthorizationError):
                raise Refusal(f"no transactional producer: {fix_for(error, self._kafka)}") from error
            fix, fenced = fix_for(error, self._kafka, "Write"), is_fenced(error)
            raise BrokerError(f"no transactional producer: {error!r}", fix=fix, fenced=fenced) from error

    def _properties(self) -> dict[str, object]:
        limit_ms = int(self._commit_timeout_s * 1000)
        return {
            "transactional.id": transactional_id(self._kafka),
            "transaction.timeout.ms": max(TRANSACTION_TIMEOUT_MS, limit_ms + TRANSACTION_MARGIN_MS),
            "batch.size": min(BATCH_BYTES, self._max_request_bytes),
            "batch.num.messages": 1_000_000,  # a batch is full by its bytes
            "message.max.bytes": self._max_request_bytes,
            "queue.buffering.max.messages": 0,  # a transaction has as many as it has
            "queue.buffering.max.kbytes": 2_000_000,
            "linger.ms": 5,
            "retry.backoff.ms": 5,
            "socket.timeout.ms": limit_ms,
            "delivery.timeout.ms": limit_ms,
            "delivery.report.only.error": True,
            "on_delivery": self._told,
        }

    def _told(self, error: Code | None, message: Record) -> None:
        if error is not None:
            self._undelivered[message.topic() or "", message.partition() or 0] = of_code(error)

    def _sweep(self) -> None:
        """Abort once more in every partition that the transaction given up has written to.

        The reason is that of the other client's producer: a broker may have written no marker there (KAFKA-20734).
        """
        given_up = self._given_up
        if given_up is None:
            return
        if given_up.outcome == "refused" or not has_committed(self._kafka, given_up.offsets):
            deadline = time.monotonic() + self._commit_timeout_s
            self._ask("begin_transaction")
            self._send([Message(*place, b"aborted", b"") for place in given_up.places])
            self._flush(deadline)
            # Its offsets too, by the group's name alone: a member's generation may be over
            offsets, nobody = self._group_offsets(given_up.offsets), metadata_of(self._kafka.group_id)
            self._send_offsets(offsets, nobody, deadline)
            self._ask("abort_transaction", left(deadline))
        self._given_up = None

    def commit(self, messages: Sequence[Message], offsets: dict[int, int], membership: object) -> None:
        """One transaction within the commit time limit. Raises CommitError; then `renew` before the next."""
        if not offsets:
            raise ValueError("every transaction carries offsets: they are what fences it")
        if not isinstance(membership, Membership):
            raise CommitError(f"not a member in good standing: {membership}", outcome="refused", fix=GROUP_MOVES)
        if not self.usable:
            raise CommitError("the last transaction failed: renew first", outcome="refused")
        try:
            self._commit(messages, offsets, membership)
        except CommitError as error:
            # The group may have got its next generation just now, which the client has a moment later: no partition has
            # changed hands, so the same goes once more
            stale = error.outcome == "refused" and isinstance(error.__cause__, IllegalGenerationError)
            if not stale or not self._renewed() or membership.now() == self._metadata:
                raise
            self._commit(messages, offsets, membership)

    def _renewed(self) -> bool:
        with suppress(BrokerError, Refusal):
            self.renew()
        return self.usable

    def _commit(self, messages: Sequence[Message], offsets: dict[int, int], membership: Membership) -> None:
        try:
            self._transact(messages, self._group_offsets(offsets), membership)
        except CommitError as error:
            undelivered = [*self._undelivered.items()]
            self.close()
            lacking = {place for place, reason in undelivered if isinstance(reason, UnknownTopicOrPartitionError)}
            places = {(message.topic, message.partition) for message in messages} - lacking
            self._given_up = GivenUp(places, offsets, error.outcome)
            raise

    def _transact(self, messages: Sequence[Message], offsets: list[TopicPartition], membership: Membership) -> None:
        deadline = time.monotonic() + self._commit_timeout_s
        try:
            self._ask("begin_transaction")
            self._send(messages)
            self._flush(deadline)
            self._metadata = membership.now()
            self._send_offsets(offsets, self._metadata, deadline)
        except (KafkaError, ValueError) as error:
            raise self._failed(error, "refused") from error
        try:
            self._ask("commit_transaction", left(deadline))
        except KafkaError as error:
            # Unknown even if fenced: a successor may have come between a commit that worked and its retry
            raise self._failed(error, "unknown") from error

    def _send(self, messages: Sequence[Message]) -> None:
        assert self._producer is not None, "whoever sends has seen that there is one"
        self._undelivered.clear()
        produce = self._producer.produce
        try:
            for topic, partition, key, value, headers, timestamp_ms in messages:
                produce(topic, value, key, partition, None, None, timestamp_ms or 0, list(headers))
        except (*RAISED, BufferError) as error:
            raise translated(error) from error
        finally:
            del produce  # an error that is kept would keep it, and so the client

    def _flush(self, deadline: float) -> None:
        waiting = self._ask("flush", left(deadline))
        if self._undelivered:  # offsets would be sent all the same, and only the commit fail (librdkafka 2.16.0)
            reasons = [reason for reason in self._undelivered.values() if "_PURGE_" not in str(reason)]
            if not reasons:
                self._ask("begin_transaction")  # says why the transaction failed, for which all was purged
            raise next(iter(reasons or self._undelivered.values()))
        if waiting:
            raise KafkaTimeoutError("a record was not acknowledged in time")

    def _send_offsets(self, offsets: list[TopicPartition], metadata: bytes, deadline: float) -> None:
        """Send the offsets within a limit of our own.

        Where the group's coordinator is away librdkafka 2.16 does not keep to the one it is given (its issue 5456).
        """
        hold = [self._producer]  # of which nothing but the call itself is left

        def send() -> None:
            hold.pop().send_offsets_to_transaction(offsets, metadata, left(deadline))  # type: ignore[union-attr]

        try:
            within(left(deadline) + LATE_S, send)
        except TimeoutError as error:
            raise KafkaTimeoutError("the offsets were not answered for in time") from error
        except RAISED as error:
            raise translated(error) from error

    def _ask(self, method: str, *arguments: object) -> object:
        try:
            return getattr(self._producer, method)(*arguments)
        except RAISED as error:
            raise translated(error) from error

    def _failed(self, error: Exception, outcome: str) -> CommitError:
        fix = fix_for(error, self._kafka, "Write")
        # Another of its name has fenced the producer first: the member was fenced by itself, as it joined anew
        fenced = is_fenced(error) and not isinstance(error, FencedInstanceIdError)
        return CommitError(f"transaction {outcome}: {error!r}", outcome=outcome, fenced=fenced, fix=fix)

    def _group_offsets(self, offsets: Mapping[int, int]) -> list[TopicPartition]:
        return [TopicPartition(self._kafka.input_topic, p, offset) for p, offset in offsets.items()]

    def close(self) -> None:
        """Throw the producer away; an open transaction stays open until `renew` or its time-out. Never raises.

        Waits until it sends nothing more: its late answer would fence the next one. The client is closed by the last
        that forgets it, which takes its time where brokers are away.
        """
        hold, self._producer = [self._producer], None
        with suppress(*RAISED):
            if hold[0] is not None:
                hold[0].purge(blocking=False)
        with suppress(TimeoutError):
            within(DISCARD_S, hold.clear)
