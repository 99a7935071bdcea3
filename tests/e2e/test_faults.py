"""Whatever happens to the containers, the auditor finds every record accounted for, once."""

import re
import signal
import time

import pytest
from docker.errors import APIError

from pipeline.durable.image import read_image
from tests.rigs.stage import SESSION_S, Case, Worker, until

SEVERAL = 10_000  # streams


def test_every_record_is_accounted_for_exactly_once(case: Case) -> None:
    sent = case.send(case.events(2000))
    began = time.monotonic()
    worker = case.worker()
    case.wait_for_first()
    first_s = time.monotonic() - began
    report = case.audit()
    assert report.events == sent + case.partitions, "one more each, to know the end"
    assert report.right["dead letters"] > 10
    assert report.expected["duplicate"] > 10
    assert " kernels compiled=0 " in worker.log
    print(f"container start to first forecast: {first_s:.1f} s")


def test_a_killed_container_comes_back_and_nothing_is_missing_or_twice(case: Case) -> None:
    worker = case.worker()
    with case.feeding():
        for _ in range(3):
            case.wait_for_forecasts()
            worker.container.kill("SIGKILL")
            assert worker.container.wait()["StatusCode"] == 137
            worker.container.start()
    case.audit()
    assert " tail=" in worker.log


def test_docker_stop_finishes_the_cycle_and_leaves_a_clean_image(case: Case) -> None:
    names = [f"stream-{n}".encode() for n in range(SEVERAL)]
    worker = case.worker()
    for t in range(3):
        body = b'{"stream": "%s", "time": %d, "value": %d}'
        case.send((n % 2, name, body % (name, 60_000 * (t + 1), t)) for n, name in enumerate(names))
    case.wait_for_forecasts()
    case.send((n % 2, name, body % (name, 240_000, 4)) for n, name in enumerate(names))
    began = time.monotonic()
    worker.container.stop(timeout=120)
    took_s = time.monotonic() - began
    assert worker.state["ExitCode"] == 0, worker.log[-3000:]
    print(f"docker stop with {SEVERAL:,} streams: {took_s:.2f} s")
    committed = case.committed()
    for partition in range(case.partitions):
        changelog = [r for r in case.read(case.topics.changelog) if r.partition == partition]
        marker = read_image((r.key or b"", r.value) for r in changelog).marker
        assert marker is not None
        assert (marker.clean, marker.offset) == (True, committed[partition])
    worker.container.start()
    case.audit()


def test_a_container_that_is_stopped_while_it_starts_ends_at_once(case: Case) -> None:
    """From the moment Python has run its first lines; before, a process 1 has no handlers and the signal is lost."""
    worker = case.worker()
    until("SIGTERM is handled", lambda: handles_sigterm(worker))
    assert "starting" not in worker.log, "the handler stands before what takes its time"
    worker.container.stop(timeout=120)
    assert worker.state["ExitCode"] == 0, worker.log[-3000:]
    assert " live partition=" not in worker.log


def handles_sigterm(worker: Worker) -> bool:
    status = worker.container.exec_run(["cat", "/proc/1/status"]).output.decode()
    caught = re.search(r"^SigCgt:\s*(\w+)", status, re.MULTILINE)
    return caught is not None and bool(int(caught[1], 16) >> (signal.SIGTERM - 1) & 1)


def test_a_container_paused_past_its_session_takes_nothing_with_it(case: Case) -> None:
    first, second = case.worker("one"), case.worker("two")
    with case.feeding():
        for worker in (first, second):
            worker.wait_for_log(" live partition=")
        case.wait_for_forecasts()
        until("it is paused", lambda: pauses(first))
        took_s = case.wait_for_forecasts()  # the other one has all partitions
        first.container.unpause()
        case.wait_for_forecasts()
    assert took_s > SESSION_S / 2, "it was paused for less than its session"
    case.audit()


def pauses(worker: Worker) -> bool:
    """On cgroup v1 the engine gives up at times, and says so."""
    try:
        worker.container.pause()
    except APIError as error:
        if "unable to freeze" not in str(error):
            raise
        return False
    return True


def test_a_worker_cut_off_from_the_network_comes_back(case: Case) -> None:
    worker, network = case.worker("one"), case.network()
    with case.feeding():
        case.wait_for_forecasts()
        network.disconnect(worker.container)
        time.sleep(SESSION_S + 2)  # until the broker has given it up
        network.connect(worker.container, aliases=[f"{case.name}-one"])
        case.wait_for_forecasts()
    case.audit()
    assert worker.state["Running"]


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
@pytest.mark.usefixtures("outage")
def test_a_broker_cut_off_from_the_network_comes_back(case: Case) -> None:
    worker, network, broker = case.worker(), case.network(), case.broker.container
    case.send(case.events(1000))
    case.wait_for_forecasts()
    network.disconnect(broker)
    time.sleep(SESSION_S + 2)
    network.connect(broker, aliases=["kafka"])
    case.send(case.events(1000))
    case.wait_for_forecasts()
    case.audit()
    assert worker.state["Running"]


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
@pytest.mark.usefixtures("outage")
def test_a_killed_broker_comes_back(case: Case) -> None:
    worker, broker = case.worker(), case.broker.container
    with case.feeding():
        case.wait_for_forecasts()
        broker.kill("SIGKILL")
        broker.wait()
        case.broker.start_again()
        case.wait_for_forecasts()
    case.audit()
    assert worker.state["Running"]


def test_two_replicas_share_and_one_that_leaves_hands_over_at_once(case: Case) -> None:
    case.environment["FOLDCAST_KAFKA__SESSION_TIMEOUT_S"] = "120"  # longer than any wait here
    leaves, stays = case.worker("leaves", "run", "--leave"), case.worker("stays")
    with case.feeding():
        for worker in (leaves, stays):
            worker.wait_for_log(" live partition=")
        case.wait_for_forecasts()
        leaves.container.stop(timeout=120)
        took_s = case.wait_for_forecasts()
    assert leaves.state["ExitCode"] == 0
    print(f"hand-over: {took_s:.2f} s until the other one forecast everything")
    case.audit()


def test_a_killed_replica_is_replaced_by_the_other(case: Case) -> None:
    dies, stays = case.worker("dies"), case.worker("stays")
    with case.feeding():
        for worker in (dies, stays):
            worker.wait_for_log(" live partition=")
        dies.container.kill("SIGKILL")
        dies.container.wait()
        case.wait_for_forecasts()
    case.audit()


def test_the_engine_sees_a_worker_as_healthy_and_a_stalled_one_not(case: Case) -> None:
    health = {"test": ["CMD", "python", "-m", "worker.http.container_probe"], "interval": 10**9, "retries": 2}
    stall = {**case.environment, "FOLDCAST_WORKER__STALL_EXIT_S": "600"}
    worker = case.worker(environment=stall, healthcheck=health)
    until("healthy", lambda: worker.state["Health"]["Status"] == "healthy")
    worker.container.kill("SIGSTOP")
    until("unhealthy", lambda: worker.state["Health"]["Status"] == "unhealthy")
    worker.container.kill("SIGCONT")
    until("healthy again", lambda: worker.state["Health"]["Status"] == "healthy")
    case.send(case.events(500))
    case.audit()
