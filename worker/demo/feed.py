"""`python -m worker.demo.feed`: New York's weather into the input topic, for a demo of containers.

Goes on where the topic ends, so that a restart sends next to nothing twice. A year is sent within minutes, then again
with times a year later, until the events would be of today.
"""

import argparse
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import count
from threading import Event
from zlib import crc32

import orjson

from worker.broker.contract import BrokerError
from worker.broker.produce import FastProducer
from worker.broker.restore import TopicReader
from worker.demo import newyork
from worker.observe.log import configure
from worker.observe.log import event as log_event
from worker.refusal import Refusal
from worker.settings.kafka import Kafka
from worker.settings.sources import load
from worker.signals import asked_to_stop

BATCH_S = 0.05
YEAR_MS = 365 * 86_400_000
LIMIT_S = 8.0  # less than an engine waits when it stops a container

log = logging.getLogger(__name__)


def main() -> int:
    """Send events until a signal asks the feeder to stop. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m worker.demo.feed", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rate", type=float, default=200.0, metavar="N", help="events per second")
    rate = parser.parse_args().rate
    with asked_to_stop(lambda name: log_event("stopping", signal=name)) as stop:
        settings = load()
        configure(settings.log.level, settings.log.format)
        try:
            feed(settings.kafka.input_topic, settings.kafka, rate, stop)
        except (
            BrokerError,
            Refusal,
        ) as error:  # whoever supervises starts it again, and it goes on where the topic ends
            log.error("%s", error)
            return 1
    return 0


def feed(topic: str, kafka: Kafka, rate: float, stop: Event) -> None:
    """Send the events that the topic lacks, `rate` per second. Raises BrokerError."""
    partitions, newest_ms = _ends(topic, kafka)
    log_event("feeding", topic=topic, partitions=partitions, rate=rate, after_ms=newest_ms)
    began, sent = time.monotonic(), 0
    with FastProducer(kafka, LIMIT_S) as producer:
        for event in years(newest_ms, int(time.time() * 1000)):
            if sent >= (time.monotonic() - began) * rate:
                producer.flush()
                if stop.wait(BATCH_S):
                    break
            body = orjson.dumps({"stream": event.stream, "time": event.time_ms, "value": event.value})
            key = event.stream.encode()
            producer.send(topic, crc32(key) % partitions, key, body)
            sent += 1
        producer.flush()
    log_event("fed", events=sent)


def years(from_ms: int, until_ms: int) -> Iterator[newyork.Event]:
    """Yield the events of 2013 over and over, each time a year later, from one time until another."""
    events = newyork.events()
    for year in count():
        for event in events:
            time_ms = event.time_ms + year * YEAR_MS
            if time_ms >= until_ms:
                return
            if time_ms >= from_ms:
                yield event._replace(time_ms=time_ms)


def _ends(topic: str, kafka: Kafka) -> tuple[int, int]:
    """Return the number of partitions, and the time of the newest event in the topic (0 without one)."""
    with TopicReader(kafka, topic) as reader:
        ends = reader.ends()
    last = {partition: end - 1 for partition, end in ends.items() if end}
    newest_ms, deadline = 0, time.monotonic() + LIMIT_S
    with TopicReader(kafka, topic, last) if last else nullcontext() as reader:
        while last and reader is not None:
            for record in reader.poll(0.2):
                last.pop(record.partition, None)
                newest_ms = max(newest_ms, int(orjson.loads(record.value or b"{}").get("time", 0)))
            if time.monotonic() > deadline:
                raise BrokerError(f"the ends of {topic} cannot be read")
    return len(ends), newest_ms


if __name__ == "__main__":
    sys.exit(main())
