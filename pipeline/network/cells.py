"""The cells that the network may be made of, one record each.

What a new one needs is here, in torch_layers.py, and a name in method.py.

Elman 1990 (tanh and relu), Cho et al. 2014 (GRU), Hochreiter and Schmidhuber 1997 (LSTM), as torch has them.
"""

from dataclasses import dataclass

from pipeline import method


@dataclass(frozen=True)
class Cell:
    """One kind of cell. The first of its state tensors is h, what the next layer sees."""

    gates: int = 1  # of H rows each, in its weights
    states: int = 1  # S, state tensors
    bounded: bool = False  # h stays within one, and so may be kept in 8 bits
    unrolled: bool = False  # unrolled.py has its step and gradient too


CELLS: dict[method.Cell, Cell] = {
    "rnn_tanh": Cell(bounded=True),
    "rnn_relu": Cell(),
    "gru": Cell(gates=3, bounded=True, unrolled=True),
    "lstm": Cell(gates=4, states=2),
}


def states(cell: method.Cell) -> int:
    """S, state tensors of a cell."""
    return CELLS[cell].states
