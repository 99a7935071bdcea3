"""The demo leaves nothing running, however it is told to end."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.kafka


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="children are read from /proc")
def test_a_demo_that_is_terminated_stops_its_workers(bootstrap: str) -> None:
    variables = {"FOLDCAST_KAFKA__BOOTSTRAP_SERVERS": bootstrap, "FOLDCAST_HTTP__PORT": "0"}
    command = [sys.executable, "-m", "worker", "demo", "--rate", "200"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | variables) as demo:
        assert demo.stderr is not None
        while "two workers are ready" not in (line := demo.stderr.readline()):
            assert line, "the demo ended by itself"
        workers = Path(f"/proc/{demo.pid}/task/{demo.pid}/children").read_text().split()
        demo.terminate()
        assert demo.wait() == 128 + signal.SIGINT
    assert len(workers) == 2
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]
