"""Dead letters as workers write them, and a broker in memory that resends them."""

from collections.abc import Iterator, Sequence

import pytest

from worker.broker.contract import CommitError, LogRecord, Message
from worker.broker.resender import Unsendable
from worker.letters import resending
from worker.letters.reading import Chosen
from worker.letters.resending import Resent, resend
from worker.settings.settings import Settings
from worker.settings.sources import load

SETTINGS = load(None, {}, kafka={"input_topic": "in", "output_topic": "out", "group_id": "mine"})
TOPIC = SETTINGS.kafka.dead_letter_topic


def letter(offset: int, key: bytes | None = b"k", value: bytes | None = b"{", **other: str) -> LogRecord:
    facts = {"reason": "undecodable", "message": "", "topic": "in", "partition": "0", "offset": str(offset)}
    facts |= {"timestamp": "5", "group": "mine", "source": "first", "version": "1", **other}
    name = f"in-0-{offset}".encode()
    headers = [(f"foldcast-error-{fact}", text.encode()) for fact, text in facts.items()]
    return LogRecord(name if key is None else key, value, headers, offset, 5)


class Rig:
    """A dead letter topic of one partition, and a broker that refuses records of the key `bad`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log: list[LogRecord] = []
        self.input: list[Message] = []
        self.error: type[CommitError] = Unsendable
        self.renewed = 0
        self.input_id = "first"
        monkeypatch.setattr(resending, "Resender", self._made)
        monkeypatch.setattr(resending, "LogReader", lambda kafka: self)
        monkeypatch.setattr(resending, "bounds", lambda kafka, topic: {0: (0, len(self.log))})
        monkeypatch.setattr(resending, "topic_id", lambda kafka, topic: self.input_id)
        monkeypatch.setattr("worker.letters.reading.whole", self._whole)

    def _made(self, kafka: object, places: list[tuple[str, int]]) -> "Rig":
        assert places == [("in", 0), (TOPIC, 0)], "where an earlier run may have left something open"
        return self

    def _whole(self, logs: object, topic: str, partition: int, begin: int | None = None) -> Iterator[LogRecord]:
        assert (topic, partition) == (TOPIC, 0)
        return iter(self.log[begin or 0 :])

    def send(self, messages: Sequence[Message]) -> None:
        if any(message.key == b"bad" for message in messages):
            raise self.error("transaction refused: too large", outcome="refused")
        self.input += messages[:-1]
        self.note(messages[-1])

    def note(self, message: Message) -> None:
        self.log.append(LogRecord(message.key, message.value, message.headers, len(self.log), 6))

    def renew(self) -> None:
        self.renewed += 1

    def close(self) -> None: ...

    def last(self, settings: Settings = SETTINGS) -> Resent:
        [*_, done] = resend(settings, Chosen())
        return done

    def sent(self) -> list[str]:
        """The letters whose records are in the input."""
        return [dict(message.headers)["foldcast-resent-from"].decode().rpartition("/")[2] for message in self.input]
