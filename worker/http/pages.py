"""What is answered, path by path. Reads the loop's last page; never waits for the loop."""

import json
from collections.abc import Callable

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from worker.http.answer import JSON, TEXT, Answer, failure
from worker.http.api import Api
from worker.http.assets import PREFIX, Assets, wants_html
from worker.observe.pulse import Pulse

THERE_ARE = "there are /, /metrics, /livez, /readyz, /api/status, /api/streams, /api/streams/{name} and /api/history"


class Pages:
    """The answers to requests: `status` returns the loop's page, `pulse` knows when the loop last turned.

    What is below /api and no status is answered by `api`, where there is one.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        status: Callable[[], dict[str, object]],
        pulse: Pulse,
        stalled_after_s: float,
        api: Api | None = None,
    ) -> None:
        self._registry, self._status, self._pulse, self._stalled_after_s = registry, status, pulse, stalled_after_s
        self._api, self._assets = api, Assets()
        self._told: tuple[dict[str, object], bytes] = {}, b"{}"  # a page of the loop's, and the same as JSON

    def answer(self, path: str, accept: str, encodings: str = "") -> Answer:
        """Return the answer to a GET of `path` by a client that accepts types `accept`, packed as in `encodings`."""
        match path.split("?")[0]:
            case "/metrics":
                return self._metrics(accept)
            case "/livez":
                age_s = self._pulse.age_s
                alive = age_s < self._stalled_after_s
                return Answer(200 if alive else 503, TEXT, f"the loop turned {age_s:.1f} s ago\n".encode())
            case "/readyz":
                page = self._status()
                ready = bool(page["ready"])
                return Answer(200 if ready else 503, TEXT, b"ready\n" if ready else f"{page['reason']}\n".encode())
            case "/api/status":
                return Answer(200, JSON, self._status_json())
            case "/" if wants_html(accept):
                return self._assets.index(encodings)
            case "/":
                text = json.dumps(self._status(), indent=2) + "\n"
                return Answer(200, TEXT, text.encode(), (("Vary", "Accept"),))
            case asked if asked.startswith(PREFIX):
                return self._assets.answer(asked, encodings)
            case _:
                answer = self._api.answer(path) if self._api else None
                return answer or failure(path, 404, THERE_ARE)

    def _status_json(self) -> bytes:
        """Return the loop's page, which is replaced as a whole: one that was told before need not be written again."""
        page = self._status()
        if page is not self._told[0]:
            self._told = page, json.dumps(page).encode()
        return self._told[1]

    def _metrics(self, accept: str) -> Answer:
        try:
            encode, content_type = choose_encoder(accept)
            return Answer(200, content_type, encode(self._registry))
        except (TypeError, ValueError):  # prometheus-client 0.26 compares a version that is no number with its own
            encode, content_type = choose_encoder("")
            return Answer(200, content_type, encode(self._registry))
