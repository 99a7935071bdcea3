"""The topics on a real Kafka: made, verified, the changelog made anew, and the largest records let through."""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import orjson
import pytest
from kafka.admin import ConfigResource, ConfigResourceType

from tests.rigs.cluster import FIRST_MS, STEP_MS, Cluster, by_partition, event_bytes, image_of, named
from worker import topics
from worker.broker import admin
from worker.broker.admin import TopicSpec
from worker.broker.contract import BrokerError
from worker.broker.produce import FastProducer
from worker.broker.restore import TopicRecord, read_all
from worker.broker.security import open_admin
from worker.refusal import Refusal
from worker.reset import reset
from worker.settings.settings import Settings

pytestmark = pytest.mark.kafka

LARGE = 3_000_000  # bytes, more than any default
MEGABYTE = {"max.message.bytes": "1000000"}


def make(settings: Settings, partitions: int = 2, **configs: dict[str, str]) -> None:
    """All by hand, with these settings for some of them."""
    names, sizes = topics.names_of(settings), topics.wanted(settings, None)
    specs = {
        "input": {},
        "output": {},
        "rows": {},
        "dead_letters": {"max.message.bytes": str(sizes.dead_letter)},
        "changelog": {"cleanup.policy": "compact", "max.message.bytes": str(sizes.changelog)},
    }
    made = [
        TopicSpec(getattr(names, what), partitions, 1, {**own, **configs.get(what, {})}) for what, own in specs.items()
    ]
    admin.create_topics(settings.kafka, made)


def eventually(condition: Callable[[], bool], what: str, limit_s: float = 30.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {limit_s} s"
        time.sleep(0.1)


def test_what_is_made_passes_its_own_check(bootstrap: str, unique: str) -> None:
    settings = named(bootstrap, unique, worker={"changelog_history_s": 60})
    made = topics.create(settings, 3, 1)
    ends = ("-in", "-out", "-rows", "-dead-letters", "-changelog")
    assert made == [f"made {unique}{end} with 3 partitions" for end in ends]
    checked, sizes = topics.check(settings)
    assert [(topic["name"], topic["partitions"], topic["replication"]) for topic in checked] == [
        (f"{unique}{end}", 3, 1) for end in ends
    ]
    assert sizes.request > sizes.changelog
    info = admin.describe(settings.kafka, [f"{unique}-changelog"])[f"{unique}-changelog"]
    assert info.configs["cleanup.policy"] == "compact"
    assert info.configs["min.compaction.lag.ms"] == "60000"
    assert topics.create(settings, None, 1) == ["all topics are there"], "a second time is no error"


def test_no_default_of_the_cluster_says_what_is_kept(bootstrap: str, unique: str) -> None:
    settings = named(bootstrap, unique)
    topics.create(settings, 1, 1)
    names = topics.names_of(settings)
    policies = {**dict.fromkeys(names.names, "delete"), names.changelog: "compact"}
    client = open_admin(settings.kafka)
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in policies]
    own = client.describe_configs(resources, config_filter="modified")["topic"]
    client.close()
    assert {name: configs["cleanup.policy"]["value"] for name, configs in own.items()} == policies


def test_an_input_that_is_compacted_is_accepted_with_a_warning_where_gaps_may_be_skipped(
    bootstrap: str, unique: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = named(bootstrap, unique, worker={"on_gap": "skip"})
    make(settings, input={"cleanup.policy": "compact"})
    topics.check(settings)
    assert f"{unique}-in has cleanup.policy compact, which removes records" in caplog.text


def test_missing_topics_take_the_number_of_partitions_of_the_input(bootstrap: str, unique: str) -> None:
    settings = named(bootstrap, unique)
    with pytest.raises(Refusal, match="give --partitions N"):
        topics.create(settings, None, 1)
    admin.create_topics(settings.kafka, [TopicSpec(f"{unique}-in", 5, 1)])
    assert topics.create(settings, None, 1) == [
        f"made {unique}{end} with 5 partitions" for end in ("-out", "-rows", "-dead-letters", "-changelog")
    ]
    topics.check(settings)


def test_topics_that_are_not_there_are_named_with_the_command_that_makes_them(bootstrap: str, unique: str) -> None:
    settings = named(bootstrap, unique)
    with pytest.raises(Refusal, match=f"no topic {unique}-in, .*`foldcast topics create --partitions N`"):
        topics.check(settings)
    admin.create_topics(settings.kafka, [TopicSpec(f"{unique}-in", 1, 1), TopicSpec(f"{unique}-out", 1, 1)])
    with pytest.raises(Refusal, match=f"no topic {unique}-rows, {unique}-dead-letters, .*`foldcast topics create`"):
        topics.check(settings)


@pytest.mark.parametrize("odd", ["out", "rows", "dead-letters", "changelog"])
def test_a_topic_with_another_number_of_partitions_is_refused_with_the_fix(
    bootstrap: str, unique: str, odd: str
) -> None:
    settings = named(bootstrap, unique)
    admin.create_topics(settings.kafka, [TopicSpec(f"{unique}-{odd}", 3, 1)])
    topics.create(settings, 2, 1)
    with pytest.raises(
        Refusal, match=f"{unique}-{odd} has 3 partitions and {unique}-in has 2: .*delete {unique}-{odd}"
    ):
        topics.check(settings)


@pytest.mark.parametrize(
    ("configs", "sentence"),
    [
        ({"changelog": {"cleanup.policy": "delete"}}, "-changelog has cleanup.policy delete, .*set it to compact"),
        ({"changelog": {"cleanup.policy": "compact,delete"}}, "-changelog has cleanup.policy compact,delete"),
        (
            {"dead_letters": {"cleanup.policy": "compact"}},
            "-dead-letters has cleanup.policy compact, .*set it to delete",
        ),
        (
            {"input": {"cleanup.policy": "compact"}},
            "-in has cleanup.policy compact, .*set it to delete, or .*on_gap = skip",
        ),
        ({"input": {"cleanup.policy": "compact,delete"}}, "-in has cleanup.policy compact,delete"),
        ({"input": {"compression.type": "snappy"}}, "-in has compression.type snappy, .*install python-snappy, or set"),
        ({"changelog": {"compression.type": "snappy"}}, "-changelog has compression.type snappy"),
        ({"changelog": MEGABYTE}, "-changelog takes batches of 1000000 bytes, .*set its max.message.bytes"),
        ({"dead_letters": MEGABYTE}, "-dead-letters takes batches of 1000000 bytes, .*set its max.message.bytes"),
        ({"rows": {"cleanup.policy": "compact"}}, "-rows has cleanup.policy compact, .*one row of each key: set it to"),
        ({"rows": MEGABYTE}, "-rows takes batches of 1000000 bytes, .*set its max.message.bytes"),
        ({"output": MEGABYTE}, "-out takes batches of 1000000 bytes, .*set its max.message.bytes"),
        ({"input": {"max.message.bytes": "5000000"}}, r"-dead-letters takes batches of \d+ bytes, 5004096 are needed"),
    ],
)
def test_settings_that_would_lose_state_or_stop_it_are_refused_with_the_fix(
    bootstrap: str, unique: str, configs: dict[str, dict[str, str]], sentence: str
) -> None:
    settings = named(bootstrap, unique)
    make(settings, **configs)
    with pytest.raises(Refusal, match=sentence):
        topics.check(settings)


@pytest.mark.parametrize("kind", ["producer", "uncompressed", "gzip", "lz4", "zstd"])
def test_what_producers_pack_with_can_be_unpacked(bootstrap: str, unique: str, kind: str) -> None:
    settings = named(bootstrap, unique)
    make(settings, partitions=1, input={"compression.type": kind})
    topics.check(settings)
    with FastProducer(settings.kafka) as producer:
        producer.send(f"{unique}-in", 0, b"key", b"value" * 1000)
        producer.flush()
    assert [record.value for record in read_all(settings.kafka, f"{unique}-in")] == [b"value" * 1000]


def test_the_limit_that_is_named_is_enough(bootstrap: str, unique: str) -> None:
    settings = named(bootstrap, unique)
    make(settings)
    topics.check(settings)


# ---- reset


def ids(records: list[TopicRecord]) -> list[str]:
    return sorted(orjson.loads(record.value or b"")["id"] for record in records)


def test_a_reset_waits_for_members_and_then_starts_cold_where_the_group_is(
    bootstrap: str, unique: str, tmp_path: Path
) -> None:
    with Cluster(bootstrap, unique, tmp_path, 2, model={"hidden_size": 8}) as cluster:
        worker = cluster.worker("one")
        cluster.wait_until_live()
        with FastProducer(cluster.connection) as producer:
            for n in range(40):
                producer.send(cluster.topics.input, n % 2, None, event_bytes(f"s{n % 4}", FIRST_MS + n * STEP_MS, n))
            producer.flush()
        cluster.await_last()
        with pytest.raises(Refusal, match=f"the group {unique} has members .*one.*: stop them first"):
            reset(cluster.settings)
        cluster.stop()
        # A static member stays for its session
        eventually(lambda: not admin.members(cluster.connection, unique), "the member is gone")
        committed, before = cluster.committed(), cluster.read(cluster.topics.output)
        assert sum(committed.values()) == 42

        [line] = reset(cluster.settings)
        assert line.startswith(f"{unique}-changelog made anew with 2 partitions")
        topics.check(cluster.settings)
        for partition, records in by_partition(cluster.read(cluster.topics.changelog)).items():
            image = image_of(records)
            assert image.marker is not None
            assert image.marker.offset == image.marker.weights == committed[partition]
            assert image.pages == []
        assert cluster.committed() == committed

        worker.start()
        cluster.wait_until_live()
        assert worker.tails[-2:] == [0, 0], "nothing is folded again"
        cluster.await_last()
        cluster.stop()
        after = cluster.read(cluster.topics.output)
        assert len(after) == len(before) + 2
        assert len(set(ids(after))) == len(after)
        last = max(after, key=lambda r: r.timestamp_ms)
        assert orjson.loads(last.value or b"")["expected"] is None, "of a stream that is new again"


def test_a_reset_without_an_input_is_refused(bootstrap: str, unique: str) -> None:
    with pytest.raises(Refusal, match=f"no topic {unique}-in: nothing to reset"):
        reset(named(bootstrap, unique))


def test_a_reset_of_a_group_that_never_committed_leaves_an_empty_changelog(bootstrap: str, unique: str) -> None:
    settings = named(bootstrap, unique)
    topics.create(settings, 2, 1)
    assert reset(settings) == [f"{unique}-changelog made anew with 2 partitions; cold start at {{}}"]
    topics.check(settings)


def test_a_reset_can_write_the_weights_of_a_large_model(bootstrap: str, unique: str) -> None:
    settings = named(bootstrap, unique, model={"hidden_size": 1024})  # more than 8 MB of weights
    topics.create(settings, 1, 1)
    connection = settings.kafka
    admin.set_group_offsets(connection, unique, f"{unique}-in", {0: 0})
    reset(settings)
    assert admin.bounds(connection, f"{unique}-changelog") == {0: (0, 3)}, "weights, those to go back to and a marker"


# ---- the largest records


def largest_record(cluster: Cluster, fill: bytes, limit: int) -> bytes:
    """Sent to the input: a value so long that with one byte more the topic would not take it."""
    for overhead in range(60, 120):
        value = fill * (limit - overhead)
        with FastProducer(cluster.connection) as producer, suppress(BrokerError):
            producer.send(cluster.topics.input, 0, None, value)
            producer.flush()
            return value
    raise AssertionError("the topic takes nothing near its limit")


def test_the_largest_record_an_input_can_hold_goes_to_the_dead_letters(
    bootstrap: str, unique: str, tmp_path: Path
) -> None:
    input_spec = TopicSpec(f"{unique}-in", 1, 1, {"max.message.bytes": str(LARGE)})
    admin.create_topics(named(bootstrap, unique).kafka, [input_spec])
    with Cluster(bootstrap, unique, tmp_path, 1, model={"hidden_size": 8}) as cluster:
        value = largest_record(cluster, b"\xff", LARGE)
        cluster.worker("one")
        cluster.wait_until_live()
        cluster.await_last()
        cluster.stop()
        [letter] = cluster.read(cluster.topics.dead_letters)
        assert letter.value == value
        assert dict(letter.headers)["foldcast-error-reason"] == b"undecodable"
        assert "CommitError" not in cluster.logs()


@pytest.mark.parametrize("hidden_size", [32, 1024])
def test_the_largest_page_and_the_weights_go_through(
    bootstrap: str, unique: str, tmp_path: Path, hidden_size: int
) -> None:
    worker_settings: dict[str, object] = {"snapshot_events": 100}
    sections: dict[str, dict[str, object]] = {"worker": worker_settings, "model": {"hidden_size": hidden_size}}
    with Cluster(bootstrap, unique, tmp_path, 1, **sections) as cluster:
        worker = cluster.worker("one")
        with FastProducer(cluster.connection) as producer:
            for n in range(300):  # names as long as they may be: more than fill a page
                body = event_bytes(f"{n:03}".ljust(255, "x"), FIRST_MS, n)
                producer.send(cluster.topics.input, 0, None, body)
            producer.flush()
        cluster.wait_until_live()
        cluster.await_last()
        cluster.stop()
        records = cluster.read(cluster.topics.changelog)
        image = image_of(records)
        assert sum(name is not None for page in image.pages for name in page.names) == 301
        largest = max(len(r.value or b"") for r in records)
        assert largest <= topics.wanted(cluster.settings, None).changelog
        worker.start()
        cluster.wait_until_live()
        assert worker.tails[-1] == 0
        cluster.stop()
        assert "CommitError" not in cluster.logs()
