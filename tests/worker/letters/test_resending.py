"""A letter that cannot be sent holds up no other, and no letter is sent that another run has sent meanwhile."""

from collections.abc import Iterator, Sequence

import pytest

from worker.broker.contract import CommitError, LogRecord, Message
from worker.broker.resender import Unsendable
from worker.letters import resending
from worker.letters.reading import Chosen, note_of
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


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Rig:
    return Rig(monkeypatch)


def test_a_record_without_key_and_value_holds_up_no_other(rig: Rig) -> None:
    rig.log = [letter(0), letter(1, None, None), letter(2, None), letter(3, value=None)]
    done = rig.last()
    assert (done.sent, rig.sent()) == (3, ["0", "2", "3"])
    assert done.gone == ["in-0-1 has neither key nor value, and such a record cannot be sent: leave it"]


@pytest.mark.parametrize("bad", [{0}, {6}, {2, 3}, {0, 3, 6}, {*range(7)}])
def test_a_letter_that_is_refused_holds_up_no_other(rig: Rig, bad: set[int]) -> None:
    rig.log = [letter(offset, b"bad" if offset in bad else b"k") for offset in range(7)]
    done = rig.last()
    good = [str(offset) for offset in range(7) if offset not in bad]
    assert (done.sent, sorted(rig.sent()), len(done.gone)) == (len(good), good, len(bad))
    assert all(f"the record of 0:{offset} is refused" in " ".join(done.gone) for offset in bad)
    done = rig.last()
    assert (done.sent, done.before, len(done.gone)) == (0, len(good), len(bad)), "they are tried again, and only they"


def test_what_another_run_sent_while_a_part_was_refused_is_not_sent(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resending, "MOST_LETTERS", 3)
    rig.log = [letter(0), letter(1, b"bad"), *map(letter, range(2, 6))]
    monkeypatch.setattr(rig, "renew", lambda: rig.note(resending._note(TOPIC, 0, [0, 3, 4])) if len(rig.log) < 7 else 0)
    done = rig.last()
    assert (done.sent, done.before, sorted(rig.sent()), len(done.gone)) == (2, 3, ["2", "5"], 1)


def test_only_this_groups_letters_of_the_input_as_it_is_now_are_sent(rig: Rig) -> None:
    others = [{"group": "other"}, {"source": "deleted"}, {"topic": "other"}, {"partition": "7"}]
    rig.log = [letter(0), letter(1, source=""), *(letter(n, **other) for n, other in enumerate(others, 2))]
    done = rig.last()
    assert (done.sent, done.foreign, rig.sent()) == (2, 4, ["0", "1"])
    rig.input_id = ""
    assert rig.last().sent == 1, "nobody knows which input this is"


def test_any_other_failure_ends_it(rig: Rig) -> None:
    rig.log, rig.error = [letter(0), letter(1, b"bad")], CommitError
    with pytest.raises(CommitError):
        rig.last()
    assert (rig.sent(), rig.renewed) == ([], 0)


def test_notes_name_what_was_sent(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resending, "MOST_LETTERS", 2)
    rig.log = [*map(letter, range(3))]
    assert rig.last().sent == 3
    assert [note_of(record) for record in rig.log[3:]] == [[0, 1], [2]]


def test_notes_outlive_compaction(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resending, "MOST_LETTERS", 2)
    rig.log = [letter(offset, b"%d" % offset) for offset in range(5)]
    assert rig.last().sent == 5
    rig.log = list({record.key: record for record in rig.log}.values())
    done = rig.last()
    assert (done.sent, done.before) == (0, 5)
