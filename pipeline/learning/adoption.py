"""Weights that came into service, with all that learning needs to go on from them.

An adoption is logged, so that a restored shard has the same weights at the same offsets; it is also what a trainer
begins with and answers with. Bytes are safetensors.
"""

from dataclasses import dataclass

import numpy as np

from pipeline.arrays import Floats
from pipeline.learning import watchdog
from pipeline.learning.fine_tune import JUDGED_OVER, LEAST_FACTOR, UNJUDGED, Optimiser
from pipeline.network.checkpoint import saved, taken, tensors_of
from pipeline.network.model import Network, Weights

GOOD_EVERY = 32  # updates between two looks whether the weights are worth going back to
STATE, JUDGED = "optimiser", "judged"
LARGEST = 2.0**63  # of a count, an offset or a time
NUMBERS = ("steps", "updates", "factor", "trained_through", "rolled_back", "made_ms")


@dataclass(frozen=True)
class Adoption:
    """Weights and the optimiser as they were after the update that made them."""

    weights: Weights
    optimiser: Optimiser
    trained_through: int = 0  # offset: nothing at or above it was learnt from
    rolled_back: bool = False  # older weights, because newer ones were worse than the last value
    made_ms: int = 0  # by the clock, for how long the changelog keeps it

    @classmethod
    def base(cls, network: Network, offset: int = 0) -> "Adoption":
        """What a network brings before anything was learnt."""
        weights = {name: weight.copy() for name, weight in network.weights.items()}
        return cls(weights, Optimiser.after(network.updates), offset)

    def dump(self) -> bytes:
        """Write it down as safetensors."""
        tensors = dict(self.weights)
        optimiser = self.optimiser
        if optimiser.state is not None:
            tensors[STATE] = optimiser.state
        if optimiser.judged:
            tensors[JUDGED] = np.array(optimiser.judged, np.float64)
        numbers = (optimiser.steps, optimiser.updates, optimiser.factor, self.trained_through, self.rolled_back)
        tensors |= {
            f"number/{name}": np.array(number, np.float64)
            for name, number in zip(NUMBERS, (*numbers, self.made_ms), strict=True)
        }
        return saved(tensors)

    @classmethod
    def load(cls, data: bytes) -> "Adoption":
        """From `dump`. Raises ValueError where it is damaged; whether the weights fit, the network knows."""
        tensors = tensors_of(data)
        numbers, state, judged = taken(tensors, "number/"), tensors.pop(STATE, None), tensors.pop(JUDGED, None)
        shape = (3 if judged is None else 5, sum(tensor.size for tensor in tensors.values()))
        whole = numbers.keys() == set(NUMBERS) and all(
            number.dtype == np.float64 and number.size == 1 for number in numbers.values()
        )
        whole &= judged is None or (judged.dtype == np.float64 and judged.shape == (len(UNJUDGED),))
        if not whole or (state is not None and state.shape != shape):
            raise ValueError("the weights are no adoption: numbers are missing, or the optimiser has others")
        n = {name: float(number.item()) for name, number in numbers.items()}
        recent = () if judged is None else tuple(judged.tolist())
        sane = all(0 <= number < LARGEST for number in (*n.values(), *recent)) and 0 < n["factor"] <= 1
        sane &= (state is None) == (n["steps"] == 0) and (judged is None or judged[0] <= JUDGED_OVER)
        if not sane or any(t.dtype != np.float32 for t in [*tensors.values(), *([] if state is None else [state])]):
            raise ValueError(f"the weights are no adoption: {n} or a dtype cannot be")
        optimiser = Optimiser(state, int(n["steps"]), int(n["updates"]), n["factor"], recent)
        return cls(tensors, optimiser, int(n["trained_through"]), bool(n["rolled_back"]), int(n["made_ms"]))


def roll_back(bad: Adoption, good: Adoption, position: int) -> Adoption:
    """The good weights again, with an optimiser that begins anew at half the rate."""
    factor = max(bad.optimiser.factor / 2, LEAST_FACTOR)
    optimiser = Optimiser.blank(bad.optimiser.updates, factor, two_chains=bool(bad.optimiser.judged))
    return Adoption(good.weights, optimiser, position, rolled_back=True)


@dataclass
class WeightsHeld:
    """A shard's weights in service, those to go back to, and the ones it began with, to go back to after that."""

    in_service: Adoption
    good: Adoption
    base: Adoption

    def next_in_service(self, candidate: Adoption | None, watch: Floats, position: int) -> Adoption | None:
        """What comes into service now: older weights where the watchdog says so, else the candidate; None: nothing."""
        if watchdog.is_bad(watch):
            after = roll_back(self.in_service, self.good, position)
            self.good = self.base
        elif candidate is None:
            return None
        else:
            after = candidate
            newer = self.in_service.optimiser.updates >= self.good.optimiser.updates + GOOD_EVERY
            if newer and watchdog.is_good(watch):
                self.good = self.in_service
        self.in_service = after
        return after
