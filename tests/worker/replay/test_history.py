"""An image of then is found in a changelog, as far as compaction has left one."""

from collections.abc import Iterable, Iterator

import pytest

from pipeline.durable.image import (
    MARKER_KEY,
    REFUSED_PREFIX,
    Image,
    Refused,
    encode_refused,
    read_image,
    refused_key,
    weights_key,
)
from pipeline.method import Method
from pipeline.shard import Shard
from tests.rigs.shard_rigs import shard_of
from worker.broker.contract import LogRecord
from worker.lives.loading import cold_start
from worker.refusal import Refusal
from worker.replay import history
from worker.replay.history import image_of_then

METHOD = Method(hidden_size=8)
IMAGES = (0, 100, 200, 300)
FAR = 10**12


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


def offset_of(found: Image) -> int:
    assert found.marker is not None
    return found.marker.offset


@pytest.mark.parametrize(("first", "offset"), [(0, 0), (99, 0), (100, 100), (250, 200), (10**9, 300), (None, 0)])
def test_the_newest_image_before_the_first_offset_is_found(first: int | None, offset: int) -> None:
    found = image_of_then(changelog, 0, first, 0, FAR)
    assert offset_of(found) == offset
    names = [name for page in found.pages for name in page.names]
    assert names == [f"stream-{at}" for at in IMAGES[1:] if at <= offset]


def test_what_was_deleted_since_is_there_up_to_the_end() -> None:
    found = image_of_then(changelog, 0, 120, 0, 260)
    assert [*found.weights] == [0, 150, 250]
    assert [entry.offsets for entry in found.refused] == [[160]]
    below = image_of_then(changelog, 0, 120, 0, 250)
    assert [*below.weights] == [0, 150], "those from 250 on say nothing of what is below"


def test_an_image_whose_input_is_gone_is_passed_over() -> None:
    assert offset_of(image_of_then(changelog, 0, None, 101, FAR)) == 200
    with pytest.raises(Refusal, match="the earliest that a replay can start from is 200"):
        image_of_then(changelog, 0, 120, 101, FAR)


def test_after_compaction_the_earliest_that_is_left_is_named() -> None:
    left = compacted(changelog())
    assert any(record.key.startswith(REFUSED_PREFIX) and record.value is None for record in left)
    with pytest.raises(Refusal, match=r"at or before offset 299 of partition 7: the earliest .* is 300"):
        image_of_then(lambda: left, 7, 299, 0, FAR)
    assert offset_of(image_of_then(lambda: left, 7, 300, 0, FAR)) == 300
    with pytest.raises(Refusal, match="holds no whole image"):
        image_of_then(lambda: left, 7, None, 301, FAR)


@pytest.mark.parametrize(
    ("key", "value"),
    [(b"shard", b"{"), (b"shard", b"{}"), (b"shard", b"[" * 5000), (None, b"{"), (None, None), (b"", b"")],
)
def test_a_damaged_marker_or_a_null_key_is_passed_over(key: bytes, value: bytes | None) -> None:
    records = changelog()
    records.insert(records.index(next(r for r in records if r.key == weights_key(150))), LogRecord(key, value))
    assert offset_of(image_of_then(lambda: records, 0, 250, 0, FAR)) == 200


@pytest.mark.parametrize(
    ("key", "value"),
    [(b"refused-9", b"{"), (b"refused-9", b"{}"), (b"refused-9", b"[" * 5000), (b"weights-" + b"9" * 5000, b"")],
)
@pytest.mark.parametrize("first", [None, 250])
def test_where_damage_leaves_no_image_it_is_named(key: bytes, value: bytes, first: int | None) -> None:
    with pytest.raises(Refusal, match="no whole image whose input is still there; another cannot be read: "):
        image_of_then(lambda: [LogRecord(key, value), *changelog()], 0, first, 0, FAR)


def test_damage_behind_the_image_is_refused() -> None:
    records = changelog()
    records.insert(place_of(200) - 1, LogRecord(b"refused-170", b"{"))
    with pytest.raises(Refusal, match=r"damaged behind the image at 100: .* --to before the damage"):
        image_of_then(lambda: records, 0, 120, 0, FAR)


def test_a_damaged_image_leaves_the_one_before_it() -> None:
    records = changelog()
    place = next(at for at in range(place_of(200)) if records[at].key.startswith(b"page-") and at > place_of(100))
    records[place] = records[place]._replace(value=b"damaged")
    found = image_of_then(lambda: records, 0, 250, 0, FAR)
    assert offset_of(found) == 100
    assert [*found.weights] == [0, 150, 250]


def test_only_the_images_that_matter_are_decoded_and_nothing_is_read_behind_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read, decoded = list[LogRecord](), list[int]()

    def reading() -> Iterator[LogRecord]:
        for record in changelog():
            read.append(record)
            yield record

    def counting(records: Iterable[tuple[bytes, bytes | None]]) -> Image:
        image = read_image(records)
        decoded.append(-1 if image.marker is None else image.marker.offset)
        return image

    monkeypatch.setattr(history, "read_image", counting)
    assert offset_of(image_of_then(reading, 0, 120, 0, 121)) == 100
    assert decoded == [100, -1], "what came later has no marker"
    assert len(read) == place_of(200) + 1


def test_adoptions_before_the_image_are_let_go_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """The changelog keeps them for `worker.changelog_history_s`: as many as there were."""
    kept, seen = [record for record in changelog() if record.value is not None], list[list[bytes]]()

    def noting(records: Iterable[tuple[bytes, bytes | None]]) -> Image:
        whole = [*records]
        seen.append([key for key, _ in whole if key.startswith(b"weights-")])
        return read_image(whole)

    monkeypatch.setattr(history, "read_image", noting)
    assert offset_of(image_of_then(lambda: kept, 0, 300, 0, FAR)) == 300
    assert seen[0] == [b"weights-base", b"weights-250"]


def place_of(offset: int) -> int:
    """Where in the changelog the marker of an image is."""
    return [at for at, record in enumerate(changelog()) if record.key == MARKER_KEY][IMAGES.index(offset)]
