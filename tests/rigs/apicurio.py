"""A real schema registry as a process: Apicurio, with its API of Confluent's form, which Maven fetches once."""

import shutil
import subprocess
import tarfile
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from tests.rigs.kafka_connect import CACHE
from worker.demo.fetched import once

VERSION = "3.0.9"  # the last that a JDK 17 runs
LIMIT_S = 120.0
WHAT_TO_INSTALL = "no schema registry can be started here: install a JDK (17 or newer) and Maven"


def can_run() -> bool:
    """Whether there is Java, and the registry or Maven to fetch it."""
    return shutil.which("java") is not None and (_folder().is_dir() or shutil.which("mvn") is not None)


def _folder() -> Path:
    return CACHE / f"apicurio-{VERSION}"


def fetched() -> Path:
    """The folder with the registry, fetched where it is not there yet."""

    def fetch(folder: Path) -> None:
        archives = folder.parent
        artifact = f"-Dartifact=io.apicurio:apicurio-registry-app:{VERSION}:tar.gz:all"
        copy = ["mvn", "-q", "-B", "dependency:copy", artifact, f"-DoutputDirectory={archives}"]
        subprocess.run(copy, check=True, capture_output=True, timeout=600)
        with tarfile.open(next(archives.glob("*.tar.gz"))) as archive:
            archive.extractall(folder, filter="data")

    return once(_folder(), fetch)


class Apicurio:
    """A registry whose schemas outlive it; a context manager that leaves no process."""

    def __init__(self, home: Path, port: int) -> None:
        home.mkdir(parents=True)
        self._home, self._port = home, port
        self.url = f"http://127.0.0.1:{port}/apis/ccompat/v7"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it answers."""
        folder = fetched()
        options = {
            "quarkus.http.port": self._port,
            "quarkus.http.host": "127.0.0.1",
            "apicurio.datasource.url": f"jdbc:h2:file:{self._home / 'schemas'}",
        }
        java = ["java", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        java += [f"-D{name}={value}" for name, value in options.items()]
        with (self._home / "log").open("a") as log:
            command = [*java, "-jar", folder / f"apicurio-registry-app-{VERSION}-runner.jar"]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self._home)
        deadline = time.monotonic() + LIMIT_S
        while not self._answers():  # nothing tells, so it is asked
            told = (self._home / "log").read_text()[-3000:]
            assert self._process.poll() is None, f"the registry ended: {told}"
            assert time.monotonic() < deadline, f"no registry within {LIMIT_S} s: {told}"
            time.sleep(0.2)

    def _answers(self) -> bool:
        try:
            with urlopen(f"{self.url}/schemas/types", timeout=5) as answer:
                return bool(answer.status == 200)
        except (URLError, OSError):
            return False

    def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> "Apicurio":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
