"""Before a worker joins its group: it waits for a predecessor's members for as long as these are there."""

import logging
from types import SimpleNamespace

import pytest

from pipeline.method import Method
from worker import run, takeover, topics
from worker.broker.admin import Member
from worker.broker.contract import BrokerError
from worker.http.status import Status
from worker.lives.predecessor import Predecessor
from worker.observe.metrics import Metrics
from worker.observe.pulse import Pulse
from worker.plan import Plan
from worker.settings.sources import load
from worker.signals import Stop

SETTINGS = load(None, {}, kafka={"group_id": "new"}, worker={"give_up_s": 10})
MEMBERS = [Member("old-1", "client", "host"), Member(None, "client-2", "host")]
WAITS = "waiting for group old to end: 2 members (old-1, client-2); stop its workers, and give their sessions time"


class Start:
    """A worker that starts; the old group's members and a failure are answered from a list, one a try."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: list[Member] | BrokerError) -> None:
        self.answers = [*answers]
        self.metrics = Metrics(Method(), "0")
        self.status, self.pulse, self.stop = Status(self.metrics, "new-1"), Pulse(), Stop()
        self.reasons: list[str] = []  # that its page gave at each wait
        self.ages: list[float] = []  # of its pulse at each wait
        self.stops_after = len(answers)
        left = SimpleNamespace(offsets={}, changelog={0: (0, 0)})
        there = {name: SimpleNamespace(partitions=1) for name in ("old-dead-letters", "new-dead-letters")}
        for module, name, answer in (
            (topics, "check", ([{"name": "events"}], SimpleNamespace(request=1))),
            (run, "verify", None),
            (run, "KafkaBroker", "a broker"),
            (takeover, "standing", left),
            (takeover, "describe", there),
            (takeover, "stable_offsets", {0: 7}),
        ):
            monkeypatch.setattr(module, name, lambda *_, answer=answer: answer)
        monkeypatch.setattr(takeover, "members", self._members)
        monkeypatch.setattr(self.stop, "wait", self._wait)

    def _members(self, *_: object) -> list[Member]:
        self.ages.append(self.pulse.age_s)
        answer = self.answers.pop(0)
        if isinstance(answer, BrokerError):
            raise answer
        return answer

    def _wait(self, timeout: float) -> bool:
        self.reasons.append(str(self.status.page["reason"]))
        self.pulse._at -= 1000  # it was long
        if len(self.reasons) == self.stops_after:
            self.stop.set()
        return self.stop.is_set()

    def connected(self) -> Predecessor | None:
        found = run._connected(
            SETTINGS, "old", Plan.of(SETTINGS), None, self.stop, self.pulse, self.metrics, self.status
        )
        return found[2] if found is not None else None

    @property
    def failures(self) -> float | None:
        return self.metrics.registry.get_sample_value("foldcast_failures_total")


def test_members_of_the_old_group_are_waited_for_and_no_failure(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    start = Start(monkeypatch, MEMBERS, MEMBERS, [])
    with caplog.at_level(logging.INFO):
        predecessor = start.connected()
    assert predecessor is not None
    assert (predecessor.topics.group, predecessor.offsets) == ("old", {0: 7})
    assert len(start.reasons) == 2
    assert all(WAITS in reason for reason in start.reasons)
    assert max(start.ages) < 1000, "the watchdog sees each try"
    assert start.failures == 0
    assert [record.message for record in caplog.records].count("topic") == 1
    assert sum(WAITS in record.message for record in caplog.records) == 1, "it is said once"


def test_failures_before_the_old_group_was_seen_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    start = Start(monkeypatch, BrokerError("away"), MEMBERS, BrokerError("away"), [])
    clock = iter(range(0, 10_000, 1000))  # each failure is longer ago than worker.give_up_s
    monkeypatch.setattr("worker.failures.time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    assert start.connected() is not None
    assert start.failures == 2


def test_a_worker_that_waits_hears_a_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    start = Start(monkeypatch, MEMBERS)
    assert start.connected() is None
    assert not start.answers
