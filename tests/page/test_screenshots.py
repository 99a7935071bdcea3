"""Pictures of the page for people to look at; they lie in .cache/screenshots."""

from pathlib import Path

import pytest
from PIL import Image

from tests.page.conftest import Open
from tests.rigs.browser import CHARTS, DESK, PHONE
from tests.rigs.page_site import PLAIN, Site

pytestmark = pytest.mark.kafka

SCREENSHOTS = Path(__file__).parents[2] / ".cache" / "screenshots"


@pytest.fixture(scope="module", autouse=True)
def _past(site: Site) -> None:
    """Something to look at: a worker that was started again has forgotten its streams' past."""
    site.feed()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_a_picture_is_taken_in_the_theme_of_its_name(visit: Open, dark: bool, size: tuple[int, int]) -> None:
    seen = visit(PLAIN, dark=dark, size=size)
    seen.shows("#chart-stream", *CHARTS)
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    path = SCREENSHOTS / f"{'dark' if dark else 'light'}-{size[0]}.png"
    seen.page.screenshot(path=path, full_page=True)
    with Image.open(path) as picture:
        brightness = picture.convert("L").resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))
        assert picture.width == size[0], "it is wider than the screen"
    assert (brightness < 128) is dark
