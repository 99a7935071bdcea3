"""Short steps of the first events: said once, of streams as they typically are, in bounded memory."""

import json

import pytest

from pipeline.decoding.steps import EACH, FEW, MOST_EVENTS, STREAMS, Steps
from pipeline.events import NO_TIMESTAMP, Decoder, Format

START_MS = 1_600_000_000_000


def seen(*step_ms: int, streams: int = 1, events: int = EACH + 1) -> Steps:
    """Streams in turn, whose steps are these, over and over."""
    steps, now = Steps(), START_MS
    for n in range(events):
        steps.take([f"s{s}" for s in range(streams)], [now] * streams)
        now += step_ms[n % len(step_ms)]
    return steps


@pytest.mark.parametrize("step_ms", [(1,), (999,), (1, 0, 0), (60, -60_000, 60_060), (60, 60, 3_600_000)])
def test_steps_below_a_second_are_told_once(step_ms: tuple[int, ...]) -> None:
    steps = seen(*step_ms, events=3 * EACH + 1)
    told = steps.doubt("when")
    assert told is not None
    assert f"steps of {step_ms[0]} ms" in told
    assert "'when' (events.time_field)" in told
    assert "is the unit right?" in told
    assert steps.doubt("when", ended=True) is None


@pytest.mark.parametrize("step_ms", [(1000,), (3_600_000,), (0,), (0, 60_000), (60_000, 60_000, 5)])
def test_longer_steps_duplicates_and_a_few_short_ones_are_no_doubt(step_ms: tuple[int, ...]) -> None:
    assert seen(*step_ms, events=3 * EACH + 1).doubt("when", ended=True) is None


def test_one_fast_stream_among_others_is_no_doubt() -> None:
    steps = seen(60_000, streams=5)
    for n in range(1000):
        steps.take(["fast"], [START_MS + n])
    assert steps.doubt("when", ended=True) is None


def test_of_a_few_nothing_is_said_before_the_end_or_at_all() -> None:
    steps = seen(1, streams=2, events=FEW // 2 + 1)
    assert steps.doubt("when") is None
    assert steps.doubt("when", ended=True) is not None
    assert seen(1, events=FEW).doubt("when", ended=True) is None


def test_nobody_looks_for_ever_nor_remembers_all() -> None:
    steps = seen(1, streams=STREAMS + 50)
    assert len(steps._last) == STREAMS
    assert not steps.open
    steps = Steps()
    names = [f"s{n}" for n in range(MOST_EVENTS)]
    steps.take(names, [START_MS] * MOST_EVENTS)
    assert not steps.open


@pytest.mark.parametrize("form", [Format(), Format(target_fields=("value", "other"))])
def test_a_decoder_looks_at_what_it_decodes(form: Format) -> None:
    decoder = Decoder(form)
    for n in range(EACH + 1):
        bodies = [json.dumps({"stream": "s", "time": START_MS + n, "value": 1, "other": 2}).encode(), b"{"]
        decoder.decode([2 * n, 2 * n + 1], [NO_TIMESTAMP] * 2, [None] * 2, bodies)
    assert "steps of 1 ms" in (decoder.steps.doubt("time") or "")
