"""What a group has published tells its C, whoever else writes to the same topics."""

from collections.abc import Callable

import pytest

from tests.rigs.memory_broker import DEAD_LETTERS, INPUT, OUTPUT, MemoryBroker, MemoryCluster
from tests.rigs.memory_log import DamagedRead, Transaction
from worker.broker.contract import LogRead, Message, NotYet, Topics
from worker.lives.published import MOST, Published

TOPICS = Topics(INPUT, OUTPUT, DEAD_LETTERS, "changelog", "mine", source="first")


class Ends:
    """A broker's logs; `unreadable` topics cannot be unpacked."""

    def __init__(self) -> None:
        self.cluster = MemoryCluster(1)
        self.broker = MemoryBroker(self.cluster, "one")
        self.opened: list[int] = []
        open_end = self.broker.open_end

        def noted(topic: str, partition: int, last: int) -> LogRead:
            self.opened.append(last)
            return open_end(topic, partition, last)

        self.broker.open_end = noted  # type: ignore[method-assign]

    def forecast(
        self, offset: object, group: str = "mine", topic: str = INPUT, source: str = "first", **state: str
    ) -> None:
        facts = {"id": f"{topic}-0-{offset}", "group": group, "source": source}
        self._append(OUTPUT, [(f"foldcast-{name}", text.encode()) for name, text in facts.items()], **state)

    def letter(self, offset: int, group: str = "mine", source: str = "first") -> None:
        facts = {"group": group, "source": source, "topic": INPUT, "partition": "0", "offset": str(offset)}
        self._append(DEAD_LETTERS, [(f"foldcast-error-{name}", text.encode()) for name, text in facts.items()])

    def note(self, letters: int) -> None:
        """That so many letters were sent to the input again."""
        self._append(DEAD_LETTERS, [("foldcast-resent", str(letters).encode())])

    def resent_letter(self, offset: int, first: int) -> None:
        """A record that was sent again came back: it still has what it came with."""
        own = ("foldcast-resent-from", f"{DEAD_LETTERS}/0/{first}".encode())
        facts = {"group": "mine", "source": "first", "topic": INPUT, "partition": "0", "offset": str(offset)}
        self._append(DEAD_LETTERS, [own, *((f"foldcast-error-{name}", text.encode()) for name, text in facts.items())])

    def _append(self, topic: str, headers, state: str = "committed") -> None:  # type: ignore[no-untyped-def]
        self.cluster.logs[topic, 0].append(Message(topic, 0, b"key", b"{}", headers), 0, Transaction(state))

    def found(self) -> int:
        published = Published(0, TOPICS)
        while not published.slice(self.broker):
            pass
        return published.offset


def nothing(ends: Ends) -> None: ...


def a_letter_is_newer(ends: Ends) -> None:
    ends.forecast(5)
    ends.letter(41)


def a_forecast_is_newer(ends: Ends) -> None:
    ends.letter(5)
    ends.forecast(41)


def others_write_there_too(ends: Ends) -> None:
    ends.forecast(41)
    for offset in range(200):
        ends.forecast(offset + 50, group="other")
        ends.forecast(offset + 50, topic="another-input")
        ends.letter(offset + 50, group="other")


def the_input_was_made_anew(ends: Ends) -> None:
    ends.forecast(5000, source="deleted")
    ends.letter(9000, source="deleted")
    ends.forecast(41)


def a_record_has_several_targets(ends: Ends) -> None:
    ends.forecast("41:room-7")


def the_last_was_aborted(ends: Ends) -> None:
    ends.forecast(41)
    ends.forecast(42, state="aborted")


def letters_were_sent_again(ends: Ends) -> None:
    ends.letter(41)
    for number in range(200):
        ends.note(number)


def one_came_back(ends: Ends) -> None:
    ends.letter(5)
    ends.note(1)
    ends.resent_letter(41, first=0)


def some_is_no_offset(ends: Ends) -> None:
    ends.forecast(41)
    for text in ("", "x", "-1", "1.5", "\u0664"):
        ends.forecast(text)


@pytest.mark.parametrize(
    ("write", "offset"),
    [
        (nothing, 0),
        (a_letter_is_newer, 42),
        (a_forecast_is_newer, 42),
        (others_write_there_too, 42),
        (the_input_was_made_anew, 42),
        (a_record_has_several_targets, 42),
        (the_last_was_aborted, 42),
        (some_is_no_offset, 42),
        (letters_were_sent_again, 42),
        (one_came_back, 42),
    ],
)
def test_c_is_above_the_newest_that_the_group_has_published(write: Callable[[Ends], None], offset: int) -> None:
    ends = Ends()
    write(ends)
    assert ends.found() == offset


def test_what_lies_far_behind_others_is_not_looked_for_for_ever() -> None:
    ends = Ends()
    ends.forecast(41)
    for _ in range(2 * MOST):
        ends.forecast(99, group="other")
    assert ends.found() == 0
    assert max(ends.opened) == MOST


def test_an_open_transaction_is_waited_for() -> None:
    ends = Ends()
    ends.forecast(41)
    ends.forecast(42, state="open")
    for _ in range(3):
        with pytest.raises(NotYet, match="output-0 is not read to its end"):
            ends.found()
    ends.cluster.logs[OUTPUT, 0].entries[-1].transaction.state = "committed"
    assert ends.found() == 43


def test_what_cannot_be_unpacked_proves_nothing_and_is_told(caplog: pytest.LogCaptureFixture) -> None:
    ends = Ends()
    ends.letter(7)
    open_end = ends.broker.open_end
    ends.broker.open_end = lambda topic, partition, last: (  # type: ignore[method-assign]
        DamagedRead(ends.cluster.logs[topic, partition]) if topic == OUTPUT else open_end(topic, partition, last)
    )
    assert ends.found() == 8
    assert caplog.messages == [
        "what is published is looked for no further than here, and the restore goes on: damaged"
    ], "nothing of how a partition would be read again that has lost its state"


def test_what_lies_before_a_damaged_batch_is_no_proof_for_a_group_without_an_offset() -> None:
    ends = Ends()
    ends.forecast(41)
    ends.broker.open_end = lambda topic, partition, last: DamagedRead(  # type: ignore[method-assign]
        ends.cluster.logs[topic, partition]
    )
    published = Published(0, TOPICS)
    while not published.slice(ends.broker):
        pass
    assert published.beyond(None) is None
    assert published.beyond(30) == 42


@pytest.mark.parametrize(
    "strange",
    [{"id": f"{INPUT}-0-{'9' * 5000}"}, {"id": f"{INPUT}-0-²"}, {"id": None}, {"group": None}, {"source": None}],
    ids=["digits", "no digit", "no id", "no group", "no source"],
)
def test_headers_that_anybody_wrote_are_not_believed_and_stop_nothing(strange: dict[str, str | None]) -> None:
    facts = {"id": f"{INPUT}-0-41", "group": "mine", "source": "first"} | strange
    ends = Ends()
    ends.letter(7)
    ends._append(OUTPUT, [(f"foldcast-{name}", text and text.encode()) for name, text in facts.items()])
    letter = {"group": "mine", "source": "first", "topic": INPUT, "partition": "0", "offset": "9" * 5000}
    ends._append(DEAD_LETTERS, [(f"foldcast-error-{name}", text.encode()) for name, text in letter.items()])
    assert ends.found() == 8
