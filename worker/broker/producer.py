"""One transaction per cycle: messages and input offsets, together or not at all."""

import time
from collections.abc import Mapping, Sequence, Set
from contextlib import suppress
from typing import Any, NamedTuple

from kafka import KafkaProducer
from kafka.consumer.group import ConsumerGroupMetadata
from kafka.coordinator.base import MemberState
from kafka.errors import AuthorizationError, KafkaError, KafkaTimeoutError
from kafka.structs import OffsetAndMetadata, TopicPartition

from worker.broker.admin import group_offsets
from worker.broker.contract import BrokerError, CommitError, Message
from worker.broker.diagnosis import errors_in
from worker.broker.fixes import FENCED, GROUP_MOVES, fix_for, transactional_id
from worker.broker.limits import within
from worker.broker.security import open_producer
from worker.refusal import Refusal
from worker.settings.kafka import Kafka

# The broker aborts a transaction after this, and its producer then looks fenced: so our own limit comes first. After
# a crash without a restart, readers of the output wait as long.
TRANSACTION_TIMEOUT_MS, TRANSACTION_MARGIN_MS = 10_000, 2_000
BATCH_BYTES = 1_000_000  # at the client's 16 kB a transaction costs twice the CPU
DISCARD_S = 2.0


class GivenUp(NamedTuple):
    """A transaction of which the client does not know that it committed."""

    places: Set[tuple[str, int]]  # topics and partitions it may have written to
    offsets: Mapping[int, int]
    outcome: str


class TransactionalProducer:
    """Commits transactions; after any failure it is of no use until `renew`.

    Does not cover: a broker that loses acknowledged data, two live workers with one identity (both see `fenced`).
    """

    def __init__(self, kafka: Kafka, commit_timeout_s: float, max_request_bytes: int) -> None:
        self._kafka, self._commit_timeout_s, self._max_request_bytes = kafka, commit_timeout_s, max_request_bytes
        self._producer: KafkaProducer | None = None
        self._given_up: GivenUp | None = None

    @property
    def usable(self) -> bool:
        """Every transaction so far has committed: none of ours can be open."""
        return self._producer is not None

    def renew(self) -> None:
        """Throw the producer away and make another, which aborts what the old one left open, wherever that is.

        Raises BrokerError, or Refusal where the user may not have one.
        """
        self.close()
        try:
            producer = self._opened()
            self._sweep(producer)
        except AuthorizationError as error:
            raise Refusal(f"no transactional producer: {fix_for(error, self._kafka)}") from error
        except (KafkaError, TimeoutError) as error:
            fix = fix_for(error, self._kafka, "Write")
            raise BrokerError(f"no transactional producer: {error!r}", fix=fix) from error
        self._producer = producer

    def _opened(self) -> KafkaProducer:
        limit_ms = int(self._commit_timeout_s * 1000)
        producer = open_producer(
            self._kafka,
            transactional_id=transactional_id(self._kafka),
            transaction_timeout_ms=max(TRANSACTION_TIMEOUT_MS, limit_ms + TRANSACTION_MARGIN_MS),
            batch_size=min(BATCH_BYTES, self._max_request_bytes),
            max_request_size=self._max_request_bytes,
            linger_ms=5,
            retry_backoff_ms=5,  # slept before every retried transactional request, and those are common
            request_timeout_ms=limit_ms,
            delivery_timeout_ms=limit_ms + 5,  # not less than request_timeout_ms + linger_ms
            max_block_ms=limit_ms,
        )
        try:
            producer.init_transactions()
        except KafkaError:
            # If left alive, its late answer would fence the producer that is made after it
            discard(producer)
            raise
        return producer

    def _sweep(self, producer: KafkaProducer) -> None:
        """Abort once more in every partition that the transaction given up has written to.

        A broker that ends a transaction while a partition has no leader writes no marker there, then or later (Kafka
        4.3.1, KAFKA-20734). The marker of the next transaction would end both, so that its commit would bring back
        what was aborted. A record that is acknowledged shows that there is a leader again.
        """
        given_up = self._given_up
        if given_up is None:
            return
        try:
            if given_up.outcome == "refused" or not has_committed(self._kafka, given_up.offsets):
                deadline = time.monotonic() + self._commit_timeout_s
                producer.begin_transaction()
                send_all(producer, [Message(*place, b"aborted", b"") for place in given_up.places], deadline, [])
                # Its offsets too, by the group's name alone: a member's generation may be over
                offsets, group = self._group_offsets(given_up.offsets), self._kafka.group_id
                within(left(deadline), lambda: producer.send_offsets_to_transaction(offsets, group))
                within(left(deadline), producer.abort_transaction)
        except (KafkaError, BrokerError, TimeoutError) as error:
            discard(producer)
            fix, fenced = fix_for(error, self._kafka, "Write"), is_fenced(error)
            raise BrokerError(f"what was given up is not aborted: {error!r}", fix=fix, fenced=fenced) from error
        self._given_up = None

    def commit(self, messages: Sequence[Message], offsets: dict[int, int], membership: object) -> None:
        """One transaction within the commit time limit. Raises CommitError; then `renew` before the next."""
        if not offsets:
            raise ValueError("every transaction carries offsets: they are what fences it")
        metadata = _stable(membership)
        # Never used again after a failure: what a refused or half-sent transaction leaves in the client leaks into
        # the next one (kafka-python 3.0.12: pending offsets stay, a lost batch does not fail the commit).
        producer, self._producer = self._producer, None
        if producer is None:
            raise CommitError("the last transaction failed: renew first", outcome="refused")
        futures: list[Any] = []
        try:
            self._transact(producer, messages, futures, self._group_offsets(offsets), metadata)
        except CommitError as error:
            discard(producer)
            places = {(topic, partition) for topic, partition, *_ in messages[: len(futures)]}
            self._given_up = GivenUp(places, offsets, error.outcome)
            raise
        self._producer = producer

    def _transact(
        self,
        producer: KafkaProducer,
        messages: Sequence[Message],
        futures: list[Any],
        offsets: dict[TopicPartition, OffsetAndMetadata],
        metadata: ConsumerGroupMetadata,
    ) -> None:
        deadline = time.monotonic() + self._commit_timeout_s
        try:
            producer.begin_transaction()
            send_all(producer, messages, deadline, futures)
            # Waits without limit for a broker that is gone (kafka-python 3.0.12), as does commit_transaction
            within(left(deadline), lambda: producer.send_offsets_to_transaction(offsets, metadata))
        except (KafkaError, ValueError, TimeoutError) as error:
            raise self._failed(error, "refused") from error
        try:
            within(left(deadline), producer.commit_transaction)
        except (KafkaError, TimeoutError) as error:
            # Unknown even if fenced: a successor may have come between a commit that worked and its retry
            raise self._failed(error, "unknown") from error

    def _failed(self, error: Exception, outcome: str) -> CommitError:
        fix = fix_for(error, self._kafka, "Write")
        return CommitError(f"transaction {outcome}: {error!r}", outcome=outcome, fenced=is_fenced(error), fix=fix)

    def _group_offsets(self, offsets: Mapping[int, int]) -> dict[TopicPartition, OffsetAndMetadata]:
        # leader_epoch None makes send_offsets_to_transaction hang for ever (kafka-python 3.0.12)
        topic = self._kafka.input_topic
        return {TopicPartition(topic, p): OffsetAndMetadata(offset, "", -1) for p, offset in offsets.items()}

    def close(self) -> None:
        """Throw the producer away; an open transaction stays open until `renew` or its time-out. Never raises."""
        producer, self._producer = self._producer, None
        if producer is not None:
            discard(producer)


def close(producer: KafkaProducer, limit_s: float) -> None:
    """Let a producer send what it has, then close it. Never raises."""
    try:
        producer.close(timeout=limit_s)
    except KafkaError:
        discard(producer)


def discard(producer: KafkaProducer) -> None:
    """Close a producer without letting it send anything more."""
    # close() alone flushes first and, if that fails, raises with the sender still running (kafka-python 3.0.12)
    producer._sender.force_close()
    with suppress(KafkaError):
        producer.close(timeout=DISCARD_S)


def has_committed(kafka: Kafka, offsets: Mapping[int, int]) -> bool:
    """Whether the transaction given up may have committed. An offset that another owner has moved on since shows
    nothing, and what was committed must not be aborted. Raises BrokerError, Refusal."""
    now = group_offsets(kafka, kafka.group_id, kafka.input_topic)
    return all(now.get(partition, -1) >= offset for partition, offset in offsets.items())


def _stable(membership: object) -> ConsumerGroupMetadata:
    """The membership, if it is one that the broker can fence: generation -1 would be let through unchecked."""
    if (
        not isinstance(membership, ConsumerGroupMetadata)
        or membership.generation_id < 0
        or membership.state != MemberState.STABLE
    ):
        raise CommitError(f"not a member in good standing: {membership}", outcome="refused", fix=GROUP_MOVES)
    return membership


def send_all(producer: KafkaProducer, messages: Sequence[Message], deadline: float, futures: list[Any]) -> None:
    """Send all and wait for them; `futures` takes in one for each that may have been written."""
    while len(futures) < len(messages):
        topic, partition, key, value, headers, timestamp_ms = messages[len(futures)]
        futures.append(producer.send(topic, value, key, list(headers), partition, timestamp_ms))
        _append_run(producer, messages, futures)
    producer.flush(left(deadline))
    for future in futures:
        # A lost batch does not fail the transaction (kafka-python 3.0.12): the commit would go through without it
        if future.exception is not None:
            raise future.exception
        if not future.is_done:
            raise KafkaTimeoutError("a record was not acknowledged in time")


def _append_run(producer: KafkaProducer, messages: Sequence[Message], futures: list[Any]) -> None:
    """Append what goes to the same partition as the last one that was sent, for as long as its batch has room.

    `send` asks for every record whether the partition is there and in the transaction, which costs more than the record
    (kafka-python 3.0.12). What does not fit into the batch, or is refused, is left to `send`.
    """
    place = messages[len(futures) - 1][:2]
    accumulator, to = producer._accumulator, TopicPartition(*place)
    with accumulator._tp_lock(to):  # the sender takes no batch away meanwhile
        batches = accumulator._batches[to]
        for at in range(len(futures), len(messages)):
            topic, partition, key, value, headers, timestamp_ms = messages[at]
            if (topic, partition) != place or (key is None and value is None) or not batches:
                return
            future = batches[-1].try_append(timestamp_ms, key, value, headers)
            if future is None:
                return
            futures.append(future)


def left(deadline: float) -> float:
    """Return the seconds until a deadline, 0 behind it."""
    return max(deadline - time.monotonic(), 0.0)


def is_fenced(error: BaseException) -> bool:
    """Whether the error, or one it tells of, says that somebody else has taken this identity."""
    # Once fenced, later calls raise plain KafkaError that only quotes the first (kafka-python 3.0.12)
    return any(isinstance(e, FENCED) or "ProducerFencedError" in repr(e) for e in errors_in(error))
