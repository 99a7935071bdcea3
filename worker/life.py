"""One life of a shard on this worker, from restore to drop. A life is never repaired: it ends, and another begins.

restoring     C is asked for, then the changelog is read, a slice at a time
catching up   events below C are folded silently: nothing leaves the shard
live          events from C on are forecast and committed
"""

import time
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.events import Decoder, Rejected
from pipeline.forecasts import Forecasts
from pipeline.image import Image, ImageError, read_image, weights_key
from pipeline.method import Method
from pipeline.model import Network, Shape
from pipeline.shard import Shard
from worker.broker.contract import Broker, ChangelogRead, Records
from worker.failures import Refusal

READ_S = 0.05  # one slice of a restore: live shards wait so long


@dataclass(frozen=True)
class Plan:
    """What every shard of a worker has in common."""

    method: Method
    settings: dict[str, object]  # what gives the state its meaning, in words
    decoder: Decoder
    seed: int
    checkpoint: bytes | None
    start: str  # "earliest" | "latest": where a new group begins
    skip_gaps: bool  # go on where the input has lost records that the fold needs

    def network(self) -> Network:
        """The base weights."""
        network = Network(Shape.of(self.method), self.seed)
        if self.checkpoint is not None:
            network.load(self.checkpoint)
        return network


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
        self.committed = -1  # C
        self.first_messages: list[tuple[bytes, bytes]] = []  # adoption 0, until it is committed
        self.must_commit = False  # C is ours to set, though no event came
        self.gap = 0  # records the input had lost
        self.replayed = 0
        self.last_record_ms = 0
        self.began = time.monotonic()
        self.restored_s: float | None = None  # set once live
        self._plan = plan
        self._known_committed: int | None = None
        self._read: ChangelogRead | None = None
        self._records: list[tuple[bytes, bytes | None]] = []

    @property
    def live(self) -> bool:
        """At C: what it takes in now leaves it."""
        return self.shard is not None and self.shard.position >= self.committed

    @property
    def pending(self) -> int | None:
        """Offsets left to fold silently; None while not even that is known."""
        return None if self.shard is None else max(0, self.committed - self.shard.position)

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
        self._records += self._read.read(READ_S)
        if not self._read.done:
            return False
        try:
            shard = self._build(read_image(self._records), broker)
        except ImageError as error:
            raise Refusal(self._refused(error)) from error
        self._read.close()
        self._records = []
        self.replayed = max(0, self.committed - shard.position)
        broker.start(self.partition, shard.position)
        self.shard = shard
        return True

    def _refused(self, error: ImageError) -> str:
        return (
            f"the changelog of partition {self.partition} does not fit these settings: {error}; restore them, or start "
            "under a new kafka.group_id"
        )

    def _build(self, image: Image, broker: Broker) -> Shard:
        network = self._plan.network()
        low, high = broker.bounds(self.partition)
        committed, marker = self._known_committed, image.marker
        if not image.weights:  # the first transaction of a shard logs them
            return self._new(network, low if self._plan.start == "earliest" else high)
        base = min(image.weights) if marker is None else marker.offset
        if committed is None and marker is not None and marker.clean:
            committed, self.must_commit = marker.offset, True
        if committed is None:
            raise Refusal(
                f"the group has no committed offset for partition {self.partition}, though its changelog holds an "
                f"image at {base}: set it (kafka-consumer-groups --reset-offsets), or start under a new kafka.group_id"
            )
        if committed < base:
            raise Refusal(
                f"the group's offset for partition {self.partition} ({committed}) is behind the changelog's image "
                f"({base}): they are from two lives of the group; start under a new kafka.group_id"
            )
        self.committed = committed
        network.load(image.weights[base if marker is None else marker.weights])
        shard = Shard(self._plan.method, network, base, self._plan.settings)
        if marker is not None:
            shard.load(image)
        self._check_gap(shard, low)
        return shard

    def _new(self, network: Network, start: int) -> Shard:
        if self._known_committed is not None:
            raise Refusal(
                f"the changelog of partition {self.partition} is empty, though the group has committed offset "
                f"{self._known_committed}: its state is lost; `foldcast topics reset` starts it cold from there, "
                "a new kafka.group_id from the beginning"
            )
        self.committed, self.must_commit = start, True
        self.first_messages = [(weights_key(start), network.dump())]
        return Shard(self._plan.method, network, start, self._plan.settings)

    def _check_gap(self, shard: Shard, low: int) -> None:
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
            self._fold(shard, records.part(0, cut), lap)
        if cut == len(records.offsets):
            return None
        rest = records if cut == 0 else records.part(cut, len(records.offsets))
        other_keys = self._plan.decoder.other_keys
        forecasts, rejected = self._fold(shard, rest, lap)
        return Advanced(forecasts, rejected, rest, self._plan.decoder.other_keys - other_keys)

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
