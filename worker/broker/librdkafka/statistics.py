"""What librdkafka tells of itself every second: brokers that leave fetches without an answer, and new partitions."""

import math
import time
from collections.abc import Collection
from typing import Any

import orjson

from worker.broker.contract import SILENT_S

INTERVAL_MS = 1000


class Statistics:
    """The newest report of one consumer; `take` is its callback, which runs within a poll."""

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._partitions: dict[int, dict[str, Any]] = {}
        self._brokers: dict[int, dict[str, Any]] = {}
        self._answers: dict[int, tuple[int, float]] = {}  # by broker: how many there were, and since when
        self._since: dict[int, float] = {}  # by partition: nothing before counts
        self._waits: dict[int, float] = {}  # by broker that owes an answer or a connection: since when
        self._told = 0.0  # when the newest report came; it may be old where nobody polls

    def take(self, report: str) -> None:
        """Take note of a report."""
        told, self._told = orjson.loads(report), time.monotonic()
        self._partitions = {int(p): of for p, of in told["topics"].get(self._topic, {}).get("partitions", {}).items()}
        # The coordinator is listed twice, the second time as what answers heartbeats
        brokers = [broker for broker in told["brokers"].values() if broker["source"] != "logical"]
        self._brokers = {broker["nodeid"]: broker for broker in brokers}
        for node, broker in self._brokers.items():
            if self._answers.get(node, (None,))[0] != broker["rx"]:
                self._answers[node] = broker["rx"], self._told
                self._waits.pop(node, None)
            if broker["state"] == "UP" and not broker["waitresp_cnt"]:
                self._waits.pop(node, None)
            else:
                self._waits.setdefault(node, self._told)

    def known(self) -> int:
        """Return how many partitions the topic has, by the client's metadata; 0 before the first report."""
        return sum(p >= 0 and not of["unknown"] for p, of in self._partitions.items())

    def over(self, partition: int) -> None:
        """Begin anew to count the time of this partition."""
        self._since[partition] = time.monotonic()

    def rests(self, partition: int) -> None:
        """Count no time of this partition until it is `over`: it is not asked for."""
        self._since[partition] = math.inf

    def lasts(self, partition: int) -> bool:
        """Whether its leader has not answered for long."""
        return self._lasts_s(partition) > SILENT_S

    def _lasts_s(self, partition: int) -> float:
        of = self._partitions.get(partition)
        if of is None or of["fetchq_cnt"]:  # while fetched records wait the client may ask for none
            return 0.0
        heard = self._answers.get(of["broker"], (0, 0.0))[1]
        return self._told - max(heard, self._since.get(partition, self._told))

    def words(self, partitions: Collection[int]) -> str | None:
        """Return which brokers do not answer for these partitions and for how long; None where all do.

        Without any partition, as once the client has given up its place in the group (librdkafka 2.16.0: after
        the session's time without an answer), which leaders owe it one.
        """
        silent = {self._leader(p): self._lasts_s(p) for p in partitions if self.lasts(p)}
        if not partitions:
            leaders = {self._partitions[p]["broker"] for p in self._partitions if p >= 0} & self._waits.keys()
            waits = {self._name(node): self._told - self._waits[node] for node in leaders}
            silent = {name: waited_s for name, waited_s in waits.items() if waited_s > SILENT_S}
        if not silent:
            return None
        return f"no answer from {', '.join(sorted(silent))} for {max(silent.values()):.0f} s"

    def _leader(self, partition: int) -> str:
        return self._name(self._partitions[partition]["broker"])

    def _name(self, node: int) -> str:
        broker = self._brokers.get(node)
        return str(broker["nodename"]) if broker else "a leader that is not known"
