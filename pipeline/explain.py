"""What each expert forecast at a stream's last event and what it weighs, read back from the stream's row.

Moves wait in the row as signed square roots, at most four scales from the mixture's: a forecast that lies nearer is
exact to a two-thousandth of its horizon's scale, to a twenty-fifth in the lite profile.
"""

from typing import NamedTuple

import numpy as np

from pipeline.arrays import Floats
from pipeline.method import Method
from pipeline.parts import experts
from pipeline.parts.mixture import CLIP, LAST, PRIOR


class Opinions(NamedTuple):
    """The experts of the mixture, the last value first, with their forecasts in the value's units."""

    names: list[str]  # (E,)
    forecasts: Floats  # (Z, E)
    weights: Floats  # (Z, E) sum to 1 over E


def opinions(row: np.void, method: Method) -> Opinions:
    """Return what the experts said at the row's last event; there must have been one."""
    n = int(row["count"]) - 1
    assert n >= 0, "a stream without an event has no forecast"
    place = method.pending_start[:-1] + n % method.horizon_array  # (Z,)
    z, unit = row["values"][n % method.longest], row["pending_unit"][place].astype(np.float64)
    mixed = row["pending_move"][place] + _move(row["mixture_withheld"][place], method)  # (Z,) before the guard
    others = mixed[:, None] + _move(row["mixture_apart"][place], method)
    moves = np.insert(others, LAST, 0.0, axis=1)  # (Z, E)
    forecasts = z + moves * unit[:, None]
    if method.transform == "log":
        forecasts = np.exp(np.clip(forecasts, -700, 700))
    names = ["last_value", *(name.removesuffix("_shrunk") for name in experts.mixed(method))]
    return Opinions(names, forecasts, _weights(row, len(names)))


def _move(share: Floats, method: Method) -> Floats:
    """Return the move that a signed square root stands for, in horizon scales."""
    root: Floats = share.astype(np.float64) / method.root
    return root * abs(root) * CLIP


def _weights(row: np.void, many: int) -> Floats:
    regret, variation = (row[name].astype(np.float64) for name in ("mixture_regret", "mixture_variation"))  # (Z, E)
    eta = np.minimum(1.0, np.sqrt(np.log(many) / variation))
    prior = np.ones(many)
    prior[LAST] = PRIOR
    logarithm = np.log(eta * prior) + eta * regret
    shares = np.exp(logarithm - logarithm.max(1, keepdims=True))
    weights: Floats = shares / shares.sum(1, keepdims=True)
    return weights
