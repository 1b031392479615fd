"""The device of a process, its precision, and what can be read of it."""

import contextlib
import ctypes
import platform
import resource
import sys
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from trainers.runtime.settings import Precision


def default_device() -> torch.device:
    """The first CUDA device, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def without_autocast(device: torch.device) -> contextlib.AbstractContextManager[None]:
    """Return a context in which floats stay as they are, for what needs 32 bits; nothing to do on "meta"."""
    if device.type == "meta":
        return contextlib.nullcontext()
    plain: contextlib.AbstractContextManager[None] = torch.autocast(device.type, enabled=False)
    return plain


def amp_type(device: torch.device, precision: Precision = "auto") -> torch.dtype | None:
    """Return the data type that networks compute in under autocast; None means float32 throughout.

    "auto" takes bfloat16 on a CUDA device with hardware support for it, float16 on other CUDA devices, and float32
    on a CPU. Emulated bfloat16 does not count: a T4 or RTX 20xx passes torch's default test, and is then slower
    than in float32 or has no convolution at all.
    """
    if precision != "auto":
        return {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}[precision]
    if device.type != "cuda":
        return None
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def set_up(device: torch.device) -> None:
    """Set what holds for all networks of this process on a device: memory that is kept, and exact float32."""
    if device.type == "cpu":
        keep_freed_memory()
    else:
        use_exact_float32()


@cache
def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees, where the C library is glibc.

    The output of a layer is so large that glibc asks the system for it and gives it back each time; the pages
    that are filled with zeros meanwhile took a fifth of the time of prediction on a CPU, a tenth of training.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(-4, 0)  # M_MMAP_MAX: no block of its own for large arrays
        mallopt(-1, -1)  # M_TRIM_THRESHOLD: give nothing back


def device_name(device: torch.device) -> str:
    """The chip's name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu ({platform.machine()}, {torch.get_num_threads()} threads)"


def peak_memory(device: torch.device) -> dict[str, int]:
    """Return the most memory held, in bytes: by this process since it began, and on its device since `reset_peak`."""
    unit = 1 if sys.platform == "darwin" else 1024  # kilobytes on Linux
    found = {"process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    if device.type == "cuda":
        found["device"] = torch.cuda.max_memory_allocated(device)
    return found


def reset_peak(device: torch.device) -> None:
    """Let `peak_memory` count the memory of a device anew, so that a fold does not show that of an earlier one."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


class EnergyMeter:
    """Energy of an NVIDIA device, by whoever uses it, from now on; None where the driver's library does not tell."""

    def __init__(self, device: torch.device) -> None:
        self._read: Any = None
        if device.type == "cuda":
            self._read = _nvml_reader(device)
        self._begun = self._read() if self._read else 0

    @property
    def joules(self) -> float | None:
        return None if self._read is None else (self._read() - self._begun) / 1000


def _nvml_reader(device: torch.device) -> Any:
    """A function that tells the device's total energy in millijoules since the driver was loaded."""
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


_OUT_OF_MEMORY = ("out of memory", "alloc_failed", "can't allocate memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory was too small, on CUDA or on the CPU.

    Besides torch's own allocator, the driver, cuBLAS and cuDNN report it, each as a RuntimeError in its own words:
    "CUDA error: out of memory", CUBLAS_STATUS_ALLOC_FAILED, CUDNN_STATUS_ALLOC_FAILED.
    """
    if isinstance(error, torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in text for words in _OUT_OF_MEMORY)


def use_exact_float32() -> None:
    """Compute float32 as float32 on CUDA, also in convolutions.

    By default cuDNN rounds the factors of float32 convolutions to TF32, 10 bits: precision = "float32" was not what
    it says, and the residuals of `inputs`, differences of a few grey levels, lost 2 to 5 %.
    """
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def on_device(values: NDArray[np.generic], device: torch.device) -> torch.Tensor:
    """Copy a small array to a device without waiting for the device's queue.

    `torch.tensor(list, device="cuda")` waits until all that was queued is done, so that the device idles
    while the next step is prepared; a copy from pinned memory does not.
    """
    tensor = torch.from_numpy(np.ascontiguousarray(values))
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
