"""Compiles every kernel once for these settings; numba keeps them on disk."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numba.core.event import Event, Listener, install_listener

from pipeline.batch import Batch
from pipeline.compiled import UNKEPT, compilations
from pipeline.learning.fine_tune import Optimiser, Schedule, fine_tune
from pipeline.learning.windows import Windows
from pipeline.network.cells import states
from pipeline.rounding import significant
from worker.plan import Plan

EVENTS = 5


class _FirstCompiled(Listener):
    """Says once that a kernel is compiled, on standard error."""

    told = False

    def on_start(self, event: Event) -> None:  # noqa: ARG002 - numba calls it
        """A kernel was not found compiled."""
        if not self.told:
            self.told = True
            kept = "they are kept for the next time"
            if UNKEPT:
                kept = "they cannot be kept: name a directory that can be written to as NUMBA_CACHE_DIR"
            print(f"compiling kernels, about a minute; {kept}", file=sys.stderr, flush=True)

    def on_end(self, event: Event) -> None:
        """It is compiled."""


@contextmanager
def compiling_is_told() -> Iterator[None]:
    """Let people know, while the block runs, why nothing happens for a minute the first time."""
    with install_listener("numba:compile", _FirstCompiled()):
        yield


def warm(plan: Plan) -> tuple[int, int]:
    """Fold a few events, round a number and learn from zeros, so that every kernel runs; return how many were compiled,
    how many found.

    Waves of two rows and of one: an array of one row may count as laid out otherwise.
    """
    shard = plan.shard(0, parts=True)
    count = np.arange(EVENTS)
    batch = Batch(
        offset=count,
        name=[f"warm {i % 2}" for i in range(EVENTS)],
        time_ms=60_000 * count,
        record_ms=60_000 * count,
        value=np.arange(1.0, 1 + EVENTS),
        covariates=np.full((EVENTS, len(plan.method.covariates)), np.nan),
        records=EVENTS,
        end=EVENTS,
        drop=np.zeros(EVENTS, np.int64),
    )
    shard.advance(batch)
    significant(np.zeros(1))
    shape = shard.network.shape
    hidden = np.zeros((1, shape.layers, states(shape.cell), shape.hidden_size), np.float32)
    inputs, labels = (np.zeros((1, 1, size), np.float32) for size in (shape.inputs, len(shape.horizons)))
    nothing = Windows(inputs, labels, hidden, np.zeros(1, np.int64))
    fine_tune(shape, shard.network.weights, Optimiser.blank(), nothing, Schedule())
    return compilations()
