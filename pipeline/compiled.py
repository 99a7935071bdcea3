"""How per-row arithmetic is compiled: numba, cached on disk, no fastmath (a row's bits never depend on its wave)."""

from collections.abc import Callable
from typing import TypeVar

import numba
import numpy as np
import numpy.typing as npt

F = TypeVar("F", bound=Callable[..., object])

Floats = npt.NDArray[np.float64]
Floats32 = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.void]  # structured: one record per stream, see table.py
Field = tuple[str, str] | tuple[str, str, tuple[int, ...]]  # name, dtype, shape: what a part keeps in each row


def kernel(function: F) -> F:
    """Compile a loop over rows. A kernel calls no other kernel: numba's cache would not see the callee change."""
    return numba.njit(cache=True)(function)  # type: ignore[return-value]  # called like the function
