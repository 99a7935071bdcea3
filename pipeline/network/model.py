"""The recurrent network: one set of weights per shard, one hidden state per stream.

It predicts, for all horizons at once, the change from the last value in units of the stream's horizon scales. The head
starts at zero, so an untrained network forecasts no change. `step` and `forward` are the same function of the same
weights: one timestep for many streams, and a whole window for training.

Shapes: B rows, T timesteps, F inputs, L layers, S state tensors (LSTM: h and c, else 1), H hidden size, Z horizons.
"""

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.arrays import Field, Floats32
from pipeline.compiled import kernel
from pipeline.method import Cell, Method
from pipeline.network import unrolled
from pipeline.network.cells import CELLS, states
from pipeline.network.checkpoint import Checkpoint
from pipeline.parts.part import Part

CHUNK = 1024  # rows of one call of torch: above, temporaries leave the cache
LEAST_ROWS = 8  # smaller calls take another BLAS path, whose last bit differs
SMALL = 64  # hidden size up to which a GRU is our own loops: faster than torch for few rows, slower for hundreds

Weights = Mapping[str, Tensor]  # by name, as `state_dict` has them


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

    def words(self) -> dict[str, str]:
        """As a checkpoint's header has it."""
        words = {name: str(getattr(self, name)) for name in ("cell", "inputs", "hidden_size", "layers")}
        return words | {"horizons": ",".join(map(str, self.horizons))}


class Network(nn.Module):
    """Cells and a linear head. Weights from `seed`; `load` replaces them."""

    def __init__(self, shape: Shape, seed: int = 0) -> None:
        super().__init__()
        self.shape = shape
        self.updates = 0  # that made the weights it began with
        self._cell = CELLS[shape.cell]
        self._small = self._cell.unrolled and shape.hidden_size <= SMALL
        size, layers = shape.hidden_size, shape.layers
        with torch.random.fork_rng(devices=[]):  # torch draws first weights from the global generator: leave no trace
            self.rnn = self._cell.module(shape.inputs, size, layers)
            self.head = nn.Linear(size, len(shape.horizons))
        generator = torch.Generator().manual_seed(seed)
        bound = 1 / math.sqrt(size)
        with torch.no_grad():
            for weight in self.rnn.parameters():
                weight.uniform_(-bound, bound, generator=generator)
            self.head.weight.zero_()
            self.head.bias.zero_()
        self._arrays = {name: parameter.detach().numpy() for name, parameter in self.named_parameters()}  # views
        ends = np.cumsum([array.size for array in self._arrays.values()]).tolist()
        self._places = {n: slice(end - a.size, end) for (n, a), end in zip(self._arrays.items(), ends, strict=True)}
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        self._layers = [[self._arrays[f"rnn.{name}_l{n}"] for name in names] for n in range(layers)]
        self._cells = [[torch.from_numpy(weight) for weight in layer] for layer in self._layers]
        self._bias = self._arrays["head.bias"]
        self._prepare()

    def _prepare(self) -> None:
        """What the loops have transposed; the weights they have as they are change with the parameters."""
        if self._small:
            self._loops = [[np.ascontiguousarray(weight.T) for weight in layer] for layer in self._layers]
        self._head = np.ascontiguousarray(self._arrays["head.weight"].T)  # (H, Z)

    def forward(self, x: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Move over a window: x (T, B, F), hidden (B, L, S, H) at its start -> change (T, B, Z), hidden at its end."""
        parts = hidden.permute(2, 1, 0, 3).contiguous()  # (S, L, B, H)
        out, after = self.rnn(x, tuple(parts) if self._cell.states > 1 else parts[0])
        last = torch.stack(after) if self._cell.states > 1 else after[None]
        return self.head(out), last.permute(2, 1, 0, 3)

    def vjp(self, x: Floats32, hidden: Floats32) -> tuple[Floats32, Floats32, Callable[[Floats32], Floats32]]:
        """Those of `forward`, and a function from the loss by each change (T, B, Z) to that by each weight (P,).

        Weights are in the order of `parameters`. The function, a vector-Jacobian product, as JAX names it, holds until
        other weights are put: then it is wrong.
        """
        if self._small:
            return self._unrolled(x, hidden)
        change, after = self(torch.from_numpy(x), torch.from_numpy(hidden))

        def back(d_change: Floats32) -> Floats32:
            by_weight = torch.autograd.grad(change, list(self.parameters()), torch.from_numpy(d_change))
            return torch.cat([d.flatten() for d in by_weight]).numpy()

        return change.detach().numpy(), after.detach().numpy(), back

    def _unrolled(self, x: Floats32, hidden: Floats32) -> tuple[Floats32, Floats32, Callable[[Floats32], Floats32]]:
        """Do what `vjp` does with our own loops."""
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
        if self._small:
            after = np.empty_like(hidden)
            for layer, weights in enumerate(self._loops):
                x = unrolled.layer(x[None], hidden[:, layer, 0], weights)[0][1]  # (B, H)
                after[:, layer, 0] = x
        else:
            x, after = self._step(x, hidden)
        change = np.empty((len(x), len(self.shape.horizons)), np.float32)
        read_out(x, self._head, self._bias, change)
        return change, after

    def _step(self, x: Floats32, hidden: Floats32) -> tuple[Floats32, Floats32]:
        """That of torch's cells: the last layer's h (B, H), hidden (B, L, S, H).

        For the same bits at most `CHUNK` rows at once, and at least `LEAST_ROWS`.
        """
        rows = len(x)
        if rows > CHUNK:
            parts = [self._step(x[lo : lo + CHUNK], hidden[lo : lo + CHUNK]) for lo in range(0, rows, CHUNK)]
            return np.concatenate([h for h, _ in parts]), np.concatenate([after for _, after in parts])
        if rows < LEAST_ROWS:
            h, after = self._step(_padded(x), _padded(hidden))
            return h[:rows], after[:rows]
        seen, new = torch.from_numpy(x), list[Tensor]()
        before = torch.from_numpy(hidden).flatten(1, 2).unbind(1)  # L S of (B, H)
        with torch.inference_mode():
            for layer, weights in enumerate(self._cells):
                s = self._cell.states
                new += self._cell.step(seen, before[s * layer : s * layer + s], weights)
                seen = new[-s]
            return seen.numpy(), torch.stack(new, 1).view(hidden.shape).numpy()

    def digest(self) -> str:
        """Names the weights, to the bit."""
        h = hashlib.blake2b(digest_size=16)
        for name, weight in sorted(self.weights.items()):
            h.update(name.encode() + weight.numpy().tobytes())
        return h.hexdigest()

    def dump(self) -> bytes:
        """Weights and their shape as a checkpoint."""
        return Checkpoint(self.weights, self.shape.words()).dump()

    def load(self, data: bytes) -> None:
        """Take the weights of a checkpoint, learnt even where it does not say how long. Raises ValueError."""
        found = Checkpoint.load(data)
        found.check(self.shape.words())
        self.take(found.weights)
        self.updates = max(1, found.updates)

    @property
    def weights(self) -> Weights:
        """Those in use; not a copy."""
        return self.state_dict()

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
        """Weights as one vector (P,), in the order of `parameters`."""
        return np.concatenate([weights[name].float().numpy().ravel() for name in self._arrays])

    def put(self, vector: Floats32) -> None:
        """Use weights that come as `flat` has them, finite or not."""
        for name, array in self._arrays.items():
            array[...] = vector[self._places[name]].reshape(array.shape)
        self._prepare()

    def named(self, vector: Floats32) -> Weights:
        """Weights that come as `flat` has them, by name; views."""
        return {
            name: torch.from_numpy(vector[self._places[name]].reshape(array.shape))
            for name, array in self._arrays.items()
        }


@kernel
def read_out(
    h: Floats32,  # (B, H)
    weight: Floats32,  # (H, Z) transposed
    bias: Floats32,  # (Z,)
    change: Floats32,  # (B, Z) out
) -> None:
    """The head; a row's bits do not depend on the others."""
    for b in range(len(h)):
        change[b] = bias
        for k in range(h.shape[1]):
            for j in range(len(bias)):
                change[b, j] += h[b, k] * weight[k, j]


def _padded(rows: Floats32) -> Floats32:
    """With rows of zeros, so that there are `LEAST_ROWS`."""
    padded = np.zeros((LEAST_ROWS, *rows.shape[1:]), np.float32)
    padded[: len(rows)] = rows
    return padded


def same_bits(shape: Shape) -> bool:
    """Whether, on this CPU, a row's step has the same bits in calls of any size (a start-up self-check)."""
    network = Network(shape, seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        network.head.weight.uniform_(-1, 1, generator=generator)
    network._prepare()
    rows = CHUNK
    x = torch.randn(rows, shape.inputs, generator=generator).numpy()
    hidden = torch.randn(rows, shape.layers, states(shape.cell), shape.hidden_size, generator=generator).numpy()
    whole = network.step(x, hidden)
    for size in (1, 2, 3, 5, 8, 13, 64, 255, 256, 700):
        for lo in (0, 5, rows - size):
            part = network.step(x[lo : lo + size], hidden[lo : lo + size])
            if not all(np.array_equal(p, w[lo : lo + size]) for p, w in zip(part, whole, strict=True)):
                return False
    return True
