"""Records that an operator sends again, in transactions under one fixed id: of two operators only the later goes on."""

import time
from collections.abc import Sequence
from typing import Any

from kafka.errors import AuthorizationError, KafkaError, RetriableError, TopicAuthorizationFailedError

from worker.broker.contract import RESENDER, BrokerError, CommitError, Message
from worker.broker.diagnosis import errors_in
from worker.broker.fixes import fix_for
from worker.broker.limits import within
from worker.broker.producer import close, discard, is_fenced, left, send_all
from worker.broker.security import open_producer
from worker.refusal import Refusal
from worker.settings.kafka import Kafka

LIMIT_S = 20.0  # of a transaction
LARGEST_BYTES = 1 << 30  # of a record unpacked: what came packed goes packed
FENCED_FIX = "another `foldcast dead-letters resend` of this group has begun: let it end, then run this again"
AGAIN_FIX = "run this again: what has been sent is not sent twice"


class Unsendable(CommitError):  # noqa: N818 - a state of the records, whoever sends them
    """A transaction was refused for what is in it: in another without that the rest may go."""


class Resender:
    """One producer; after a failed `send` it is of no use until `renew`."""

    def __init__(self, kafka: Kafka, places: Sequence[tuple[str, int]]) -> None:
        """`places` are the topics and partitions that will be written to. Raises BrokerError, or Refusal where the user
        may not do that."""
        self._kafka, self._places = kafka, places
        self.renew()

    def renew(self) -> None:
        """End whatever an earlier one left open: what it committed can be read from now on, and it commits no more.

        Raises BrokerError, or Refusal where the user may not have it.
        """
        kafka = self._kafka
        limit_ms = int(LIMIT_S * 1000)
        producer = None
        try:
            producer = self._producer = open_producer(
                kafka,
                transactional_id=transactional_id(kafka),
                transaction_timeout_ms=limit_ms + 5_000,
                compression_type="gzip",
                max_request_size=LARGEST_BYTES,
                linger_ms=5,
                retry_backoff_ms=5,
                request_timeout_ms=limit_ms,
                delivery_timeout_ms=limit_ms + 5,
                max_block_ms=limit_ms,
            )
            producer.init_transactions()
            self._sweep()
        except (KafkaError, TimeoutError) as error:
            if producer is not None:
                discard(producer)
            if isinstance(error, TopicAuthorizationFailedError):
                raise Refusal(f"dead letters cannot be sent again: {fix_for(error, kafka, 'Write')}") from error
            if isinstance(error, AuthorizationError):
                right = f"allow Write on transactional id {transactional_id(kafka)} (docs/security.md has the ACLs)"
                raise Refusal(f"dead letters cannot be sent again: {right}") from error
            raise BrokerError(f"no transactional producer: {error!r}", fix=fix_for(error, kafka, "Write")) from error

    def _sweep(self) -> None:
        """Abort once more wherever an earlier one may have written: its own abort may never have come there, and then
        the next commit would bring back what was aborted (Kafka 4.3.1, KAFKA-20734)."""
        if self._places:
            deadline = time.monotonic() + LIMIT_S
            self._producer.begin_transaction()
            send_all(self._producer, [Message(*place, b"aborted", b"") for place in self._places], deadline, [])
            within(left(deadline), self._producer.abort_transaction)

    def send(self, messages: Sequence[Message]) -> None:
        """One transaction: all of them or none. Raises Unsendable, CommitError."""
        deadline, futures, outcome = time.monotonic() + LIMIT_S, list[Any](), "refused"
        try:
            self._producer.begin_transaction()
            send_all(self._producer, messages, deadline, futures)
            outcome = "unknown"
            within(left(deadline), self._producer.commit_transaction)
        except (KafkaError, ValueError, TimeoutError) as error:
            discard(self._producer)
            fenced = is_fenced(error)
            fix = FENCED_FIX if fenced else f"{fix_for(error, self._kafka, 'Write')}, and {AGAIN_FIX}"
            kind = Unsendable if outcome == "refused" and not fenced and _is_of_records(error) else CommitError
            raise kind(f"transaction {outcome}: {error!r}", outcome=outcome, fenced=fenced, fix=fix) from error

    def close(self) -> None:
        """Close the producer. Never raises."""
        close(self._producer, LIMIT_S)


def _is_of_records(error: BaseException) -> bool:
    """Whether it is no error of the way there, or of the user's rights, which would meet any record."""
    return not any(isinstance(one, (RetriableError, AuthorizationError, TimeoutError)) for one in errors_in(error))


def transactional_id(kafka: Kafka) -> str:
    """Every operator's of this group: apart from those of workers, whose instances are named by hosts."""
    return f"{kafka.group_id}/{RESENDER}"
