"""How per-row arithmetic is compiled: numba, cached on disk, no fastmath (a row's bits never depend on its wave)."""

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
import numpy.typing as npt

F = TypeVar("F", bound=Callable[..., object])

Floats = npt.NDArray[np.float64]
Floats32 = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.void]  # structured: one record per stream, see table.py
Events = npt.NDArray[np.void]  # structured: one record per event, see records.py
Fixed = npt.NDArray[np.void]  # structured: the one record of what follows from the settings, see records.py
Field = tuple[str, str] | tuple[str, str, tuple[int, ...]]  # name, dtype, shape: what a part keeps in each row


KERNELS: list[Any] = []  # numba's dispatchers, in the order of their modules


def kernel(function: F) -> F:
    """Compile a loop over rows. A kernel calls no other kernel: numba's cache would not see the callee change."""
    KERNELS.append(numba.njit(cache=True)(function))
    compiled: F = KERNELS[-1]  # called like the function
    return compiled


def compilations() -> tuple[int, int]:
    """How many kernels this process has compiled so far, and how many it has found compiled on disk."""
    stats = [kernel.stats for kernel in KERNELS]
    return sum(sum(s.cache_misses.values()) for s in stats), sum(sum(s.cache_hits.values()) for s in stats)
