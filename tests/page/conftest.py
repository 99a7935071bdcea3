"""What the tests of the page share: one browser, one worker with a past, and visits that end without a complaint."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.rigs.browser import WHAT_TO_INSTALL, Visit, chromium, program
from tests.rigs.page_site import Site
from worker.demo import charts

Open = Callable[..., Visit]


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    if program() is None:
        pytest.skip(WHAT_TO_INSTALL)
    with chromium() as started:
        yield started


@pytest.fixture(scope="package")
def site(browser: Browser, bootstrap: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    charts.fetch()
    home: Path = tmp_path_factory.mktemp("page")
    site = Site(bootstrap, f"page-{home.name}", home)
    with site.cluster:
        site.feed()
        yield site
        site.cluster.stop()


@pytest.fixture
def visit(browser: Browser, site: Site) -> Iterator[Open]:
    """Opens the page as a visitor who chose a stream, or none; at the end nobody may have complained."""
    visits: list[Visit] = []

    def opened(stream: str | None = None, without: str | None = None, **how: object) -> Visit:
        visit = Visit(browser, site.address, **how)  # type: ignore[arg-type]
        visits.append(visit)
        if without is not None:  # a file that the worker has not got
            visit.worker_may_be_away = True
            visit.page.route(without, lambda route: route.fulfill(status=404, content_type="text/plain", body="none"))
        visit.open(stream)
        return visit

    yield opened
    for one in visits:
        one.close()
    if not site.worker.running:  # a restart that was cut off fails one test, not all
        site.worker.start()
        site.cluster.wait_until_live()
    assert [complaint for one in visits for complaint in one.complaints] == []
    assert [address for one in visits for address in one.foreign()] == []
