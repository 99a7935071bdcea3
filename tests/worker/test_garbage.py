"""What refers to itself is found once a minute, not by every cycle, and not at all at the end."""

import gc
import subprocess
import sys
import weakref
from pathlib import Path

import pytest

from tests.rigs.clock import Clock
from worker.garbage import EVERY_S, Garbage


class Selfish:
    """Refers to itself."""

    def __init__(self) -> None:
        self.me = self


@pytest.fixture(autouse=True)
def _the_collector_of_all_tests_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("freeze", "set_threshold"):
        monkeypatch.setattr(gc, name, lambda *_: None)


def resident_mib() -> float:
    """Memory of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def test_free_memory_goes_back_to_the_system_within_a_minute(clock: Clock) -> None:
    garbage = Garbage()
    pages = [bytearray(1 << 24)]
    pages.clear()  # from now on the C library keeps what is no larger
    pages = [bytearray(1 << 18) for _ in range(800)]
    last = bytearray(1 << 18)  # so that what is free is not at the heap's end
    full = resident_mib()
    pages.clear()
    clock.now += EVERY_S
    garbage.after_cycle()
    assert resident_mib() < full - 150
    del last


def test_what_refers_to_itself_is_gone_after_a_minute_and_no_cycle_before_looks_for_it(
    clock: Clock,
) -> None:
    garbage, left = Garbage(), []
    gc.disable()
    try:
        for _ in range(2):
            left.append(weakref.ref(Selfish()))
            garbage.after_cycle()
            clock.now += EVERY_S - 1
            garbage.after_cycle()
            assert left[-1]() is not None
            clock.now += 1
            garbage.after_cycle()
            assert left[-1]() is None
    finally:
        gc.enable()


def test_a_program_that_ends_looks_for_none() -> None:
    """Its exit code is the command's, and of what it leaves nothing is walked through."""
    code = (
        "import atexit, gc, sys, worker.__main__ as program\n"
        "program.main = lambda: 3\n"
        "atexit.register(lambda: print(gc.isenabled(), gc.get_freeze_count() > 1000))\n"
        "sys.exit(program.program())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=180)
    assert (done.returncode, done.stdout) == (3, "False True\n"), done.stderr
