"""Steps that are repeated as a CUDA graph, with a stand-in for CUDA; test_device_steps.py uses a device."""

import gc
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn

from tests.support.devices import fake_cuda, picture_rows, settings
from tests.support.training import Notes
from tests.trainers.test_device_folds import fold_trainer
from tests.trainers.test_device_steps import batch, run, state_on
from trainers.kinds.training.fold_trainer import FoldTrainer
from trainers.kinds.training.train_state import TrainState
from trainers.runtime import step_graph
from trainers.runtime.step_graph import Compute, HostWaits, StepGraph


class Captures:
    """Stands in for CUDA: a capture runs nothing, a replay runs the function that was captured."""

    def __init__(self) -> None:
        self.error: RuntimeError | None = None
        self.captures = self.replays = 0

    def __call__(self, device: torch.device, compute: Callable[[], None]) -> Callable[[], None]:
        self.captures += 1
        if self.error is not None:
            raise self.error

        def replay() -> None:
            self.replays += 1
            compute()

        return replay


@pytest.fixture
def captures(monkeypatch: pytest.MonkeyPatch) -> Captures:
    found = Captures()
    monkeypatch.setattr(step_graph, "capture", found)
    return found


def sums(count: int, *, shapes: dict[int, int] | None = None) -> tuple[list[Tensor], StepGraph]:
    """Return what a graph computes from rows of zeros, ones and so on, with other shapes in some calls."""
    found: list[Tensor] = []
    graph = StepGraph(torch.device("cpu"))
    for call in range(count):
        size = (shapes or {}).get(call, 4)
        graph(lambda given: found.append(given[0].sum()), (torch.full((size,), float(call)),))
    return found, graph


def applied(change: Callable[[Tensor], Tensor]) -> Compute:
    """Return the step that applies a function to its first input."""

    def compute(given: tuple[Tensor, ...]) -> None:
        change(given[0])

    return compute


def test_calls_after_the_first_are_replayed_with_their_own_values(captures: Captures) -> None:
    assert sums(6)[0] == [0, 4, 8, 12, 16, 20]
    assert (captures.captures, captures.replays) == (1, 3)


def test_inputs_of_another_shape_are_computed_directly(captures: Captures) -> None:
    assert sums(7, shapes={4: 3})[0] == [0, 4, 8, 12, 12, 20, 24]
    assert (captures.captures, captures.replays) == (1, 3)


def test_everything_is_computed_directly_after_a_failed_capture(captures: Captures) -> None:
    captures.error = RuntimeError("operation not permitted\nlong advice")
    found, graph = sums(7)
    assert found == [0, 4, 8, 12, 16, 20, 24]
    assert (captures.captures, captures.replays) == (1, 0)
    assert graph.failure == "operation not permitted"
    assert not graph.holds_memory


def test_a_released_graph_is_captured_again_after_direct_calls(captures: Captures) -> None:
    found, graph = sums(5)
    graph.release()
    assert not graph.holds_memory
    for _ in range(4):
        graph(lambda given: found.append(given[0].sum()), (torch.full((4,), 2.0),))
    assert found[5:] == [8, 8, 8, 8]
    assert (captures.captures, captures.replays) == (2, 3)


@pytest.mark.parametrize("wait", [
    lambda x: x * float(x.sum()), lambda x: x[x > 0], lambda x: x.nonzero(), lambda x: x if x.any() else -x,
    lambda x: x.repeat_interleave(torch.ones(len(x), dtype=torch.int64)), lambda x: x.to("meta"),
    lambda x: torch.zeros(3).index_put((x[:3] > 0,), torch.tensor(1.0)),
])  # fmt: skip
def test_operations_that_wait_for_the_device_are_found(captures: Captures, wait: Callable[[Tensor], Tensor]) -> None:
    graph = StepGraph(torch.device("cpu"))
    for _ in range(6):
        graph(applied(wait), (torch.arange(1.0, 5.0),))
    assert graph.failure.endswith("waits for the device")
    assert captures.captures == 0


@pytest.mark.parametrize("direct", [
    lambda x: x[torch.tensor([1, 0])], lambda x: torch.where(x > 0, x, 0.0), lambda x: x.masked_fill(x > 2, 0),
    lambda x: nn.functional.dropout(x), lambda x: x * 2.0 + torch.tensor(1.0),
])  # fmt: skip
def test_other_operations_are_captured(captures: Captures, direct: Callable[[Tensor], Tensor]) -> None:
    graph = StepGraph(torch.device("cpu"))
    for _ in range(6):
        graph(applied(direct), (torch.arange(1.0, 5.0),))
    assert (captures.captures, captures.replays) == (1, 3)


FAMILIES = [
    "resnet18", "convnext_atto", "efficientnet_b0", "regnety_002", "vit_tiny_patch16_224",
    "swin_tiny_patch4_window7_224", "maxvit_nano_rw_256", "xcit_nano_12_p16_224",
]  # fmt: skip


@pytest.mark.parametrize("backbone", FAMILIES)
def test_no_operation_of_common_backbones_waits(backbone: str) -> None:
    with torch.device("meta"):
        model = timm.create_model(backbone, num_classes=1, drop_path_rate=0.1)
        config = timm.get_pretrained_cfg(backbone)
        assert config is not None
        images = torch.zeros(2, *config.input_size)
        with HostWaits() as waits:
            model.train()(images).sum().backward()
    assert waits.found == ""


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_no_operation_of_a_step_waits(precision: str) -> None:
    state = state_on("cpu", settings(image_size=32, precision=precision, grad_clip=1.0, loss="classes"))
    run(state, 1)
    images, target = batch()
    with HostWaits() as waits:
        inputs, weights = state._make_inputs(images, torch.stack([1 - target, target], 1), np.random.default_rng(0))
        assert isinstance(inputs, Tensor)
        state._compute((inputs, weights))
    assert waits.found == ""


def on_fake_cuda(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, captures: Captures, **values: object) -> FoldTrainer:
    """Return a trainer of a fold of 20 steps per epoch, whose graphs are `captures`."""
    device = fake_cuda(monkeypatch)
    monkeypatch.setattr(step_graph, "capture", captures)
    rows = picture_rows(tmp_path, 108)
    return fold_trainer(settings(batch_size=4, **values), rows, tmp_path, device, Notes())


def test_each_epoch_of_a_fold_is_captured_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, captures: Captures
) -> None:
    trainer = on_fake_cuda(monkeypatch, tmp_path, captures)
    trainer.run()
    assert (captures.captures, captures.replays) == (2, 2 * 17)


def test_a_step_that_lacks_the_memory_of_the_graph_is_repeated_without_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, captures: Captures
) -> None:
    """Neither is the batch split, nor is the training ended."""
    trainer = on_fake_cuda(monkeypatch, tmp_path, captures)
    make_inputs, calls = trainer.state._make_inputs, 0

    def short(*given: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 10:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return make_inputs(*given)  # type: ignore[arg-type]

    trainer.state._make_inputs = short  # type: ignore[assignment]
    trainer.run()
    assert trainer.state.parts == 1
    assert (captures.captures, captures.replays) == (1, 6)
    assert calls == 41  # no other step is repeated


def test_why_there_is_no_graph_is_told_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, captures: Captures
) -> None:
    captures.error = RuntimeError("operation not permitted when stream is capturing")
    trainer = on_fake_cuda(monkeypatch, tmp_path, captures)
    trainer.run()
    assert isinstance(trainer.progress, Notes)
    assert [line for line in trainer.progress.lines if "no CUDA graph" in line] == [
        ": no CUDA graph, steps may be slower: operation not permitted when stream is capturing"
    ]


def test_a_state_with_a_graph_is_freed_without_garbage_collection(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, captures: Captures
) -> None:
    trainer = on_fake_cuda(monkeypatch, tmp_path, captures)
    trainer.run()
    found: weakref.ref[TrainState] = weakref.ref(trainer.state)
    gc.collect()
    gc.disable()
    try:
        trainer._begin()
        assert found() is None
    finally:
        gc.enable()
