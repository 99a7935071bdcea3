"""How per-row arithmetic is compiled: numba, cached on disk, no fastmath (a row's bits never depend on its wave)."""

from collections.abc import Callable
from typing import Any, TypeVar

import numba

F = TypeVar("F", bound=Callable[..., object])

KERNELS: list[Any] = []  # numba's dispatchers, in the order of their modules
UNKEPT: list[Any] = []  # those of them that the disk has no place for


def kernel(function: F) -> F:
    """Compile a loop over rows. A kernel calls no other kernel: numba's cache would not see the callee change."""
    try:
        KERNELS.append(numba.njit(cache=True)(function))
    except RuntimeError:  # numba's word for a user without a home whose installation is read-only: slower, not wrong
        KERNELS.append(numba.njit(function))
        UNKEPT.append(KERNELS[-1])
    compiled: F = KERNELS[-1]  # called like the function
    return compiled


def compilations() -> tuple[int, int]:
    """How many kernels this process has compiled so far, and how many it has found compiled on disk."""
    stats = [kernel.stats for kernel in KERNELS]
    return sum(sum(s.cache_misses.values()) for s in stats), sum(sum(s.cache_hits.values()) for s in stats)
