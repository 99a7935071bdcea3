"""`foldcast inspect` tells what the changelog holds, while a worker runs and after it."""

import json
import re
from pathlib import Path

import orjson
import pytest

from tests.rigs.cluster import Cluster, event_bytes
from worker.__main__ import main
from worker.broker import admin
from worker.broker.produce import FastProducer

pytestmark = pytest.mark.kafka

PARTITIONS, EVENTS = 2, 60
START_MS, HOUR_MS = 1_600_000_000_000, 3_600_000

OVERVIEW = """\
NAME-changelog, group NAME
partition  committed  input_end  image  records  bytes  newest_s     model  streams  state_bytes
        0         61         61     61        N      N         N  gru32-N        2       24,560
        1          1          1      1        N      N         N  gru32-N        1       12,280
"""


def normalised(text: str, unique: str) -> str:
    """The table without what differs from run to run: records, bytes, age, and the offset of the weights."""
    lines = [re.sub(r"gru32-\d+", "gru32-N", line.replace(unique, "NAME")).split() for line in text.splitlines()]
    rows = [[*row[:4], "N", "N", "N", *row[7:]] if row[0].isdigit() else row for row in lines]
    return "\n".join(" ".join(row) for row in rows) + "\n"


def test_inspect_tells_offsets_and_one_streams_state(
    bootstrap: str,
    unique: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Cluster(bootstrap, unique, tmp_path, PARTITIONS, fine_tune={"enabled": False}) as cluster:
        for pair in cluster.environment.items():
            monkeypatch.setenv(*pair)
        cluster.worker("one")
        cluster.wait_until_live()
        with FastProducer(cluster.connection) as producer:
            for i in range(EVENTS):
                body = event_bytes("a\tb", START_MS + HOUR_MS * i, 20.0 + i % 24)
                producer.send(cluster.topics.input, 0, None, body)
            producer.flush()
        cluster.await_last()
        members = admin.members(cluster.connection, unique)
        assert main(["inspect", "--json"]) == 0
        running = json.loads(capsys.readouterr().out)
        assert [one["committed"] for one in running["partitions"]] == [EVENTS + 1, 1]
        assert all(one["problems"] == [] and one["image"] <= one["committed"] for one in running["partitions"])
        assert admin.members(cluster.connection, unique) == members
        cluster.stop()
        ends = admin.bounds(cluster.connection, cluster.topics.changelog)

        assert main(["inspect"]) == 0
        out = capsys.readouterr().out
        assert normalised(out, unique) == normalised(OVERVIEW, unique)

        assert main(["inspect", "a\tb", "--json"]) == 0
        facts = json.loads(capsys.readouterr().out)
        assert (facts["partition"], facts["image"], facts["records_since"]) == (0, EVENTS + 1, 0)
        assert (facts["events"], facts["step_ms"], facts["season"]) == (EVENTS, HOUR_MS, "day")
        published = [orjson.loads(r.value or b"") for r in cluster.read(cluster.topics.output) if r.key == b"a\tb"]
        mean = [parts["mean"] for parts in facts["horizons"].values()]
        assert mean == pytest.approx(published[-1]["mean"], rel=1e-8)

        assert main(["inspect", "a\tb"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0] == f"a\\tb: partition 0, as of offset 61, 0 records before C; {published[-1]['model']}"
        assert lines[1] == "  60 events, the last 31 at 2020-09-15T23:26:40+00:00; step 3600 s"
        assert lines[2].startswith("  season day, 24 slots seen; mean ")

        assert main(["inspect", "nobody"]) == 1
        assert "has a stream 'nobody': it may have come after the last snapshot" in capsys.readouterr().err
        assert admin.bounds(cluster.connection, cluster.topics.changelog) == ends, "nothing was written"

        monkeypatch.setenv("FOLDCAST_MODEL__SEASON", "week")
        assert main(["inspect"]) == 1
        out = capsys.readouterr().out
        assert "NO  the changelog of partition 0 does not fit these settings: model.season was 'auto' and is" in out
