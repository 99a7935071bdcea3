"""A shard: one partition's streams and weights, a fold over its log.

Events of a batch that can be worked on together, at most one per row, are a wave; a row's result has the same bits
whatever else is in its wave, so the fold does not depend on how the log was cut into batches. wave.py has the order in
which an event is scored, learnt from, stepped and forecast.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping

import msgspec
import numpy as np

from pipeline.arrays import Ints
from pipeline.batch import DROPS, Batch
from pipeline.durable.image import UNCHECKED, Counters, ImageError, Marker, OtherSettingsError, Page
from pipeline.durable.snapshot import Snapshot
from pipeline.forecasts import Forecasts, joined
from pipeline.learning import watchdog, windows
from pipeline.method import VERSION, Method
from pipeline.network.model import Network, Weights
from pipeline.parts import admission
from pipeline.parts.experts import part_names
from pipeline.records import fixed
from pipeline.table import Table
from pipeline.wave import Wave, waves_of

SWEEP_EVERY = 10_000  # idle streams are looked for at multiples of this offset


def fingerprint(settings: Mapping[str, object], table: Table) -> str:
    """Names the meaning of a row: settings, method version and layout. Only equal ones may read each other's pages."""
    text = json.dumps([VERSION, settings, str(table.rows.dtype)], sort_keys=True, default=list)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Shard:
    """State of one partition at `position`, the next offset it expects."""

    def __init__(
        self, method: Method, network: Network, start: int, settings: Mapping[str, object], parts: bool = False
    ) -> None:
        """An empty shard. `network` is in service from `start`. `settings` say in words what `method` means.

        With `parts` its forecasts have those of single experts beside them, in the order of `part_names`.
        """
        self.method = method
        self._parts = len(part_names(method)) if parts else 0
        self.network = network
        self.weights_offset = start
        self.position = start
        self.table = Table(method)
        self._fixed, self.wave = fixed(method), Wave(method, self.table, network)
        self.counters = Counters()
        self.clock_ms = 0  # newest record timestamp since the last sweep
        self.watch = watchdog.blank()
        self._sampled: Ints | None = None  # by row, its events at the last sample
        self.next_sweep = _after(start)
        self.source = ""  # id of the log that is folded, for whoever restores it; empty: unknown
        self.border = 0  # below it everything was published by another group
        self.snapshot_offset = start  # of the image in force: what follows it is the replay tail
        self.image_weights = start  # the adoption that image names
        self._settings = dict(settings)
        self._fingerprint = fingerprint(settings, self.table)
        self._letters = ""
        self._page_offsets: list[int] = []
        self._page_checksums: list[int] = []
        self._snapshot: Snapshot | None = None
        self._snapshotted: set[int] = set()  # pages of the snapshot under way

    # ---- restore

    def load(self, marker: Marker, pages: Iterable[Page]) -> None:
        """Become an image; `network` must already have its weights. Raises ImageError where the method is another."""
        if why := self.difference(marker):
            raise why
        self.table.make_room(len(marker.letters))
        for page in pages:
            try:
                self.table.put_page(page.number, page.names, page.rows)
            except ValueError as error:
                raise ImageError(str(error)) from error
        self.position = self.snapshot_offset = marker.offset
        self.weights_offset = self.image_weights = marker.weights
        self.counters = marker.counters
        self.clock_ms, self.next_sweep = marker.clock_ms, marker.next_sweep
        self.watch[:] = marker.watch
        self.source, self.border = marker.source, marker.border
        self._take_over(marker)

    def _take_over(self, marker: Marker) -> None:
        """The marker's pages are those in force."""
        self._letters, self._page_offsets = marker.letters, list(marker.page_offsets)
        self._page_checksums = list(marker.page_checksums) or [UNCHECKED] * len(marker.letters)

    def difference(self, marker: Marker) -> ImageError | None:
        """Return what keeps an image of this marker from being this method's; None where it can be loaded."""
        if marker.method == self._fingerprint:
            return None
        mine = json.loads(json.dumps(self._settings, default=list))
        return OtherSettingsError.between(marker.settings, mine) or ImageError(
            "its state is of another version of the method, or of rows of another layout"
        )

    # ---- the fold

    def advance(self, batch: Batch) -> Forecasts:
        """Take in the next events of the log and forecast after each accepted one."""
        assert batch.end > self.position, f"batch ends at {batch.end}, shard is at {self.position}"
        parts = [self._fold(part) for part in self._between_sweeps(batch)]
        self.position = batch.end
        self.counters.records += batch.records
        self.counters.dead += batch.records - len({*batch.offset.tolist()})  # records without an event
        return parts[0] if len(parts) == 1 else joined(parts)

    def _between_sweeps(self, batch: Batch) -> Iterator[Batch]:
        """Cut where idle streams are to be removed; removal is part of the fold, at fixed offsets."""
        low = 0
        while self.method.stream_ttl_ms is not None:
            cut = int(np.searchsorted(batch.offset, self.next_sweep))
            if cut == len(batch.name):
                break
            yield batch.part(low, cut)
            self._sweep(self.method.stream_ttl_ms)
            self.next_sweep = _after(int(batch.offset[cut]))
            low = cut
        yield batch.part(low, len(batch.name)) if low else batch

    def _sweep(self, ttl_ms: int) -> None:
        names = self.table.names
        idle = self.clock_ms - self.table.rows["record_ms"][: len(names)] > ttl_ms
        for row in np.flatnonzero(idle).tolist():
            if names[row] is not None:
                self.table.remove(row)
        self.clock_ms = 0  # a timestamp far ahead misleads the next sweep, not all that follow

    def _fold(self, batch: Batch) -> Forecasts:
        index, born = self._rows_of(batch)
        out = Forecasts.blank(len(index), self.method, self._parts)
        events = out.events
        events["row"], events["offset"] = index, batch.offset
        events["time_ms"], events["record_ms"] = batch.time_ms, batch.record_ms
        events["value"], events["covariates"] = batch.value, batch.covariates
        events["raw"] = np.log(batch.value) if self.method.transform == "log" else batch.value
        rows = self.table.changing(index)
        admission.admit(rows, events, self._fixed)
        verdict = events["verdict"].copy()
        if batch.drop.any():
            verdict = np.where(batch.drop, batch.drop, verdict)
        self._count(verdict)
        accepted = (verdict == admission.ACCEPTED).nonzero()[0]
        dropped = verdict.nonzero()[0]
        if len(dropped):
            events = events[accepted]
        names, lost = ([batch.name[e] for e in some.tolist()] for some in (accepted, dropped))
        gone = lost, batch.time_ms[dropped], batch.value[dropped]
        out = Forecasts(events, names, out.parts[: len(events)], verdict, born, *gone)
        for places in waves_of(events["turn"]):
            self.wave.forecast(rows, events, places, out.parts)
        watchdog.watch(rows, events, self.watch)
        if len(index):
            self.clock_ms = max(self.clock_ms, max(batch.record_ms.tolist()))
        return out

    def _rows_of(self, batch: Batch) -> tuple[Ints, list[str]]:
        """The row of each event; a stream gets one with its first value, none by a missing one."""
        table = self.table
        born = []
        found = [table.index.get(name, -1) for name in batch.name]
        index = np.array(found, np.int64)
        for e in np.flatnonzero((index < 0) & ~np.isnan(batch.value)).tolist() if -1 in found else ():
            name = batch.name[e]
            if name not in table.index:
                table.add(name)
                born.append(name)
            index[e] = table.index[name]
        return index, born

    # ---- learning

    def windows(self, streams: int) -> windows.Windows | None:
        """A sample to learn from, of at most so many streams; None: there is none.

        The same inputs, labels and hidden states at a position. What it tells to have come since the sample before is
        of this life of the shard: no snapshot has it, and the first sample of a life tells of nothing that it is new.
        """
        rows = self.table.rows[: len(self.table.names)]
        counts = rows["count"].astype(np.int64)
        before = counts if self._sampled is None else np.pad(self._sampled, (0, len(rows) - len(self._sampled)))
        self._sampled = counts
        active = watchdog.are_active(rows, self.watch)
        return windows.sample(rows, active, self.method, streams, self.position, before)

    def adopt(self, weights: Weights, offset: int, rolled_back: bool) -> None:
        """Use these weights, which the network's `check` has let pass, for the events from `offset` on."""
        assert offset > self.weights_offset, f"weights from {offset} on, where those from {self.weights_offset} are"
        self.network.put(self.network.flat(weights))
        self.weights_offset = offset
        if rolled_back:
            watchdog.forgive(self.watch, offset)

    def _count(self, verdict: Ints) -> None:
        accepted, *dropped = np.bincount(verdict, minlength=1 + len(DROPS)).tolist()
        self.counters.forecasts += accepted
        for reason, number in zip(DROPS, dropped, strict=True):
            if number:
                setattr(self.counters, reason, getattr(self.counters, reason) + number)

    # ---- snapshot

    @property
    def pages_to_send(self) -> int | None:
        """Pages the snapshot under way has still to send; None where none is."""
        return None if self._snapshot is None else len(self._snapshot.pending)

    @property
    def snapshot_lag(self) -> int:
        """Offsets since the snapshot under way was begun: the replay tail once it is written."""
        return 0 if self._snapshot is None else self.position - self._snapshot.marker.offset

    @property
    def replay_tail(self) -> int:
        """Offsets from the image in force to here: what a restore would read again at most."""
        return self.position - self.snapshot_offset

    @property
    def version(self) -> str:
        """The name of the weights in service, as forecasts carry it."""
        return f"{self.method.cell}{self.method.hidden_size}-{self.weights_offset}"

    def begin_snapshot(self, clean: bool = False) -> int:
        """Fix the present position as the offset of a new image; a half-written one is given up. Pages to send."""
        if self._snapshot is not None:  # its pages, sent or not, are under the letter not in force: write them again
            self.table.dirty |= self._snapshotted
        blank = self.table.pages - len(self._letters)
        marker = Marker(
            offset=self.position,
            method=self._fingerprint,
            settings=self._settings,
            letters=self._letters + "-" * blank,
            page_offsets=self._page_offsets + [self.position] * blank,
            page_checksums=self._page_checksums + [UNCHECKED] * blank,
            weights=self.weights_offset,
            counters=msgspec.structs.replace(self.counters),
            clock_ms=self.clock_ms,
            next_sweep=self.next_sweep,
            watch=self.watch.tolist(),
            clean=clean,
            source=self.source,
            border=self.border if self.position < self.border else 0,
        )
        self._snapshotted = set(self.table.dirty)
        self._snapshot = Snapshot(marker, self._snapshotted)
        self.table.before_change = self._snapshot.about_to_change
        self.table.dirty.clear()
        return len(self._snapshotted)

    def snapshot_pieces(self, pages: int) -> tuple[list[tuple[bytes, bytes]], bool]:
        """The next records of the snapshot under way, at most so many pages; True with those that complete it."""
        assert self._snapshot is not None, "no snapshot is under way"
        pieces, last = self._snapshot.pieces(pages, self.table.page)
        if last:  # if the transaction does not commit, this life of the shard ends with it
            marker = self._snapshot.marker
            self._take_over(marker)
            self.snapshot_offset, self.image_weights = marker.offset, marker.weights
            self._snapshot = self.table.before_change = None
        return pieces, last


def _after(offset: int) -> int:
    return (offset // SWEEP_EVERY + 1) * SWEEP_EVERY
