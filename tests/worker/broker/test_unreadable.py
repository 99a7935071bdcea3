"""A batch of a real Kafka that the client cannot unpack: the broker tells its place, and reads it when it can."""

import zlib
from collections.abc import Callable, Iterator

import pytest
from kafka.errors import UnsupportedCodecError
from kafka.record.default_records import DefaultRecordBatch

from tests.rigs.broker_rigs import KafkaRig, drive, joined
from tests.rigs.cluster import send_packed
from worker.broker.contract import LogRead, Unreadable

pytestmark = pytest.mark.kafka

Patch = Callable[[pytest.MonkeyPatch], None]


@pytest.fixture
def rig(bootstrap: str) -> Iterator[KafkaRig]:
    rig = KafkaRig(bootstrap, "kafka-python")
    yield rig
    rig.close()


def fails_with(error: Exception) -> Patch:
    """The third record of a partition and those after it cannot be unpacked."""

    def unpack(batch: DefaultRecordBatch) -> None:
        if batch.base_offset >= 2:
            raise error

    return lambda patch: patch.setattr(DefaultRecordBatch, "_maybe_uncompress", unpack)


def damage(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(DefaultRecordBatch, "validate_crc", lambda batch: batch.base_offset < 2)


@pytest.mark.parametrize(
    ("patched", "fix"),
    [
        (fails_with(zlib.error("Error -3 while decompressing data: invalid block type")), "kafka-delete-records"),
        (
            fails_with(UnsupportedCodecError("Libraries for snappy compression codec not found")),
            "install python-snappy",
        ),
        (damage, "worker.on_gap = skip"),
    ],
)
def test_what_cannot_be_unpacked_is_told_with_its_place_and_the_fix(rig: KafkaRig, patched: Patch, fix: str) -> None:
    for n in range(4):  # a batch each
        rig.feed([(1, b"k", b"%d" % n, n)])
    worker = joined(rig)
    worker.broker.start(0, 0)
    with pytest.MonkeyPatch.context() as patch:
        patched(patch)
        for life in range(2):
            worker.rows.clear()
            worker.unreadable.clear()
            worker.broker.start(1, life)
            drive(worker, until=lambda: bool(worker.unreadable))
            (told,) = worker.unreadable
            assert f"{rig.input}-1 cannot be unpacked from offset 2 on" in str(told)
            assert (told.partition, told.offset) == (1, 2)
            assert fix in told.fix
            assert [row[0] for row in worker.rows[1]] == [0, 1][life:], "what comes before it is delivered"
            rig.feed([(0, b"k", b"%d" % life, life)])
            drive(worker, until=lambda: 0 in worker.rows)
            assert worker.unreadable == [told], "it rests, and the others go on"
    assert not worker.ended
    worker.rows.clear()
    worker.broker.start(1, 2)
    drive(worker, until=lambda: worker.count() == 2)
    assert [row[0] for row in worker.rows[1]] == [2, 3]


def test_librdkafka_tells_the_place_of_what_becomes_too_large_and_delivers_nothing_behind_it(bootstrap: str) -> None:
    rig = KafkaRig(bootstrap, "librdkafka")
    worker = joined(rig)
    rig.feed([(1, b"k", b"0", 0), (1, b"k", b"1", 1)])
    send_packed(rig.connection, rig.input, 1, bytes(65 << 20), "zstd")
    rig.feed([(1, b"k", b"3", 3)])
    worker.broker.start(0, 0)
    for life in range(2):
        worker.rows.clear()
        worker.unreadable.clear()
        worker.broker.start(1, life)
        drive(worker, until=lambda: bool(worker.unreadable))
        (told,) = worker.unreadable
        assert f"{rig.input}-1 cannot be unpacked from offset 2 on" in str(told)
        assert (told.partition, told.offset) == (1, 2)
        for words in ("kafka.max_batch_mb", "kafka-delete-records", "worker.on_gap = skip"):
            assert words in told.fix
        assert [row[0] for row in worker.rows[1]] == [0, 1][life:], "what comes before it is delivered"
        rig.feed([(0, b"k", b"%d" % life, life)])
        drive(worker, until=lambda: 0 in worker.rows)
        assert worker.unreadable == [told], "it rests, and the others go on"
    worker.broker.start(1, 3)
    worker.rows.clear()
    drive(worker, until=lambda: worker.count() == 1)
    assert [row[0] for row in worker.rows[1]] == [3]
    rig.close()


def read_to_end(changelog: LogRead) -> list[bytes]:
    keys: list[bytes] = []
    while not changelog.done:
        keys += [record.key for record in changelog.read(0.2)]
    changelog.close()
    return keys


@pytest.mark.parametrize("compression", ["gzip", "lz4", "zstd"])
def test_a_changelog_that_becomes_too_large_is_told_with_its_place_and_the_fix(rig: KafkaRig, compression: str) -> None:
    for partition in range(2):
        for value in (b"1", b"2"):
            send_packed(rig.connection, rig.changelog, partition, value, compression, b"key-" + value)
    send_packed(rig.connection, rig.changelog, 1, bytes(65 << 20), compression)
    broker = rig.join("one")
    healthy, bad = broker.open_changelog(0), broker.open_changelog(1)
    for _ in range(2):
        with pytest.raises(Unreadable, match=f"{rig.changelog}-1 cannot be unpacked from offset 2 on") as told:
            read_to_end(bad)
        assert (told.value.partition, told.value.offset) == (1, 2)
        for words in ("kafka.max_batch_mb", "kafka-delete-records", "foldcast topics reset"):
            assert words in told.value.fix
    bad.close()
    assert read_to_end(healthy) == [b"key-1", b"key-2"], "the same clients read on"
    broker.close(leave=True)


def test_a_batch_behind_others_is_told_though_another_partition_is_read_in_between(rig: KafkaRig) -> None:
    for partition in range(2):
        for value in (b"1", b"2"):
            send_packed(rig.connection, rig.changelog, partition, value, "gzip", b"key-" + value)
    send_packed(rig.connection, rig.changelog, 1, bytes(65 << 20), "gzip")
    broker = rig.join("one")
    healthy, bad = broker.open_changelog(0), broker.open_changelog(1)
    with pytest.raises(Unreadable, match="cannot be unpacked from offset 2 on"):
        read_in_turns(bad, healthy)
    broker.close(leave=True)


def read_in_turns(*changelogs: LogRead) -> None:
    """As restores do; returns where all are read to their ends."""
    while not all(changelog.done for changelog in changelogs):
        for changelog in changelogs:
            changelog.read(0.2)
