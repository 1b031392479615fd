"""Repeat the operations of a training step as a CUDA graph, which a single call starts."""

from collections.abc import Callable

import torch
from torch import Tensor

Compute = Callable[[tuple[Tensor, ...]], None]
Replay = Callable[[], None]

_WARM_UP = 3  # calls before the capture, in which libraries choose kernels and the optimiser creates its state


class StepGraph:
    """Runs `compute` on tensors of a CUDA device; after a few calls by replaying a graph of its kernels.

    Starting the kernels of a step one after the other takes the interpreter 30 ms for a resnet50, as long as an H100
    computes, so that whatever else it does is added to the step. A graph starts all of them in one call.

    A graph repeats the same kernels on the same memory. So `compute` must run the same operations in each call, return
    nothing, and read all values that change from tensors that exist before: its arguments, which are copied here, and
    others that are changed in place. Random numbers of the device are as without a graph. Arguments of another shape
    or layout than those captured are computed directly, and everything is if the capture fails, for example since an
    operation waits for the device.

    Args:
        compute: function of a tuple of tensors.
        capture: function that captures another one; returns a function that replays it, or None if that fails.
    """

    def __init__(self, compute: Compute, capture: Callable[[Callable[[], None]], Replay | None]) -> None:
        self._compute = compute
        self._capture = capture
        self._calls = 0
        self._fails = False
        self._inputs: tuple[Tensor, ...] = ()
        self._replay: Replay | None = None

    def __call__(self, given: tuple[Tensor, ...]) -> None:
        """Compute, or replay the computation, without waiting for the device."""
        self._calls += 1
        if self._replay is None and self._calls > _WARM_UP and not self._fails:
            inputs = tuple(torch.empty_like(value) for value in given)
            self._replay = self._capture(lambda: self._compute(inputs))
            self._inputs = inputs
            self._fails = self._replay is None
        if self._replay is None or [_layout(value) for value in given] != [_layout(value) for value in self._inputs]:
            self._compute(given)
            return
        torch._foreach_copy_(self._inputs, given)
        self._replay()

    def release(self) -> None:
        """Free the memory of the graph; the next call captures it again."""
        self._replay, self._inputs = None, ()


def capture_on(device: torch.device) -> Callable[[Callable[[], None]], Replay | None]:
    """Return the function that captures another one on a CUDA device."""

    def capture(compute: Callable[[], None]) -> Replay | None:
        graph = torch.cuda.CUDAGraph()
        generator = torch.cuda.default_generators[torch.cuda.current_device() if device.index is None else device.index]
        before = generator.clone_state()
        try:
            with (
                torch.cuda.stream(torch.cuda.current_stream(device)),  # since a failed capture does not return to it
                torch.cuda.graph(graph, capture_error_mode="thread_local"),  # other threads may allocate memory
            ):
                compute()
        except RuntimeError:
            generator.graphsafe_set_state(before)  # else it would still be that of the capture
            return None
        return graph.replay

    return capture


def _layout(value: Tensor) -> tuple[torch.Size, tuple[int, ...], torch.dtype]:
    return value.shape, value.stride(), value.dtype
