"""The live page in a browser, on a worker with a real Kafka: it shows what is so, as it comes, and through restarts."""

import signal
import time
from io import BytesIO
from typing import Any

import orjson
import pytest
from PIL import Image
from playwright.sync_api import Route, expect

from tests.page.conftest import Open
from tests.rigs.browser import CHARTS, Visit
from tests.rigs.page_site import NAMES, PLAIN, Site
from worker.settings.model import Model

pytestmark = pytest.mark.kafka

TIMES = 5
# Answers about a stream, asked for after a commit, that need not have it yet: one is on its way, two are kept ones
WITHOUT = 3
# Whether the chosen stream's entry can be seen in the list
IN_VIEW = """() => {
  const chosen = document.querySelector('#streams [aria-current=true]'), list = document.querySelector('#streams');
  if (!chosen) return false;
  const [at, frame] = [chosen.getBoundingClientRect(), list.getBoundingClientRect()];
  return at.top >= frame.top - 1 && at.bottom <= frame.bottom + 1;
}"""
HORIZONS = len(Model().horizons)
AREA = 300  # pixels of one colour are a band, not a line or a letter

# What is drawn of an answer
PICTURE = """async told => {
  const { picture } = await import('/page/fan.js');
  const [xs, lines, words] = picture(told, String(told.horizons[0]));
  return [xs, lines.map(({ label }) => ({ label })), { gist: words.gist }];
}"""

# As if the visitor had gone to another tab, or had come back
SEEN = """state => {
  Object.defineProperty(document, 'visibilityState', {value: state, configurable: true});
  Object.defineProperty(document, 'hidden', {value: state === 'hidden', configurable: true});
  document.dispatchEvent(new Event('visibilitychange'));
}"""


def fills(picture: Image.Image) -> set[tuple[int, int, int]]:
    """Colours of areas: those that many pixels have."""
    return {colour for pixels, colour in picture.getcolors(maxcolors=1 << 24) if pixels >= AREA}


def fills_of_the_future(png: bytes) -> int:
    """How many areas of the right fifth of a picture have colours that the left half has not."""
    with Image.open(BytesIO(png)) as picture:
        whole = picture.convert("RGB")
    past = whole.crop((0, 0, whole.width // 2, whole.height))
    future = whole.crop((whole.width * 4 // 5, 0, whole.width, whole.height))
    return len(fills(future) - fills(past))


def last_ms(visit: Visit) -> int:
    """The newest event that the stream's chart shows."""
    return int(visit.page.locator("#chart-stream").get_attribute("data-last") or 0)


def test_the_fan_of_a_chosen_stream_is_drawn_and_told(site: Site, visit: Open) -> None:
    seen = visit(PLAIN)
    newest = site.send(PLAIN)
    seen.shows_event(newest)
    while (said := orjson.loads(site.worker.page("/api/streams/plant%2F7%20temp")))["times"][-1] < newest:
        time.sleep(0.1)  # an answer is kept for a second
    chart = seen.page.locator("#chart-stream")
    assert int(chart.get_attribute("data-points") or 0) >= len(said["times"])
    rows = seen.page.locator("#table-stream tbody tr")
    assert f"{said['values'][-1]:.4g}" in rows.first.inner_text()
    assert seen.page.locator("#table-stream caption").count() == 1
    assert fills_of_the_future(chart.locator("canvas").screenshot()) == 2, "the intervals of 95 and of 80 %"
    assert "plant/7 temp" in (chart.get_attribute("aria-label") or "")


def test_a_page_that_nobody_sees_asks_for_nothing(site: Site, visit: Open) -> None:
    seen = visit(PLAIN)
    seen.shows("#chart-stream")
    seen.page.evaluate(SEEN, "hidden")
    seen.page.wait_for_timeout(1000)  # what was asked for is answered
    before = len(seen.asked)
    newest = site.send(PLAIN)
    seen.page.wait_for_timeout(3000)
    assert seen.asked[before:] == []
    seen.page.evaluate(SEEN, "visible")
    seen.shows_event(newest)


def test_a_worker_that_has_no_time_is_asked_again_later(site: Site, visit: Open) -> None:
    seen = visit(PLAIN)
    seen.shows("#chart-stream")
    later = lambda route: route.fulfill(status=503, json={"error": "ask again"})  # noqa: E731
    seen.page.route("**/api/streams**", later)
    with seen.page.expect_response(lambda response: response.status == 503):
        newest = site.send(PLAIN)
    seen.page.wait_for_timeout(1000)
    assert seen.page.locator("#state").inner_text() == "ready"
    assert last_ms(seen) != newest
    seen.page.unroute("**/api/streams**", later)
    seen.shows_event(newest)


def test_what_the_worker_cannot_tell_of_itself_is_said(visit: Open) -> None:
    seen = visit(PLAIN)
    seen.worker_may_be_away = True  # Chromium complains of every 500

    def fail(route: Route) -> None:
        path = route.request.url.rpartition("/")[2]
        route.fulfill(status=500, json={"error": f"no {path} can be made"})

    for path in ("status", "history"):
        seen.page.route(f"**/api/{path}", fail)
    seen.says("no status can be made")
    seen.becomes("() => document.querySelector('#errors').textContent.includes('no history can be made')")
    seen.page.unroute("**/api/status")
    seen.says("ready")


def test_without_the_charts_library_the_tables_tell_it(site: Site, visit: Open) -> None:
    seen = visit(PLAIN, without="**/library/*")
    newest = site.send(PLAIN)
    seen.shows_event(newest)
    assert seen.page.locator("#no-charts").is_visible()
    assert "worker.demo.charts" in seen.page.locator("#no-charts").inner_text()
    assert seen.page.locator("#table-stream tbody tr").count() >= 1
    assert seen.page.locator("#table-forecast tbody tr").count() == HORIZONS


def test_every_chart_of_the_worker_has_points(visit: Open) -> None:
    visit().shows(*CHARTS)  # samples come every ten seconds


def test_a_new_event_is_in_one_of_the_next_answers_and_then_on_the_page(site: Site, visit: Open) -> None:
    seen = visit(PLAIN)
    seen.shows("#chart-stream")
    took = []
    for _ in range(TIMES):
        newest, began = site.send(PLAIN), time.monotonic()
        assert any(next_answer(seen)["times"][-1] == newest for _ in range(WITHOUT + 1))
        seen.shows_event(newest)
        took.append(time.monotonic() - began)
    print("seconds from the commit to the page:", [round(s, 2) for s in took])


def next_answer(seen: Visit) -> dict[str, Any]:
    """What the worker tells the page of the chosen stream the next time."""
    with seen.page.expect_response(lambda one: "/api/streams/" in one.url and one.status == 200) as answer:
        pass
    told: dict[str, Any] = answer.value.json()
    return told


def test_two_events_of_one_time_and_a_gap_after_them_are_drawn_in_order(site: Site, visit: Open) -> None:
    seen = visit(PLAIN)
    told = orjson.loads(site.worker.page("/api/streams/plant%2F7%20temp"))
    times = told["times"]
    times[1] = times[0]
    told["gaps"] = [{"from": times[1], "to": times[2], "why": "silent"}]
    told["levels"][0] = 0.995
    xs, lines, words = seen.page.evaluate(PICTURE, told)
    assert xs == sorted(xs)
    assert len(xs) == len(times) + 1 + HORIZONS
    assert "in 99.5 % of cases" in words["gist"]
    assert any(line.get("label") == "99.5 % interval from now" for line in lines)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def test_a_restart_is_shown_as_one_and_needs_no_reload(site: Site, visit: Open, how: signal.Signals) -> None:
    seen = visit(PLAIN)
    seen.shows("#chart-stream")
    before = last_ms(seen)
    seen.page.evaluate("window.notReloaded = true")
    seen.page.locator("#chart-phases .u-over").hover()  # the place under it is gone with the samples
    seen.worker_may_be_away = True
    site.worker.tell(how)
    site.worker.wait()
    seen.says("restart")
    assert last_ms(seen) == before, "what was known stays while the worker is away"
    site.worker.start()
    site.cluster.wait_until_live()
    seen.says("ready")
    newest = site.send(PLAIN)
    seen.shows_event(newest)
    assert seen.page.evaluate("window.notReloaded"), "the page was loaded anew"
    seen.shows(*CHARTS)


def test_a_name_that_came_from_two_partitions_is_listed_twice_and_not_more_often(site: Site, visit: Open) -> None:
    seen = visit(PLAIN)

    def twice(route: Route) -> None:
        answer = route.fetch().json()
        answer["streams"] += [one | {"partition": one["partition"] + 1} for one in answer["streams"]]
        route.fulfill(json=answer)

    seen.page.route("**/api/streams?*", twice)
    for _ in range(4):
        with seen.page.expect_response(lambda response: "/api/streams?" in response.url):
            pass
    there = len(orjson.loads(site.worker.page("/api/streams"))["streams"])
    expect(seen.page.locator("#streams li")).to_have_count(2 * there)


def test_the_list_goes_on_under_a_pointer_and_a_focus_that_rest(site: Site, visit: Open) -> None:
    for name in NAMES[:2]:
        site.send(name)
    seen = visit(PLAIN)
    seen.becomes("() => document.querySelectorAll('#streams li').length > 1")
    seen.page.locator("#streams button").first.click()
    before = seen.page.locator("#streams bdi").first.text_content()

    def turned(route: Route) -> None:
        answer = route.fetch().json()
        answer["streams"].reverse()
        route.fulfill(json=answer)

    seen.page.route("**/api/streams?*", turned)
    seen.becomes("before => document.querySelector('#streams bdi').textContent !== before", before)
    assert seen.page.evaluate("document.activeElement.matches('#streams [aria-current=true]')")


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_stream_of_whatever_name_is_chosen_from_the_list_and_drawn(site: Site, visit: Open, name: str) -> None:
    seen = visit()
    newest = site.send(name)
    seen.page.locator("#streams button").filter(has_text=name).first.click()
    seen.shows_event(newest)
    assert squeezed(name) in squeezed(seen.page.locator("#streams [aria-current=true]").inner_text())
    assert_harmless(seen)


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_link_to_a_stream_of_whatever_name_chooses_it(visit: Open, name: str) -> None:
    seen = visit(name)
    seen.shows("#chart-stream")
    assert seen.page.evaluate("decodeURIComponent(location.hash)") == f"#stream={name}"
    seen.becomes(IN_VIEW)
    assert_harmless(seen)


def squeezed(text: str) -> str:
    """Without white space, which a browser shows in its own way."""
    return "".join(text.split())


def assert_harmless(seen: Visit) -> None:
    """No stream's name has become a script, an element or an address."""
    assert seen.page.evaluate("typeof hostile") == "undefined"
    assert seen.page.evaluate("document.querySelectorAll('#state').length") == 1
    assert seen.page.locator("main script, img, [href^='javascript:'], [onerror], [onclick]").count() == 0
