"""The image, built once; a network with a broker; and topics of each test's own."""

import faulthandler
import gc
import os
import warnings
from collections.abc import Iterator

os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")  # every test removes what it made

import docker
import pytest
from docker.errors import DockerException
from testcontainers.core.network import Network

from tests.rigs import stage


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test with containers takes longer than others may, and is marked."""
    for item in items:
        if item.path.parent.name == "e2e":
            item.add_marker(pytest.mark.e2e)
            item.add_marker(pytest.mark.timeout(600))


@pytest.fixture(scope="session")
def engine() -> Iterator[docker.DockerClient]:
    """A container engine, or a reason to skip."""
    client, why = None, ""
    try:
        client = docker.from_env(timeout=120)
        client.ping()
    except DockerException as error:
        why = str(error)
    if client is None or why:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # docker 7.2 leaves its socket to the collector
            gc.collect()
        pytest.skip(f"no container engine answers ({why}): install one, or see .ci/run")
    yield client
    client.close()


@pytest.fixture(scope="session")
def image(engine: docker.DockerClient) -> str:
    """The worker's image, of this checkout."""
    print(f"\nthe image was built in {stage.build_image(stage.IMAGE):.1f} s")
    return stage.IMAGE


@pytest.fixture(scope="package")
def broker(engine: docker.DockerClient) -> Iterator[stage.Broker]:
    """One for all tests here: who does something to it puts it right again."""
    with Network() as network:
        broker = stage.Broker(network)
        yield broker
        broker.stop()


@pytest.fixture
def case(image: str, broker: stage.Broker, unique: str) -> Iterator[stage.Case]:
    """Topics for this test, and its workers' end."""
    made = stage.Case(broker, unique)
    yield made
    made.remove()


@pytest.fixture(autouse=True)
def _takes_its_time() -> None:
    faulthandler.cancel_dump_traceback_later()  # set for tests that take seconds


@pytest.fixture
def outage(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """For a test whose own clients find no broker: kafka-python 3.0.12 leaves their sockets to the collector."""
    caplog.set_level("CRITICAL", "kafka")  # else the log keeps the client's errors, and they the sockets
    yield
    gc.collect()  # here, where the warning is expected
