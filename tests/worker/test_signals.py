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


ASK = "os.kill(os.getpid(), signal.SIGTERM)"
IMPORTING = (
    "class Ask:\n"
    "    def find_spec(self, name, path=None, target=None):\n"
    f"        if name == '%s': sys.meta_path.remove(self); {ASK}; print('imported all the same', flush=True)\n"
    "sys.meta_path.insert(0, Ask())\n"
)
COMPILING = (
    "import worker.run\n"
    "def warm(plan):\n"
    f"    {ASK}; threading.Event().wait(20); print('compiled all the same', flush=True)\n"
    "    return 0, 0\n"
    "worker.run.warm = warm\n"
)


@pytest.mark.parametrize(
    "moment", [IMPORTING % "pydantic", IMPORTING % "numba", COMPILING], ids=["settings", "numba", "kernels"]
)
def test_a_worker_asked_before_it_holds_anything_leaves_at_once(moment: str) -> None:
    """The handler stands before settings or numba are imported: it is asked the moment these begin to be."""
    done = run(f"{moment}from worker.__main__ import main\nsys.exit(main(['run']))\n")
    assert done.returncode == 0, done.stderr
    assert "all the same" not in done.stdout
    assert "Traceback" not in done.stderr


def test_the_second_signal_does_not_wait_for_what_the_first_asked() -> None:
    done = run(f"from worker.signals import asked_to_stop\nwith asked_to_stop(print):\n    {ASK}\n    {ASK}\n")
    assert done.returncode == 128 + signal.SIGTERM


def run(program: str) -> subprocess.CompletedProcess[str]:
    """A program in a process of its own, with a worker's settings and no broker."""
    environment = {
        **os.environ,
        "FOLDCAST_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "FOLDCAST_HTTP__PORT": "0",
    }
    command = [sys.executable, "-c", f"import os, signal, sys, threading\n{program}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=180, check=False, env=environment)
