"""Which events a worker refuses by what is not in the log: its clock, and the streams it has room for.

The fold is a function of the log, so what is refused is logged too, beside the dead letters and in their transaction.
A replay refuses what is logged and judges nothing: by then the clock has moved on, and the room is another.
"""

import time
from collections.abc import Container, Iterable, Iterator, Sequence
from itertools import groupby

import numpy as np

from pipeline.arrays import Bools, Ints
from pipeline.batch import Batch, Rejected
from pipeline.durable.image import MOST_REFUSED, Refused, encode_refused, refused_key
from pipeline.shard import Shard

CLOCKS_APART_MS = 1000  # a sender's and a worker's, where neither is wrong
NO_LIMIT = 10**9


class Judge:
    """Judges events at or above C. One for all shards of a worker."""

    def __init__(self, max_ahead_ms: int = NO_LIMIT * 1000, max_streams: int = NO_LIMIT) -> None:
        self.max_streams = max_streams
        self.room = max_streams  # for so many more; kept up to date by whoever advances a shard
        self._max_ahead_ms = max(max_ahead_ms, CLOCKS_APART_MS)

    def count(self, shards: Iterable[Shard]) -> None:
        """Find the room that there is beside the streams of all shards."""
        self.room = self.max_streams - sum(len(shard.table.index) for shard in shards)

    def sift(self, batch: Batch, offsets: Sequence[int], known: Container[str]) -> tuple[Batch, list[Rejected]]:
        """The events that are not refused, and the records that are, by their places among `offsets`.

        A record is refused with all its events, since refusals are logged by offset.
        """
        limit_ms = round(time.time() * 1000) + self._max_ahead_ms
        latest_ms = np.maximum(batch.time_ms, batch.record_ms)
        ahead = len(latest_ms) > 0 and latest_ms[latest_ms.argmax()] > limit_ms  # argmax costs a fifth of any
        if not ahead and self.room >= len(batch.name):
            return batch, []
        beyond = np.flatnonzero(latest_ms > limit_ms).tolist()
        why = {e: ("future_time", _ahead(int(latest_ms[e]) - limit_ms)) for e in beyond}
        if self.room < len(batch.name):
            message = f"there is room for no stream beside {self.max_streams:,} (worker.max_streams)"
            why |= dict.fromkeys(self._without_room(batch, known, why), ("too_many_streams", message))
        if not why:
            return batch, []
        places = np.searchsorted(offsets, batch.offset).tolist()
        refused = [*{places[e]: Rejected(places[e], *why[e]) for e in sorted(why)}.values()]
        return batch.without(why), refused

    def _without_room(self, batch: Batch, known: Container[str], refused: Container[int]) -> Iterator[int]:
        """Events of new streams beyond those that there is room for. A missing value makes no stream."""
        new = set[str]()
        for _, record in groupby(range(len(batch.name)), batch.offset.tolist().__getitem__):
            events = [e for e in record if e not in refused]
            names = {batch.name[e] for e in events if not np.isnan(batch.value[e])} - new
            names = {name for name in names if name not in known}
            if not names or len(new) + len(names) <= self.room:
                new |= names
            else:
                yield from events


def _ahead(beyond_ms: int) -> str:
    return (
        f"its time is {beyond_ms / 1000:g} s beyond this worker's clock and events.max_ahead_s: set the sender's clock"
    )


class RefusedEvents:
    """The refused events of one life of a shard, as the changelog has them."""

    def __init__(self, logged: Sequence[Refused] = ()) -> None:
        self._logged = {entry.offsets[0]: (entry.offsets[-1], entry.made_ms) for entry in logged}
        self._offsets = np.sort(np.array([offset for entry in logged for offset in entry.offsets], np.int64))

    def sift(self, batch: Batch) -> Batch:
        """The events of a replay that were not refused when they came."""
        found = np.flatnonzero(self._logs(batch.offset))
        return batch.without(found) if len(found) else batch

    def lacks(self, offsets: Sequence[int]) -> list[int]:
        """Those of these offsets that were not refused when they came."""
        at = np.array(offsets, np.int64)
        missing: list[int] = at[~self._logs(at)].tolist()
        return missing

    def _logs(self, offsets: Ints) -> Bools:
        """Whether each was refused. Of a million logged offsets each is looked up, never all of them."""
        after = np.searchsorted(self._offsets, offsets, "right")
        return after > np.searchsorted(self._offsets, offsets)

    def records(self, offsets: list[int]) -> list[tuple[bytes, bytes]]:
        """Changelog records for events that are refused now; none where none is."""
        made_ms, records = round(time.time() * 1000), []
        for low in range(0, len(offsets), MOST_REFUSED):
            part = offsets[low : low + MOST_REFUSED]
            self._logged[part[0]] = part[-1], made_ms
            records.append((refused_key(part[0]), encode_refused(Refused(made_ms, part))))
        return records

    def superseded(self, shard: Shard, before_ms: int) -> list[int]:
        """Entries that the image in force has passed and that are old enough; they are forgotten."""
        old = [
            at for at, (last, made_ms) in self._logged.items() if last < shard.snapshot_offset and made_ms <= before_ms
        ]
        for offset in old:
            del self._logged[offset]
        return old
