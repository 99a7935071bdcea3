"""The built-in corpus: synthetic families and open data, each a source of its own with series that are held out."""

from collections.abc import Iterator, Sequence

import numpy as np
from tqdm import tqdm

from pipeline.corpus.clock import Series
from pipeline.corpus.families import FAMILIES, series
from pipeline.method import Method
from pipeline.pretraining.folding import folded
from pipeline.pretraining.sequences import Sequences
from worker.backtest.run import QUIET_S
from worker.pretrain.reading import Source

EVENTS = 2_000  # of a series, at most
LEARNT, HELD_OUT = 96, 16  # series of a family
PIECES = 12  # of a long series, at most; they are spread over it
HELD_OUT_EVERY = 6  # series of open data, or the last where there are fewer


def synthetic(method: Method, seed: int) -> Iterator[Source]:
    """Yield the families one by one, each with as many series."""
    total = len(FAMILIES) * (LEARNT + HELD_OUT) * EVENTS
    with tqdm(total=total, unit=" events", unit_scale=True, delay=QUIET_S, disable=None) as bar:
        for family in FAMILIES:
            bar.set_description(family)
            made = [*series(family, seed, LEARNT + HELD_OUT, EVENTS)]
            parts = [folded(made[:LEARNT], method, 0, bar.update), folded(made[LEARNT:], method, 1, bar.update)]
            yield Source(family, len(made), Sequences.joined(parts))


def of_data(name: str, data: Sequence[Series], method: Method) -> Source:
    """Make a source of open data: every sixth series is held out whole, long ones are cut."""
    learnt, held_out = list[Series](), list[Series]()
    for number, one in enumerate(data, 1):
        some = held_out if number % min(HELD_OUT_EVERY, len(data)) == 0 else learnt
        begins = np.arange(0, max(1, len(one.value) - EVENTS + 1), EVENTS)
        chosen = begins[np.linspace(0, len(begins) - 1, min(PIECES, len(begins))).astype(np.int64)]
        some += [Series(one.time_ms[at : at + EVENTS], one.value[at : at + EVENTS]) for at in chosen.tolist()]
    parts = [folded(learnt, method, 0), folded(held_out, method, 1)]
    return Source(name, len(data), Sequences.joined(parts))
