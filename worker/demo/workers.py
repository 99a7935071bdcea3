"""A worker as the demo runs it: a process of its own, watched over HTTP as an operator would."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from worker.refusal import Refusal

READY_S = 60.0
STOP_S = 30.0


class DemoWorker:
    """Started by the constructor; `stop` before the end."""

    def __init__(self, name: str, config: Path, environment: Mapping[str, str], home: Path, *options: str) -> None:
        self._log = home / f"{name}.log"
        self._port: int | None = None
        self.page: dict[str, object] = {}  # the last one it gave
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "worker", "run", "--config", str(config), *options],
                env={**environment, "FOLDCAST_KAFKA__INSTANCE_ID": name},
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the demo, which then stops its workers in order
            )

    @property
    def url(self) -> str:
        """The address of the worker's page, once it has logged its port."""
        if self._port is None:
            for line in self._log.read_text().splitlines():
                if " listening port=" in line:
                    self._port = int(line.rpartition("=")[2])
        return f"http://127.0.0.1:{self._port or 0}"

    @property
    def running(self) -> bool:
        """Whether the worker's process is alive."""
        return self._process.poll() is None

    def status(self) -> dict[str, object]:
        """Return the worker's /api/status, an empty one while it does not answer."""
        try:
            with urlopen(f"{self.url}/api/status", timeout=2) as answer:  # noqa: S310 - our own address
                page: dict[str, object] = json.load(answer)
        except (URLError, TimeoutError, ConnectionError):
            return {}
        self.page = page
        return page

    def wait_until_ready(self) -> None:
        """Wait until the worker has joined and restored. Raises Refusal with the end of its log when it does not."""
        deadline = time.monotonic() + READY_S
        while not self.status().get("ready"):
            if not self.running or time.monotonic() > deadline:
                print(self._log.read_text(errors="replace")[-2000:], file=sys.stderr)
                raise Refusal("a worker did not start; the end of its log stands above")
            time.sleep(0.1)

    def ask_to_stop(self) -> None:
        """Send SIGTERM and return without waiting."""
        if self.running:
            self._process.send_signal(signal.SIGTERM)

    def stop(self) -> None:
        """Send SIGTERM, then SIGKILL where the worker has not ended after `STOP_S`."""
        self.ask_to_stop()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
