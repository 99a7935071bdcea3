"""One fine-tune update: truncated back-propagation through the windows of a sample, as a pure function.

Adam (Kingma and Ba 2015) on a Huber loss (1964) of capped labels, the norm of the gradient clipped (Pascanu, Mikolov
and Bengio 2013). Horizon h weighs 1 / h. What is not finite is thrown away.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from pipeline.method import Cell
from pipeline.model import Network, Shape, Weights, are_finite
from pipeline.windows import Windows

HUBER = 0.5  # horizon scales
EARLY_UPDATES = 1000  # the rate is higher so long
EARLY: dict[Cell, float] = {
    "gru": 2.0,
    "lstm": 2.0,
    "rnn_tanh": 3.0,
    "rnn_relu": 3.0,
}  # times; no gate helps the latter
LEAST_FACTOR = 1 / 64

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
    """Adam's moments by weight (empty: it begins), its steps, all updates ever, and the factor of the rate."""

    first: Mapping[str, Tensor]
    second: Mapping[str, Tensor]
    steps: int = 0
    updates: int = 0
    factor: float = 1.0

    @classmethod
    def blank(cls, updates: int = 0, factor: float = 1.0) -> "Optimiser":
        """One that has seen no gradient."""
        return cls({}, {}, 0, updates, factor)

    def rate(self, learning_rate: float, cell: Cell) -> float:
        """Of the next update."""
        return learning_rate * self.factor * (EARLY[cell] if self.updates < EARLY_UPDATES else 1)


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
    network.take(weights)
    network.zero_grad()
    labels = torch.from_numpy(windows.labels)  # (T, B, Z)
    arrived = ~torch.isnan(labels)
    report = Report("too_few_windows", labels.shape[1], int(arrived.sum()))
    if report.labels == 0:
        return weights, optimiser, report
    change, _ = network(torch.from_numpy(windows.inputs), torch.from_numpy(windows.hidden))  # (T, B, Z)
    loss = _loss(change, torch.nan_to_num(labels), arrived, shape.horizons)
    loss.backward()  # type: ignore[no-untyped-call]
    parameters = dict(network.named_parameters())
    norm = float(nn.utils.clip_grad_norm_(parameters.values(), schedule.clip_norm))
    report = report._replace(loss=float(loss.detach()), gradient_norm=norm, clipped=norm > schedule.clip_norm)
    infinite = bool(torch.isinf(labels).any())  # Huber's gradient would hide it
    if infinite or not (math.isfinite(report.loss) and math.isfinite(norm)):
        return weights, optimiser, report._replace(outcome="nonfinite")
    adam = _adam(parameters, optimiser, optimiser.rate(schedule.learning_rate, shape.cell))
    adam.step()
    new = {name: p.detach().clone() for name, p in parameters.items()}
    moments = {name: adam.state[p] for name, p in parameters.items()}
    first = {name: state["exp_avg"] for name, state in moments.items()}
    second = {name: state["exp_avg_sq"] for name, state in moments.items()}
    if not all(are_finite(part) for part in (new, first, second)):
        return weights, optimiser, report._replace(outcome="nonfinite")
    after = replace(optimiser, first=first, second=second, steps=optimiser.steps + 1, updates=optimiser.updates + 1)
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


def _adam(parameters: dict[str, nn.Parameter], optimiser: Optimiser, rate: float) -> torch.optim.Adam:
    adam = torch.optim.Adam(parameters.values(), lr=rate)
    if optimiser.steps:
        for name, parameter in parameters.items():
            adam.state[parameter] = {
                "step": torch.tensor(float(optimiser.steps)),
                "exp_avg": optimiser.first[name].clone(),
                "exp_avg_sq": optimiser.second[name].clone(),
            }
    return adam
