"""A checkpoint says what it is for, and what does not fit is refused with what differs."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.method import Method
from pipeline.network.checkpoint import Checkpoint, Misfit, saved
from pipeline.network.model import Network, Shape
from pipeline.parts import features
from tests.rigs.shard_rigs import restless

METHOD = Method(horizons=(1, 6), hidden_size=4)


def test_a_checkpoint_survives_being_written_down() -> None:
    network = restless(METHOD)
    state = {"own": np.arange(5, dtype=np.float32), "numbers": np.array([0.5, 7])}
    one = Checkpoint(network.weights, {"about": "CC0, Müller's", "updates": "70"}, state)
    back = Checkpoint.load(one.dump())
    assert (back.header, back.updates) == (one.header, 70)
    for mine, theirs in ((back.weights, one.weights), (back.training, one.training)):
        assert mine.keys() == theirs.keys()
        assert all(np.array_equal(mine[name], theirs[name]) for name in mine)
    other = Network(Shape.of(METHOD), seed=9)
    other.load(one.dump())
    assert (other.digest(), other.updates) == (network.digest(), 70), "what only a training needs is no weight"


def test_weights_of_another_hand_are_taken_where_their_shapes_fit_and_count_as_learnt() -> None:
    network, other = restless(METHOD), Network(Shape.of(METHOD))
    other.load(saved(network.weights))
    assert (other.digest(), other.updates) == (network.digest(), 1)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"hidden_size": 8}, "it was trained with hidden_size = 4, and here it is hidden_size = 8"),
        ({"cell": "lstm"}, "cell = gru, and here it is cell = lstm"),
        ({"horizons": (1, 7)}, "horizons = 1,6, and here it is horizons = 1,7"),
    ],
)
def test_a_checkpoint_of_another_network_is_refused_with_what_differs(changes: dict[str, object], says: str) -> None:
    with pytest.raises(Misfit, match=says):
        Network(Shape.of(replace(METHOD, **changes))).load(restless(METHOD).dump())  # type: ignore[arg-type]


def test_a_checkpoint_of_more_horizons_gives_the_rows_of_those_that_are_asked_for() -> None:
    much, some = (replace(METHOD, horizons=horizons) for horizons in ((1, 2, 3, 5, 8), (2, 8)))
    from_much = restless(much)
    network = Network(Shape.of(some))
    network.load(from_much.dump())
    for name, weight in from_much.weights.items():
        assert np.array_equal(network.weights[name], weight[[1, 4]] if name.startswith("head.") else weight), name
    found = Checkpoint.load(from_much.dump())
    damaged = Checkpoint({**found.weights, "head.bias": found.weights["head.bias"][:-1]}, found.header)
    with pytest.raises(ValueError, match="has not one row of weights for each of 5 horizons"):
        network.load(damaged.dump())
    with pytest.raises(Misfit, match="horizons = 1,2,3,5,8, and here it is horizons = 2,9"):
        Network(Shape.of(replace(METHOD, horizons=(2, 9)))).load(from_much.dump())


@pytest.mark.parametrize("updates", ["", "-1", "x", "1e3", "9" * 30])
def test_a_number_of_updates_that_is_none_counts_as_none_told(updates: str) -> None:
    assert Checkpoint({}, {"updates": updates}).updates == 0


def test_every_input_has_a_name_of_its_own() -> None:
    assert len(set(features.NAMES)) == len(features.NAMES) == features.WIDTH + features.TIMES == METHOD.inputs
