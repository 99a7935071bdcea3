"""Pieces of sequences side by side, in lanes: where one ends, the next one that waits begins."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from pipeline.arrays import Bools, Floats32, Ints
from pipeline.pretraining.sequences import Sequences


class Stretch(NamedTuple):
    """The next T timesteps of B lanes."""

    places: Ints  # (T, B) of events; -1: none, the piece has ended
    anew: Bools  # (B,) lanes in which a piece begins
    flipped: Bools  # (B,) lanes whose piece is upside down

    def take(self, data: Sequences, labels: Floats32) -> tuple[Floats32, Floats32]:
        """Inputs (T, B, F) and labels (T, B, Z); where there is no event, 0 and NaN."""
        x, y = data.inputs[self.places], labels[self.places]
        x[:, self.flipped] *= data.turned
        y[:, self.flipped] *= -1
        x[self.places < 0], y[self.places < 0] = 0.0, np.nan
        return x, y


def shuffled(data: Sequences, longest: int, rng: np.random.Generator) -> Ints:
    """All sequences in pieces (K, 3) of begin, end and whether upside down, cut and in order as drawn."""
    pieces = []
    for begin, end in zip(data.begins[:-1].tolist(), data.begins[1:].tolist(), strict=True):
        cuts = np.arange(begin + rng.integers(longest // 2, longest + 1), end, longest)
        edges = np.concatenate([[begin], cuts, [end]])
        pieces.append(np.stack([edges[:-1], edges[1:], rng.integers(0, 2, len(edges) - 1)], 1))
    return rng.permutation(np.concatenate(pieces)).astype(np.int64)


def held_out(data: Sequences) -> Ints:
    """Sequences (K, 3) from their first event to the last one with something held out; those that have none not."""
    scored = np.append(np.flatnonzero(~np.isnan(data.held_out).all(1)), len(data.inputs))
    newest = scored[np.searchsorted(scored, data.begins[1:]) - 1] + 1
    pieces = np.stack([data.begins[:-1], newest, np.zeros_like(newest)], 1)
    return pieces[(newest > data.begins[:-1]) & (newest <= data.begins[1:])]


def side_by_side(pieces: Ints, lanes: int, steps: int) -> Iterator[Stretch]:
    """Yield stretches of so many timesteps until all pieces (K, 3) have gone through the lanes."""
    at, end, flipped = np.zeros(lanes, np.int64), np.zeros(lanes, np.int64), np.zeros(lanes, bool)
    waiting = iter(pieces.tolist())
    while True:
        anew = at >= end
        for lane, (first, last, upside_down) in zip(np.flatnonzero(anew).tolist(), waiting):  # noqa: B905
            at[lane], end[lane], flipped[lane] = first, last, bool(upside_down)
        if (at >= end).all():
            return
        places = at + np.arange(steps)[:, None]
        yield Stretch(np.where(places < end, places, -1), anew, flipped.copy())
        at = np.minimum(at + steps, end)
