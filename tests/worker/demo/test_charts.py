"""The charts' library: fetched once, by hash, and put where the worker looks for it."""

import gzip
import hashlib
from pathlib import Path

import pytest

from worker.demo import charts
from worker.demo.packages import Package
from worker.http.assets import FETCH, FOLDER


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The members that are asked of the package, which holds a script and needs no pip."""
    asked: list[str] = []

    def file(package: Package, member: str, cache: Path) -> Path:
        asked.append(member)
        path = cache / "script.js"
        path.write_bytes(b"script")
        return path

    monkeypatch.setattr(Package, "file", file)
    monkeypatch.setattr(charts, "SHA256", hashlib.sha256(b"script").hexdigest())
    return asked


def test_it_lies_compressed_beside_the_page_and_is_fetched_once(fetched: list[str], tmp_path: Path) -> None:
    for _ in range(2):
        kept = charts.fetch(tmp_path / "library")
        assert gzip.decompress(kept.read_bytes()) == b"script"
    assert len(fetched) == 1
    assert [*(tmp_path / "library").iterdir()] == [kept]


def test_another_one_than_the_pinned_is_replaced(fetched: list[str], tmp_path: Path) -> None:
    (tmp_path / charts.FILE).write_bytes(gzip.compress(b"an older one"))
    assert gzip.decompress(charts.fetch(tmp_path).read_bytes()) == b"script"
    assert len(fetched) == 1


def test_what_cannot_be_fetched_leaves_nothing_and_a_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def none(*_: object) -> Path:
        raise RuntimeError("pip could not fetch it")

    monkeypatch.setattr(Package, "file", none)
    monkeypatch.setattr(charts.fetch, "__defaults__", (tmp_path / "library",))
    assert charts.main() == 1
    assert capsys.readouterr().err == "charts: pip could not fetch it\n"
    assert [*(tmp_path / "library").iterdir()] == []


def test_the_worker_looks_where_it_is_put_and_names_the_command() -> None:
    assert charts.FOLDER.parent == FOLDER
    assert f"python -m {charts.__name__}" == FETCH
