"""One fault of each kind, and what an audit finds after it; `make faults` has many more of them, in random order."""

import faulthandler
from pathlib import Path

import pytest

from tests.faults.mixed.kinds import KINDS, killed_at
from tests.faults.mixed.storm import storm
from tests.faults.mixed.verdict import verdict
from tests.rigs.dying_worker import POINTS
from worker.demo import jars
from worker.demo.local_kafka import WHAT_TO_INSTALL

# Not the Kafka that the environment may name: that one is not for tests to kill
pytestmark = [
    pytest.mark.kafka,
    pytest.mark.skipif(not jars.can_run(), reason=WHAT_TO_INSTALL),
    pytest.mark.usefixtures("refused_connections"),
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]

RATE = 200.0


@pytest.mark.timeout(1200)
def test_after_a_fault_of_each_kind_every_record_is_accounted_for_and_every_state_is_the_same(tmp_path: Path) -> None:
    faulthandler.cancel_dump_traceback_later()  # set for tests that take seconds
    with storm(tmp_path, 1, RATE) as (stage, feeder, follower):
        for kind, (fault, _) in KINDS.items():
            what = fault(stage)
            print(f"{kind}: {what}; answers after {stage.recover():.1f} s")
        stage.finish(feeder)
        report, wrong = verdict(stage.cluster, follower)
    print("\n".join(report.lines()))
    assert not wrong, "\n".join(wrong)
    assert not stage.ended, "\n".join(stage.ended)
    assert report.expected["forecast"] > 0


@pytest.mark.timeout(1200)
def test_a_worker_killed_at_each_point_of_its_cycle_leaves_no_trace(tmp_path: Path) -> None:
    faulthandler.cancel_dump_traceback_later()
    with storm(tmp_path, 2, RATE) as (stage, feeder, follower):
        for number, point in enumerate(POINTS):
            what = killed_at(
                stage, stage.workers[number % len(stage.workers)], point, passes=0 if "init" in point else number % 4
            )
            assert what.endswith("dead"), f"{what}: {point} is no point that a worker comes to"
        stage.recover()
        stage.finish(feeder)
        report, wrong = verdict(stage.cluster, follower)
    print("\n".join(report.lines()))
    assert not wrong, "\n".join(wrong)
    assert report.expected["forecast"] > 0


@pytest.mark.timeout(1200)
def test_messages_of_several_targets_are_accounted_for_target_by_target(tmp_path: Path) -> None:
    faulthandler.cancel_dump_traceback_later()
    with storm(tmp_path, 3, RATE, several=True) as (stage, feeder, follower):
        for kind in ("worker killed", "requests cut", "broker killed", "worker restarted"):
            print(f"{kind}: {KINDS[kind][0](stage)}; answers after {stage.recover():.1f} s")
        stage.finish(feeder)
        report, wrong = verdict(stage.cluster, follower)
    print("\n".join(report.lines()))
    assert not wrong, "\n".join(wrong)
    assert not stage.ended, "\n".join(stage.ended)
    assert min(report.right["forecasts"], report.right["dead letters"], report.expected["missing"]) > 0
