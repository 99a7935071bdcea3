"""What leaves for a client: a status and a body, or that something failed."""

import json
from typing import NamedTuple

TEXT = "text/plain; charset=utf-8"
JSON = "application/json"


class Answer(NamedTuple):
    """A status, and the body that goes with it."""

    status: int
    content_type: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()  # names and values, beside those that every answer has


def failure(path: str, status: int, sentence: str) -> Answer:
    """Return the answer that something failed: a sentence, as JSON where programs ask."""
    if path.startswith("/api/"):
        return Answer(status, JSON, json.dumps({"error": sentence}).encode())
    return Answer(status, TEXT, f"{sentence}\n".encode())
