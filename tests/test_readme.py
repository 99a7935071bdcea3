"""README and docs are true where a test can tell: files, commands, settings, sizes and the tree exist as written."""

import ast
import json
import re
from pathlib import Path

import pytest

from pipeline.events import Rejected
from pipeline.method import Method
from pipeline.table import layout
from tests.rigs.documented import FENCED, PAGES, ROOT, blocks
from worker.broker.contract import Records, Topics
from worker.commands import COMMANDS
from worker.dead_letters import dead_letters
from worker.settings.settings import Settings
from worker.settings.sources import load

README = PAGES["README.md"]
PICTURE_BYTES = 120_000


def anchors(text: str) -> set[str]:
    """The names that a page's headings have in links."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def remark(module: Path) -> str:
    """The first line of a module's docstring."""
    return (ast.get_docstring(ast.parse(module.read_text())) or "").splitlines()[0]


def tree() -> str:
    """Every package with its remark and its modules, as deep as they lie."""
    lines = []
    for package in ("pipeline", "worker"):
        for folder in sorted({path.parent for path in (ROOT / package).rglob("*.py")}):
            lines.append(f"{str(folder.relative_to(ROOT)) + '/':<23} {remark(folder / '__init__.py')}")
            for module in sorted(folder.glob("*.py")):
                if module.name != "__init__.py":
                    lines.append(f"  {module.name:<22}{remark(module)}")
    return "\n".join(lines)


def test_the_architecture_has_every_module_with_its_remark():
    said = (ROOT / "docs" / "architecture.md").read_text()
    assert tree() in said, f"put this into docs/architecture.md:\n{tree()}"


def unit(module: str) -> str:
    """The line of the list of rooms that a module belongs to: its room, rooms in that included, or, at a root, the
    module itself."""
    package, name, *within = module.split(".")
    return f"{package}.{name}" if within else module


def imported(path: Path, modules: set[str]) -> set[str]:
    """Modules of ours that a file imports anywhere in it."""
    found = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    names = {f"{node.module}.{alias.name}" for node in found for alias in node.names}
    return (names | {str(node.module) for node in found}) & modules


def test_the_rooms_are_listed_in_import_order():
    files = [path for package in ("pipeline", "worker") for path in (ROOT / package).rglob("*.py")]
    paths = {".".join(p.relative_to(ROOT).with_suffix("").parts): p for p in files if p.name != "__init__.py"}
    order: list[str] = []
    for place, words in re.findall(r"^\d+\. `(.+?)`: (.+)$", PAGES["docs/architecture.md"], re.MULTILINE):
        room = place.strip("/").replace("/", ".")
        order += [room] if "/" in place else [f"{room}.{name.replace(chr(92), '')}" for name in words.split(", ")]
    assert set(order) == {unit(module) for module in paths}
    for module, path in paths.items():
        for other in imported(path, set(paths)):
            assert order.index(unit(other)) <= order.index(unit(module)), f"{module} imports {other}"


def test_the_readme_can_be_read_in_ten_minutes():
    assert 130 <= len(README.splitlines()) <= 150


@pytest.mark.parametrize("page", PAGES)
def test_every_relative_link_leads_somewhere(page: str):
    for link in re.findall(r"\]\(([^)\s]+)\)", PAGES[page]):
        if re.match(r"\w+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (ROOT / page).parent / file if file else ROOT / page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text()), link


def test_every_settings_file_that_is_shown_can_be_loaded(tmp_path: Path):
    shown = [block for text in PAGES.values() for block in blocks(text, "toml")]
    assert shown
    for i, block in enumerate(shown):
        file = tmp_path / f"{i}.toml"
        file.write_text(block)
        assert load(file, environ={}) != Settings(), "it sets something"


def test_every_forecast_that_is_shown_is_whole():
    shown = [json.loads(block) for text in PAGES.values() for block in blocks(text, "json")]
    forecasts = [one for one in shown if "horizons" in one]
    assert forecasts
    for one in forecasts:
        columns = [one["times"], one["mean"], *one["quantiles"].values()]
        assert {len(column) for column in columns} == {len(one["horizons"])}
        assert tuple(map(float, one["quantiles"])) == Method().quantiles


@pytest.mark.parametrize("page", PAGES)
def test_every_command_that_is_named_exists(page: str):
    fenced = "\n".join(blocks(PAGES[page], r"\w*"))
    words = re.findall(r"^(?:\$ )?foldcast (\w[\w-]*)", fenced, re.MULTILINE)
    named = words + re.findall(r"`foldcast (\w[\w-]*)", PAGES[page])
    assert set(named) <= set(COMMANDS)


def test_the_pictures_are_small_and_shown():
    pictures = {path for kind in ("svg", "png") for path in (ROOT / "docs").glob(f"*.{kind}")}
    assert [path for path in pictures if path.stat().st_size > PICTURE_BYTES] == []
    shown = "".join(PAGES.values())
    assert [path for path in pictures if f"{path.name})" not in shown] == []


def test_every_make_target_in_the_readme_exists():
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"(?:^|`)make (\w+)", README, re.MULTILINE)
    assert targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_every_module_is_short():
    for package in ("pipeline", "worker"):
        for module in (ROOT / package).rglob("*.py"):
            text = module.read_text()
            assert len(text.splitlines()) <= 300, module


def test_every_function_is_short():
    for package in ("pipeline", "worker"):
        for module in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(module.read_text())):
                if isinstance(node, ast.FunctionDef):
                    lines = (node.end_lineno or 0) - node.lineno + 1
                    assert lines <= 60, node.name


def test_what_the_docs_say_of_a_streams_size_is_so():
    text = (ROOT / "docs" / "forecasting.md").read_text()
    methods = [Method(), Method(profile="lite"), Method(weekly="off"), Method(horizons=(1,)), Method(cell="lstm")]
    methods += [Method(covariates=tuple("abcde")), Method(horizons=tuple(range(1, 25)))]
    assert [size for method in methods if (size := f"{layout(method).itemsize:,}") not in text] == []
    assert f"{layout(Method()).itemsize:,} bytes" in README


def test_every_header_of_a_dead_letter_is_explained() -> None:
    value, key = bytes(2000), bytes(1999)
    records = Records([7], [0], [key], [value], [[("own", bytes(1998))]])
    facts = [("foldcast-error-reason", b"")]
    for limit in (1 << 20, 3000, 2500, 1000):
        [letter] = dead_letters([Rejected(0, "undecodable", "")], records, Topics("in", "", "", ""), 0, limit)
        facts += letter.headers
    page = (ROOT / "docs" / "guarantees.md").read_text().partition("## Headers of a dead letter")[2]
    rows = [row.split("|")[1] for row in page.splitlines() if row.startswith("| `")]
    explained = {
        f"foldcast-error{name.removeprefix('foldcast-error')}" for row in rows for name in re.findall("`(.*?)`", row)
    }
    assert explained == {name for name, _ in facts if name.startswith("foldcast-")}
