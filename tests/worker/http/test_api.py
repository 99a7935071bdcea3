"""The read-only API: every answer is as the OpenAPI document has it, and says what was published."""

import json
from collections.abc import Iterator
from http.client import HTTPConnection
from importlib.resources import files
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from pipeline.batch import DROPS
from tests.rigs.clock import Clock
from tests.rigs.loop_rig import METHOD, Rig
from tests.rigs.memory_broker import OUTPUT
from worker.http.api import MOST_BUSY, MOST_KEPT, MOST_POINTS, MOST_STREAMS, Api
from worker.http.experts import ASKED_FOR_S, MOST, Experts
from worker.http.pages import Pages
from worker.http.server import Server
from worker.http.status import Status
from worker.observe.hour import COUNTS, EVERY_S, SAMPLES, Hour
from worker.observe.metrics import PHASES
from worker.observe.pulse import Pulse
from worker.observe.recent import Overview, RecentStreams

OPENAPI = json.loads(files("worker").joinpath("schemas", "openapi.json").read_text())
NAMES = ["quiet", "noisy", "a/b c", "%2F", "Grüße?x=1&y#z", "..", "x" * 200]
START_MS, STEP_MS = 1_600_000_000_000, 60_000
EVENTS, POINTS = 30, 20
Json = dict[str, Any]


def valid(name: str, answer: object) -> None:
    """Hold an answer to the document's schema."""
    Draft202012Validator({"$ref": f"#/components/schemas/{name}", **OPENAPI}).validate(answer)


class Site:
    """A rig's worker with a past, behind a port."""

    def __init__(self, clock: Clock, streams: int = 100, learning: bool = False) -> None:
        self.rig = Rig(partitions=1, max_poll_records=50, learning=learning)
        self.loop = self.rig.start()
        metrics = self.loop._metrics
        metrics.recent_streams = RecentStreams(METHOD, streams, POINTS)
        self.clock = clock
        self.hour, self.experts = Hour(metrics), Experts()
        self.status = Status(metrics, "one")
        self.api = Api(metrics, self.hour, self.experts, lambda: self.status.page)
        pages = Pages(metrics.registry, lambda: self.status.page, Pulse(), 30, self.api)
        self.server = Server("127.0.0.1", 0, pages)
        self.random = np.random.default_rng(0)

    def send(self, name: str, n: int, value: float | None = None) -> None:
        """An event of a stream, its n-th."""
        noise = float(self.random.normal()) * (50 if name == "noisy" else 0.01)
        event = {"stream": name, "time": START_MS + n * STEP_MS, "value": n % 4 + noise if value is None else value}
        self.rig.cluster.produce(0, name.encode(), json.dumps(event).encode(), START_MS + n * STEP_MS)

    def feed(self) -> None:
        for n in range(EVENTS):
            for name in NAMES:
                self.send(name, n)
        self.rig.drain()

    def get(self, path: str) -> tuple[int, Json]:
        """The status and the JSON of an answer made anew."""
        self.clock.now += 1.0
        connection = HTTPConnection("127.0.0.1", self.server.port, timeout=10)
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        assert answer.headers["Content-Type"] == "application/json", body
        return answer.status, json.loads(body, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))

    def ok(self, path: str, schema: str) -> Json:
        status, page = self.get(path)
        assert status == 200, page
        valid(schema, page)
        return page

    def refused(self, path: str, status: int) -> str:
        code, page = self.get(path)
        assert code == status
        valid("Error", page)
        return str(page["error"])

    def names(self, query: str = "") -> list[str]:
        return [stream["stream"] for stream in self.ok(f"/api/streams{query}", "Streams")["streams"]]

    def published(self, name: str) -> list[Json]:
        """All forecasts of a stream, as they left."""
        messages = self.rig.cluster.committed_messages(OUTPUT)
        return [json.loads(m.value or b"") for m in messages if m.key == name.encode()]

    def copies(self, monkeypatch: pytest.MonkeyPatch, each_s: float = 0.0) -> list[Overview]:
        """The copies of all streams that are made from now on; each takes `each_s`, and as much CPU."""
        made, recent = list[Overview](), self.loop._metrics.recent_streams
        copied = recent.overview

        def noted() -> Overview:
            self.clock.now += each_s
            made.append(copied())
            return made[-1]

        monkeypatch.setattr(recent, "overview", noted)
        monkeypatch.setattr("time.thread_time", self.clock)
        return made


@pytest.fixture
def site(clock: Clock) -> Iterator[Site]:
    site = Site(clock)
    yield site
    site.server.close()


@pytest.fixture
def fed(site: Site) -> Site:
    site.feed()
    return site


# ---- all streams


def test_streams_are_listed_with_skill_coverage_and_their_last_forecast(fed: Site) -> None:
    page = fed.ok("/api/streams", "Streams")
    assert {stream["stream"] for stream in page["streams"]} == {*NAMES}
    assert (page["found"], page["remembered"], page["horizons"]) == (len(NAMES), len(NAMES), [1, 3])
    assert page["holds"] == {"partitions": [], "of": None}, "the loop has no page yet"
    fed.status.update(fed.loop)
    assert fed.ok("/api/streams", "Streams")["holds"] == {"partitions": [0], "of": 1}
    for stream in page["streams"]:
        last = fed.published(stream["stream"])[-1]
        assert stream["events"] == EVENTS
        assert (stream["time"], stream["value"]) == (last["time"], last["value"])
        assert (stream["forecast"]["times"], stream["forecast"]["mean"]) == (last["times"], last["mean"])
        low, high = (last["quantiles"][str(q)] for q in page["quantiles"])
        assert (stream["forecast"]["low"], stream["forecast"]["high"]) == (low, high)
        assert all(0 <= share <= 1 for shares in stream["coverage"].values() for share in shares)
    assert all(stream["skill"] is not None for stream in page["streams"])


def test_they_are_sorted_as_asked_and_what_is_unknown_comes_last(fed: Site) -> None:
    fed.send("new", EVENTS + 5)
    fed.rig.drain()
    by_skill = [s["skill"] for s in fed.ok("/api/streams?sort=worst", "Streams")["streams"]]
    assert by_skill[-1] is None
    assert by_skill[:-1] == sorted(by_skill[:-1])
    best = [s["skill"] for s in fed.ok("/api/streams?sort=best", "Streams")["streams"]]
    assert best[-1] is None
    assert best[:-1] == sorted(best[:-1], reverse=True)
    assert fed.names() == fed.names("?sort=worst")
    assert fed.names("?sort=newest")[0] == "new"
    for n in range(EVENTS, EVENTS + 6):
        fed.send("quiet", n, value=1000.0 * (-1) ** n)
    fed.rig.drain()
    page = fed.ok("/api/streams?sort=outside", "Streams")["streams"]
    outside = [s["outside"] for s in page]
    assert outside == sorted(outside, reverse=True)
    assert page[0]["stream"] == "quiet"


def test_search_and_limit_leave_some_out(fed: Site) -> None:
    assert fed.names("?search=gr%C3%BC%C3%9Fe") == ["Grüße?x=1&y#z"]
    assert fed.names("?search=GR%C3%9C") == ["Grüße?x=1&y#z"]
    assert fed.names("?search=%252f") == ["%2F"]
    assert fed.names("?search=b+c") == ["a/b c"]
    assert fed.names("?search=nowhere") == []
    page = fed.ok("/api/streams?limit=2&sort=best", "Streams")
    assert (len(page["streams"]), page["found"]) == (2, len(NAMES))


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/api/streams?sort=name", "sort is one of worst, best, newest, outside"),
        ("/api/streams?limit=0", f"limit is a whole number from 1 to {MOST_STREAMS}"),
        (f"/api/streams?limit={MOST_STREAMS + 1}", "limit is"),
        ("/api/streams?limit=-1", "limit is"),
        ("/api/streams?limit=%C2%B2", "limit is"),
        ("/api/streams?limit=", "limit is"),
        (f"/api/streams?limit={'9' * 5000}", "limit is"),
        ("/api/streams?limits=3", "there are sort, search, limit, each once"),
        ("/api/streams?limit=3&limit=4", "each once"),
        ("/api/streams?search=%FF", "UTF-8"),
        ("/api/streams?" + "a=1&" * 20, "at most 10"),
        ("/api/streams/quiet?points=1.5", f"points is a whole number from 1 to {MOST_POINTS}"),
        ("/api/streams/quiet?horizon=2", "horizon is one of 1, 3"),
        ("/api/streams/%FF", "the name is no UTF-8"),
        ("/api/history?since=1", "there are none"),
    ],
)
def test_parameters_that_cannot_be_are_refused_with_a_sentence(fed: Site, path: str, words: str) -> None:
    assert words in fed.refused(path, 400)


# ---- one stream


@pytest.mark.parametrize("name", NAMES)
def test_a_stream_of_any_name_is_found_by_its_percent_encoded_name(fed: Site, name: str) -> None:
    page = fed.ok("/api/streams/" + quote(name, safe=""), "Stream")
    assert page["stream"] == name
    published = fed.published(name)[-POINTS:]
    assert page["times"] == [p["time"] for p in published]
    assert page["values"] == [p["value"] for p in published]
    assert page["outside"] == [p["expected"] and p["expected"]["outside"] for p in published]
    last = page["forecast"]
    assert {field: published[-1][field] for field in last if field != "offset"} == {
        field: value for field, value in last.items() if field != "offset"
    }


def test_a_slash_need_not_be_encoded(fed: Site) -> None:
    assert fed.ok("/api/streams/a/b%20c", "Stream")["stream"] == "a/b c"


@pytest.mark.parametrize("path", ["/api/streams/nobody", "/api/streams/", "/api/streams/quiet/"])
def test_an_unknown_stream_is_not_found_and_why(fed: Site, path: str) -> None:
    assert "remembers no stream of that name" in fed.refused(path, 404)


def test_earlier_forecasts_stand_where_their_values_came(fed: Site) -> None:
    page = fed.ok("/api/streams/noisy", "Stream")
    published = fed.published("noisy")
    for j, h in enumerate(METHOD.horizons):
        curves = page["earlier"][str(h)]
        for i in range(h, POINTS):
            then = published[EVENTS - POINTS + i - h]
            assert then["times"] is None or then["times"][j] == page["times"][i]
            assert curves["mean"][i] == pytest.approx(then["mean"][j], rel=1e-6)
            assert curves["low"][i] == pytest.approx(then["quantiles"]["0.025"][j], rel=1e-5)
            assert curves["high"][i] == pytest.approx(then["quantiles"]["0.975"][j], rel=1e-5)
            for level in ("0.1", "0.5", "0.9"):
                assert curves["inner"][level][i] == pytest.approx(then["quantiles"][level][j], rel=1e-5, abs=1e-5)
        assert [*curves["inner"]] == ["0.1", "0.5", "0.9"]
        assert curves["mean"][:h] == [None] * h


def test_fewer_points_are_the_last_ones(fed: Site) -> None:
    page, whole = (fed.ok(f"/api/streams/noisy{query}", "Stream") for query in ("?points=5", ""))
    for field in ("times", "values", "outside"):
        assert page[field] == whole[field][-5:]
    assert page["earlier"]["3"]["mean"] == whole["earlier"]["3"]["mean"][-5:]
    assert page["earlier"]["3"]["inner"]["0.9"] == whole["earlier"]["3"]["inner"]["0.9"][-5:]
    assert None not in page["earlier"]["3"]["mean"]


def test_of_one_horizon_are_the_earlier_forecasts_that_all_would_be(fed: Site) -> None:
    page, whole = (fed.ok(f"/api/streams/noisy{query}", "Stream") for query in ("?horizon=3", ""))
    assert page["earlier"] == {"3": whole["earlier"]["3"]}
    assert {**page, "earlier": None, "experts": None} == {**whole, "earlier": None, "experts": None}


def test_gaps_and_drops_are_told(fed: Site) -> None:
    end = START_MS + (EVENTS - 1) * STEP_MS
    fed.send("quiet", EVENTS + 10, value=8.5)
    fed.send("quiet", EVENTS - 3, value=7.5)  # late
    fed.send("quiet", EVENTS + 10, value=8.5)  # a duplicate
    fed.rig.cluster.produce(0, b"quiet", b'{"time":%d,"value":null}' % (end + 20 * STEP_MS), end + 20 * STEP_MS)
    fed.rig.drain()
    page = fed.ok("/api/streams/quiet", "Stream")
    assert page["gaps"] == [{"from": end, "to": end + 11 * STEP_MS, "why": "silent"}]
    assert page["drops"] == {"late": 1, "duplicate": 1, "missing": 1}
    assert page["last_drops"] == [
        {"time": end - 2 * STEP_MS, "reason": "late", "value": 7.5},
        {"time": end + 11 * STEP_MS, "reason": "duplicate", "value": 8.5},
        {"time": end + 20 * STEP_MS, "reason": "missing", "value": None},
    ]
    assert {*page["drops"]} <= {*DROPS}


def test_no_forecast_is_drawn_over_events_that_are_not_remembered(fed: Site) -> None:
    fed.send("quiet", EVENTS)
    fed.send("quiet", EVENTS + 1)
    fed.rig.brokers["one"].fail_commit = "unknown, committed"
    fed.rig.turn()
    for _ in range(20):
        fed.rig.turn()
    for n in range(EVENTS + 2, EVENTS + 5):
        fed.send("quiet", n)
    fed.rig.drain()
    page = fed.ok("/api/streams/quiet", "Stream")
    missed = [START_MS + n * STEP_MS for n in (EVENTS - 1, EVENTS + 2)]
    assert page["gaps"] == [{"from": missed[0], "to": missed[1], "why": "not remembered"}]
    assert page["earlier"]["1"]["mean"][-3] is None
    assert page["earlier"]["1"]["mean"][-2] is not None
    assert page["earlier"]["3"]["mean"][-3:] == [None] * 3


def test_experts_are_there_once_the_loop_has_looked_and_while_somebody_asks(fed: Site) -> None:
    assert fed.ok("/api/streams/quiet", "Stream")["experts"] is None
    fed.experts.after_cycle(fed.loop)
    page = fed.ok("/api/streams/quiet", "Stream")
    for horizon, mean in zip(("1", "3"), page["forecast"]["mean"], strict=True):
        said = page["experts"][horizon].values()
        assert sum(one["weight"] for one in said) == pytest.approx(1, abs=1e-3)
        assert min(s["forecast"] for s in said) - 1 < mean < max(s["forecast"] for s in said) + 1
    fed.send("quiet", EVENTS, value=77.0)
    fed.rig.drain()
    fed.experts.after_cycle(fed.loop)
    assert fed.ok("/api/streams/quiet", "Stream")["experts"]["1"]["last_value"]["forecast"] == 77.0
    fed.clock.now += ASKED_FOR_S
    fed.experts.after_cycle(fed.loop)
    assert fed.experts.ask(0, "quiet") is None, "nobody looks"


def test_experts_are_looked_up_about_once_a_second_whoever_asked_before(fed: Site) -> None:
    fed.experts.ask(0, "quiet")
    fed.clock.now += ASKED_FOR_S
    fed.experts.ask(0, "noisy")
    fed.experts.after_cycle(fed.loop)
    said = fed.experts.ask(0, "noisy")
    assert said is not None
    fed.experts.after_cycle(fed.loop)
    assert fed.experts.ask(0, "noisy") is said
    fed.clock.now += 1.0
    fed.experts.after_cycle(fed.loop)
    assert fed.experts.ask(0, "noisy") is not said


def test_experts_look_at_so_many_streams_and_no_more() -> None:
    experts = Experts()
    for n in range(3 * MOST):
        experts.ask(0, f"s{n}")
    assert len(experts._asked) == MOST


# ---- the last hour


def test_the_last_hour_has_a_sample_every_ten_seconds(fed: Site) -> None:
    assert fed.ok("/api/history", "History")["times"] == []
    fed.hour.after_cycle(fed.status.behind)
    before = fed.rig.sample("forecasts_total")
    fed.clock.now += EVERY_S
    fed.hour.after_cycle(fed.status.behind)
    fed.send("quiet", EVENTS)
    fed.rig.drain()
    fed.clock.now += EVERY_S
    fed.hour.after_cycle(fed.status.behind)
    page = fed.ok("/api/history", "History")
    assert page["seconds"] == [EVERY_S + 1, EVERY_S], "a request takes a second here"
    assert page["forecasts"] == [before, 1]
    assert {*page["phases"]} == {*PHASES}
    assert page["latency_s"]["p99"][1] is not None
    assert page["skill"]["1"][0] is not None
    assert all(len(page[name]) == 2 for name in COUNTS)
    for _ in range(SAMPLES + 5):
        fed.clock.now += EVERY_S
        fed.hour.after_cycle(fed.status.behind)
    assert len(fed.ok("/api/history", "History")["times"]) == SAMPLES


def test_a_sample_has_the_lag_the_tail_and_the_age_of_images(fed: Site) -> None:
    fed.send("quiet", EVENTS)
    fed.rig.drain()
    fed.send("quiet", EVENTS + 1)
    fed.status.update(fed.loop)
    [live] = fed.loop.lives.values()
    age_s = live.clock.age_s
    fed.clock.now += EVERY_S
    fed.hour.after_cycle(fed.status.behind)
    page = fed.ok("/api/history", "History")
    assert (page["lag"]["records"], page["lag"]["worst_records"]) == ([1], [1])
    assert page["lag"]["worst_s"][0] > 1e6, "its last record is of 2020"
    assert page["replay_tail"] == [live.shard.replay_tail]
    assert live.shard.replay_tail > 0
    assert page["snapshot_age_s"] == {"newest": [age_s], "oldest": [age_s]}


def test_adoptions_are_marked_and_failures_told(clock: Clock) -> None:
    fed = Site(clock, learning=True)
    fed.feed()
    page = fed.ok("/api/history", "History")
    adopted = fed.rig.sample("fine_tunes_total", outcome="adopted")
    assert adopted == len(page["marks"]) > 0
    assert {(mark["partition"], mark["kind"]) for mark in page["marks"]} == {(0, "adopted")}
    assert page["errors"] == []
    fed.rig.brokers["one"].fail_commit = "refused"
    fed.send("quiet", EVENTS)
    fed.rig.turn()
    page = fed.ok("/api/history", "History")
    assert adopted == len(page["marks"]), "what is not committed has not come into service"
    [error] = page["errors"]
    assert (error["error"], error["number"], error["partition"]) == ("refused as told", 1, None)
    assert "see that the broker answers" in error["fix"]
    fed.server.close()


# ---- all of it


def test_without_places_streams_are_no_page_and_the_setting_is_named(clock: Clock) -> None:
    site = Site(clock, streams=0)
    site.send("quiet", 0)
    site.rig.drain()
    for path in ("/api/streams", "/api/streams/quiet"):
        assert "history.streams is 0" in site.refused(path, 404)
    site.server.close()


def test_before_the_first_event_there_is_an_empty_answer(site: Site) -> None:
    assert site.ok("/api/streams?sort=outside", "Streams")["streams"] == []


def test_the_largest_values_that_are_events_are_told(site: Site) -> None:
    for n in range(4):
        site.send("huge", n, value=1e36 * (-1) ** n)
    site.rig.drain()
    page = site.ok("/api/streams/huge", "Stream")
    assert page["values"] == [1e36, -1e36] * 2
    assert site.names() == ["huge"]


def test_an_answer_is_kept_for_a_second_and_not_for_ever(fed: Site) -> None:
    first = fed.api.answer("/api/streams?limit=1&sort=newest")
    fed.send("new", EVENTS)
    fed.rig.drain()
    assert fed.api.answer("/api/streams?limit=1&sort=newest") is first
    fed.clock.now += 1.0
    assert fed.api.answer("/api/streams?limit=1&sort=newest") != first
    for n in range(3 * MOST_KEPT):
        fed.api.answer(f"/api/streams?search={n}")
    assert len(fed.api._kept) <= MOST_KEPT


def test_other_paths_are_nobodys(fed: Site) -> None:
    assert fed.api.answer("/api/stream") is None
    assert "/api/history" in fed.refused("/api/stream", 404)


def test_the_document_names_all_paths_and_its_parameters() -> None:
    assert {path for path in OPENAPI["paths"] if path.startswith("/api/")} == {
        "/api/status", "/api/streams", "/api/streams/{name}", "/api/history",
    }  # fmt: skip
    for schema in OPENAPI["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    limit = {p["name"]: p["schema"] for p in OPENAPI["paths"]["/api/streams"]["get"]["parameters"]}["limit"]
    points = {p["name"]: p["schema"] for p in OPENAPI["paths"]["/api/streams/{name}"]["get"]["parameters"]}["points"]
    assert (limit["maximum"], points["maximum"]) == (MOST_STREAMS, MOST_POINTS)


def test_many_different_questions_leave_time_for_probes(fed: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    made = fed.copies(monkeypatch, each_s=1.0)
    assert fed.get("/api/streams?limit=1")[0] == 200
    assert "ask again" in fed.refused("/api/streams?limit=2", 503)
    assert fed.get("/api/status")[0] == 200
    assert len(made) == 1
    fed.clock.now += 1 / MOST_BUSY
    assert fed.get("/api/streams?limit=2")[0] == 200


def test_a_wait_for_the_machine_is_not_a_clients_fault(fed: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    fed.copies(monkeypatch, each_s=5.0)
    monkeypatch.setattr("time.thread_time", Clock())
    for limit in range(1, 5):
        assert fed.get(f"/api/streams?limit={limit}")[0] == 200


def test_questions_of_one_second_share_a_copy_of_all_streams(fed: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    made = fed.copies(monkeypatch)
    for limit in range(1, 5):
        answer = fed.api.answer(f"/api/streams?limit={limit}")
        assert answer is not None
        assert answer.status == 200
    assert len(made) == 1


def test_all_streams_are_copied_some_at_a_time(fed: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    recent = fed.loop._metrics.recent_streams
    whole = recent.overview()
    monkeypatch.setattr("worker.observe.recent.AT_ONCE", 3)
    parts = recent.overview()
    assert parts.names == whole.names
    np.testing.assert_array_equal(parts.sums, whole.sums)
    np.testing.assert_array_equal(parts.figures, whole.figures)
