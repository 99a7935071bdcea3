"""A shard's streams as one structured array: a row is a record, a page is a run of rows, memory is one number.

The record is composed from what each part of the method declares. Rows of removed streams are used again, lowest
first; a new row and a reused one are the same bits.
"""

import hashlib
import heapq
from functools import cache

import numpy as np

from pipeline.arrays import Rows
from pipeline.learning import watchdog, windows
from pipeline.method import Method
from pipeline.network import model
from pipeline.parts import (
    admission,
    companion,
    covariates,
    intervals,
    linear,
    mixture,
    pending,
    scales,
    season,
    shrink,
    spikes,
    stack,
    weekly,
)

PAGE_BYTES = 256 * 1024


@cache
def layout(method: Method) -> np.dtype[np.void]:
    """What one stream is: the fields of all parts, wide ones first, so that all are aligned without padding.

    One object for all shards: numba knows it by identity, another that is equal costs it 4 us per kernel and call.
    """
    parts = (
        admission.fields(),
        spikes.fields(),
        scales.fields(method),
        season.fields(method),
        weekly.fields(method),
        covariates.fields(method),
        linear.fields(method),
        companion.fields(method),
        model.fields(method),
        stack.fields(method),
        shrink.fields(method),
        mixture.fields(method),
        intervals.fields(method),
        pending.fields(method),
        windows.fields(method),
        watchdog.fields(method),
    )
    fields = sorted((f for part in parts for f in part), key=lambda field: -np.dtype(field[1]).itemsize)
    spare = -np.dtype(fields).itemsize % 8  # so that the next row is aligned too
    return np.dtype([*fields, ("spare", "u1", (spare,))])


def blank(method: Method) -> np.void:
    """A stream before its first event."""
    row: np.void = np.zeros(1, layout(method))[0]
    for part in (weekly, linear, companion, stack, intervals):
        part.initialise(method, row)
    for rest in (shrink, mixture):
        rest.initialise(row)
    return row


class Table:
    """Rows, their names, and which pages changed since the last snapshot."""

    def __init__(self, method: Method) -> None:
        self._blank = blank(method)
        self._kept = [name for name, *_ in (*admission.fields(), *watchdog.fields(method)) if name != "count"]
        self.page_rows: int = 1 << max(0, (PAGE_BYTES // self._blank.itemsize).bit_length() - 1)
        self.rows: Rows = np.empty(0, self._blank.dtype)
        self.names: list[str | None] = []  # by row; None: free
        self.index: dict[str, int] = {}
        self._free: list[int] = []  # heap
        self.dirty: set[int] = set()  # pages

    @property
    def row_bytes(self) -> int:
        """State of one stream, its name apart."""
        return int(self._blank.itemsize)

    @property
    def pages(self) -> int:
        """Pages that hold the rows handed out so far."""
        return -(-len(self.names) // self.page_rows)

    def page_of(self, row: int) -> int:
        """The page a row is in."""
        return row // self.page_rows

    def page_slice(self, page: int) -> slice:
        """The rows of a page that were ever handed out."""
        return slice(page * self.page_rows, min((page + 1) * self.page_rows, len(self.names)))

    def next_page(self) -> int:
        """The page of the row that `add` will hand out."""
        return self.page_of(self._free[0] if self._free else len(self.names))

    def add(self, name: str) -> int:
        """A blank row for a new stream."""
        assert name not in self.index, f"{name} has a row"
        if self._free:
            row = heapq.heappop(self._free)
            self.names[row] = name
        else:
            row = len(self.names)
            self.names.append(name)
            self._grow(row + 1)
        self.rows[row] = self._blank
        self.index[name] = row
        self.dirty.add(self.page_of(row))
        return row

    def remove(self, row: int) -> None:
        """Forget a stream."""
        name = self.names[row]
        assert name is not None, f"row {row} is free"
        del self.index[name]
        self.names[row] = None
        self.rows[row] = self._blank
        heapq.heappush(self._free, row)
        self.dirty.add(self.page_of(row))

    def begin_anew(self, row: int) -> None:
        """Forget all of a stream but when it spoke and what it counts for in the watchdog's eyes."""
        kept = [(name, self.rows[name][row].copy()) for name in self._kept]
        self.rows[row] = self._blank
        for name, value in kept:
            self.rows[name][row] = value
        self.rows["begun_anew"][row] = 1

    def put_page(self, page: int, names: list[str | None], data: bytes) -> None:
        """Take a page from an image; pages come in order, 0 first. Raises ValueError on a size that does not fit."""
        rows = np.frombuffer(data, self.rows.dtype)
        if page != self.pages or len(self.names) % self.page_rows or len(rows) != len(names):
            raise ValueError(f"page {page} does not follow on {len(self.names)} rows or is damaged")
        low = len(self.names)
        self.names.extend(names)
        self._grow(len(self.names))
        self.rows[low : low + len(rows)] = rows
        for row, name in enumerate(names, low):
            if name is None:
                heapq.heappush(self._free, row)
            else:
                self.index[name] = row

    def digest(self) -> str:
        """Names all rows and their names, to the bit."""
        h = hashlib.blake2b(repr(self.names).encode(), digest_size=16)
        h.update(self.rows[: len(self.names)].tobytes())
        return h.hexdigest()

    def _grow(self, rows: int) -> None:
        if rows > len(self.rows):
            bigger = np.zeros(max(64, rows, 2 * len(self.rows)), self.rows.dtype)
            bigger[: len(self.rows)] = self.rows
            self.rows = bigger
