"""The cells that the network may be made of, one record each: what a new one needs is here and a name in method.py.

Elman 1990 (tanh and relu), Cho et al. 2014 (GRU), Hochreiter and Schmidhuber 1997 (LSTM), as torch has them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from pipeline import method

States = Sequence[Tensor]  # S of (B, H)


@dataclass(frozen=True)
class Cell:
    """One kind of cell. The first of its state tensors is h, what the next layer sees."""

    module: Callable[[int, int, int], nn.Module]  # inputs, hidden size, layers -> its layers over a window
    step: Callable[[Tensor, States, States], States]  # x (B, F), states before, weights of a layer -> states
    states: int = 1  # S, state tensors
    bounded: bool = False  # h stays within one, and so may be kept in 8 bits
    unrolled: bool = False  # unrolled.py has its step and gradient too


def _one(step: Callable[..., Tensor]) -> Callable[[Tensor, States, States], States]:
    """A step of torch's with one state tensor."""
    return lambda x, before, weights: (step(x, before[0], *weights),)


CELLS: dict[method.Cell, Cell] = {
    "rnn_tanh": Cell(partial(nn.RNN, nonlinearity="tanh"), _one(torch.rnn_tanh_cell), bounded=True),
    "rnn_relu": Cell(partial(nn.RNN, nonlinearity="relu"), _one(torch.rnn_relu_cell)),
    "gru": Cell(nn.GRU, _one(torch.gru_cell), bounded=True, unrolled=True),
    "lstm": Cell(nn.LSTM, lambda x, before, weights: torch.lstm_cell(x, [*before], *weights), states=2),
}


def states(cell: method.Cell) -> int:
    """S, state tensors of a cell."""
    return CELLS[cell].states
