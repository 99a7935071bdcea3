"""An adoption is the same after a trip through the changelog, and damage is told in a sentence."""

import math
from dataclasses import replace

import numpy as np
import pytest

from pipeline.arrays import AnyFloats
from pipeline.learning.adoption import Adoption
from pipeline.learning.fine_tune import JUDGED_OVER, Optimiser, Schedule, fine_tune
from pipeline.learning.windows import Windows
from pipeline.method import Cell
from pipeline.network.cells import states
from pipeline.network.checkpoint import saved, tensors_of
from pipeline.network.model import Network, Shape

SCHEDULE = Schedule()
SHAPES = [Shape(cell, 5, 8, layers, (1, 3)) for cell in ("gru", "lstm", "rnn_tanh") for layers in (1, 2)]  # type: ignore[arg-type]


def sample(shape: Shape, seed: int) -> Windows:
    rng = np.random.default_rng(seed)
    sizes = (8, 4, shape.inputs), (8, 4, len(shape.horizons)), (4, shape.layers, states(shape.cell), shape.hidden_size)
    return Windows(*(rng.normal(size=s).astype(np.float32) for s in sizes), np.zeros(4, np.int64))


def learnt(shape: Shape, updates: int = 3, base: int = 0) -> Adoption:
    network = Network(shape, seed=3)
    network.updates = base
    adoption = Adoption.base(network, 5)
    weights, optimiser = adoption.weights, adoption.optimiser
    for seed in range(updates):
        weights, optimiser, _ = fine_tune(shape, weights, optimiser, sample(shape, seed), SCHEDULE)
    return Adoption(weights, replace(optimiser, factor=1 / 3), 2**53 - 1, True, 1_700_000_000_123)


def bits(adoption: Adoption) -> dict[str, bytes]:
    tensors = dict(adoption.weights)
    if adoption.optimiser.state is not None:
        tensors["optimiser"] = adoption.optimiser.state
    return {name: tensor.tobytes() for name, tensor in tensors.items()}


def numbers(adoption: Adoption) -> tuple[object, ...]:
    o = adoption.optimiser
    return o.steps, o.updates, o.factor, adoption.trained_through, adoption.rolled_back, adoption.made_ms


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: f"{s.cell} of {s.layers}")
def test_an_adoption_comes_back_to_the_bit(shape: Shape) -> None:
    adoption = learnt(shape)
    back = Adoption.load(adoption.dump())
    assert bits(back) == bits(adoption)
    assert len(bits(back)["optimiser"]) == 3 * sum(4 * w.size for w in Network(shape).weights.values())
    assert numbers(back) == numbers(adoption) == (3, 3, 1 / 3, 2**53 - 1, True, 1_700_000_000_123)
    assert back.dump() == adoption.dump()


@pytest.mark.parametrize("updates", [3, 4, 5])  # after which each turn is once the next
@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: f"{s.cell} of {s.layers}")
def test_one_of_two_chains_comes_back_to_the_bit_and_goes_on(shape: Shape, updates: int) -> None:
    adoption = learnt(shape, updates, base=7)
    back = Adoption.load(adoption.dump())
    assert back.optimiser.judged == adoption.optimiser.judged
    assert back.optimiser.judged[0] == (1 if updates == 3 else 2)
    assert bits(back) == bits(adoption)
    assert back.dump() == adoption.dump()
    assert len(bits(back)["optimiser"]) == 5 * sum(4 * w.size for w in Network(shape).weights.values())
    assert len(adoption.dump()) < 1.6 * len(learnt(shape).dump())
    results = [fine_tune(shape, a.weights, a.optimiser, sample(shape, 9), SCHEDULE) for a in (adoption, back)]
    assert bits(Adoption(*results[0][:2])) == bits(Adoption(*results[1][:2])) != bits(adoption)


def test_what_two_chains_are_judged_by_is_refused_where_it_does_not_fit() -> None:
    some = tensors_of(learnt(SHAPES[0], base=7).dump())
    judged = some["judged"]
    for other in (judged[:-1], judged.astype(np.float32), judged[None]):
        assert "no adoption" in refused(saved(some | {"judged": other}))
    for value in (-1.0, JUDGED_OVER + 1.0, math.nan, math.inf):
        assert "cannot be" in refused(saved(some | {"judged": np.full_like(judged, value)}))
    assert "the optimiser has others" in refused(saved(tensors() | {"judged": judged}))
    del some["judged"]
    assert "the optimiser has others" in refused(saved(some))


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: f"{s.cell} of {s.layers}")
def test_learning_goes_on_from_a_loaded_one_as_if_nothing_had_happened(shape: Shape) -> None:
    adoption = learnt(shape)
    back = Adoption.load(adoption.dump())
    results = [fine_tune(shape, a.weights, a.optimiser, sample(shape, 9), SCHEDULE) for a in (adoption, back)]
    assert results[0][2] == results[1][2]
    assert bits(Adoption(*results[0][:2])) == bits(Adoption(*results[1][:2])) != bits(adoption)


def test_the_base_has_no_optimiser_and_is_no_view_of_the_network() -> None:
    network = Network(SHAPES[0], seed=3)
    base, before = Adoption.base(network, 7), network.digest()
    network.load(Network(SHAPES[0], seed=4).dump())
    other = Network(SHAPES[0], seed=5)
    other.take(base.weights)
    assert other.digest() == before != network.digest()
    back = Adoption.load(base.dump())
    assert bits(back) == bits(base)
    assert back.optimiser == Optimiser.blank()
    assert numbers(back) == (0, 0, 1.0, 7, False, 0)


def test_what_is_not_finite_comes_back_too_and_is_the_networks_to_refuse() -> None:
    adoption = learnt(SHAPES[0])
    bad = replace(adoption, weights={k: np.full_like(v, math.nan) for k, v in adoption.weights.items()})
    back = Adoption.load(bad.dump())
    with pytest.raises(ValueError, match="the weights are not finite"):
        Network(SHAPES[0]).take(back.weights)


# ---- damage


def refused(data: bytes) -> str:
    with pytest.raises(ValueError, match=r"^the weights ") as caught:
        Adoption.load(data)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def tensors() -> dict[str, AnyFloats]:
    return tensors_of(learnt(SHAPES[0]).dump())


def without(*gone: str) -> bytes:
    """An adoption with some of its tensors missing."""
    some = {k: v for k, v in tensors().items() if not k.startswith(gone)}
    assert len(some) < len(tensors())
    return saved(some)


def test_bytes_that_are_cut_off_anywhere_are_refused() -> None:
    data = learnt(SHAPES[0]).dump()
    for end in (0, 1, 7, 8, 9, 100, len(data) // 2, len(data) - 1):
        assert "cannot be read" in refused(data[:end])
    assert "cannot be read" in refused(data + b"\0")


def test_bytes_of_something_else_are_refused() -> None:
    for data in (b"nonsense", b"\0" * 1000, b'{"weights": 1}'):
        assert "cannot be read" in refused(data)
    assert "no adoption" in refused(Network(SHAPES[0]).dump()), "a checkpoint has weights and no numbers"


def test_a_header_with_any_wrong_bit_is_refused() -> None:
    """By the network, where it is in the name of a weight."""
    network = Network(SHAPES[0])
    data = learnt(SHAPES[0]).dump()
    header = 8 + int.from_bytes(data[:8], "little")
    for at in range(0, header, 3):
        damaged = bytearray(data)
        damaged[at] ^= 1 << at % 7
        with pytest.raises(ValueError, match=r"."):
            network.check(Adoption.load(bytes(damaged)).weights)


@pytest.mark.parametrize("number", ["steps", "updates", "factor", "trained_through", "rolled_back", "made_ms"])
def test_a_missing_number_is_refused(number: str) -> None:
    assert "numbers are missing" in refused(without(f"number/{number}"))
    some = tensors()
    some["number/more"] = some[f"number/{number}"]
    assert "no adoption" in refused(saved(some))


@pytest.mark.parametrize(
    "gone",
    ["rnn.", "rnn.weight_hh_l0", "head.bias"],
)
def test_a_missing_weight_is_refused(gone: str) -> None:
    assert "the optimiser has others" in refused(without(gone))


def test_an_optimiser_of_other_weights_is_refused() -> None:
    some = tensors()
    state = some["optimiser"]
    for other in (state[:2], state[:, 1:], state.flatten(), state.T, np.zeros(0, np.float32)):
        assert "the optimiser has others" in refused(saved(some | {"optimiser": other}))


def test_all_cells_are_here() -> None:
    cells: set[Cell] = {shape.cell for shape in SHAPES}
    assert {states(cell) for cell in cells} == {1, 2}


@pytest.mark.parametrize("number", ["steps", "updates", "trained_through", "made_ms"])
def test_a_number_that_no_count_and_no_offset_can_be_is_refused(number: str) -> None:
    some = tensors()
    some[f"number/{number}"] = np.array(1e300)
    assert "cannot be" in refused(saved(some))
