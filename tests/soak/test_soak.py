"""A short soak: each fault once, all samples taken, and every event's forecast there once."""

import faulthandler
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.soak.samples import CHANGELOG, DESCRIPTORS, LAGGING, MEMORY, P50, P99, STATE, STREAMS, THREADS
from tests.soak.soak import KEPT, Given, options, soak
from worker.demo import jars
from worker.demo.local_kafka import WHAT_TO_INSTALL, LocalKafka, kafka_from_jars

# Not the Kafka that the environment may name: that one is not for tests to kill
pytestmark = [
    pytest.mark.kafka,
    pytest.mark.skipif(not jars.can_run(), reason=WHAT_TO_INSTALL),
    pytest.mark.skipif(not Path("/proc/self").exists(), reason="samples are read from /proc"),
    pytest.mark.usefixtures("refused_connections"),
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]


@pytest.fixture(scope="module")
def kafka() -> Iterator[LocalKafka]:
    kafka = kafka_from_jars(extra_properties=KEPT)
    yield kafka
    kafka.stop()


def test_a_short_soak_has_each_fault_and_every_forecast_once(kafka: LocalKafka, tmp_path: Path) -> None:
    faulthandler.cancel_dump_traceback_later()  # set for tests that take seconds
    given = Given(
        minutes=0.4,
        rate=1000,
        streams=2000,
        fault_every_s=3,
        sample_every_s=0.5,
        settle_s=2,
        longest_freeze_s=3,
        ttl_s=2,
        staying=100,
        partitions=2,
        seed=1,
    )
    outcome = soak(kafka, given, tmp_path, print)
    print("\n".join(outcome.lines()))
    assert (outcome.forecasts, outcome.wrong, outcome.trouble) == (outcome.sent, {}, [])
    assert {fault.kind for fault in outcome.faults if fault.over} == {
        "worker killed",
        "worker frozen",
        "worker restarted",
        "broker frozen",
        "broker killed",
    }
    assert outcome.sent >= 1000
    measured = {measure for subject, measure in outcome.samples if subject == "one"}
    assert measured == {MEMORY, DESCRIPTORS, THREADS, LAGGING, P50, P99}
    assert {subject for subject, _ in outcome.samples} == {
        "one",
        "two",
        "one, trainer",
        "two, trainer",
        "soak",
        "topics",
    }
    for measure in (CHANGELOG, STATE, STREAMS):
        points = [p for segment in outcome.samples.settled("topics", measure, 0) for p in segment]
        assert max(point.figure for point in points) > 0
    held = [p.figure for segment in outcome.samples.settled("topics", STREAMS, 0) for p in segment]
    assert max(held) < outcome.streams, "most were forgotten again"
    assert len(outcome.samples.settled("soak", MEMORY, 0)) == 1
    lives = [len(outcome.samples.settled(name, MEMORY, 0)) for name in ("one", "two")]
    assert sum(lives) > 2, "a new process begins a new segment"


def test_the_command_line_becomes_a_run() -> None:
    given, as_json = options(["--minutes", "2", "--seed", "7", "--fault-every", "30", "--rate", "50", "--json"])
    assert as_json
    assert given == Given(minutes=2, seed=7, fault_every_s=30, rate=50)
    assert options([]) == (Given(), False)
    assert options(["--minutes", "6"])[0].passing == 100_000
