"""The status of each partition: how far a restore is, what a crash would cost, and who has the others."""

import json
import math
from importlib.resources import files
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.rigs.loop_rig import Rig, drained
from worker.http.status import Status

OPENAPI = json.loads(files("worker").joinpath("schemas", "openapi.json").read_text())
Json = dict[str, Any]


def page_of(rig: Rig, status: Status, name: str = "one") -> Json:
    """The page as a client has it, held to the document's schema."""
    status.update(rig.loops[name])
    page: Json = json.loads(json.dumps(status.page, allow_nan=False))
    Draft202012Validator({"$ref": "#/components/schemas/Status", **OPENAPI}).validate(page)
    return page


def test_a_live_partition_has_its_lag_its_image_and_its_tail(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = drained(60)
    monkeypatch.setattr("worker.lives.snapshot_clock.SnapshotClock.age_s", 12.34)
    status = Status(rig.loops["one"]._metrics, "one")
    partitions = page_of(rig, status)["partitions"]
    assert {p: one["replay_tail"] for p, one in partitions.items()} == {str(p): t for p, t in rig.tails().items()}
    assert {one["snapshot_age_s"] for one in partitions.values()} == {12.3}
    assert {one["restore"] for one in partitions.values()} == {None}
    assert [behind.replay_tail for behind in status.behind.values()] == [*rig.tails().values()]
    assert [behind.image_age_s for behind in status.behind.values()] == [12.34] * 2
    for live in rig.loops["one"].lives.values():
        live.shard.snapshot_offset = live.shard.position
    status.update(rig.loops["one"])
    assert all(math.isnan(behind.image_age_s) for behind in status.behind.values()), "it is as good as new"


def test_a_restore_goes_through_the_changelog_and_then_through_the_input() -> None:
    rig = Rig(partitions=1, snapshot_events=60, max_poll_records=5)
    rig.start()
    for _ in range(5):
        rig.produce(50)
        rig.drain()
    assert rig.tails()[0] > 10
    loop = rig.start()
    status = Status(loop._metrics, "one")
    seen: list[Json] = []
    for _ in range(200):
        rig.turn()
        if partitions := page_of(rig, status)["partitions"]:
            seen.append(partitions["0"])
        if loop.why_not_ready is None:
            break
    states = list(dict.fromkeys(one["state"] for one in seen))
    assert states == ["restoring", "catching up", "live"]
    for state, reads in (("restoring", "changelog"), ("catching up", "input")):
        progress = [one["restore"] for one in seen if one["state"] == state]
        assert {one["reads"] for one in progress} == {reads}
        done = [one["done"] for one in progress]
        assert done == sorted(done)
        assert done[-1] > done[0]
        assert {one["total"] for one in progress if one["done"]} == {progress[-1]["total"]}
        assert all(one["done"] <= one["total"] for one in progress if one["total"] is not None)
    assert seen[-1]["restore"] is None
    assert seen[-1]["replayed"] == progress[-1]["total"]


def test_a_restore_that_waits_says_for_what() -> None:
    rig = drained(20, partitions=1)
    rig.cluster.unanswered.add(0)
    loop = rig.start()
    for _ in range(5):
        rig.turn()
    one = page_of(rig, Status(loop._metrics, "one"))["partitions"]["0"]
    assert one["restore"]["total"] is None
    assert "no broker tells" in one["waits_for"]


def test_partitions_of_other_workers_are_elsewhere() -> None:
    rig = drained(20)
    loop = rig.loops["one"]
    status = Status(loop._metrics, "one")
    page = page_of(rig, status)
    assert (page["input_partitions"], page["elsewhere"], [*page["partitions"]]) == (2, [], ["0", "1"])
    rig.start("two")
    for _ in range(4):
        for name in ("one", "two"):
            rig.turn(name)
    page = page_of(rig, status)
    assert len(page["elsewhere"]) == 1
    assert {*map(int, page["partitions"]), *page["elsewhere"]} == {0, 1}
    assert {*status.behind} == {*map(int, page["partitions"])}
