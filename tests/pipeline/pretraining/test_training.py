"""A base learnt on some streams helps others of the kind from their first events on; the same again each time."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.backtest.backtest import Record, backtest
from pipeline.backtest.inline import InlineTrainer
from pipeline.backtest.scoring import Scoring
from pipeline.events import Decoder, Format
from pipeline.learning import fine_tune
from pipeline.network.checkpoint import Checkpoint
from pipeline.network.model import Network, Shape
from pipeline.pretraining import training
from pipeline.pretraining.sequences import Collector, Sequences
from pipeline.pretraining.training import Schedule, State, TrainingError
from pipeline.shard import Shard
from tests.rigs.methods import SMALL

METHOD = SMALL
QUICK = Schedule(steps=24, piece=200, learning_rate=0.02, mean_over=20, warm_up=5, patience=2, epochs=12)
BEGIN_MS, STEP_MS = 1_700_000_000_000, 3_600_000


def waves(seed: int, streams: int = 6, events: int = 300) -> list[Record]:
    """Waves of periods that no season has, each with a phase, a size and a level of its own."""
    rng, t = np.random.default_rng(seed), np.arange(events)
    drawn = rng.uniform((7, 0, 1, -50), (17, 6, 9, 50), (streams, 4))
    values = [level + size * np.sin(2 * np.pi * t / period + phase) for period, phase, size, level in drawn]
    values += rng.normal(0, 0.05, (streams, events)) * drawn[:, 2:3]
    return [
        Record(
            0, f"s{s}", BEGIN_MS + STEP_MS * i, b'{"stream": "s%d", "value": %f, "time": %d}' % (s, values[s][i], now)
        )
        for i in range(events)
        for s, now in ((s, BEGIN_MS + STEP_MS * i) for s in range(streams))
    ]


def learnt_from(records: list[Record]) -> Sequences:
    shard, collector = Shard(METHOD, Network(Shape.of(METHOD)), 0, {}), Collector(METHOD)
    shard.wave.then(collector)
    for _ in backtest(records, [shard], Decoder(Format())):
        pass
    return collector.sequences(0.2)


@pytest.fixture(scope="module")
def data() -> Sequences:
    return learnt_from(waves(1))


def trained(data: Sequences, schedule: Schedule = QUICK, state: State | None = None) -> State:
    network = Network(Shape.of(METHOD))
    state = state or training.begin(network, data)
    while not state.over(schedule):
        state = training.next_epoch(network, data, state, schedule)
    return state


@pytest.fixture(scope="module")
def base(data: Sequences) -> State:
    return trained(data)


def skill_of(checkpoint: bytes | None, records: list[Record]) -> np.ndarray:
    """Of what is published of each stream's events 20 to 150, while it learns."""
    network, scoring = Network(Shape.of(METHOD)), Scoring(METHOD, 20, 150)
    if checkpoint is not None:
        network.load(checkpoint)
    shard = Shard(METHOD, network, 0, {})
    for part in backtest(records, [shard], Decoder(Format()), [InlineTrainer(shard, fine_tune.Schedule())]):
        scoring.take(part.forecasts)
    return np.mean([tally.skill for tally in scoring.tallies.values()], axis=0)


def test_a_base_helps_streams_of_its_kind_from_the_first_events_on(base: State) -> None:
    network, others = Network(Shape.of(METHOD)), waves(2)
    made = Checkpoint(network.named(base.best), {"updates": str(base.best_updates)}).dump()
    cold, warm = skill_of(None, others), skill_of(made, others)
    assert (1 - warm < 0.8 * (1 - cold)).all(), f"{cold} cold, {warm} from the base"


def test_the_same_history_gives_the_same_weights(data: Sequences, base: State) -> None:
    assert np.array_equal(trained(data).best, base.best)
    assert not np.array_equal(trained(data, replace(QUICK, seed=1)).best, base.best)


def test_a_training_that_was_interrupted_ends_as_one_that_was_not(data: Sequences, base: State) -> None:
    half = trained(data, replace(QUICK, epochs=3))
    assert half.epoch == 3
    ended = trained(data, state=half)
    assert (ended.epoch, ended.updates, ended.best_loss) == (base.epoch, base.updates, base.best_loss)
    assert np.array_equal(ended.best, base.best)


def test_the_best_on_held_out_time_is_kept_and_no_better_one_ends_it(data: Sequences, base: State) -> None:
    found = training.score(Network(Shape.of(METHOD)), base.best, data)
    assert found.loss == base.best_loss < training.begin(Network(Shape.of(METHOD)), data).best_loss
    stubborn = trained(data, replace(QUICK, learning_rate=0.0))
    assert (stubborn.epoch, stubborn.best_epoch) == (QUICK.patience, 0)


def test_the_rate_rises_in_the_first_updates_and_falls_in_the_last_epochs(data: Sequences) -> None:
    cooled = replace(QUICK, cool_down=3, epochs=5, warm_up=4, learning_rate=0.8)
    assert [cooled.rate(0, updates) for updates in (1, 2, 3, 4, 5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8])
    assert [cooled.rate(epoch, 100) for epoch in range(5)] == pytest.approx([0.8, 0.8, 0.6, 0.4, 0.2])
    usual, once = replace(QUICK, epochs=1), replace(QUICK, epochs=1, cool_down=3)
    assert not np.array_equal(trained(data, usual).own, trained(data, once).own), "an epoch learns at that rate"


def test_a_score_is_that_of_one_step_after_another(data: Sequences, base: State) -> None:
    network = Network(Shape.of(METHOD))
    found = training.score(network, base.best, data)
    squares: list[list[float]] = [[] for _ in METHOD.horizons]
    for begin, end in zip(data.begins[:-1], data.begins[1:], strict=True):
        hidden = np.zeros((1, 1, 1, METHOD.hidden_size), np.float32)
        for i in range(begin, end):
            change, hidden = network.step(data.inputs[[i]], hidden)
            for j, error in enumerate(change[0] - data.held_out[i]):
                squares[j] += [] if np.isnan(error) else [float(error) ** 2]
    assert found.labels.tolist() == [len(some) for some in squares]
    np.testing.assert_allclose(found.error, [np.mean(some) for some in squares], rtol=1e-4)
    nothing = training.score(network, base.best * 0, data)
    np.testing.assert_allclose(nothing.ratio, 1.0)


def test_a_base_is_fine_tuned_in_two_chains() -> None:
    found = [fine_tune.Optimiser.after(updates) for updates in (0, 7, 5000)]
    assert [bool(optimiser.judged) for optimiser in found] == [False, True, True]
    assert {optimiser.rate(fine_tune.Schedule().learning_rate) for optimiser in found} == {fine_tune.EARLY_MOST}


def test_a_history_too_short_is_refused() -> None:
    with pytest.raises(TrainingError, match="give a longer one"):
        training.begin(Network(Shape.of(METHOD)), learnt_from(waves(1, 1, 3)))
