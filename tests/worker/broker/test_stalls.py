"""A client that forgets a partition is found out, though it raises nothing, and no other one is taken for it."""

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace

import pytest
from kafka.structs import TopicPartition

from tests.rigs.broker_rigs import KafkaRig, Row, drive, in_group, joined
from worker.broker import stalls
from worker.broker.contract import BrokerError
from worker.broker.stalls import FETCHES, Stalls


class Client:
    """A consumer as `Stalls` sees it: partitions at offset 7, led by broker 1. The last one's log ends at 9."""

    def __init__(self, partitions: int = 1) -> None:
        self.state = SimpleNamespace(position=SimpleNamespace(offset=7), paused=False)
        self.partitions = range(partitions)
        states = {TopicPartition("t", partition): self.state for partition in self.partitions}
        self._fetcher = SimpleNamespace(_completed_fetches=[], _next_partition_records=None)
        self._subscription = SimpleNamespace(assignment=states)
        self._cluster = SimpleNamespace(leader_for_partition=lambda _: 1)
        self.answers, self.asked, self.end = Counter[int](), 0, 9
        self.stalls = Stalls(self, "t", SimpleNamespace(answers=self.answers))  # type: ignore[arg-type]

    def end_offsets(self, tps: list[TopicPartition], timeout_ms: float) -> dict[TopicPartition, int]:
        self.asked += 1
        return {tp: self.end if tp.partition == self.partitions[-1] else 7 for tp in tps}

    def look(self, rounds: int, fetches: int = FETCHES) -> None:
        """So many answered fetches between two looks."""
        for _ in range(rounds):
            self.answers[1] += fetches
            self.stalls.look(self.partitions)


def test_it_is_asked_twice_before_a_client_is_blamed() -> None:
    client = Client()
    client.look(3)
    assert client.asked == 1
    with pytest.raises(BrokerError, match="reads nothing of t-0 from 7 on, though there is more up to 9"):
        client.look(2)


def test_one_of_hundreds_is_found_however_many_are_at_their_end() -> None:
    client = Client(200)
    with pytest.raises(BrokerError, match="reads nothing of t-199 from 7 on"):
        client.look(2 * FETCHES, fetches=2)
    assert client.asked == 2, "all of them at once"


def fetched_records_wait(client: Client) -> None:
    client._fetcher._completed_fetches = [object()]  # a deep catch-up: others have their turn first


def half_a_fetch_waits(client: Client) -> None:
    client._fetcher._next_partition_records = object()


def it_rests(client: Client) -> None:
    client.state.paused = True


def nothing_is_answered(client: Client) -> None:
    client.look = partial(client.look, fetches=0)  # type: ignore[method-assign]


def it_is_at_its_end(client: Client) -> None:
    client.end = 7


@pytest.mark.parametrize(
    "why", [fetched_records_wait, half_a_fetch_waits, it_rests, nothing_is_answered, it_is_at_its_end]
)
def test_a_partition_that_stands_still_with_a_reason_is_not_forgotten(why: Callable[[Client], None]) -> None:
    client = Client()
    why(client)
    client.look(20)
    assert client.asked == 0 or why is it_is_at_its_end


def test_a_partition_that_moves_on_is_not_forgotten_though_there_is_always_more() -> None:
    client = Client()
    for _ in range(20):
        client.look(2)
        client.state.position.offset += 1
        client.end += 1
    assert client.asked <= 20


@pytest.fixture
def rig(bootstrap: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[KafkaRig]:
    monkeypatch.setattr(stalls, "FETCHES", 5)
    rig = KafkaRig(bootstrap)
    yield rig
    rig.close()


def some(partition: int) -> list[Row]:
    return [(partition, b"k", b"%d" % n, n) for n in range(3)]


@pytest.mark.kafka
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
    in_group(worker)
    worker.broker.start(1, 0)
    drive(worker, until=lambda: 1 in worker.rows and len(worker.rows[1]) == 3)


@pytest.mark.kafka
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
