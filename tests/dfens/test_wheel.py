"""A wheel contains every file that the packages read: recipes, templates, typing marks."""

from configparser import ConfigParser
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("dfens", "ensemble", "oof", "submissions", "trainers")


def test_every_data_file_is_package_data() -> None:
    config = ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    patterns = [pattern.strip() for pattern in config["options.package_data"]["*"].split(",")]
    found = 0
    for path in sorted(path for name in PACKAGES for path in (ROOT / name).rglob("*") if path.is_file()):
        if path.suffix == ".py" or path.parent.name == "__pycache__" or path.name.startswith("."):
            continue
        package = next(folder for folder in path.parents if (folder / "__init__.py").exists())
        inside = path.relative_to(package).as_posix()
        assert any(fnmatch(inside, pattern) for pattern in patterns), f"{path} would not be in the wheel"
        found += 1
    assert found >= 15


def test_every_folder_with_code_is_a_package() -> None:
    for name in PACKAGES:
        for path in (ROOT / name).rglob("*.py"):
            assert (path.parent / "__init__.py").exists(), f"{path.parent} has no __init__.py, so a wheel leaves it out"
