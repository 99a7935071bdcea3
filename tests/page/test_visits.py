"""A visit notes what the tests of the page rely on: requests to other hosts, complaints, violations."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

from tests.rigs.browser import Visit

ADDRESS = "http://127.0.0.1:9"


@pytest.mark.parametrize(
    ("body", "foreign", "complains"),
    [
        ("<p>well</p>", [], False),
        ("<img src='http://else.invalid/x.png' alt='x'>", ["http://else.invalid/x.png"], True),
        ("<script>console.error('odd')</script>", [], True),
        ("<script>nobody.knows()</script>", [], True),
    ],
)
def test_what_goes_wrong_is_noted(browser: Browser, body: str, foreign: list[str], complains: bool) -> None:
    visit = Visit(browser, ADDRESS)
    visit.page.set_content(body)
    visit.close()
    assert visit.foreign() == foreign
    assert bool(visit.complaints) is complains


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_theme_is_the_visitors_and_axe_sees_its_contrast(browser: Browser, dark: bool) -> None:
    visit = Visit(browser, ADDRESS, dark=dark)
    css = "body { background: white } @media (prefers-color-scheme: dark) { body { background: #111 } }"
    text = "<style>p { color: #444 }</style><main><h1>t</h1><p>text</p></main>"
    visit.page.set_content(f"<html lang=en><title>t</title><style>{css}</style>{text}")
    found = [violation["id"] for violation in Axe().run(visit.page).response["violations"]]
    visit.close()
    assert ("color-contrast" in found) is dark
