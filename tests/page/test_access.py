"""The live page for people without a mouse, with a screen reader, in the dark, on a phone."""

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.page.conftest import Open
from tests.rigs.browser import CHARTS, DESK, PHONE, Visit
from tests.rigs.page_site import PLAIN, Site

pytestmark = pytest.mark.kafka

# What a keyboard must reach: everything that a mouse can use, where it is shown
CONTROLS = """() => {
  const all = document.querySelectorAll('a[href], button, input, select, textarea, summary, [tabindex]');
  const usable = c => c.checkVisibility() && !c.disabled && c.tabIndex >= 0;
  window.controls = [...all].filter(usable);
  return window.controls.map(c => c.outerHTML.slice(0, 120));
}"""
FOCUSED = """() => {
  const at = document.activeElement, style = getComputedStyle(at);
  const ring = (style.outlineStyle !== 'none' && style.outlineWidth !== '0px') || style.boxShadow !== 'none';
  return [window.controls.indexOf(at), ring, at.id || at.textContent.trim().slice(0, 60)];
}"""


THEMES = pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
SIZES = pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])


@THEMES
@SIZES
def test_axe_finds_no_serious_violation(visit: Open, dark: bool, size: tuple[int, int]) -> None:
    seen = visit(PLAIN, dark=dark, size=size)
    seen.shows("#chart-stream", *CHARTS)
    seen.page.evaluate("() => document.querySelectorAll('details').forEach(details => details.open = true)")
    found = Axe().run(seen.page)
    serious = [one["id"] for one in found.response["violations"] if one["impact"] in ("serious", "critical")]
    assert serious == [], found.generate_report()


def test_every_control_is_reached_by_the_tab_key_and_shows_it(visit: Open) -> None:
    seen = visit(PLAIN)
    seen.shows("#chart-stream")
    controls = seen.page.evaluate(CONTROLS)
    reached, unmarked = set(), []
    for _ in range(2 * len(controls)):
        seen.page.keyboard.press("Tab")
        place, ring, what = seen.page.evaluate(FOCUSED)
        reached.add(place)
        if place >= 0 and not ring:
            unmarked.append(what)
    assert [control for i, control in enumerate(controls) if i not in reached] == []
    assert unmarked == [], "focus that cannot be seen"


def test_a_stream_is_searched_sorted_and_chosen_by_keyboard_alone(site: Site, visit: Open) -> None:
    seen = visit()
    keyboard = seen.page.keyboard
    tab_to(seen, "#search")
    keyboard.type("KÖLN")
    seen.becomes("() => document.querySelectorAll('#streams button').length === 1")
    for _ in "KÖLN":
        keyboard.press("Backspace")
    seen.becomes("() => document.querySelectorAll('#streams button').length > 4")
    tab_to(seen, "#sort")
    before = seen.page.input_value("#sort")
    with seen.page.expect_request(lambda request: "sort=" in request.url and f"sort={before}" not in request.url):
        keyboard.press("ArrowDown")
    assert seen.page.input_value("#sort") != before
    seen.becomes("() => document.querySelectorAll('#streams button').length > 4")
    tab_to(seen, "#streams button")
    name = seen.page.evaluate("document.activeElement.textContent")
    keyboard.press("Enter")
    seen.becomes("() => document.activeElement.getAttribute('aria-current') === 'true'")
    assert seen.page.evaluate("document.activeElement.textContent").split()[:1] == name.split()[:1]
    assert seen.page.locator("#streams [aria-current=true]").count() == 1
    seen.shows("#chart-stream")


def test_focus_stays_where_it_is_while_the_page_updates(site: Site, visit: Open) -> None:
    seen = visit(PLAIN)
    seen.shows("#chart-stream")
    seen.page.locator("#streams button").filter(has_text=PLAIN).first.focus()
    for _ in range(2):
        newest = site.send(PLAIN)
        with seen.page.expect_response(lambda response: "/api/streams?" in response.url):
            pass
        seen.shows_event(newest)
    focused = seen.page.evaluate("document.activeElement.textContent")
    assert PLAIN in focused


def test_a_phone_shows_it_without_scrolling_sideways(visit: Open) -> None:
    seen = visit(PLAIN, size=PHONE)
    seen.shows("#chart-stream")
    wide = seen.page.evaluate("""() => [document.documentElement.scrollWidth, innerWidth]""")
    assert wide[0] <= wide[1] == PHONE[0]


def tab_to(seen: Visit, selector: str) -> None:
    """Press Tab until an element of this selector has the focus."""
    for _ in range(60):
        if seen.page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
        seen.page.keyboard.press("Tab")
    raise AssertionError(f"the tab key does not come to {selector}")
