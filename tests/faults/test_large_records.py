"""Records that are small as they are packed, and unpacked larger than any topic takes: dead letters without them."""

import hashlib
from pathlib import Path

import pytest

from tests.rigs.cluster import Cluster
from worker.broker.security import open_producer
from worker.demo.auditor import Rules, audit

pytestmark = pytest.mark.kafka

LARGE = 3_000_000  # 3 kB on the wire
TRACE = ("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")


def test_records_too_large_for_a_dead_letter_stop_nobody(bootstrap: str, unique: str, tmp_path: Path) -> None:
    with Cluster(bootstrap, unique, tmp_path, 2, model={"hidden_size": 8}) as cluster:
        cluster.worker("one")
        cluster.wait_until_live()
        cluster.await_last()
        producer = open_producer(cluster.connection, compression_type="gzip", max_request_size=8 << 20)
        sent = [(b"key", b" " * LARGE, [TRACE]), (b"k" * LARGE, b"{", []), (None, b" " * LARGE, []), (None, b"{", [])]
        for key, value, headers in sent:
            producer.send(cluster.topics.input, value, key, headers, partition=0).get(30)
        producer.close()
        cluster.await_last()
        cluster.stop()
        assert "CommitError" not in cluster.logs()
        inputs, letters = cluster.read(cluster.topics.input), cluster.read(cluster.topics.dead_letters)
        names = [f"{cluster.topics.input}-0-{n}".encode() for n in range(1, 5)]
        assert [letter.key for letter in letters] == [b"key", *names[1:]]
        assert [letter.value for letter in letters] == [None, b"{", None, b"{"]
        assert letters[0].headers[0] == TRACE
        digest = hashlib.sha256(b" " * LARGE).hexdigest().encode()
        for letter in (letters[0], letters[2]):
            said = dict(letter.headers)
            assert (said["foldcast-error-bytes"], said["foldcast-error-sha256"]) == (b"%d" % LARGE, digest)
        assert dict(letters[1].headers)["foldcast-error-key-bytes"] == b"%d" % LARGE
        report = audit(
            [record for record in inputs if record.key != b"k" * LARGE],
            cluster.read(cluster.topics.output),
            [letter for letter in letters if "foldcast-error-key-bytes" not in dict(letter.headers)],
            Rules(),
            cluster.topics.input,
        )
        assert report.ok, "\n".join(report.lines())
