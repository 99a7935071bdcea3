"""librdkafka's messages as the contract's records."""

from typing import Any

from worker.broker.contract import Records


def records_of(run: list[Any]) -> Records:  # messages, whose types leave room for more than a record has
    """Return a run of one partition's messages, none of which is an error."""
    return Records(
        [message.offset() for message in run],
        [message.timestamp()[1] for message in run],
        [message.key() for message in run],
        [message.value() for message in run],
        [message.headers() or [] for message in run],
    )
