"""The recurrent network: one set of weights per shard, one hidden state per stream.

It predicts, for all horizons at once, the change from the last value in units of the stream's horizon scales. The head
starts at zero, so an untrained network forecasts no change. `step` and `vjp` are the same function of the same weights:
one timestep for many streams, and a whole window for training.

Shapes: B rows, T timesteps, F inputs, L layers, S state tensors (LSTM: h and c, else 1), H hidden size, Z horizons.
"""

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipeline.arrays import AnyFloats, Field, Floats32
from pipeline.compiled import kernel
from pipeline.method import Cell, Method
from pipeline.network import unrolled
from pipeline.network.cells import CELLS, states
from pipeline.network.checkpoint import Checkpoint
from pipeline.parts.part import Part

if TYPE_CHECKING:
    from pipeline.network.torch_layers import TorchLayers

SMALL = 64  # hidden size up to which a GRU is our own loops: faster than torch for few rows, slower for hundreds

Weights = Mapping[str, AnyFloats]  # by name, as torch's `state_dict` has them


def fields(method: Method) -> list[Field]:
    """The hidden state, packed (L, S, H)."""
    return [("hidden", "f4", (method.layers, states(method.cell), method.hidden_size))]


PART = Part(fields)  # its step needs the shard's weights: wave.py


@dataclass(frozen=True)
class Shape:
    """What fixes the weights' shapes; a checkpoint carries it."""

    cell: Cell
    inputs: int
    hidden_size: int
    layers: int
    horizons: tuple[int, ...]

    @classmethod
    def of(cls, method: Method) -> "Shape":
        """The shape that a method needs."""
        return cls(method.cell, method.inputs, method.hidden_size, method.layers, method.horizons)

    @property
    def unrolled(self) -> bool:
        """Whether its layers are our own loops, so that torch need not be loaded."""
        return CELLS[self.cell].unrolled and self.hidden_size <= SMALL

    def words(self) -> dict[str, str]:
        """As a checkpoint's header has it."""
        words = {name: str(getattr(self, name)) for name in ("cell", "inputs", "hidden_size", "layers")}
        return words | {"horizons": ",".join(map(str, self.horizons))}


class Network:
    """Cells and a linear head. Weights from `seed`; `load` replaces them."""

    def __init__(self, shape: Shape, seed: int = 0) -> None:
        self.shape = shape
        self.updates = 0  # that made the weights it began with
        self._arrays = _first_weights(shape, seed)
        ends = np.cumsum([array.size for array in self._arrays.values()]).tolist()
        self._places = {n: slice(end - a.size, end) for (n, a), end in zip(self._arrays.items(), ends, strict=True)}
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        self._layers = [[self._arrays[f"rnn.{name}_l{n}"] for name in names] for n in range(shape.layers)]
        self._bias = self._arrays["head.bias"]
        self._torch = None if shape.unrolled else _torch_layers(shape.cell, self._arrays)
        self._prepare()

    def _prepare(self) -> None:
        """What the loops have transposed; torch has the weights as they are, and these change in place."""
        if self._torch is None:
            self._loops = [[np.ascontiguousarray(weight.T) for weight in layer] for layer in self._layers]
        self._head = np.ascontiguousarray(self._arrays["head.weight"].T)  # (H, Z)

    def vjp(self, x: Floats32, hidden: Floats32) -> tuple[Floats32, Floats32, Callable[[Floats32], Floats32]]:
        """Move over a window: x (T, B, F), hidden (B, L, S, H) at its start -> change (T, B, Z), hidden at its end.

        And a function from the loss by each change (T, B, Z) to that by each weight (P,), in the order of `flat`. The
        function, a vector-Jacobian product, as JAX names it, holds until other weights are put: then it is wrong.
        """
        if self._torch is not None:
            return self._torch.vjp(x, hidden)
        passes, after = [], np.empty_like(hidden)
        for layer, weights in enumerate(self._loops):
            h, kept = unrolled.layer(x, hidden[:, layer, 0], weights)
            passes.append((x, h, kept))
            x, after[:, layer, 0] = h[1:], h[-1]
        out, z = x.reshape(-1, self.shape.hidden_size), len(self.shape.horizons)
        change = np.empty((len(out), z), np.float32)
        read_out(out, self._head, self._bias, change)

        def back(d_change: Floats32) -> Floats32:
            by = d_change.reshape(-1, z)
            by_weight = [by.T @ out, by.sum(0)]
            above = self._arrays["head.weight"]  # of what makes `by` to the state below it
            for (x, h, kept), (w_ih, w_hh, *_) in zip(reversed(passes), reversed(self._layers), strict=True):
                by, own = unrolled.gradient(x, h, kept, (by @ above).reshape(h[1:].shape), w_hh)
                by_weight, above = own + by_weight, w_ih
            return np.concatenate([d.ravel() for d in by_weight])

        return change.reshape(*x.shape[:2], z), after, back

    def step(self, x: Floats32, hidden: Floats32) -> tuple[Floats32, Floats32]:
        """One timestep: x (B, F), hidden (B, L, S, H) -> change (B, Z), hidden (B, L, S, H).

        A row's result has the same bits whatever else is in the call.
        """
        if self._torch is not None:
            x, after = self._torch.step(x, hidden)
        else:
            after = np.empty_like(hidden)
            for layer, weights in enumerate(self._loops):
                x = unrolled.layer(x[None], hidden[:, layer, 0], weights)[0][1]  # (B, H)
                after[:, layer, 0] = x
        change = np.empty((len(x), len(self.shape.horizons)), np.float32)
        read_out(x, self._head, self._bias, change)
        return change, after

    def digest(self) -> str:
        """Names the weights, to the bit."""
        h = hashlib.blake2b(digest_size=16)
        for name, weight in sorted(self.weights.items()):
            h.update(name.encode() + weight.tobytes())
        return h.hexdigest()

    def dump(self) -> bytes:
        """Weights and their shape as a checkpoint."""
        return Checkpoint(self.weights, self.shape.words()).dump()

    def load(self, data: bytes) -> None:
        """Take the weights of a checkpoint, learnt even where it does not say how long. Raises ValueError.

        A checkpoint of more horizons fits: a head has a row of weights for each.
        """
        found = Checkpoint.load(data).of_horizons(self.shape.horizons)
        found.check(self.shape.words())
        self.take(found.weights)
        self.updates = max(1, found.updates)

    @property
    def weights(self) -> Weights:
        """Those in use; not a copy."""
        return dict(self._arrays)

    def take(self, weights: Weights) -> None:
        """Use these weights. Raises ValueError where they do not fit or are not finite."""
        self.put(self.check(weights))

    def check(self, weights: Weights) -> Floats32:
        """As `flat` has them. Raises ValueError where they do not fit or are not finite."""
        theirs = {name: weight.shape for name, weight in weights.items()}
        if theirs != {name: array.shape for name, array in self._arrays.items()}:
            raise ValueError(f"the weights are of another shape ({theirs}) than the model's ({self.shape})")
        vector = self.flat(weights)
        if not np.isfinite(vector).all():
            raise ValueError("the weights are not finite")
        return vector

    def flat(self, weights: Weights) -> Floats32:
        """Weights as one vector (P,), in the order that torch has its parameters in."""
        with np.errstate(over="ignore", invalid="ignore"):  # what float32 cannot hold is not finite: `check` sees it
            return np.concatenate([weights[name].astype(np.float32, copy=False).ravel() for name in self._arrays])

    def put(self, vector: Floats32) -> None:
        """Use weights that come as `flat` has them, finite or not."""
        for name, array in self._arrays.items():
            array[...] = vector[self._places[name]].reshape(array.shape)
        self._prepare()

    def named(self, vector: Floats32) -> Weights:
        """Weights that come as `flat` has them, by name; views."""
        return {name: vector[self._places[name]].reshape(array.shape) for name, array in self._arrays.items()}


@kernel
def read_out(
    h: Floats32,  # (B, H)
    weight: Floats32,  # (H, Z) transposed
    bias: Floats32,  # (Z,)
    change: Floats32,  # (B, Z) out
) -> None:
    """The head; a row's bits do not depend on the others."""
    for b in range(len(h)):
        for j in range(len(bias)):
            change[b, j] = bias[j]
        for k in range(h.shape[1]):
            for j in range(len(bias)):
                change[b, j] += h[b, k] * weight[k, j]


def _torch_layers(cell: Cell, weights: Mapping[str, Floats32]) -> "TorchLayers":
    from pipeline.network.torch_layers import TorchLayers

    return TorchLayers(cell, states(cell), weights)


def _first_weights(shape: Shape, seed: int) -> dict[str, Floats32]:
    """By name, as torch's `state_dict` has them: the layers' uniform within one by the root of H, the head's zero.

    The numbers are those of torch's `uniform_` with a generator of this seed: the lowest 24 bits of each draw of its
    Mersenne twister (Matsumoto and Nishimura 1998).
    """
    size, rows = shape.hidden_size, CELLS[shape.cell].gates * shape.hidden_size
    shapes: dict[str, tuple[int, ...]] = {}
    for n in range(shape.layers):
        shapes[f"rnn.weight_ih_l{n}"] = rows, shape.inputs if n == 0 else size
        shapes[f"rnn.weight_hh_l{n}"] = rows, size
        shapes[f"rnn.bias_ih_l{n}"] = shapes[f"rnn.bias_hh_l{n}"] = (rows,)
    twister = np.random.RandomState(seed & 0xFFFFFFFF)
    bound = np.float32(1 / math.sqrt(size))
    weights = {}
    for name, wanted in shapes.items():
        draws = twister.randint(0, 2**32, size=wanted, dtype=np.uint32) & 0xFFFFFF
        weights[name] = (draws * 2.0**-24 * float(bound + bound) - float(bound)).astype(np.float32)
    z = len(shape.horizons)
    return weights | {"head.weight": np.zeros((z, size), np.float32), "head.bias": np.zeros(z, np.float32)}


def same_bits(shape: Shape) -> bool:
    """Whether, on this CPU, a row's step has the same bits in calls of any size (a start-up self-check)."""
    network, rng, rows = Network(shape, seed=1), np.random.default_rng(2), 1024
    head = rng.uniform(-1, 1, network.weights["head.weight"].shape)
    network.take({**network.weights, "head.weight": head})
    x = rng.standard_normal((rows, shape.inputs), np.float32)
    hidden = rng.standard_normal((rows, shape.layers, states(shape.cell), shape.hidden_size), np.float32)
    whole = network.step(x, hidden)
    for size in (1, 2, 3, 5, 8, 13, 64, 255, 256, 700):
        for lo in (0, 5, rows - size):
            part = network.step(x[lo : lo + size], hidden[lo : lo + size])
            if not all(np.array_equal(p, w[lo : lo + size]) for p, w in zip(part, whole, strict=True)):
                return False
    return True
