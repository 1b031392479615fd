"""`make gpu`: the tests and benchmarks fit into nine minutes, and skipped ones are reported."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"


def load(name: str) -> ModuleType:
    """Import a benchmark, which is a script, as a module."""
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look up their module there
    spec.loader.exec_module(module)
    return module


def test_all_sections_fit_into_nine_minutes(tmp_path: Path) -> None:
    kit = load("gpu")
    assert sum(kit.LIMITS.values()) + kit._AROUND_S <= 9 * 60
    found = kit.sections(tmp_path, 4)
    assert [section.name for section in found] == list(kit.LIMITS)
    assert kit.with_limit(found[0], 99) == found[0]
    for section in found[1:]:  # benchmarks end by themselves; the tests are stopped
        assert kit.with_limit(section, 99).arguments[-2:] == ("--seconds", "84")


def test_models_share_the_time_and_one_that_does_not_fit_is_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measure = load("measure")
    now, compared = 0.0, []

    def compare(name: str, budget: Any) -> None:
        nonlocal now
        compared.append((name, budget.allows(29), budget.allows(31)))
        now += 35

    monkeypatch.setattr(measure.time, "monotonic", lambda: now)
    measure.each_in_time(["a", "b", "c"], 90, compare)
    assert compared == [("a", True, False), ("b", False, False)]
    assert "c: left out, no time left." in capsys.readouterr().out  # 20 of 90 s are left, and its share is 30 s


def test_a_section_that_fails_or_runs_out_of_time_is_reported() -> None:
    kit = load("gpu")
    slow = kit.Section("slow", ("-c", "import time; time.sleep(600)"))
    assert kit.run(slow, 1.0, dict(os.environ))[0].startswith("stopped at its limit of 1 s")
    wrong = kit.Section("wrong", ("-c", "print('so far'); raise SystemExit(3)"))
    end, printed = kit.run(wrong, 250.0, dict(os.environ))
    assert end.startswith("failed with exit code 3")
    assert printed == "so far\n"


def test_repeats_that_do_not_fit_are_skipped_and_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measure = load("measure")
    now = 0.0

    def task() -> int:
        nonlocal now
        now += 10
        return 1

    monkeypatch.setattr(measure.time, "monotonic", lambda: now)
    timing = measure.time_in_turn({"a": task, "b": task}, 9, apart=False, budget=measure.Budget(70))
    assert len(timing["a"].seconds) == len(timing["b"].seconds) == 2  # 20 s to warm up, and 20 s each
    assert "2 of 9 repeats: no time left for more." in capsys.readouterr().out
    assert len(measure.time_in_turn({"a": task}, 3, apart=False)["a"].seconds) == 3


# Collect the GPU tests as if only some distributions and what they require were installed; arguments: names
COLLECT = """
import importlib.abc, importlib.metadata, re, sys
from pathlib import Path

import pytest

ROOT = str(Path.cwd())


def plain(name):
    return re.sub(r"[-_.]+", "-", name).lower()


there, left = set(), [plain(name) for name in sys.argv[1:]]
while left:
    name = left.pop()
    if name in there:
        continue
    there.add(name)
    try:
        required = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        continue
    left += [plain(re.match(r"[\\w.-]+", one).group()) for one in required if "extra ==" not in one]
owners = importlib.metadata.packages_distributions()
missing = {module for module, found in owners.items() if not there & {plain(one) for one in found}}


class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        frame = sys._getframe(1)
        while "importlib" in frame.f_code.co_filename:
            frame = frame.f_back
        importer = frame.f_code.co_filename
        ours = importer.startswith(ROOT) and "site-packages" not in importer
        if ours and name.split(".")[0] in missing - {"dfens", "oof", "ensemble", "trainers", "submissions", "tests"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Missing())
files = [str(path) for path in sorted(Path("tests").rglob("test_*.py")) if "mark.gpu" in path.read_text()]
files += [str(path) for path in sorted(Path("tests").rglob("test_*.py")) if "DEVICES" in path.read_text()]
sys.exit(pytest.main([*dict.fromkeys(files), *"-m gpu --collect-only -q -n 0 -p no:cacheprovider".split()]))
"""


def test_the_gpu_tests_import_no_package_that_the_documentation_does_not_name() -> None:
    text = " ".join((ROOT / "docs" / "training.md").read_text().split())
    there = re.search(r"any Python with (.*?) will do", text)
    wheels = re.search(r"`make gpu WHEELS=folder`: (.*?)\. ", text)
    assert there is not None
    assert wheels is not None
    names = re.split(r", | and ", f"{there[1]}, {wheels[1]}".replace("OpenCV", "opencv-python-headless"))
    assert {"torch", "pytest-xdist", "ttach", "av"} <= set(names)
    done = subprocess.run([sys.executable, "-c", COLLECT, *names], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "test_device_folds.py" in done.stdout
