"""Offsets of a group without members: what a transaction holds is waited for, then passed over; no answer is told."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
from kafka.errors import KafkaTimeoutError, UnstableOffsetCommitError
from kafka.structs import TopicPartition

from worker.broker import stable
from worker.broker.contract import NotYet
from worker.settings.sources import load

OLD = load(None, {}, kafka={"group_id": "old"}).kafka
BEFORE = {0: 10, 1: 20, 2: 30}  # what the group had committed before the transactions that hold it
HELD, SILENT = "held", "silent"

Answers = dict[int, list[object]]  # by partition, in their order; the last one for ever
Ask = Callable[[Answers], dict[int, int]]


class Consumer:
    """A client that asks its coordinator once, as ours does, and does not say why it has no offset."""

    def __init__(self, answers: Answers) -> None:
        self._answers: dict[int, Iterator[object]] = {p: iter(row) for p, row in answers.items()}
        self._last: dict[int, object] = {}
        self._coordinator = SimpleNamespace(_handle_offset_fetch_response=self._handle)
        self.closed = False

    def _handle(self, answer: object) -> object:
        if answer == HELD:
            raise UnstableOffsetCommitError
        return answer

    def committed(self, tp: TopicPartition, timeout_ms: float) -> object:
        answer = self._last[tp.partition] = next(self._answers[tp.partition], self._last.get(tp.partition))
        if answer == SILENT:
            raise KafkaTimeoutError
        try:
            return self._coordinator._handle_offset_fetch_response(answer)
        except UnstableOffsetCommitError:
            raise KafkaTimeoutError from None

    def close(self, autocommit: bool, timeout_ms: float) -> None:
        self.closed = True


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Asks for the offsets of all partitions that have answers; `stable.longest_transaction_s` may be patched."""

    def asked(answers: Answers) -> dict[int, int]:
        consumer = Consumer(answers)
        monkeypatch.setattr(stable, "open_consumer", lambda kafka, **own: consumer)
        monkeypatch.setattr(stable, "group_offsets", lambda kafka, group, topic: BEFORE)
        try:
            return stable.stable_offsets(OLD, 8, list(answers))
        finally:
            assert consumer.closed

    return asked


def none_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody's transaction can be open any more."""
    monkeypatch.setattr(stable, "longest_transaction_s", lambda commit_timeout_s: 0.0)
    monkeypatch.setattr(stable, "ANSWER_LIMIT_S", 0.0)


def test_a_transaction_is_waited_for(ask: Ask) -> None:
    assert ask({0: [HELD, SILENT, HELD, 11], 1: [21], 2: [None]}) == {0: 11, 1: 21}


def test_where_one_holds_the_offset_for_ever_that_before_it_is_taken(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    none_lasts(monkeypatch)
    assert ask({0: [HELD], 1: [21], 2: [HELD], 3: [HELD]}) == {0: 10, 1: 21, 2: 30}


def test_a_coordinator_that_does_not_answer_holds_nothing(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    none_lasts(monkeypatch)
    with pytest.raises(NotYet, match="committed offset of events-1 of group old: no answer yet"):
        ask({0: [HELD], 1: [SILENT]})
