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
from torch.nn.utils import parameters_to_vector

from pipeline.model import Network, Shape, Weights
from pipeline.windows import Windows

HUBER = 0.5  # horizon scales
EARLY_UPDATES = 1000  # the rate is higher so long
EARLY = 4.0  # times
EARLY_MOST = 8e-3  # but not beyond this
MEAN_OVER = 40  # updates, about
LEAST_FACTOR = 1 / 64
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
        if self.state is not None and not torch.isfinite(self.state).all():
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
    network = _network(shape)
    parameters = dict(network.named_parameters())
    served = parameters_to_vector(weights[name] for name in parameters)
    begin, first, second = (served, *torch.zeros(2, len(served))) if optimiser.state is None else optimiser.state
    network.hold(begin)
    network.zero_grad()
    labels = torch.from_numpy(windows.labels)  # (T, B, Z)
    arrived = ~torch.isnan(labels)
    report = Report("too_few_windows", labels.shape[1], int(arrived.sum()))
    if report.labels == 0:
        return weights, optimiser, report
    change = network(torch.from_numpy(windows.inputs), torch.from_numpy(windows.hidden))  # (T, B, Z)
    loss = _loss(change, torch.nan_to_num(labels), arrived, shape.horizons)
    loss.backward()  # type: ignore[no-untyped-call]
    gradient = parameters_to_vector(p.grad for p in parameters.values() if p.grad is not None)
    norm = float(gradient.norm())
    report = report._replace(loss=float(loss.detach()), gradient_norm=norm, clipped=norm > schedule.clip_norm)
    infinite = bool(torch.isinf(labels).any())  # Huber's gradient would hide it
    if infinite or not (math.isfinite(report.loss) and math.isfinite(norm)):
        return weights, optimiser, report._replace(outcome="nonfinite")
    gradient *= min(1.0, schedule.clip_norm / norm) if norm > 0 else 1.0
    steps = optimiser.steps + 1
    first = first.lerp(gradient, 1 - BETA_1)
    second = second.lerp(gradient * gradient, 1 - BETA_2)
    root = (second / (1 - BETA_2**steps)).sqrt() + EPSILON
    own = begin - optimiser.rate(schedule.learning_rate) / (1 - BETA_1**steps) * first / root
    mean = served.lerp(own, 1 / min(MEAN_OVER, steps + 1))  # at first of all, the weights it began with among them
    state = torch.stack([own, first, second])
    if not (torch.isfinite(state).all() and torch.isfinite(mean).all()):
        return weights, optimiser, report._replace(outcome="nonfinite")
    parts = torch.split(mean, [p.numel() for p in parameters.values()])
    new = {name: part.view(p.shape).clone() for (name, p), part in zip(parameters.items(), parts, strict=True)}
    after = Optimiser(state, steps, optimiser.updates + 1, optimiser.factor)
    return new, after, report._replace(outcome="updated")


@cache
def _network(shape: Shape) -> Network:
    """To take weights: making one costs more than a small update's backward pass."""
    return Network(shape)


def _loss(change: Tensor, labels: Tensor, arrived: Tensor, horizons: tuple[int, ...]) -> Tensor:
    """Mean over the labels of each horizon, these weighed by 1 / h."""
    weight = 1 / torch.tensor(horizons)
    each = nn.functional.huber_loss(change, labels, reduction="none", delta=HUBER) * arrived
    mean = each.sum((0, 1)) / arrived.sum((0, 1)).clamp(min=1)  # (Z,)
    return (mean * weight / weight.sum()).sum()
