"""The trainer is killed, stopped and made to talk nonsense while events flow: forecasts do not notice."""

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Condition, Event, Thread

import numpy as np
import orjson
import pytest

from tests.rigs.cluster import Cluster, Worker, event_bytes
from worker.broker.produce import FastProducer
from worker.broker.restore import TopicReader
from worker.demo.auditor import Rules, audit

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(900)]

STREAMS, PARTITIONS, RATE = 60, 2, 600
FORECASTS = 1000  # of events sent after a fault, read before anything is done about it
LIMIT_S = 180.0  # of a step: a trainer that starts imports torch, beside whatever the machine does

# In the trainer alone, as long as there is a file: every answer holds weights that are not finite.
NONSENSE = """
import sys
if "worker.trainer.process" in sys.orig_argv:
    import dataclasses, pathlib
    import msgspec, numpy
    from pipeline.learning.adoption import Adoption
    from worker.trainer import work
    right = work.Trainer.answer
    def answer(self, offer):
        said = right(self, offer)
        if not (pathlib.Path(__file__).parent / "nonsense").exists() or not said.state:
            return said
        adoption = Adoption.load(said.state)
        weights = {name: numpy.full_like(weight, float("nan")) for name, weight in adoption.weights.items()}
        return msgspec.structs.replace(said, state=dataclasses.replace(adoption, weights=weights).dump())
    work.Trainer.answer = answer
"""


class Traffic:
    """Events whose time is when they were sent, and the forecasts of them as they come."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster, self._stop = cluster, Event()
        self._came = Condition()
        self._since_ms = 0
        self._latency_s: list[float] = []  # of events sent since then
        self._threads = [Thread(target=self._send, daemon=True), Thread(target=self._read, daemon=True)]

    def _send(self) -> None:
        rng, sent, began = np.random.default_rng(1), 0, time.monotonic()
        value = np.zeros(STREAMS)
        with FastProducer(self._cluster.connection) as producer:
            while not self._stop.wait(0.02):
                due = int((time.monotonic() - began) * RATE)
                for s in (number % STREAMS for number in range(sent, due)):
                    value[s] = 0.8 * value[s] + rng.normal()
                    body = event_bytes(f"s{s}", round(time.time() * 1000), round(float(value[s]), 4))
                    producer.send(self._cluster.topics.input, s % PARTITIONS, None, body)
                sent = due
            producer.flush()

    def _read(self) -> None:
        with TopicReader(self._cluster.connection, self._cluster.topics.output) as reader:
            while not self._stop.is_set():
                times = [orjson.loads(record.value or b"")["time"] for record in reader.poll(0.05)]
                with self._came:
                    self._latency_s += [time.time() - at / 1000 for at in times if at >= self._since_ms]
                    self._came.notify_all()

    @contextmanager
    def flowing(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join(10)

    def go_on(self, phase: str) -> None:
        """Wait for forecasts of events that are sent from now on."""
        with self._came:
            self._since_ms, self._latency_s = round(time.time() * 1000), []
            assert self._came.wait_for(lambda: len(self._latency_s) >= FORECASTS, LIMIT_S), (
                f"no forecasts while {phase}"
            )
            p95_ms = float(np.percentile(self._latency_s, 95)) * 1000
        print(f"{phase}: latency p95 {p95_ms:.0f} ms")


def trainer_of(worker: Worker) -> int:
    return int(re.findall(r" trainer process=(\d+)", worker.log.read_text())[-1])


def until(condition: Callable[[], bool], what: str, limit_s: float = LIMIT_S) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)  # what is asked is another process's metrics


def await_updates(worker: Worker, number: int = 3) -> None:
    before = worker.metric("foldcast_fine_tune_updates_total")
    until(lambda: worker.metric("foldcast_fine_tune_updates_total") >= before + number, "no updates")


def test_forecasts_go_on_whatever_happens_to_the_trainer(bootstrap: str, unique: str, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(NONSENSE)
    learning = {"adopt_interval_s": 0.5, "hang_s": 60}  # longer than a busy machine takes to go on beside it
    with Cluster(bootstrap, unique, tmp_path, PARTITIONS, fine_tune=learning) as cluster:
        cluster.environment["PYTHONPATH"] = str(tmp_path)
        worker, traffic = cluster.worker("one"), Traffic(cluster)
        cluster.wait_until_live()

        def restarts(why: str) -> float:
            return worker.metric(f'foldcast_trainer_restarts_total{{reason="{why}"}}')

        def not_finite() -> float:
            return worker.metric('foldcast_fine_tunes_total{outcome="nonfinite"}')

        def signal_trainer(number: int) -> None:
            await_updates(worker)
            os.kill(trainer_of(worker), number)

        with traffic.flowing():
            await_updates(worker)
            traffic.go_on("all is well")

            signal_trainer(signal.SIGKILL)
            traffic.go_on("the trainer is dead or starts")
            until(lambda: restarts("died") >= 1, "not replaced")

            before = restarts("hung")
            signal_trainer(signal.SIGSTOP)
            traffic.go_on("the trainer is stopped")
            assert restarts("hung") == before, "forecasts did not wait for its end"
            until(lambda: restarts("hung") > before, "not replaced")

            await_updates(worker)
            (tmp_path / "nonsense").touch()
            traffic.go_on("the trainer talks nonsense")
            until(lambda: not_finite() > 1, "not noticed")
            (tmp_path / "nonsense").unlink()
            adopted = worker.metric('foldcast_fine_tunes_total{outcome="adopted"}')
            until(lambda: worker.metric('foldcast_fine_tunes_total{outcome="adopted"}') > adopted, "no adoption")
        cluster.await_last()
        counted = restarts("died"), restarts("hung"), not_finite()
        cluster.stop()

        print(f"restarts: died {counted[0]:g}, hung {counted[1]:g}; fine-tunes not finite: {counted[2]:g}")
        inputs, outputs = cluster.read(cluster.topics.input), cluster.read(cluster.topics.output)
        report = audit(inputs, outputs, cluster.read(cluster.topics.dead_letters), Rules(), cluster.topics.input)
        assert report.ok, "\n".join(report.lines())
        assert not any(b"NaN" in (record.value or b"") for record in outputs)
