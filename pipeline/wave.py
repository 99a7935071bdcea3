"""One wave through the method: the order that is law, by verb and, within each, by part.

A wave is events that are stepped together, at most one per row. What goes from one part to the next stands in an
event's record (records.py); equations are in the parts' docstrings. A move is a change from z in units of a horizon's
scale c_h; a label is the move that came.
"""

import numpy as np
import numpy.typing as npt

from pipeline.arrays import Events, Fixed, Ints, Rows
from pipeline.method import Method
from pipeline.network.model import Network
from pipeline.parts import scales
from pipeline.parts.part import Verb
from pipeline.records import event, fixed, parts_of, published
from pipeline.table import Table

VERBS = (
    "arrive",  # the event is counted, and what its value counts as
    "follow",  # a level that broke: what is remembered moves with it
    "score",  # the forecasts whose label it is
    "learn",  # from labels and the value
    "measure",  # scales come after what is learnt in them
    "look_ahead",  # what the season has there, and what the network sees
    "step",  # the network, one timestep
    "forecast",  # experts, stacked, mixed; bands; all of it put where it waits for its label
)
AT_ONCE = 256  # events: what goes from part to part stays in the cache


def waves_of(turn: Ints) -> list[Ints]:
    """Places of the events of each wave, given the turns (n,) of events within their row."""
    if len(turn) <= 1 or not turn.any():
        return [np.arange(len(turn))] if len(turn) else []
    return np.split(np.argsort(turn, kind="stable"), np.cumsum(np.bincount(turn))[:-1])


class Wave:
    """The law for one shard: its table begins rows anew, its network steps."""

    def __init__(self, method: Method, table: Table, network: Network) -> None:
        self._fixed = fixed(method)
        # Not methods of ours: a wave that refers to itself would keep a dropped shard's table
        own: dict[str, list[Verb]] = {"arrive": [_begins_anew(table)], "step": [_steps(network)]}
        self._law: list[Verb] = []
        for verb in VERBS:
            self._law += own.get(verb, [])
            for part in parts_of(method):
                self._law += getattr(part, verb)
        if method.transform == "log":
            self._law.append(_exponentiate)
        whole = event(method)
        room = np.zeros(AT_ONCE * whole.itemsize, np.uint8)
        self._events: Events = room.view(whole)
        self._first = np.ndarray(AT_ONCE, _bytes_of(method), room.data, strides=(whole.itemsize,))
        self.stepped = self._events[:0]  # whole records of those stepped last, until others are

    def then(self, do: Verb) -> None:
        """Call this, too, at the end of each wave; it changes nothing."""
        self._law.append(do)

    def forecast(self, rows: Rows, events: Events, places: Ints, parts: npt.NDArray[np.float64]) -> None:
        """Step the events (n,) at these places: fill in what is published, and parts (n, Z, X), the experts' own."""
        handed = events.view(self._first.dtype)
        for low in range(0, len(places), AT_ONCE):
            some = places[low : low + AT_ONCE]
            n = len(some)
            self._first[:n] = handed[some]
            wave = self.stepped = self._events[:n]
            for do in self._law:
                do(rows, wave, self._fixed)
            handed[some] = self._first[:n]
            if parts.shape[2]:
                parts[some] = wave["parts"]


def _begins_anew(table: Table) -> Verb:
    def _begin_anew(rows: Rows, events: Events, fixed: Fixed) -> None:
        if scales.absurd_start(rows, events, fixed):
            for row in events["row"][events["absurd"]].tolist():
                table.begin_anew(row)

    return _begin_anew


def _steps(network: Network) -> Verb:
    def _step(rows: Rows, events: Events, _fixed: Fixed) -> None:
        """The network wants its inputs and hidden states one after the other: copied once."""
        r, hidden = events["row"], rows["hidden"]  # (R, L, S, H)
        events["network_move"], hidden[r] = network.step(np.ascontiguousarray(events["x"]), hidden[r])

    return _step


def _exponentiate(_rows: Rows, events: Events, _fixed: Fixed) -> None:
    """From logarithms to the value's units."""
    for field in ("mean", "quantiles", "parts", "expected"):
        events[field] = np.exp(np.clip(events[field], -700, 700))


def _bytes_of(method: Method) -> np.dtype[np.void]:
    """What is published of an event, as bytes: copied at once, not field by field."""
    return np.dtype(f"V{published(method).itemsize}")
