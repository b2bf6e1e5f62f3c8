"""The shape that ARCHITECTURE.md promises, read from the sources."""

import ast
import sys
from pathlib import Path

import pytest

from towline import plan

ROOT = Path(__file__).parent.parent
SRC = ROOT / "src" / "towline"
USERS_SCRIPTS = {"demo_files", "recipes"}  # what users see and change, no part of the package
MODULES = sorted(
    path for path in SRC.rglob("*.py") if path.relative_to(SRC).parts[0] not in USERS_SCRIPTS
)
ONBOARD = sorted((SRC / "onboard").glob("*.py"))
STEPS = ["acquire", "connect", "deliver", "equip", "execute", "follow", "gather", "release"]
MOST_LINES = 320
#: files that may be longer, each with the reason
LONGER = {
    "errors.py": "the whole tree in one place",
    "store/journal.py": "every query in one place, so that the guarded writes can be read together",
}


def name_of(path):
    return path.relative_to(SRC).as_posix()


def test_the_eight_steps_are_eight_files_in_alphabetical_order():
    files = sorted(path.stem for path in (SRC / "steps").glob("*.py") if path.stem != "__init__")
    assert files == STEPS == sorted(STEPS)


def test_the_plan_has_the_steps_in_run_order():
    assert [str(name) for name in plan.STEPS] == STEPS


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_says_what_it_is_for(path):
    tree = ast.parse(path.read_text("utf-8"))
    assert ast.get_docstring(tree), "the first thing in a module is its docstring"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_stays_readable_in_one_sitting(path):
    lines = len(path.read_text("utf-8").splitlines())
    assert lines <= MOST_LINES or name_of(path) in LONGER


def test_exceptions_to_the_line_budget_are_still_needed():
    needed = {name_of(p) for p in MODULES if len(p.read_text("utf-8").splitlines()) > MOST_LINES}
    assert set(LONGER) <= needed


def test_the_architecture_page_names_every_module():
    page = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    names = {p.stem for p in MODULES}
    # `local_box` is a helper of `local`: the page names the latter
    helpers = {name for name in names if name.partition("_")[0] in names and "_" in name[1:]}
    missing = [
        name_of(p)
        for p in MODULES
        if p.stem[0] != "_" and p.stem not in helpers and f"`{p.stem}`" not in page
    ]
    missing += [
        f"{p.name}/"
        for p in SRC.iterdir()
        if (p / "__init__.py").exists() and f"`{p.name}`" not in page
    ]
    assert not missing


@pytest.mark.parametrize("path", ONBOARD, ids=name_of)
def test_the_program_on_the_instance_is_old_python_and_standard_library_only(path):
    tree = ast.parse(path.read_text("utf-8"), feature_version=(3, 7))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = {node.module.partition(".")[0]}
        else:
            continue
        assert names <= sys.stdlib_module_names | {"compression"}  # there from 3.14 on


@pytest.mark.parametrize("path", ONBOARD, ids=name_of)
def test_the_program_on_the_instance_avoids_what_python_3_6_lacks(path):
    tree = ast.parse(path.read_text("utf-8"))
    newer = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.NamedExpr | ast.Match)
        or (isinstance(node, ast.arguments) and node.posonlyargs)
        or (isinstance(node, ast.ImportFrom) and node.module == "__future__")
        or (isinstance(node, ast.keyword) and node.arg in {"capture_output", "text"})
    ]
    assert not newer
