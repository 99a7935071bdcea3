"""The group whose work a new group goes on with: up to where it has published a partition, and what it refused."""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from pipeline.durable.image import MOST_REFUSED, Refused, encode_refused, refused_key
from pipeline.framed import UNKNOWN, UNUSABLE
from worker.broker.contract import Broker, LogRead, NotYet, Topics, Unreadable
from worker.dead_letters import refused_offset, refused_reason
from worker.lives.published import Published
from worker.refusal import Refusal

log = logging.getLogger(__name__)

READ_S = 0.05
NOT_IN_THE_LOG = {"future_time", "too_many_streams", UNKNOWN, UNUSABLE}  # reasons that a fold does not find again


@dataclass(frozen=True)
class Predecessor:
    """A group without members. `topics` are its names, `offsets` its committed next offsets by partition."""

    topics: Topics
    offsets: Mapping[int, int]
    letters: int  # partitions of its dead letter topic: beyond these it had none


class Inheritance:
    """One partition as its predecessor left it, read a moment at a time by the new group's restore."""

    def __init__(self, partition: int, predecessor: Predecessor, source: str) -> None:
        """`source` is the input's id. Raises Refusal where the group is unknown."""
        self.group = predecessor.topics.group
        self.refused: list[int] = []  # offsets of events that it refused for a reason which the log does not hold
        self._partition, self._topics = partition, replace(predecessor.topics, source=source)
        self._committed = predecessor.offsets.get(partition)
        if not predecessor.offsets:
            raise Refusal(unknown(self.group, predecessor.topics.input))
        had_letters = partition < predecessor.letters
        self.letters = self._topics.dead_letters if had_letters else None  # the topic that refusals are taken from
        self._published = Published(partition, self._topics, had_letters)
        self._read: LogRead | None = None
        self._over = not had_letters

    @property
    def end(self) -> int | None:
        """The offset below which all is published; None where the group never read this partition."""
        beyond = self._published.beyond(self._committed)
        return self._committed if beyond is None else beyond

    def slice(self, broker: Broker) -> bool:
        """Read on for a moment; True once all is known. Raises NotYet, BrokerError, Refusal."""
        if not self._published.slice(broker):
            return False
        if self.end is None and self._published.others:
            raise Refusal(others(self.group, self._topics.input, self._partition, self._published.others))
        while not self._over:
            if self._read is None:
                self._read = broker.open_end(self._topics.dead_letters, self._partition, 1 << 62)
            try:
                records = self._read.read(READ_S)
            except Unreadable as error:  # it stays: letters behind it are as if retention had taken them
                log.warning("what group %s refused is taken no further than here: %s", self.group, error)
                break
            for record in records:
                offset = refused_offset(record.headers, self._topics, self._partition)
                if offset is not None and refused_reason(record.headers) in NOT_IN_THE_LOG:
                    self.refused.append(offset)
            self._over = self._read.done
            if not self._over:
                if records:
                    return False
                unread = f"{self._topics.dead_letters}-{self._partition} is not read to its end"
                raise NotYet(unread, fix="see that the broker answers, and whose transaction stays open")
        self._over = True
        self._warn_of_others()
        self.close()
        return True

    def entries(self, low: int, high: int) -> list[Refused]:
        """Return the refused events at offsets in [low, high), as a changelog has them."""
        made_ms, offsets = round(time.time() * 1000), sorted({at for at in self.refused if low <= at < high})
        return [Refused(made_ms, offsets[i : i + MOST_REFUSED]) for i in range(0, len(offsets), MOST_REFUSED)]

    def _warn_of_others(self) -> None:
        ahead = {group: at for group, at in self._published.others.items() if at >= (self.end or 0)}
        if ahead:
            log.warning(
                "partition %d is taken over where group %s ended, before record %s, though the output holds forecasts "
                "further on, of %s: if one of these groups was in service last, stop, and name it in --from-group, or "
                "what it has published beyond that is published again",
                *(self._partition, self.group, self.end or 0, ahead),
            )

    def close(self) -> None:
        """Let go of what is held outside memory."""
        for read in (self._published, self._read):
            if read is not None:
                read.close()


def records_of(entries: list[Refused]) -> list[tuple[bytes, bytes]]:
    """Return the changelog records of refused events."""
    return [(refused_key(entry.offsets[0]), encode_refused(entry)) for entry in entries]


def unknown(group: str, topic: str) -> str:
    """Return the refusal of a predecessor without offsets."""
    return (
        f"the group {group} has no committed offset of {topic}: name in --from-group the kafka.group_id that has "
        "published so far (offsets of a group without members expire, offsets.retention.minutes), or leave it out to "
        "forecast all of the input"
    )


def others(group: str, topic: str, partition: int, published: Mapping[str, int]) -> str:
    """Return the refusal of a predecessor that has not begun a partition of which other groups have published."""
    other, newest = max(published.items(), key=lambda item: item[1])
    return (
        f"group {group} has no offset of partition {partition} of {topic}, and the forecasts there are those of group "
        f"{other}, up to record {newest}: once each partition that {group} has published is live in this group, run "
        f"this one with --from-group {other}, and do not start {group} again"
    )
