"""Compiled kernels in an image: found where nothing can be written, compiled anew where something can."""

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import numba
import pytest

from worker.kernels import locator as module
from worker.kernels.locator import ImageCacheLocator
from worker.refusal import Refusal


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
    with pytest.raises(Refusal, match="tmpfs at /tmp"):
        found.ensure_cache_path()


# ---- numba unpickles what it finds, and so runs it


def _home(tmp_path: Path, uid: int | None = None) -> Path:
    return tmp_path / "tmp" / f"foldcast-kernels-{os.getuid() if uid is None else uid}"


def _planted(tmp_path: Path, image: Path, uid: int | None = None) -> Path:
    """Somebody's kernels where this user's copy is looked for."""
    copy = _home(tmp_path, uid) / f"{image.name}-{image.stat().st_mtime_ns}"
    copy.mkdir(parents=True)
    (copy / "kernel.nbi").write_text("planted")
    return copy


def _refuses_the_copy(image: Path, words: str) -> None:
    found = locator()
    assert Path(found.get_cache_path()) == image, "read, as where nothing can be written"
    with pytest.raises(Refusal, match=words):
        found.ensure_cache_path()


def test_kernels_that_another_user_laid_ready_are_not_read(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    somebody = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: somebody)  # so that ours are another's
    _planted(tmp_path, image).parent.chmod(0o700)
    _refuses_the_copy(image, f"foldcast-kernels-{somebody} is not this user's alone: remove it")


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o720, 0o702])
def test_a_folder_that_others_can_write_to_is_not_read(mode: int, image: Path, tmp_path: Path) -> None:
    _planted(tmp_path, image).parent.chmod(mode)
    _refuses_the_copy(image, "is not this user's alone")


def test_a_folder_behind_a_link_is_not_read(image: Path, tmp_path: Path) -> None:
    _planted(tmp_path, image)
    elsewhere = _home(tmp_path).rename(tmp_path / "elsewhere")
    elsewhere.chmod(0o700)
    _home(tmp_path).symlink_to(elsewhere)
    _refuses_the_copy(image, "is not this user's alone")


def test_a_copy_that_is_a_link_is_not_read(image: Path, tmp_path: Path) -> None:
    copy = _planted(tmp_path, image)
    copy.parent.chmod(0o700)
    copy.rename(tmp_path / "elsewhere")
    copy.symlink_to(tmp_path / "elsewhere")
    _refuses_the_copy(image, "is not this user's alone")


def test_the_copy_is_this_users_alone_whatever_the_umask_and_the_images_modes(image: Path, tmp_path: Path) -> None:
    image.chmod(0o775)
    before = os.umask(0)
    try:
        copy = Path(locator().get_cache_path())
    finally:
        os.umask(before)
    for folder in (copy, copy.parent):
        assert folder.is_relative_to(_home(tmp_path))
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert Path(locator().get_cache_path()) == copy, "found again"


def test_a_named_directory_that_all_can_write_to_is_refused(image: Path) -> None:
    image.chmod(0o777)
    with pytest.raises(Refusal, match=r"drwxrwxrwx\): name another as NUMBA_CACHE_DIR"):
        locator()


def test_a_named_directory_that_is_a_link_is_refused(image: Path, tmp_path: Path) -> None:
    image.rename(tmp_path / "elsewhere")
    image.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Refusal, match="NUMBA_CACHE_DIR"):
        locator()


def test_a_named_directory_is_this_users_roots_or_that_of_the_codes_owner(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locator()
    owner = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    locator()  # the code has the same owner: it is not safer than its kernels
    monkeypatch.setattr(module, "_owners", lambda _code: {owner + 1})
    with pytest.raises(Refusal, match=f"belongs to user {owner}"):
        locator()


def test_such_a_directory_ends_a_command_with_one_sentence(tmp_path: Path) -> None:
    import pipeline.parts.scales as part

    monkeypatched = pytest.MonkeyPatch()
    with monkeypatched.context() as patch:
        patch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
        for name in ("parts", "network", "learning"):
            file = str(Path(part.__file__).parents[1] / name / "x.py")
            folder = tmp_path / ImageCacheLocator.get_suitable_cache_subpath(file)
            folder.mkdir()
            folder.chmod(0o777)
    command = [sys.executable, "-m", "worker", "warm"]
    environment = {
        **os.environ,
        "NUMBA_CACHE_DIR": str(tmp_path),
        "NUMBA_CACHE_LOCATOR_CLASSES": "worker.kernels.locator.ImageCacheLocator",
    }
    said = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, env=environment)
    assert said.returncode == 1
    [line] = said.stderr.splitlines()
    assert line.startswith("foldcast: the kernels in ")


@pytest.mark.timeout(600)
def test_a_second_process_compiles_nothing(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "NUMBA_CACHE_DIR": str(tmp_path),
        "NUMBA_CACHE_LOCATOR_CLASSES": "worker.kernels.locator.ImageCacheLocator",
    }
    command = [sys.executable, "-m", "worker", "warm", "--check"]
    first, second = (
        subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)
        for _ in range(2)
    )
    assert (first.returncode, second.returncode) == (1, 0), first.stderr + second.stderr
    assert second.stdout.startswith("kernels compiled 0, found compiled ")
