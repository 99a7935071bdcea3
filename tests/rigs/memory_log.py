"""Logs in memory, with transactions: what a read_committed reader sees of them."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from worker.broker.contract import LogRecord, Message, Unreadable


@dataclass
class Transaction:
    state: str = "open"  # "open" | "committed" | "aborted"
    logs: list["Log"] = field(default_factory=list)
    offsets: dict[int, int] = field(default_factory=dict)


class Entry(NamedTuple):
    """A record, or with `message` None a transaction's marker."""

    offset: int
    timestamp_ms: int
    message: Message | None
    transaction: Transaction


@dataclass(eq=False)
class Log:
    entries: list[Entry] = field(default_factory=list)  # an entry's place is its offset
    first: int = 0
    _starts: list[tuple[int, Transaction]] = field(default_factory=list)

    @property
    def end(self) -> int:
        return len(self.entries)

    def append(self, message: Message | None, timestamp_ms: int, transaction: Transaction) -> int:
        if transaction.state == "open" and self not in transaction.logs:
            transaction.logs.append(self)
            self._starts.append((self.end, transaction))
        self.entries.append(Entry(self.end, timestamp_ms, message, transaction))
        return self.end - 1

    def stable(self) -> int:
        """The offset after the last readable record: where the first open transaction begins."""
        self._starts = [start for start in self._starts if start[1].state == "open"]
        return min((offset for offset, _ in self._starts), default=self.end)

    def begin_of(self, transaction: Transaction) -> int | None:
        """Where an open transaction begins, None where it is not in this log."""
        return next((offset for offset, one in self._starts if one is transaction), None)

    def entrust(self, before: Transaction, after: Transaction) -> None:
        """What is of one transaction is of another."""
        self.entries = [e._replace(transaction=after) if e.transaction is before else e for e in self.entries]
        self._starts = [(offset, after if one is before else one) for offset, one in self._starts]

    def remove(self, *offsets: int) -> None:
        """Compaction: nothing is left of these records."""
        for offset in offsets:
            self.entries[offset] = Entry(offset, 0, None, Transaction("removed"))

    def removed(self, start: int, end: int) -> int:
        return sum(entry.transaction.state == "removed" for entry in self.entries[start:end])

    def readable(self, start: int) -> Iterator[tuple[Entry, Message]]:
        """Committed records from `start` on."""
        for place in range(max(start, self.first), self.stable()):
            entry = self.entries[place]
            if entry.message is not None and entry.transaction.state == "committed":
                yield entry, entry.message


class MemoryRead:
    """Hands out a few records at a time, so that a reader meets slices."""

    def __init__(self, log: Log, start: int = 0, slice_records: int = 3, before: int | None = None) -> None:
        self._log = log
        self.begin, self.end = max(log.first, start), log.end if before is None else before
        self._position = self.begin
        self._slice = slice_records

    def read(self, timeout_s: float) -> list[LogRecord]:
        rows = list(islice(self._log.readable(self._position), self._slice))
        full = len(rows) == self._slice
        self._position = rows[-1][0].offset + 1 if full else self._log.stable()
        return [
            LogRecord(m.key or b"", m.value, m.headers, entry.offset) for entry, m in rows if entry.offset < self.end
        ]

    @property
    def done(self) -> bool:
        return self._position >= self.end

    def close(self) -> None:
        """Nothing to forget."""


class UndecidedRead(MemoryRead):
    """Hands out all there is, whatever became of its transaction."""

    def read(self, timeout_s: float) -> list[LogRecord]:
        entries = self._log.entries[self._position : self.end]
        self._position = self.end
        return [
            LogRecord(entry.message.key, entry.message.value, entry.message.headers, entry.offset)
            for entry in entries
            if entry.message is not None
        ]


class DamagedRead(MemoryRead):
    """Hands out all there is, and then meets what cannot be unpacked."""

    def read(self, timeout_s: float) -> list[LogRecord]:
        if records := super().read(timeout_s):
            return records
        raise Unreadable("damaged", 0, 1, "mend it")

    @property
    def done(self) -> bool:
        return False
