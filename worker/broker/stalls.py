"""Partitions that a consumer forgets: it has its place, the log goes on, and nothing comes, without an error."""

from collections.abc import Iterable, Sequence

from kafka import KafkaConsumer
from kafka.errors import KafkaError
from kafka.structs import TopicPartition

from worker.broker.contract import BrokerError
from worker.broker.silence import Silence

FETCHES = 300  # answered by its leader without a step, before it is asked whether there was one to take: 15 s or more
LOOK = 20  # answered fetches, of all leaders: so often it looks, since there may be hundreds of partitions to look at
ASK_S = 0.5


class Stalls:
    """Looks at how far a consumer has read. Seen with kafka-python 3.0.12 after a session ended, for minutes.

    It goes by answered fetches, not by time: while fetched records wait the client asks for none.
    """

    def __init__(self, consumer: KafkaConsumer, topic: str, silence: Silence) -> None:
        self._consumer, self._topic, self._silence = consumer, topic, silence
        self._since: dict[int, tuple[int, int]] = {}  # by partition: where it is, and fetches answered by then
        self._looked = 0  # fetches answered by then, of all leaders
        self._suspects: dict[int, int] = {}  # by partition: where it was when there was more of it once already

    def look(self, partitions: Iterable[int]) -> None:
        """Take note of where each started partition is; ask about those that stand still. Raises BrokerError."""
        fetcher = self._consumer._fetcher
        answered = sum(self._silence.answers.values())
        if answered < self._looked + LOOK or fetcher._completed_fetches or fetcher._next_partition_records:
            return
        self._looked = answered
        states, before, self._since = self._consumer._subscription.assignment, self._since, {}
        still = []
        for partition in partitions:
            tp = TopicPartition(self._topic, partition)
            state, answers = states.get(tp), self._silence.answers[self._consumer._cluster.leader_for_partition(tp)]
            if state is None or state.position is None or state.paused:
                continue
            at, since = before.get(partition, (-1, 0))
            if at == state.position.offset and since <= answers:
                self._since[partition] = at, since
                still += [partition] if answers - since >= FETCHES else []
            else:
                self._since[partition] = state.position.offset, answers
        if still:
            self._ask(still)

    def _ask(self, partitions: Sequence[int]) -> None:
        """All at once: one by one some of hundreds would never have their turn."""
        places = {TopicPartition(self._topic, partition): self._since.pop(partition)[0] for partition in partitions}
        try:
            ends = self._consumer.end_offsets(list(places), timeout_ms=ASK_S * 1000)
        except (KafkaError, TimeoutError):  # then it is not the consumer
            return
        for tp, at in places.items():
            if ends[tp] <= at:
                self._suspects.pop(tp.partition, None)
            elif self._suspects.get(tp.partition) != at:  # it may have come in this moment
                self._suspects[tp.partition] = at
            else:
                place = f"{self._topic}-{tp.partition} from {at} on, though there is more up to {ends[tp]}"
                raise BrokerError(f"the client reads nothing of {place}", fix="if that comes back, restart the worker")
