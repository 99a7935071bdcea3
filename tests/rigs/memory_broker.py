"""A broker in memory that keeps the contract, for the loop's tests; one thread only.

Its logs have transaction markers (holes in the offsets), its group rebalances in the cooperative two rounds, each
when all members have polled. Time does not pass in it: `expire` is the session time-out.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice, takewhile

from tests.rigs.memory_log import Log, MemoryRead, Transaction, UndecidedRead
from worker.broker.contract import (
    BrokerError,
    CommitError,
    LeftOpen,
    LogRead,
    Message,
    NotYet,
    OffsetHeld,
    Polled,
    Records,
    Unanswered,
    Unreadable,
)

INPUT, OUTPUT, ROWS, CHANGELOG, DEAD_LETTERS = "input", "output", "rows", "changelog", "dead-letters"
GROUP = "group"


class MemoryCluster:
    """Topics, one group, and its members by instance id. A test drives it between the members' calls."""

    def __init__(self, partitions: int, max_poll_records: int = 500) -> None:
        self.partitions = partitions
        self.max_poll_records = max_poll_records
        names = (INPUT, OUTPUT, ROWS, CHANGELOG, DEAD_LETTERS)
        self.logs = {(name, p): Log() for name in names for p in range(partitions)}
        self.offsets: dict[int, int] = {}
        self.open: dict[str, Transaction] = {}  # by transactional id
        self.epochs: dict[str, int] = {}
        self.members: dict[str, MemoryBroker] = {}
        self.generation = 0
        self.unanswered: set[int] = set()  # partitions whose changelog nobody tells of
        self.damaged: set[int] = set()  # partitions whose changelog nobody can unpack
        self.added = 0  # partitions of the input, of which nothing comes
        self.unreadable: dict[int, int] = {}  # by partition: from where on no member can unpack the input
        self.input_id = "first"
        self.endless: list[tuple[str, Transaction]] = []  # with whose they are: no end of them will ever come
        self.joined: set[str] | None = None  # who has answered the rebalance that is under way

    def produce(
        self,
        partition: int,
        key: bytes | None,
        value: bytes | None,
        timestamp_ms: int = 0,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> int:
        """Append an input record outside any transaction and return its offset."""
        message = Message(INPUT, partition, key, value, headers)
        return self.logs[INPUT, partition].append(message, timestamp_ms, Transaction("committed"))

    def committed_messages(self, topic: str) -> list[Message]:
        """What a read_committed reader sees, partition by partition."""
        logs = [self.logs[topic, p] for p in range(self.partitions)]
        return [message for log in logs for _, message in log.readable(0)]

    def end_group(self, changelog: str) -> None:
        """Nobody is a member any more, and whoever joins is of another group, whose changelog is empty."""
        self.members, self.offsets, self.epochs, self.open = {}, {}, {}, {}
        for partition in range(self.partitions):
            self.empty(changelog, partition=partition)
        self.generation, self.joined = 0, None

    def empty(self, *topics: str, partition: int) -> None:
        """Nothing was ever written to this partition of these topics."""
        for topic in topics:
            self.logs[topic, partition] = Log()

    def truncate(self, partition: int, first: int) -> None:
        """Retention: input records before `first` are gone."""
        self.logs[INPUT, partition].first = first

    @contextmanager
    def held_offsets(self, partition: int) -> Iterator[None]:
        """Another worker's transaction, open meanwhile, holds this partition's offset."""
        self.open["somebody-else"] = Transaction(offsets={partition: 0})
        try:
            yield
        finally:
            del self.open["somebody-else"]

    def lose_end(self, instance_id: str, committed: bool, *topics: str, offsets: bool) -> None:
        """A member's transaction ends, and that comes neither to these topics nor, with `offsets`, to the group's."""
        transaction = self.open.pop(instance_id)
        lost = Transaction(logs=[log for (topic, _), log in self.logs.items() if topic in topics])
        for log in lost.logs:
            log.entrust(transaction, lost)
        if offsets:
            lost.offsets, transaction.offsets = transaction.offsets, {}
        self.endless.append((f"{GROUP}/{instance_id}", lost))
        transaction.logs = [log for log in transaction.logs if log not in lost.logs]
        self.open[instance_id] = transaction
        self.end(instance_id, "committed" if committed else "aborted")

    def settle_offsets(self, committed: bool) -> None:
        """The ends that were lost come to the group's offsets at last."""
        for _, lost in self.endless:
            offsets, lost.offsets = lost.offsets, {}
            if committed:
                self.offsets |= offsets

    def begins(self, transaction: Transaction, topics: Sequence[str], partition: int) -> dict[str, int]:
        """The first offset that a transaction holds open, by topic."""
        places = {topic: self.logs[topic, partition].begin_of(transaction) for topic in topics}
        return {topic: begin for topic, begin in places.items() if begin is not None}

    def expire(self, instance_id: str) -> None:
        """The member's session has timed out, or an operator removed it."""
        self.members.pop(instance_id)
        self.rebalance()

    def rebalance(self) -> None:
        """Ask all members to join again; they answer when they poll."""
        self.joined = set()

    def answer(self, member: "MemoryBroker") -> None:
        if self.joined is None:
            return
        self.joined.add(member.instance_id)
        if self.joined >= self.members.keys():
            self._complete()

    def _complete(self) -> None:
        self.generation += 1
        self.joined = None
        targets = self._targets()
        moving = False
        for name, member in self.members.items():
            lost = member.owned - targets[name]
            moving |= bool(lost)
            member.lose(lost)
        taken: set[int] = set().union(*(member.owned for member in self.members.values()))
        if moving:
            self.rebalance()  # the second round gives out what was just revoked
        for name, member in self.members.items():
            member.generation = self.generation
            if not moving:
                member.gain(targets[name] - taken)

    def _targets(self) -> dict[str, set[int]]:
        """Sticky: nobody loses a partition that balance lets it keep."""
        share, extra = divmod(self.partitions, len(self.members))
        by_size = sorted(self.members, key=lambda name: (-len(self.members[name].owned), name))
        room = {name: share + (place < extra) for place, name in enumerate(by_size)}
        kept = {name: set(sorted(self.members[name].owned)[: room[name]]) for name in by_size}
        free = sorted(set(range(self.partitions)) - set().union(*kept.values()))
        for name in by_size:
            while len(kept[name]) < room[name]:
                kept[name].add(free.pop(0))
        return kept

    def begin(self, producer_id: str, epoch: int) -> Transaction:
        if self.epochs.get(producer_id) != epoch:
            raise CommitError("another producer has this id", outcome="refused", fenced=True)
        self.open[producer_id] = Transaction()
        return self.open[producer_id]

    def end(self, producer_id: str, state: str) -> None:
        transaction = self.open.pop(producer_id, None)
        if transaction is None:
            return
        transaction.state = state
        for log in transaction.logs:
            log.append(None, 0, transaction)
        if state == "committed":
            self.offsets |= transaction.offsets


class MemoryBroker:
    """A member of the cluster's group. `fail_commit` and `fail_poll` make the next such call fail."""

    def __init__(self, cluster: MemoryCluster, instance_id: str) -> None:
        self.cluster = cluster
        self.partitions = cluster.partitions
        self.instance_id = instance_id
        self.owned: set[int] = set()
        self.generation = -1
        self.fail_commit: str | None = None  # "refused" | "unknown, committed" | "unknown, not committed"
        self.fail_poll = False
        self._began: set[int] = set()
        self._ended: set[int] = set()
        self._positions: dict[int, int] = {}  # of started partitions
        self._looked: dict[int, int] = {}  # up to where lost records were told
        self.silent = False  # as if no fetch were answered
        self._needs_renewal = False
        self._poll_failed = False
        self._unreadable: list[Unreadable] = []  # to be told by the poll under way
        self._open_producer()
        self._join()

    def _join(self) -> None:
        before = self.cluster.members.get(self.instance_id)
        self.cluster.members[self.instance_id] = self
        if self.cluster.joined is not None:
            self.cluster.joined.discard(self.instance_id)
        if before is None or before.generation < 0:
            self.cluster.rebalance()
        else:  # a static member's restart: same partitions, no rebalance
            self.generation = before.generation
            self.gain(set(before.owned))

    def _open_producer(self) -> None:
        cluster = self.cluster
        self._epoch = cluster.epochs.get(self.instance_id, 0) + 1
        cluster.epochs[self.instance_id] = self._epoch
        cluster.end(self.instance_id, "aborted")

    def gain(self, partitions: set[int]) -> None:
        self.owned |= partitions
        self._began |= partitions

    def lose(self, partitions: set[int]) -> None:
        self.owned -= partitions
        self._began -= partitions
        self._ended |= partitions

    def input_id(self) -> str:
        return self.cluster.input_id

    def partitions_now(self) -> int:
        return self.partitions + self.cluster.added

    def poll(self, timeout_s: float) -> Polled:
        """Never waits."""
        if self._poll_failed or self.fail_poll:
            self.fail_poll, self._poll_failed = False, True
            raise BrokerError("poll failed")
        if self.instance_id not in self.cluster.members:
            self.lose(set(self.owned))
            self.generation = -1
            self._join()
        if self.cluster.members[self.instance_id] is not self:
            self._poll_failed = True
            raise BrokerError("another member has this instance id", fenced=True)
        self.cluster.answer(self)
        began, ended = frozenset(self._began), frozenset(self._ended)
        self._began.clear()
        self._ended.clear()
        for partition in began | ended:
            self._positions.pop(partition, None)
        if self.cluster.joined is not None:
            return Polled({}, began, ended, None)
        fetched = self._fetch()
        logs = {p: self.cluster.logs[INPUT, p] for p in self._positions}
        ends = {p: fetched[p].offsets[-1] + 1 if p in fetched else at for p, at in self._positions.items()}
        lost = {p: (number, end) for p, end in ends.items() if (number := logs[p].removed(self._looked[p], end))}
        self._looked |= ends
        passed = {partition: at for partition, at in self._positions.items() if partition not in fetched}
        unreadable, self._unreadable = tuple(self._unreadable), []
        return Polled(fetched, began, ended, (self, self.generation), unreadable, passed, lost)

    def _fetch(self) -> dict[int, Records]:
        fetched = {}
        left = self.cluster.max_poll_records
        for partition, position in list(self._positions.items()):
            log = self.cluster.logs[INPUT, partition]
            if not log.first <= position <= log.end:
                self._poll_failed = True
                raise BrokerError(f"offset {position} of partition {partition} is out of range")
            bad = self.cluster.unreadable.get(partition, log.end)
            if position >= bad < log.end:
                del self._positions[partition]
                where = f"{INPUT}-{partition} cannot be unpacked from {bad} on"
                self._unreadable.append(Unreadable(where, partition, bad, "mend it"))
                continue
            read = islice(takewhile(lambda row: row[0].offset < bad, log.readable(position)), left)  # noqa: B023
            rows = [(e.offset, e.timestamp_ms, m.key, m.value, m.headers) for e, m in read]
            if rows:
                fetched[partition] = Records(*map(list, zip(*rows, strict=True)))
            if len(rows) < left:  # over markers, and what was aborted
                self._positions[partition] = max(position, min(log.stable(), bad))
            elif rows:
                self._positions[partition] = rows[-1][0] + 1
            left -= len(rows)
        return fetched

    def committed(self, partition: int) -> int | None:
        if any(partition in transaction.offsets for transaction in self.cluster.open.values()):
            raise NotYet("an open transaction holds the offset")
        if any(partition in transaction.offsets for _, transaction in self.cluster.endless):
            raise OffsetHeld("a transaction holds the offset for good", self.cluster.offsets.get(partition))
        return self.cluster.offsets.get(partition)

    def bounds(self, partition: int) -> tuple[int, int]:
        log = self.cluster.logs[INPUT, partition]
        return log.first, log.stable()

    def start(self, partition: int, offset: int) -> None:
        if partition in self.owned:
            self._positions[partition] = self._looked[partition] = offset

    def rest(self, partition: int, offset: int) -> None:
        self._positions.pop(partition, None)

    def open_changelog(self, partition: int) -> LogRead:
        if partition in self.cluster.unanswered:
            raise Unanswered(f"no broker tells where the changelog of partition {partition} ends")
        if partition in self.cluster.damaged:
            raise Unreadable(f"{CHANGELOG}-{partition} cannot be unpacked from offset 3 on", partition, 3, "mend it")
        return MemoryRead(self.cluster.logs[CHANGELOG, partition])

    def open_input(self, partition: int, offset: int) -> LogRead:
        return MemoryRead(self.cluster.logs[INPUT, partition], offset)

    def open_end(
        self, topic: str, partition: int, last: int, before: int | None = None, undecided: bool = False
    ) -> LogRead:
        log = self.cluster.logs[topic, partition]
        return (UndecidedRead if undecided else MemoryRead)(log, log.end - last, before=before)

    def left_open(self, topics: Sequence[str], partition: int) -> list[LeftOpen]:
        return [
            LeftOpen(number, 0, transactional_id or None, begins, {})
            for number, (transactional_id, transaction) in enumerate(self.cluster.endless)
            if (begins := self.cluster.begins(transaction, topics, partition))
        ]

    def end_left_open(self, left: LeftOpen, partition: int, commit: bool) -> None:
        lost, ended = self.cluster.endless[left.producer][1], Transaction("committed" if commit else "aborted")
        for topic in left.begins:
            log = self.cluster.logs[topic, partition]
            log.entrust(lost, ended)
            log.append(None, 0, ended)

    def commit(self, messages: Sequence[Message], offsets: dict[int, int], membership: object) -> None:
        if not offsets:
            raise ValueError("every transaction carries offsets: they are what fences it")
        failure, self.fail_commit = self.fail_commit, None
        if self._needs_renewal or self._poll_failed or membership is None:
            raise CommitError("renew first, or not a member", outcome="refused")
        self._needs_renewal = True
        transaction = self.cluster.begin(self.instance_id, self._epoch)
        for message in messages:
            if message.key is None and message.value is None:
                raise CommitError("a record needs a key or a value", outcome="refused")  # as kafka-python has it
            log = self.cluster.logs.get((message.topic, message.partition))
            if log is None:
                raise CommitError(f"no partition {message.partition} of {message.topic}", outcome="refused")
            log.append(message, 0, transaction)
        self._check(membership)
        if failure == "refused":
            raise CommitError("refused as told", outcome="refused")
        transaction.offsets = dict(offsets)
        if failure == "unknown, not committed":
            raise CommitError("unknown as told", outcome="unknown")
        self.cluster.end(self.instance_id, "committed")
        if failure == "unknown, committed":
            raise CommitError("unknown as told", outcome="unknown")
        self._needs_renewal = False

    def _check(self, membership: object) -> None:
        current = self.cluster.members.get(self.instance_id)
        if current is not self:
            raise CommitError("no such member", outcome="refused", fenced=current is not None)
        if membership != (self, self.cluster.generation):
            raise CommitError("another generation", outcome="refused")

    def renew(self) -> None:
        self._open_producer()
        self._needs_renewal = False
        if self._poll_failed:
            self._poll_failed = False
            again = set(self.owned)
            self.lose(again)
            if self.cluster.members.get(self.instance_id) in (self, None):
                self.gain(again)
            else:
                self._join()

    def lag(self) -> dict[int, int]:
        lags = {p: max(self.cluster.logs[INPUT, p].end - position, 0) for p, position in self._positions.items()}
        return {p: behind for p, behind in lags.items() if behind or not self.silent}

    def silence(self) -> str | None:
        return "no answer from memory:1 for 9 s" if self.silent else None

    def close(self, leave: bool) -> None:
        if leave and self.cluster.members.get(self.instance_id) is self:
            self.cluster.expire(self.instance_id)
