"""An image of then is found in a changelog, as far as compaction has left one."""

import pytest

from pipeline.durable.image import REFUSED_PREFIX, Refused, encode_refused, refused_key, weights_key
from pipeline.method import Method
from pipeline.shard import Shard
from tests.rigs.shard_rigs import shard_of
from worker.broker.contract import LogRecord
from worker.lives.loading import cold_start
from worker.refusal import Refusal
from worker.replay.history import history_of

METHOD = Method(hidden_size=4)
IMAGES = (0, 100, 200, 300)


def snapshot(shard: Shard, offset: int) -> list[tuple[bytes, bytes | None]]:
    """The records of an image at an offset, where one stream more is known."""
    shard.position = offset
    shard.table.add(f"stream-{offset}")
    shard.begin_snapshot()
    return [*shard.snapshot_pieces(9)[0]]


def changelog() -> list[LogRecord]:
    """Four images; what the second of three adoptions and a refusal replaced is deleted before the last of them."""
    shard = shard_of(METHOD)
    records: list[tuple[bytes, bytes | None]] = [*cold_start(shard)]
    records += [
        *snapshot(shard, 100),
        (weights_key(150), b"150"),
        (refused_key(160), encode_refused(Refused(0, [160]))),
    ]
    shard.weights_offset = 150
    records += [*snapshot(shard, 200), (weights_key(250), b"250")]
    records += [(weights_key(0), None), (weights_key(150), None), (refused_key(160), None)]
    shard.weights_offset = 250
    records += snapshot(shard, 300)
    return [LogRecord(key, value) for key, value in records]


def compacted(records: list[LogRecord]) -> list[LogRecord]:
    """The last record of each key."""
    last = {record.key: place for place, record in enumerate(records)}
    return [record for place, record in enumerate(records) if last[record.key] == place]


@pytest.mark.parametrize(("first", "offset"), [(0, 0), (99, 0), (100, 100), (250, 200), (10**9, 300), (None, 0)])
def test_the_newest_image_before_the_first_offset_is_found(first: int | None, offset: int) -> None:
    found = history_of(changelog(), 0, first, 0)
    assert found.marker.offset == offset
    names = [name for page in found.image.pages for name in page.names]
    assert names == [f"stream-{at}" for at in IMAGES[1:] if at <= offset]


def test_what_was_deleted_since_is_there_up_to_the_end() -> None:
    found = history_of(changelog(), 0, 120, 0)
    assert [*found.until(260).weights] == [0, 150, 250]
    assert [*found.until(250).weights] == [0, 150], "those from 250 on say nothing of what is below"
    assert [entry.offsets for entry in found.until(260).refused] == [[160]]


def test_an_image_whose_input_is_gone_is_passed_over() -> None:
    assert history_of(changelog(), 0, None, 101).marker.offset == 200
    with pytest.raises(Refusal, match="the earliest that a replay can start from is 200"):
        history_of(changelog(), 0, 120, 101)


def test_after_compaction_the_earliest_that_is_left_is_named() -> None:
    left = compacted(changelog())
    assert any(record.key.startswith(REFUSED_PREFIX) and record.value is None for record in left)
    with pytest.raises(Refusal, match=r"at or before offset 299 of partition 7: the earliest .* is 300"):
        history_of(left, 7, 299, 0)
    assert history_of(left, 7, 300, 0).marker.offset == 300
    with pytest.raises(Refusal, match="holds no whole image"):
        history_of(left, 7, None, 301)


@pytest.mark.parametrize(
    ("key", "value"),
    [(b"shard", b"{"), (b"shard", b"{}"), (b"shard", b"[" * 5000), (None, b"{"), (None, None), (b"", b"")],
)
def test_a_damaged_marker_or_a_null_key_is_passed_over(key: bytes, value: bytes | None) -> None:
    records = changelog()
    records.insert(records.index(next(r for r in records if r.key == weights_key(150))), LogRecord(key, value))
    assert history_of(records, 0, 250, 0).marker.offset == 200


@pytest.mark.parametrize(
    ("key", "value"),
    [(b"refused-9", b"{"), (b"refused-9", b"{}"), (b"refused-9", b"[" * 5000), (b"weights-" + b"9" * 5000, b"")],
)
def test_where_damage_leaves_no_image_it_is_named(key: bytes, value: bytes) -> None:
    with pytest.raises(Refusal, match="holds no whole image whose input is still there; another cannot be read: "):
        history_of([LogRecord(key, value), *changelog()], 0, 250, 0)
