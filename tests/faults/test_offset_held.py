"""A transaction that never ends and holds the group's offset, as one whose end a killed coordinator has lost."""

from pathlib import Path

import pytest
from kafka import KafkaProducer
from kafka.structs import OffsetAndMetadata, TopicPartition

from tests.rigs.cluster import Cluster

pytestmark = pytest.mark.kafka

LIMIT_S = 120.0
OLD = 1


def test_an_offset_that_is_held_for_ever_is_taken_from_what_is_published(
    bootstrap: str, unique: str, tmp_path: Path
) -> None:
    with Cluster(bootstrap, unique, tmp_path, 2, model={"hidden_size": 8}, worker={"give_up_s": 90}) as cluster:
        worker = cluster.worker("one", "--leave")
        cluster.wait_until_live()
        for _ in range(5):
            cluster.await_last()
        cluster.stop()
        before = cluster.committed()
        holder = KafkaProducer(
            bootstrap_servers=bootstrap, transactional_id=f"{unique}-holder", transaction_timeout_ms=600_000
        )
        try:
            holder.init_transactions()
            holder.begin_transaction()
            held = {TopicPartition(cluster.topics.input, 0): OffsetAndMetadata(OLD, "", -1)}
            holder.send_offsets_to_transaction(held, cluster.settings.kafka.group_id)
            worker.start()
            cluster.wait_until_live(LIMIT_S)
            cluster.await_last()
            cluster.stop()
        finally:
            holder.abort_transaction()
            holder.close()
        ids = [dict(record.headers)["foldcast-id"] for record in cluster.read(cluster.topics.output)]
        assert len(ids) == len({*ids}) == 2 * 6
        assert all(offset > before[partition] for partition, offset in cluster.committed().items())
        assert f"{cluster.topics.input}-0 is held by a transaction" in cluster.logs()
        assert "could not be restored" not in cluster.logs()
