"""Learning as the loop sees it: which shard's windows are offered next, what came back, and what comes into service.

A forecast never waits for any of it. An answer counts only in the life it was asked in, from the weights that are
still those in service or descend from them, and for windows below the shard's position.
"""

import logging
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from pipeline.durable.image import GOOD_KEY, weights_key
from pipeline.learning import watchdog
from pipeline.learning.adoption import Adoption
from pipeline.learning.fine_tune import Schedule
from pipeline.shard import Shard
from worker.lives.learning_state import MOST_ADOPTIONS, LearningState
from worker.lives.life import Life
from worker.observe.metrics import Metrics
from worker.trainer.link import Link
from worker.trainer.messages import Answer, Offer

log = logging.getLogger(__name__)

OUTCOMES = ("updated", "nonfinite", "too_few_windows")


@dataclass(frozen=True)
class LearningPolicy:
    """How often weights come into service, and how much of a CPU learning may take, on average."""

    schedule: Schedule
    adopt_interval_s: float
    max_cpu_share: float


class Learning:
    """Called by the loop only. Without a link what is in service stays."""

    def __init__(self, policy: LearningPolicy, link: Link | None, metrics: Metrics) -> None:
        self._policy, self._link, self._metrics = policy, link, metrics
        self._number = 0
        self._asked: Offer | None = None
        self._generation = 0  # of the trainer that was asked
        self._rest_until = 0.0

    def close(self) -> None:
        """End the trainer."""
        if self._link is not None:
            self._link.close()

    # ---- adopt

    def adopt(self, life: Life) -> list[tuple[bytes, bytes]]:
        """Bring newer or older weights into service, where it is this shard's turn; what to log of it."""
        shard, learning, now = life.shard, life.learning, time.monotonic()
        assert shard is not None, "only a live shard learns"
        assert learning is not None, "a live shard has a learning"
        if self._link is None or shard.position <= shard.weights_offset:
            return []
        if now < learning.adopt_after and not watchdog.is_bad(shard.watch):
            return []
        if (
            learning.outstanding(shard) >= MOST_ADOPTIONS
        ):  # a restore would read them all: first a snapshot
            return []
        good = learning.held.good
        adoption = learning.held.next_in_service(self._candidate(shard, learning), shard.watch, shard.position)
        if adoption is None:
            return []
        shard.adopt(adoption.weights, shard.position, adoption.rolled_back)
        learning.adopt_after = now + self._policy.adopt_interval_s
        learning.candidate = None
        learning.outcome = "rolled_back" if adoption.rolled_back else "adopted"
        if adoption.rolled_back:
            learning.parent, learning.generation = shard.position, 0
        adoption = replace(adoption, made_ms=round(time.time() * 1000))
        learning.logged[shard.position] = adoption.made_ms
        records = [(weights_key(shard.position), adoption.dump())]
        if learning.held.good is not good:
            records.append((GOOD_KEY, learning.held.good.dump()))
        return records

    def _candidate(self, shard: Shard, learning: LearningState) -> Adoption | None:
        """The newest weights for a shard, if they are fit for use."""
        if learning.candidate is None:
            return None
        try:
            adoption = Adoption.load(learning.candidate)
            shard.network.check(adoption.weights)
            adoption.optimiser.check()
        except ValueError as error:
            log.warning("the trainer's weights are not adopted: %s", error)
            self._metrics.fine_tunes.labels("nonfinite").inc()
            learning.candidate, learning.generation = None, 0  # it begins again with what is in service
            return None
        return adoption

    def committed(self, life: Life) -> None:
        """What was adopted is in service for good."""
        if life.learning is not None and life.learning.outcome is not None:
            self._metrics.fine_tunes.labels(life.learning.outcome).inc()
            life.learning.outcome = None

    # ---- offer

    def turn(self, lives: Mapping[int, Life]) -> None:
        """After the commit: take an answer that has come, and make the next offer if the trainer is idle."""
        if self._link is None or not any(life.live for life in lives.values()):  # first things first
            return
        answer = self._link.turn()
        if answer is not None:
            self._take(answer, lives)
        if self._link.generation != self._generation:
            self._generation, self._asked = self._link.generation, None
        if self._link.idle and time.monotonic() >= self._rest_until:
            self._offer(self._link, lives.values())

    def _take(self, answer: Answer, lives: Mapping[int, Life]) -> None:
        asked, self._asked = self._asked, None
        life = lives.get(answer.partition)
        why = _objection(answer, asked, life)
        if why is not None:
            self._metrics.answers_dropped.labels(why).inc()
            if life is not None and life.learning is not None:
                life.learning.generation = 0
            return
        assert life is not None, "an answer without objection has a life"
        assert life.learning is not None, "and a learning"
        self._rest_until = time.monotonic() + answer.cpu_s * (1 / self._policy.max_cpu_share - 1)
        if answer.outcome == "updated":
            life.learning.candidate = answer.state
            seconds = time.monotonic() - life.learning.offered_at
            self._metrics.updated(answer.gradient_norm, answer.clipped, seconds, answer.cpu_s)
        else:
            self._metrics.fine_tunes.labels(answer.outcome).inc()

    def _offer(self, link: Link, lives: Iterable[Life]) -> None:
        """To the shard whose update is due longest, in intervals of its own."""
        able = [(life, life.shard, life.learning) for life in lives if life.shard and life.learning and life.live]
        due = [(self._due(shard, learning), life, shard, learning) for life, shard, learning in able]
        if not due:
            return
        ratio, life, shard, learning = max(due, key=lambda one: one[0])
        if ratio < 1:
            return
        assert shard.position == life.committed, "windows of what is not committed must not teach"
        learning.learnt_from = shard.counters.forecasts
        self._metrics.fine_tune_skipped.inc(int(ratio) - 1)
        windows = shard.windows(self._policy.schedule.streams)
        if windows is None:
            self._metrics.fine_tunes.labels("too_few_windows").inc()
            return
        self._number += 1
        fresh = learning.generation != link.generation
        offer = Offer(
            number=self._number,
            partition=life.partition,
            incarnation=life.incarnation,
            parent=learning.parent,
            trained_through=shard.position,
            state=learning.held.in_service.dump() if fresh else None,
            windows=windows.labels.shape[1],
            inputs=windows.inputs.tobytes(),
            labels=windows.labels.tobytes(),
            hidden=windows.hidden.tobytes(),
        )
        link.send(offer)
        self._asked = offer
        learning.generation, learning.offered_at = link.generation, time.monotonic()

    def _due(self, shard: Shard, learning: LearningState) -> float:
        interval = self._policy.schedule.interval(watchdog.active(shard.watch))
        return (shard.counters.forecasts - learning.learnt_from) / interval


def _objection(answer: Answer, asked: Offer | None, life: Life | None) -> str | None:
    """Why an answer is thrown away; None where it is not."""
    if asked is None or answer.number != asked.number:
        return "late"
    if life is None or life.shard is None or life.learning is None:
        return "orphaned"
    if (answer.incarnation, answer.parent) != (life.incarnation, life.learning.parent):
        return "orphaned"
    same = (answer.partition, answer.trained_through) == (asked.partition, asked.trained_through)
    sane = 0 <= answer.cpu_s < math.inf and answer.outcome in OUTCOMES
    sane &= answer.outcome != "updated" or math.isfinite(answer.gradient_norm)
    return None if same and sane and answer.trained_through <= life.shard.position else "impossible"
