"""Whether the network is worth its weights: its recent loss beside the last value's, and how many streams speak.

Both are sums over a shard's events in offset order, so they are part of the fold and do not depend on batches. The
losses are exponential means, over 200 events of each stream, of squared errors at the first horizon, clipped.
"""

import numpy as np

from pipeline.arrays import Bools, Events, Field, Floats, Rows
from pipeline.compiled import kernel
from pipeline.method import Method
from pipeline.parts.part import Part

EPOCH = 10_000  # offsets, at least, and two for each stream that speaks in it
MEMORY = 200.0  # events of each stream
CLIP = 4.0  # horizon scales
TOLERANCE = 1.05  # of the last value's loss
PATIENCE = 100  # events of each stream before the losses mean anything
NETWORK, LAST_VALUE, LABELS, FORGIVEN, NOW, BEFORE, EPOCH_NUMBER, EPOCH_START = range(8)


def fields(method: Method) -> list[Field]:
    """When a stream was last active, and the offsets at which its pending forecasts were made."""
    return [
        ("epoch", "i8"),  # its number and one; 0: never
        ("watched", "i8"),  # events
        ("watch_origin", "i8", (method.horizons[0],)),  # ring, event n at n mod the first horizon
    ]


def blank() -> Floats:
    """A shard's state: two losses, their labels, the offset of the last roll-back, and active streams by epoch."""
    return np.zeros(8)


@kernel
def watch(rows: Rows, events: Events, state: Floats) -> None:
    """Take into `state` (8,) what became of these accepted events (n,), in offset order."""
    for e in range(len(events)):
        event = events[e]
        row = rows[event["row"]]
        offset = event["offset"]
        error = event["network_error"]  # at the first horizon, like the last value's
        naive = event["naive"][0]
        if offset - state[EPOCH_START] >= max(EPOCH, 2 * state[NOW]):
            state[BEFORE] = state[NOW]
            state[NOW] = 0.0
            state[EPOCH_NUMBER] += 1
            state[EPOCH_START] = offset
        if row["epoch"] != state[EPOCH_NUMBER] + 1:
            row["epoch"] = state[EPOCH_NUMBER] + 1
            state[NOW] += 1
        origins = row["watch_origin"]
        place = row["watched"] % len(origins)
        origin = origins[place]
        origins[place] = offset
        row["watched"] += 1
        if np.isnan(error) or origin < state[FORGIVEN]:
            continue
        rate = 1.0 / (MEMORY * max(state[NOW], state[BEFORE]))
        mine = min(max(error, -CLIP), CLIP)
        other = min(max(naive, -CLIP), CLIP)
        state[NETWORK] += rate * (mine * mine - state[NETWORK])
        state[LAST_VALUE] += rate * (other * other - state[LAST_VALUE])
        state[LABELS] += 1


PART = Part(fields)


def active(state: Floats) -> int:
    """Streams that have spoken lately, at least 1."""
    return max(1, int(state[NOW]), int(state[BEFORE]))


def are_active(rows: Rows, state: Floats) -> Bools:
    """(rows,) those that spoke in this epoch or in the one before."""
    found: Bools = rows["epoch"] >= max(1, state[EPOCH_NUMBER])
    return found


def is_bad(state: Floats) -> bool:
    """The network is worse than the last value, by more than chance."""
    settled = state[LABELS] >= PATIENCE * active(state)
    return bool(settled and state[NETWORK] > TOLERANCE * state[LAST_VALUE])


def is_good(state: Floats) -> bool:
    """The network is better than the last value."""
    return bool(state[LABELS] >= PATIENCE * active(state) and state[NETWORK] < state[LAST_VALUE])


def forgive(state: Floats, offset: int) -> None:
    """A roll-back holds from this offset: begin anew, without the forecasts that were made below it."""
    state[NETWORK] = state[LAST_VALUE]
    state[FORGIVEN] = offset
