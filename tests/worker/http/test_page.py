"""The page at /: for browsers alone, of this host alone, and nothing in it that makes markup or code out of text."""

import gzip
import hashlib
import re
import shutil
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPMessage
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from worker.demo.charts import FILE, SHA256
from worker.demo.charts import FOLDER as LIBRARY
from worker.http.api import KEPT_S
from worker.http.assets import FETCH, FOLDER, TYPES, Assets, wants_html
from worker.http.pages import Pages
from worker.http.server import Server
from worker.observe.metrics import PHASES
from worker.observe.pulse import Pulse

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"
OURS = sorted(path for path in FOLDER.iterdir() if path.is_file())
INDEX = (FOLDER / "index.html").read_text()
SCRIPTS = {path.name: path.read_text() for path in OURS if path.suffix == ".js"}
IDS = {"well", "good", "stream", "state", "search", "sort", "streams", "said", "table-stream", "partitions", "errors"}
CHARTS = {"chart-stream", "chart-phases", "chart-skill", "chart-coverage"}
MARKUP = r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|Function\(|srcdoc"


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server("127.0.0.1", 0, Pages(CollectorRegistry(), lambda: {"ready": True}, Pulse(), 30))
    yield server
    server.close()


def get(server: Server, path: str, method: str = "GET", **headers: str) -> tuple[int, HTTPMessage, bytes]:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, answer.headers, body


# ---- who gets it


@pytest.mark.parametrize("accept", [BROWSER, "text/html", "TEXT/HTML ; q=0.1", "*/*, text/html"])
def test_a_client_that_names_html_gets_the_page(server: Server, accept: str) -> None:
    status, headers, body = get(server, "/", Accept=accept)
    assert (status, headers["Content-Type"], headers["Vary"]) == (200, TYPES[".html"], "Accept, Accept-Encoding")
    assert b"<!doctype html>" in body


@pytest.mark.parametrize("accept", ["*/*", "text/plain", "application/json", "text/html;q=0", "text/html; q=0.0", ""])
def test_others_go_on_getting_the_status_as_text(server: Server, accept: str) -> None:
    status, headers, body = get(server, "/", Accept=accept)
    assert (status, headers["Content-Type"], headers["Vary"]) == (200, "text/plain; charset=utf-8", "Accept")
    assert body == b'{\n  "ready": true\n}\n'
    assert not wants_html(accept)


# ---- how it is served


@pytest.mark.parametrize("path", ["/", "/page/page.js", "/page/library/uPlot.js"])
def test_it_is_packed_for_clients_that_unpack_and_the_same_for_others(server: Server, path: str) -> None:
    _, headers, packed = get(server, path, Accept=BROWSER, Accept_Encoding="deflate, gzip;q=0.8")
    assert headers["Content-Encoding"] == "gzip"
    for encodings in ("", "identity", "gzip;q=0", "br"):
        _, headers, plain = get(server, path, Accept=BROWSER, Accept_Encoding=encodings)
        assert headers["Content-Encoding"] is None
        assert plain == gzip.decompress(packed)
    _, headers, none = get(server, path, "HEAD", Accept=BROWSER)
    assert (none, int(headers["Content-Length"])) == (b"", len(plain))


def test_the_page_is_asked_for_again_and_what_it_names_is_kept_for_ever(server: Server) -> None:
    _, headers, page = get(server, "/", Accept=BROWSER)
    assert headers["Cache-Control"] == "no-cache"
    named = re.findall(r'(?:src|href)="(page/[^"]+)"', page.decode())
    assert len(named) >= 5
    for path in named:
        status, headers, _ = get(server, f"/{path}")
        assert (status, headers["Cache-Control"]) == (200, "max-age=31536000, immutable"), path
        assert headers["Content-Type"] == TYPES[Path(path).suffix]
    assert get(server, "/page/page.js")[1]["Cache-Control"] == "no-cache"


def test_a_changed_file_has_another_address(tmp_path: Path) -> None:
    folder = shutil.copytree(FOLDER, tmp_path / "page")
    before = Assets(folder).version
    assert before == Assets().version
    (folder / "page.js").write_text("// another")
    assert Assets(folder).version != before


def test_every_answer_forbids_what_the_page_does_not_need(server: Server) -> None:
    for path in ("/", "/page/page.js", "/page/library/uPlot.js", "/page/page.css"):
        _, headers, _ = get(server, path, Accept=BROWSER)
        assert headers["X-Content-Type-Options"] == "nosniff"
        policy = dict(part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";"))
        assert policy["default-src"] == "'self'"
        assert {policy[name] for name in ("object-src", "base-uri", "frame-ancestors", "form-action")} == {"'none'"}
        assert policy["require-trusted-types-for"] == "'script'", "no markup is made of text"
        assert not re.search(r"unsafe|\*|http|data:", headers["Content-Security-Policy"])
    assert get(server, "/livez")[1]["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "path",
    ["/page", "/page/none.js", "/page/../pages.py", "/page/%2e%2e/pages.py", "/page//etc/passwd", "/page/x/page.js"],
)
def test_what_is_no_file_of_the_page_is_not_found(server: Server, path: str) -> None:
    assert get(server, path, Accept=BROWSER)[0] == 404


# ---- what is in it


def test_no_file_names_another_host() -> None:
    library = gzip.decompress((LIBRARY / FILE).read_bytes()).decode()
    files = {path.name: path.read_text() for path in OURS} | {FILE: library}
    hosts = {name: set(re.findall(r"(?:https?:|[\"'(])//[\w./-]+", text)) for name, text in files.items()}
    hosts["icon.svg"] -= {"http://www.w3.org/2000/svg"}  # names, which nobody asks for: of a language,
    hosts[FILE] -= {"https://github.com/leeoniya/uPlot"}  # and in a comment
    assert {name: found for name, found in hosts.items() if found} == {}


def test_the_library_is_the_one_that_was_chosen() -> None:
    library = gzip.decompress((LIBRARY / FILE).read_bytes())
    assert b"uPlot (v1.6.31)" in library[:100]
    assert hashlib.sha256(library).hexdigest() == SHA256


def test_nothing_of_it_makes_markup_or_code_out_of_text() -> None:
    for name, script in SCRIPTS.items():
        assert not re.search(MARKUP, script), name
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=|javascript:", INDEX)


def test_its_scripts_import_each_other_by_names_that_are_there() -> None:
    for name, script in SCRIPTS.items():
        assert {*re.findall(r'from "\./([^"]+)"', script)} <= SCRIPTS.keys(), name


def test_its_scripts_ask_for_elements_that_are_there() -> None:
    there = re.findall(r'\bid="([^"]+)"', INDEX)
    assert len(there) == len({*there})
    assert {*there} >= IDS | CHARTS
    for name, script in SCRIPTS.items():
        assert {*re.findall(r'\$\("([^"]+)"\)', script)} <= {*there}, name


def test_what_it_shows_is_asked_for_often_enough_to_be_there_within_two_seconds() -> None:
    every_ms = dict(re.findall(r"(\w+): new Poll\([^,]+, (\d+)", SCRIPTS["page.js"]))
    for name in ("status", "stream"):
        assert KEPT_S + int(every_ms[name]) / 1000 < 2.0, "an answer may be a kept one, and the next comes a turn later"


def test_each_phase_of_the_loop_has_a_place_and_a_colour_in_both_themes() -> None:
    [phases] = re.findall(r"const PHASES = \[(.*)\]", SCRIPTS["well.js"])
    assert sorted(re.findall(r"\w+", phases)) == sorted(PHASES)
    colours = re.findall(r"--phase-(\w+):", (FOLDER / "page.css").read_text())
    assert sorted(colours) == sorted([*PHASES, *PHASES])


def test_where_the_library_is_missing_the_page_says_how_to_fetch_it(tmp_path: Path) -> None:
    folder = shutil.copytree(FOLDER, tmp_path / "page", ignore=shutil.ignore_patterns("library"))
    assets = Assets(folder)
    assert assets.index("").status == 200
    missing = assets.answer("/page/library/uPlot.js", "")
    assert (missing.status, FETCH.encode() in missing.body, FETCH in INDEX) == (404, True, True)
