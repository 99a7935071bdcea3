"""One broker of a local Kafka: its properties, and its process behind a guard that ends it when we are gone.

Imports nothing but the standard library, because the guard runs this file as a script.
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

STARTED = b"Kafka Server started"
STOP_LIMIT_S = 2.0  # then by force: the data is thrown away, and the last nodes of three wait long for a quorum

# Words for the guard, through its pipe, and the signals they stand for
TERMINATE, KILL, FREEZE, THAW = b"t", b"k", b"f", b"c"
SIGNALS = {TERMINATE: signal.SIGTERM, KILL: signal.SIGKILL, FREEZE: signal.SIGSTOP, THAW: signal.SIGCONT}


class LocalKafkaError(RuntimeError):
    """A broker was started and did not answer; holds the end of its log."""


def properties_of(nodes: int) -> dict[str, str]:
    """Return what all of so many nodes have: quick to start, and keeping records whose timestamps are years old."""
    replicas, in_sync = str(nodes), str(2 if nodes == 3 else 1)
    return {
        "log.retention.ms": "-1",
        "log.roll.hours": "876000",  # by record time: else a replayed year is cut into 52 segments
        "log.cleaner.dedupe.buffer.size": "16777216",  # of 128 MiB, allocated at once
        "default.replication.factor": replicas,
        "min.insync.replicas": in_sync,
        "offsets.topic.replication.factor": replicas,
        "offsets.topic.num.partitions": "1",  # of 50, made on first use
        "transaction.state.log.replication.factor": replicas,
        "transaction.state.log.min.isr": in_sync,
        "transaction.state.log.num.partitions": "1",
        "share.coordinator.state.topic.replication.factor": replicas,
        "share.coordinator.state.topic.min.isr": in_sync,
        "broker.session.timeout.ms": "4000",  # of 9000: a killed node's successor waits for it
        "broker.heartbeat.interval.ms": "500",
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "1000",
    }


def addresses_of(
    broker: int, controller: int, more: Mapping[str, str], protocols: Mapping[str, str], proxies: Mapping[str, str]
) -> dict[str, str]:
    """Return the properties of a node's listeners: by port, and `more` by name with their addresses and protocols.

    Clients are sent to the addresses in `proxies` instead, where there are any.
    """
    every = {"PLAINTEXT": f"127.0.0.1:{broker}", "CONTROLLER": f"127.0.0.1:{controller}", **more}
    kinds = {"CONTROLLER": "PLAINTEXT", "PLAINTEXT": "PLAINTEXT", **protocols}
    return {
        "process.roles": "broker,controller",
        "listeners": ",".join(f"{name}://{address}" for name, address in every.items()),
        "advertised.listeners": ",".join(f"{name}://{proxies.get(name, address)}" for name, address in every.items()),
        "listener.security.protocol.map": ",".join(f"{name}:{kind}" for name, kind in kinds.items()),
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
    }


@dataclass
class KafkaNode:
    """One broker's process, behind a guard that ends it when we are gone."""

    home: Path
    log: Path
    command: list[str]
    _guard: subprocess.Popen[bytes] | None = None
    _log_start: int = 0

    def start(self) -> None:
        """Start the broker behind a guard; return without waiting for it."""
        with self.log.open("ab") as log:
            self._log_start = log.tell()
            self._guard = subprocess.Popen(
                [sys.executable, "-IS", __file__, str(self.home), *self.command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for whoever uses the broker, which outlives them
            )

    def wait_until_started(self, deadline: float) -> None:
        """Wait for the log's line; LocalKafkaError when the broker ends first or `deadline` (monotonic) passes."""
        while STARTED not in (written := self.log.read_bytes()[self._log_start :]):
            if self._guard is None or self._guard.poll() is not None or time.monotonic() > deadline:
                tail = written.decode(errors="replace").strip().splitlines()[-20:]
                raise LocalKafkaError("Kafka did not start:\n" + "\n".join(tail))
            time.sleep(0.05)

    def tell(self, word: bytes) -> None:
        """Pass a word to the guard, if it still listens."""
        if self._guard is not None and self._guard.stdin is not None:
            with suppress(BrokenPipeError):
                os.write(self._guard.stdin.fileno(), word)

    def wait_until_ended(self, deadline: float) -> None:
        """Wait until the process has ended, at most until `deadline` (monotonic)."""
        if self._guard is not None:
            with suppress(subprocess.TimeoutExpired):
                self._guard.wait(max(0.0, deadline - time.monotonic()))

    def end(self, word: bytes) -> None:
        """Pass a word to the guard; return when the process is gone."""
        self.tell(word)
        if self._guard is not None and self._guard.stdin is not None:
            self._guard.wait()
            self._guard.stdin.close()
        self._guard = None


def _guard(home: Path, command: Sequence[str]) -> int:
    """Stand between a program and its broker, which ends when the program asks or is gone.

    A pipe is closed whatever way its owner dies, SIGKILL included, needs no polling and works on every Unix; the
    kernel's own parent-death signal is Linux only, goes by thread, and needs code between fork and exec.
    """
    broker = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    abandoned = threading.Event()

    def obey() -> None:
        while word := os.read(0, 1):
            broker.send_signal(SIGNALS[word])
        abandoned.set()
        broker.send_signal(signal.SIGCONT)
        broker.terminate()
        with suppress(subprocess.TimeoutExpired):
            broker.wait(STOP_LIMIT_S)
        broker.kill()

    threading.Thread(target=obey, daemon=True).start()
    code = broker.wait()
    if abandoned.is_set():
        shutil.rmtree(home, ignore_errors=True)
    return code


if __name__ == "__main__":
    sys.exit(_guard(Path(sys.argv[1]), sys.argv[2:]))
