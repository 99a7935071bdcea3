"""`foldcast demo`: a real Kafka, real data, two workers and a hand-over, judged by a reader that believes neither.

The numbers in the summary come from the topics, not from the workers: an auditor derives the due records from the
input, and skill, coverage and latency are measured on the records a `read_committed` reader got.
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from zlib import crc32

import numpy as np
import orjson
from tqdm import tqdm

from worker import topics
from worker.broker.produce import FastProducer
from worker.broker.restore import TopicReader, read_all
from worker.demo import newyork
from worker.demo.auditor import Rules, audit
from worker.demo.feed import check_rate
from worker.demo.kafka_node import LocalKafkaError
from worker.demo.local_kafka import LocalKafkaUnavailable, bootstrap_servers_from_environment, local_kafka
from worker.demo.skill import Scores, score
from worker.demo.workers import DemoWorker
from worker.plan import Plan
from worker.refusal import Refusal
from worker.settings.method import method_of
from worker.settings.settings import Settings
from worker.settings.sources import load

PARTITIONS = 2
CONFIG = Path(__file__).resolve().parents[2] / "configs" / "local.toml"
DRAIN_S = 60.0
BATCH_S = 0.02
LINE_S = 10.0  # of progress, where there is no terminal for a bar


@dataclass
class Replay:
    """Events on their way: when each was sent, and how long its forecast took to be read."""

    settings: Settings
    events: list[newyork.Event]
    rate: float
    stop: Event = field(default_factory=Event)
    sent: int = 0
    sent_at: dict[tuple[str, int], float] = field(default_factory=dict)
    latency_s: list[float] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)

    def feed(self) -> None:
        """Send all events, `rate` per second, in a batch every 20 ms."""
        topic, began = self.settings.kafka.input_topic, time.monotonic()
        with self._noted(), FastProducer(self.settings.kafka) as producer:
            while self.sent < len(self.events) and not self.stop.is_set():
                due = min(len(self.events), int((time.monotonic() - began) * self.rate))
                for stream, time_ms, value in self.events[self.sent : due]:
                    body = orjson.dumps({"stream": stream, "time": time_ms, "value": value})
                    producer.send(topic, crc32(stream.encode()) % PARTITIONS, stream.encode(), body)
                    self.sent_at[stream, time_ms] = time.monotonic()
                self.sent = due
                self.stop.wait(BATCH_S)
            producer.flush()

    def follow(self) -> None:
        """Read forecasts as they are committed, and note the latency of each."""
        with self._noted(), TopicReader(self.settings.kafka, self.settings.kafka.output_topic) as reader:
            while not self.stop.is_set():
                for record in reader.poll(0.1):
                    forecast = orjson.loads(record.value or b"{}")
                    sent_at = self.sent_at.get((forecast["stream"], forecast["time"]))
                    if sent_at is not None:
                        self.latency_s.append(time.monotonic() - sent_at)

    @contextlib.contextmanager
    def _noted(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001 - a thread's; told in the foreground
            self.errors.append(error)


def run(config: Path | None, rate: float, keep: bool) -> int:
    """Run the whole demo. Returns 0 where no forecast was missing or twice. Raises Refusal, BrokerError."""
    check_rate(rate)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # else Kafka and the workers would outlive the demo
    try:
        with local_kafka(say=_say) as kafka, tempfile.TemporaryDirectory(prefix="foldcast-demo-") as home:
            return _demo(config or CONFIG, kafka.bootstrap_servers, Path(home), rate, keep)
    except (LocalKafkaUnavailable, LocalKafkaError) as error:
        words, _, log = str(error).partition("\n")
        if log:
            print(log, file=sys.stderr)
        raise Refusal(words.removesuffix(":")) from error
    except KeyboardInterrupt:
        _say("stopped")
        return 130


def _demo(config: Path, bootstrap_servers: str, home: Path, rate: float, keep: bool) -> int:
    variables = {"FOLDCAST_KAFKA__BOOTSTRAP_SERVERS": bootstrap_servers}
    if bootstrap_servers_from_environment():  # somebody's Kafka: leave what is there alone
        name = f"foldcast-demo-{uuid.uuid4().hex[:8]}"
        for setting, part in (("INPUT_TOPIC", "events"), ("OUTPUT_TOPIC", "forecasts"), ("GROUP_ID", "group")):
            variables[f"FOLDCAST_KAFKA__{setting}"] = f"{name}-{part}"
    environment = {**os.environ, **variables}
    settings = load(config, environment)
    try:
        replay = Replay(settings, newyork.events(say=_say), rate)
    except (RuntimeError, subprocess.CalledProcessError) as error:
        raise Refusal(f"the data cannot be fetched: {error}") from error
    for line in topics.create(settings, PARTITIONS, 1):
        _say(line)
    stays = DemoWorker("stays", config, environment, home)
    leaves = DemoWorker("leaves", config, {**environment, "FOLDCAST_HTTP__PORT": "0"}, home, "--leave")
    threads = [Thread(target=replay.follow, daemon=True), Thread(target=replay.feed, daemon=True)]
    try:
        for worker in (stays, leaves):
            worker.wait_until_ready()
        _say(f"two workers are ready; the first one's page is {stays.url}")
        for thread in threads:
            thread.start()
        handover_s = _watch(replay, stays, leaves)
        _drain(replay, stays)
        if replay.errors:
            raise Refusal(f"the replay failed: {replay.errors[0]!r}")
        good = _summary(settings, replay, handover_s, [stays.status(), leaves.page])
        if keep:
            _say(f"\nthe worker goes on: {stays.url} (Ctrl-C ends it)")
            replay.stop.wait()
    finally:
        replay.stop.set()
        for worker in (stays, leaves):
            worker.stop()
        for thread in threads:
            if thread.is_alive():
                thread.join(10)
    return 0 if good else 1


def _watch(replay: Replay, stays: DemoWorker, leaves: DemoWorker) -> float:
    """Show progress until all is sent; half way one worker leaves. Returns seconds until the other one has all."""
    asked, handover_s, terminal, last_line = 0.0, 0.0, sys.stderr.isatty(), time.monotonic()
    with tqdm(total=len(replay.events), unit="event", mininterval=0.5, disable=not terminal) as bar:
        while replay.sent < len(replay.events) and not replay.errors:
            replay.stop.wait(0.1)
            if not asked and replay.sent > len(replay.events) // 2:
                asked = time.monotonic()
                leaves.status()
                leaves.ask_to_stop()
            page = stays.status()
            if asked and not handover_s and _has_all(page):
                handover_s = time.monotonic() - asked
                tqdm.write(f"hand-over: one worker left, the other took over in {handover_s:.2f} s", file=sys.stderr)
            bar.set_postfix_str(_progress(page), refresh=False)
            bar.update(replay.sent - bar.n)
            if not terminal and time.monotonic() - last_line > LINE_S:
                last_line = time.monotonic()
                _say(f"{replay.sent:,} of {len(replay.events):,} events at {replay.rate:g}/s, {_progress(page)}")
    return handover_s


def _has_all(page: Mapping[str, object]) -> bool:
    partitions = page.get("partitions")
    return bool(page.get("ready")) and isinstance(partitions, dict) and len(partitions) == PARTITIONS


def _progress(page: Mapping[str, object]) -> str:
    partitions, skill = page.get("partitions"), page.get("skill")
    lag = sum(p.get("lag") or 0 for p in partitions.values()) if isinstance(partitions, dict) else 0
    words = ", ".join(f"h{h} {s:+.2f}" for h, s in skill.items() if s is not None) if isinstance(skill, dict) else ""
    return f"lag {lag}, skill {words or 'not known yet'}"


def _drain(replay: Replay, stays: DemoWorker) -> None:
    """Wait until the last event's forecast was read, as far as there is one."""
    wanted = sum(event.value is not None for event in replay.events)
    deadline = time.monotonic() + DRAIN_S
    while len(replay.latency_s) < wanted and time.monotonic() < deadline and stays.running and not replay.errors:
        replay.stop.wait(0.1)


def _summary(settings: Settings, replay: Replay, handover_s: float, pages: Sequence[Mapping[str, object]]) -> bool:
    """Print the summary of an independent reader; return whether it found no fault."""
    _say("reading the topics for the summary")
    connection, names = settings.kafka, topics.names_of(settings)
    inputs = list(read_all(connection, names.input))
    outputs = list(read_all(connection, names.output))
    report = audit(inputs, outputs, read_all(connection, names.dead_letters), Rules(), names.input)
    scores = score(outputs, method_of(settings))
    learnt = [_learning(pages), f"weights to begin with: {Plan.of(settings).base or 'drawn from model.seed'}"]
    print("\n".join(["", *report.lines(), "", *_quality(scores), *learnt, "", *_times(replay, handover_s)]))
    return report.ok and handover_s > 0


def _quality(scores: Scores) -> Iterator[str]:
    yield "horizon     skill against the last value     coverage of " + " and ".join(f"{b:.0%}" for b in scores.levels)
    for h, skill, inside in zip(scores.horizons, scores.skill, scores.coverage, strict=True):
        yield f"{h:>7}     {skill:+28.4f}     " + " and ".join(f"{share:.1%}" for share in inside)


def _learning(pages: Sequence[Mapping[str, object]]) -> str:
    """Return a line on learning in both workers, for the one that left as of its last page."""
    updates, outcomes = 0.0, Counter[str]()
    for page in pages:
        made, by_outcome = page.get("fine_tune_updates"), page.get("fine_tunes")
        if isinstance(made, float) and isinstance(by_outcome, dict):
            updates += made
            outcomes.update(by_outcome)
    words = ", ".join(f"{name.replace('_', ' ')} {number:g}" for name, number in outcomes.items())
    return f"fine-tune updates: {updates:g}; fine-tunes by outcome: {words or 'none'}"


def _times(replay: Replay, handover_s: float) -> Iterator[str]:
    p50, p99 = np.percentile(replay.latency_s, [50, 99]) if replay.latency_s else (np.nan, np.nan)
    yield f"latency, sent to read:  p50 {p50 * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms"
    yield f"hand-over:              {handover_s:.2f} s from asking one worker to leave until the other had it all"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
