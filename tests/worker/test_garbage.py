"""What refers to itself is found once a minute, and not by every cycle."""

import gc
import weakref

import pytest

from tests.rigs.clock import Clock
from worker.garbage import EVERY_S, Garbage


class Selfish:
    """Refers to itself."""

    def __init__(self) -> None:
        self.me = self


def test_what_refers_to_itself_is_gone_after_a_minute_and_no_cycle_before_looks_for_it(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("freeze", "set_threshold"):  # of the process that runs all tests
        monkeypatch.setattr(gc, name, lambda *_: None)
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
