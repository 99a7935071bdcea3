"""The recurrent network: one set of weights per shard, one hidden state per stream.

It predicts, for all horizons at once, the change from the last value in units of the stream's horizon scales. The head
starts at zero, so an untrained network says "no change". `step` and `forward` are the same function of the same
weights: one timestep for many streams, and a whole window for training.

Cells: Elman 1990 (tanh and relu), Cho et al. 2014 (GRU), Hochreiter and Schmidhuber 1997 (LSTM), as torch has them.

Shapes: B rows, T timesteps, F inputs, L layers, S state tensors (LSTM: h and c, else 1), H hidden size, Z horizons.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from pipeline import unrolled
from pipeline.compiled import Field
from pipeline.features import width
from pipeline.method import Cell, Method

CHUNK = 1024  # rows of one call: above, temporaries leave the cache
LEAST_ROWS = 8  # smaller calls take another BLAS path, whose last bit differs
LEAST_COLUMNS = 4  # the same for the head
SMALL = 64  # hidden size up to which our own loops over a window are faster than torch's layer

CELLS = {"gru": torch.gru_cell, "rnn_tanh": torch.rnn_tanh_cell, "rnn_relu": torch.rnn_relu_cell}

Weights = Mapping[str, Tensor]  # by name, as `state_dict` has them


def states(cell: Cell) -> int:
    """S, state tensors of a cell."""
    return 2 if cell == "lstm" else 1


def fields(method: Method) -> list[Field]:
    """The hidden state, packed (L, S, H)."""
    return [("hidden", "f4", (method.layers, states(method.cell), method.hidden_size))]


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
        return cls(method.cell, width(method), method.hidden_size, method.layers, method.horizons)


class Network(nn.Module):
    """Cells and a linear head. Weights from `seed`; `load` replaces them."""

    def __init__(self, shape: Shape, seed: int = 0) -> None:
        super().__init__()
        self.shape = shape
        size, layers = shape.hidden_size, shape.layers
        with torch.random.fork_rng(devices=[]):  # torch draws first weights from the global generator: leave no trace
            if shape.cell == "gru":
                self.rnn: nn.RNNBase = nn.GRU(shape.inputs, size, layers)
            elif shape.cell == "lstm":
                self.rnn = nn.LSTM(shape.inputs, size, layers)
            else:
                self.rnn = nn.RNN(shape.inputs, size, layers, nonlinearity=shape.cell.removeprefix("rnn_"))
            self.head = nn.Linear(size, len(shape.horizons))
        generator = torch.Generator().manual_seed(seed)
        bound = 1 / math.sqrt(size)
        with torch.no_grad():
            for weight in self.rnn.parameters():
                weight.uniform_(-bound, bound, generator=generator)
            self.head.weight.zero_()
            self.head.bias.zero_()
        self._prepare()

    def _prepare(self) -> None:
        """Plain tensors for `step`, the head padded to its least columns."""
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        self._layers = [
            tuple(getattr(self.rnn, f"{name}_l{layer}").detach() for name in names)
            for layer in range(self.shape.layers)
        ]
        self._states = self.shape.layers * states(self.shape.cell)
        self._spare = max(0, LEAST_COLUMNS - len(self.shape.horizons))
        self._head_weight = nn.functional.pad(self.head.weight.detach(), (0, 0, 0, self._spare))  # (Z or more, H)
        self._head_bias = nn.functional.pad(self.head.bias.detach(), (0, self._spare))

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        """Move over a window: x (T, B, F), hidden (B, L, S, H) at its start -> change (T, B, Z)."""
        if self.shape.cell == "gru" and self.shape.hidden_size <= SMALL:
            for layer, weights in enumerate(self.rnn.all_weights):
                x = unrolled.Layer.apply(x, hidden[:, layer, 0], *weights)  # type: ignore[no-untyped-call]
        else:
            parts = hidden.permute(2, 1, 0, 3).contiguous()  # (S, L, B, H)
            x, _ = self.rnn(x, (parts[0], parts[1]) if self.shape.cell == "lstm" else parts[0])
        change: Tensor = self.head(x)
        return change

    def step(self, x: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """One timestep: x (B, F), hidden (B, L, S, H) -> change (B, Z), hidden (B, L, S, H).

        A row's result has the same bits whatever else is in the call: at most `CHUNK` rows, at least `LEAST_ROWS`.
        """
        with torch.inference_mode():
            if len(x) > CHUNK:
                pairs = [
                    self.step(a, b) for a, b in zip(torch.split(x, CHUNK), torch.split(hidden, CHUNK), strict=True)
                ]
                return torch.cat([p[0] for p in pairs]), torch.cat([p[1] for p in pairs])
            rows = len(x)
            if rows < LEAST_ROWS:
                change, after = self.step(_padded(x), _padded(hidden))
                return change[:rows], after[:rows]
            before = hidden.flatten(1)  # by layer and state, H columns each
            each = before.chunk(self._states, 1) if self._states > 1 else (before,)
            new: list[Tensor] = []
            for layer, weights in enumerate(self._layers):
                if self.shape.cell == "lstm":
                    x, c = torch.lstm_cell(x, each[2 * layer : 2 * layer + 2], *weights)
                    new += (x, c)
                else:
                    x = CELLS[self.shape.cell](x, each[layer], *weights)
                    new.append(x)
            # not addmm with a transposed copy: with AVX-512 a row's bits then depend on the number of rows
            change = nn.functional.linear(x, self._head_weight, self._head_bias)  # (B, Z or more)
            if self._spare:
                change = change[:, : len(self.shape.horizons)]
            return change, (x if self._states == 1 else torch.cat(new, 1)).view(hidden.shape)

    def digest(self) -> str:
        """Names the weights, to the bit."""
        h = hashlib.blake2b(digest_size=16)
        for name, weight in sorted(self.weights.items()):
            h.update(name.encode() + weight.numpy().tobytes())
        return h.hexdigest()

    def dump(self) -> bytes:
        """Weights and their shape as safetensors."""
        meta = {"cell": self.shape.cell, "inputs": str(self.shape.inputs), "hidden_size": str(self.shape.hidden_size)}
        meta |= {"layers": str(self.shape.layers), "horizons": ",".join(map(str, self.shape.horizons))}
        return safetensors.torch.save({k: v.contiguous() for k, v in self.state_dict().items()}, meta)

    def load(self, data: bytes) -> None:
        """Take the weights of a checkpoint or an adoption. Raises ValueError where it is damaged or does not fit."""
        try:
            weights = safetensors.torch.load(data)
        except safetensors.SafetensorError as error:
            raise ValueError(f"the weights cannot be read: {error}") from error
        self.take(weights)

    @property
    def weights(self) -> Weights:
        """Those in use; not a copy."""
        return self.state_dict()

    def take(self, weights: Weights) -> None:
        """Use these weights. Raises ValueError where they do not fit or are not finite."""
        self.check(weights)
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                parameter.copy_(weights[name])
        self._prepare()

    def hold(self, flat: Tensor) -> None:
        """Use these weights (P,), all in the order of `parameters`, in `forward` only."""
        with torch.no_grad():
            for parameter, part in zip(
                self.parameters(), torch.split(flat, [p.numel() for p in self.parameters()]), strict=True
            ):
                parameter.copy_(part.view_as(parameter))

    def check(self, weights: Weights) -> None:
        """Raises ValueError where these do not fit or are not finite."""
        mine = self.state_dict()
        theirs = {k: tuple(v.shape) for k, v in weights.items()}
        if theirs != {k: tuple(v.shape) for k, v in mine.items()}:
            raise ValueError(f"the weights are of another shape ({theirs}) than the model's ({self.shape})")
        if not are_finite(weights):
            raise ValueError("the weights are not finite")


def are_finite(weights: Weights) -> bool:
    """All of them, in one look."""
    return bool(torch.isfinite(torch.cat([weight.flatten() for weight in weights.values()])).all())


def _padded(rows: Tensor) -> Tensor:
    """With rows of zeros, so that there are `LEAST_ROWS`."""
    padded = np.zeros((LEAST_ROWS, *rows.shape[1:]), np.float32)  # in numpy, where it takes half the time
    padded[: len(rows)] = rows.numpy()
    return torch.from_numpy(padded)


def same_bits(shape: Shape) -> bool:
    """Whether, on this CPU, a row's step has the same bits in calls of any size (a start-up self-check)."""
    network = Network(shape, seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        network.head.weight.uniform_(-1, 1, generator=generator)
    network._prepare()
    rows = CHUNK
    x = torch.randn(rows, shape.inputs, generator=generator)
    hidden = torch.randn(rows, shape.layers, states(shape.cell), shape.hidden_size, generator=generator)
    whole = network.step(x, hidden)
    for size in (1, 2, 3, 5, 8, 13, 64, 255, 256, 700):
        for lo in (0, 5, rows - size):
            part = network.step(x[lo : lo + size], hidden[lo : lo + size])
            if not all(torch.equal(p, w[lo : lo + size]) for p, w in zip(part, whole, strict=True)):
                return False
    return True
