"""What clients of the worker's port send: request line and headers.

There is no refusal: whatever comes has an answer. A find is any exception, an answer of status 500, or one that is not
whole: a header that is not ours, a length that is not the body's.
"""

import gzip
import re
from collections.abc import Iterator

from pipeline.method import Method
from tests.security.fuzz import promise
from worker.http.api import Api
from worker.http.experts import Experts
from worker.http.pages import Pages
from worker.http.request import answer_to
from worker.observe.hour import Hour
from worker.observe.metrics import Metrics
from worker.observe.pulse import Pulse
from worker.observe.recent import RecentStreams

METRICS = Metrics(Method(), "0", RecentStreams(Method(), 2, 4))

STATUS: dict[str, object] = {"ready": False, "reason": "not joined"}
PAGES = Pages(METRICS.registry, lambda: STATUS, Pulse(), 60.0, Api(METRICS, Hour(METRICS), Experts(), lambda: STATUS))
HEAD = re.compile(
    rb"HTTP/1\.0 (200|400|404|405|503) [A-Za-z ]+\r\nContent-Type: [^\r\n]+\r\nContent-Length: (\d+)\r\n"
    rb"Date: [^\r\n]+\r\nX-Content-Type-Options: nosniff\r\nConnection: (?P<stays>close|keep-alive)\r\n"
    rb"(Allow: GET, HEAD\r\n)?"
    rb"(Cache-Control: [^\r\n]+\r\nContent-Security-Policy: [^\r\n]+\r\nReferrer-Policy: no-referrer\r\n)?"
    rb"(Vary: Accept(, Accept-Encoding|-Encoding)?\r\n)?(?P<packed>Content-Encoding: gzip\r\n)?\r\n"
)


def one(data: bytes) -> None:
    """Answer the bytes."""
    answer, stays = answer_to(data, PAGES)
    head = HEAD.match(answer)
    promise(head is not None, f"an answer has our headers only: {answer[:300]!r}")
    assert head is not None
    promise(stays == (head["stays"] == b"keep-alive"), "a client learns whether it may ask again")
    body = answer[head.end() :]
    promise(len(body) in (0 if data.startswith(b"HEAD ") else int(head[2]), int(head[2])), "its length is told")
    (gzip.decompress(body) if head["packed"] and body else body).decode()


def seeds() -> Iterator[bytes]:
    """Yield a request to each page, and some that are none."""
    of_streams = (b"/api/streams?sort=best&limit=1", b"/api/streams/a%2Fb", b"/api/history")
    for path in (b"/", b"/metrics", b"/livez", b"/readyz?x=1", b"/api/status", *of_streams, b"/nobody", b"*"):
        for method in (b"GET", b"HEAD", b"POST"):
            yield method + b" " + path + b" HTTP/1.1\r\nHost: a\r\nAccept: text/plain;version=0.0.4, */*;q=0.1\r\n"
    for packing in (b"gzip, deflate", b"identity"):
        for path in (b"/", b"/page/page.css", b"/page/1/page.js", b"/page/../page.css"):
            yield b"GET " + path + b" HTTP/1.1\r\nAccept: text/html\r\nAccept-Encoding: " + packing
    yield b"GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text; version=1.0.0\r\naccept: */*"
    yield b"GET /\r/ HTTP/1.0\n"
