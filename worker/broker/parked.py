"""Fetched records of a partition that was paused: kafka-python may never hand them out again, nor fetch more of it."""

from typing import Any

from kafka import KafkaConsumer


def release_parked(consumer: KafkaConsumer) -> None:
    """Have the consumer go on with what it holds of partitions that were paused, once they are resumed.

    It looks for it only while no partition is in line, and one whose records are all handed out stays in line until
    a fetch of another comes (kafka-python 3.0.12). A partition that has something parked is not fetched: where no other
    one is, it stands still for ever.
    """
    fetcher = consumer._fetcher
    fetched_records = fetcher.fetched_records

    def released(*arguments: Any, **options: Any) -> Any:
        if not fetcher._next_partition_records:
            fetcher._next_partition_records = None
        return fetched_records(*arguments, **options)

    fetcher.fetched_records = released
