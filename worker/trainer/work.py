"""The trainer's work: the weights of each shard as its last update left them, and the next update."""

import time

from pipeline.learning.adoption import Adoption
from pipeline.learning.fine_tune import fine_tune, network_of
from worker.trainer.messages import Answer, Offer, TrainerSetup, windows_of


class Trainer:
    """Holds the newest weights of each shard, and makes the next ones from an offer."""

    def __init__(self, setup: TrainerSetup) -> None:
        self._setup = setup
        network_of(setup.shape)  # loads torch where it is torch's
        self._held: dict[int, tuple[int, int, Adoption]] = {}  # by partition: incarnation, parent, newest weights

    def answer(self, offer: Offer) -> Answer:
        """Make one update, and keep its weights for the shard's next offer."""
        began = time.thread_time()
        incarnation, parent, before = self._held.get(offer.partition, (-1, -1, None))
        if offer.state is not None:
            before = Adoption.load(offer.state)
        elif (incarnation, parent) != (offer.incarnation, offer.parent):
            before = None
        if before is None:
            raise AssertionError(f"partition {offer.partition} was offered without the weights to begin with")
        windows = windows_of(offer, self._setup)
        weights, optimiser, report = fine_tune(
            self._setup.shape, before.weights, before.optimiser, windows, self._setup.schedule
        )
        after = Adoption(weights, optimiser, offer.trained_through, made_ms=round(time.time() * 1000))
        self._held[offer.partition] = offer.incarnation, offer.parent, after
        return Answer(
            offer.number,
            offer.partition,
            offer.incarnation,
            offer.parent,
            offer.trained_through,
            report.outcome,
            after.dump() if report.outcome == "updated" else b"",
            report.gradient_norm,
            report.clipped,
            time.thread_time() - began,
        )
