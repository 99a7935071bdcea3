"""A level that moves and stays takes the season, the means and the labels with it; one that does not is moved back."""

from collections.abc import Sequence

import numpy as np
import pytest

from pipeline.arrays import Floats
from pipeline.batch import Batch
from pipeline.forecasts import Forecasts
from pipeline.method import Method
from pipeline.network.model import Network, Shape
from pipeline.shard import Shard

METHOD = Method(horizons=(1, 6, 24), hidden_size=8)
N, AT, HOUR_MS = 700, 500, 3_600_000
JUMP = 100.0
HOURS = np.arange(N)
CALM = 3 * np.sin(2 * np.pi * HOURS / 24) + 0.1 * np.random.default_rng(1).normal(size=N)


def folded(value: Floats, step_ms: int = HOUR_MS) -> tuple[Shard, Forecasts]:
    """The shard after these values, and its forecasts."""
    n = len(value)
    ms = 1_600_300_800_000 + np.arange(n) * step_ms
    shard = Shard(METHOD, Network(Shape.of(METHOD)), 0, {})
    offsets, nothing = np.arange(n), np.zeros((n, 0))
    return shard, shard.advance(Batch(offsets, ["s"] * n, ms, ms, value, nothing, n, n, np.zeros(n, np.int64)))


def stays(at: Sequence[int]) -> Floats:
    """A level that moves at each of these events, up and down by turns."""
    return CALM + sum(JUMP * (-1) ** k * (a <= HOURS) for k, a in enumerate(at))


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
    unit = made.error_scale[AT + 10, 2]
    assert made.error[AT + 10, 2] * unit == pytest.approx(value[AT + 10] - made.mean[AT - 14, 2], rel=1e-5)
    assert made.naive[AT + 10, 2] * unit == pytest.approx(value[AT + 10] - value[AT - 14], rel=1e-5)
    assert not made.inside[AT + 10, 2].any()


@pytest.mark.parametrize("before", [[], [260, 380]])  # with them the level moves at the suspect itself
@pytest.mark.parametrize(
    "values", [[JUMP], [JUMP, JUMP / 2], JUMP * 0.8 ** np.arange(40), [JUMP] * 10, [-JUMP, JUMP, -JUMP]]
)
def test_after_an_excursion_the_season_is_where_it_was(before: list[int], values: list[float]) -> None:
    row = folded(excursion(*values) + stays(before) - CALM)[0].table.rows[0]
    profile = row["slot_last"] + row["slot_apart"]
    today = (1_600_300_800_000 // HOUR_MS + np.arange(N - 24, N)) % 24
    assert np.abs(profile[today] - CALM[-24:]).max() < 15
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


def test_levels_stay_where_the_day_has_fine_parts() -> None:
    for step_ms, moves in ((HOUR_MS, True), (HOUR_MS // 2, False)):
        shard, _ = folded(stays([AT])[: AT + 6], step_ms)
        assert bool(shard.table.rows[0]["moved"].any()) == moves
