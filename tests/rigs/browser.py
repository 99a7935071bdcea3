"""A headless Chromium of this machine, and visits that note what a page asks for and complains of."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote, urlsplit

from playwright.sync_api import Browser, ConsoleMessage, Error, Page, Request, sync_playwright

WHAT_TO_INSTALL = "no Chromium is on this machine: install the package chromium"
LIMIT_S = 60.0
CHARTS = ("#chart-phases", "#chart-skill", "#chart-coverage")  # of the worker; a stream's is #chart-stream
DESK, PHONE = (1280, 900), (390, 844)  # width and height in CSS pixels
# How Chromium itself notes an answer that did not come, and one that asks a page to come again later
NOT_LOADED = "Failed to load resource"
LATER = f"{NOT_LOADED}: the server responded with a status of 503"


def program() -> str | None:
    """The path of a Chromium; None where there is none."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser without a window; it ends with the context."""
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program())
        yield browser
        browser.close()


class Visit:
    """A page in a context of its own, as a new visitor has it."""

    def __init__(self, browser: Browser, address: str, dark: bool = False, size: tuple[int, int] = DESK) -> None:
        """Open nothing yet; `address` is the worker's, such as http://127.0.0.1:8080."""
        self.address = address
        self.asked: list[str] = []  # every address the page asked for
        self.complaints: list[str] = []  # of the console and of scripts
        self.worker_may_be_away = False  # then answers that did not come are no complaint
        self._context = browser.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",
        )
        self.page: Page = self._context.new_page()
        self.page.set_default_timeout(LIMIT_S * 1000)
        self.page.on("request", self._note_request)
        self.page.on("console", self._note_message)
        self.page.on("pageerror", self._note_error)

    def open(self, stream: str | None = None) -> None:
        """Go to the live page, a stream chosen by the address where one is given; returns when the page is ready."""
        self.page.goto(self.address + (f"/#stream={quote(stream, safe='')}" if stream is not None else "/"))
        self.says("ready")

    def _note_request(self, request: Request) -> None:
        self.asked.append(request.url)

    def _note_message(self, message: ConsoleMessage) -> None:
        expected = NOT_LOADED if self.worker_may_be_away else LATER
        if message.type in ("error", "warning") and not message.text.startswith(expected):
            self.complaints.append(f"{message.type}: {message.text} ({message.location.get('url')})")

    def _note_error(self, error: Error) -> None:
        self.complaints.append(f"script: {error}")

    def foreign(self) -> list[str]:
        """Addresses that are not the worker's, of those the page asked for; those without a host count as its own."""
        hosts = {urlsplit(self.address).netloc, ""}
        return [address for address in self.asked if urlsplit(address).netloc not in hosts]

    def becomes(self, condition: str, argument: object = None, limit_s: float = LIMIT_S) -> float:
        """Wait until a JavaScript function of `argument` is true; the seconds it took. Raises TimeoutError.

        The page is asked at each frame, so a condition is seen some 16 ms after it came true.
        """
        began = time.monotonic()
        self.page.wait_for_function(condition, arg=argument, timeout=limit_s * 1000)
        return time.monotonic() - began

    def shows(self, *charts: str) -> None:
        """Wait until there are points in each of these charts, such as #chart-stream."""
        for chart in charts:
            self.becomes("id => Number(document.querySelector(id).dataset.points) > 0", chart)

    def shows_event(self, time_ms: int) -> float:
        """Wait until the event of this time is the newest of the stream's chart; the seconds it took."""
        return self.becomes("last => document.querySelector('#chart-stream').dataset.last === String(last)", time_ms)

    def says(self, word: str) -> None:
        """Wait until the page's line of state has this word in it."""
        self.becomes("word => document.querySelector('#state').textContent.includes(word)", word)

    def close(self) -> None:
        """Close the page."""
        self._context.close()
