"""The read-only API below /api/streams and /api/history: parameters in, JSON out, each answer kept for a second."""

import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes

import numpy as np
import orjson

from worker.http.answer import JSON, Answer, failure
from worker.http.experts import Experts
from worker.http.streams import SORTS, Json, detailed, listed
from worker.observe.hour import BEHIND, COUNTS, EVERY_S, Hour
from worker.observe.metrics import PHASES, Metrics
from worker.observe.recent import Overview

KEPT_S = 1.0
MOST_KEPT = 64
MOST_BUSY = 0.2  # of a core for new answers: the same thread answers /livez
MOST_STREAMS, STREAMS = 500, 50  # of one answer: at most, and where no limit is given
MOST_POINTS, POINTS = 2000, 200
STREAM = "/api/streams/"


class _NoAnswerError(Exception):
    """Why there is no such answer: a status and a sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status, self.sentence = status, sentence


class Api:
    """Answers about streams and the last hour; used by one thread."""

    def __init__(self, metrics: Metrics, hour: Hour, experts: Experts, status: Callable[[], Mapping[str, Any]]) -> None:
        """`status` returns the loop's page."""
        self._metrics, self._recent, self._method = metrics, metrics.recent_streams, metrics.method
        self._hour, self._experts = hour, experts
        self._status = status
        self._kept: dict[str, tuple[float, Answer]] = {}  # by target, when made; many clients ask for the same
        self._seen: tuple[float, Overview] | None = None  # when, and what there was of all streams
        self._rests_until = 0.0  # what it has spent on answers is paid back by then

    def answer(self, target: str) -> Answer | None:
        """Return the answer to a GET of `target`, path and query as they came; None where the path is not the API's."""
        now = time.monotonic()
        made, answer = self._kept.get(target, (-np.inf, None))
        if answer is None or now - made >= KEPT_S:
            if self._rests_until - now > KEPT_S and target.startswith("/api/"):
                return failure(target, 503, "there are too many different questions: ask again in a second")
            began_s = time.thread_time()  # of CPU: on a busy machine an answer takes longer and costs no more
            answer = self._new_answer(target)
            self._rests_until = max(self._rests_until, now) + (time.thread_time() - began_s) / MOST_BUSY
            if answer is not None:
                if len(self._kept) >= MOST_KEPT:
                    self._kept.clear()
                self._kept[target] = now, answer
        return answer

    def _new_answer(self, target: str) -> Answer | None:
        path, _, query = target.partition("?")
        try:
            if path == "/api/history":
                _parameters(query)
                page = self._history()
            elif path == "/api/streams":
                page = self._streams(query)
            elif path.startswith(STREAM):
                page = self._stream(_text(path.removeprefix(STREAM)), query)
            else:
                return None
        except _NoAnswerError as fault:
            return failure(path, fault.status, fault.sentence)
        return Answer(200, JSON, orjson.dumps(page, option=orjson.OPT_SERIALIZE_NUMPY))

    def _streams(self, query: str) -> Json:
        given = _parameters(query, "sort", "search", "limit")
        self._must_remember()
        sort = given.get("sort", "worst")
        if sort not in SORTS:
            raise _NoAnswerError(400, f"sort is one of {', '.join(SORTS)}")
        limit = _number(given, "limit", STREAMS, MOST_STREAMS)
        page = self._status()
        holds = {"partitions": [*map(int, page.get("partitions", ()))], "of": page.get("input_partitions")}
        return {"holds": holds, **listed(self._recent, self._overview(), sort, given.get("search", ""), limit)}

    def _overview(self) -> Overview:
        now = time.monotonic()
        if self._seen is None or now - self._seen[0] >= KEPT_S:
            self._seen = now, self._recent.overview()
        return self._seen[1]

    def _stream(self, name: str, query: str) -> Json:
        given = _parameters(query, "points", "horizon")
        self._must_remember()
        points = _number(given, "points", POINTS, MOST_POINTS)
        pasts = self._recent.pasts(name)
        if not pasts:
            raise _NoAnswerError(
                404,
                "this worker remembers no stream of that name: it has not been forecast since the worker started, "
                "another worker has its partition, or history.streams is too small for all",
            )
        horizons = self._method.horizons
        if "horizon" in given:
            horizons = tuple(h for h in horizons if str(h) == given["horizon"])
            if not horizons:
                raise _NoAnswerError(400, f"horizon is one of {', '.join(map(str, self._method.horizons))}")
        said = self._experts.ask(pasts[0].partition, name)
        return detailed(pasts[0], [past.partition for past in pasts], self._method, points, horizons, said)

    def _must_remember(self) -> None:
        if not self._recent.streams:
            raise _NoAnswerError(
                404, "history.streams is 0, so this worker remembers no stream: set it, such as to 1000"
            )

    def _history(self) -> Json:
        samples, method = self._hour.samples, self._method
        plain = {name: samples[name].copy() for name in ("time_ms", "seconds", *COUNTS)}
        latency = {name: samples["latency"][:, i].copy() for i, name in enumerate(("p50", "p99"))}
        behind = {name: samples[name].round(3) for name in BEHIND}
        journal = self._metrics.journal
        horizons = [(j, str(h)) for j, h in enumerate(method.horizons)]
        return {
            "every_s": EVERY_S,
            "levels": method.band_levels,
            "times": plain.pop("time_ms"),
            **plain,
            "latency_s": latency,
            "lag": {
                "records": behind["lag"],
                "worst_records": behind["worst_lag"],
                "worst_s": behind["worst_lag_s"],
            },
            "snapshot_age_s": {"newest": behind["newest_image_s"], "oldest": behind["oldest_image_s"]},
            "replay_tail": behind["worst_tail"],
            "skill": {h: samples["skill"][:, j].round(4) for j, h in horizons},
            "coverage": {
                h: {repr(level): samples["coverage"][:, j, k].round(4) for k, level in enumerate(method.band_levels)}
                for j, h in horizons
            },
            "phases": {phase: samples["phases"][:, i].round(6) for i, phase in enumerate(PHASES)},
            "marks": [mark._asdict() for mark in journal.marks],
            "errors": [trouble._asdict() for trouble in journal.errors],
        }


def _text(encoded: str) -> str:
    """Return what percent-encoded UTF-8 stands for. Raises _NoAnswerError."""
    try:
        return unquote_to_bytes(encoded.encode("latin-1")).decode()
    except UnicodeDecodeError as error:
        raise _NoAnswerError(400, "the name is no UTF-8: percent-encode its bytes, a slash as %2F") from error


def _parameters(query: str, *names: str) -> dict[str, str]:
    """Return the parameters of a query. Raises _NoAnswerError where one is not among `names`, or comes twice."""
    try:
        text = query.encode("latin-1").decode()
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=10)
    except ValueError as error:
        raise _NoAnswerError(
            400, "the query cannot be read: at most 10 parameters, in percent-encoded UTF-8"
        ) from error
    given = dict(pairs)
    if len(given) < len(pairs) or not given.keys() <= {*names}:
        known = f"there are {', '.join(names)}, each once" if names else "there are none"
        raise _NoAnswerError(400, f"the query has parameters that are not known: {known}")
    return given


def _number(given: dict[str, str], name: str, default: int, most: int) -> int:
    text = given.get(name, str(default))
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and 1 <= int(text) <= most):
        raise _NoAnswerError(400, f"{name} is a whole number from 1 to {most}")
    return int(text)
