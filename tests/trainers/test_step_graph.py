"""Training steps that are repeated as a CUDA graph must equal those that are computed directly."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.support.devices import settings
from tests.trainers.test_device_steps import EDGE, batch, exact_convolutions, run, state_on
from trainers.kinds.training.train_state import TrainState
from trainers.runtime.step_graph import StepGraph

assert exact_convolutions  # the fixture applies to this file as well


def chosen(**values: object) -> Any:
    return settings(image_size=EDGE, **values)


class Captures:
    """Stands in for CUDA: a capture runs nothing, a replay runs the function that was captured."""

    def __init__(self, *, works: bool = True) -> None:
        self.works, self.captures, self.replays = works, 0, 0

    def __call__(self, compute: Callable[[], None]) -> Callable[[], None] | None:
        self.captures += 1

        def replay() -> None:
            self.replays += 1
            compute()

        return replay if self.works else None


def sums(count: int, captures: Captures, *, shapes: dict[int, int] | None = None) -> tuple[list[float], StepGraph]:
    """Return what a graph computes from rows of ones, twos and so on, with other shapes in some calls."""
    found: list[float] = []
    graph = StepGraph(lambda given: found.append(float(given[0].sum())), captures)
    for call in range(count):
        graph((torch.full((shapes or {}).get(call, 4) * (1,), float(call)),))
    return found, graph


def test_calls_after_the_first_are_replayed_with_their_own_values() -> None:
    captures = Captures()
    found, _ = sums(6, captures)
    assert found == [0, 1, 2, 3, 4, 5]
    assert (captures.captures, captures.replays) == (1, 3)


def test_inputs_of_another_shape_are_computed_directly() -> None:
    captures = Captures()
    found, _ = sums(7, captures, shapes={4: 3})
    assert found == [0, 1, 2, 3, 4, 5, 6]
    assert (captures.captures, captures.replays) == (1, 3)


def test_everything_is_computed_directly_after_a_failed_capture() -> None:
    captures = Captures(works=False)
    found, _ = sums(7, captures)
    assert found == [0, 1, 2, 3, 4, 5, 6]
    assert (captures.captures, captures.replays) == (1, 0)


def test_a_released_graph_is_captured_again() -> None:
    captures = Captures()
    found, graph = sums(5, captures)
    graph.release()
    graph((torch.full((4,), 2.0),))
    assert found[-1] == 8
    assert (captures.captures, captures.replays) == (2, 3)


VARIANTS = [
    {}, {"precision": "bfloat16"}, {"precision": "float16"}, {"grad_clip": 0.1}, {"loss": "auc"},
    {"backbone": "test_vit", "backbone_options": {"img_size": EDGE, "drop_path_rate": 0.3}, "layer_decay": 0.7},
]  # fmt: skip


@pytest.mark.gpu
@pytest.mark.parametrize("values", VARIANTS, ids=str)
def test_steps_of_a_graph_equal_direct_ones(values: dict[str, object]) -> None:
    """Losses, weights and averages after steps at different rates; random numbers are the same as well."""
    graph, direct = state_on("cuda", chosen(**values)), state_on("cuda", chosen(**values))
    direct._graph = None
    for first in range(0, 12, 3):
        rate = 1e-3 / (1 + first)
        assert run(graph, 3, first=first, rate=rate) == pytest.approx(
            run(direct, 3, first=first, rate=rate), rel=1e-4, abs=1e-5
        )
    assert graph._graph is not None
    assert graph._graph._replay is not None
    for one, other in zip((*graph.values, *graph.averaged), (*direct.values, *direct.averaged), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_bad_step_within_a_graph_changes_nothing(precision: str) -> None:
    state = state_on("cuda", chosen(precision=precision))
    run(state, 6)
    before = [value.clone() for value in (*state.values, *state.averaged)]
    images, target = batch()
    state.step(images, target * float("nan"), None, rate=1e-3, step=6, seed=(0, 6))
    assert state.bad.tolist() == [1, 1, 1]
    for old, new in zip(before, (*state.values, *state.averaged), strict=True):
        assert torch.equal(old, new)
    run(state, 1, first=7)
    assert state.bad.tolist() == [1, 0, 1]


class Waiting(nn.Module):
    """A network of which an operation waits for the device, so that it cannot be captured."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.network(nn.functional.dropout(images, 0.1, training=True))
        return found * (1.0 if float(found.detach().sum()) < 1e9 else 0.0)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_network_that_cannot_be_captured_trains_directly(precision: str) -> None:
    def waiting(direct: bool) -> TrainState:
        state = state_on("cuda", chosen(precision=precision))
        state._forward = Waiting(state.model)
        if direct:
            state._graph = None
        return state

    tried, direct = waiting(False), waiting(True)
    assert run(tried, 8) == pytest.approx(run(direct, 8), rel=1e-4, abs=1e-5)
    assert tried._graph is not None
    assert tried._graph._fails
    # memory that another stream has used is given back, and other networks are captured as before
    side, held = torch.cuda.Stream(), []  # type: ignore[no-untyped-call]
    for _ in range(4):
        used = torch.empty(1 << 24, device="cuda")
        used.record_stream(side)
        del used
        torch.cuda.synchronize()
        torch.empty(1, device="cuda")
        held.append(torch.cuda.memory_allocated())
    assert held[0] == held[-1]
    other = state_on("cuda", chosen())
    run(other, 5)
    assert other._graph is not None
    assert other._graph._replay is not None
