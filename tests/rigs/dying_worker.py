"""A worker that kills itself at a named point of a cycle, as if the machine had gone just then.

`DIES_AT` is the point and how often it is passed before, as in `commit/3`; the points stand in `POINTS`.
"""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from kafka import KafkaProducer

from worker.__main__ import main
from worker.broker.librdkafka import options
from worker.observe.metrics import Stopwatch

VARIABLE = "DIES_AT"
PHASES = ("poll", "restore", "decode", "advance", "publish", "adopt", "snapshot", "commit", "offer")  # at their ends
CALLS = ("init_transactions", "begin_transaction", "flush", "send_offsets_to_transaction", "commit_transaction")
POINTS = (*PHASES, *(f"{when}-{call}" for call in CALLS for when in ("before", "after")))


def die_at(point: str, passes: int) -> None:
    """Have this process killed when it comes to the point once it has passed it so often."""
    assert point in POINTS, point
    left = iter([False] * passes + [True])

    def come() -> None:
        if next(left, True):
            os.kill(os.getpid(), signal.SIGKILL)

    if point in PHASES:
        lap = Stopwatch.lap

        def lapped(watch: Stopwatch, phase: str) -> float:
            seconds = lap(watch, phase)
            if phase == point:
                come()
            return seconds

        Stopwatch.lap = lapped  # type: ignore[method-assign]
        return
    when, call = point.split("-", 1)
    setattr(KafkaProducer, call, _with(getattr(KafkaProducer, call), when, come))
    # A type of C, which takes no other method, so another is opened in its place
    dying = type("Dying", (options.Producer,), {call: _with(getattr(options.Producer, call), when, come)})
    options.Producer = dying  # type: ignore[misc]


def _with(call: Callable[..., Any], when: str, come: Callable[[], None]) -> Callable[..., Any]:
    def called(*arguments: Any, **named: Any) -> Any:
        if when == "before":
            come()
        result = call(*arguments, **named)
        if when == "after":
            come()
        return result

    return called


if __name__ == "__main__":
    at, _, number = os.environ[VARIABLE].partition("/")
    die_at(at, int(number))
    sys.exit(main())
