"""Compiled kernels on disk are kept and found by one process at a time."""

import fcntl
import importlib.util
from pathlib import Path
from threading import Thread

import numpy as np

KERNEL = """
from pipeline.compiled import kernel

@kernel
def total(x):
    sum_ = 0.0
    for value in x:
        sum_ += value
    return sum_
"""


def test_who_compiles_a_kernel_waits_for_others_that_keep_some_of_the_same_file(tmp_path: Path) -> None:
    """Numba alone gives two at once the same place on disk."""
    source = tmp_path / "kernels_of_mine.py"
    source.write_text(KERNEL)
    spec = importlib.util.spec_from_file_location("kernels_of_mine", source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: list[float] = []
    with source.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        compiling = Thread(target=lambda: found.append(module.total(np.ones(3))))
        compiling.start()
        compiling.join(1.0)
        assert compiling.is_alive()
        assert not list(tmp_path.rglob("*.nb?"))
        fcntl.flock(other, fcntl.LOCK_UN)
        compiling.join(60)
    assert found == [3.0]
    assert {path.suffix for path in tmp_path.rglob("*.nb?")} == {".nbi", ".nbc"}
