"""A request's bytes in, the answer's bytes out. Knows no socket, and has an answer to whatever bytes there are."""

import logging
import re
from email.utils import formatdate
from http import HTTPStatus

from worker.http.answer import Answer, failure
from worker.http.pages import Pages

log = logging.getLogger(__name__)

METHODS = ("GET", "HEAD")
LOOKED_AT = ("accept", "accept-encoding", "connection", "content-length", "transfer-encoding")
END = re.compile(rb"\r?\n\r?\n")  # of request line and headers
# A lone carriage return, or another control character, could end a line of the answer that repeats it
CONTROL = re.compile(rb"\r(?!\n)|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def answer_to(head: bytes, pages: Pages, alone: bool = True) -> tuple[bytes, bool]:
    """Return the whole answer to a request, whose line and headers are `head`, and whether its client may ask again.

    A body, if there is any, says nothing. The connection stays for what the page asks again and again, and only where
    the request surely ends with its head, behind which no byte has come (`alone`).
    """
    lines = re.split(r"\r?\n", head.decode("latin-1"))
    words = lines[0].split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1.") or CONTROL.search(head):
        return _bytes(failure("", 400, "this is no request of HTTP/1.0 or HTTP/1.1")), False
    method, path, _ = words
    if method not in METHODS:
        return _bytes(failure(path, 405, "there are GET and HEAD")), False
    accept, encodings, connection, *body = (_values(lines[1:], name) for name in LOOKED_AT)
    asks_again = path.startswith("/api/") and words[2] == "HTTP/1.1" and "close" not in connection.lower()
    stays = alone and asks_again and not any(body)
    return _bytes(_page(path, accept, encodings, pages), method == "HEAD", stays), stays


def too_large(most_bytes: int) -> bytes:
    """Return the answer to a request whose line and headers are longer than that."""
    return _bytes(failure("", 431, f"request line and headers may have {most_bytes:,} bytes"))


def _page(path: str, accept: str, encodings: str, pages: Pages) -> Answer:
    try:
        return pages.answer(path, accept, encodings)
    except Exception:  # the thread that answers /livez must live on
        log.exception("there is no answer to %s", path[:100])
        return failure(path, 500, "this page cannot be made; the log says why")


def _values(fields: list[str], wanted: str) -> str:
    """Return the values of all headers of one name as one."""
    pairs = (field.partition(":") for field in fields)
    return ",".join(value.strip() for name, _, value in pairs if name.lower() == wanted)


def _bytes(answer: Answer, bodiless: bool = False, stays: bool = False) -> bytes:
    lines = [
        f"HTTP/1.0 {answer.status} {HTTPStatus(answer.status).phrase}",
        f"Content-Type: {answer.content_type}",
        f"Content-Length: {len(answer.body)}",
        f"Date: {formatdate(usegmt=True)}",
        "X-Content-Type-Options: nosniff",
        f"Connection: {'keep-alive' if stays else 'close'}",
        *(f"{name}: {value}" for name, value in answer.headers),
    ]
    if answer.status == 405:
        lines.append(f"Allow: {', '.join(METHODS)}")
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")
    return head if bodiless else head + answer.body
