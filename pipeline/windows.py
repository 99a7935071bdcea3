"""What a row keeps for learning: inputs, labels and hidden states of its last events, and samples of them.

A window is T events of one stream with the hidden state saved at its start. A sample has two of each stream: one that
ends now, and one that ends the longest horizon ago, all of whose labels have arrived. A label that has not arrived, or
that must not teach, is NaN.

What is kept is bounded, so 16 bits hold it (a hidden state only where the cell bounds it); `Method.fine_rings` keeps it
as it is.
"""

from typing import Any, NamedTuple

import numpy as np

from pipeline.compiled import Bools, Field, Floats, Floats32, Ints, Rows, kernel
from pipeline.features import CLIP, width
from pipeline.method import Method
from pipeline.model import states

SAVE_EVERY = 8  # events between two saved hidden states; a window begins at one
LABEL_CAP = 8.0  # horizon scales
MASKED = -32_768  # a label that is NaN, in 16 bits
JUMP = 50.0  # horizon scales: a change that no sensor makes; nothing is learnt from it


class Windows(NamedTuple):
    """A sample to learn from: T events of B windows."""

    inputs: Floats32  # (T, B, F)
    labels: Floats32  # (T, B, Z) change over each horizon in its scale; NaN: masked
    hidden: Floats32  # (B, L, S, H) at each window's start


def older(method: Method) -> int:
    """How many events before the newest window the other one ends: H, rounded up to a saved state."""
    return -(-method.longest // SAVE_EVERY) * SAVE_EVERY


def ring(method: Method) -> int:
    """R, events that a row keeps: both windows, and those since the last saved state."""
    return method.window + older(method) + SAVE_EVERY


class Units(NamedTuple):
    """What one is kept as; 0: as it is, in float32."""

    input: float
    label: float
    hidden: float

    @classmethod
    def of(cls, method: Method) -> "Units":
        """Those of a method: GRU and tanh keep their states within one."""
        if method.fine_rings:
            return cls(0.0, 0.0, 0.0)
        bounded = method.cell in ("gru", "rnn_tanh")
        return cls(32_000 / CLIP, 32_000 / LABEL_CAP, 32_000.0 if bounded else 0.0)


def fields(method: Method) -> list[Field]:
    """Rings of the last R events (event n at n mod R) and of the states saved in them."""
    size, z = ring(method), len(method.horizons)
    inputs, labels, hidden = ("i2" if unit else "f4" for unit in Units.of(method))
    return [
        ("window_inputs", inputs, (size, width(method))),
        ("window_labels", labels, (size, z)),
        ("window_hidden", hidden, (size // SAVE_EVERY, method.layers, states(method.cell), method.hidden_size)),
        ("window_from", "i8"),  # event since which the hidden state is unbroken
    ]


@kernel
def label(rows: Rows, index: Ints, n: Ints, horizons: Ints, unit: float, label: Floats) -> None:
    """Keep the labels (B, Z) that came with event n (B,) of its stream; NaN is none."""
    for b in range(len(index)):
        labels = rows[index[b]]["window_labels"]
        for j in range(len(horizons)):
            if abs(label[b, j]) <= JUMP:
                y = min(max(label[b, j], -LABEL_CAP), LABEL_CAP)
                labels[(n[b] - horizons[j]) % labels.shape[0], j] = np.rint(y * unit) if unit > 0.0 else y


@kernel
def keep(
    rows: Rows,
    index: Ints,
    n: Ints,  # (B,)
    x: Floats32,  # (B, F)
    broken: Bools,  # (B,) the hidden state begins anew with this event
    input_unit: float,
    label_unit: float,
    hidden_unit: float,
) -> None:
    """Keep an event's inputs and the hidden state before it."""
    for b in range(len(index)):
        row = rows[index[b]]
        labels = row["window_labels"]
        inputs = row["window_inputs"]
        place = n[b] % labels.shape[0]
        labels[place, :] = MASKED if label_unit > 0.0 else np.nan
        for f in range(inputs.shape[1]):
            inputs[place, f] = np.rint(x[b, f] * input_unit) if input_unit > 0.0 else x[b, f]
        if broken[b]:
            row["window_from"] = n[b]
            row["hidden"][:] = 0.0
        if n[b] % SAVE_EVERY == 0:
            saved = row["window_hidden"]
            hidden = row["hidden"]
            at = (n[b] // SAVE_EVERY) % saved.shape[0]
            for layer in range(hidden.shape[0]):
                for state in range(hidden.shape[1]):
                    for i in range(hidden.shape[2]):
                        h = hidden[layer, state, i]
                        saved[at, layer, state, i] = np.rint(h * hidden_unit) if hidden_unit > 0.0 else h


@kernel
def heal(rows: Rows, index: Ints, n: Ints) -> None:
    """Begin a hidden state anew that is not finite after event n (B,): it would never come back by itself."""
    for b in range(len(index)):
        row = rows[index[b]]
        if not np.isfinite(row["hidden"]).all():
            row["hidden"][:] = 0.0
            row["window_from"] = n[b] + 1


def sample(rows: Rows, active: Bools, method: Method, streams: int, seed: int) -> Windows | None:
    """Windows of at most so many active streams, drawn by `seed`; None where no stream has one.

    Two kinds must not teach and are left out: a stream whose value has not changed in all that it keeps (a sensor that
    is stuck), and a window that holds what is not finite.
    """
    begins = rows["count"] // SAVE_EVERY * SAVE_EVERY - method.window  # of the newest window
    able = np.flatnonzero(active & (begins >= rows["window_from"]))
    drawn = np.random.default_rng(seed).permutation(able)[: 2 * streams]
    moves = rows["window_inputs"][drawn, :, 0] != 0
    drawn = drawn[moves.any(axis=1)][:streams]
    begin = begins[drawn]
    back = begin - older(method)
    full = back >= rows["window_from"][drawn]  # those with an older window too
    row = np.concatenate([drawn, drawn[full]])
    if len(row) == 0:
        return None
    start = np.concatenate([begin, back[full]])
    place = (start + np.arange(method.window)[:, None]) % ring(method)  # (T, B)
    saved = start // SAVE_EVERY % (ring(method) // SAVE_EVERY)
    units = Units.of(method)
    inputs = _plain(rows["window_inputs"][row, place], units.input)
    hidden = _plain(rows["window_hidden"][row, saved], units.hidden)
    fine = np.isfinite(inputs).all((0, 2)) & np.isfinite(hidden).all((1, 2, 3))
    if not fine.any():
        return None
    labels = rows["window_labels"][row, place][:, fine]
    masked = labels == MASKED
    labels = _plain(labels, units.label)
    labels[masked] = np.nan
    return Windows(inputs[:, fine], labels, hidden[fine])


def _plain(kept: Any, unit: float) -> Any:
    return (kept / unit).astype(np.float32) if unit else kept
