"""Repeat the operations of a training step as a CUDA graph, which a single call starts."""

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Compute = Callable[[tuple[Tensor, ...]], None]
Replay = Callable[[], None]

_WARM_UP = 3  # calls before a capture, in which libraries choose kernels and the optimiser creates its state
_INDEXING = (torch.ops.aten.index.Tensor, torch.ops.aten.index_put.default, torch.ops.aten.index_put_.default)


class StepGraph:
    """Calls a function of tensors on a CUDA device; after a few calls by replaying a graph of its kernels.

    Starting the kernels of a resnet50 one by one takes Python 30 ms, as long as an H100 computes, so that whatever else
    it does is added to the step. A graph starts all of them in one call.

    A graph repeats the same kernels on the same memory. So the function must run the same operations in each call,
    return nothing, and read all values that change from tensors that exist before: its arguments, which are copied
    here, and others that are changed in place. Random numbers of the device are as in direct calls. Arguments of
    another shape or layout than those captured are computed directly. So is everything if the function waits for the
    device or the capture fails; `failure` then says why.
    """

    def __init__(self, device: torch.device) -> None:
        self.failure = ""
        self._device = device
        self._calls = 0
        self._inputs: tuple[Tensor, ...] = ()
        self._replay: Replay | None = None

    @property
    def holds_memory(self) -> bool:
        """Whether a graph keeps the memory of a step."""
        return self._replay is not None

    def __call__(self, compute: Compute, given: tuple[Tensor, ...]) -> None:
        """Compute, or replay the computation, without waiting for the device."""
        self._calls += 1
        if self._calls == _WARM_UP and not self.failure:
            with HostWaits() as waits:
                compute(given)
            self.failure = waits.found
            return
        if self._calls > _WARM_UP and self._replay is None and not self.failure:
            self._begin(compute, given)
        if self._replay is None or [_layout(value) for value in given] != [_layout(value) for value in self._inputs]:
            compute(given)
            return
        torch._foreach_copy_(self._inputs, given)
        self._replay()

    def _begin(self, compute: Compute, given: tuple[Tensor, ...]) -> None:
        inputs = tuple(torch.empty_like(value) for value in given)
        try:
            self._replay = capture(self._device, lambda: compute(inputs))
        except RuntimeError as err:
            self.failure = str(err).partition("\n")[0]
        else:
            self._inputs = inputs

    def release(self) -> None:
        """Give back the memory of the graph; later calls start again with direct ones."""
        self._calls = 0
        if self._replay is not None:
            self._replay, self._inputs = None, ()
            torch.cuda.empty_cache()


def capture(device: torch.device, compute: Callable[[], None]) -> Replay:
    """Capture the kernels of a function on a CUDA device, without running them; return what replays them.

    Raises:
        RuntimeError: if an operation cannot be captured.
    """
    graph, pool = torch.cuda.CUDAGraph(), torch.cuda.graph_pool_handle()
    index = torch.cuda.current_device() if device.index is None else device.index
    generator = torch.cuda.default_generators[index]
    before = generator.clone_state()
    try:
        with (
            torch.cuda.stream(torch.cuda.current_stream(device)),  # since a failed capture does not return to it
            torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"),  # other threads may allocate memory
        ):
            compute()
    except RuntimeError:
        generator.graphsafe_set_state(before)  # else it would still be that of the capture
        # before torch 2.13, the allocator does not notice that the capture has ended, and keeps what streams have used
        for name in ("_cuda_endAllocateToPool", "_cuda_endAllocateCurrentStreamToPool"):  # the latter before 2.8
            with contextlib.suppress(AttributeError, RuntimeError):
                getattr(torch._C, name)(index, pool)
                torch._C._cuda_releasePool(index, pool)
        raise
    return graph.replay


class HostWaits(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Finds an operation that waits for the device or copies from the host, so that it cannot be captured.

    Such operations have results whose values or shapes Python reads, or tensors on two devices. Those that wait
    internally, such as a singular value decomposition, are not found.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found = ""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not self.found and _waits(func, args, kwargs, result):
            self.found = f"{func} waits for the device"
        return result


def _waits(operation: Any, args: Any, kwargs: Any, result: Any) -> bool:
    tensors = [value for value in tree_leaves((args, kwargs, result)) if isinstance(value, Tensor)]
    if len({value.device.type for value in tensors if value.ndim}) > 1:
        return True
    if operation in _INDEXING:  # a mask is first turned into places
        return any(value.dtype in (torch.bool, torch.uint8) for value in tree_leaves(args[1]) if value is not None)
    if operation is torch.ops.aten.lift_fresh.default:  # torch.tensor(values, device=...)
        return any(value.device.type != "cpu" for value in tensors)
    return bool({torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape} & set(operation.tags))


def _layout(value: Tensor) -> tuple[torch.Size, tuple[int, ...], torch.dtype]:
    return value.shape, value.stride(), value.dtype
