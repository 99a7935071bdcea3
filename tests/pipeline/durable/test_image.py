"""A changelog that does not hold a whole image is refused with a sentence; a whole one is read as it was."""

import json
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from pipeline.durable.image import (
    MARKER_KEY,
    Image,
    ImageError,
    Marker,
    Page,
    Refused,
    encode_marker,
    encode_page,
    encode_refused,
    page_key,
    read_image,
    refused_key,
    weights_key,
)
from pipeline.shard import Shard
from tests.rigs.methods import SMALL
from tests.rigs.shard_rigs import batch_of, fold, make_log, restless, shard_of

METHOD = SMALL
Log = list[tuple[bytes, bytes | None]]


@pytest.fixture
def changelog(monkeypatch: pytest.MonkeyPatch) -> Log:
    """Weights, then two snapshots of a shard of several pages."""
    monkeypatch.setattr("pipeline.table.PAGE_BYTES", 4 * 1024)
    shard, log = shard_of(METHOD), make_log(4, 300, METHOD)
    records: Log = [(weights_key(0), shard.network.dump())]
    for part in (log[:200], log[200:]):
        fold(shard, part)
        shard.begin_snapshot()
        records += shard.snapshot_pieces(100)[0]
    assert shard.table.pages > 2
    return records


def marker_of(log: Log) -> Marker:
    marker = read_image(log).marker
    assert marker is not None
    return marker


def unchecked(log: Log) -> tuple[bytes, bytes]:
    """The marker as it was before there were checksums."""
    old = msgspec.json.decode(encode_marker(marker_of(log)))
    del old["page_checksums"], old["checksum"]
    return MARKER_KEY, msgspec.json.encode(old)


def test_refused_events_are_found_in_order_until_they_are_taken_back(changelog: Log) -> None:
    entries = [Refused(5, [400, 402]), Refused(4, [31])]
    log = [*changelog, *((refused_key(e.offsets[0]), encode_refused(e)) for e in entries)]
    assert read_image(changelog).refused == []
    assert read_image(log).refused == [entries[1], entries[0]]
    assert read_image(log).newest == 403
    assert read_image([*log, (refused_key(400), None)]).refused == [entries[1]]
    with pytest.raises(ImageError, match="cannot be read"):
        read_image([*log, (refused_key(7), b"{")])


def test_the_newest_marker_finds_the_pages_it_names(changelog: Log) -> None:
    image = read_image(changelog)
    assert image.marker is not None
    assert [page.number for page in image.pages] == list(range(len(image.marker.letters)))
    assert "b" in image.marker.letters, "a page was written twice"
    assert list(image.weights) == [0]


def test_an_empty_changelog_has_no_image(changelog: Log) -> None:
    assert read_image([]) == Image(None, [], {}, None, None)
    assert read_image(changelog[:2]).marker is None, "pages without a marker are no image"


def test_a_missing_page_is_named(changelog: Log) -> None:
    key = page_key(1, marker_of(changelog).letters[1])
    with pytest.raises(ImageError, match=f"the marker names b'{key.decode()}', which is not there"):
        read_image([(k, v) for k, v in changelog if k != key])
    with pytest.raises(ImageError, match="which is not there"):
        read_image([*changelog, (key, None)])


def test_a_page_of_another_offset_or_method_is_refused(changelog: Log) -> None:
    marker, image = marker_of(changelog), read_image(changelog)
    key = page_key(0, marker.letters[0])
    for page in (
        msgspec.structs.replace(image.pages[0], offset=marker.offset + 1),
        msgspec.structs.replace(image.pages[0], method="another"),
    ):
        with pytest.raises(ImageError, match=r"page 0[ab] is from offset \d+, the marker wants it from \d+"):
            read_image([*changelog, (key, encode_page(page)), unchecked(changelog)])


@pytest.mark.parametrize("damage", [b"", b"{", b"\xc1", b'{"offset":1}'])
def test_a_record_that_cannot_be_read_is_refused(changelog: Log, damage: bytes) -> None:
    key = page_key(0, marker_of(changelog).letters[0])
    for bad in (key, MARKER_KEY):
        with pytest.raises(ImageError, match="cannot be read"):
            read_image([*changelog, unchecked(changelog), (bad, damage)])


def test_missing_weights_are_named(changelog: Log) -> None:
    with pytest.raises(ImageError, match=r"the weights in service at \d+ \(b'weights-0'\) are not there"):
        read_image([*changelog, (weights_key(0), None)])


def test_a_deleted_record_is_gone_and_a_later_one_counts(changelog: Log) -> None:
    more: Log = [(weights_key(0), None), (weights_key(0), b"new"), (weights_key(70), b"x"), (weights_key(70), None)]
    assert read_image([*changelog, *more]).weights == {0: b"new"}
    assert read_image([*changelog, (MARKER_KEY, None)]).marker is None


def test_another_method_is_refused_in_words(changelog: Log) -> None:
    image = read_image(changelog)
    other = Shard(METHOD, restless(METHOD), 0, {"model.cell": "lstm", "events.same_time": "drop"})
    words = "events.same_time was the default and is 'drop'; model.cell was 'gru' and is 'lstm'"
    with pytest.raises(ImageError, match=f"^{words}$"):
        other.load(marker_of(changelog), image.pages)
    wider = replace(METHOD, hidden_size=16)
    with pytest.raises(ImageError, match="another version of the method"):
        shard_of(wider).load(marker_of(changelog), image.pages)


def test_a_page_cut_short_is_refused_by_the_shard(changelog: Log) -> None:
    image = read_image(changelog)
    page = image.pages[0]
    for rows in (page.rows[:-1], page.rows[: len(page.rows) // 2]):
        image.pages[0] = msgspec.structs.replace(page, rows=rows)
        with pytest.raises(ImageError, match=r"page|multiple"):
            shard_of(METHOD).load(marker_of(changelog), image.pages)


def test_an_image_is_the_shard_and_its_counters(changelog: Log) -> None:
    shard, image = shard_of(METHOD), read_image(changelog)
    marker = marker_of(changelog)
    shard.load(marker, image.pages)
    assert (shard.position, shard.snapshot_offset, shard.replay_tail) == (marker.offset, marker.offset, 0)
    assert shard.counters == marker.counters
    assert marker.counters.records == 300
    assert shard.table.rows["time_ms"].max() == max(
        np.frombuffer(p.rows, shard.table.rows.dtype)["time_ms"].max() for p in image.pages
    )
    log = make_log(4, 301, METHOD)
    shard.advance(batch_of([log[-1]._replace(offset=marker.offset)], METHOD))
    assert marker_of(changelog).counters.records == 300


def test_pages_and_markers_survive_the_way_through_bytes() -> None:
    page = Page(3, 77, "m", ["a", None, "ä"], bytes(range(256)))
    assert msgspec.msgpack.decode(encode_page(page), type=Page) == page


@pytest.mark.parametrize("place", [0.2, 0.5, 0.9])
def test_one_flipped_bit_of_a_page_is_noticed(changelog: Log, place: float) -> None:
    marker = marker_of(changelog)
    key = page_key(1, marker.letters[1])
    data = bytearray(dict(changelog)[key] or b"")
    data[int(place * len(data))] ^= 1
    with pytest.raises(ImageError, match=f"page 1{marker.letters[1]} is damaged"):
        read_image([*changelog, (key, bytes(data))])


def test_a_number_changed_in_a_marker_is_noticed(changelog: Log) -> None:
    data = dict(changelog)[MARKER_KEY] or b""
    assert b'"records":300' in data
    with pytest.raises(ImageError, match="the marker is damaged"):
        read_image([*changelog, (MARKER_KEY, data.replace(b'"records":300', b'"records":301'))])


def test_a_marker_whose_lists_do_not_go_together_is_refused(changelog: Log) -> None:
    marker = marker_of(changelog)
    odd = [
        msgspec.structs.replace(marker, letters=marker.letters + "a"),
        msgspec.structs.replace(marker, page_offsets=marker.page_offsets[1:]),
        msgspec.structs.replace(marker, page_checksums=marker.page_checksums[1:]),
    ]
    for one in odd:
        with pytest.raises(ImageError, match="the marker names"):
            read_image([*changelog, (MARKER_KEY, encode_marker(one))])


def test_an_image_of_before_there_were_checksums_is_read(changelog: Log) -> None:
    image = read_image([*changelog, unchecked(changelog)])
    shard = shard_of(METHOD)
    assert image.marker is not None
    shard.load(image.marker, image.pages)
    fold(shard, [record for record in make_log(4, 310, METHOD) if record.offset >= shard.position])
    shard.begin_snapshot()
    again = read_image([*changelog, *shard.snapshot_pieces(100)[0]])
    assert len(again.pages) == len(image.pages), "pages that have none stand beside pages that have one"


@pytest.mark.parametrize("slot", [-1, METHOD.season_slots, 2**31 - 1])
def test_an_index_that_points_outside_is_refused_before_a_kernel_follows_it(changelog: Log, slot: int) -> None:
    image, shard = read_image(changelog), shard_of(METHOD)
    rows = np.frombuffer(image.pages[0].rows, shard.table.rows.dtype).copy()
    rows["slot"][0] = slot
    image.pages[0] = msgspec.structs.replace(image.pages[0], rows=rows.tobytes())
    with pytest.raises(ImageError, match="page 0 is damaged: the field slot"):
        shard.load(marker_of(changelog), image.pages)


def edited(log: Log, **fields: object) -> tuple[bytes, bytes]:
    """The marker with other fields and without checksums."""
    key, data = unchecked(log)
    return key, json.dumps({**json.loads(data), **fields}).encode()


@pytest.mark.parametrize("name", ["offset", "weights", "next_sweep", "clock_ms"])
@pytest.mark.parametrize("number", [-(1 << 70), 1 << 70])
def test_a_number_of_more_than_64_bits_is_refused(changelog: Log, name: str, number: int) -> None:
    with pytest.raises(ImageError, match="cannot be read"):
        read_image([*changelog, edited(changelog, **{name: number})])


@pytest.mark.parametrize("name", ["offset", "weights"])
def test_an_offset_below_zero_is_refused(changelog: Log, name: str) -> None:
    with pytest.raises(ImageError, match="cannot be read"):
        read_image([*changelog, edited(changelog, **{name: -1})])


@pytest.mark.parametrize("key", [b"weights-", b"weights-x", b"weights--7", b"weights- 7", b"weights-" + b"9" * 30])
def test_weights_at_what_is_no_offset_are_refused(changelog: Log, key: bytes) -> None:
    with pytest.raises(ImageError, match=f"{key!r} names no offset"):
        read_image([*changelog, (key, b"")])


def test_settings_in_settings_without_end_are_refused(changelog: Log) -> None:
    settings = b'{"a":' * 5000 + b"1" + b"}" * 5000
    data = unchecked(changelog)[1].replace(b'"settings":', b'"settings":' + settings + b',"others":', 1)
    with pytest.raises(ImageError, match="cannot be read"):
        read_image([*changelog, (MARKER_KEY, data)])


def test_a_stream_that_has_two_rows_is_refused_by_the_shard(changelog: Log) -> None:
    marker, pages = marker_of(changelog), read_image(changelog).pages
    name = pages[0].names[0]
    twice = [pages[0], msgspec.structs.replace(pages[1], names=[*pages[1].names[:-1], name]), *pages[2:]]
    with pytest.raises(ImageError, match=f"page 1 is damaged: {name!r} has a row already"):
        shard_of(METHOD).load(marker, twice)
