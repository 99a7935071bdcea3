"""A real Apache Kafka on this machine for the demo and the tests: one to three brokers on loopback.

From the jars (JDK and Maven), else from the official image (container engine), else the one the environment names.
Knows no Kafka client.
"""

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from worker.demo import jars
from worker.demo.jars import OLDEST_JAVA, VERSION, Say
from worker.demo.kafka_node import (
    FREEZE,
    KILL,
    STOP_LIMIT_S,
    TERMINATE,
    THAW,
    KafkaNode,
    addresses_of,
    properties_of,
)

IMAGE = f"apache/kafka:{VERSION}"
BOOTSTRAP_VARIABLE = "FOLDCAST_KAFKA__BOOTSTRAP_SERVERS"
START_LIMIT_S = 60.0
PULL_LIMIT_S = 300.0
ARCHIVE_LIMIT_S = 60.0  # until a broker has ended and has written its classes
PORTS = range(20_000, 32_000)  # below the ephemeral range: no client's own port, and none that connects to itself


class LocalKafkaUnavailable(RuntimeError):  # noqa: N818 - a state of this machine, not a fault
    """Nothing here can run a Kafka; the message names the programs to install."""


WHAT_TO_INSTALL = (
    f"no Kafka can be started here: install a JDK ({OLDEST_JAVA} or newer) and Maven, or a container engine that the "
    f"docker command reaches, or name a running Kafka in {BOOTSTRAP_VARIABLE}"
)


def _silent(_: str) -> None:
    pass


@contextmanager
def local_kafka(
    nodes: int = 1,
    heap_mb: int = 512,
    extra_properties: Mapping[str, str] | None = None,
    say: Say = _silent,
    port: int | None = None,
) -> Iterator["LocalKafka"]:
    """The Kafka the environment names, else brokers of our own, stopped and their data removed at the end.

    `port` is the first broker's; without it any free one.
    Raises LocalKafkaUnavailable or LocalKafkaError.
    """
    given = bootstrap_servers_from_environment()
    if given is not None:
        kafka = LocalKafka(given)
    elif jars.can_run():
        kafka = kafka_from_jars(nodes, heap_mb, extra_properties, say, port=port)
    else:
        kafka = kafka_from_image(nodes, heap_mb, extra_properties, say, port)
    try:
        yield kafka
    finally:
        kafka.stop()


def bootstrap_servers_from_environment() -> str | None:
    """Return the addresses of a Kafka that the environment names, None where it names none."""
    return os.environ.get(BOOTSTRAP_VARIABLE) or None


def kafka_from_jars(
    nodes: int = 1,
    heap_mb: int = 512,
    extra_properties: Mapping[str, str] | None = None,
    say: Say = _silent,
    listeners: Mapping[str, str] | None = None,
    proxies: Mapping[str, str] | None = None,
    port: int | None = None,
    java_options: Sequence[str] | None = None,
) -> "LocalKafka":
    """Started brokers of our own whatever the environment names, for tests that kill them; whoever calls stops them.

    `listeners` are more of them by name, with their protocol, for one node; `proxies` are addresses that clients of
    such a listener are sent to. `java_options` stand in place of those that map an archive of the brokers' classes.
    """
    assert 1 <= nodes <= 3, "one to three nodes"
    if not jars.can_run():
        raise LocalKafkaUnavailable(WHAT_TO_INSTALL)
    libs = jars.fetch(say)
    options = jars.classes(_archive, say) if java_options is None else java_options
    java = ["java", f"-Xmx{heap_mb}m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", *options, "-cp", f"{libs}/*"]
    say(f"starting Kafka {VERSION}")
    home = Path(tempfile.mkdtemp(prefix="foldcast-kafka-"))
    more = listeners or {}
    ports = free_ports(2 * nodes + len(more), port)
    brokers, controllers = ports[:nodes], ports[nodes : 2 * nodes]
    addresses = {name: f"127.0.0.1:{port}" for name, port in zip(more, ports[2 * nodes :], strict=True)}
    kafka = LocalKafka(",".join(f"127.0.0.1:{port}" for port in brokers), home, listeners=addresses)
    voters = ",".join(f"{node}@127.0.0.1:{port}" for node, port in enumerate(controllers, 1))
    for node, (broker, controller) in enumerate(zip(brokers, controllers, strict=True), 1):
        properties = {
            **properties_of(nodes),
            **addresses_of(broker, controller, addresses, more, proxies or {}),
            "node.id": str(node),
            "controller.quorum.voters": voters,
            "log.dirs": str(home / f"data-{node}"),
            **(extra_properties or {}),
        }
        file = home / f"{node}.properties"
        file.write_text("".join(f"{key}={value}\n" for key, value in properties.items()))
        kafka.nodes[node] = KafkaNode(home, home / f"{node}.log", [*java, "kafka.Kafka", str(file)])
    # begins with "A": the tool would take a "-" for an option
    cluster_id = urlsafe_b64encode(b"\0" + secrets.token_bytes(15)).decode().rstrip("=")
    format_storage = [*java, "kafka.tools.StorageTool", "format", "--cluster-id", cluster_id, "--config"]
    with kafka.stopped_on_failure():
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda node: jars.run([*format_storage, str(home / f"{node}.properties")]), kafka.nodes))
        kafka.start(START_LIMIT_S)
    return kafka


def _archive(options: list[str]) -> None:
    """Start a broker and end it, in time to leave what these options of Java tell it to."""
    kafka_from_jars(java_options=options).stop(ARCHIVE_LIMIT_S)


def kafka_from_image(
    nodes: int = 1,
    heap_mb: int = 512,
    extra_properties: Mapping[str, str] | None = None,
    say: Say = _silent,
    port: int | None = None,
) -> "LocalKafka":
    """One broker in a container, started; whoever calls stops it."""
    if nodes != 1 or not _engine_answers():
        raise LocalKafkaUnavailable(WHAT_TO_INSTALL)
    say(f"starting {IMAGE} (the engine fetches it the first time)")
    home = Path(tempfile.mkdtemp(prefix="foldcast-kafka-"))
    (port,) = free_ports(1, port)
    settings = {**properties_of(1), **(extra_properties or {})}
    command = container_command(home.name, port, heap_mb, settings)
    kafka = LocalKafka(f"127.0.0.1:{port}", home, {1: KafkaNode(home, home / "1.log", command)}, container=home.name)
    with kafka.stopped_on_failure():
        kafka.start(PULL_LIMIT_S)
    return kafka


def container_command(name: str, port: int, heap_mb: int, settings: Mapping[str, str]) -> list[str]:
    """Return a command that runs the container in the foreground, so that docker passes SIGTERM on to it."""
    environment = {
        "KAFKA_HEAP_OPTS": f"-Xmx{heap_mb}m",
        "KAFKA_NODE_ID": "1",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_INTER_BROKER_LISTENER_NAME": "INTERNAL",
        "KAFKA_LISTENERS": "EXTERNAL://:9092,INTERNAL://:19092,CONTROLLER://:9093",
        "KAFKA_ADVERTISED_LISTENERS": f"EXTERNAL://127.0.0.1:{port},INTERNAL://localhost:19092",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "EXTERNAL:PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT",
        **{"KAFKA_" + key.upper().replace(".", "_"): value for key, value in settings.items()},
    }
    variables = [f"--env={key}={value}" for key, value in environment.items()]
    return ["docker", "run", "--rm", f"--name={name}", f"--publish=127.0.0.1:{port}:9092", *variables, IMAGE]


@dataclass
class LocalKafka:
    """Brokers by node number, from 1; none where the Kafka is somebody else's, which is left alone."""

    bootstrap_servers: str
    home: Path | None = None
    nodes: dict[int, KafkaNode] = field(default_factory=dict)
    container: str | None = None
    listeners: dict[str, str] = field(default_factory=dict)  # addresses of those that were asked for, by name

    def start(self, limit_s: float) -> None:
        """All nodes at once (one of three does not get far alone); LocalKafkaError when they do not answer in time."""
        for node in self.nodes.values():
            node.start()
        deadline = time.monotonic() + limit_s
        for node in self.nodes.values():
            node.wait_until_started(deadline)
        for address in self.bootstrap_servers.split(","):
            host, port = address.split(":")
            socket.create_connection((host, int(port)), timeout=5).close()

    def kill(self, node: int) -> None:
        """End this one at once, as a crash would; returns when it is gone. Its data stays."""
        self.nodes[node].end(KILL)

    def freeze(self, node: int) -> None:
        """Hold this one as it is: it keeps its connections and answers nobody until `thaw`."""
        self.nodes[node].tell(FREEZE)

    def thaw(self, node: int) -> None:
        """Let this one go on."""
        self.nodes[node].tell(THAW)

    def restart(self, node: int) -> None:
        """Start this one again with its data and its port, after ending it if it runs; returns when it is up."""
        self.nodes[node].end(KILL)
        self.nodes[node].start()
        self.nodes[node].wait_until_started(time.monotonic() + START_LIMIT_S)

    def stop(self, limit_s: float = STOP_LIMIT_S) -> None:
        """End all nodes, after that time by force, and remove their data. More than once does no harm."""
        for node in self.nodes.values():
            node.tell(TERMINATE)
        deadline = time.monotonic() + limit_s
        for node in self.nodes.values():
            node.wait_until_ended(deadline)
            node.end(KILL)
        if self.container is not None:
            subprocess.run(["docker", "rm", "--force", self.container], capture_output=True, check=False)  # noqa: S607
        if self.home is not None:
            shutil.rmtree(self.home, ignore_errors=True)

    @contextmanager
    def stopped_on_failure(self) -> Iterator[None]:
        """Stop the brokers where the body fails, also by Ctrl-C."""
        try:
            yield
        except BaseException:
            self.stop()
            raise


def free_ports(count: int, first: int | None = None) -> list[int]:
    """Return `count` different free ports; another process can still take one before the broker does."""
    found = [] if first is None else [first]
    while len(found) < count:
        port = secrets.choice(PORTS)
        with closing(socket.socket()) as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in found:
                found.append(port)
    return found


def _engine_answers() -> bool:
    if shutil.which("docker") is None:
        return False
    with suppress(subprocess.TimeoutExpired):
        done = subprocess.run(["docker", "info"], capture_output=True, timeout=20, check=False)  # noqa: S607
        return done.returncode == 0
    return False
