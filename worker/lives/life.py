"""One life of a shard on this worker, from restore to drop. A life is never repaired: it ends, and another begins.

restoring     C is asked for, then the changelog is read, a slice at a time
catching up   events below C are folded silently: nothing leaves the shard
live          events from C on are forecast and committed
"""

import logging
import time
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from pipeline.durable.image import MARKER_KEY, Image, Marker, encode_marker, read_image
from pipeline.events import Rejected
from pipeline.forecasts import Forecasts
from pipeline.network.model import Network
from pipeline.shard import Shard
from worker.broker.contract import Broker, ChangelogRead, NotYet, Records
from worker.lives.learning_state import LearningState
from worker.plan import Plan
from worker.refusal import Refusal

log = logging.getLogger(__name__)

READ_S = 0.05  # one slice of a restore: live shards wait so long
STABLE_S = 30.0  # longer than any transaction may stay open


def cold_start(shard: Shard) -> list[tuple[bytes, bytes]]:
    """What makes an empty shard restorable: adoption 0, and an image without pages that knows the settings."""
    shard.begin_snapshot()
    return [*LearningState.new(shard).first_records(), *shard.snapshot_pieces(0)[0]]


@dataclass
class Advanced:
    """What a run of records at or above C became."""

    forecasts: Forecasts
    rejected: list[Rejected]
    records: Records
    other_keys: int  # events whose key names another stream


class Life:
    """A partition's shard on its way to live, and then live."""

    def __init__(self, partition: int, incarnation: int, plan: Plan) -> None:
        self.partition = partition
        self.incarnation = incarnation
        self.shard: Shard | None = None  # None: restoring
        self.learning: LearningState | None = None  # comes with the shard
        self.committed = -1  # C
        self.first_messages: list[tuple[bytes, bytes]] = []  # adoption 0, until it is committed
        self.must_commit = False  # C is ours to set, though no event came
        self.gap = 0  # records the input had lost
        self.replayed = 0
        self.last_record_ms = 0
        self.began = time.monotonic()
        self.restored_s: float | None = None  # set once live
        self._told = False
        self._plan = plan
        self._known_committed: int | None = None
        self._read: ChangelogRead | None = None
        self._latest: dict[bytes, bytes | None] = {}  # by key: a changelog may hold much that is superseded

    @property
    def live(self) -> bool:
        """At C: what it takes in now leaves it."""
        return self.shard is not None and self.shard.position >= self.committed

    @property
    def pending(self) -> int | None:
        """Offsets left to fold silently; None while not even that is known."""
        return None if self.shard is None else max(0, self.committed - self.shard.position)

    def wait(self, reason: str) -> None:
        """It cannot be restored now; say so once it has taken long."""
        if not self._told and time.monotonic() - self.began > STABLE_S:
            self._told = True
            log.warning("partition %d is still not restored: %s", self.partition, reason)

    def end(self) -> None:
        """Let go of what a life holds outside its memory."""
        if self._read is not None:
            self._read.close()

    # ---- restore

    def restore(self, broker: Broker) -> bool:
        """One slice; True once the shard is loaded and its records were asked for.

        Raises NotYet (ask again), BrokerError, Refusal.
        """
        if self._read is None:
            self._known_committed = broker.committed(self.partition)  # before the changelog's end is asked for
            self._read = broker.open_changelog(self.partition)
        self._latest.update(self._read.read(READ_S))
        if not self._read.done:
            return False
        try:
            shard, learning = self._build(read_image(self._latest.items()), broker)
        except ValueError as error:
            raise Refusal(self._refused(error)) from error
        self._read.close()
        self._latest = {}
        self.replayed = max(0, self.committed - shard.position)
        broker.start(self.partition, shard.position)
        self.shard, self.learning = shard, learning
        return True

    def _refused(self, error: ValueError) -> str:
        return (
            f"the changelog of partition {self.partition} does not fit these settings: {error}; restore them, or start "
            "under a new kafka.group_id"
        )

    def _build(self, image: Image, broker: Broker) -> tuple[Shard, LearningState]:
        network = self._plan.network()
        low, high = broker.bounds(self.partition)
        marker = image.marker
        if marker is None:  # the first transaction of a shard writes one
            return self._new(network, low if self._plan.start == "earliest" else high)
        self.committed = self._known_offset(marker, max(image.weights), high)
        shard = Shard(self._plan.method, network, marker.offset, self._plan.settings)
        shard.load(marker, image.pages)
        learning = LearningState.restored(shard, image)
        network.take(learning.held.in_service.weights)
        if marker.clean:  # true only until something is committed
            self.first_messages = [(MARKER_KEY, encode_marker(msgspec.structs.replace(marker, clean=False)))]
        self._check_gap(shard, learning, low)
        learning.reach(shard, shard.position)
        return shard, learning

    def _known_offset(self, marker: Marker, newest: int, high: int) -> int:
        """C, where it fits the image and the input."""
        committed = self._known_committed
        if committed is None and marker.clean:
            self.must_commit = True
            committed = marker.offset
        if committed is None:
            raise Refusal(
                f"the group has no committed offset for partition {self.partition}, though its changelog holds an "
                f"image at {marker.offset}: set it (kafka-consumer-groups --reset-offsets), or start under a new "
                "kafka.group_id"
            )
        if committed < max(marker.offset, newest):
            raise Refusal(
                f"the group's offset for partition {self.partition} ({committed}) is behind the changelog, whose image "
                f"is at {marker.offset} and whose newest weights hold from {newest}: they are from two lives of the "
                "group; start under a new kafka.group_id"
            )
        if committed > high:  # for a moment after a commit the end may still lie before its markers
            if time.monotonic() - self.began < STABLE_S:
                raise NotYet(f"the input of partition {self.partition} ends at {high}, before C = {committed}")
            raise Refusal(
                f"the group's offset for partition {self.partition} ({committed}) is beyond the input's end ({high}): "
                "the topic was made anew or cut; start under a new kafka.group_id"
            )
        return committed

    def _new(self, network: Network, start: int) -> tuple[Shard, LearningState]:
        if self._known_committed is not None:
            raise Refusal(
                f"the changelog of partition {self.partition} is empty, though the group has committed offset "
                f"{self._known_committed}: its state is lost; `foldcast topics reset` starts it cold from there, "
                "a new kafka.group_id from the beginning"
            )
        self.committed, self.must_commit = start, True
        shard = Shard(self._plan.method, network, start, self._plan.settings)
        self.first_messages = cold_start(shard)
        return shard, LearningState.new(shard)

    def _check_gap(self, shard: Shard, learning: LearningState, low: int) -> None:
        if low <= shard.position:
            return
        if not self._plan.skip_gaps:
            raise Refusal(
                f"the input's retention has passed partition {self.partition}'s image: records from {shard.position} "
                f"are needed, the log begins at {low}; worker.on_gap = skip goes on without them"
            )
        self.gap = low - shard.position
        shard.position = low
        self.committed = max(self.committed, low)
        learning.reach(shard, low)
        shard.begin_snapshot()  # the same pages at another offset: the gap is part of the image from here on
        self.first_messages, self.must_commit = shard.snapshot_pieces(0)[0], True

    # ---- the fold

    def advance(self, records: Records, lap: Callable[[str], object]) -> Advanced | None:
        """Take in records; those below C silently. None where nothing of them leaves the shard.

        `lap` is told when decoding and when the fold is done.
        """
        shard = self.shard
        assert shard is not None, "a restoring shard takes no records"
        self.last_record_ms = records.timestamps_ms[-1]
        cut = bisect_left(records.offsets, self.committed)
        if cut:
            self._catch_up(shard, records.part(0, cut), lap)
        if cut == len(records.offsets):
            return None
        rest = records if cut == 0 else records.part(cut, len(records.offsets))
        other_keys = self._plan.decoder.other_keys
        forecasts, rejected = self._fold(shard, rest, lap)
        return Advanced(forecasts, rejected, rest, self._plan.decoder.other_keys - other_keys)

    def _catch_up(self, shard: Shard, records: Records, lap: Callable[[str], object]) -> None:
        """Fold silently, cut where other weights came into service."""
        assert self.learning is not None, "a loaded shard has a learning"
        low = 0
        for high in [*(bisect_left(records.offsets, at) for at, _ in self.learning.pending), len(records.offsets)]:
            if high > low:
                self.learning.reach(shard, records.offsets[low])
                self._fold(shard, records.part(low, high), lap)
                low = high
        self.learning.reach(shard, shard.position)

    def _fold(self, shard: Shard, records: Records, lap: Callable[[str], object]) -> tuple[Forecasts, list[Rejected]]:
        batch, rejected = self._plan.decoder.decode(
            records.offsets, records.timestamps_ms, records.keys, records.values
        )
        lap("decode")
        forecasts = shard.advance(batch)
        lap("advance")
        return forecasts, rejected

    def fits(self, records: Records) -> bool:
        """Whether these are records this shard has not taken in."""
        assert self.shard is not None, "a restoring shard has no position"
        return records.offsets[0] >= self.shard.position
