"""How per-row arithmetic is compiled: numba, cached on disk, no fastmath (a row's bits never depend on its wave)."""

import fcntl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import numba

F = TypeVar("F", bound=Callable[..., object])

KERNELS: list[Any] = []  # numba's dispatchers, in the order of their modules
UNKEPT: list[Any] = []  # those of them that the disk has no place for


def kernel(function: F) -> F:
    """Compile a loop over rows. A kernel calls no other kernel: numba's cache would not see the callee change."""
    try:
        KERNELS.append(numba.njit(cache=True)(function))
        _keep_one_at_a_time(KERNELS[-1])
    except RuntimeError:  # numba's word for a user without a home whose installation is read-only: slower, not wrong
        KERNELS.append(numba.njit(function))
        UNKEPT.append(KERNELS[-1])
    compiled: F = KERNELS[-1]  # called like the function
    return compiled


def _keep_one_at_a_time(dispatcher: Any) -> None:
    """Let processes use the cache of a source file one after the other.

    Numba 0.68 takes no lock: two that compile kernels for different settings at once can give both the same place, and
    whoever looks for one of them then runs the other.
    """
    cache, source = dispatcher._cache, dispatcher.py_func.__code__.co_filename

    def alone(use: Callable[..., Any]) -> Callable[..., Any]:
        def locked(*arguments: Any) -> Any:
            with Path(source).open("rb") as file:
                with suppress(OSError):  # a file system without locks
                    fcntl.flock(file, fcntl.LOCK_EX)
                return use(*arguments)

        return locked

    cache.save_overload, cache.load_overload = alone(cache.save_overload), alone(cache.load_overload)


def compilations() -> tuple[int, int]:
    """How many kernels this process has compiled so far, and how many it has found compiled on disk."""
    stats = [kernel.stats for kernel in KERNELS]
    return sum(sum(s.cache_misses.values()) for s in stats), sum(sum(s.cache_hits.values()) for s in stats)
