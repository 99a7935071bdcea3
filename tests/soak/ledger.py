"""One forecast for each input offset: counted as they come, in memory that does not grow with their number.

The auditor knows no removal of idle streams. Here every event that is sent is to be accepted, whatever was forgotten
before it: each stream's times increase. So each offset of the input is due exactly one forecast, which names it.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from threading import Condition, Event, Thread

from tests.rigs.cluster import LIMIT_S, Cluster
from worker.broker.contract import BrokerError
from worker.broker.restore import TopicReader, TopicRecord

EARLY = 10_000  # offsets a partition may be ahead of a missing one before that one counts as lost
EXAMPLES = 5


class Ledger:
    """The offsets that have a forecast: all below `next`, and a few above it."""

    def __init__(self, input_topic: str, early: int = EARLY) -> None:
        self.right = 0
        self.faults: Counter[str] = Counter()
        self.examples: list[str] = []
        self._topic, self._most = input_topic, early
        self._next: dict[int, int] = defaultdict(int)
        self._early: dict[int, set[int]] = defaultdict(set)

    def take(self, record: TopicRecord) -> None:
        """A record of the output."""
        topic, partition, offset = self._named(record)
        if topic != self._topic or partition != record.partition:
            self._note("unexpected", f"{topic}-{partition}-{offset} in output partition {record.partition}")
            return
        early = self._early[partition]
        if offset < self._next[partition] or offset in early:
            self._note("twice", f"{partition}/{offset}")
            return
        self.right += 1
        early.add(offset)
        if len(early) > self._most:
            self._lose(partition, min(early))
        self._go_on(partition)

    def close(self, ends: Mapping[int, int]) -> None:
        """No more records: what is missing below the input's ends is lost, what lies beyond them was never sent."""
        for partition, end in ends.items():
            while early := self._early[partition]:
                self._lose(partition, min(early))
                self._go_on(partition)
            if self._next[partition] > end:
                self._note(
                    "unexpected", f"{partition}: forecasts up to {self._next[partition]}, the input ends at {end}"
                )
            self._lose(partition, end)

    @property
    def remembered(self) -> int:
        """How many offsets are kept one by one."""
        return sum(map(len, self._early.values()))

    def _named(self, record: TopicRecord) -> tuple[str, int, int]:
        """The input record that a forecast is of."""
        name = dict(record.headers).get("foldcast-id", b"--").decode()
        topic, partition, offset = name.rsplit("-", 2)
        return topic, int(partition or -1), int(offset or -1)

    def _go_on(self, partition: int) -> None:
        early, at = self._early[partition], self._next[partition]
        while at in early:
            early.remove(at)
            at += 1
        self._next[partition] = at

    def _lose(self, partition: int, to: int) -> None:
        at = self._next[partition]
        if at < to:
            self._note("lost", f"{partition}/{at} to {to - 1}", to - at)
            self._next[partition] = to

    def _note(self, fault: str, what: str, number: int = 1) -> None:
        self.faults[fault] += number
        if len(self.examples) < EXAMPLES:
            self.examples.append(f"{fault}: {what}")


class Follower(Thread):
    """Reads the output as it is committed and enters it in the ledger, whatever becomes of the broker."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(daemon=True)
        self.ledger = Ledger(cluster.topics.input)
        self._cluster = cluster
        self._at = dict.fromkeys(range(cluster.partitions), 0)
        self._moved = Condition()
        self._stop_asked = Event()
        self._error: Exception | None = None
        cluster.beside.append(self)

    def run(self) -> None:
        try:
            while not self._ends():
                try:
                    self._read()
                except BrokerError:  # it is down: another reader begins where this one came to
                    self._ends(0.5)
        except Exception as error:  # noqa: BLE001 - told by `finish`
            self._error = error

    def _read(self) -> None:
        with TopicReader(self._cluster.connection, self._cluster.topics.output, self._at) as reader:
            while not self._ends():
                if records := reader.poll(0.2):
                    self.take(records)

    def _ends(self, wait_s: float = 0.0) -> bool:
        return self._stop_asked.wait(wait_s) or self._cluster.over.is_set()

    def take(self, records: Sequence[TopicRecord]) -> None:
        """What one poll has brought."""
        for record in records:
            self.ledger.take(record)
            self._at[record.partition] = record.offset + 1
        with self._moved:
            self._moved.notify_all()

    def wait_for(self, number: int, limit_s: float = LIMIT_S) -> bool:
        """Until so many events have their forecasts; False where for `limit_s` not one more came."""
        with self._moved:
            while self.ledger.right < number:
                if not self._moved.wait(limit_s):
                    return False
        return True

    def finish(self) -> None:
        """Stop reading."""
        self._stop_asked.set()
        self.join(LIMIT_S)
        assert not self.is_alive(), "the follower hangs"
        if self._error is not None:
            raise self._error
