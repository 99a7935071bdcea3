"""One fine-tune update: truncated back-propagation through the windows of a sample, as a pure function.

Adam (Kingma and Ba 2015) on a Huber loss (1964) of capped labels, the norm of the gradient clipped (Pascanu, Mikolov
and Bengio 2013). Horizon h weighs 1 / h. What is not finite is thrown away. Weights for service are a running mean of
Adam's own (averaging: Polyak and Juditsky 1992; exponential: Kingma and Ba, section 7.2): each of those has seen few
streams last and errs their way.

From a base no one rate is right: where streams are like those it has seen, a high one undoes it. So there a slow chain
of weights is learnt beside the fast one, from a third of the samples, and the weights for service lie between the two
(interpolation: Wortsman et al. 2022, model soups and WiSE-FT), nearer to where the loss has been lower lately on labels
that neither had learnt from (exponentially weighted average: Vovk 1990; judged before learnt: Dawid 1984).
"""

import math
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal, NamedTuple

import numpy as np

from pipeline.arrays import Floats, Floats32
from pipeline.compiled import kernel
from pipeline.learning.windows import Windows, unlearnt
from pipeline.network.model import Network, Shape, Weights

HUBER = 0.5  # horizon scales
EARLY_UPDATES = 1000  # the rate is higher so long
EARLY = 4.0  # times
EARLY_MOST = 8e-3  # but not beyond this
MEAN_OVER = 40  # updates, about
LEAST_FACTOR = 1 / 64  # of the rate, after roll-backs
FORGIVEN_IN = 100  # updates, as one doubling: what was bad once, such as a stuck sensor, is not bad for ever
BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8  # Adam's
SLOW = 0.75  # of the rate, by which the slow chain moves a weight at most
# Updates take turns, because a second gradient and a judgement cost about as much as the update: at a third the slow
# chain learns, at a third both are judged. Windows move every 8 events: in step with turns that come round again, some
# day, and these do not
GOLDEN = (math.sqrt(5) - 1) / 2
SHARES = (1.0, 0.5, 0.25, 0.0)  # of the fast chain, whose losses are compared
JUDGED_OVER = 200  # samples with new labels
SHARPNESS = 5.0  # a loss that is 1 % higher has a weight of 1 / e beside the lowest after 20 such samples
LOSS_MOST = 1e6  # that is told apart: one of 4 is had by forecasting no change
UNJUDGED = (0.0,) * (1 + len(SHARES))

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
    """Adam's state, its steps, all updates ever, the factor of the rate, and what two chains are judged by."""

    # (3, P) weights of its own and their two moments, in the network's order; of two chains (5, P): and the mean of the
    # fast one's, and the slow one; None: it begins
    state: Floats32 | None
    steps: int = 0
    updates: int = 0
    factor: float = 1.0
    judged: tuple[float, ...] = ()  # samples, and the mean loss over them at each of SHARES; empty: there is one chain

    @classmethod
    def blank(cls, updates: int = 0, factor: float = 1.0, two_chains: bool = False) -> "Optimiser":
        """One that has seen no gradient: it begins with the weights in service."""
        return cls(None, 0, updates, factor, UNJUDGED if two_chains else ())

    @classmethod
    def after(cls, updates: int) -> "Optimiser":
        """One for weights that so many updates made before: with two chains, because a high rate may undo them."""
        return cls.blank(two_chains=updates > 0)

    def check(self) -> None:
        """Raises ValueError where a number is not finite."""
        if self.state is not None and not np.isfinite(self.state).all():
            raise ValueError("the optimiser is not finite")

    @property
    def share(self) -> float:
        """That of the fast chain in the weights for service."""
        many, *losses = self.judged
        excess = np.array(losses) / max(min(losses), 1e-12) - 1
        weight = np.exp(-SHARPNESS * many * excess)
        return float(weight @ SHARES / weight.sum())

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
    gradient_norm: float = float("nan")  # before clipping; of two chains the fast one's
    clipped: bool = False  # of two chains either


@np.errstate(all="ignore")  # what is not finite is looked for
def fine_tune(
    shape: Shape, weights: Weights, optimiser: Optimiser, windows: Windows, schedule: Schedule
) -> tuple[Weights, Optimiser, Report]:
    """The next weights and optimiser, or the same ones where `report.outcome` is not `updated`."""
    labels = windows.labels  # (T, B, Z)
    report = Report("too_few_windows", labels.shape[1], int(np.count_nonzero(~np.isnan(labels))))
    if report.labels == 0:
        return weights, optimiser, report
    network, divisors = network_of(shape), np.array(shape.horizons, np.float64)
    served = network.flat(weights)
    nothing = np.zeros_like(served)
    begin = [served, nothing, nothing, *([served, served] if optimiser.judged else [])]
    own, first, second, *chains = begin if optimiser.state is None else optimiser.state
    loss, norm, gradient = _gradient(network, own, windows, divisors, schedule.clip_norm)
    report = report._replace(loss=loss, gradient_norm=norm, clipped=norm > schedule.clip_norm)
    if not (math.isfinite(loss) and math.isfinite(norm)):
        return weights, optimiser, report._replace(outcome="nonfinite")
    steps = optimiser.steps + 1
    own, first, second = adam(own, first, second, gradient, steps, optimiser.rate(schedule.learning_rate))
    factor = min(1.0, optimiser.factor * 2 ** (1 / FORGIVEN_IN))
    after = Optimiser(None, steps, optimiser.updates + 1, factor, optimiser.judged)
    over = np.float32(min(MEAN_OVER, steps + 1))  # at first of all, those it began with among them
    if chains:
        fast, slow = chains  # (P,) each
        turn = after.updates * GOLDEN % 1
        if turn < 1 / 3:
            _, norm, gradient = _gradient(network, slow, windows, divisors, schedule.clip_norm)
            report = report._replace(clipped=report.clipped or norm > schedule.clip_norm)
            rate = SLOW * schedule.learning_rate * optimiser.factor
            slow = slow - np.float32(rate) * np.clip(gradient / _root(second, steps), -1, 1)
        elif turn < 2 / 3:
            after = replace(after, judged=_judge(network, fast, slow, windows, divisors, optimiser.judged))
        fast = np.asarray(fast + (own - fast) / over, np.float32)
        if not np.isfinite(slow).all() or after.judged[-1] >= LOSS_MOST / JUDGED_OVER:  # lost: it begins anew
            slow, after = fast, replace(after, judged=UNJUDGED)
        chains, mean = [fast, slow], _between(slow, fast, after.share)
    else:
        mean = served + (own - served) / over
    state = np.stack([own, first, second, *chains])
    if not (np.isfinite(state).all() and np.isfinite(mean).all()):
        return weights, optimiser, report._replace(outcome="nonfinite")
    return network.named(mean), replace(after, state=state), report._replace(outcome="updated")


def _gradient(
    network: Network, vector: Floats32, windows: Windows, divisors: Floats, clip_norm: float
) -> tuple[float, float, Floats32]:
    """The loss of these weights (P,), the norm of its gradient, and that gradient (P,), clipped."""
    network.put(vector)
    change, _, back = network.vjp(windows.inputs, windows.hidden)
    d_change = np.empty_like(change)
    loss = huber(change, windows.labels, divisors, d_change)
    gradient = back(d_change)
    norm = float(np.linalg.norm(gradient))
    gradient *= min(1.0, clip_norm / norm) if norm > 0 else 1.0
    return loss, norm, gradient


def _judge(
    network: Network, fast: Floats32, slow: Floats32, windows: Windows, divisors: Floats, before: tuple[float, ...]
) -> tuple[float, ...]:
    """`Optimiser.judged` after the losses on what no chain has learnt from; the same where there is nothing of it."""
    new = unlearnt(windows, divisors)
    if np.isnan(new.labels).all():
        return before
    many = min(before[0] + 1, JUDGED_OVER)
    losses = []
    for share, mean in zip(SHARES, before[1:], strict=True):
        network.put(_between(slow, fast, share))
        change, *_ = network.vjp(new.inputs, new.hidden)
        loss = huber(change, new.labels, divisors, np.empty_like(change))
        losses.append(mean + ((loss if loss < LOSS_MOST else LOSS_MOST) - mean) / many)
    return many, *losses


def _between(slow: Floats32, fast: Floats32, share: float) -> Floats32:
    """Weights on the straight line between those of two chains."""
    return np.asarray(np.float32(share) * fast + np.float32(1 - share) * slow)


def adam(
    own: Floats32, first: Floats32, second: Floats32, gradient: Floats32, steps: int, rate: float
) -> tuple[Floats32, Floats32, Floats32]:
    """The step number `steps`, from 1: weights (P,) and their two moments after it."""
    first = BETA_1 * first + (1 - BETA_1) * gradient
    second = BETA_2 * second + (1 - BETA_2) * gradient * gradient
    return own - rate / (1 - BETA_1**steps) * first / _root(second, steps), first, second


def _root(second: Floats32, steps: int) -> Floats32:
    """What Adam divides by: the gradient's usual size, from its second moment."""
    return np.asarray(np.sqrt(second / (1 - BETA_2**steps)) + EPSILON)


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
