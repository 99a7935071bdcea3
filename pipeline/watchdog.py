"""Whether the network is worth its weights: its recent loss beside the last value's, and how many streams speak.

Both are sums over a shard's events in offset order, so they are part of the fold and do not depend on batches. The
losses are exponential means, over 200 events of each stream, of squared errors at the first horizon, clipped.
"""

import numpy as np

from pipeline.compiled import Field, Floats, Ints, Rows, kernel

EPOCH = 10_000  # offsets: a stream is active if it spoke in this epoch, or in the last one
MEMORY = 200.0  # events of each stream
CLIP = 4.0  # horizon scales
TOLERANCE = 1.05  # of the last value's loss
PATIENCE = 100  # events of each stream before the losses mean anything
NETWORK, LAST_VALUE, LABELS, MUTED, NOW, BEFORE, EPOCH_NUMBER = range(7)


def fields() -> list[Field]:
    """When a stream last counted as active."""
    return [("epoch", "i8")]  # its number and one; 0: never


def blank() -> Floats:
    """A shard's state: two losses, labels in them, labels to leave out, streams active now and before, the epoch."""
    return np.zeros(7)


@kernel
def watch(
    rows: Rows,
    index: Ints,  # (n,) accepted events in offset order
    offset: Ints,
    error: Floats,  # (n,) of the network at the first horizon, in horizon scales; NaN: no label
    naive: Floats,  # (n,) of the last value
    state: Floats,  # (7,) in and out
) -> None:
    """Take in what became of these events."""
    for e in range(len(index)):
        row = rows[index[e]]
        epoch = offset[e] // EPOCH
        if epoch != state[EPOCH_NUMBER]:
            state[BEFORE] = state[NOW] if epoch == state[EPOCH_NUMBER] + 1 else 0.0
            state[NOW] = 0.0
            state[EPOCH_NUMBER] = epoch
        if row["epoch"] != epoch + 1:
            row["epoch"] = epoch + 1
            state[NOW] += 1
        if np.isnan(error[e]):
            continue
        if state[MUTED] > 0:
            state[MUTED] -= 1
            continue
        rate = 1.0 / (MEMORY * max(state[NOW], state[BEFORE]))
        mine = min(max(error[e], -CLIP), CLIP)
        other = min(max(naive[e], -CLIP), CLIP)
        state[NETWORK] += rate * (mine * mine - state[NETWORK])
        state[LAST_VALUE] += rate * (other * other - state[LAST_VALUE])
        state[LABELS] += 1


def active(state: Floats) -> int:
    """Streams that have spoken lately, at least 1."""
    return max(1, int(state[NOW]), int(state[BEFORE]))


def is_bad(state: Floats) -> bool:
    """The network is worse than the last value, by more than chance."""
    settled = state[LABELS] >= PATIENCE * active(state)
    return bool(settled and state[NETWORK] > TOLERANCE * state[LAST_VALUE])


def is_good(state: Floats) -> bool:
    """The network is better than the last value."""
    return bool(state[LABELS] >= PATIENCE * active(state) and state[NETWORK] < state[LAST_VALUE])


def forgive(state: Floats, first_horizon: int) -> None:
    """After a roll-back: begin anew, without the labels of forecasts that the weights before it made."""
    state[NETWORK] = state[LAST_VALUE]
    state[MUTED] = (first_horizon + 1) * active(state)
