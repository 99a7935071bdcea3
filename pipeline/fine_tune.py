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

import torch
from torch import Tensor, nn

from pipeline.model import Network, Shape, Weights, are_finite
from pipeline.windows import Windows

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

    state: Tensor | None  # (3, P) weights of its own and their two moments, in the network's order; None: it begins
    steps: int = 0
    updates: int = 0
    factor: float = 1.0

    @classmethod
    def blank(cls, updates: int = 0, factor: float = 1.0) -> "Optimiser":
        """One that has seen no gradient: it begins with the weights in service."""
        return cls(None, 0, updates, factor)

    def check(self) -> None:
        """Raises ValueError where a number is not finite."""
        if self.state is not None and not are_finite(self.state):
            raise ValueError("the optimiser is not finite")

    def rate(self, learning_rate: float) -> float:
        """Of the next update."""
        rate = learning_rate * self.factor
        return max(rate, min(EARLY * rate, EARLY_MOST)) if self.updates < EARLY_UPDATES else rate


class Report(NamedTuple):
    """What became of an update."""

    outcome: Outcome
    windows: int
    labels: int
    loss: float = float("nan")
    gradient_norm: float = float("nan")  # before clipping
    clipped: bool = False


def fine_tune(
    shape: Shape, weights: Weights, optimiser: Optimiser, windows: Windows, schedule: Schedule
) -> tuple[Weights, Optimiser, Report]:
    """The next weights and optimiser, or the same ones where `report.outcome` is not `updated`."""
    labels = torch.from_numpy(windows.labels)  # (T, B, Z)
    arrived = ~torch.isnan(labels)
    report = Report("too_few_windows", labels.shape[1], int(arrived.sum()))
    if report.labels == 0:
        return weights, optimiser, report
    desk = _desk(shape)
    served = torch.cat([weights[name].flatten() for name in desk.names])
    begin, first, second = (served, *torch.zeros(2, len(served))) if optimiser.state is None else optimiser.state
    desk.weights.copy_(begin)
    desk.gradient.zero_()
    change = desk.network(torch.from_numpy(windows.inputs), torch.from_numpy(windows.hidden))  # (T, B, Z)
    loss = _loss(change, torch.nan_to_num(labels), arrived, shape.horizons)
    loss.backward()  # type: ignore[no-untyped-call]
    norm = float(desk.gradient.norm())
    report = report._replace(loss=float(loss.detach()), gradient_norm=norm, clipped=norm > schedule.clip_norm)
    infinite = bool(torch.isinf(labels).any())  # Huber's gradient would hide it
    if infinite or not (math.isfinite(report.loss) and math.isfinite(norm)):
        return weights, optimiser, report._replace(outcome="nonfinite")
    gradient = desk.gradient * (min(1.0, schedule.clip_norm / norm) if norm > 0 else 1.0)
    steps = optimiser.steps + 1
    first = first.lerp(gradient, 1 - BETA_1)
    second = second.lerp(gradient * gradient, 1 - BETA_2)
    root = (second / (1 - BETA_2**steps)).sqrt() + EPSILON
    own = begin - optimiser.rate(schedule.learning_rate) / (1 - BETA_1**steps) * first / root
    mean = served.lerp(own, 1 / min(MEAN_OVER, steps + 1))  # at first of all, the weights it began with among them
    state = torch.stack([own, first, second])
    if not are_finite(state, mean):
        return weights, optimiser, report._replace(outcome="nonfinite")
    new = {
        name: part.view_as(weights[name]).clone()
        for name, part in zip(desk.names, torch.split(mean, desk.sizes), strict=True)
    }
    factor = min(1.0, optimiser.factor * 2 ** (1 / FORGIVEN_IN))
    after = Optimiser(state, steps, optimiser.updates + 1, factor)
    return new, after, report._replace(outcome="updated")


class _Desk(NamedTuple):
    """A network to go forward with, its weights and gradient as one vector (P,) each, by name one after the other."""

    network: Network
    names: list[str]
    sizes: list[int]
    weights: Tensor
    gradient: Tensor


@cache
def _desk(shape: Shape) -> _Desk:
    """Made once: that costs more than a small update's backward pass."""
    network = Network(shape)
    parameters = dict(network.named_parameters())
    sizes = [p.numel() for p in parameters.values()]
    weights, gradient = torch.zeros(2, sum(sizes))
    for p, mine, by in zip(parameters.values(), weights.split(sizes), gradient.split(sizes), strict=True):
        p.data, p.grad = mine.view_as(p), by.view_as(p)
    return _Desk(network, list(parameters), sizes, weights, gradient)


def _loss(change: Tensor, labels: Tensor, arrived: Tensor, horizons: tuple[int, ...]) -> Tensor:
    """Mean over the labels of each horizon, these weighed by 1 / h."""
    weight = 1 / torch.tensor(horizons)
    each = nn.functional.huber_loss(change, labels, reduction="none", delta=HUBER) * arrived
    mean = each.sum((0, 1)) / arrived.sum((0, 1)).clamp(min=1)  # (Z,)
    return (mean * weight / weight.sum()).sum()
