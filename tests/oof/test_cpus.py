"""The number of processors respects the limits of the container and the affinity mask."""

import os
from pathlib import Path

import pytest

from oof.cpus import cpu_count, wait_passively


def groups(tmp_path: Path, lines: str, files: dict[str, str]) -> tuple[Path, Path]:
    """The kernel's files of a process in some control groups."""
    proc = tmp_path / "cgroup"
    proc.write_text(lines)
    for name, text in files.items():
        path = tmp_path / "fs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return proc, tmp_path / "fs"


@pytest.fixture(autouse=True)
def eight_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)


@pytest.mark.parametrize(("lines", "files", "expected"), [
    ("0::/\n", {}, 8),
    ("0::/\n", {"cpu.max": "max 100000\n"}, 8),
    ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
    ("0::/\n", {"cpu.max": "250000 100000\n"}, 2),
    ("0::/\n", {"cpu.max": "50000 100000\n"}, 1),
    ("0::/a/b\n", {"a/cpu.max": "300000 100000\n", "a/b/cpu.max": "max 100000\n"}, 3),
    ("0::/a/b\n", {"a/cpu.max": "300000 100000\n", "a/b/cpu.max": "100000 100000\n"}, 1),
    ("4:cpu,cpuacct:/docker/x\n", {"cpu,cpuacct/docker/x/cpu.cfs_quota_us": "400000\n",
                                   "cpu,cpuacct/docker/x/cpu.cfs_period_us": "100000\n"}, 4),
    ("4:cpu,cpuacct:/docker/x\n", {"cpu/cpu.cfs_quota_us": "150000\n", "cpu/cpu.cfs_period_us": "50000\n"}, 3),
    ("4:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
    ("4:memory:/x\n", {"memory/x/cpu.max": "100000 100000\n"}, 8),
    ("", {"cpu.max": "broken"}, 8),
])  # fmt: skip
def test_cpu_quotas_of_containers_are_respected(
    tmp_path: Path, lines: str, files: dict[str, str], expected: int
) -> None:
    assert cpu_count(*groups(tmp_path, lines, files)) == expected


def test_without_control_groups_the_affinity_mask_is_used(tmp_path: Path) -> None:
    assert cpu_count(tmp_path / "none", tmp_path / "none") == 8


def test_a_wait_policy_of_the_user_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    wait_passively()
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"
