"""Apache Kafka's jars, fetched once, and the Java that runs them."""

import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from zlib import crc32

from worker.demo import fetched
from worker.demo.kafka_node import LocalKafkaError

VERSION = "4.3.1"
OLDEST_JAVA = 17

CHECKOUT = Path(__file__).resolve().parents[2]
POM = CHECKOUT / "deploy" / "kafka" / "pom.xml"
LIBS = CHECKOUT / ".cache" / f"kafka-{VERSION}" / "libs"

Say = Callable[[str], None]


def can_run() -> bool:
    """Whether Java is there, and the jars or Maven to fetch them."""
    return _java_version() >= OLDEST_JAVA and (LIBS.is_dir() or (shutil.which("mvn") is not None and POM.is_file()))


def _java_version() -> int:
    """Return the major version of Java here, 0 without a working one."""
    found = re.search(r'version "(\d+)', _java())
    return int(found[1]) if found else 0


def _java() -> str:
    """What Java says of itself, build included; nothing where there is none."""
    if shutil.which("java") is None:
        return ""
    return subprocess.run(["java", "-version"], capture_output=True, text=True, check=False).stderr  # noqa: S607


def fetch(say: Say) -> Path:
    """Return the folder of the jars, fetched by Maven where it is not there. Raises LocalKafkaError."""

    def copy(folder: Path) -> None:
        say(f"fetching Kafka {VERSION} (44 MB)")
        goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={folder}"]
        run(["mvn", "-q", "-B", "-f", str(POM), *goal])

    return fetched.once(LIBS, copy)


def classes(make: Callable[[list[str]], None], say: Say) -> list[str]:
    """Options of Java with which it maps the classes that a broker has loaded before: it starts with half the CPU.

    `make` runs a broker with the options that it is given, where this Java and these jars have no archive yet: others
    would not use it. A Java that makes none loads the classes from the jars.
    """

    def archive(folder: Path) -> None:
        say("archiving Kafka's classes, once")
        folder.mkdir()
        make([f"-XX:ArchiveClassesAtExit={folder / name}"])

    name = "classes.jsa"
    of = f"{_java()} {LIBS} {LIBS.stat().st_mtime_ns}"
    folder = fetched.once(LIBS.parent / f"classes-{crc32(of.encode()):08x}", archive)
    return ["-Xshare:auto", "-Xlog:cds=off", "-Xlog:cds+dynamic=off", f"-XX:SharedArchiveFile={folder / name}"]


def run(command: Sequence[str]) -> None:
    """Run a command. Raises LocalKafkaError with the end of its output when it fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        raise LocalKafkaError(f"{command[0]} failed:\n" + "\n".join(done.stdout.strip().splitlines()[-20:]))
