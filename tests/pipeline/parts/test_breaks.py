"""A level that moves and stays takes the season, the means and the labels with it; one that does not is moved back."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from pipeline.arrays import Floats, Ints
from pipeline.batch import Batch
from pipeline.forecasts import Forecasts
from pipeline.method import Method
from pipeline.network.model import Network, Shape
from pipeline.shard import Shard

METHOD = Method(hidden_size=8)
N, AT, HOUR_MS = 700, 500, 3_600_000
BEGIN_MS = 1_600_297_200_000  # an hour before the first event
JUMP = 100.0
HOURS = np.arange(N)
CALM = 3 * np.sin(2 * np.pi * HOURS / 24) + 0.1 * np.random.default_rng(1).normal(size=N)


def folded(value: Floats, step_ms: int | Ints = HOUR_MS, method: Method = METHOD) -> tuple[Shard, Forecasts]:
    """The shard after these values, and its forecasts."""
    n = len(value)
    ms = BEGIN_MS + np.cumsum(np.broadcast_to(step_ms, n))
    shard = Shard(method, Network(Shape.of(method)), 0, {})
    offsets, nothing = np.arange(n), np.zeros((n, 0))
    return shard, shard.advance(Batch(offsets, ["s"] * n, ms, ms, value, nothing, n, n, np.zeros(n, np.int64)))


def stays(at: Sequence[int]) -> Floats:
    """A level that moves at each of these events, up and, by more, down by turns."""
    return CALM + sum(JUMP * (1 + k / 2) * (-1) ** k * (a <= HOURS) for k, a in enumerate(at))


def excursion(*values: float) -> Floats:
    """Calm but for these."""
    return CALM + np.concatenate([np.zeros(AT), values, np.zeros(N - AT - len(values))])


@pytest.mark.parametrize("at", [[AT], [260, 380, AT], [260, 380, AT, AT + 80]])
def test_after_a_jump_that_stays_all_horizons_are_forecast_as_before(at: list[int]) -> None:
    value = stays(at)
    _, made = folded(value)
    for j, h in enumerate(METHOD.horizons):
        known = np.arange(at[-1] + 4, N - h)
        wrong = np.abs(made.mean[known, j] - value[known + h])
        assert wrong.max() < 2, f"{h} ahead"


def test_what_is_scored_and_bands_know_of_the_jump() -> None:
    value = stays([AT])
    _, made = folded(value)
    unit = made.error_scale[AT + 10, -1]
    assert made.error[AT + 10, -1] * unit == pytest.approx(value[AT + 10] - made.mean[AT - 14, -1], rel=1e-5)
    assert made.naive[AT + 10, -1] * unit == pytest.approx(value[AT + 10] - value[AT - 14], rel=1e-5)
    assert not made.inside[AT + 10, -1].any()


@pytest.mark.parametrize("before", [[], [260, 380]])  # with them the level moves at the suspect itself
@pytest.mark.parametrize(
    "values", [[JUMP], [JUMP, JUMP / 2], JUMP * 0.8 ** np.arange(40), [JUMP] * 10, [JUMP] * 40, [-JUMP, JUMP, -JUMP]]
)
def test_after_an_excursion_the_season_is_where_it_was(before: list[int], values: list[float]) -> None:
    value = excursion(*values) + stays(before) - CALM
    row = folded(value)[0].table.rows[0]
    profile = row["slot_last"] + row["slot_apart"]
    today = (BEGIN_MS // HOUR_MS + np.arange(N - 23, N + 1)) % 24
    assert np.abs(profile[today] - value[-24:]).max() < 15
    assert not row["moved"].any()
    assert row["broke_by"] == 0


def test_where_suspects_go_back_up_to_three_are_held_and_then_believed() -> None:
    known = np.zeros(N)
    known[[260, 300, 350, 400]] = JUMP
    for many in (1, 2, 3, 4):
        value = CALM + known
        value[AT : AT + many] += JUMP * (-1.0) ** np.arange(many)
        row = folded(value[: AT + many])[0].table.rows[0]
        counts_as = value[AT - 1] if many < 4 else value[AT + 3]
        assert row["values"][(AT + many - 1) % 24] == counts_as


@pytest.mark.parametrize("after", [5, 15, 24, 40])
def test_a_dropout_soon_after_a_break_is_held_where_spikes_go_back(after: int) -> None:
    value = stays([AT])
    value[[260, 300, 350, 400, 450]] += JUMP
    value[AT + after] -= JUMP
    _, made = folded(value)
    for j, h in enumerate(METHOD.horizons):
        known = np.arange(AT + after, AT + after + 30)
        assert np.abs(made.mean[known, j] - value[known + h]).max() < 5, f"{h} ahead"


def test_runs_of_equal_suspects_are_held_unless_the_last_one_was_a_level() -> None:
    value = stays([AT])
    value[[*range(260, 460, 20), *range(AT + 20, AT + 60, 10)]] += JUMP
    levels = value + JUMP * (HOURS >= AT + 100)
    counts_as = folded(levels[: AT + 102])[0].table.rows[0]["values"][(AT + 101) % 24]
    assert counts_as == levels[AT + 101]
    runs = value + JUMP * np.isin(HOURS, [AT + 100, AT + 101, *range(AT + 110, AT + 160, 10), AT + 170, AT + 171])
    row = folded(runs[: AT + 172])[0].table.rows[0]
    assert row["values"][(AT + 171) % 24] == runs[AT + 169]


def by_last(value: Floats, first: int) -> Floats:
    """(Z,) squared error by the last value's, from some event on."""
    _, made = folded(value)
    ratios = []
    for j, h in enumerate(METHOD.horizons):
        label, last = value[first + h :], value[first:-h]
        ratios.append(((made.mean[first:-h, j] - label) ** 2).sum() / ((last - label) ** 2).sum())
    return np.array(ratios)


def test_a_week_of_two_levels_is_learnt() -> None:
    weekend = np.arange(1_500) % 168 >= 108  # 60 hours
    value = np.where(weekend, 0.0, JUMP) + np.random.default_rng(2).normal(size=1_500)
    assert by_last(value, 900)[2:].max() < 0.3


@pytest.mark.parametrize("spikes", [0.0, JUMP])  # with them jumps are held for three events
def test_what_the_week_before_had_too_is_no_break(spikes: float) -> None:
    value = np.where(HOURS % 168 >= 108, 0.0, JUMP) + np.random.default_rng(2).normal(size=N)
    value[113::20] += spikes
    for n in (281, 341, 449, 509):
        row = folded(value[:n])[0].table.rows[0]
        assert (row["return_share"] > 0.6) == (spikes > 0)  # what a held one took away included
        assert row["broke_by"] == 0


def test_two_levels_by_turns_do_not_move_what_is_remembered() -> None:
    turns = np.arange(1_500) // 61 % 2
    value = np.resize(CALM, 1_500) + JUMP * turns
    assert by_last(value, 700)[-1] < 0.6
    assert folded(value)[0].table.rows[0]["broke_trust"] < 0.7


@pytest.mark.parametrize("many", [4, 10, 40])
def test_a_week_keeps_no_trace_of_an_excursion_with_a_gap(many: int) -> None:
    there = np.r_[0 : AT + many // 2, AT + many // 2 + many : N]
    value = excursion(*[JUMP] * 2 * many)[there]
    row = folded(value, np.diff(there, prepend=-1) * HOUR_MS)[0].table.rows[0]
    hour = np.arange(N - 168, N)
    week = row["week"][(BEGIN_MS // HOUR_MS + 1 + hour - 96) % 168] + row["week_base"]
    assert np.abs(week - CALM[hour]).max() < 2


@pytest.mark.parametrize(
    ("step_ms", "moves"), [(HOUR_MS, True), (41 * 60_000, True), (2_418_000, False), (HOUR_MS // 2, False)]
)
def test_levels_stay_where_the_day_has_fine_parts(step_ms: int, moves: bool) -> None:
    shard, _ = folded(stays([AT])[: AT + 6], step_ms)
    assert bool(shard.table.rows[0]["moved"].any()) == moves


def test_levels_stay_once_the_day_has_fine_parts() -> None:
    steps = np.where(np.arange(AT + 6) < AT - 20, HOUR_MS // 2, HOUR_MS)
    row = folded(stays([AT])[: AT + 6], steps)[0].table.rows[0]
    assert row["fine_parts"] == 48
    assert not row["moved"].any()


@pytest.mark.parametrize(("slots", "at", "moves"), [(24, 250, True), (200, 390, False), (200, 410, True)])
def test_levels_stay_for_two_seasons(slots: int, at: int, moves: bool) -> None:
    method = replace(METHOD, season="events", season_slots=slots)
    shard, _ = folded(stays([at])[: at + 6], method=method)
    assert bool(shard.table.rows[0]["moved"].any()) == moves
