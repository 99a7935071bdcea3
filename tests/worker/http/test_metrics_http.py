"""What a worker tells of itself: the catalogue of metrics, the numbers behind it, the pages over HTTP."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipeline.batch import DROPS
from pipeline.events import REASONS
from pipeline.forecasts import LARGEST, Forecasts
from tests.rigs.loop_rig import METHOD, Rig, drained
from tests.rigs.memory_broker import INPUT
from tests.rigs.memory_log import Transaction
from worker.broker.contract import Message
from worker.http.pages import Pages
from worker.http.server import Server
from worker.http.status import Status
from worker.observe.metrics import LATENCY_S, PHASES, RECENT, Latency, Metrics, Recent, Stopwatch, rounded
from worker.observe.pulse import Pulse
from worker.observe.reference import reference
from worker.refusal import Refusal

ROOT = Path(__file__).resolve().parents[3]
PROMISED = {
    "events_total": set(),
    "forecasts_total": set(),
    "events_dropped_total": {"reason"},
    "dead_letters_total": {"reason"},
    "loop_seconds_total": {"phase"},
    "event_latency_seconds_bucket": {"le"},
    "consumer_lag_records": {"partition"},
    "consumer_lag_seconds": {"partition"},
    "commits_total": {"outcome"},
    "shards": set(),
    "streams": set(),
    "state_bytes": set(),
    "restore_seconds": set(),
    "restore_pending_records": set(),
    "snapshot_bytes_total": set(),
    "snapshot_age_seconds": set(),
    "replay_tail_records": set(),
    "forecast_skill_ratio": {"horizon"},
    "forecast_error": {"horizon"},
    "interval_coverage_ratio": {"level", "horizon"},
    "interval_nominal_ratio": {"level"},
    "values_outside_total": {"level"},
    "build_info": {"version"},
    "model_info": {"cell", "hidden_size", "layers"},
}


def forecasts(n: int, seed: int = 0, record_ms: float = 0.0) -> Forecasts:
    """So many with random errors, a third of them without a label."""
    rng, blank = np.random.default_rng(seed), Forecasts.blank(n, METHOD)
    error, naive = rng.normal(size=blank.error.shape), rng.normal(size=blank.error.shape) * 2
    missing = rng.random(blank.error.shape) < 1 / 3
    error[missing] = naive[missing] = np.nan
    blank.error[:], blank.naive[:], blank.network_error[:] = error, naive, np.nan
    blank.inside[:] = rng.random(blank.inside.shape) < 0.8
    blank.record_ms[:] = record_ms
    return blank._replace(name=["s"] * n)


# ---- the catalogue


def test_the_names_that_were_promised_are_there_with_their_labels() -> None:
    rig = drained(80)
    Status(rig.loops["one"]._metrics, "one").update(rig.loops["one"])
    found: dict[str, set[str]] = {}
    for family in rig.loops["one"]._metrics.registry.collect():
        for sample in family.samples:
            found.setdefault(sample.name.removeprefix("foldcast_"), set()).update(sample.labels)
    assert {name: found.get(name) for name in PROMISED} == PROMISED
    assert not any("stream" in labels for labels in found.values()), "never a series per stream"


def test_every_metric_has_the_prefix_and_says_what_it_is() -> None:
    for family in Metrics(METHOD, "1").registry.collect():
        assert family.name.startswith("foldcast_")
        assert len(family.documentation) > 5


def test_the_page_of_metrics_is_the_reference() -> None:
    make = "PYTHONPATH=. python -c 'from worker.observe.reference import reference; print(reference(), end=str())'"
    assert (ROOT / "docs" / "metrics.md").read_text() == reference(), f"{make} > docs/metrics.md"


def test_the_reference_names_all_labels() -> None:
    metrics = drained(60).loops["one"]._metrics
    for family in metrics.registry.collect():
        for sample in family.samples:
            assert {*sample.labels} - {"le"} == {*metrics.labels_of.get(family.name, ())}, family.name


def test_series_are_there_from_the_start_so_that_a_rate_misses_no_first_step() -> None:
    registry = Metrics(METHOD, "1").registry
    expected = {"phase": PHASES, "reason": REASONS, "outcome": ("committed", "refused", "unknown")}
    for name, label in (("loop_seconds", "phase"), ("dead_letters", "reason"), ("commits", "outcome")):
        for value in expected[label]:
            assert registry.get_sample_value(f"foldcast_{name}_total", {label: value}) == 0


# ---- numbers


def test_phases_sum_to_wall_time() -> None:
    rig = Rig(partitions=1, max_poll_records=50)
    began = time.perf_counter()
    rig.start()
    rig.produce(400)
    for _ in range(40):
        rig.turn()
    spent = time.perf_counter() - began
    phases = {phase: rig.sample("loop_seconds_total", phase=phase) for phase in PHASES}
    assert sum(phases.values()) <= spent
    assert sum(phases.values()) > 0.9 * spent, "what is between start and the first cycle is the first poll's"
    assert all(phases[phase] > 0 for phase in ("poll", "restore", "decode", "advance", "publish", "commit", "snapshot"))


def test_a_lap_counts_the_time_since_the_one_before() -> None:
    metrics = Metrics(METHOD, "1")
    watch = Stopwatch(metrics.loop_seconds)
    time.sleep(0.02)
    first = watch.lap("decode")
    second = watch.lap("advance")
    assert first >= 0.02 > second
    assert metrics.registry.get_sample_value("foldcast_loop_seconds_total", {"phase": "decode"}) == first


def test_latency_counts_every_observation_in_its_bucket() -> None:
    latency, rng = Latency(), np.random.default_rng(0)
    seconds = np.concatenate([rng.lognormal(-3, 2, 1000), LATENCY_S, [0.0, 1e6]])
    for part in np.array_split(seconds, 7):
        latency.observe(part)
    [family] = latency.collect()
    samples = {s.labels.get("le"): s.value for s in family.samples if s.name.endswith("_bucket")}
    assert samples == {**{repr(le): float((seconds <= le).sum()) for le in LATENCY_S}, "+Inf": float(len(seconds))}
    sums = {s.name.rpartition("_")[2]: s.value for s in family.samples}
    assert sums["count"] == len(seconds)
    assert sums["sum"] == pytest.approx(seconds.sum())


def test_a_latency_quantile_is_the_bound_of_its_bucket() -> None:
    latency = Latency()
    assert latency.quantile(0.5) is None
    latency.observe(np.array([0.004] * 90 + [0.2] * 10))
    assert latency.quantile(0.5) == 0.005
    assert latency.quantile(0.9) == 0.005
    assert latency.quantile(0.99) == 0.25


def test_latency_is_from_the_records_timestamp_to_now_and_never_negative() -> None:
    metrics = Metrics(METHOD, "1")
    metrics.forecasted(forecasts(4, record_ms=1000), now_s=3.0)
    metrics.forecasted(forecasts(4, record_ms=9000), now_s=3.0)  # a producer's clock is ahead
    assert metrics.registry.get_sample_value("foldcast_event_latency_seconds_sum") == 8.0
    assert metrics.registry.get_sample_value("foldcast_event_latency_seconds_count") == 8
    assert metrics.registry.get_sample_value("foldcast_forecasts_total") == 8


def test_skill_error_and_coverage_are_those_of_all_labels_while_nothing_fades() -> None:
    recent, parts = Recent(METHOD), [forecasts(n, seed=n) for n in (1, 7, 30, 2)]
    for part in parts:
        recent.add(part)
    error, naive = (np.concatenate([getattr(p, name) for p in parts]) for name in ("error", "naive"))
    inside = np.concatenate([p.inside for p in parts])
    labels = (~np.isnan(error)).sum(0)
    faded = labels.max() * 2 / RECENT
    np.testing.assert_allclose(recent.skill, 1 - np.nansum(error**2, 0) / np.nansum(naive**2, 0), atol=faded)
    np.testing.assert_allclose(recent.error, np.nanmean(abs(error), 0), rtol=faded)
    hits = np.where(np.isnan(error)[:, :, None], 0, inside).sum(0)
    np.testing.assert_allclose(recent.coverage, hits / labels[:, None], rtol=faded)


def test_old_labels_fade_and_one_spike_does_not_own_the_figures() -> None:
    recent = Recent(METHOD)
    bad = forecasts(1000)
    bad.error[:], bad.naive[:] = 1e30, 1.0
    recent.add(bad)
    np.testing.assert_allclose(recent.skill, 1 - LARGEST**2)
    good = forecasts(RECENT)
    good.error[:], good.naive[:] = 0.0, 1.0
    for _ in range(8):
        recent.add(good)
    assert (recent.skill > 0.99).all()


def test_nothing_is_known_of_skill_before_a_label_came() -> None:
    recent = Recent(METHOD)
    assert np.isnan(recent.skill).all()
    assert rounded(recent.skill) == [None, None]
    assert rounded([0.123456, 1.0]) == [0.1235, 1.0]


def test_the_overall_skill_weighs_horizons_by_their_labels() -> None:
    recent, early = Recent(METHOD), forecasts(30)
    assert np.isnan(recent.overall_skill)
    early.error[:, 1] = early.naive[:, 1] = np.nan
    early.error[10:, 0] = early.naive[10:, 0] = np.nan
    early.error[:10, 0], early.naive[:10, 0] = 1.0, 2.0
    recent.add(early)
    assert recent.overall_skill == pytest.approx(0.75), "of what has labels"
    late = forecasts(30)
    late.error[:, 0] = late.naive[:, 0] = np.nan
    late.error[:, 1] = late.naive[:, 1] = 1.0
    recent.add(late)
    assert recent.overall_skill == pytest.approx(0.75 * 10 / 40, rel=1e-2)


def test_latency_on_the_page_is_of_the_last_minute_and_totals_hold_what_happened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rig, now = Rig(partitions=1, streams=1), [0.0]
    loop = rig.start()
    monkeypatch.setattr("worker.http.status.time.monotonic", lambda: now[0])
    status, latency = Status(loop._metrics, "one"), loop._metrics.latency

    def p99_after(seconds: float, latency_s: float | None) -> object:
        now[0] += seconds
        if latency_s is not None:
            latency.observe(np.array([latency_s]))
        status.update(loop)
        return status.page["latency_s"]["p99"]  # type: ignore[index]

    assert p99_after(1, 5.0) == 5.0
    assert p99_after(30, 0.01) == 5.0, "of the last minute"
    assert p99_after(40, 0.01) == 0.01
    assert p99_after(20, None) == 0.01
    assert p99_after(60, None) is None
    rig.cluster.produce(0, b"s", b"{")
    rig.drain()
    status.update(loop)
    totals = status.totals()
    assert (totals["events"], totals["dead_letters"], totals["dropped"]) == (1, {"undecodable": 1}, {})
    assert list(totals) == [
        "events",
        "forecasts",
        "latency_s",
        "dropped",
        "dead_letters",
        "fine_tunes",
        "skill",
        "labels",
    ]


def test_no_counter_brings_a_series_of_when_it_was_made() -> None:
    names = {sample.name for family in Metrics(METHOD, "1").registry.collect() for sample in family.samples}
    assert [name for name in names if name.endswith("_created")] == []


def test_values_outside_are_counted_by_level_where_there_is_a_label() -> None:
    metrics, said = Metrics(METHOD, "1"), forecasts(200)
    metrics.forecasted(said, 0.0)
    for k, level in enumerate(METHOD.band_levels):
        outside = (~np.isnan(said.error) & ~said.inside[:, :, k]).sum()
        assert metrics.registry.get_sample_value("foldcast_values_outside_total", {"level": str(level)}) == outside


def test_events_are_counted_as_what_became_of_them() -> None:
    rig = Rig(partitions=1, streams=1)
    rig.start()
    for body in (b'"time":60,"value":1', b'"time":60,"value":1', b'"time":30,"value":2', b'"time":90,"value":null'):
        rig.cluster.produce(0, b"other", b'{"stream":"s",%s}' % body, 90_000)
    rig.cluster.produce(0, b"s", b"{")
    rig.drain()
    assert rig.sample("events_total") == 5
    assert rig.sample("forecasts_total") == 1
    assert {r: rig.sample("events_dropped_total", reason=r) for r in ("late", "duplicate", "missing")} == {
        "late": 1,
        "duplicate": 1,
        "missing": 1,
    }
    assert rig.sample("dead_letters_total", reason="undecodable") == 1
    assert rig.sample("key_mismatches_total") == 4


# ---- status


def test_gauges_say_what_is_held() -> None:
    rig = drained(60)
    loop, status = rig.loops["one"], Status(rig.loops["one"]._metrics, "one")
    rig.cluster.produce(0, None, b"{", 1000)
    status.update(loop)
    shards = [live.shard for live in loop.lives.values()]
    assert rig.sample("shards") == 2
    assert rig.sample("streams") == sum(len(shard.table.index) for shard in shards)
    assert rig.sample("state_bytes") == sum(shard.table.rows.nbytes for shard in shards)
    assert rig.sample("restore_pending_records") == 0
    assert rig.sample("replay_tail_records") == max(rig.tails().values())
    assert rig.sample("consumer_lag_records", partition="0") == 1
    assert rig.sample("consumer_lag_seconds", partition="0") > 1e6, "its last record is of 1970"
    assert rig.sample("consumer_lag_seconds", partition="1") == 0
    assert rig.sample("restore_seconds") > 0
    assert (rig.sample("input_partitions"), rig.sample("shards_restoring"), rig.sample("failures_total")) == (2, 0, 0)


def test_what_restores_is_said_and_a_failure_hides_no_lag() -> None:
    rig = drained(60)
    loop, status = rig.loops["one"], Status(rig.loops["one"]._metrics, "one")
    rig.cluster.produce(0, None, b"{", 1000)
    rig.brokers["one"].fail_poll = True
    rig.turn()
    status.update(loop)
    assert rig.sample("failures_total") == 1
    assert (rig.sample("input_partitions"), rig.sample("shards_restoring"), rig.sample("shards")) == (2, 2, 0)
    assert rig.sample("commits_total", outcome="refused") == 0
    behind = {live.partition: live.last_record_ms for live in [*loop.lives.values(), *loop.restoring.values()]}
    assert min(behind.values()) > 0, "as old as before"
    pages = status.page["partitions"]
    assert isinstance(pages, dict)
    assert {page["lag"] for page in pages.values()} == {None}, "nobody has asked since"
    rig.drain()
    status.update(loop)
    assert (rig.sample("shards_restoring"), rig.sample("shards")) == (0, 2)


def test_while_no_broker_answers_a_worker_gets_further_behind_and_says_so_once_in_a_while(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    rig, now = drained(60), [1e6]
    loop, status, broker = rig.loops["one"], Status(rig.loops["one"]._metrics, "one"), rig.brokers["one"]
    monkeypatch.setattr("time.time", lambda: now[0])
    monkeypatch.setattr("worker.http.status.time.monotonic", lambda: now[0])
    status.update(loop)

    def after(seconds: int) -> tuple[object, ...]:
        now[0] += seconds
        status.update(loop)
        units = ("records", "seconds")
        return tuple(
            loop._metrics.registry.get_sample_value(f"foldcast_consumer_lag_{unit}", {"partition": "0"})
            for unit in units
        )

    assert after(1) == (0, 0)
    broker.silent = True
    assert [after(seconds) for seconds in (9, 10, 10)] == [(None, 9), (None, 19), (None, 29)]
    page = status.page["partitions"]["0"]  # type: ignore[index]
    assert (page["lag"], page["behind_s"]) == (None, 29)
    assert status.page["reason"] == "no answer from memory:1 for 9 s"
    assert after(10) == (None, 39)
    lines = [record.message for record in caplog.records if "answer" in record.message]
    assert lines == ["no answer from memory:1 for 9 s; see that they run and can be reached"] * 2
    broker.fail_poll = True  # and now the client notices: both are restored
    with monkeypatch.context() as no_pause:
        no_pause.setattr(loop._failures, "pause_after", lambda _: 0.0)
        rig.turn()
    assert {*loop.restoring} == {0, 1}
    assert after(10) == (None, 49), "it is as far behind as it was, and further"
    broker.silent = False
    while len(loop.lives) < 2 or any(loop.lag().values()):
        rig.turn()
    assert after(1) == (0, 0)
    assert caplog.records[-1].message == "brokers answer again"


def test_a_worker_that_reads_nothing_since_it_started_gets_further_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = drained(20)
    rig.stop_cleanly()
    rig.start()
    rig.cycle(times=9)
    loop, status = rig.loops["one"], Status(rig.loops["one"]._metrics, "one")
    assert [live.last_record_ms for live in loop.lives.values()] == [0, 0]
    transaction, now = Transaction(), 1e6
    rig.cluster.logs[INPUT, 0].append(Message(INPUT, 0, b"k", b"{"), 1000, transaction)
    monkeypatch.setattr("time.time", lambda: now)
    for age in (0, 90, 3600):
        now = 1e6 + age
        rig.turn()
        status.update(loop)
        lags = [rig.sample(f"consumer_lag_{unit}", partition="0") for unit in ("records", "seconds")]
        assert lags == [1, age]
        assert rig.sample("consumer_lag_seconds", partition="1") == 0
    transaction.state = "committed"
    rig.turn()
    status.update(loop)
    assert [rig.sample(f"consumer_lag_{unit}", partition="0") for unit in ("records", "seconds")] == [0, 0]


def test_partitions_that_were_added_are_counted_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    rig = drained(20)
    loop, status = rig.loops["one"], Status(rig.loops["one"]._metrics, "one")
    for added in (0, 2, 2, 3, 3):
        rig.cluster.added = added
        status.update(loop)
        assert (rig.sample("input_partitions"), rig.sample("input_partitions_ignored")) == (2 + added, added)
    said = [record.message for record in caplog.records if "partitions were added" in record.message]
    assert [line.split(",")[0].split(": ")[1] for line in said] == ["4 now", "5 now"]
    rig.drain()
    rig.check_topics()


def test_the_age_of_an_image_counts_where_events_came_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = drained(60)
    loop, status = rig.loops["one"], Status(rig.loops["one"]._metrics, "one")
    monkeypatch.setattr("worker.lives.snapshot_clock.SnapshotClock.age_s", 5000.0)
    status.update(loop)
    assert max(rig.tails().values()) > 0
    assert rig.sample("snapshot_age_seconds") == 5000
    for live in loop.lives.values():
        live.shard.snapshot_offset = live.shard.position
    status.update(loop)
    assert rig.sample("snapshot_age_seconds") == 0, "an image that nothing came after is as good as new"


def test_lags_of_partitions_that_went_elsewhere_vanish_and_come_back() -> None:
    rig = drained(20)
    loop, registry = rig.loops["one"], rig.loops["one"]._metrics.registry
    status = Status(loop._metrics, "one")

    def lags() -> list[float | None]:
        status.update(loop)
        return [
            registry.get_sample_value(f"foldcast_consumer_lag_{unit}", {"partition": str(p)})
            for p in range(2)
            for unit in ("records", "seconds")
        ]

    assert lags() == [0, 0, 0, 0]
    rig.start("two")
    for _ in range(4):
        for name in ("one", "two"):
            rig.turn(name)
    assert len(loop.lives) == 1
    gone = 2 * ({0, 1} - loop.lives.keys()).pop()
    assert lags()[gone : gone + 2] == [None, None]
    assert lags().count(None) == 2
    rig.cluster.expire("two")
    for _ in range(40):
        rig.turn()
    assert lags() == [0, 0, 0, 0]


def test_the_page_is_made_about_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = drained(5)
    status, now = Status(rig.loops["one"]._metrics, "one"), [100.0]
    monkeypatch.setattr("worker.http.status.time.monotonic", lambda: now[0])
    assert status.page == {"ready": False, "reason": "starting"}
    pages = []
    for now[0] in (100.0, 100.5, 101.1):
        status(rig.loops["one"])
        pages.append(status.page)
    assert pages[0] is pages[1]
    assert pages[1] is not pages[2], "replaced as a whole: other threads read it"


# ---- HTTP


class Site:
    """A rig's worker behind a port."""

    def __init__(self) -> None:
        self.rig = drained(60)
        self.loop = self.rig.loops["one"]
        self.status, self.pulse = Status(self.loop._metrics, "one"), Pulse()
        pages = Pages(self.loop._metrics.registry, lambda: self.status.page, self.pulse, stalled_after_s=30)
        self.server = Server("127.0.0.1", 0, pages)

    def get(self, path: str, **headers: str) -> tuple[int, str, str]:
        request = Request(f"http://127.0.0.1:{self.server.port}{path}", headers=headers)
        try:
            with urlopen(request, timeout=10) as answer:
                return answer.status, answer.headers["Content-Type"], answer.read().decode()
        except HTTPError as error:
            with error:
                return error.code, error.headers["Content-Type"], error.read().decode()

    def call(self, method: str, path: str, body: bytes | None = None) -> tuple[int, dict[str, str], bytes]:
        connection = HTTPConnection("127.0.0.1", self.server.port, timeout=10)
        with closing(connection):
            connection.request(method, path, body)
            answer = connection.getresponse()
            return answer.status, dict(answer.headers), answer.read()


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.server.close()


def test_metrics_can_be_scraped(site: Site) -> None:
    site.status.update(site.loop)
    code, content_type, text = site.get("/metrics")
    assert (code, content_type.partition(";")[0]) == (200, "text/plain")
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert families["foldcast_forecasts"].samples[0].value == site.rig.sample("forecasts_total")
    assert families["foldcast_event_latency_seconds"].type == "histogram"
    code, content_type, text = site.get("/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert (code, content_type.partition(";")[0]) == (200, "application/openmetrics-text")
    assert text.endswith("# EOF\n")


def test_a_worker_is_alive_while_its_loop_turns(site: Site) -> None:
    assert site.get("/livez")[0] == 200
    site.pulse._at -= 60
    code, _, text = site.get("/livez")
    assert code == 503
    assert text.startswith("the loop turned 60")
    site.pulse.beat()
    assert site.get("/livez")[0] == 200


def test_readiness_comes_with_its_reason(site: Site) -> None:
    assert site.get("/readyz")[::2] == (503, "starting\n")
    site.status.update(site.loop)
    assert site.get("/readyz")[::2] == (200, "ready\n")
    site.rig.brokers["one"].fail_poll = True
    site.rig.turn()
    site.status.update(site.loop)
    assert site.get("/readyz")[::2] == (503, "commits fail: poll failed; restoring partitions [0, 1]\n")
    site.rig.turn()
    site.status.update(site.loop)
    assert site.get("/readyz")[0] == 503
    for _ in range(100):
        site.rig.turn()
    site.status.update(site.loop)
    assert site.get("/readyz")[::2] == (200, "ready\n")


def test_the_status_is_json_for_programs_and_for_people(site: Site) -> None:
    site.status.update(site.loop)
    code, content_type, text = site.get("/api/status?pretty")
    assert (code, content_type) == (200, "application/json")
    page = json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert page["instance"] == "one"
    assert (page["ready"], page["reason"]) == (True, None)
    offsets = site.rig.cluster.offsets
    assert {p: part["position"] for p, part in page["partitions"].items()} == {str(p): o for p, o in offsets.items()}
    assert {p: part["committed"] for p, part in page["partitions"].items()} == {str(p): o for p, o in offsets.items()}
    assert {part["state"] for part in page["partitions"].values()} == {"live"}
    assert page["forecasts"] == site.rig.sample("forecasts_total")
    dropped = {r: site.rig.sample("events_dropped_total", reason=r) for r in DROPS}
    assert page["dropped"] == dropped
    assert page["dead_letters"] == {r: site.rig.sample("dead_letters_total", reason=r) for r in REASONS}
    assert min(sum(page["dropped"].values()), sum(page["dead_letters"].values())) > 0
    assert list(page["labels"]) == ["1", "3"]
    assert list(page["skill"]) == ["1", "3"]
    assert json.loads(site.get("/")[2]) == page


def test_a_status_without_any_forecast_is_json_too(site: Site) -> None:
    rig = Rig()
    loop = rig.start()
    status = Status(loop._metrics, "one")
    status.update(loop)
    rig.turn()
    status.update(loop)
    json.dumps(status.page, allow_nan=False)
    assert status.page["latency_s"] == {"p50": None, "p99": None}
    assert json.loads(json.dumps(status.totals(), allow_nan=False))["skill"] is None


def test_other_paths_are_told_what_there_is(site: Site) -> None:
    code, content_type, text = site.get("/metricz")
    assert (code, content_type) == (404, "text/plain; charset=utf-8")
    assert "/metrics" in text
    code, content_type, text = site.get("/api/statuz")
    assert (code, content_type) == (404, "application/json")
    assert "/api/status" in json.loads(text)["error"]


@pytest.mark.parametrize("path", ["/metrics", "/livez", "/readyz", "/api/status", "/", "/metricz"])
def test_a_head_is_answered_as_a_get_without_the_body(site: Site, path: str) -> None:
    site.status.update(site.loop)
    [(status, headers, body), (head_status, head_headers, no_body)] = [site.call(m, path) for m in ("GET", "HEAD")]
    assert body
    assert no_body == b""
    assert head_status == status
    if path != "/metrics":  # which counts the process's own seconds
        assert head_headers["Content-Length"] == headers["Content-Length"] == str(len(body))
    assert head_headers["Content-Type"] == headers["Content-Type"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"])
def test_other_methods_are_told_which_there_are(site: Site, method: str) -> None:
    status, headers, body = site.call(method, "/metrics", body=b"x" * 100_000)
    assert (status, headers["Allow"]) == (405, "GET, HEAD")
    assert body == b"there are GET and HEAD\n"
    status, headers, body = site.call(method, "/api/status")
    assert (status, headers["Allow"]) == (405, "GET, HEAD")
    assert json.loads(body) == {"error": "there are GET and HEAD"}


def test_a_port_in_use_is_refused_with_a_sentence(site: Site) -> None:
    pages = Pages(site.loop._metrics.registry, dict, Pulse(), 1)
    with pytest.raises(Refusal, match=rf"http\.port {site.server.port} on 127\.0\.0\.1 cannot be had .*: set another"):
        Server("127.0.0.1", site.server.port, pages)


def test_a_client_that_says_nothing_keeps_nobody_waiting(site: Site) -> None:
    with socket.create_connection(("127.0.0.1", site.server.port)):
        assert site.get("/livez")[0] == 200
