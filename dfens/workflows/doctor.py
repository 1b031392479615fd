"""Examine this machine: versions, devices, memory, disk, credentials, network."""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass

import psutil

from dfens import __version__
from dfens.workflows.extract import wanted
from dfens.workspace.paths import Workspace
from oof.cpus import cpu_count
from oof.errors import DfensError
from submissions.kaggle.credentials import find_credentials
from trainers.networks.hub import unreachable

_PACKAGES = "torch torchvision timm ttach numpy pandas scikit-learn scipy numba kaggle ray".split()


@dataclass(frozen=True)
class Machine:
    """Facts about a machine by name, in display order."""

    facts: Mapping[str, str]

    def as_json(self) -> Mapping[str, str]:
        """Return the facts at the top level."""
        return self.facts


def examine_machine(workspace: Workspace, *, offline: bool) -> Machine:
    """Collect versions, devices, free disk and memory, the source of credentials, and whether the hub can be reached.

    Only the source of credentials is included, never their content.
    """
    memory = psutil.virtual_memory()
    disk = shutil.disk_usage(workspace.root)
    return Machine(
        {
            "dfens": __version__,
            "python": f"{platform.python_version()} ({sys.executable})",
            **{name: _version(name) for name in _PACKAGES},
            "processor": f"{cpu_count()} of {os.cpu_count()} cores, {platform.machine()}",
            "devices": _devices(),
            "memory": f"{memory.available / 2**30:.1f} GiB free of {memory.total / 2**30:.1f}",
            "disk": f"{disk.free / 2**30:.1f} GiB free at {workspace.root}",
            "dfens.toml": _settings(workspace),
            "faces in clips": _faces(workspace),
            "Kaggle credentials": credentials_found(os.environ),
            "weights hub": "not tried (--offline)" if offline else _hub(),
        }
    )


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _settings(workspace: Workspace) -> str:
    """Return the path of dfens.toml, or what is wrong with it."""
    path = workspace.config_path
    if not path.exists():
        return "none here (dfens init writes one)"
    try:
        workspace.config  # noqa: B018  # reads it
    except DfensError as err:
        return f"{path} cannot be used: {err}"
    return str(path)


def _faces(workspace: Workspace) -> str:
    """Return how faces in clips are found."""
    if importlib.util.find_spec("onnxruntime") is None:
        return "centre crop (onnxruntime is not installed; pip install 'dfens[faces]' for a detector)"
    if not workspace.config_path.exists():
        return "centre crop unless a model sets faces = FILE.onnx"
    try:
        files = sorted({settings.faces for settings, _ in wanted(workspace) if settings.faces})
    except DfensError as err:
        return f"unknown: {err}"
    return ", ".join(files) or "centre crop (no model sets faces = FILE.onnx)"


def _devices() -> str:
    """Query the devices in a child process: loading torch is slow, and a broken driver may kill the process."""
    code = (
        "import torch; n = torch.cuda.device_count();"
        "print('; '.join(f'{torch.cuda.get_device_name(i)}, '"
        "f'{torch.cuda.get_device_properties(i).total_memory / 2**30:.0f} GiB, '"
        "f'bf16 {torch.cuda.is_bf16_supported(including_emulation=False)}' "  # as in trainers.runtime.device.amp_type
        "for i in range(n)) or 'no CUDA device; training runs on the CPU')"
    )
    try:
        done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=120)
    except subprocess.TimeoutExpired:
        return "unknown: torch did not respond within 120 s"
    return done.stdout.strip() or f"unknown: torch cannot be loaded ({done.stderr.strip().splitlines()[-1:]})"


def credentials_found(environment: Mapping[str, str]) -> str:
    """Return the source of Kaggle credentials that is used, and problems with others; never their content."""
    found = find_credentials(environment)
    if not found.sources:
        return "none (create a token on kaggle.com under Settings, save it as ~/.kaggle/access_token)"
    usable = [source.name for source in found.sources if not source.problem]
    used = "none usable" if found.used is None else found.used.name
    others = [name for name in usable if found.used is not None and name != used]
    return "; ".join([used, *([f"also {', '.join(others)}"] if others else []), *found.problems])


def _hub() -> str:
    reason = unreachable()
    return f"{reason}; use pretrained = false or a weights file" if reason else "answers"
