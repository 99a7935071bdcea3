"""One fine-tune update: truncated back-propagation through the windows of a sample, as a pure function.

Adam (Kingma and Ba 2015) on a Huber loss (1964) of capped labels, the norm of the gradient clipped (Pascanu, Mikolov
and Bengio 2013). Horizon h weighs 1 / h. What is not finite is thrown away. Weights for service are a running mean of
Adam's own (averaging: Polyak and Juditsky 1992; exponential: Kingma and Ba, section 7.2): each of those has seen few
streams last and errs their way.
"""

import math
from dataclasses import dataclass
from functools import cache
from typing import Literal, NamedTuple

import numpy as np

from pipeline.arrays import Floats, Floats32
from pipeline.compiled import kernel
from pipeline.learning.windows import Windows
from pipeline.network.model import Network, Shape, Weights

HUBER = 0.5  # horizon scales
EARLY_UPDATES = 1000  # the rate is higher so long
EARLY = 4.0  # times
EARLY_MOST = 8e-3  # but not beyond this
MEAN_OVER = 40  # updates, about
LEAST_FACTOR = 1 / 64  # of the rate, after roll-backs
FORGIVEN_IN = 100  # updates, as one doubling: what was bad once, such as a stuck sensor, is not bad for ever
BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8  # Adam's

Outcome = Literal["updated", "nonfinite", "too_few_windows"]


@dataclass(frozen=True)
class Schedule:
    """How a shard learns. The rate is Adam's; `clip_norm` bounds the gradient's norm."""

    every_events: int = 64
    streams: int = 64
    learning_rate: float = 2e-3
    clip_norm: float = 1.0

    def interval(self, active: int) -> int:
        """Events of a shard between two updates: every 2 to 8 events of each active stream."""
        return min(max(self.every_events, 2 * active), 8 * active)


@dataclass(frozen=True)
class Optimiser:
    """Adam's state, its steps, all updates ever, and the factor of the rate."""

    state: Floats32 | None  # (3, P) weights of its own and their two moments, in the network's order; None: it begins
    steps: int = 0
    updates: int = 0
    factor: float = 1.0

    @classmethod
    def blank(cls, updates: int = 0, factor: float = 1.0) -> "Optimiser":
        """One that has seen no gradient: it begins with the weights in service."""
        return cls(None, 0, updates, factor)

    @classmethod
    def after(cls, updates: int) -> "Optimiser":
        """One for weights that so many updates made before: the high early rate would undo them."""
        return cls.blank(max(updates, EARLY_UPDATES) if updates else 0)

    def check(self) -> None:
        """Raises ValueError where a number is not finite."""
        if self.state is not None and not np.isfinite(self.state).all():
            raise ValueError("the optimiser is not finite")

    def rate(self, learning_rate: float) -> float:
        """The learning rate of the next update."""
        rate = learning_rate * self.factor
        return max(rate, min(EARLY * rate, EARLY_MOST)) if self.updates < EARLY_UPDATES else rate


class Report(NamedTuple):
    """How an update ended, and with what gradient."""

    outcome: Outcome
    windows: int
    labels: int
    loss: float = float("nan")
    gradient_norm: float = float("nan")  # before clipping
    clipped: bool = False


@np.errstate(all="ignore")  # what is not finite is looked for
def fine_tune(
    shape: Shape, weights: Weights, optimiser: Optimiser, windows: Windows, schedule: Schedule
) -> tuple[Weights, Optimiser, Report]:
    """The next weights and optimiser, or the same ones where `report.outcome` is not `updated`."""
    labels = windows.labels  # (T, B, Z)
    report = Report("too_few_windows", labels.shape[1], int(np.count_nonzero(~np.isnan(labels))))
    if report.labels == 0:
        return weights, optimiser, report
    network = network_of(shape)
    served = network.flat(weights)
    nothing = np.zeros_like(served)
    begin, first, second = (served, nothing, nothing) if optimiser.state is None else optimiser.state
    network.put(begin)
    change, _, back = network.vjp(windows.inputs, windows.hidden)
    d_change = np.empty_like(change)
    loss = huber(change, labels, np.array(shape.horizons, np.float64), d_change)
    gradient = back(d_change)
    norm = float(np.linalg.norm(gradient))
    report = report._replace(loss=loss, gradient_norm=norm, clipped=norm > schedule.clip_norm)
    if not (math.isfinite(loss) and math.isfinite(norm)):
        return weights, optimiser, report._replace(outcome="nonfinite")
    steps = optimiser.steps + 1
    gradient *= min(1.0, schedule.clip_norm / norm) if norm > 0 else 1.0
    own, first, second = adam(begin, first, second, gradient, steps, optimiser.rate(schedule.learning_rate))
    over = min(MEAN_OVER, steps + 1)  # at first of all, those it began with among them
    mean: Floats32 = served + (own - served) / np.float32(over)
    state = np.stack([own, first, second])
    if not (np.isfinite(state).all() and np.isfinite(mean).all()):
        return weights, optimiser, report._replace(outcome="nonfinite")
    factor = min(1.0, optimiser.factor * 2 ** (1 / FORGIVEN_IN))
    after = Optimiser(state, steps, optimiser.updates + 1, factor)
    return network.named(mean), after, report._replace(outcome="updated")


def adam(
    own: Floats32, first: Floats32, second: Floats32, gradient: Floats32, steps: int, rate: float
) -> tuple[Floats32, Floats32, Floats32]:
    """The step number `steps`, from 1: weights (P,) and their two moments after it."""
    first = BETA_1 * first + (1 - BETA_1) * gradient
    second = BETA_2 * second + (1 - BETA_2) * gradient * gradient
    root = np.sqrt(second / (1 - BETA_2**steps)) + EPSILON
    return own - rate / (1 - BETA_1**steps) * first / root, first, second


@cache
def network_of(shape: Shape) -> Network:
    """One to compute with. Made once: that costs more than a small update."""
    return Network(shape)


@kernel
def huber(
    change: Floats32,  # (T, B, Z)
    labels: Floats32,  # (T, B, Z), NaN: none
    divisors: Floats,  # (Z,) horizon j weighs 1 / divisors[j] beside the others
    d_change: Floats32,  # (T, B, Z) out: the loss by each change
) -> float:
    """Mean loss over the labels of each horizon, these weighed."""
    n = np.zeros(len(divisors))
    for t in range(len(labels)):
        for b in range(labels.shape[1]):
            for j in range(len(divisors)):
                n[j] += not np.isnan(labels[t, b, j])
    weight = 1.0 / divisors
    weight /= weight.sum() * np.maximum(n, 1.0)
    loss = 0.0
    for t in range(len(labels)):
        for b in range(labels.shape[1]):
            for j in range(len(divisors)):
                d_change[t, b, j] = 0.0
                if not np.isnan(labels[t, b, j]):
                    error = change[t, b, j] - labels[t, b, j]
                    cut = min(max(error, -HUBER), HUBER)
                    loss += weight[j] * cut * (error - 0.5 * cut)
                    d_change[t, b, j] = weight[j] * cut
    return loss
