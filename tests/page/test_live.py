"""The live page in a browser, on a worker with a real Kafka: it shows what is so, as it comes, and through restarts."""

import signal
from io import BytesIO

import orjson
import pytest
from PIL import Image
from playwright.sync_api import Route, expect

from tests.page.conftest import Open
from tests.rigs.browser import CHARTS, Visit
from tests.rigs.page_site import NAMES, PLAIN, Site
from worker.settings.model import Model

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]

SOON_S = 2.0  # from the commit of a forecast to the page
TIMES = 5
# Whether the chosen stream's entry can be seen in the list
IN_VIEW = """() => {
  const chosen = document.querySelector('#streams [aria-current=true]'), list = document.querySelector('#streams');
  if (!chosen) return false;
  const [at, frame] = [chosen.getBoundingClientRect(), list.getBoundingClientRect()];
  return at.top >= frame.top - 1 && at.bottom <= frame.bottom + 1;
}"""
HORIZONS = len(Model().horizons)
AREA = 300  # pixels of one colour are a band, not a line or a letter

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
    said = orjson.loads(site.worker.page("/api/streams/plant%2F7%20temp"))
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


def test_a_new_event_is_on_the_page_within_two_seconds(site: Site, visit: Open) -> None:
    seen = visit(PLAIN)
    seen.shows("#chart-stream")
    took = []
    for _ in range(TIMES):
        newest = site.send(PLAIN)
        took.append(seen.shows_event(newest))
    print("seconds from the commit to the page:", [round(s, 2) for s in took])
    assert max(took) <= SOON_S


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
    site.start_again()
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
