"""What is compiled at set-up is all that events need."""

import os
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest

from pipeline.backtest.inline import InlineTrainer
from pipeline.compiled import compilations
from pipeline.shard import Shard
from worker.kernels.warming import compiling_is_told, warm
from worker.plan import Plan, schedule_of
from worker.settings.settings import Settings


@pytest.mark.parametrize("horizons", [(1,), (1, 5), (2, 4, 5, 7)])
def test_after_it_no_wave_of_any_size_compiles_a_kernel(horizons: tuple[int, ...]) -> None:
    """Few horizons make arrays whose layout numba takes for another one. No other test has these hidden sizes."""
    plan = Plan.of(
        Settings(model={"horizons": horizons, "hidden_size": 9 + len(horizons)}, events={"earliest": "1970-01-01"})
    )
    warmed = warm(plan)
    assert sum(warmed) > 0
    shard = Shard(plan.method, plan.network(), 0, plan.settings, parts=True)
    trainer = InlineTrainer(shard, schedule_of(Settings()), every=20)
    at = 0
    for streams, waves in ((1, 1), (2, 1), (3, 1), (9, 1), (1, 1), (3, 2), (1, 90)):
        for turn in range(2):
            names = sorted([*range(streams)] * waves + [0])  # the first once more than the others: a wave of its own
            bodies = [
                b'{"stream": "s%d", "time": %d, "value": %d}' % (s, 60 * (at + i), (s + turn + i * i) % 7)
                for i, s in enumerate(names, 1)
            ]
            streams = len(bodies)
            batch, rejected = plan.decoder.decode(range(at, at + streams), [10**9] * streams, [None] * streams, bodies)
            assert not rejected
            shard.advance(batch)
            at += streams
            trainer.turn()
    assert trainer.counts["updates"] > 0
    assert np.isfinite(shard.table.rows["scale"][:9]).all()
    assert compilations() == warmed  # nothing was compiled, nothing loaded from disk


def test_that_kernels_compile_is_told_once_and_only_then(capsys: pytest.CaptureFixture[str]) -> None:
    def double(x: int) -> int:
        return 2 * x

    kernel = numba.njit(double)
    with compiling_is_told():
        assert kernel(1) == 2
        assert kernel(1.5) == 3
    assert capsys.readouterr().err == "compiling kernels, about a minute; they are kept for the next time\n"
    with compiling_is_told():
        kernel(2)
    kernel(1j)
    assert capsys.readouterr().err == ""


NO_PLACE = """
from pipeline import compiled
@compiled.kernel
def double(x):
    return 2 * x
from worker.kernels.warming import compiling_is_told
with compiling_is_told():
    print(double(4), len(compiled.UNKEPT))
"""


def test_a_user_without_a_home_compiles_each_time(tmp_path: Path) -> None:
    """Numba looks for a place beside the code and in the home: here one is read-only and the other a file."""
    (tmp_path / "home").write_text("")
    (tmp_path / "__pycache__").write_text("")
    script = tmp_path / "double.py"
    script.write_text(NO_PLACE)
    taken = ("NUMBA_CACHE_DIR", "NUMBA_CACHE_LOCATOR_CLASSES", "XDG_CACHE_HOME")
    env = {name: value for name, value in os.environ.items() if name not in taken}
    env |= {"HOME": str(tmp_path / "home"), "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=env, check=False)
    assert (done.returncode, done.stdout) == (0, "8 1\n"), done.stderr
    assert done.stderr.startswith("compiling kernels, about a minute; they cannot be kept: name a directory")
