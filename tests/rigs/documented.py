"""The commands of README and docs as they stand there, and a shell whose programs are those of this checkout."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from tests.rigs.kafka_connect import jars

ROOT = Path(__file__).resolve().parents[2]
PAGES = {str(path.relative_to(ROOT)): path.read_text() for path in [ROOT / "README.md", *ROOT.glob("docs/*.md")]}
PROGRAM = re.compile(
    r"(?:[A-Z_]+=\S+ )*(?:docker|foldcast|kubectl|make|\S*python|[\w-]+\.sh)(?= )|[A-Z_]+=(?:<.+?>|\S+) docker"
)
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`((?:docker|kubectl|[\w-]+\.sh|python) [^`]+)`")
WHAT_TO_INSTALL = "none of Kafka's tools can be started here: install a JDK (17 or newer) and Maven"
TOOLS = {  # what Kafka's scripts start
    "kafka-acls.sh": "org.apache.kafka.tools.AclCommand",
}
SENT_MS = 1_711_121_313_000  # soon after the times of the messages that are shown
ENVELOPES = ROOT / "configs" / "envelopes"
ENVELOPE = re.compile(
    r"^Settings: \[(\w+)\.toml\](.*?)```json\n(.*?)^```\n\n```text\n(.*?)^```", re.MULTILINE | re.DOTALL
)


class Shown(NamedTuple):
    """A message of docs/messages.md."""

    name: str  # of its settings
    key: bytes | None
    body: bytes
    events: list[tuple[str, str, float]]  # stream, time in ISO 8601, value


def envelopes() -> list[Shown]:
    """Return the messages that are shown with settings of their own and the events they become."""
    found = []
    for name, words, body, events in ENVELOPE.findall(PAGES["docs/messages.md"]):
        key = re.search(r"key is `(.+?)`", words)
        lines = [line.split() for line in events.splitlines()]
        shown = [(stream, time, float(value)) for stream, time, value in lines]
        found.append(Shown(name, key[1].encode() if key else None, body.encode(), shown))
    return found


def blocks(text: str, language: str) -> list[str]:
    """Return the fenced blocks of a page whose language matches this pattern."""
    return [block for found, block in FENCED.findall(text) if re.fullmatch(language, found)]


def commands(page: str) -> list[str]:
    """Return the commands of a page's blocks, each in one line and without its remark, then those within its text."""
    text = PAGES[page]
    found = []
    for block in blocks(text, ""):
        lines = re.sub(r"\\\n\s*", "", block).splitlines()
        found += [re.sub(r"\s+# .*", "", line.removeprefix("$ ")) for line in lines]
    prose = FENCED.sub("", text)
    return [line for line in found if PROGRAM.match(line)] + [" ".join(code.split()) for code in INLINE.findall(prose)]


def command(page: str, start: str) -> str:
    """Return the one command of a page that starts so."""
    [found] = [line for line in commands(page) if line.startswith(start)]
    return found


def programs(folder: Path, kafka: bool = False) -> Path:
    """Put `foldcast`, `python` and, if asked for, Kafka's scripts into a folder, and return it."""
    folder.mkdir(exist_ok=True)
    given = {"foldcast": f"{sys.executable} -m worker", "python": sys.executable}
    if kafka:
        java = f"{shutil.which('java')} -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp '{jars('kafka_tools')}/*'"
        given |= {script: f"{java} {tool}" for script, tool in TOOLS.items()}
    for name, start in given.items():
        (folder / name).write_text(f'#!/bin/sh\nexec {start} "$@"\n')
        (folder / name).chmod(0o755)
    return folder


def environment(programs: Path) -> dict[str, str]:
    """Return an environment in which a shell finds these programs first."""
    return {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}


def run(line: str, folder: Path, programs: Path) -> str:
    """Run a command in a shell with these programs, in `folder`; return what it prints. It must not fail."""
    shell = ["bash", "-c", f"set -o pipefail; {line}"]
    done = subprocess.run(shell, cwd=folder, env=environment(programs), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    return done.stdout
