"""The device of a process: its precision, memory, energy and settings."""

import contextlib
import ctypes
import platform
import resource
import sys
from collections import deque
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from trainers.runtime.settings import Precision


def default_device() -> torch.device:
    """Return the first CUDA device, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def without_autocast(device: torch.device) -> contextlib.AbstractContextManager[None]:
    """Return a context without autocast, for operations that need 32 bits; does nothing on "meta"."""
    if device.type == "meta":
        return contextlib.nullcontext()
    plain: contextlib.AbstractContextManager[None] = torch.autocast(device.type, enabled=False)
    return plain


def amp_type(device: torch.device, precision: Precision = "auto") -> torch.dtype | None:
    """Return the data type that autocast uses in networks; None means float32 throughout.

    "auto" selects bfloat16 on CUDA devices with hardware support for it, float16 on other CUDA devices, and float32 on
    a CPU. Emulated bfloat16 does not count: a T4 or RTX 20xx passes torch's default check, but is then slower than in
    float32 or lacks convolutions.
    """
    if precision != "auto":
        return {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}[precision]
    if device.type != "cuda":
        return None
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def set_up(device: torch.device) -> None:
    """Configure this process for networks on a device: keep freed memory, and use exact float32."""
    if device.type == "cpu":
        keep_freed_memory()
    else:
        use_exact_float32()


@cache
def keep_freed_memory() -> None:
    """Make this process keep the memory that it frees, if the C library is glibc.

    The output of a layer is so large that glibc requests it from the system and returns it each time; zeroing the pages
    took a fifth of the time of prediction on a CPU, and a tenth of training.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(-4, 0)  # M_MMAP_MAX: do not use mmap for large arrays
        mallopt(-1, -1)  # M_TRIM_THRESHOLD: never return memory to the system


def device_name(device: torch.device) -> str:
    """Return the name of the processor or GPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu ({platform.machine()}, {torch.get_num_threads()} threads)"


def peak_memory(device: torch.device) -> dict[str, int]:
    """Return the peak memory in bytes: of this process since its start, and on its device since `reset_peak`."""
    unit = 1 if sys.platform == "darwin" else 1024  # kilobytes on Linux
    found = {"process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    if device.type == "cuda":
        found["device"] = torch.cuda.max_memory_allocated(device)
    return found


def reset_peak(device: torch.device) -> None:
    """Reset the peak of `peak_memory` on a device, so that a fold does not report that of an earlier one."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


class EnergyMeter:
    """Meter of the energy used by an NVIDIA device from now on, by all processes; None if NVML does not report it."""

    def __init__(self, device: torch.device) -> None:
        self._read: Any = None
        if device.type == "cuda":
            self._read = _nvml_reader(device)
        self._begun = self._read() if self._read else 0

    @property
    def joules(self) -> float | None:
        return None if self._read is None else (self._read() - self._begun) / 1000


def _nvml_reader(device: torch.device) -> Any:
    """Return a function that returns the device's total energy in millijoules since the driver was loaded."""
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return None
    handle = ctypes.c_void_p()
    uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}".encode()
    if nvml.nvmlInit_v2() or nvml.nvmlDeviceGetHandleByUUID(uuid, ctypes.byref(handle)):
        return None
    value = ctypes.c_ulonglong()

    def read() -> int:
        return 0 if nvml.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(value)) else value.value

    return read if read() else None


class Pace:
    """Keeps the host at most a few steps ahead of a CUDA device.

    The batch of a step that the device has not begun is in its memory; a host that is far ahead would fill it.
    """

    def __init__(self, device: torch.device, ahead: int = 3) -> None:
        self._device, self._ahead = device, ahead
        self._ends: deque[torch.cuda.Event] = deque()

    def wait(self) -> None:
        """Wait, at the end of a step, until the device has completed the step `ahead` steps before it."""
        if self._device.type != "cuda":
            return
        if len(self._ends) == self._ahead:
            self._ends.popleft().synchronize()
        end = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        end.record(torch.cuda.current_stream(self._device))
        self._ends.append(end)


_OUT_OF_MEMORY = ("out of memory", "alloc_failed", "can't allocate memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error is an out-of-memory error, on CUDA or on the CPU.

    Besides torch's allocator, the driver, cuBLAS and cuDNN report it, each as a RuntimeError with a different message:
    "CUDA error: out of memory", CUBLAS_STATUS_ALLOC_FAILED, CUDNN_STATUS_ALLOC_FAILED.
    """
    if isinstance(error, torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in text for words in _OUT_OF_MEMORY)


def use_exact_float32() -> None:
    """Disable TF32 on CUDA, also in convolutions, so that float32 is exact.

    By default cuDNN rounds the factors of float32 convolutions to TF32 (10 bits): precision = "float32" would not be
    exact, and the residuals of `inputs`, differences of a few grey levels, would have errors of 2 to 5 %.
    """
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def on_device(values: NDArray[np.generic], device: torch.device) -> torch.Tensor:
    """Copy a small array to a device without synchronising.

    `torch.tensor(list, device="cuda")` waits until all queued work is done, so that the device is idle while the next
    step is prepared; a copy from pinned memory does not.
    """
    tensor = torch.from_numpy(np.ascontiguousarray(values))
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
