"""Compiled kernels in an image: found where nothing can be written, compiled anew where something can."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numba
import pytest

from worker.kernels import locator as module
from worker.kernels.locator import ImageCacheLocator


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of kernels with one in it, that cannot be written to (not even as root)."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "image"))
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "image"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    inside = Path(locator().get_cache_path())
    (inside / "kernel.nbi").write_text("compiled")
    writable = module._writable
    monkeypatch.setattr(
        module, "_writable", lambda folder: not folder.is_relative_to(tmp_path / "image") and writable(folder)
    )
    return inside


def locator() -> ImageCacheLocator:
    found = ImageCacheLocator.from_function(locator, __file__)
    assert found is not None
    return found


def test_without_a_directory_it_leaves_the_choice_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    assert ImageCacheLocator.from_function(locator, __file__) is None


def test_what_cannot_be_written_is_copied_once(image: Path, tmp_path: Path) -> None:
    copy = Path(locator().get_cache_path())
    assert copy.is_relative_to(tmp_path / "tmp")
    assert (copy / "kernel.nbi").read_text() == "compiled"
    (copy / "another.nbi").write_text("")
    assert Path(locator().get_cache_path()) == copy
    assert (copy / "another.nbi").exists()
    locator().ensure_cache_path()


def test_where_nothing_can_be_written_it_is_read_and_a_new_kernel_is_refused_with_the_fix(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "gettempdir", lambda: "/dev/null")
    found = locator()
    assert Path(found.get_cache_path()) == image
    with pytest.raises(OSError, match="tmpfs at /tmp"):
        found.ensure_cache_path()


def test_a_second_process_compiles_nothing(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "NUMBA_CACHE_DIR": str(tmp_path),
        "NUMBA_CACHE_LOCATOR_CLASSES": "worker.kernels.locator.ImageCacheLocator",
    }
    command = [sys.executable, "-m", "worker", "warm", "--check"]
    first, second = (
        subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, env=environment)
        for _ in range(2)
    )
    assert (first.returncode, second.returncode) == (1, 0), first.stderr + second.stderr
    assert second.stdout.startswith("kernels compiled 0, found compiled ")
