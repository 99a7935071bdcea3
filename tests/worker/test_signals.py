"""A worker can be asked to stop from its first moment on."""

import os
import signal
import subprocess
import sys
from threading import Thread

import pytest

from worker.signals import asked_to_stop


def test_the_first_signal_asks_and_handlers_are_put_back() -> None:
    said: list[str] = []
    before = signal.getsignal(signal.SIGTERM)
    with asked_to_stop(said.append) as stop:
        assert not stop.is_set()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.wait(5)
    assert said == ["SIGTERM"]
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_thread_has_no_signals() -> None:
    before, found = signal.getsignal(signal.SIGTERM), []

    def enter() -> None:
        with asked_to_stop(print):
            found.append(signal.getsignal(signal.SIGTERM))

    thread = Thread(target=enter)
    thread.start()
    thread.join(5)
    assert found == [before]


@pytest.mark.parametrize("signs", [1, 2])
def test_a_worker_asked_while_it_still_imports_stops_before_it_joins(signs: int) -> None:
    """The handler stands before settings or torch are imported: it is asked the moment these begin to be."""
    ask = f"import os, signal; [os.kill(os.getpid(), signal.SIGTERM) for _ in range({signs})]"
    hook = (
        "import sys\n"
        "class Ask:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name in ('pydantic', 'torch'): sys.meta_path.remove(self); {ask}\n"
        "sys.meta_path.insert(0, Ask())\n"
        "from worker.__main__ import main\n"
        "sys.exit(main(['run']))\n"
    )
    environment = {
        **os.environ,
        "FOLDCAST_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "FOLDCAST_HTTP__PORT": "0",
    }
    command = [sys.executable, "-c", hook]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert done.returncode == (0 if signs == 1 else 128 + signal.SIGTERM), done.stderr
    assert "joined" not in done.stdout
