"""A worker on a real Kafka with a past to look at, behind a port that it keeps when it is started again."""

import math
import random
import time
from collections import Counter
from pathlib import Path

import orjson

from tests.rigs.cluster import LIMIT_S, Cluster
from tests.rigs.ports import free_port
from worker.broker.produce import FastProducer
from worker.broker.restore import TopicReader

HOSTILE = [
    "<img src=x onerror='hostile=1'>",
    "<script>hostile=1</script>",
    "\"><b id='state'>",
    "javascript:hostile=1//{{7*7}}${7*7}",
    "__proto__",
    "a\nb\t\u202e\u0000c",
]
PLAIN = "plant/7 temp"
NAMES = [PLAIN, "Grüße aus Köln?x=1&y#z%2F", "wild", "with gaps", *HOSTILE]
STEP_MS, DAY = 600_000, 144  # between two events of a stream, and how many of these make a day
EVENTS = 2 * DAY  # of a past, which may be fed three times until the streams' clock is ahead of the world's
PARTITIONS = 2
GAP_AT, GAP = 200, 30  # where the stream with gaps was silent, in events


class Site:
    """The worker, and streams that are fed to it."""

    def __init__(self, bootstrap: str, name: str, home: Path) -> None:
        port = free_port()
        sections: dict[str, dict[str, object]] = {"model": {"hidden_size": 8}, "http": {"port": port}}
        self.cluster = Cluster(bootstrap, name, home, PARTITIONS, **sections)
        self.address = f"http://127.0.0.1:{port}"
        self.worker = self.cluster.worker("one")
        self._places: Counter[str] = Counter()  # events of each stream so far
        self._start_ms = (int(time.time() * 1000) // STEP_MS - 4 * EVENTS) * STEP_MS
        self._random = random.Random(7)
        self.cluster.wait_until_live()

    def _time_ms(self, name: str) -> int:
        silent = GAP if name == "with gaps" and self._places[name] > GAP_AT else 0
        return self._start_ms + (self._places[name] + silent) * STEP_MS

    def _event(self, name: str) -> dict[str, object]:
        """The next event of a stream: a daily wave, noise, and in the wild one what nobody could forecast."""
        self._places[name] += 1
        wave = 20 + 5 * math.sin(2 * math.pi * self._places[name] / DAY)
        jump = 40.0 if name == "wild" and self._random.random() < 0.05 else 0.0
        value = round(wave + self._random.gauss(0, 0.3) + jump, 3)
        return {"stream": name, "time": self._time_ms(name), "value": value}

    def _send(self, producer: FastProducer, event: dict[str, object]) -> None:
        name = str(event["stream"])
        partition = NAMES.index(name) % PARTITIONS
        producer.send(self.cluster.topics.input, partition, name.encode(), orjson.dumps(event))

    def feed(self) -> None:
        """A past for all streams, or more of it; returns when the worker's API shows it."""
        before = self._remembered()
        with FastProducer(self.cluster.connection) as producer:
            for _ in range(EVENTS):
                for name in NAMES:
                    self._send(producer, self._event(name))
            for late in (3, 4, 5):  # what is dropped is shown too
                self._send(producer, {"stream": PLAIN, "time": self._time_ms(PLAIN) - late * STEP_MS, "value": 1.0})
            producer.flush()
        deadline = time.monotonic() + LIMIT_S
        while self._remembered() - before < EVENTS * len(NAMES):
            assert time.monotonic() < deadline, f"the past is not remembered\n{self.cluster.ends_of_logs()}"
            time.sleep(0.5)  # nothing tells

    def _remembered(self) -> int:
        return sum(stream["events"] for stream in orjson.loads(self.worker.page("/api/streams?limit=500"))["streams"])

    def send(self, name: str) -> int:
        """Send a stream's next event; return its time once a reader sees the forecast, which is committed then."""
        with TopicReader(self.cluster.connection, self.cluster.topics.output) as reader:
            ends = reader.ends()
        with (
            FastProducer(self.cluster.connection) as producer,
            TopicReader(self.cluster.connection, self.cluster.topics.output, ends) as reader,
        ):
            self._send(producer, self._event(name))
            producer.flush()
            wanted, deadline = self._time_ms(name), time.monotonic() + LIMIT_S
            while True:
                for record in reader.poll(0.05):
                    forecast = orjson.loads(record.value or b"{}")
                    if (forecast.get("stream"), forecast.get("time")) == (name, wanted):
                        return wanted
                assert time.monotonic() < deadline, f"no forecast\n{self.cluster.ends_of_logs()}"
