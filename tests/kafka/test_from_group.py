"""A new group goes on with an old one's work under traffic: an auditor finds one forecast per event of both lives."""

import signal
from pathlib import Path

import pytest
from kafka.admin import NewPartitions

from tests.rigs.cluster import Cluster, Feeder, Source
from worker.broker.security import open_admin
from worker.demo.auditor import Rules, audit
from worker.refusal import Refusal
from worker.takeover import predecessor_of

pytestmark = pytest.mark.kafka

RATE = 400.0
LONG_S = 240.0
AT_ONCE = "FOLDCAST_WORKER__MAX_POLL_RECORDS"


def successor(bootstrap: str, old: Cluster, partitions: int, **sections: dict[str, object]) -> Cluster:
    """Other settings for the same input and output, under another group."""
    topics: dict[str, object] = {"input_topic": old.topics.input, "output_topic": old.topics.output}
    new = Cluster(bootstrap, f"{old.topics.group}-2", old.home, partitions, kafka=topics, **sections)
    new._last_ms = old._last_ms  # its last events come after those that are there
    return new


def assert_one_forecast_each(old: Cluster, new: Cluster) -> None:
    inputs, outputs = new.read(new.topics.input), new.read(new.topics.output)
    dead = [*old.read(old.topics.dead_letters), *new.read(new.topics.dead_letters)]
    report = audit(inputs, outputs, dead, Rules(), new.topics.input)
    print("\n" + "\n".join(report.lines()))
    assert report.ok, "\n".join(report.lines())
    assert report.expected["forecast"] > 1000


def test_a_larger_network_goes_on_though_its_worker_is_killed_in_the_fold(
    bootstrap: str, unique: str, tmp_path: Path
) -> None:
    with Cluster(bootstrap, unique, tmp_path, 4, model={"hidden_size": 8}) as old:
        feeder = Feeder(old, Source(100, 4, seed=5), RATE)
        feeder.start()
        killed, stopped = old.worker("old-killed"), old.worker("old-stopped")
        old.wait_until_live(LONG_S)
        old.await_last()
        with successor(bootstrap, old, 4, model={"hidden_size": 64}) as new:
            with pytest.raises(Refusal, match="the group nobody has no committed offset"):
                predecessor_of(new.settings, "nobody")
            new.environment[AT_ONCE] = "1"  # so that its fold takes far longer than to kill it
            worker = new.worker("new", "--from-group", unique)
            waits = f"waiting for group {unique} to end: 2 members"
            new.wait_for(lambda: worker.log.exists() and waits in new.logs(), "it waits", LONG_S)
            stopped.tell(signal.SIGTERM)
            killed.kill()
            assert stopped.wait() == 0
            ended = old.committed()
            new.wait_for(lambda: "loaded" in worker.life.states.values(), "it folds", LONG_S)
            worker.kill()
            assert "loaded" in worker.life.states.values(), "it was killed in the fold"
            del new.environment[AT_ONCE]
            worker.start()
            new.worker("another", "--from-group", unique)
            new.wait_until_live(LONG_S)
            feeder.finish()
            new.await_last()
            new.stop()
            assert predecessor_of(new.settings, unique) is None, "nothing is left to take over"
            assert old.committed() == ended
            assert all(offset > ended[partition] for partition, offset in new.committed().items())
            assert_one_forecast_each(old, new)


def test_more_partitions_are_read_from_where_the_old_group_ended(bootstrap: str, unique: str, tmp_path: Path) -> None:
    with Cluster(bootstrap, unique, tmp_path, 4, model={"hidden_size": 8}) as old:
        source = Source(100, 4, seed=6)
        feeder = Feeder(old, source, RATE)
        feeder.start()
        old.worker("old")
        old.wait_until_live(LONG_S)
        old.await_last()
        feeder.finish()  # a client learns of new partitions within minutes
        client = open_admin(old.connection)
        client.create_partitions({name: NewPartitions(8) for name in (old.topics.input, old.topics.output)})
        client.close()
        source._partitions = 8  # half of the keys move
        with successor(bootstrap, old, 8, model={"hidden_size": 8}) as new:
            feeder = Feeder(new, source, RATE)
            feeder.start()
            old.await_last()  # it goes on with what it knows
            new._last_ms = old._last_ms
            old.stop()
            new.worker("new", "--from-group", unique)
            new.wait_until_live(LONG_S)
            feeder.finish()
            new.await_last()
            new.stop()
            assert new.committed().keys() == set(range(8))
            assert_one_forecast_each(old, new)
