"""What experts said and weigh, read back from a row, is what the forecast was made of."""

import numpy as np
import pytest

from pipeline.explanation import opinions
from pipeline.forecasts import Forecasts
from pipeline.method import Method
from pipeline.parts.experts import part_names
from pipeline.shard import Shard
from tests.rigs.shard_rigs import SETTINGS, Record, fold, restless

START_MS = 1_600_000_000_000
METHODS = [Method(), Method(profile="lite")]


def folded(method: Method, events: int) -> tuple[Shard, Forecasts]:
    """A shard of one stream with a season, and its forecasts."""
    random = np.random.default_rng(1)
    shard = Shard(method, restless(method), 0, SETTINGS, parts=True)
    values = 50 + 10 * np.sin(np.arange(events) * 2 * np.pi / 24) + random.normal(size=events)
    times = [START_MS + i * 3_600_000 for i in range(events)]
    records = [Record(i, "s", times[i], times[i], float(value)) for i, value in enumerate(values)]
    return shard, fold(shard, records)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.profile)
@pytest.mark.parametrize("events", [1, 30, 400])
def test_weights_times_forecasts_are_the_mean_that_was_published(method: Method, events: int) -> None:
    shard, forecasts = folded(method, events)
    row = shard.table.rows[0]
    said = opinions(row, method)
    assert said.names[0] == "last_value"
    assert {"seasonal", "profile", "network"} <= {*said.names}
    np.testing.assert_allclose(said.forecasts[:, 0], forecasts.value[-1])
    np.testing.assert_allclose(said.weights.sum(1), 1)
    mixed = (said.weights * said.forecasts).sum(1)
    place = method.pending_start[:-1] + (events - 1) % method.horizon_array
    tolerance = 0.1 if method.profile == "lite" else 1e-3
    unit = row["pending_unit"][place]
    withheld = row["mixture_withheld"][place] != 0
    assert (abs(mixed - forecasts.mean[-1])[~withheld] <= tolerance * unit[~withheld] + 1e-9).all()
    assert withheld.sum() < len(withheld) or events == 30, "the guard may be at work early"


def test_an_expert_that_is_mixed_as_it_is_said_what_the_shard_publishes_of_it() -> None:
    method = METHODS[0]
    shard, forecasts = folded(method, 400)
    row = shard.table.rows[0]
    said = opinions(row, method)
    own = forecasts.parts[-1, :, part_names(method).index("seasonal")]
    np.testing.assert_allclose(said.forecasts[:, said.names.index("seasonal")], own, atol=1e-3 * row["scale"].max())
    assert abs(own - forecasts.value[-1]).max() > 1e-2, "it moves"
