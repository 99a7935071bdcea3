"""One step and a whole window are the same function; weights come and go as bytes; a row's bits are its own."""

import numpy as np
import pytest
import safetensors.torch
import torch

from pipeline.arrays import Floats32
from pipeline.method import Cell, Method
from pipeline.network.cells import states
from pipeline.network.checkpoint import saved, tensors_of
from pipeline.network.model import SMALL, Network, Shape, same_bits
from pipeline.network.torch_layers import CHUNK, TorchLayers
from tests.rigs.shard_rigs import restless

CELLS: list[Cell] = ["rnn_tanh", "rnn_relu", "gru", "lstm"]
T, B = 30, 5


def method_of(cell: Cell, layers: int = 1, horizons: tuple[int, ...] = (1, 3, 6), size: int = 16) -> Method:
    return Method(cell=cell, layers=layers, hidden_size=size, horizons=horizons)


def weights(data: bytes) -> dict[str, list[float]]:
    """Not the bytes themselves: safetensors writes its header in any order."""
    return {name: tensor.ravel().tolist() for name, tensor in tensors_of(data).items()}


def given(shape: Shape, rows: int, seed: int = 0) -> tuple[Floats32, Floats32]:
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(rows, shape.layers, states(shape.cell), shape.hidden_size))
    return rng.normal(size=(T, rows, shape.inputs)).astype(np.float32), hidden.astype(np.float32)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize(("cell", "size"), [*((cell, 16) for cell in CELLS), ("gru", SMALL + 1)])
def test_steps_over_a_window_are_the_forward_pass_over_it(cell: Cell, size: int, layers: int) -> None:
    """To 1e-5: another order of the same float32 sums."""
    network = restless(method_of(cell, layers, size=size))
    x, hidden = given(network.shape, B)
    torchs = TorchLayers(cell, states(cell), dict(network.weights))
    changes, last = torchs(torch.from_numpy(x), torch.from_numpy(hidden))
    state = hidden
    for t in range(T):
        change, state = network.step(x[t], state)
        np.testing.assert_allclose(change, changes[t].detach().numpy(), rtol=1e-5, atol=1e-5)
    _, unrolled, _ = network.vjp(x, hidden)
    for end in (last.detach().numpy(), unrolled):
        np.testing.assert_allclose(state, end, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("cell", CELLS)
def test_a_new_network_says_no_change_but_remembers(cell: Cell) -> None:
    network = Network(Shape.of(method_of(cell)), seed=5)
    x, hidden = given(network.shape, B)
    change, after = network.step(x[0], hidden)
    assert change.shape == (B, 3)
    assert (change == 0).all()
    assert not np.array_equal(after, hidden)


@pytest.mark.parametrize("cell", CELLS)
def test_a_rows_step_has_the_same_bits_in_calls_of_any_size(cell: Cell) -> None:
    assert same_bits(Shape.of(Method(cell=cell)))


def test_more_rows_than_a_chunk_are_the_same_rows() -> None:
    network = restless(method_of("lstm", 2))
    x, hidden = given(network.shape, CHUNK + 3)
    change, after = network.step(x[0], hidden)
    for lo, hi in ((0, 1), (CHUNK - 2, CHUNK + 3), (CHUNK + 2, CHUNK + 3)):
        part = network.step(x[0, lo:hi], hidden[lo:hi])
        assert np.array_equal(part[0], change[lo:hi])
        assert np.array_equal(part[1], after[lo:hi])


def test_the_callers_hidden_state_is_left_alone() -> None:
    network = restless(method_of("lstm", 2))
    x, hidden = given(network.shape, 9)
    before = hidden.copy()
    network.step(x[0], hidden)
    assert np.array_equal(hidden, before)


@pytest.mark.parametrize("cell", CELLS)
def test_weights_survive_the_way_through_bytes(cell: Cell) -> None:
    one, other = restless(method_of(cell, 2), seed=1), restless(method_of(cell, 2), seed=2)
    x, hidden = given(one.shape, B)
    assert not np.array_equal(other.step(x[0], hidden)[0], one.step(x[0], hidden)[0])
    other.load(one.dump())
    assert all(np.array_equal(a, b) for a, b in zip(other.step(x[0], hidden), one.step(x[0], hidden), strict=True))
    assert weights(other.dump()) == weights(one.dump())


def test_weights_that_do_not_fit_are_refused_and_change_nothing() -> None:
    network = restless(method_of("gru"))
    before = network.dump()
    tensors = tensors_of(before)
    bad = {
        "cannot be read": before[:-5],
        "another shape": saved(restless(method_of("lstm")).weights),
        "cell = lstm": restless(method_of("lstm")).dump(),
        "horizons = 1,2": restless(method_of("gru", horizons=(1, 2))).dump(),
        "not finite": saved(tensors | {"head.bias": np.array([0.0, np.nan, 1.0])}),
    }
    for why, data in [*bad.items(), ("cannot be read", b""), ("cannot be read", b"weights")]:
        with pytest.raises(ValueError, match=why):
            network.load(data)
    assert weights(network.dump()) == weights(before)


def test_weights_of_another_precision_are_taken_where_float32_holds_them() -> None:
    """Also such as numpy does not have."""
    network = restless(method_of("gru"))
    wide = {name: weight.astype(np.float64) for name, weight in network.weights.items()}
    short = {name: torch.from_numpy(weight).bfloat16() for name, weight in wide.items()}
    network.load(safetensors.torch.save(short))
    assert weights(network.dump())["head.bias"] == short["head.bias"].float().tolist()
    with pytest.raises(ValueError, match="not finite"):
        network.take(wide | {"head.bias": wide["head.bias"] * 1e300})
    with pytest.raises(ValueError, match=r"'head\.bias' holds I64, not one of F64, F32, F16 and BF16"):
        network.load(safetensors.torch.save(short | {"head.bias": torch.arange(3)}))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("seed", [0, 1, 7, 2**31 + 5, 2**40 + 3])
def test_first_weights_are_those_that_torch_draws(cell: Cell, seed: int) -> None:
    shape = Shape.of(method_of(cell, 2, size=24))
    generator = torch.Generator().manual_seed(seed)
    for name, weight in Network(shape, seed).weights.items():
        bound = 0.0 if name.startswith("head") else 24**-0.5
        drawn = torch.empty(weight.shape).uniform_(-bound, bound, generator=generator)
        assert np.array_equal(weight, drawn.numpy())


def test_a_network_of_torchs_layers_leaves_no_trace_in_its_generator() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    Network(Shape.of(Method(cell="lstm")), seed=7)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("layers", "hidden_size"), [(1, 32), (3, 5)])
def test_the_number_of_weights_follows_from_the_method(cell: Cell, layers: int, hidden_size: int) -> None:
    method = Method(cell=cell, layers=layers, hidden_size=hidden_size, horizons=(1, 7))
    network = Network(Shape.of(method))
    assert method.weights == sum(weight.size for weight in network.weights.values())
