"""`make gpu`: the tests and benchmarks fit into nine minutes, and skipped ones are reported."""

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


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
    for section in found[1:]:  # benchmarks end by themselves; the tests are stopped
        at = section.arguments.index("--seconds")
        assert float(section.arguments[at + 1]) < kit.LIMITS[section.name]


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
