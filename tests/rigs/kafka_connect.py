"""A Kafka Connect worker with the JDBC sink as a process, from jars that Maven fetches once into .cache."""

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from worker.demo.fetched import once

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache"
POMS = {
    "connect": ROOT / "tests" / "rigs" / "connect.pom.xml",
    "jdbc_sink": ROOT / "deploy" / "sinks" / "pom.xml",
    "kafka_tools": ROOT / "tests" / "rigs" / "kafka_tools.pom.xml",
}
LIMIT_S = 200.0
WHAT_TO_INSTALL = "no Kafka Connect can be started here: install a JDK (17 or newer) and Maven"


def jars(what: str) -> Path:
    """The folder of the jars that a file of POMS asks for, fetched where they are not there yet."""

    def fetch(folder: Path) -> None:
        copy = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={folder}"]
        subprocess.run(["mvn", "-q", "-B", "-f", POMS[what], *copy], check=True, capture_output=True, timeout=600)

    return once(CACHE / what, fetch)


def can_run(*needed: str) -> bool:
    """Whether there is Java, and the jars of all of these, or Maven to fetch them."""
    there = all((CACHE / what).is_dir() for what in needed)
    return shutil.which("java") is not None and (there or shutil.which("mvn") is not None)


class Connect:
    """Standalone workers with one connector each, one after the other; a context manager that leaves no process."""

    def __init__(self, home: Path, bootstrap: str, port: int) -> None:
        self._home = home
        plugins = home / "plugins"
        plugins.mkdir(parents=True)
        (plugins / "jdbc").symlink_to(jars("jdbc_sink"))
        own = {
            "bootstrap.servers": bootstrap,
            "listeners": f"http://127.0.0.1:{port}",
            "plugin.path": str(plugins),
            "offset.storage.file.filename": str(home / "offsets"),
        }
        lines = (ROOT / "deploy" / "sinks" / "connect.properties").read_text().splitlines()
        lines = [line for line in lines if line.partition("=")[0] not in own]
        (home / "worker.properties").write_text("\n".join([*lines, *(f"{key}={value}" for key, value in own.items())]))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, connector: str) -> None:
        """Start a worker with this connector, a file of properties; returns at once."""
        files = [self._home / "worker.properties", self._home / "connector.properties"]
        files[1].write_text(connector)
        java = ["java", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{jars('connect')}/*"]
        with (self._home / "log").open("a") as log:
            self._process = subprocess.Popen(
                [*java, "org.apache.kafka.connect.cli.ConnectStandalone", *files], stdout=log, stderr=log
            )

    def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        """Until what the worker writes elsewhere makes it true; nothing tells, so it is asked for."""
        deadline = time.monotonic() + LIMIT_S
        while not condition():
            assert self._process is not None
            log = (self._home / "log").read_text()
            assert self._process.poll() is None, f"Connect ended: {log[-3000:]}"
            assert "Task threw an uncaught" not in log, log[log.index("Task threw an uncaught") :][:3000]
            assert time.monotonic() < deadline, f"{what}: not within {LIMIT_S} s: {log[-3000:]}"
            time.sleep(0.5)

    def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> "Connect":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
