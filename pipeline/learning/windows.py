"""What a row keeps for learning: inputs, labels and hidden states of its last events, and samples of them.

A window is T events of one stream with the hidden state saved at its start. A sample has two of each stream: one that
ends now, and one that ends the longest horizon ago, all of whose labels have arrived. A label that has not arrived, or
that must not teach, is NaN.

Inputs and labels are kept in 8 bits, as signed square roots of their share of the bound, so that small ones keep their
digits; hidden states in 8 bits where the cell bounds them, else in float32; the inputs that tell the time as the time
of the week. Updates forgive the rounding, and this is most of a small row. `Method.fine_rings` keeps all as it is.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.arrays import Bools, Events, Field, Fixed, Floats, Floats32, Ints, Rows
from pipeline.compiled import kernel
from pipeline.method import Method
from pipeline.network.cells import CELLS, states
from pipeline.parts.features import CLIP, TIMES, WIDTH, times
from pipeline.parts.part import Part

SAVE_EVERY = 8  # events between two saved hidden states; a window begins at one
LABEL_CAP = 8.0  # horizon scales
JUMP = 50.0  # horizon scales: a change that no sensor makes; nothing is learnt from it
ROOT = 127.0  # the code of a bound, and of a hidden state of 1
MASKED = -128  # of a label that is NaN
WEEK_MS = 604_800_000
TICK_MS = 10_000  # time of the week in 16 bits
PLAIN = np.array([code * abs(code) for code in (*range(128), *range(-128, 0))], np.float32) / np.float32(ROOT**2)
PLAIN[MASKED] = np.nan  # what a code stands for, as a share of the bound


class Windows(NamedTuple):
    """A sample to learn from: T events of B windows."""

    inputs: Floats32  # (T, B, F)
    labels: Floats32  # (T, B, Z) change over each horizon in its scale; NaN: masked
    hidden: Floats32  # (B, L, S, H) at each window's start
    since: Ints  # (B,) the step that was the stream's next at the sample before; never: one beyond all


def older(method: Method) -> int:
    """How many events before the newest window the other one ends: H, rounded up to a saved state."""
    return -(-method.longest // SAVE_EVERY) * SAVE_EVERY


def ring(method: Method) -> int:
    """R, events that a row keeps: both windows, and those since the last saved state."""
    return method.window + older(method) + SAVE_EVERY


class Packing(NamedTuple):
    """What is kept in few bits: inputs and labels, hidden states; and the unit of a kept time."""

    numbers: bool
    hidden: bool
    tick_ms: int

    @classmethod
    def of(cls, method: Method) -> "Packing":
        """That of a method; hidden states only where the cell keeps them within one."""
        if method.fine_rings:
            return cls(False, False, 1)
        return cls(True, CELLS[method.cell].bounded, TICK_MS)


def fields(method: Method) -> list[Field]:
    """Rings of the last R events (event n at n mod R) and of the states saved in them."""
    size, z = ring(method), len(method.horizons)
    coarse, state = Packing.of(method), (method.layers, states(method.cell), method.hidden_size)
    number = "i1" if coarse.numbers else "f4"
    return [
        ("window_inputs", number, (size, WIDTH)),
        ("window_labels", number, (size, z)),
        ("window_time", "u4" if method.fine_rings else "u2", (size,)),  # of the week
        ("window_hidden", "i1" if coarse.hidden else "f4", (size // SAVE_EVERY, *state)),
        ("window_from", "i8"),  # event since which the hidden state is unbroken
    ]


def fixed(method: Method) -> Mapping[str, npt.ArrayLike]:
    """How numbers, hidden states and times are kept."""
    numbers, hidden, tick_ms = Packing.of(method)
    return {"packed": numbers, "packed_hidden": hidden, "tick_ms": tick_ms}


@kernel
def label(rows: Rows, events: Events, fixed: Fixed) -> None:
    """Keep the labels that came with event n of its stream; NaN is none."""
    horizons = fixed[0]["horizons"]
    coarse = fixed[0]["packed"]
    for b in range(len(events)):
        n = events[b]["n"]
        label = events[b]["label"]
        labels = rows[events[b]["row"]]["window_labels"]
        for j in range(len(horizons)):
            if abs(label[j]) <= JUMP:
                y = min(max(label[j], -LABEL_CAP), LABEL_CAP)
                if coarse:
                    y = np.copysign(np.rint(np.sqrt(abs(y) / LABEL_CAP) * ROOT), y)
                labels[(n - horizons[j]) % labels.shape[0], j] = y


@kernel
def keep(rows: Rows, events: Events, fixed: Fixed) -> None:
    """Keep an event's inputs and the hidden state before it, which begins anew where the sequence is broken."""
    coarse = fixed[0]["packed"]
    coarse_hidden = fixed[0]["packed_hidden"]
    tick_ms = fixed[0]["tick_ms"]
    for b in range(len(events)):
        event = events[b]
        row = rows[event["row"]]
        n = event["n"]
        x = event["x"]
        labels = row["window_labels"]
        inputs = row["window_inputs"]
        place = n % labels.shape[0]
        labels[place, :] = MASKED if coarse else np.nan
        row["window_time"][place] = event["time_ms"] % WEEK_MS // tick_ms
        for f in range(inputs.shape[1]):
            seen = x[f]
            inputs[place, f] = np.copysign(np.rint(np.sqrt(abs(seen) / CLIP) * ROOT), seen) if coarse else seen
        if event["broken"]:
            row["window_from"] = n
            row["hidden"][:] = 0.0
        if n % SAVE_EVERY == 0:
            saved = row["window_hidden"]
            hidden = row["hidden"]
            at = (n // SAVE_EVERY) % saved.shape[0]
            for layer in range(hidden.shape[0]):
                for state in range(hidden.shape[1]):
                    for i in range(hidden.shape[2]):
                        h = hidden[layer, state, i]
                        saved[at, layer, state, i] = np.rint(h * ROOT) if coarse_hidden else h


@kernel
def heal(rows: Rows, events: Events, _fixed: Fixed) -> None:
    """After event n, begin a hidden state anew that is not finite: it would never come back by itself.

    Of the network's moves, one that is not finite becomes none.
    """
    for b in range(len(events)):
        row = rows[events[b]["row"]]
        move = events[b]["network_move"]
        if not np.isfinite(row["hidden"]).all():
            row["hidden"][:] = 0.0
            row["window_from"] = events[b]["n"] + 1
        for j in range(len(move)):
            if not np.isfinite(move[j]):
                move[j] = 0.0


PART = Part(fields, fixed=fixed, score=(label,), look_ahead=(keep,), step=(heal,))


def unlearnt(windows: Windows, horizons: Floats) -> Windows:
    """Windows that reach beyond those of the sample before, with those labels alone that no sample before had.

    Such labels are of events that no window had reached, or have come since. Other windows have some, of long horizons
    above all: to judge by them takes several times the work, and was no better.
    """
    reached = windows.since // SAVE_EVERY * SAVE_EVERY  # where the newest window ended
    moved = reached < len(windows.inputs)
    inputs, labels = windows.inputs.compress(moved, 1), windows.labels.compress(moved, 1)
    step, since = np.arange(len(inputs))[:, None, None], windows.since[moved, None]
    new = (step >= reached[moved, None]) | (step + horizons >= since)
    return Windows(inputs, np.where(new, labels, np.float32(np.nan)), windows.hidden[moved], windows.since[moved])


def sample(rows: Rows, active: Bools, method: Method, streams: int, seed: int, before: Ints) -> Windows | None:
    """Windows of at most so many active streams, of more drawn by `seed`; None where no stream has one.

    `before` (rows,) are the streams' events at the sample before.

    Two kinds must not teach and are left out: a stream whose value has not changed in all that it keeps (a sensor that
    is stuck), and a window that holds what is not finite.
    """
    begins = rows["count"] // SAVE_EVERY * SAVE_EVERY - method.window  # of the newest window
    able = np.flatnonzero(active & (begins >= rows["window_from"]))
    drawn = able if len(able) <= streams else np.random.default_rng(seed).permutation(able)[: 2 * streams]
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
    coarse = Packing.of(method)
    inputs = np.zeros((*place.shape, method.inputs), np.float32)
    seen = rows["window_inputs"][row, place]
    inputs[:, :, :WIDTH] = PLAIN[seen] * np.float32(CLIP) if coarse.numbers else seen
    inputs[:, :, WIDTH : WIDTH + TIMES] = times(rows["window_time"][row, place].astype(np.int64) * coarse.tick_ms)
    hidden = rows["window_hidden"][row, saved] / np.float32(ROOT if coarse.hidden else 1)
    labels = rows["window_labels"][row, place]
    if coarse.numbers:
        labels = PLAIN[labels] * np.float32(LABEL_CAP)
    fine = np.isfinite(inputs).all((0, 2)) & np.isfinite(hidden).all((1, 2, 3))
    since = np.clip(before[row] - start, 0, ring(method) + method.longest)
    if not fine.any():
        return None
    return Windows(inputs.compress(fine, 1), labels.compress(fine, 1), hidden[fine], since[fine])
