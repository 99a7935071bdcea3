"""The README says what is true: its tree is the code's, its commands exist."""

import ast
import re
from pathlib import Path

from pipeline.method import Method
from pipeline.table import layout

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def remark(module: Path) -> str:
    """The first line of a module's docstring."""
    return (ast.get_docstring(ast.parse(module.read_text())) or "").splitlines()[0]


def tree() -> str:
    """Every package with its remark and its modules, as deep as they lie."""
    lines = []
    for package in ("pipeline", "worker"):
        for folder in sorted({path.parent for path in (ROOT / package).rglob("*.py")}):
            lines.append(f"{str(folder.relative_to(ROOT)) + '/':<24}{remark(folder / '__init__.py')}")
            for module in sorted(folder.glob("*.py")):
                if module.name != "__init__.py":
                    lines.append(f"  {module.name:<22}{remark(module)}")
    return "\n".join(lines)


def test_the_architecture_has_every_module_with_its_remark():
    said = (ROOT / "docs" / "architecture.md").read_text()
    assert tree() in said, f"put this into docs/architecture.md:\n{tree()}"


def test_every_file_the_readme_links_to_is_there():
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_make_target_in_the_readme_exists():
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"(?:^|`)make (\w+)", README, re.MULTILINE)
    assert targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_every_module_is_short_or_says_why_not():
    """Over 300 lines only with a reason in the module's docstring."""
    for package in ("pipeline", "worker"):
        for module in (ROOT / package).rglob("*.py"):
            text = module.read_text()
            assert len(text.splitlines()) <= 300 or "Longer than 300 lines because" in text, module


def test_every_function_is_short_or_says_why_not():
    """Over 60 lines only with a reason in its docstring."""
    for package in ("pipeline", "worker"):
        for module in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(module.read_text())):
                if isinstance(node, ast.FunctionDef):
                    lines = (node.end_lineno or 0) - node.lineno + 1
                    assert lines <= 60 or "Longer than 60 lines because" in (ast.get_docstring(node) or ""), node.name


def test_what_the_docs_say_of_a_streams_size_is_so():
    text = (ROOT / "docs" / "forecasting.md").read_text()
    methods = [Method(), Method(profile="lite"), Method(weekly="off"), Method(horizons=(1,)), Method(cell="lstm")]
    methods += [Method(covariates=tuple("abcde")), Method(horizons=tuple(range(1, 25)))]
    assert [size for method in methods if (size := f"{layout(method).itemsize:,}") not in text] == []
    assert f"{layout(Method()).itemsize:,} bytes" in README
