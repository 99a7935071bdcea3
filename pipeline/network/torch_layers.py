"""The network's layers and head as torch has them: two seconds to load, so a network of our own loops does without.

Shapes as in model.py: B rows, T timesteps, F inputs, L layers, S state tensors, H hidden size, Z horizons.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from pipeline import method
from pipeline.arrays import Floats32

CHUNK = 1024  # rows of one call of torch: above, temporaries leave the cache
LEAST_ROWS = 8  # smaller calls take another BLAS path, whose last bit differs

States = Sequence[Tensor]  # S of (B, H)


class _Cell(NamedTuple):
    module: Callable[[int, int, int], nn.RNNBase]  # inputs, hidden size, layers -> its layers over a window
    step: Callable[[Tensor, States, States], States]  # x (B, F), states before, weights of a layer -> states


def _one(step: Callable[..., Tensor]) -> Callable[[Tensor, States, States], States]:
    """A step of torch's with one state tensor."""
    return lambda x, before, weights: (step(x, before[0], *weights),)


_CELLS: dict[method.Cell, _Cell] = {
    "rnn_tanh": _Cell(partial(nn.RNN, nonlinearity="tanh"), _one(torch.rnn_tanh_cell)),
    "rnn_relu": _Cell(partial(nn.RNN, nonlinearity="relu"), _one(torch.rnn_relu_cell)),
    "gru": _Cell(nn.GRU, _one(torch.gru_cell)),
    "lstm": _Cell(nn.LSTM, lambda x, before, weights: torch.lstm_cell(x, [*before], *weights)),
}


class TorchLayers(nn.Module):
    """Layers and head over weights that somebody else keeps and may change in place."""

    def __init__(self, cell: method.Cell, states: int, weights: Mapping[str, Floats32]) -> None:
        """`weights` by name, as torch's `state_dict` has them: first those of the layers, `rnn.`, then `head.`."""
        super().__init__()
        torch.set_num_threads(1)  # threads cost more than they give here, and a step's bits depend on their number
        size, inputs = weights["rnn.weight_hh_l0"].shape[1], weights["rnn.weight_ih_l0"].shape[1]
        layers = sum(name.startswith("rnn.weight_hh") for name in weights)
        self._states = states
        with torch.random.fork_rng(devices=[]):  # torch draws first weights from the global generator: leave no trace
            self.rnn = _CELLS[cell].module(inputs, size, layers)
            self.head = nn.Linear(size, len(weights["head.bias"]))
        for name, parameter in self.named_parameters():
            parameter.data = torch.from_numpy(weights[name])
        self._step = _CELLS[cell].step
        self._layers = [[weight.detach() for weight in layer] for layer in self.rnn.all_weights]

    def forward(self, x: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Move over a window: x (T, B, F), hidden (B, L, S, H) at its start -> change (T, B, Z), hidden at its end."""
        parts = hidden.permute(2, 1, 0, 3).contiguous()  # (S, L, B, H)
        out, after = self.rnn(x, tuple(parts) if self._states > 1 else parts[0])
        last = torch.stack(after) if self._states > 1 else after[None]
        return self.head(out), last.permute(2, 1, 0, 3)

    def vjp(self, x: Floats32, hidden: Floats32) -> tuple[Floats32, Floats32, Callable[[Floats32], Floats32]]:
        """Those of `forward`, and its vector-Jacobian product: `Network.vjp`."""
        change, after = self(torch.from_numpy(x), torch.from_numpy(hidden))

        def back(d_change: Floats32) -> Floats32:
            by_weight = torch.autograd.grad(change, list(self.parameters()), torch.from_numpy(d_change))
            return torch.cat([d.flatten() for d in by_weight]).numpy()

        return change.detach().numpy(), after.detach().numpy(), back

    def step(self, x: Floats32, hidden: Floats32) -> tuple[Floats32, Floats32]:
        """One timestep: x (B, F), hidden (B, L, S, H) -> the last layer's h (B, H), hidden (B, L, S, H).

        For the same bits at most `CHUNK` rows at once, and at least `LEAST_ROWS`.
        """
        rows = len(x)
        if rows > CHUNK:
            parts = [self.step(x[lo : lo + CHUNK], hidden[lo : lo + CHUNK]) for lo in range(0, rows, CHUNK)]
            return np.concatenate([h for h, _ in parts]), np.concatenate([after for _, after in parts])
        if rows < LEAST_ROWS:
            h, after = self.step(_padded(x), _padded(hidden))
            return h[:rows], after[:rows]
        seen, new = torch.from_numpy(x), list[Tensor]()
        before = torch.from_numpy(hidden).flatten(1, 2).unbind(1)  # L S of (B, H)
        with torch.inference_mode():
            for layer, weights in enumerate(self._layers):
                s = self._states
                new += self._step(seen, before[s * layer : s * layer + s], weights)
                seen = new[-s]
            return seen.numpy(), torch.stack(new, 1).view(hidden.shape).numpy()


def _padded(rows: Floats32) -> Floats32:
    """With rows of zeros, so that there are `LEAST_ROWS`."""
    padded = np.zeros((LEAST_ROWS, *rows.shape[1:]), np.float32)
    padded[: len(rows)] = rows
    return padded
