"""Workers that leave on purpose: partitions change hands in seconds, a restart folds nothing again, nothing is lost."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rigs.client import CLIENT_VARIABLE, CLIENTS
from tests.rigs.cluster import Cluster, Feeder, Source
from worker.demo.auditor import Rules, audit

pytestmark = pytest.mark.kafka

PARTITIONS = 4
SESSION_S = 120  # longer than any wait here: a hand-over was asked for


@pytest.fixture
def cluster(bootstrap: str, unique: str, tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(bootstrap, unique, tmp_path, PARTITIONS, kafka={"session_timeout_s": SESSION_S}) as made:
        yield made


def test_a_worker_that_leaves_hands_over_at_once(cluster: Cluster) -> None:
    stays, leaves = cluster.worker("stays"), cluster.worker("leaves", "--leave")
    cluster.wait_until_live()
    feeder = Feeder(cluster, Source(100, PARTITIONS, seed=1), 500)
    feeder.start()
    cluster.await_last()
    leaves.tell(signal.SIGTERM)
    took_s = cluster.wait_for(lambda: list(stays.life.states.values()).count("live") == PARTITIONS, "handed over")
    assert leaves.wait() == 0
    feeder.finish()
    cluster.await_last()
    cluster.stop()
    assert_nothing_lost(cluster)
    print(f"\nhanded over in {took_s:.2f} s")
    assert max(stays.tails) == 0  # the one that left had written an image at its last offset


def test_a_worker_that_is_restarted_takes_over_what_it_had_and_folds_nothing_again(cluster: Cluster) -> None:
    first, second = cluster.worker("first"), cluster.worker("second")
    cluster.wait_until_live()
    feeder = Feeder(cluster, Source(100, PARTITIONS, seed=2), 500)
    feeder.start()
    cluster.await_last()
    had, restores = set(first.life.states), len(second.tails)
    first.tell(signal.SIGTERM)
    assert first.wait() == 0
    first.start()
    cluster.wait_until_live()
    feeder.finish()
    cluster.await_last()
    cluster.stop()
    assert_nothing_lost(cluster)
    assert set(first.life.states) == had
    assert len(second.tails) == restores, "the other one was not disturbed"
    assert set(first.tails) == {0}


@pytest.mark.parametrize("clients", [CLIENTS, CLIENTS[::-1]])
def test_workers_move_from_one_client_to_the_other_and_back_by_restarts_under_load(
    clients: tuple[str, str], cluster: Cluster
) -> None:
    cluster.environment[CLIENT_VARIABLE] = clients[0]
    workers = [cluster.worker(name) for name in ("first", "second")]
    cluster.wait_until_live()
    feeder = Feeder(cluster, Source(100, PARTITIONS, seed=3), 500)
    feeder.start()
    for client in (clients[1], clients[0]):
        for worker in workers:  # so the group has both for a while
            worker.tell(signal.SIGTERM)
            assert worker.wait() == 0
            worker.environment[CLIENT_VARIABLE] = client
            worker.start()
            cluster.wait_until_live()
        cluster.await_last()
    feeder.finish()
    cluster.await_last()
    cluster.stop()
    assert_nothing_lost(cluster)
    assert {*workers[0].tails, *workers[1].tails} == {0}, "each goes on from the image that the other client has left"


def assert_nothing_lost(cluster: Cluster) -> None:
    inputs, outputs = cluster.read(cluster.topics.input), cluster.read(cluster.topics.output)
    report = audit(inputs, outputs, cluster.read(cluster.topics.dead_letters), Rules(), cluster.topics.input)
    assert report.ok, "\n".join(report.lines())
    assert report.expected["forecast"] > 0
