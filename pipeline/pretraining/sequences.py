"""What a fold gave to learn from: inputs and labels of every event, one sequence after the other.

A sequence is a run of one stream's events through which its hidden state is unbroken. Time is held out from some moment
on: no label from there on is learnt from, and forecasts made from there on are those that are scored.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pipeline.arrays import Bools, Events, Fixed, Floats32, Ints, Rows
from pipeline.learning.windows import JUMP, LABEL_CAP
from pipeline.method import Method
from pipeline.parts.features import WIDTH

FIRST_ROOM = 1 << 14  # events
COPIES = 5  # of what is kept of an event, at most: rooms it grows out of and into, in order, as sequences


class Sequences(NamedTuple):
    """N events of S sequences."""

    inputs: Floats32  # (N, F)
    labels: Floats32  # (N, Z) change over each horizon in its scale, to learn from; NaN: none
    held_out: Floats32  # (N, Z) the same, to score; NaN: none
    begins: Ints  # (S + 1,) where each sequence begins, and N
    turned: Floats32  # (F,) -1 for inputs that change their sign where the values' does, else 1

    @classmethod
    def joined(cls, several: Sequence["Sequences"]) -> "Sequences":
        """Those of several folds, at least one."""
        ends = np.cumsum([0, *(len(one.inputs) for one in several)])
        begins = [one.begins[:-1] + end for one, end in zip(several, ends[:-1], strict=True)]
        return cls(
            np.concatenate([one.inputs for one in several]),
            np.concatenate([one.labels for one in several]),
            np.concatenate([one.held_out for one in several]),
            np.concatenate([*begins, ends[-1:]]),
            several[0].turned,
        )


class Collector:
    """A verb for the end of every wave: it keeps what the network saw of an event, and the moves that came with it."""

    def __init__(self, method: Method) -> None:
        self._horizons = method.horizon_array
        self._turned = np.where(np.arange(method.inputs) < WIDTH, -1, 1).astype(np.float32)
        fields = [("row", "i8"), ("n", "i8"), ("time_ms", "i8"), ("broken", "?")]
        arrays = [("x", "f4", (method.inputs,)), ("label", "f4", (len(method.horizons),))]
        self._kept: Events = np.zeros(FIRST_ROOM, [*fields, *arrays])
        self._events = 0

    @property
    def event_bytes(self) -> int:
        """The most memory that an event takes until sequences are made of it."""
        return COPIES * self._kept.itemsize

    def __call__(self, _rows: Rows, events: Events, _fixed: Fixed) -> None:
        """Keep a wave's events (n,)."""
        end = self._events + len(events)
        if end > len(self._kept):
            self._kept = np.resize(self._kept, max(end, 2 * len(self._kept)))
        some = self._kept[self._events : end]
        for name in some.dtype.names or ():
            some[name] = events[name]
        self._events = end

    def sequences(self, held_out: float) -> Sequences:
        """What there is to learn from, the last share of the events' time held out."""
        kept = self._kept[: self._events]
        kept = kept[np.argsort(kept["row"], kind="stable")]
        follows = np.zeros(len(kept), bool)  # the event before it in its stream's life
        follows[1:] = (kept["row"][1:] == kept["row"][:-1]) & (kept["n"][1:] == kept["n"][:-1] + 1)
        begins = np.flatnonzero(~follows | kept["broken"])
        fine = np.isfinite(kept["x"]).all(1)[:, None]  # what is not must not teach
        moment_ms = _moment(kept["time_ms"], held_out)
        label, late = self._to_come(kept, follows, moment_ms)
        made_late = kept["time_ms"] >= moment_ms
        return Sequences(
            np.where(fine, kept["x"], np.float32(0)),
            np.where(fine & ~late, label, np.float32(np.nan)),
            np.where(fine & made_late[:, None], label, np.float32(np.nan)),
            np.append(begins, len(kept)).astype(np.int64),
            self._turned,
        )

    def _to_come(self, kept: Events, follows: Bools, moment_ms: float) -> tuple[Floats32, Bools]:
        """The label (N, Z) that came after each event, and whether (N, Z) it came at the moment or later."""
        life = np.cumsum(~follows)
        label = np.full((len(kept), len(self._horizons)), np.nan, np.float32)
        late = np.zeros(label.shape, bool)
        for j, h in enumerate(self._horizons.tolist()):
            came = kept["label"][h:, j]
            same = (life[h:] == life[:-h]) & (np.abs(came) <= JUMP)
            label[:-h, j] = np.where(same, np.clip(came, -LABEL_CAP, LABEL_CAP), np.nan)
            late[:-h, j] = kept["time_ms"][h:] >= moment_ms
        return label, late


def _moment(time_ms: Ints, held_out: float) -> float:
    """The time from which on so large a share of the events lies; none where there is no event."""
    return float(np.quantile(time_ms, 1 - held_out)) if len(time_ms) and held_out > 0 else np.inf
