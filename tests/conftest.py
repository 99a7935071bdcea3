"""What all tests share: one Kafka for each half of a run, names nobody else has, no settings outside."""

import gc
import os
import re
import threading
import uuid
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.rigs.client import CLIENT_VARIABLE
from tests.rigs.ports import free_port
from tests.rigs.postgres import WHAT_TO_INSTALL, Postgres, programs
from worker.demo.local_kafka import BOOTSTRAP_VARIABLE, LocalKafkaUnavailable, local_kafka

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported; small models lose by more

CLOSES_S = 60.0  # a client whose broker does not answer takes its time

settings.register_profile("foldcast", deadline=None)  # a busy machine is no failure
settings.load_profile("foldcast")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Workers compile first, for minutes where the machine is busy: a wait for them is to fail, not the whole run."""
    for item in items:
        if item.get_closest_marker("kafka") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(600))


@pytest.fixture(scope="session")
def bootstrap() -> Iterator[str]:
    """Bootstrap servers of a real Kafka, started by the first test that asks."""
    try:
        with local_kafka(say=print) as kafka:
            yield kafka.bootstrap_servers
    except LocalKafkaUnavailable as why:
        pytest.skip(str(why))


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    """A real PostgreSQL with an empty database."""
    found = programs()
    if found is None:
        pytest.skip(WHAT_TO_INSTALL)
    server = Postgres(found, free_port())
    yield server
    server.stop()


@pytest.fixture
def unique(request: pytest.FixtureRequest) -> str:
    """For topics and groups: the test's name and eight digits, in letters Kafka takes."""
    return f"{re.sub(r'[^A-Za-z0-9]+', '-', request.node.name)[:60].strip('-')}-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def refused_connections(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """For tests whose brokers go away: kafka-python 3.0.12 leaves sockets of refused connections to the collector.

    Use it with `filterwarnings("ignore:unclosed <socket:ResourceWarning")`.
    """
    caplog.set_level("CRITICAL", "kafka")  # else the log keeps the client's errors, and they the sockets
    yield
    gc.collect()  # here, where the warning is expected


@pytest.fixture(autouse=True)
def _no_client_is_left() -> Iterator[None]:
    """One that lives on knocks at a broker that is gone, and its sockets are warned of in whatever test runs then."""
    before = clients()
    yield
    left = clients() - before
    for client in left:
        client.join(CLOSES_S)
    assert not [client.name for client in left if client.is_alive()], "clients of Kafka that nobody has closed"


def clients() -> set[threading.Thread]:
    """The threads of kafka-python's clients: each has one, until it is closed; a producer's has a name of its own."""
    return {
        thread
        for thread in threading.enumerate()
        if thread.name.startswith("kafka-io-") or thread.name.endswith("-network-thread")
    }


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which Kafka to use, by which client, is all that a developer's environment may say."""
    for name in list(os.environ):
        if name.startswith("FOLDCAST_") and name not in (BOOTSTRAP_VARIABLE, CLIENT_VARIABLE):
            monkeypatch.delenv(name)
