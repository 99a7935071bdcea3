"""What a worker that gives up asks for: something that fits what went wrong."""

import pytest
from kafka import errors

from worker.broker.contract import CommitError
from worker.broker.fixes import fix_for
from worker.broker.producer import is_fenced
from worker.failures import Failures
from worker.refusal import Refusal
from worker.settings.kafka import Kafka

KAFKA = Kafka(output_topic="out", group_id="g", instance_id="w0")

ANSWERS = f"see that the broker answers (kafka.bootstrap_servers is {KAFKA.bootstrap_servers})"
FITTING = [
    (errors.TopicAuthorizationFailedError({"out"}), "allow the worker's user Write on topic out"),
    (errors.TopicAuthorizationFailedError({"rows"}), "Write on topic rows"),
    (errors.TopicAuthorizationFailedError("g-changelog"), "Write on topic g-changelog"),
    (errors.GroupAuthorizationFailedError("g"), "allow the worker's user Read on group g"),
    (errors.TransactionalIdAuthorizationFailedError(), "Write on transactional id g/w0"),
    (errors.ProducerFencedError(), "no other worker has this kafka.instance_id"),
    (errors.CommitFailedError(), "workers of the group come and go"),
    (errors.MessageSizeTooLargeError(), "max.message.bytes"),
    (errors.NotEnoughReplicasError(), "min.insync.replicas"),
    (errors.UnknownTopicOrPartitionError(), "see that the topics are there"),
    (errors.KafkaError("aborted", errors.MessageSizeTooLargeError()), "max.message.bytes"),
    (errors.InvalidTxnStateError(), "the broker does answer, and refuses"),
    (errors.KafkaTimeoutError("no"), ANSWERS),
    (errors.RequestTimedOutError(), ANSWERS),
    (errors.KafkaConnectionError("gone"), ANSWERS),
    (TimeoutError(), ANSWERS),
    (errors.KafkaError("in an error state"), "see this worker's log before"),
    (ValueError("not bytes"), "see this worker's log before"),
]


@pytest.mark.parametrize(("error", "fix"), FITTING, ids=lambda value: type(value).__name__)
def test_the_sentence_of_giving_up_ends_with_a_fix_for_what_went_wrong(
    error: Exception, fix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("worker.failures.time.monotonic", lambda: now[0])
    failures = Failures(give_up_s=10)
    said = fix_for(error, KAFKA, "Write")
    failed = CommitError(f"transaction refused: {error!r}", outcome="refused", fenced=False, fix=said)
    failures.pause_after(failed)
    now[0] += 11
    with pytest.raises(Refusal) as caught:
        failures.pause_after(failed)
    assert fix in str(caught.value).rpartition("; ")[2]
    assert (ANSWERS in str(caught.value)) == (fix == ANSWERS)
    assert str(caught.value).startswith("nothing could be committed for 11 s (worker.give_up_s): transaction refused:")
    assert is_fenced(error) == isinstance(error, errors.ProducerFencedError)
