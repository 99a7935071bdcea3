"""Training on sequences: stateful truncated back-propagation through all of them, epoch after epoch.

Pieces of sequences go side by side, some timesteps at a time; a hidden state goes on from where the timesteps before
left it, a gradient does not (Williams and Peng 1990). Loss and Adam are those of a fine-tune update. What counts is a
running mean of the weights, as it was after the epoch that was best on held-out time (early stopping: Prechelt 1998).
Half of the pieces are learnt upside down: what is true of a value's moves is true of their negatives.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from pipeline.arrays import Floats, Floats32, Ints
from pipeline.learning.fine_tune import HUBER, adam, huber
from pipeline.network.cells import states
from pipeline.network.model import Network, Shape
from pipeline.pretraining import lanes
from pipeline.pretraining.sequences import Sequences

SCORED_LANES, SCORED_STEPS = 64, 128


@dataclass(frozen=True)
class Schedule:
    """How a training goes. The rate is Adam's; `clip_norm` bounds the gradient's norm."""

    lanes: int = 32  # pieces side by side
    steps: int = 48  # timesteps back-propagated through
    piece: int = 1024  # events, at most
    learning_rate: float = 4e-3
    clip_norm: float = 1.0
    warm_up: int = 100  # updates over which the rate rises
    mean_over: int = 200  # updates, about
    patience: int = 8  # epochs without a better one before the end
    epochs: int = 100  # at most
    cool_down: int = 0  # epochs, the last ones, over which the rate falls
    seed: int = 0

    def rate(self, epoch: int, updates: int) -> float:
        """Adam's at the update number `updates`, from 1, of the epoch number `epoch`, from 0."""
        return self.learning_rate * min(1.0, updates / self.warm_up, (self.epochs - epoch) / (self.cool_down + 1))


@dataclass(frozen=True)
class Score:
    """How good weights are on held-out time. Errors are squared, in horizon scales, labels capped."""

    labels: Ints  # (Z,)
    error: Floats  # (Z,) the network's
    last_value: Floats  # (Z,)
    loss: float  # what the training makes small

    @property
    def ratio(self) -> Floats:
        """(Z,) the network's error by the last value's; NaN where there is nothing to tell by."""
        return np.divide(self.error, self.last_value, np.full_like(self.error, np.nan), where=self.last_value > 0)


@dataclass(frozen=True)
class State:
    """Where a training is between two epochs. Vectors (P,) are in the network's order."""

    own: Floats32  # Adam's weights
    first: Floats32
    second: Floats32
    mean: Floats32
    best: Floats32
    best_loss: float
    best_epoch: int = 0
    epoch: int = 0
    updates: int = 0
    best_updates: int = 0

    def over(self, schedule: Schedule) -> bool:
        """Whether there is nothing more to do."""
        return self.epoch >= min(schedule.epochs, self.best_epoch + schedule.patience)


class TrainingError(Exception):
    """The training cannot begin or go on; the message is one sentence."""


def begin(network: Network, data: Sequences) -> State:
    """Before the first epoch, with the network's weights. Raises TrainingError where nothing is there to learn from."""
    if np.isnan(data.labels).all() or np.isnan(data.held_out).all():
        raise TrainingError("the history leaves nothing to learn from or nothing to score: give a longer one")
    own = network.flat(network.weights)
    nothing = np.zeros_like(own)
    return State(own, nothing, nothing, own, own, score(network, own, data).loss)


def next_epoch(
    network: Network, data: Sequences, before: State, schedule: Schedule, done: Callable[[int], object] = int
) -> State:
    """One epoch more, the same from the same state; `done` is told of events. Raises TrainingError."""
    rng = np.random.default_rng((schedule.seed, before.epoch))
    pieces = lanes.shuffled(data, schedule.piece, rng)
    many = min(schedule.lanes, len(pieces))
    hidden, after = _blank(network.shape, many), before
    for stretch in lanes.side_by_side(pieces, many, schedule.steps):
        hidden[stretch.anew] = 0.0
        x, y = stretch.take(data, data.labels)
        network.put(after.own)
        change, hidden, back = network.vjp(x, hidden)
        if not np.isnan(y).all():
            after = _updated(after, change, y, back, schedule, network.shape)
        done(int((stretch.places >= 0).sum()))
    loss = score(network, after.mean, data).loss
    after = replace(after, epoch=before.epoch + 1)
    if loss >= before.best_loss:
        return after
    return replace(after, best=after.mean, best_loss=loss, best_epoch=after.epoch, best_updates=after.updates)


def _updated(
    before: State,
    change: Floats32,  # (T, B, Z)
    labels: Floats32,  # (T, B, Z)
    back: Callable[[Floats32], Floats32],
    schedule: Schedule,
    shape: Shape,
) -> State:
    d_change = np.empty_like(change)
    loss = huber(change, labels, _divisors(shape), d_change)
    gradient = back(d_change)
    norm = float(np.linalg.norm(gradient))
    if not np.isfinite(norm + loss):
        raise TrainingError("the loss is not finite any more: give a lower --learning-rate")
    gradient *= np.float32(min(1.0, schedule.clip_norm / norm) if norm > 0 else 1.0)
    updates = before.updates + 1
    rate = schedule.rate(before.epoch, updates)
    own, first, second = adam(before.own, before.first, before.second, gradient, updates, rate)
    mean = before.mean + (own - before.mean) * np.float32(1 / min(schedule.mean_over, updates + 1))
    return replace(before, own=own, first=first, second=second, mean=mean, updates=updates)


def score(network: Network, weights: Floats32, data: Sequences) -> Score:
    """Run over what is held out, each sequence from its begin."""
    network.put(weights)
    z, pieces = len(network.shape.horizons), lanes.held_out(data)
    n, error, last, loss = np.zeros((4, z))
    many = min(SCORED_LANES, max(1, len(pieces)))
    hidden = _blank(network.shape, many)
    for stretch in lanes.side_by_side(pieces, many, SCORED_STEPS):
        hidden[stretch.anew] = 0.0
        x, y = stretch.take(data, data.held_out)
        change, hidden, _ = network.vjp(x, hidden)
        label, off = (np.where(np.isnan(y), 0.0, array).astype(np.float64) for array in (y, change - y))
        cut = np.clip(off, -HUBER, HUBER)
        n += (~np.isnan(y)).sum((0, 1))
        error += (off * off).sum((0, 1))
        last += (label * label).sum((0, 1))
        loss += (cut * (off - 0.5 * cut)).sum((0, 1))
    share, many_labels = 1 / _divisors(network.shape), np.maximum(n, 1)
    whole = float((loss / many_labels * share).sum() / share.sum())
    return Score(n.astype(np.int64), error / many_labels, last / many_labels, whole)


def _divisors(shape: Shape) -> Floats:
    """(Z,) by what each horizon's loss is divided: far ones count for more than in a fine-tune, close ones for less."""
    horizons = np.array(shape.horizons, np.float64)
    apart = np.gradient(np.log(horizons)) if len(horizons) > 1 else 1.0
    return np.asarray(np.sqrt(horizons) / apart)


def _blank(shape: Shape, many: int) -> Floats32:
    """Hidden states (B, L, S, H) before anything was seen."""
    return np.zeros((many, shape.layers, states(shape.cell), shape.hidden_size), np.float32)
