"""A shard in this worker's hands: first it catches up, then it is at C, and what it takes in leaves it as forecasts.

catching up   events below C are folded silently: nothing leaves the shard
at C          events are forecast and committed
"""

import logging
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from pipeline.batch import Batch, Rejected
from pipeline.forecasts import Forecasts
from pipeline.framed import UNKNOWN, UNUSABLE
from pipeline.shard import Shard
from worker.broker.contract import Records
from worker.lives.judge import Judge, RefusedEvents
from worker.lives.learning_state import LearningState
from worker.lives.snapshot_clock import SnapshotClock
from worker.observe.log import event as log_event
from worker.plan import Plan
from worker.refusal import Refusal

log = logging.getLogger(__name__)


@dataclass
class Advanced:
    """What a run of a partition's records at or above C became."""

    partition: int
    forecasts: Forecasts
    rejected: list[Rejected]
    records: Records
    refused: list[int]  # offsets of those that the log alone would have let pass
    other_keys: int  # events whose key names another stream


@dataclass
class Live:
    """A loaded shard with all that belongs to this life of it. `committed` is C."""

    partition: int
    incarnation: int
    plan: Plan
    shard: Shard
    learning: LearningState
    clock: SnapshotClock
    committed: int
    began: float  # monotonic seconds, when the partition was assigned
    last_record_ms: int  # timestamp of the newest record taken in, 0 before the first
    refused: RefusedEvents = field(default_factory=RefusedEvents)
    first_records: list[tuple[bytes, bytes]] = field(default_factory=list)  # for the changelog, until committed
    must_commit: bool = False  # C is ours to set, though no event came
    gap: int = 0  # records the input had lost that never get a forecast (of holes, those around C too), until counted
    unlearnt: int = 0  # others it had lost: they had their forecast, and the state lacks them
    replayed: int = 0  # offsets folded silently
    has_caught_up: bool = False  # it was at C once

    @property
    def at_c(self) -> bool:
        """Whether what it takes in now leaves it."""
        return self.shard.position >= self.committed

    @property
    def pending(self) -> int:
        """How many offsets are left to fold silently."""
        return max(0, self.committed - self.shard.position)

    @property
    def progress(self) -> tuple[int, int]:
        """Offsets that are folded silently so far, and all of them."""
        return max(self.replayed - self.pending, 0), self.replayed

    @property
    def durable(self) -> bool:
        """Whether something of it may go into the changelog: from C on, and all along where everything below C was
        published by another group, so that a crash in a fold of all the input does not begin it anew."""
        return self.at_c or self.committed <= self.shard.border

    @property
    def presses(self) -> bool:
        """Whether something of it waits for a transaction though no event came, or for its being at C to be noted."""
        return self.must_commit or not self.has_caught_up or self.shard.pages_to_send is not None

    def caught_up(self) -> float:
        """Note and log that it is at C for the first time. Returns the seconds since it was assigned."""
        self.has_caught_up = True
        self.learning.learnt_from = self.shard.counters.forecasts  # what was replayed has been learnt from
        seconds = time.monotonic() - self.began
        log_event("live", partition=self.partition, offset=self.shard.position, seconds=round(seconds, 3))
        if log.isEnabledFor(logging.DEBUG):  # so that it can be held against another fold of the same log
            rows, weights = self.shard.table.digest(), self.shard.network.digest()
            words = (self.partition, self.shard.position, self.shard.weights_offset, rows, weights)
            log.debug("state partition=%d offset=%d adoption=%d rows=%s weights=%s", *words)
        return seconds

    def fits(self, records: Records) -> bool:
        """Whether these are records this shard has not taken in."""
        return records.offsets[0] >= self.shard.position

    def pass_to(self, offset: int) -> None:
        """Go on from a later offset, below which no more records come: else an image would need what was none."""
        self.shard.position = offset if self.at_c else min(offset, self.committed)
        self.learning.reach(self.shard, self.shard.position)

    def lack(self, number: int, end: int) -> None:
        """Count offsets from which the input has lost its records, somewhere before `end`. Raises Refusal."""
        if not self.plan.skip_gaps:
            raise Refusal(
                f"the input of partition {self.partition} has holes: nothing is left at {number} offsets before {end}, "
                "as after compaction (cleanup.policy); worker.on_gap = skip goes on without them"
            )
        if end <= self.committed:
            self.unlearnt += number
        else:
            self.gap += number
        self.must_commit = True  # counted with it
        log_event("lost", partition=self.partition, records=number, before=end)

    def advance(self, records: Records, judge: Judge, lap: Callable[[str], object]) -> Advanced | None:
        """Take in records; those below C silently. None where nothing of them leaves the shard.

        `lap` is called with the phase that ends: decode, advance. Raises SchemasAway: go on from the shard's position;
        Refusal.
        """
        cut = bisect_left(records.offsets, self.committed)
        if cut:
            for _ in self.replay(records.part(0, cut), judge, lap):
                pass  # nothing leaves the shard
        if cut == len(records.offsets):
            self.last_record_ms = records.timestamps_ms[-1]
            return None
        rest = records if cut == 0 else records.part(cut, len(records.offsets))
        self.learning.reach(self.shard, rest.offsets[0])  # below C there may have been nothing but markers to pass
        other_keys = self.plan.decoder.other_keys
        batch, rejected = self._decoded(rest)
        batch, refused = judge.sift(batch, rest.offsets, self.shard.table.index)
        lap("decode")
        forecasts = self._fold(batch, judge, lap)
        self.last_record_ms = records.timestamps_ms[-1]
        refused_places = {one.place for one in refused}
        refused_places |= {one.place for one in rejected if one.reason in (UNKNOWN, UNUSABLE)}
        offsets = [rest.offsets[place] for place in sorted(refused_places)]
        letters = {one.place: one for one in [*refused, *rejected]}  # a record has one, whatever is wrong in it
        other_keys = self.plan.decoder.other_keys - other_keys
        return Advanced(self.partition, forecasts, sorted(letters.values()), rest, offsets, other_keys)

    def replay(self, records: Records, judge: Judge, lap: Callable[[str], object]) -> Iterator[Forecasts]:
        """Fold records as they were folded before, cut where other weights came into service: what each part gave,
        while the weights that gave it are in service."""
        low = 0
        for high in [*(bisect_left(records.offsets, at) for at, _ in self.learning.pending), len(records.offsets)]:
            if high > low:
                self.learning.reach(self.shard, records.offsets[low])
                part = records.part(low, high)
                batch, rejected = self._decoded(part)
                self._check_schemas(part.offsets, rejected)
                batch = self.refused.sift(batch)
                lap("decode")
                yield self._fold(batch, judge, lap)
                low = high
        self.learning.reach(self.shard, self.shard.position)

    def _check_schemas(self, offsets: Sequence[int], rejected: list[Rejected]) -> None:
        """Raise Refusal where a schema is not to be had by which a record was forecast."""
        for reason, how, fix in (
            (UNKNOWN, "the registry no longer has", "put the schema back under its id"),
            (UNUSABLE, "this version cannot use", "start the version that could"),
        ):
            if gone := self.refused.lacks([offsets[one.place] for one in rejected if one.reason == reason]):
                raise Refusal(
                    f"{how} the schema of the record at {gone[0]} of partition {self.partition}, by which it was "
                    f"forecast and is to be restored: {fix}, or start under a new kafka.group_id"
                )

    def _decoded(self, records: Records) -> tuple[Batch, list[Rejected]]:
        decoder = self.plan.decoder
        decoded = decoder.decode(*records[:4])
        if (doubt := decoder.steps.doubt(decoder.form.time_field)) is not None:
            log.warning("%s", doubt)
        return decoded

    def _fold(self, batch: Batch, judge: Judge, lap: Callable[[str], object]) -> Forecasts:
        forecasts = self.shard.advance(batch)
        judge.room -= len(forecasts.born)
        lap("advance")
        return forecasts
