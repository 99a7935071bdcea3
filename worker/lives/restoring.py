"""A partition's shard on its way from the changelog: C is asked for, then the changelog is read, a slice at a time."""

import logging
import time
from dataclasses import replace

import msgspec

from pipeline.durable.image import MARKER_KEY, Image, Marker, encode_marker, read_image
from pipeline.shard import Shard
from worker.broker.contract import UNANSWERED_S, Broker, LogRead, NotYet, OffsetHeld, Topics, Unanswered, Unreadable
from worker.lives import unfit
from worker.lives.judge import RefusedEvents
from worker.lives.learning_state import LearningState
from worker.lives.live import Live
from worker.lives.loading import cold_start, loaded
from worker.lives.predecessor import Inheritance, Predecessor, records_of
from worker.lives.published import Published
from worker.lives.snapshot_clock import SnapshotClock, SnapshotPolicy
from worker.observe.log import event as log_event
from worker.plan import Plan
from worker.refusal import Refusal

log = logging.getLogger(__name__)

READ_S = 0.05  # one slice of a restore: live shards wait so long


class Restoring:
    """What is known of a partition before its shard is loaded; `slice` ends it with a `Live`."""

    def __init__(
        self,
        partition: int,
        incarnation: int,
        plan: Plan,
        topics: Topics,
        snapshots: SnapshotPolicy,
        longest_transaction_s: float = 30.0,
        predecessor: Predecessor | None = None,
    ) -> None:
        self.partition = partition
        self.incarnation = incarnation
        self.last_record_ms = 0  # of the life before: it is as far behind as it was
        self.must_commit = False  # C is to be committed once, though no event comes
        self.began = self.not_before = time.monotonic()  # when to ask for the first time
        self.waits_for: str | None = None  # why the restore does not go on, in words
        self._waits_since: float | None = None
        self._unanswered_since: float | None = None
        self._snapshots, self._longest_transaction_s = snapshots, longest_transaction_s
        self._plan = plan
        self._known_committed: int | None = None
        self._read: LogRead | None = None
        self._next = 0  # offset in the changelog, read up to here
        self._since: LogRead | None = None  # the input after the image, where the group has no C
        self._topics = topics
        self._published: Published | None = None
        self._predecessor = predecessor
        self._inheritance: Inheritance | None = None  # where this group has neither an offset nor an image
        self._proven = False  # C is by the log, not by the group
        self._held = False  # what the group says is from before a transaction that still holds it
        self._latest: dict[bytes, bytes | None] = {}  # by key: a changelog may hold much that is superseded

    def slice(self, broker: Broker) -> Live | None:
        """Read on for a moment; the loaded shard once all is read and its records were asked for.

        Raises NotYet (ask again), BrokerError, Refusal.
        """
        if self._read is None:
            self._known_committed = self._ask_committed(broker)  # before the changelog's end is asked for
            self._read = broker.open_changelog(self.partition)
        records = self._read.read(READ_S)
        self._latest.update((record.key, record.value) for record in records if record.key)  # null: not a worker's
        if records:
            self._next = records[-1].offset + 1
            self._goes_on()
        if not self._read.done:
            if not records:
                unread = f"the changelog of partition {self.partition} is not read to its end"
                raise NotYet(unread, fix="see that the broker answers, and whose transaction stays open")
            return None
        if not self._all_published(broker) or not self._inherited(broker):
            self._goes_on()
            return None
        low, high = broker.bounds(self.partition)
        try:
            image = read_image(self._latest.items())
            if image.marker is not None and self._published is not None:
                self._take_published(image, image.marker, self._published)
            if self._known_committed is None and image.marker is not None:
                self._known_committed = self._by_the_log(image, image.marker, low, broker)
                self._proven = True
            live = self._live(image, low, high, broker.input_id())
        except ValueError as error:
            raise Refusal(unfit.other_image(self.partition, error)) from error
        self.end()
        broker.start(self.partition, live.shard.position)
        return live

    @property
    def progress(self) -> tuple[int, int] | None:
        """Offsets of the changelog that are read, and all to read; None before its end is known."""
        if self._read is None:
            return None
        begin, end = self._read.begin, self._read.end
        return max(min(self._next, end) - begin, 0), max(end - begin, 0)

    def late(self, reason: NotYet) -> bool:
        """Whether the restore, which cannot go on now, has waited for longer than brokers and transactions explain."""
        now = time.monotonic()
        self.waits_for = str(reason)
        self._waits_since = self._waits_since or now
        self._unanswered_since = (self._unanswered_since or now) if isinstance(reason, Unanswered) else None
        if self._unanswered_since is not None and now - self._unanswered_since > UNANSWERED_S:
            return True
        return now - self._waits_since > self._longest_transaction_s

    def _goes_on(self) -> None:
        self.waits_for = self._waits_since = self._unanswered_since = None

    def end(self) -> None:
        """Let go of what is held outside memory."""
        for read in (self._read, self._since, self._published, self._inheritance):
            if read is not None:
                read.close()

    @property
    def _begun(self) -> bool:
        """Whether the group has an offset of this partition or an image of it."""
        return self._known_committed is not None or self._latest.get(MARKER_KEY) is not None

    def _all_published(self, broker: Broker) -> bool:
        """Whether all is known of what the group published; at once where it has not begun. Raises as `slice`."""
        if not self._begun and not self._held:
            return True
        if self._published is None:
            topics = replace(self._topics, source=broker.input_id())
            self._published = Published(self.partition, topics)
        return self._published.slice(broker)

    def _inherited(self, broker: Broker) -> bool:
        """Whether all is known of what a predecessor left; at once where this group has begun. Raises as `slice`."""
        if self._begun or self._predecessor is None:
            return True
        if self._inheritance is None:
            self._inheritance = Inheritance(self.partition, self._predecessor, broker.input_id())
        return self._inheritance.slice(broker)

    def _ask_committed(self, broker: Broker) -> int | None:
        """C as the group says it, or what it said before a transaction whose end may be lost. Raises NotYet."""
        self._held = False
        try:
            return broker.committed(self.partition)
        except OffsetHeld as held:
            self._held = True
            log.warning("%s: going on from what is published, or from %s, the offset before it", held, held.offset)
            return held.offset

    def _take_published(self, image: Image, marker: Marker, published: Published) -> None:
        """C by what was published with it: a record that is below has its forecast, whatever the group says."""
        told, in_changelog = self._known_committed, max(marker.offset, image.newest)
        proven = published.beyond(told)
        if self._held:  # what holds it may have published nothing, and brought the changelog further all the same
            proven = max(published.offset, in_changelog)
        if proven is None or (told is not None and proven <= told):
            return
        self._known_committed = max(proven, in_changelog)
        self._proven = True
        log.warning(
            "the group's offset for partition %d is %s, though records below %d have their forecasts: going on from "
            "there; to forecast them again, start under a new kafka.group_id",
            *(self.partition, told, self._known_committed),
        )

    def _by_the_log(self, image: Image, marker: Marker, low: int, broker: Broker) -> int | None:
        """C where the group has none: at a clean stop's image, or at one after which there is nothing to forecast.

        A group's offsets expire once it has been without members for long. None: records came since, of which nobody
        knows whether they were forecast. Raises NotYet, BrokerError.
        """
        known, at = max(marker.offset, image.newest), max(marker.offset, marker.border)
        begin = max(at, low)
        if marker.clean or known > begin:
            return at if marker.clean else None
        self._since = self._since or broker.open_input(self.partition, begin)
        try:
            records = self._since.read(READ_S)  # markers and aborted transactions bring none
        except Unreadable:  # of records, whatever is in them
            return None
        if records:
            return None
        if not self._since.done:
            unread = f"the input of partition {self.partition} is not read to its end"
            raise NotYet(unread, fix="see that the broker answers, and whose transaction stays open")
        return known

    # ---- what the image becomes, where the input's log is [low, high)

    def _live(self, image: Image, low: int, high: int, source: str) -> Live:
        marker = image.marker
        if marker is None and self._inheritance is not None:
            return self._succeeding(self._inheritance, low, high, source)
        if marker is None:  # the first transaction of a shard writes one
            return self._new(low if self._plan.start == "earliest" else high, source)
        self._check_source(marker, source)
        committed = self._known_offset(marker, image.newest, high)
        live = self._begin(*loaded(image, self._plan), committed)
        live.refused = RefusedEvents(image.refused)
        if marker.clean:  # true only until something is committed
            live.first_records = [(MARKER_KEY, encode_marker(msgspec.structs.replace(marker, clean=False)))]
        live.must_commit |= self._proven
        self._check_gap(live, low)
        live.replayed = live.pending
        live.learning.reach(live.shard, live.shard.position)
        live.shard.source = source
        return live

    def _check_source(self, marker: Marker, source: str) -> None:
        if marker.source and source and marker.source != source:
            raise Refusal(unfit.other_input(self.partition, marker.source, source, marker.offset))

    def _begin(self, shard: Shard, learning: LearningState, committed: int) -> Live:
        return Live(
            partition=self.partition,
            incarnation=self.incarnation,
            plan=self._plan,
            shard=shard,
            learning=learning,
            clock=SnapshotClock(self._snapshots),
            committed=committed,
            began=self.began,
            last_record_ms=self.last_record_ms,
            must_commit=self.must_commit,
        )

    def _new(self, start: int, source: str) -> Live:
        if self._known_committed is not None:
            raise Refusal(unfit.lost_state(self.partition, self._known_committed))
        shard = self._plan.shard(start)
        shard.source = source
        live = self._begin(shard, LearningState.new(shard), start)
        live.first_records, live.must_commit = cold_start(shard), True
        return live

    def _succeeding(self, left: Inheritance, low: int, high: int, source: str) -> Live:
        """A shard that folds what the input still has up to where its predecessor published, and publishes from there.

        Its first transaction commits that offset, so that any later life of it does the same without a predecessor.
        """
        self._known_committed = low if left.end is None else left.end
        self._check_end(self._known_committed, high)
        shard = self._plan.shard(low)
        shard.source = source
        live = self._begin(shard, LearningState.new(shard), max(low, self._known_committed))
        live.gap = live.committed - self._known_committed
        if live.gap and not self._plan.skip_gaps:
            raise Refusal(unfit.beyond_retention(self.partition, left.group, self._known_committed, low))
        entries = left.entries(low, live.committed)
        live.refused, shard.border = RefusedEvents(entries), live.committed
        live.first_records, live.must_commit = [*cold_start(shard), *records_of(entries)], True
        live.replayed = live.pending
        facts = {"partition": self.partition, "of": left.group, "folds_from": low, "publishes_from": live.committed}
        log_event("taking over", **facts, refused=len(left.refused), dead_letters=left.letters)
        return live

    def _known_offset(self, marker: Marker, newest: int, high: int) -> int:
        """C, where it fits the image and the input."""
        committed = self._known_committed
        if committed is None:
            raise Refusal(unfit.no_offset(self.partition, max(marker.offset, newest)))
        if committed < max(marker.offset, newest):
            raise Refusal(unfit.behind(self.partition, committed, marker.offset, newest))
        self._check_end(committed, high)
        return committed

    def _check_end(self, committed: int, high: int) -> None:
        """Raises Refusal where the input ends before C."""
        if committed > high:  # for a moment after a commit the end may still lie before its markers
            if time.monotonic() - self.began < self._longest_transaction_s:
                raise NotYet(f"the input of partition {self.partition} ends at {high}, before C = {committed}")
            raise Refusal(unfit.beyond_input(self.partition, committed, high))

    def _check_gap(self, live: Live, low: int) -> None:
        """Go on where the input begins now. Raises Refusal where that is beyond the border and is not to be skipped."""
        shard = live.shard
        if low <= shard.position:
            return
        needed = max(shard.position, min(shard.border, low))  # what is gone below the border needs no forecast
        if needed < low and not self._plan.skip_gaps:
            raise Refusal(
                f"the input's retention has passed partition {self.partition}'s image: records from {needed} "
                f"are needed, the log begins at {low}; worker.on_gap = skip goes on without them"
            )
        live.gap = max(0, low - max(live.committed, needed))
        live.unlearnt = low - shard.position - live.gap
        shard.position = low
        live.committed = max(live.committed, low)
        live.learning.reach(shard, low)
        shard.begin_snapshot()  # the same pages at another offset: the gap is part of the image from here on
        live.first_records, live.must_commit = shard.snapshot_pieces(0)[0], True
