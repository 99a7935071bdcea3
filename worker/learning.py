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
from worker.lives.live import Live
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
        self._none_due = False  # when it was looked for the last time

    def close(self) -> None:
        """End the trainer, where there is one."""
        if self._link is not None:
            self._link.close()

    # ---- adopt

    def adopt(self, live: Live) -> list[tuple[bytes, bytes]]:
        """Bring newer or older weights into service, where it is this shard's turn; the records to log it with."""
        shard, state, now = live.shard, live.learning, time.monotonic()
        if self._link is None or shard.position <= shard.weights_offset:
            return []
        if now < state.adopt_after and not watchdog.is_bad(shard.watch):
            return []
        if state.outstanding(shard) >= MOST_ADOPTIONS:  # a restore would have to read them all: a snapshot comes first
            return []
        good = state.held.good
        candidate, data = self._candidate(shard, state)
        adoption = state.held.next_in_service(candidate, shard.watch, shard.position)
        if adoption is None:
            return []
        shard.adopt(adoption.weights, shard.position, adoption.rolled_back)
        state.adopt_after = now + self._policy.adopt_interval_s
        state.candidate = None
        state.outcome = "rolled_back" if adoption.rolled_back else "adopted"
        if adoption.rolled_back:
            state.parent, state.generation = shard.position, 0
        if adoption is not candidate:
            adoption = replace(adoption, made_ms=round(time.time() * 1000))
            data = adoption.dump()
        state.logged[shard.position] = adoption.made_ms
        records = [(weights_key(shard.position), data)]
        if state.held.good is not good:
            records.append((GOOD_KEY, state.held.good.dump()))
        return records

    def _candidate(self, shard: Shard, state: LearningState) -> tuple[Adoption | None, bytes]:
        """The newest weights for a shard, if they are fit for use, and their bytes as the trainer wrote them."""
        data = state.candidate
        if data is None:
            return None, b""
        try:
            adoption = Adoption.load(data)
            shard.network.check(adoption.weights)
            adoption.optimiser.check()
        except ValueError as error:
            log.warning("the trainer's weights are not adopted: %s", error)
            self._metrics.fine_tunes.labels("nonfinite").inc()
            state.candidate, state.generation = None, 0  # it begins again with what is in service
            return None, b""
        return adoption, data

    # ---- offer

    @property
    def waits(self) -> bool:
        """Whether the trainer has been asked and has not answered."""
        return self._asked is not None

    def turn(self, lives: Mapping[int, Live], quiet: bool) -> None:
        """After the commit: take an answer that has come, and make the next offer if the trainer is idle.

        In a `quiet` turn no live shard took in records since the last one: nothing can have become due. (A cycle that
        failed in between has ended the lives of those that did.)
        """
        self._none_due &= quiet
        if self._link is None or not any(live.at_c for live in lives.values()):  # first things first
            return
        answer = self._link.turn()
        if answer is not None:
            self._take(answer, lives)
        if self._link.generation != self._generation:
            self._generation, self._asked = self._link.generation, None
        if not self._none_due and self._link.idle and time.monotonic() >= self._rest_until:
            self._offer(self._link, lives.values())

    def _take(self, answer: Answer, lives: Mapping[int, Live]) -> None:
        asked, self._asked = self._asked, None
        live = lives.get(answer.partition)
        why = _objection(answer, asked, live)
        if live is None or why is not None:
            self._metrics.answers_dropped.labels(why).inc()
            if live is not None:
                live.learning.generation = 0
            return
        self._rest_until = time.monotonic() + answer.cpu_s * (1 / self._policy.max_cpu_share - 1)
        if answer.outcome == "updated":
            live.learning.candidate = answer.state
            seconds = time.monotonic() - live.learning.offered_at
            self._metrics.updated(answer.gradient_norm, answer.clipped, seconds, answer.cpu_s)
        else:
            self._metrics.fine_tunes.labels(answer.outcome).inc()

    def _offer(self, link: Link, lives: Iterable[Live]) -> None:
        """Offer the windows of the shard whose update is due longest, in intervals of its own."""
        live = max((live for live in lives if live.at_c), key=self._due, default=None)
        if live is None or (ratio := self._due(live)) < 1:
            self._none_due = True
            return
        shard, state = live.shard, live.learning
        state.learnt_from = shard.counters.forecasts
        self._metrics.fine_tune_skipped.inc(int(ratio) - 1)
        windows = shard.windows(self._policy.schedule.streams)
        if windows is None:
            self._metrics.fine_tunes.labels("too_few_windows").inc()
            return
        self._number += 1
        fresh = state.generation != link.generation
        self._asked = Offer(
            number=self._number,
            partition=live.partition,
            incarnation=live.incarnation,
            parent=state.parent,
            trained_through=shard.position,
            state=state.held.in_service.dump() if fresh else None,
            windows=windows.labels.shape[1],
            inputs=windows.inputs.tobytes(),
            labels=windows.labels.tobytes(),
            hidden=windows.hidden.tobytes(),
            since=windows.since.tobytes(),
        )
        link.send(self._asked)
        state.generation, state.offered_at = link.generation, time.monotonic()

    def _due(self, live: Live) -> float:
        """Updates that the shard has waited for since its last offer."""
        interval = self._policy.schedule.interval(watchdog.active(live.shard.watch))
        return (live.shard.counters.forecasts - live.learning.learnt_from) / interval


def _objection(answer: Answer, asked: Offer | None, live: Live | None) -> str | None:
    """Why an answer is thrown away; None where it is not."""
    if asked is None or answer.number != asked.number:
        return "late"
    if live is None or (answer.incarnation, answer.parent) != (live.incarnation, live.learning.parent):
        return "orphaned"
    same = (answer.partition, answer.trained_through) == (asked.partition, asked.trained_through)
    sane = 0 <= answer.cpu_s < math.inf and answer.outcome in OUTCOMES
    sane &= answer.outcome != "updated" or math.isfinite(answer.gradient_norm)
    return None if same and sane and answer.trained_through <= live.shard.position else "impossible"
