"""`foldcast dead-letters` on a real Kafka: what is shown, and that a record is sent again once."""

import json
import random
import time
from collections.abc import Iterator
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest

from pipeline.batch import Rejected
from tests.rigs.cluster import Cluster, event_bytes, named
from worker import topics
from worker.__main__ import main
from worker.broker.admin import TopicSpec, bounds, create_topics, topic_id
from worker.broker.contract import CommitError, Message, Records
from worker.broker.produce import FastProducer
from worker.broker.producer import discard, send_all
from worker.broker.resender import Resender
from worker.broker.restore import TopicReader, TopicRecord, read_all
from worker.dead_letters import dead_letters
from worker.letters.reading import Chosen, letters
from worker.letters.resending import resend
from worker.settings.settings import Settings

pytestmark = pytest.mark.kafka

AT_MS = 1_600_000_000_000
LIMIT_S = 120.0
LARGE = bytes(range(256)) * 20
RECORDS: list[tuple[bytes | None, bytes | None]] = [
    (b"a", b"{"), (None, b"\xff\x00"), (b"b", None), (b"c", b'{"value": "\xc3\xa4"}'), (b"d", LARGE)
]  # fmt: skip
REASONS = ["undecodable", "undecodable", "no_value", "bad_time", "undecodable"]
LISTED = """\
TOPIC: 5 letters, 0 of them sent again; 1 other records
  bad_time: 1, 2020-09-13T12:26:43.000+00:00 to 2020-09-13T12:26:43.000+00:00, by partition 1: 1
  no_value: 1, 2020-09-13T12:26:42.000+00:00 to 2020-09-13T12:26:42.000+00:00, by partition 1: 1
  undecodable: 3, 2020-09-13T12:26:40.000+00:00 to 2020-09-13T12:26:44.000+00:00, by partition 1: 3
1:3  2020-09-13T12:26:43.000+00:00  bad_time  INPUT-1-3  why 3
1:4  2020-09-13T12:26:44.000+00:00  undecodable  INPUT-1-4  why 4
"""


@pytest.fixture
def settings(bootstrap: str, unique: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Topics of which the dead letters hold five and a record of somebody else; the value of the last is left out.

    A command finds them in its environment.
    """
    made = named(bootstrap, unique)
    topics.create(made, 2, 1)
    names = topics.names_of(made)
    offsets = [*range(len(RECORDS))]
    headers = [[("own", b"%d" % offset)] for offset in offsets]
    records = Records(
        offsets, [AT_MS - offset for offset in offsets], [k for k, _ in RECORDS], [v for _, v in RECORDS], headers
    )
    rejected = [Rejected(place, reason, f"why {place}") for place, reason in enumerate(REASONS)]
    with FastProducer(made.kafka) as producer:
        for offset, (key, value) in enumerate(RECORDS):
            producer.send(names.input, 1, key, value, AT_MS - offset, headers[offset])
        for place, letter in enumerate(dead_letters(rejected, records, names, 1, 2000)):
            at_ms = AT_MS + 1000 * place
            producer.send(letter.topic, 1, letter.key, letter.value, at_ms, [*letter.headers])
        producer.send(names.dead_letters, 1, b"somebody", b"else")
        producer.flush()
    for name in ("bootstrap_servers", "input_topic", "output_topic", "group_id"):
        monkeypatch.setenv(f"FOLDCAST_KAFKA__{name.upper()}", getattr(made.kafka, name))
    return made


def test_letters_that_cannot_be_sent_hold_up_no_other(bootstrap: str, unique: str) -> None:
    made = named(bootstrap, unique)
    create_topics(made.kafka, [TopicSpec(made.kafka.input_topic, 1, 1, {"max.message.bytes": "2000"})])
    topics.create(made, 1, 1)
    names, source = topics.names_of(made), topic_id(made.kafka, made.kafka.input_topic)
    large = random.Random(1).randbytes(5000)  # as the one of a producer that packs better
    values = [b"{", large, b"[", None, b"}", large]
    keys = [b"a", b"b", b"c", None, b"d", b"e"]
    records = Records([*range(6)], [AT_MS] * 6, keys, values, [[] for _ in range(6)])
    rejected = [Rejected(place, "undecodable", "why") for place in range(6)]
    with FastProducer(made.kafka) as producer:
        for letter in dead_letters(rejected, records, replace(names, source=source), 0, 1 << 20):
            producer.send(letter.topic, 0, letter.key, letter.value, AT_MS, [*letter.headers])
        producer.flush()
    [*_, done] = resend(made, Chosen())
    assert [record.key for record in read_all(made.kafka, names.input)] == [b"a", b"c", b"d"]
    assert (done.sent, len(done.gone)) == (3, 3)
    assert all(word in " ".join(done.gone) for word in ("neither key nor value", "0:1 is refused", "0:5 is refused"))
    [*_, done] = resend(made, Chosen())
    assert (done.sent, done.before, len(done.gone)) == (0, 3, 3)


def sent_again(settings: Settings) -> list[TopicRecord]:
    """What a `read_committed` reader finds in the input behind what was there."""
    return [one for one in read_all(settings.kafka, settings.kafka.input_topic) if one.offset >= len(RECORDS)]


def test_letters_are_listed_and_shown(settings: Settings, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    def said(*arguments: str) -> str:
        assert main(["dead-letters", *arguments]) == 0
        return capsysbinary.readouterr().out.decode()

    names = settings.kafka
    golden = LISTED.replace("TOPIC", names.dead_letter_topic).replace("INPUT", names.input_topic)
    assert said("list", "--limit", "2") == golden
    counted = json.loads(said("list", "--json", "--reason", "undecodable", "--until", "2020-09-13T12:26:44Z"))
    assert (counted["letters"], [one["letter"] for one in counted["newest"]]) == (2, ["1:0", "1:1"])
    assert json.loads(said("list", "--json", "--since", "2020-09-13T12:26:44"))["letters"] == 1
    assert json.loads(said("list", "--json", "--partition", "0"))["letters"] == 0

    text = "1:1  2020-09-13T12:26:41.000+00:00  undecodable  INPUT-1-1  why 1\n  key: None\n  header own: 1\n"
    assert said("show", "1:1") == text.replace("INPUT", names.input_topic) + "  2 bytes: hex ff00\n"
    shown = json.loads(said("show", "1:3", "--json"))
    assert (shown["key"], shown["value"], shown["headers"]) == ("c", '{"value": "ä"}', {"own": "3"})
    assert said("show", "1:4").splitlines()[-1].startswith("  5,120 bytes: hex 000102")
    assert main(["dead-letters", "show", "--raw", "1:4"]) == 0
    assert capsysbinary.readouterr().out == LARGE, "from the input, since the letter does not have it"
    for nothing in ("1:5", "1:99", "0:0"):
        assert main(["dead-letters", "show", nothing]) == 1
        assert f"there is no dead letter at {nothing}" in capsysbinary.readouterr().err.decode()


def test_a_record_is_sent_again_as_it_was_and_once(
    settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def said(*arguments: str) -> str:
        assert main(["dead-letters", "resend", *arguments, "--yes"]) == 0
        return capsys.readouterr().out

    for answer, words in (("", "say --yes"), ("no\n", "This sends the records of 5 dead letters")):
        monkeypatch.setattr("sys.stdin", StringIO(answer))
        assert main(["dead-letters", "resend", "--all"]) == 1
        assert words in capsys.readouterr().err
    assert sent_again(settings) == []
    assert said("1:1", "1:3") == "2 sent, 0 had been sent before\n"
    assert said("--all") == "3 sent, 2 had been sent before\n"
    assert said("--all") == "0 sent, 5 had been sent before\n"
    topic = settings.kafka.dead_letter_topic
    again = sorted(sent_again(settings), key=lambda one: -one.timestamp_ms)
    assert [(one.partition, one.key, one.value) for one in again] == [(1, *record) for record in RECORDS]
    assert [one.timestamp_ms for one in again] == [AT_MS - offset for offset in range(len(RECORDS))]
    assert [one.headers for one in again] == [
        [("own", b"%d" % i), ("foldcast-resent-from", f"{topic}/1/{i}".encode())] for i in range(len(RECORDS))
    ]
    assert main(["dead-letters", "list", "--json"]) == 0
    counted = json.loads(capsys.readouterr().out)
    assert (counted["letters"], counted["resent"], counted["other_records"]) == (5, 5, 1), "a note is no letter"
    assert main(["dead-letters", "resend"]) == 2, "neither letters nor a filter"
    assert main(["dead-letters", "resend", "1:77", "9:0", "--yes"]) == 1
    assert "there is no dead letter at 1:77, or a filter leaves it out\nNO" in capsys.readouterr().out


def test_who_is_killed_before_the_commit_has_sent_nothing(settings: Settings) -> None:
    killed = Resender(settings.kafka, [])
    killed._producer.begin_transaction()
    half = Message(settings.kafka.input_topic, 1, b"half", b"{")
    send_all(killed._producer, [half], time.monotonic() + LIMIT_S, [])
    discard(killed._producer)
    [*_, done] = resend(settings, Chosen())
    assert (done.sent, done.before) == (5, 0)
    assert {one.key for one in sent_again(settings)} == {key for key, _ in RECORDS}


def test_what_an_earlier_run_left_is_aborted_wherever_it_may_be(settings: Settings) -> None:
    topics_used = (settings.kafka.input_topic, settings.kafka.dead_letter_topic)
    before = {topic: bounds(settings.kafka, topic)[1][1] for topic in topics_used}
    Resender(settings.kafka, [(topic, 1) for topic in topics_used]).close()
    after = {topic: bounds(settings.kafka, topic)[1][1] for topic in topics_used}
    assert after == {topic: end + 2 for topic, end in before.items()}, "a record and the marker of its end"
    assert sent_again(settings) == []
    assert letters(settings, Chosen(), 0).others == 1


def test_of_two_at_once_the_later_one_sends(settings: Settings) -> None:
    steps: Iterator[object] = resend(settings, Chosen(places=frozenset({(1, 0)})))
    earlier = Resender(settings.kafka, [])  # it has looked what is due, and is slow
    [*_] = steps
    with pytest.raises(CommitError) as refused:
        earlier.send([Message(settings.kafka.input_topic, 1, b"twice", b"{")])
    assert refused.value.fenced
    assert "another `foldcast dead-letters resend` of this group has begun" in refused.value.fix
    assert [one.key for one in sent_again(settings)] == [b"a"]


def test_a_record_that_is_still_bad_comes_back_once_and_says_so(bootstrap: str, unique: str, tmp_path: Path) -> None:
    with Cluster(bootstrap, unique, tmp_path, 1, fine_tune={"enabled": False}) as cluster:
        worker = cluster.worker("one")
        cluster.wait_until_live()
        with TopicReader(cluster.connection, cluster.topics.dead_letters) as reader:
            with FastProducer(cluster.connection) as producer:
                producer.send(cluster.topics.input, 0, b"a", b"{", AT_MS)
                producer.flush()
            wait_for(reader, 1)
            [*_, done] = resend(cluster.settings, Chosen())
            assert done.sent == 1
            wait_for(reader, 2)  # the note, and the letter that came back
        found = letters(cluster.settings, Chosen(), 9)
        assert [letter.sent_before for letter in found.newest] == [None, f"{cluster.topics.dead_letters}/0/0"]
        assert found.resent == {(0, 0)}
        [*_, done] = resend(cluster.settings, Chosen(places=frozenset({(0, 0)})))
        assert (done.sent, done.before) == (0, 1)

        worker.kill()
        worker.start()
        cluster.wait_until_live()
        with FastProducer(cluster.connection) as producer:
            producer.send(cluster.topics.input, 0, None, event_bytes("a", AT_MS, 1.0))
            producer.flush()
        cluster.await_last()
        cluster.stop()
        assert "though records below" not in worker.log.read_text(), "a note proves no C"
        assert len(cluster.read(cluster.topics.input)) == 4


def wait_for(reader: TopicReader, records: int) -> None:
    """Until so many more can be read."""
    deadline = time.monotonic() + LIMIT_S
    while records > 0:
        records -= len(reader.poll(0.2))
        assert time.monotonic() < deadline, "they did not come"
