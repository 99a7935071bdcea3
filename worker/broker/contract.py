"""What the loop may ask of a broker, in plain types.

Knows no Kafka client. `KafkaBroker` (real) and the tests' in-memory broker keep the same contract, and the same
tests run against both. Partitions are those of the input topic; changelog, output and dead letters use the same
numbers. Only the loop's thread calls a broker.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

NO_ANSWER = "see that the broker answers"
RESENDER = "dead-letters/resend"  # in an instance's place in the transactional id of `foldcast dead-letters resend`
NO_TOPIC = "see that the topics are there (`foldcast topics check`)"
SILENT_S = 5.0  # a fetch is answered many times a second, whatever there is
UNANSWERED_S = 5.0  # so long an ask that no transaction can hold up may stay without an answer


def longest_transaction_s(commit_timeout_s: float) -> float:
    """The time after which no transaction of a worker is open any more, whatever became of that worker."""
    return max(30.0, commit_timeout_s + 15.0)  # the producer's margin, and 10 s until the broker looks for old ones


@dataclass(frozen=True)
class Topics:
    """The names of the topics, and of the group whose they are. `rows` is None where forecasts are published as records
    alone; `source` is the input's id, by which one of the same name is told from it."""

    input: str
    output: str
    dead_letters: str
    changelog: str
    group: str = ""
    rows: str | None = None
    source: str = ""

    @property
    def names(self) -> list[str]:
        """All topics there are, the input first."""
        every = (self.input, self.output, self.rows, self.dead_letters, self.changelog)
        return [name for name in every if name is not None]


class Records(NamedTuple):
    """A run of one partition's records in offset order, as parallel lists (offsets may have holes)."""

    offsets: list[int]
    timestamps_ms: list[int]
    keys: list[bytes | None]
    values: list[bytes | None]
    headers: list[Sequence[tuple[str, bytes | None]]]

    def part(self, low: int, high: int) -> "Records":
        """Those at places low to high of the run."""
        between = slice(low, high)
        offsets, timestamps_ms, keys, values, headers = self
        return Records(offsets[between], timestamps_ms[between], keys[between], values[between], headers[between])


class LogRecord(NamedTuple):
    """A record of a log that is read outside the group."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()
    offset: int = -1  # -1: whoever reads it does not say, nor when it was written
    timestamp_ms: int = -1


class Message(NamedTuple):
    """A record to send. `value=None` is a tombstone, a timestamp of None the time when it is sent."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()
    timestamp_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Polled:
    """What one poll brought.

    `ended` are the partitions that were revoked or lost at any moment since the last poll, even if they came back
    within it: every life of them from before is over. `began` are the partitions that were assigned since; they are
    paused and deliver nothing until `start`. A partition may be in both.
    `unreadable` are partitions whose next records cannot be unpacked: they deliver nothing more until `start`.
    `membership` fences the commit of these records: opaque, handed back to `commit`. It is None while a commit would be
    refused, as where the group is rebalancing: nothing is delivered then, so put it off.
    `passed` are offsets below which a started partition that brought nothing now has nothing more to bring, whatever
    there is of transaction markers and aborted records. `lost` are how many offsets hold nothing of all that, and the
    end of what was looked through (a run, or what was passed): the log has lost records from its middle.
    """

    records: dict[int, Records] = field(default_factory=dict)
    began: frozenset[int] = frozenset()
    ended: frozenset[int] = frozenset()
    membership: object = None
    unreadable: tuple["Unreadable", ...] = ()
    passed: dict[int, int] = field(default_factory=dict)
    lost: dict[int, tuple[int, int]] = field(default_factory=dict)


class BrokerError(Exception):
    """The broker or the client failed; throw away what depended on it and begin again from what is committed.

    `fix` is what a person can do where it goes on failing, in words that end a sentence. `fenced` says that somebody
    else took this worker's identity (its transactional id or its group instance id).
    """

    def __init__(self, message: str, *, fix: str = NO_ANSWER, fenced: bool = False) -> None:
        super().__init__(message)
        self.fix, self.fenced = fix, fenced


class Unreadable(BrokerError):  # noqa: N818 - a state of the log, whoever reads it
    """A log cannot be unpacked from `offset` on. Reading again brings the same, unless it was the way here that
    damaged it."""

    def __init__(self, message: str, partition: int, offset: int, fix: str) -> None:
        super().__init__(message, fix=fix)
        self.partition, self.offset = partition, offset


class NotYet(BrokerError):  # noqa: N818 - a state that passes, not a failure
    """Not to be had now, ask again: another worker's open transaction hides it, or no broker answered in time."""


class OffsetHeld(NotYet):
    """A transaction has held the group's offset for longer than any of the group's lasts: its end may be lost, or still
    to come. `offset` is the one before it; only what is published tells whether it has moved."""

    def __init__(self, message: str, offset: int | None, *, fix: str = NO_ANSWER) -> None:
        super().__init__(message, fix=fix)
        self.offset = offset


class Unanswered(NotYet):
    """No broker answered in time what no transaction can hold up. Where that lasts, the client may be at fault:
    `renew` makes another."""


class CommitError(BrokerError):
    """A transaction did not commit (`refused`), or nobody can say whether it did (`unknown`).

    After it only the broker knows what holds: drop every shard the transaction touched, call `renew`, restore.
    A broker that aborted a transaction for its age says `fenced` too.
    """

    def __init__(self, message: str, *, outcome: str, fenced: bool = False, fix: str = NO_ANSWER) -> None:
        super().__init__(message, fix=fix, fenced=fenced)
        self.outcome = outcome  # "refused" | "unknown"


class LeftOpen(NamedTuple):
    """A transaction that a partition holds open though none is under way there: its end never came to it.

    By topic, `begins` are the first offsets that it holds, `coordinators` the epochs of the coordinators that were
    heard of last. `transactional_id` is None where nobody knows it any more, or the user may not see it.
    """

    producer: int
    epoch: int
    transactional_id: str | None
    begins: dict[str, int]
    coordinators: dict[str, int]


class LogRead(Protocol):
    """One partition of a log, read `read_committed` up to the end it had when this was opened (asked for
    `read_uncommitted`, so that no transaction that is being committed is missed)."""

    begin: int  # the offset it was opened at
    end: int  # the offset after the last that it returns

    def read(self, timeout_s: float) -> list[LogRecord]:
        """The next records; returns early, and may return nothing: nobody can read past an open
        transaction. Raises NotYet, Unreadable, BrokerError. One that brings nothing for long is to be closed and
        opened again."""

    @property
    def done(self) -> bool:
        """True once everything up to the end has been returned."""

    def close(self) -> None:
        """Forget it; may be called at any time and twice."""


class Broker(Protocol):
    """A group member on the input topic with a transactional producer. Every call has a time limit."""

    partitions: int  # of the input when it joined; those added later are ignored

    def input_id(self) -> str:
        """Tells the input from one of the same name that was made after it was deleted; empty where unknown. Raises
        BrokerError."""

    def partitions_now(self) -> int:
        """Of the input, as the client knows it: it hears of new ones within its `metadata_max_age_ms`, five minutes.
        Asks nobody."""

    def poll(self, timeout_s: float) -> Polled:
        """Records of started partitions and changes of the assignment since the last poll. May wait a second longer
        than `timeout_s` while the group is rebalancing. Raises BrokerError: then `renew` before the next poll. It is
        `fenced` soon after another member has joined under the same instance id."""

    def committed(self, partition: int) -> int | None:
        """C, the group's committed next offset (None: the group has none), never one that an open transaction may
        still move. Raises NotYet while such a transaction is open, and OffsetHeld once that lasts for too long."""

    def bounds(self, partition: int) -> tuple[int, int]:
        """First offset still in the input's log, and the offset after its last readable record. Raises Unanswered."""

    def start(self, partition: int, offset: int) -> None:
        """Deliver this partition's records from `offset` on, beginning with the next poll. Does nothing where the
        partition is no longer ours: the next poll says so."""

    def rest(self, partition: int, offset: int) -> None:
        """Deliver nothing more of this partition until `start`; as far as it goes, it is at `offset`."""

    def open_changelog(self, partition: int) -> LogRead:
        """Call after `committed` of the same partition: then nothing committed is missed. Raises Unanswered."""

    def open_input(self, partition: int, offset: int) -> LogRead:
        """The input from `offset` on, which its log still holds: outside the group, to look what is there. Raises
        Unanswered."""

    def open_end(
        self, topic: str, partition: int, last: int, before: int | None = None, undecided: bool = False
    ) -> LogRead:
        """The last so many offsets of a topic, or all there are, up to an offset `before` its end where one is given;
        with `undecided` what no transaction has committed, too. Raises Unanswered."""

    def left_open(self, topics: Sequence[str], partition: int) -> list[LeftOpen]:
        """The transactions that nobody goes on with and that this partition of these topics holds open. Raises
        BrokerError."""

    def end_left_open(self, left: LeftOpen, partition: int, commit: bool) -> None:
        """End it in this partition of its topics as one that was committed, or was not. Fences nobody, and ends nothing
        else. Raises BrokerError."""

    def commit(self, messages: Sequence[Message], offsets: dict[int, int], membership: object) -> None:
        """One transaction: all messages and the next offsets of their partitions, or nothing. Raises CommitError, then
        `renew` before the next; ValueError without offsets, because they are what fences it."""

    def renew(self) -> None:
        """Make anew whatever failed. After a CommitError the producer, which also aborts what the old one left open.
        After a poll that failed the consumer, and so where it has left `bounds` unanswered for `UNANSWERED_S` or
        `committed` for longer than a transaction lasts: the next polls report all its partitions as ended, and those
        that come back as begun. And always what reads changelogs, for those opened from now on: reads that are open
        go on. Live partitions notice nothing where only these are made anew. Raises BrokerError, then try again, or
        Refusal where that would not help."""

    def lag(self) -> dict[int, int]:
        """Records behind the end of the log for each started partition, as last seen by the client; asks nobody.
        A partition is missing until the first fetch after its start was answered, and where it was not behind and
        `silence` has begun: nobody knows how far behind it is now."""

    def silence(self) -> str | None:
        """Which brokers have left started partitions without an answer for `SILENT_S` or longer, and for how long, in
        words; None where there are none. Asks nobody."""

    def close(self, leave: bool) -> None:
        """Close the clients. The member stays in the group (static) until its session times out, so that a restart
        takes over without a rebalance; with `leave` it is removed and others take over at once. Never raises."""
