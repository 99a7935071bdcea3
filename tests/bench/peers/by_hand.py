"""A loop as one writes it by hand: confluent-kafka, a dict of states that nobody saves, a transaction per batch."""

import signal
from threading import Event

import gru
from confluent_kafka import Consumer, Producer, TopicPartition

BATCH = 2000

stop = Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
consumer = Consumer(
    {
        "bootstrap.servers": gru.BOOTSTRAP,
        "group.id": gru.GROUP,
        "session.timeout.ms": gru.SESSION_S * 1000,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "isolation.level": "read_committed",
    }
)
consumer.subscribe([gru.INPUT])
producer = Producer(
    {
        "bootstrap.servers": gru.BOOTSTRAP,
        "transactional.id": gru.GROUP,
        "linger.ms": 5,
        "queue.buffering.max.messages": 1_000_000,
    }
)
producer.init_transactions()
hidden = {}
while not stop.is_set():
    first = consumer.poll(0.1)  # `consume` alone would wait until it has all it may return
    if first is None:
        continue
    producer.begin_transaction()
    offsets = {}
    for message in [first, *consumer.consume(BATCH - 1, 0)]:
        if message.error():
            raise SystemExit(str(message.error()))
        key, partition, offset = message.key(), message.partition(), message.offset()
        record_id = f"{gru.INPUT}-{partition}-{offset}"
        body, hidden[key] = gru.forecast(message.value(), hidden.get(key, gru.ZERO), record_id)
        producer.produce(gru.OUTPUT, body, key, partition)
        offsets[partition] = offset + 1
    positions = [TopicPartition(gru.INPUT, partition, offset) for partition, offset in offsets.items()]
    producer.send_offsets_to_transaction(positions, consumer.consumer_group_metadata())
    producer.commit_transaction()
consumer.close()
