"""Events of one partition as arrays, and the records that are none."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from pipeline.arrays import Floats, Ints

# every reason an event is dropped and counted; its place here, from 1, is its verdict
DROPS = ("late", "duplicate", "missing", "sentinel", "outside_range")
SENTINEL, OUTSIDE = 4, 5  # the others are admission's


class Rejected(NamedTuple):
    """A record that is no event, by its place in the batch."""

    place: int
    reason: str
    message: str


class Batch(NamedTuple):
    """Events of one partition in offset order (n of them), and how far the batch reaches.

    The events of a record with several targets have one offset.
    """

    offset: Ints  # (n,)
    name: list[str]
    time_ms: Ints  # (n,)
    record_ms: Ints  # (n,)
    value: Floats  # (n,) NaN: missing
    covariates: Floats  # (n, C) NaN: absent
    records: int  # events and rejected records together
    end: int  # the offset after the last record
    drop: Ints  # (n,) SENTINEL or OUTSIDE, why a value is NaN; else 0

    def part(self, low: int, high: int) -> "Batch":
        """Events low to high; `records` and `end` stay the whole batch's."""
        between = slice(low, high)
        return self._replace(
            offset=self.offset[between],
            name=self.name[between],
            time_ms=self.time_ms[between],
            record_ms=self.record_ms[between],
            value=self.value[between],
            covariates=self.covariates[between],
            drop=self.drop[between],
        )

    def without(self, places: Iterable[int]) -> "Batch":
        """The batch with fewer events; its others have become dead letters, which `records` and `end` know."""
        kept = np.delete(np.arange(len(self.name)), list(places))
        return self._replace(
            offset=self.offset[kept],
            name=[self.name[e] for e in kept.tolist()],
            time_ms=self.time_ms[kept],
            record_ms=self.record_ms[kept],
            value=self.value[kept],
            covariates=self.covariates[kept],
            drop=self.drop[kept],
        )


def interleaved(batches: Sequence[Batch]) -> Batch:
    """The events of several targets of the same records, in offset order, those of one record as the targets are."""
    order = np.concatenate([batch.offset for batch in batches]).argsort(kind="stable")
    names = [name for batch in batches for name in batch.name]
    return batches[0]._replace(
        offset=np.concatenate([batch.offset for batch in batches])[order],
        name=[names[e] for e in order.tolist()],
        time_ms=np.concatenate([batch.time_ms for batch in batches])[order],
        record_ms=np.concatenate([batch.record_ms for batch in batches])[order],
        value=np.concatenate([batch.value for batch in batches])[order],
        covariates=np.concatenate([batch.covariates for batch in batches])[order],
        drop=np.concatenate([batch.drop for batch in batches])[order],
    )
