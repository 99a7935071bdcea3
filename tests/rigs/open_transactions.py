"""What the brokers know of transactions that are open, for a test that waits for one: the end of their story."""

from kafka import TopicPartition
from kafka.errors import KafkaError

from worker.broker.security import open_admin
from worker.settings.kafka import Kafka


def open_transactions(kafka: Kafka, topics: list[str], partitions: int) -> list[str]:
    """One line for each that a partition holds open, then one for each that a coordinator knows."""
    client = open_admin(kafka)
    lines = []
    try:
        for place in [TopicPartition(topic, partition) for topic in topics for partition in range(partitions)]:
            for producer in client.describe_producers([place])[place].active_producers:
                if producer.current_transaction_start_offset >= 0:
                    lines.append(f"{place.topic}-{place.partition}: {producer}")
        names = sorted({one.transactional_id for many in client.list_transactions().values() for one in many})
        lines += [str(one) for one in client.describe_transactions(names).values()]
    except (KafkaError, TimeoutError) as error:
        lines.append(f"no more is known: {error!r}")
    finally:
        client.close()
    return lines
