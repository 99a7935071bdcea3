"""A broker behind a proxy, workers, events that never end, and whoever breaks them."""

import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.mixed import nested
from tests.rigs.cluster import AdoptionFollower, Cluster, Feeder, Source, Worker, random_weights
from tests.rigs.ports import free_port
from tests.rigs.proxy import Proxy
from worker.broker.contract import BrokerError
from worker.demo.local_kafka import LocalKafka, kafka_from_jars
from worker.settings.sources import load

PARTITIONS, STREAMS = 6, 120
SESSION_S = 6
NODE = 1
UNCOMPACTED_S = 120
RECOVERY_LIMIT_S = 240.0
FIRST = ("one", "two", "three")


class Storm:
    """What a fault may lay hands on."""

    def __init__(self, kafka: LocalKafka, proxy: Proxy, cluster: Cluster, rng: random.Random) -> None:
        self.kafka, self.proxy, self.cluster, self.rng = kafka, proxy, cluster, rng
        self.ended: list[str] = []  # workers that ended by themselves, with their last words
        self._made = 0

    @property
    def workers(self) -> list[Worker]:
        """Those that run or are to run again."""
        return self.cluster.workers

    def start(self, name: str = "", *options: str) -> Worker:
        """One more worker behind the proxy; the name of its own where none is given."""
        self._made += 1
        worker = Worker(name or f"more-{self._made}", self.cluster, *options)
        worker.environment["FOLDCAST_KAFKA__BOOTSTRAP_SERVERS"] = self.kafka.listeners["PROXIED"]
        self.workers.append(worker)
        worker.start()
        return worker

    def dismiss(self, worker: Worker) -> None:
        """Wait for the end of one that was told to leave for good."""
        worker.wait()
        self.workers.remove(worker)

    def restart(self, worker: Worker, sign: signal.Signals) -> None:
        """End it by a signal and start it again."""
        worker.tell(sign)
        worker.wait()
        worker.start()

    def recover(self) -> float:
        """Take every hand off, start who has ended, until each partition answers a new event; the seconds it took."""
        began = time.monotonic()
        self.proxy.heal()
        while True:
            for worker in [worker for worker in self.workers if worker.life.ended]:
                code = worker.wait()
                self.ended.append(f"{worker.name} with {code}: {worker.log.read_text().splitlines()[-1][:300]}")
                worker.start()
            try:
                self.cluster.wait_until_live()
                self.cluster.await_last()
            except (AssertionError, BrokerError):
                if time.monotonic() - began > RECOVERY_LIMIT_S:
                    raise
            else:
                return time.monotonic() - began

    def finish(self, feeder: Feeder) -> None:
        """No more events; every worker takes in what there is and stops in order."""
        feeder.finish()
        self.recover()
        self.cluster.stop()


def compact_later(cluster: Cluster) -> None:
    """Let the cleaner leave alone what the follower of adoptions, which loses the broker too, may not have read yet."""
    cluster.configure(cluster.topics.changelog, {"min.compaction.lag.ms": str(UNCOMPACTED_S * 1000)})


@contextmanager
def storm(
    home: Path, seed: int, rate: float, several: bool = False
) -> Iterator[tuple[Storm, Feeder, AdoptionFollower]]:
    """A storm with all its parts started and every partition live; nothing of it is left at the end.

    With `several` a message has more than one target, as `nested` has it.
    """
    rng, port = random.Random(seed), free_port()
    home.mkdir(parents=True, exist_ok=True)
    checkpoint = home / "weights"
    random_weights(load(None, {}), checkpoint)
    # The usual session, not the short one of other tests: where a broker that was killed is fenced again while it loads
    # its group offsets, Kafka 4.3.1 goes on with old ones (docs/guarantees.md)
    session = {"broker.session.timeout.ms": "9000"}
    kafka = kafka_from_jars(
        listeners={"PROXIED": "PLAINTEXT"}, proxies={"PROXIED": f"127.0.0.1:{port}"}, extra_properties=session
    )
    inner = int(kafka.listeners["PROXIED"].rpartition(":")[2])
    kafka.listeners["PROXIED"] = f"127.0.0.1:{port}"
    try:
        with (
            Proxy(port, inner, seed) as proxy,
            Cluster(
                kafka.bootstrap_servers,
                f"storm-{seed}",
                home,
                PARTITIONS,
                kafka={"session_timeout_s": SESSION_S},
                model={"checkpoint": checkpoint},
                worker={"snapshot_events": 1000, "give_up_s": 120},
                fine_tune={"adopt_interval_s": 1, "window": 24, "max_cpu_share": 0.3},
                log={"level": "debug"},
                events=nested.EVENTS if several else {},
            ) as cluster,
        ):
            if several:
                cluster.event_bytes = nested.last_message
            compact_later(cluster)
            follower = AdoptionFollower(cluster)
            follower.start()
            stage = Storm(kafka, proxy, cluster, rng)
            for name in FIRST:
                stage.start(name)
            stage.recover()  # patient: the first start of all compiles kernels
            source = (nested.NestedSource if several else Source)(STREAMS, PARTITIONS, seed)
            feeder = Feeder(cluster, source, rate, patient=True)
            feeder.start()
            yield stage, feeder, follower
    finally:
        kafka.stop()
