"""`foldcast run`: start-up, the watchdog, and the exit code."""

import faulthandler
import logging
import os
import sys
import time
from dataclasses import replace
from threading import Thread

from prometheus_client import ProcessCollector

from pipeline.network.model import Shape, same_bits
from pipeline.table import Table
from worker import __version__, topics, wiring
from worker.broker.contract import BrokerError
from worker.broker.kafka import KafkaBroker
from worker.check import verify
from worker.failures import Failures
from worker.garbage import Garbage
from worker.http.api import Api
from worker.http.experts import Experts
from worker.http.pages import Pages
from worker.http.server import Server
from worker.http.status import Status
from worker.kernels.warming import warm
from worker.lives.predecessor import Predecessor
from worker.loop import Loop
from worker.observe.hour import Hour
from worker.observe.log import event as log_event
from worker.observe.metrics import Metrics, Stopwatch
from worker.observe.pulse import Pulse
from worker.observe.recent import RecentStreams
from worker.plan import Plan
from worker.registry.client import RegistryClient
from worker.registry.decoder import with_registry
from worker.room import TORCH_BYTES, room_for
from worker.settings.settings import Settings
from worker.signals import Stop
from worker.takeover import StillRunningError, check_usage, predecessor_of

log = logging.getLogger(__name__)

PREDECESSOR_EVERY_S = 2.0  # to look whether it has ended


def run(settings: Settings, leave: bool, stop: Stop, from_group: str | None = None) -> int:
    """Run the worker until `stop` is set, from where `from_group` ended. Returns the exit code. Raises Refusal."""
    if from_group is not None:
        check_usage(settings, from_group)
    plan, registry = with_registry(Plan.of(settings), settings)
    bitwise = same_bits(Shape.of(plan.method))
    row_bytes = Table(plan.method).row_bytes
    log_event("starting", version=__version__, instance=settings.kafka.instance_id, stream_bytes=row_bytes)
    log_event("weights", begin_with=plan.base or f"drawn from model.seed = {plan.seed}")
    history = RecentStreams(plan.method, settings.history.streams, settings.history.points)
    other_bytes = history.nbytes + (0 if Shape.of(plan.method).unrolled else TORCH_BYTES)
    room = room_for(settings.worker.max_streams, row_bytes, other_bytes=other_bytes)
    log_event("room", streams=room.streams, why=room.why)
    log_event("self-check", replay="bit for bit on this CPU" if bitwise else "to rounding on this CPU")
    compiled, found = warm(plan)  # before it joins: nobody waits for a kernel
    log_event("kernels", compiled=compiled, found=found)
    stop.at_once = False  # soon it has clients and a place in its group: from here on it ends in order
    metrics = Metrics(plan.method, __version__, history)
    ProcessCollector(registry=metrics.registry)
    metrics.stream_bytes.set(row_bytes)
    metrics.max_streams.set(room.streams)
    status = Status(metrics, settings.kafka.instance_id)
    pulse = Pulse()
    hour, experts = Hour(metrics), Experts()
    api = Api(metrics, hour, experts, lambda: status.page)
    pages = Pages(metrics.registry, lambda: status.page, pulse, settings.worker.stall_exit_s, api)
    server = Server(settings.http.host, settings.http.port, pages)
    log_event("listening", port=server.port)
    Thread(target=_watch, args=(pulse, settings.worker.stall_exit_s), name="watchdog", daemon=True).start()
    try:
        connected = _connected(settings, from_group, plan, registry, stop, pulse, metrics, status)
        if connected is None:
            return 0
        broker, sizes, predecessor = connected
        loop = Loop(
            broker,
            plan,
            topics.names_of(settings),
            replace(wiring.limits(settings, sizes, room.streams), predecessor=predecessor),
            wiring.learning(settings, plan, metrics),
            metrics,
            pulse,
        )
        garbage = Garbage()

        def after_cycle(loop: Loop) -> None:
            status(loop)
            hour.after_cycle(status.behind)
            experts.after_cycle(loop)
            garbage.after_cycle()

        loop.run(stop, leave, after_cycle)
        status.update(loop)
        log_event("totals", **status.totals())
    finally:
        server.close()
    return 0


def _connected(
    settings: Settings,
    from_group: str | None,
    plan: Plan,
    registry: RegistryClient | None,
    stop: Stop,
    pulse: Pulse,
    metrics: Metrics,
    status: Status,
) -> tuple[KafkaBroker, topics.Wanted, Predecessor | None] | None:
    """Check all that is asked for and join the group, waiting for answers as long as need be. None: asked to stop."""
    servers = settings.kafka.bootstrap_servers
    failures, watch = Failures(settings.worker.give_up_s), Stopwatch(metrics.loop_seconds)
    status.wait_for(servers)
    waits = ""  # for whom, in words that are logged once
    while not stop.is_set():
        pulse.beat()
        watch.lap("idle")  # a worker that waits for its brokers does not hang
        try:
            checked, sizes = topics.check(settings)
            for topic in checked if not waits else ():
                log_event("topic", **topic)
            verify(settings, plan, registry)
            predecessor = predecessor_of(settings, from_group) if from_group is not None else None
            return KafkaBroker(settings.kafka, settings.worker, sizes.request), sizes, predecessor
        except StillRunningError as why:  # for as long as it takes: nothing has failed
            failures.succeeded()
            if str(why) != waits:
                log.info("%s", why)
            waits = str(why)
            status.wait_for(servers, waits)
            stop.wait(PREDECESSOR_EVERY_S)
        except BrokerError as error:
            metrics.failed(str(error), error.fix)
            status.wait_for(servers, str(error))
            stop.wait(failures.pause_after(error))
    return None


def _watch(pulse: Pulse, stall_exit_s: float) -> None:
    """End a process whose loop hangs: calls of kafka-python 3.0.12 can wait for ever, and a restart is the cure."""
    while (age_s := pulse.age_s) < stall_exit_s:
        time.sleep(min(1.0, stall_exit_s - age_s))
    log.error("the loop has not turned for %.0f s (worker.stall_exit_s): leaving; its threads follow", age_s)
    faulthandler.dump_traceback(sys.stderr)
    os._exit(1)
