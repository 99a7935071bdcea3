"""What may happen to workers and their broker, over and over, in an order that a seed decides."""

import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.rigs.cluster import Cluster, Worker
from worker.demo.local_kafka import LocalKafka


@dataclass(frozen=True)
class Fault:
    """One that was done."""

    at_s: float  # since the run began
    kind: str
    seconds: float  # until all that was sent by its end had its forecast
    over: bool  # False: it never was so


class Faults:
    """Each kind once in every round, the rounds shuffled; a worker is drawn for those that are about one."""

    def __init__(self, kafka: LocalKafka, cluster: Cluster, seed: int, longest_freeze_s: float) -> None:
        self.kinds: dict[str, Callable[[], object]] = {
            "worker killed": self._kill_worker,
            "worker frozen": self._freeze_worker,
            "worker restarted": self._restart_worker,
            "broker frozen": self._freeze_broker,
            "broker killed": self._kill_broker,
        }
        self._kafka, self._cluster = kafka, cluster
        self._random, self._longest_freeze_s = random.Random(seed), longest_freeze_s
        self._round: list[str] = []

    def do(self) -> str:
        """The next one, up to where nothing of it is left but to recover; its kind."""
        if not self._round:
            self._round = self._random.sample(list(self.kinds), len(self.kinds))
        kind = self._round.pop()
        self.kinds[kind]()
        return kind

    def _worker(self) -> Worker:
        return self._random.choice(self._cluster.workers)

    def _kill_worker(self) -> None:
        (worker := self._worker()).kill()
        worker.start()

    def _restart_worker(self) -> None:
        worker = self._worker()
        worker.tell(signal.SIGTERM)
        assert worker.wait() == 0, f"{worker.name} did not stop cleanly\n{self._cluster.ends_of_logs()}"
        worker.start()

    def _freeze_worker(self) -> None:
        (worker := self._worker()).tell(signal.SIGSTOP)
        self._hold()
        worker.tell(signal.SIGCONT)

    def _freeze_broker(self) -> None:
        self._kafka.freeze(1)
        self._hold()
        self._kafka.thaw(1)

    def _kill_broker(self) -> None:
        self._kafka.kill(1)
        self._kafka.restart(1)

    def _hold(self) -> None:
        """For as long as a freeze lasts; below and above what a session lasts."""
        time.sleep(self._random.uniform(self._longest_freeze_s / 4, self._longest_freeze_s))
