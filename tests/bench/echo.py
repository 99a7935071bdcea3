"""What the worker is measured against: an exactly-once loop on the bare client that sends a record for every event.

Consume, send one record of a given size, offsets in the transaction, commit; client settings as the worker's. It
decodes nothing, keeps nothing and forgives nothing. Reads the worker's own settings from the environment.
"""

import gc
import signal
import sys
from threading import Event

from kafka import KafkaConsumer, KafkaProducer
from kafka.structs import OffsetAndMetadata

from worker.settings.sources import load


def main(record_bytes: int) -> None:
    stop = Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    settings = load()
    kafka, servers = settings.kafka, settings.kafka.bootstrap_servers.split(",")
    consumer = KafkaConsumer(
        bootstrap_servers=servers,
        group_id=kafka.group_id,
        group_instance_id=kafka.instance_id,
        session_timeout_ms=int(kafka.session_timeout_s * 1000),
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        isolation_level="read_committed",
        max_poll_records=settings.worker.max_poll_records,
        max_partition_fetch_bytes=4 << 20,
        fetch_max_wait_ms=50,
    )
    consumer.subscribe([kafka.input_topic])
    consumer.partitions_for_topic(kafka.input_topic)  # else the first join can be lost (kafka-python 3.0.12)
    producer = KafkaProducer(
        bootstrap_servers=servers,
        transactional_id=kafka.group_id,
        batch_size=1_000_000,
        linger_ms=5,
        retry_backoff_ms=5,
    )
    producer.init_transactions()
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    while not stop.is_set():
        echo(consumer, producer, kafka.output_topic, record_bytes)


def echo(consumer: KafkaConsumer, producer: KafkaProducer, output: str, record_bytes: int) -> None:
    """One transaction, where there is anything to read."""
    fetched = consumer.poll(100)
    if not fetched:
        return
    membership = consumer.group_metadata()
    producer.begin_transaction()
    futures = [
        producer.send(output, b"." * (record_bytes - len(row.key)), row.key, None, tp.partition)
        for tp, rows in fetched.items()
        for row in rows
    ]
    producer.flush()
    assert not any(future.exception for future in futures), "a record did not arrive"
    offsets = {tp: OffsetAndMetadata(rows[-1].offset + 1, "", -1) for tp, rows in fetched.items()}
    producer.send_offsets_to_transaction(offsets, membership)
    producer.commit_transaction()


if __name__ == "__main__":
    main(int(sys.argv[-1]))  # after the word that starts a worker
