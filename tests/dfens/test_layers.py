"""No import cycle, also counting imports inside functions, which import-linter's layers do not see within a package."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("dfens", "ensemble", "oof", "submissions", "trainers")


def imported(path: Path, modules: set[str]) -> set[str]:
    """Return the modules of this project that a file imports, at the top or inside functions."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    types_only = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node not in types_only:
            names += [f"{node.module}.{item.name}" for item in node.names] + [node.module]
        elif isinstance(node, ast.Import) and node not in types_only:
            names += [item.name for item in node.names]
    return modules.intersection(names)


def test_no_cycle_of_imports() -> None:
    paths = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if path.name != "__init__.py"
    }
    left = {name: imported(path, set(paths)) - {name} for name, path in paths.items()}
    assert len(left) > 200
    while free := {name for name, needs in left.items() if not needs & left.keys()}:
        left = {name: needs for name, needs in left.items() if name not in free}
    assert not left, f"These modules are in a cycle, or import one that is: {', '.join(sorted(left))}"


@pytest.mark.parametrize("name", ["Image", "Images", "Rows", "Points", "Decode", "Inputs", "Vector"])
def test_shared_types_are_declared_once(name: str) -> None:
    paths = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    declared = [path for path in paths if re.search(rf"^{name} = (NDArray|Literal)\[", path.read_text(), re.MULTILINE)]
    assert len(declared) == 1, declared
