"""A client that forgets a partition is found out, though it raises nothing, and no other one is taken for it."""

from collections.abc import Iterator

import pytest
from kafka.structs import TopicPartition

from tests.rigs.broker_rigs import ALL, KafkaRig, Row, Worker, drive
from worker.broker import stalls
from worker.broker.contract import BrokerError

pytestmark = pytest.mark.kafka


@pytest.fixture
def rig(bootstrap: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[KafkaRig]:
    monkeypatch.setattr(stalls, "FETCHES", 5)
    rig = KafkaRig(bootstrap)
    yield rig
    rig.close()


def joined(rig: KafkaRig) -> Worker:
    worker = Worker(rig.join("w1"))
    drive(worker, until=lambda: worker.owned == ALL and worker.membership is not None)
    return worker


def some(partition: int) -> list[Row]:
    return [(partition, b"k", b"%d" % n, n) for n in range(3)]


def test_a_partition_that_the_client_forgets_ends_the_poll_and_comes_with_another_client(
    rig: KafkaRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = joined(rig)
    for partition in (0, 1):
        worker.broker.start(partition, 0)
    fetcher = worker.broker._consumer._consumer._fetcher  # type: ignore[attr-defined]
    fetchable, forgotten = fetcher._fetchable_partitions, TopicPartition(rig.input, 1)
    monkeypatch.setattr(fetcher, "_fetchable_partitions", lambda: [tp for tp in fetchable() if tp != forgotten])
    rig.feed([*some(0), *some(1)])
    with pytest.raises(BrokerError, match=f"the client reads nothing of {rig.input}-1 from 0 on, .* up to 3"):
        drive(worker, until=lambda: False)
    assert len(worker.rows[0]) == 3, "the others go on"
    worker.broker.renew()
    worker.owned.clear()
    drive(worker, until=lambda: worker.owned == ALL and worker.membership is not None)
    worker.broker.start(1, 0)
    drive(worker, until=lambda: 1 in worker.rows and len(worker.rows[1]) == 3)


def test_a_partition_at_its_end_or_at_rest_is_not_forgotten(rig: KafkaRig) -> None:
    rig.feed([*some(0), *some(1)])
    worker = joined(rig)
    for partition in (0, 1, 2):
        worker.broker.start(partition, 0)
    drive(worker, until=lambda: worker.count() == 6)
    worker.broker._consumer._stop(1)  # type: ignore[attr-defined]
    rig.feed(some(1))
    for _ in range(20):
        worker.poll(0.1)
    assert not worker.ended
    assert len(worker.rows[1]) == 3
